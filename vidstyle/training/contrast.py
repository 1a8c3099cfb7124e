"""Contrast, scale by scale, and the step after an adaptation that brings a style nearer to that of its painting.

A loss of squared errors is least where a picture is too flat: what the network cannot foretell it leaves gray. So
adapted networks paint with four fifths of the contrast of the painting, and with less from 16 pixels upwards. The last
convolution makes the logits of the pixels; scaled around their mean it gives contrast back, at no cost later.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.models.architecture import Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.device import Compute

Luma = NDArray[np.float64]

BT709 = (0.2126, 0.7152, 0.0722)
"""What red, green and blue count in luma."""
BANDS = ("1-2", "2-4", "4-8", "8-16", "16-32", "32-64", "rest")
"""Scales in pixels; the last one is everything coarser."""
MATCHED = slice(1, 6)
"""The bands that decide: single pixels are noise, and the rest is the scene's light."""
PHOTO_SIZE = 384
"""Side of the photos that the contrast is measured on, at most: enough for the coarsest of these bands."""
HIGHEST_GAIN = 1.5
"""More would clip."""
SHARE = 0.6
"""How much of the gain is given, in logarithms: all of it pleases the eye, and takes the features of half of the styles
farther from the painting's; this much brings most of them nearer, and the contrast of most into its range."""
SMALLEST_CONTRAST = 0.5
"""In levels of 255: a band with less, of a painting or of what was painted, says nothing."""
ROUNDS = 4
"""The logits are scaled and luma is measured: it takes some rounds until one has followed the other."""


def luma(rgb: NDArray[np.generic]) -> Luma:
    """BT.709 luma of (H, W, 3), in the levels of ``rgb``."""
    y: Luma = np.asarray(rgb, np.float64) @ np.array(BT709)
    return y


def band_contrasts(y: Luma) -> NDArray[np.float64]:
    """Root mean squares of the bands of a Laplacian pyramid (Burt and Adelson 1983), one for each of `BANDS`.

    The last one is the deviation of what is left.
    """
    found = []
    for _ in BANDS[:-1]:
        coarse = cv2.pyrDown(y)
        band = y - cv2.pyrUp(coarse, dstsize=y.shape[::-1])
        found.append(np.sqrt(np.mean(band**2)))
        y = np.asarray(coarse, np.float64)
    return np.array([*found, y.std()])


def with_contrast(network: Network, painting: Tensor, photos: Tensor, compute: Compute) -> tuple[Network, float]:
    """``network`` with its last convolution scaled, and the gain: at least 1.

    The gain, at most `HIGHEST_GAIN`, is sought with which ``photos`` (N, 3, H, W), painted by the network, have the
    contrast of ``painting`` (1, 3, H, W): the median over the photos in each of the `MATCHED` bands, and the geometric
    mean over these. `SHARE` of it is given. Pictures are float RGB in [0, 1], sides of the photos multiples of 4. The
    mean color stays, in logits.
    """
    model = TransformNet.from_network(network).to(compute.place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vector = torch.from_numpy(network.start).to(compute.place)
    with torch.no_grad(), compute.autocast():
        painted = [model(photo.to(compute.place), vector).float().cpu() for photo in torch.split(photos, 1)]
    logits = [torch.logit(picture, eps=1e-6) for picture in painted]
    middle = torch.cat([one.mean((2, 3)) for one in logits]).mean(0)  # (3,)
    pivot, aim = middle[:, None, None], _contrasts(painting)
    gain = 1.0
    for _ in range(ROUNDS):
        reached = np.median([_contrasts(torch.sigmoid(pivot + gain * (one - pivot))) for one in logits], axis=0)
        told = (aim > SMALLEST_CONTRAST) & (reached > SMALLEST_CONTRAST)
        wanted = float(np.log(aim[told] / reached[told]).mean()) if told.any() else 0.0
        gain = float(np.clip(gain * np.exp(wanted), 1, HIGHEST_GAIN))
    gain **= SHARE
    weight, bias = (f"{network.architecture.out.name}.{leaf}" for leaf in ("weight", "bias"))
    scaled = {
        weight: network.weights[weight] * np.float32(gain),
        bias: (gain * network.weights[bias] + (1 - gain) * middle.numpy()).astype(np.float32),
    }
    return Network(network.architecture, {**network.weights, **scaled}, network.start), gain


def _contrasts(rgb: Tensor) -> NDArray[np.float64]:
    """The `MATCHED` bands of one picture (1, 3, H, W), in levels of 255."""
    return band_contrasts(luma(255 * rgb[0].cpu().permute(1, 2, 0).numpy()))[MATCHED]
