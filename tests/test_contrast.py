"""An adapted style comes nearer to the contrast of its painting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vidstyle.gallery import load_style
from vidstyle.models.architecture import Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.contrast import HIGHEST_GAIN, MATCHED, SHARE, band_contrasts, luma, with_contrast
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute

COMPUTE = Compute(arithmetic="fp32")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return Photos.shipped().middles(256, 3)


@pytest.fixture(scope="module")
def network() -> Network:
    return load_style("starry_night").network


def paint(network: Network, photos: Tensor) -> Tensor:
    with torch.no_grad():
        painted: Tensor = TransformNet.from_network(network)(photos, torch.from_numpy(network.start))
    return painted


def bands(rgb: Tensor) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return [band_contrasts(luma(255 * one.permute(1, 2, 0).numpy()))[MATCHED] for one in rgb]


def flatter(network: Network, by: float) -> Network:
    """The logits ``by`` times as far from zero."""
    scaled = {name: by * network.weights[name] for name in ("out.weight", "out.bias")}
    return replace(network, weights={**network.weights, **scaled})


def test_contrast_comes_nearer_to_that_of_the_painting(network: Network, photos: Tensor) -> None:
    painting = paint(network, photos[:1])
    flat = flatter(network, 0.8)
    found, gain = with_contrast(flat, painting, photos[:1], COMPUTE)
    assert gain > 1.05
    (wanted,), (before,), (after,) = (bands(paint(one, photos[:1])) for one in (network, flat, found))
    missing, left = (np.log(wanted / one).mean() for one in (before, after))
    assert missing > 0.1
    assert left == pytest.approx(missing * (1 - SHARE), abs=0.02)


def test_the_mean_logit_of_each_channel_stays(network: Network, photos: Tensor) -> None:
    found, gain = with_contrast(flatter(network, 0.8), paint(network, photos[:1]), photos, COMPUTE)
    assert gain > 1.05
    before, after = (torch.logit(paint(one, photos)).mean((0, 2, 3)) for one in (flatter(network, 0.8), found))
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)


def test_contrast_is_never_lowered_and_raised_within_bounds(network: Network, photos: Tensor) -> None:
    flat, loud = torch.full((1, 3, 64, 64), 0.5), photos[:1].round()
    assert with_contrast(network, paint(flatter(network, 0.5), photos[:1]), photos[:1], COMPUTE)[1] == 1
    assert with_contrast(network, loud, photos[:1], COMPUTE)[1] == HIGHEST_GAIN**SHARE
    assert with_contrast(network, flat, photos[:1], COMPUTE)[1] == 1  # no band says anything
