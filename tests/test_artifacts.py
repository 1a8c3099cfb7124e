"""What the shipped weights paint is free of pixel grids and of bright borders.

Both measures are shown to work: the same weights with a phase-dependent offset (what a head of bare
pixel shuffles leaves) or with zero padding fail them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.gallery import load_style, network_of, style_names
from vidstyle.model import TransformNet
from vidstyle.networks import Conv
from vidstyle.training.pictures import Photos

WINDOW = 32
"""Side in pixels of the flat regions whose spectrum is taken; a multiple of 4, so bins hit periods 2 and 4."""
MARGIN = 48
"""Pixels cut off each side of a photo for the comparison at borders; the networks see no farther."""
MOST_GRID = 3.0
"""Energy at the grid's frequencies over that of frequencies near them. Pictures have less energy the higher the
frequency: most styles are at 0.05 to 1.7. Those of dabs and dark washes on `fast` (grande_jatte 2.9, shipwreck 2.5)
have a weave that follows the pixels of the quarter size. A pattern of 5 of 255 levels is above 5 on the most
textured ones, one of 3 above 7 on most."""
MOST_BORDER = 13.0
"""Levels of 255 by which the outermost rows may be brighter or darker than the same place in the interior. Strokes
end at a border, so a reflection is not free of this: 1 to 7 for most styles, 12 for the dabs of paper/grande_jatte."""
WORSE_BORDER = 1.5
"""By what factor zero padding is at least worse than the reflection, over all styles of a network."""


class ZeroPadded(TransformNet):
    """The same weights with zeros around every convolution instead of a reflection."""

    def _conv(self, conv: Conv, x: Tensor) -> Tensor:
        module = self.convs[conv.name.replace(".", "_")]
        if conv.upsample > 1:
            x = functional.interpolate(x, scale_factor=conv.upsample, mode="nearest")
        return functional.conv2d(x, module.weight, module.bias, conv.stride, conv.kernel // 2)


@cache
def photos() -> list[Tensor]:
    """The middles of the shipped photos, (1, 3, 256, 256) in [0, 1]."""
    return list(Photos.shipped().middles(256).split(1))  # type: ignore[no-untyped-call]


def luma(rgb: Tensor) -> NDArray[np.float64]:
    """BT.709 luma in levels of 255, (H, W)."""
    weights = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64).reshape(3, 1, 1)
    return (rgb[0].double() * weights).sum(0).numpy() * 255


@cache
def flat_windows(index: int) -> list[tuple[slice, slice]]:
    """The six flattest windows of a shipped photo, away from its borders."""
    y = luma(photos()[index])
    found = []
    for top in range(16, y.shape[0] - WINDOW - 16, WINDOW):
        for left in range(16, y.shape[1] - WINDOW - 16, WINDOW):
            place = slice(top, top + WINDOW), slice(left, left + WINDOW)
            found.append((y[place].std(), top, left, place))
    return [place for _, _, _, place in sorted(found, key=lambda item: item[:3])[:6]]


def paint(model: TransformNet, style: str, photo: Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        return luma(model(photo, torch.from_numpy(load_style(style).vector)))


def grid(painted: list[NDArray[np.float64]], period: int) -> float:
    """Energy at the frequencies of a grid of ``period``, over that of its neighbors; median of the flat windows."""
    taper = np.outer(np.hanning(WINDOW + 1)[:-1], np.hanning(WINDOW + 1)[:-1])
    multiples = range(0, WINDOW, WINDOW // period)
    bins = [(a, b) for a in multiples for b in multiples if (a, b) != (0, 0)]
    if period == 4:  # its harmonics of period 2 are measured by themselves
        bins = [(a, b) for a, b in bins if a % (WINDOW // 2) or b % (WINDOW // 2)]
    ring = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if max(abs(i), abs(j)) == 3]  # clear of the taper's leak
    ratios = []
    for index, y in enumerate(painted):
        for place in flat_windows(index):
            window = y[place]
            power = np.abs(np.fft.fft2((window - window.mean()) * taper)) ** 2
            at_grid = sum(power[a, b] for a, b in bins)
            nearby = sum(np.mean([power[(a + i) % WINDOW, (b + j) % WINDOW] for i, j in ring]) for a, b in bins)
            ratios.append(at_grid / nearby)
    return float(np.median(ratios))


def border(model: TransformNet, style: str, painted: list[NDArray[np.float64]]) -> float:
    """By how many levels the outermost pixels are too bright or too dark.

    A photo is painted whole (``painted``) and once more without its margin: what was interior is
    border now. The mean difference at each distance from the edge, less that of the middle (instance
    norm sees another picture), over all photos; the worst of the four outermost rows.
    """
    rows = []
    for photo, whole in zip(photos(), painted, strict=True):
        inner = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
        difference = paint(model, style, photo[:, :, inner[0], inner[1]]) - whole[inner]
        height, width = difference.shape
        down, across = np.mgrid[0:height, 0:width]
        edge = np.minimum(np.minimum(down, height - 1 - down), np.minimum(across, width - 1 - across))
        middle = difference[edge >= 24].mean()
        rows.append([difference[edge == distance].mean() - middle for distance in range(4)])
    return float(np.abs(np.mean(rows, axis=0)).max())


@pytest.mark.parametrize("style", style_names())
def test_shipped_weights_paint_no_grid_and_no_border(style: str) -> None:
    network = network_of(load_style(style))
    model = TransformNet.from_network(network)
    painted = [paint(model, style, photo) for photo in photos()]
    assert grid(painted, 4) < MOST_GRID
    assert grid(painted, 2) < MOST_GRID
    edges = border(model, style, painted)
    assert edges < MOST_BORDER

    for period in (2, 4):
        phase = np.random.default_rng(0).normal(size=(period, period))
        offset = 5 * (phase - phase.mean()) / phase.std()
        bad = [y + np.tile(offset, (y.shape[0] // period, y.shape[1] // period)) for y in painted]
        assert grid(bad, period) > MOST_GRID


@pytest.mark.slow
@pytest.mark.parametrize("network_name", ["fast", "paper"])
def test_the_measure_of_borders_tells_a_reflection_from_zeros(network_name: str) -> None:
    """A style may hide the zeros (they end a stroke where it would have ended anyway); all together do not."""
    sums = {True: 0.0, False: 0.0}
    for style in (s for s in style_names() if load_style(s).network_name == network_name):
        network = network_of(load_style(style))
        for reflects, kind in ((True, TransformNet), (False, ZeroPadded)):
            model = kind.from_network(network)
            sums[reflects] += border(model, style, [paint(model, style, photo) for photo in photos()])
    assert sums[False] > WORSE_BORDER * sums[True]
