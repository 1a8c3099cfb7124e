"""Whitening and coloring at several depths, one decoder for each, from coarse to fine.

Li, Fang, Yang, Wang, Lu, Yang, "Universal Style Transfer via Feature Transforms", NIPS 2017. The paper begins at
relu5_1 of VGG-19; the shipped VGG-16 ends before it, so there are four depths. The decoders are the blocks of
`methods.decoder` in a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.base import FeatureMethod, parameter_count
from methods.vgg import KINDS, full_decoder, full_encoder

ALPHA = 0.6
"""How much of the transformed features is taken, and the rest of the photo's: the paper's examples take 0.6."""
SMALLEST = 1e-5
"""Directions with less than this share of the largest variance are left out, as noise."""


class Covariance:
    """The mean of some features and the square roots of their covariance, one forth and one back."""

    def __init__(self, features: Tensor) -> None:
        flat = features[0].flatten(1).float()  # (C, positions)
        self.mean = flat.mean(1, keepdim=True)
        centered = flat - self.mean
        covariance = centered @ centered.T / max(1, flat.shape[1] - 1)
        values, vectors = torch.linalg.eigh(covariance)
        kept = values > SMALLEST * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        self.color = (vectors * values.sqrt()) @ vectors.T
        self.whiten = (vectors * values.rsqrt()) @ vectors.T


def transform(content: Tensor, style: Covariance, alpha: float = 1.0) -> Tensor:
    """Features (1, C, H, W) with the style's mean and covariance, ``alpha`` of the way; of the dtype of ``content``."""
    own = Covariance(content)
    # One matrix for both steps: the positions are many.
    matrix = alpha * (style.color @ own.whiten) + (1 - alpha) * torch.eye(len(own.mean))
    shift = alpha * style.mean + (1 - alpha) * own.mean - matrix @ own.mean
    flat = matrix.to(content.dtype) @ content[0].flatten(1) + shift.to(content.dtype)
    return flat.reshape(content.shape).contiguous(memory_format=torch.channels_last)


class WCT(FeatureMethod):
    name, paper = "WCT", "Li et al., NIPS 2017"
    table_parameters = 34.23

    def see(self, painting: Tensor) -> None:
        self.style = [Covariance(level) for level in self.encoder(painting)]

    def paint(self, photo: Tensor) -> Tensor:
        for depth in (4, 3, 2, 1):
            features = transform(self.encoder(photo, depth)[-1], self.style[depth - 1], ALPHA)
            photo = self.decoder(features, depth).float()
        return photo

    def note(self) -> str:
        return super().note().replace("(the paper: VGG-19)", "(the paper: VGG-19 up to relu5_1)")

    def parameters(self) -> int:
        return parameter_count(self.encoder.parameters(), self.decoder)

    def full_size(self) -> dict[str, int]:
        """Five autoencoders, each with an encoder of its own."""
        return {
            kind: sum(parameter_count(full_encoder(kind, n), full_decoder(kind, n)) for n in range(1, 6))
            for kind in KINDS
        }

    def stored(self) -> int:
        return self.encoder.stored() + self.file.stat().st_size
