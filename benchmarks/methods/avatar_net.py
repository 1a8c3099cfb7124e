"""A style decorator at relu4_1, and a decoder that gets the painting's moments at every level.

Sheng, Lin, Shao, Wang, "Avatar-Net: Multi-scale Zero-shot Style Transfer by Feature Decoration", CVPR 2018. The
decorator whitens both features, swaps patches between them, and colors the result like the painting. On the way down
the blocks of `methods.decoder` leave VGG's own features, to which AdaIN gives the painting's means and deviations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.base import FeatureMethod, parameter_count
from methods.style_swap import Patches, swap
from methods.vgg import KINDS, adaptive_instance_norm, full_classifier, full_decoder, moments
from methods.wct import Covariance

LEVEL = 4


def white(features: Tensor, own: Covariance) -> Tensor:
    """Features (1, C, H, W) with mean 0 and the unit covariance, float32."""
    return (own.whiten @ (features[0].flatten(1).float() - own.mean)).reshape(features.shape)


def decorate(content: Tensor, style: Patches, colors: Covariance) -> Tensor:
    """relu4_1 of a photo as patches of the painting's white features, ``style``, colored like the painting.

    The swapped features are whitened once more, so that the mean of overlapping patches does not fade.
    """
    swapped = swap(white(content, Covariance(content)), style)
    again = white(swapped, Covariance(swapped))
    colored = colors.color @ again[0].flatten(1) + colors.mean
    return colored.reshape(content.shape).to(content.dtype, memory_format=torch.channels_last)


class AvatarNet(FeatureMethod):
    name, paper = "Avatar-Net", "Sheng et al., CVPR 2018"
    table_parameters = 147.22

    def see(self, painting: Tensor) -> None:
        levels = self.encoder(painting)
        self.moments = [moments(level) for level in levels]
        self.colors = Covariance(levels[-1])
        self.patches = Patches(white(levels[-1], self.colors))

    def paint(self, photo: Tensor) -> Tensor:
        features = decorate(self.encoder(photo)[-1], self.patches, self.colors)
        for level in range(LEVEL, 1, -1):
            made = self.decoder.block(level, features)
            features = adaptive_instance_norm(made, self.moments[level - 2])
        return self.decoder.block(1, features)

    def parameters(self) -> int:
        return parameter_count(self.encoder.parameters(), self.decoder)

    def full_size(self) -> dict[str, int]:
        """All of VGG with its classifier, of which nothing after relu4_1 is used: only so it is the table's number.

        The decoder is the authors': a convolution more at full size, and 7x7 kernels for RGB.
        """
        extra = nn.ModuleList([nn.Conv2d(64, 64, 3, device="meta"), nn.Conv2d(64, 3, 7, device="meta")])
        replaced = nn.Conv2d(64, 3, 3, device="meta")
        return {
            kind: parameter_count(full_classifier(kind), full_decoder(kind, 4), extra) - parameter_count(replaced)
            for kind in KINDS
        }

    def stored(self) -> int:
        return self.encoder.stored() + self.file.stat().st_size
