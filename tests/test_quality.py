"""The judge of pictures: that its measures give known values for made pictures."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from artifacts import INNER, border, grid
from likeness import BANDS, band_contrasts, luma, palette_distance, tensor, terms
from numpy.typing import NDArray

from vidstyle.training.compute import Compute
from vidstyle.training.perceptual import Perceptual

RGB = NDArray[np.uint8]


def picture(seed: int = 0, size: tuple[int, int] = (128, 160)) -> RGB:
    """Blots of every size."""
    random = np.random.default_rng(seed)
    layers = [cv2.resize(random.normal(size=(2**k, 2**k, 3)), size[::-1]) for k in range(1, 8)]
    return np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def perceptual() -> Iterator[Perceptual]:
    with Compute(threads=1).limits():
        yield Perceptual()


def test_a_picture_has_its_own_bands_palette_and_terms(perceptual: Perceptual) -> None:
    rgb = picture(size=(64, 80))
    assert band_contrasts(luma(rgb)) / band_contrasts(luma(rgb.copy())) == pytest.approx([1] * len(BANDS))
    assert palette_distance(rgb, rgb.copy()) == 0
    found = terms(rgb, rgb, perceptual.style_target(tensor(rgb)), perceptual)
    assert (found.content, *found.style) == pytest.approx([0] * 5, abs=1e-9)


def test_a_blur_takes_the_fine_bands_and_half_the_contrast_takes_half_of_all() -> None:
    rgb = picture()
    y = luma(rgb)
    blurred = band_contrasts(luma(cv2.GaussianBlur(rgb, (0, 0), 3))) / band_contrasts(y)
    assert blurred[0] < 0.1 and blurred[1] < 0.4 and blurred[5] > 0.8
    assert (np.diff(blurred[:5]) > 0).all()
    assert band_contrasts(128 + (y - 128) / 2) / band_contrasts(y) == pytest.approx([0.5] * len(BANDS))


@pytest.mark.parametrize(("wavelength", "band"), [(4, 0), (8, 1), (16, 2), (32, 3), (64, 4)])
def test_a_wave_is_in_the_band_of_its_length(wavelength: int, band: int) -> None:
    # The band from 2 to 4 pixels holds dots of that size: waves are twice as long.
    y = np.tile(100 + 50 * np.sin(2 * np.pi * np.arange(384) / wavelength), (96, 1))
    assert int(np.argmax(band_contrasts(y)[:-1])) == band


def test_palettes_are_apart_by_the_mean_of_what_each_color_moves() -> None:
    gray, other = (np.full((20, 30, 3), level, np.uint8) for level in (100, 140))
    lab = [cv2.cvtColor(np.float32(p) / 255, cv2.COLOR_RGB2LAB)[0, 0] for p in (gray, other)]
    moved = float(np.linalg.norm(lab[1] - lab[0]))
    # In a random direction a step shows half its length, in the mean.
    assert palette_distance(gray, other) == pytest.approx(moved / 2, rel=0.1)
    assert palette_distance(gray, other[:10]) == pytest.approx(palette_distance(other, gray))


def test_the_terms_are_squared_errors_over_the_target(perceptual: Perceptual) -> None:
    photo, painting, painted = (picture(seed, (32, 48)) for seed in (1, 2, 3))
    target = perceptual.style_target(tensor(painting))
    found = terms(painted, photo, target, perceptual)
    losses = perceptual.losses(tensor(painted), perceptual.content_target(tensor(photo)), target)
    assert found.content == pytest.approx(losses.content.item(), rel=1e-4)
    assert np.mean(found.style) == pytest.approx(losses.style.item(), rel=1e-4)


def test_a_grid_and_a_border_are_seen() -> None:
    photos = [luma(picture(seed, (160, 192))) for seed in range(3)]
    pattern = np.tile(np.array([[6.0, -6], [-6, 6]]), (80, 96))
    clean, marked = (grid([y + p for y in photos], photos, 2) for p in (0 * pattern, pattern))
    assert clean < 3 < 50 < marked
    assert grid([y + np.kron(pattern[:80, :96], np.ones((2, 2))) for y in photos], photos, 4) > 4
    inner = [y[INNER].copy() for y in photos]
    assert border(photos, inner) == 0
    for y in inner:
        y[0], y[-1], y[:, 0], y[:, -1] = (edge + 9 for edge in (y[0], y[-1], y[:, 0], y[:, -1]))
    assert border(photos, inner) == pytest.approx(9, abs=0.5)
