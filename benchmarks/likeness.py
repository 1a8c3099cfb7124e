"""Measures of how like its painting a painted picture is: contrast by scale, palette, and the terms of the loss.

Pictures are uint8 RGB of shape (H, W, 3). What is compared may have different shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.training.loss import CONTENT_BLOCK, Perceptual

RGB = NDArray[np.uint8]

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
DIRECTIONS = 64
"""Projections of a palette; more change the distance by less than a hundredth."""
PALETTE_PIXELS = 20_000


def psnr(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in levels of 255; 138 where they are equal."""
    error = float(np.mean(np.square(one.astype(np.float64) - other)))
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


def palette_distance(first: RGB, second: RGB) -> float:
    """Sliced Wasserstein distance (Bonneel and others 2015) of the colors, in units of CIE Lab.

    The mean over fixed random directions of how far the quantiles are apart.
    """
    random = np.random.default_rng(0)
    directions = random.normal(size=(3, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    shares = (np.arange(256) + 0.5) / 256
    ends = [np.quantile(_some_lab(picture) @ directions, shares, axis=0) for picture in (first, second)]
    return float(np.abs(ends[0] - ends[1]).mean())


def _some_lab(rgb: RGB) -> NDArray[np.float64]:
    """CIE Lab of at most `PALETTE_PIXELS` pixels, (pixels, 3)."""
    pixels = rgb.reshape(-1, 3)
    if len(pixels) > PALETTE_PIXELS:
        pixels = pixels[np.random.default_rng(0).choice(len(pixels), PALETTE_PIXELS, replace=False)]
    lab = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab[0], np.float64)


def tensor(rgb: RGB) -> Tensor:
    """Float RGB in [0, 1] of shape (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True)
class Terms:
    """Squared errors of VGG-16's features, each over the squared norm of its target: 0 is equal.

    They are Johnson's and Gatys' (2016, 2015), whatever loss training descends, so that figures stay comparable.
    """

    content: float
    """Of relu3_3, against the photo."""
    style: tuple[float, ...]
    """Of the Gram matrices of `LAYERS`, against the painting."""


@torch.no_grad()
def content_of(rgb: RGB, perceptual: Perceptual) -> Tensor:
    """relu3_3 of a photo."""
    return perceptual.features(tensor(rgb).to(perceptual.place), CONTENT_BLOCK)[CONTENT_BLOCK]


@torch.no_grad()
def grams_of(rgb: RGB, perceptual: Perceptual) -> list[Tensor]:
    """The Gram matrices of `LAYERS` of a painting."""
    return [_gram(found) for found in perceptual.features(tensor(rgb).to(perceptual.place))]


@torch.no_grad()
def terms(painted: RGB, content: Tensor, grams: list[Tensor], perceptual: Perceptual) -> Terms:
    """How far ``painted`` is from `content_of` its photo and `grams_of` the painting."""
    features = perceptual.features(tensor(painted).to(perceptual.place))
    style = [_relative_error(_gram(found), target) for found, target in zip(features, grams, strict=True)]
    return Terms(_relative_error(features[CONTENT_BLOCK], content), tuple(style))


def _gram(features: Tensor) -> Tensor:
    """Inner products of the channels over the number of positions, float32 (C, C), of (1, C, H, W)."""
    flat = features[0].flatten(1).float()
    return flat @ flat.T / flat.shape[1]


def _relative_error(found: Tensor, target: Tensor) -> float:
    found, target = found.float(), target.float()
    return ((found - target).square().sum() / target.square().sum()).item()
