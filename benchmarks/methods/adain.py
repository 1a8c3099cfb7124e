"""Means and deviations of a content's features made the painting's, and one decoder.

Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from methods.base import WEIGHTS, FeatureMethod, parameter_count
from methods.decoder import Decoder
from methods.vgg import KINDS, Encoder, adaptive_instance_norm, full_decoder, full_encoder, moments

STYLE_WEIGHT = 10.0


class AdaIN(FeatureMethod):
    name, paper = "AdaIN", "Huang and Belongie, ICCV 2017"
    table_parameters = 7.01
    TRAINED = WEIGHTS / "adain.safetensors"

    def see(self, painting: Tensor) -> None:
        self.style = moments(self.encoder(painting)[3])

    def transform(self, features: Tensor) -> Tensor:
        """relu4_1 of a photo with the painting's means and deviations."""
        return adaptive_instance_norm(features, self.style)

    def paint(self, photo: Tensor) -> Tensor:
        return self.decoder(self.transform(self.encoder(photo)[3]), 4)

    def parameters(self) -> int:
        return parameter_count(self.encoder.parameters(), self.decoder)

    def full_size(self) -> dict[str, int]:
        return {kind: parameter_count(full_encoder(kind, 4), full_decoder(kind, 4)) for kind in KINDS}

    def stored(self) -> int:
        return self.encoder.stored() + self.file.stat().st_size


def losses(encoder: Encoder, decoder: Decoder, photo: Tensor, painting: Tensor) -> dict[str, Tensor]:
    """The paper's two terms on a batch, float RGB in [0, 1] of one shape: the features that went into the decoder
    against those of what came out, and means and deviations of four levels against the painting's."""
    with torch.no_grad():
        content, style = encoder(photo)[3], [moments(level) for level in encoder(painting)]
        wanted = adaptive_instance_norm(content, style[3])
    with torch.autocast("cpu", torch.bfloat16, enabled=encoder.dtype == torch.bfloat16):
        painted = decoder(wanted, 4)
    levels = encoder(painted)
    apart = [
        functional.mse_loss(a, b)
        for level, target in zip(levels, style, strict=True)
        for a, b in zip(moments(level), target, strict=True)
    ]
    return {
        "content": functional.mse_loss(levels[3].float(), wanted.float()),
        "style": STYLE_WEIGHT * torch.stack(apart).sum(),
        # What lies outside of the range is cut off at the end, so it must not be needed.
        "range": 10 * (painted.float() - painted.float().clamp(0, 1)).square().mean(),
    }
