"""Every patch of a content's features replaced by the painting's most similar one, and an inverse network.

Chen and Schmidt, "Fast Patch-based Style Transfer of Arbitrary Style", 2016 (arXiv 1612.04337).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from methods.base import FeatureMethod, parameter_count
from methods.vgg import KINDS, full_decoder, full_encoder

LEVEL = 3
"""relu3_1."""
SIDE = 3
"""Of a patch."""
MOST_PATCHES = 3000
"""Of the painting; of more, as many are taken in even steps. 384 pixels have about 12,000 patches at relu3_1."""


class Patches:
    """Patches of some features, every ``step``-th one: (patches, C, SIDE, SIDE)."""

    def __init__(self, features: Tensor, most: int = MOST_PATCHES) -> None:
        unfolded = functional.unfold(features, SIDE)[0].T  # (patches, C * SIDE * SIDE)
        taken = unfolded[torch.linspace(0, len(unfolded) - 1, min(most, len(unfolded))).round().long()]
        self.patches = taken.reshape(-1, features.shape[1], SIDE, SIDE)
        norms = self.patches.float().flatten(1).norm(dim=1).clamp_min(1e-6)
        self.directions = (self.patches / norms.to(features.dtype)[:, None, None, None]).contiguous(
            memory_format=torch.channels_last
        )


def nearest(content: Tensor, style: Patches) -> Tensor:
    """The number of the most similar patch (normalized correlation) for every inner position, (H - 2, W - 2).

    The norm of a content's own patch is the same for all candidates, so it is left out.
    """
    return functional.conv2d(content, style.directions)[0].argmax(0)


def swap(content: Tensor, style: Patches) -> Tensor:
    """``content`` (1, C, H, W) made of the style's patches; where they overlap, their mean."""
    chosen = nearest(content, style)
    height, width = content.shape[2:]
    columns = style.patches.flatten(1)[chosen.flatten()].T[None].float()
    summed = functional.fold(columns, (height, width), SIDE)
    counts = functional.fold(torch.ones(1, SIDE * SIDE, chosen.numel()), (height, width), SIDE)
    return (summed / counts).to(content.dtype, memory_format=torch.channels_last)


class StyleSwap(FeatureMethod):
    name, paper = "style swap", "Chen and Schmidt, 2016"
    table_parameters = 1.48

    def see(self, painting: Tensor) -> None:
        self.style = Patches(self.encoder(painting, LEVEL)[-1])

    def paint(self, photo: Tensor) -> Tensor:
        return self.decoder(swap(self.encoder(photo, LEVEL)[-1], self.style), LEVEL)

    def note(self) -> str:
        return super().note().replace("relu4_1 (the paper: VGG-19)", "relu3_1, as VGG-19").replace("1.5 M", "0.6 M")

    def parameters(self) -> int:
        return parameter_count(self.encoder.parameters(LEVEL), self.decoder.blocks[:LEVEL])

    def full_size(self) -> dict[str, int]:
        """The same for both: VGG-16 and VGG-19 do not differ before relu3_1."""
        return {kind: parameter_count(full_encoder(kind, LEVEL), full_decoder(kind, LEVEL)) for kind in KINDS}

    def stored(self) -> int:
        return self.encoder.stored(LEVEL) + parameter_count(self.decoder.blocks[:LEVEL])
