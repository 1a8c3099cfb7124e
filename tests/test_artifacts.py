"""What the shipped weights paint is free of pixel grids and of bright borders.

Both measures are shown to work: the same weights with a phase-dependent offset (what a head of bare
pixel shuffles leaves) or with zero padding fail them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from artifacts import INNER, border, grid
from torch import Tensor
from torch.nn import functional

from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.models.architecture import Conv, Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.contrast import Luma, luma
from vidstyle.training.data import Photos

MAX_GRID = 3.0
"""Energy at the grid's frequencies over that of frequencies near them. Pictures have less energy the higher the
frequency: most styles are at 0.05 to 1.7. Those of dabs and dark washes on `fast` (grande_jatte 2.9, shipwreck 2.5)
have a weave that follows the pixels of the quarter size. A pattern of 5 of 255 levels is above 5 on the most
textured ones, one of 3 above 7 on most."""
MAX_BORDER = 13.0
"""Levels of 255 by which the outermost rows may be brighter or darker than the same place in the interior. Strokes
end at a border, so a reflection is not free of this: 1 to 7 for most styles, 12 for the dabs of paper/grande_jatte."""
WORSE_BORDER = 2.5
"""By what factor zero padding is at least worse than the reflection, on a network that paints in no style: a style may
hide the zeros, as they end a stroke where it would have ended anyway."""


class ZeroPadded(TransformNet):
    """The same weights with zeros around every convolution instead of a reflection."""

    def _conv(self, conv: Conv, x: Tensor) -> Tensor:
        module = self.convs[conv.name.replace(".", "_")]
        if conv.upsample > 1:
            x = functional.interpolate(x, scale_factor=conv.upsample, mode="nearest")
        return functional.conv2d(x, module.weight, module.bias, conv.stride, conv.kernel // 2)


@cache
def photos(network_name: str) -> list[Tensor]:
    """The middles of the shipped photos, (1, 3, 256, 256) in [0, 1]: half of them for `paper`, which takes ten times
    as long."""
    every = Photos.shipped().middles(256).split(1)  # type: ignore[no-untyped-call]
    return list(every[:: 2 if network_name == "paper" else 1])


@cache
def sources(network_name: str) -> list[Luma]:
    """Their luma."""
    return [levels(photo) for photo in photos(network_name)]


def levels(rgb: Tensor) -> Luma:
    """Luma in levels of 255, (H, W), of (1, 3, H, W) in [0, 1]."""
    return luma(255 * rgb[0].permute(1, 2, 0).numpy())


def paint(kind: type[TransformNet], network: Network, inner: bool = False) -> list[Luma]:
    """The photos as ``kind`` paints them with the weights of ``network``; or what is left without their margin."""
    model, vector = kind.from_network(network), torch.from_numpy(network.start)
    with torch.no_grad():
        return [
            levels(model(photo[..., *INNER] if inner else photo, vector)) for photo in photos(network.architecture.name)
        ]


@pytest.mark.parametrize("style", style_names())
def test_shipped_weights_paint_no_grid_and_no_border(style: str) -> None:
    network = load_style(style).network
    painted, photographed = paint(TransformNet, network), sources(network.architecture.name)
    assert grid(painted, photographed, 4) < MAX_GRID
    assert grid(painted, photographed, 2) < MAX_GRID
    assert border(painted, paint(TransformNet, network, inner=True)) < MAX_BORDER

    for period in (2, 4):
        phase = np.random.default_rng(0).normal(size=(period, period))
        offset = 5 * (phase - phase.mean()) / phase.std()
        bad = [y + np.tile(offset, (y.shape[0] // period, y.shape[1] // period)) for y in painted]
        assert grid(bad, photographed, period) > MAX_GRID


@pytest.mark.slow
@pytest.mark.parametrize("network_name", ["fast", "paper"])
def test_the_measure_of_borders_tells_a_reflection_from_zeros(network_name: str) -> None:
    network = shared_network(network_name)
    borders = [border(paint(kind, network), paint(kind, network, inner=True)) for kind in (TransformNet, ZeroPadded)]
    assert borders[1] > WORSE_BORDER * borders[0]
