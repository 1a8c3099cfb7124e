"""The measures of flicker, against what must come out where that is known."""

from __future__ import annotations

import math

import cv2
import flicker
import numpy as np
import pytest
from flicker import Motion
from numpy.typing import NDArray

SIZE = (96, 128)


def texture(seed: int, size: tuple[int, int] = SIZE, sigma: float = 2.0) -> NDArray[np.uint8]:
    """Blobs of all colors, smooth enough that reading between pixels is nearly exact."""
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 3)).astype(np.float32)
    blobs = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma))
    return np.clip(np.rint(128 + 40 * blobs / blobs.std()), 0, 255).astype(np.uint8)


def uniform(flow: tuple[float, float], size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    return np.full((*size, 2), flow, np.float32)


def shifted(picture: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    """``picture`` moved to the right; what comes in on the left is another texture."""
    moved = np.roll(picture, by, axis=1)
    moved[:, :by] = texture(99)[:, :by]
    return moved


def known(flow: tuple[float, float]) -> Motion:
    there = uniform(flow)
    return Motion(there, flicker.visible_pixels(there, uniform((-flow[0], -flow[1]))))


def test_a_pattern_that_moves_along_its_flow_has_no_warping_error() -> None:
    first = texture(1)
    assert flicker.warping_error(first, shifted(first, 3), known((3, 0))) == pytest.approx(0, abs=1e-9)
    wrong = flicker.warping_error(first, shifted(first, 3), known((0, 0)))
    assert wrong is not None and wrong > 0.01


def test_independent_noise_has_twice_its_variance_as_warping_error() -> None:
    base, sigma = np.full((*SIZE, 3), 128.0), 6.0
    random = np.random.default_rng(3)
    first, second = (np.rint(base + random.normal(0, sigma, base.shape)).astype(np.uint8) for _ in range(2))
    error = flicker.warping_error(first, second, known((0, 0)))
    assert error == pytest.approx(2 * (sigma**2 + 1 / 12) / 255**2, rel=0.03)


def test_the_error_is_taken_of_visible_pixels_alone() -> None:
    first = texture(1)
    second = first.copy()
    second[:, 64:] = texture(2)[:, 64:]
    left = np.zeros(SIZE, np.bool_)
    left[:, :64] = True
    assert flicker.warping_error(first, second, Motion(uniform((0, 0)), left)) == 0
    assert flicker.warping_error(first, second, Motion(uniform((0, 0)), np.zeros(SIZE, np.bool_))) is None


def test_what_leaves_the_picture_is_not_visible() -> None:
    visible = known((5, 0)).visible
    assert not visible[:, -5:].any()
    assert visible[:, :-5].all()


def test_what_is_covered_is_not_visible() -> None:
    there, back = uniform((0, 0)), uniform((0, 0))
    there[30:60, 40:60] = (8, 0)  # a block that moves over what stands to its right
    back[30:60, 48:68] = (-8, 0)
    visible = flicker.visible_pixels(there, back)
    assert not visible[35:55, 61:66].any(), "what the block covers"
    assert visible[35:55, 45:55].all(), "the block itself"
    assert visible[:25].all(), "what is far from it"


def test_the_judged_motion_is_the_true_one() -> None:
    first = texture(5, sigma=3)
    motion = flicker.judged_motion(first, shifted(first, 2))
    inner = motion.forward[16:-16, 16:-16]
    assert np.abs(inner - (2, 0)).mean() < 0.1
    assert motion.visible[16:-16, 16:-16].mean() > 0.95


def test_similarity_falls_with_noise_and_is_small_for_other_pictures() -> None:
    picture = texture(1)
    random = np.random.default_rng(0)
    little, much = (
        np.clip(picture + random.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8) for sigma in (5, 20)
    )
    values = [flicker.structural_similarity(picture, other) for other in (picture, little, much, texture(2))]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1, abs=1e-5) and abs(values[-1]) < 0.2


def test_similarity_of_flat_pictures_is_that_of_their_means() -> None:
    a, b = (np.full((*SIZE, 3), level, np.uint8) for level in (100, 150))
    c1 = (0.01 * 255) ** 2
    assert flicker.structural_similarity(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-4)


def test_the_gradient_energy_of_a_ramp_is_the_square_of_its_slope() -> None:
    x, y = np.meshgrid(np.arange(60), np.arange(40))
    ramp = np.repeat((3 * x + 1 * y)[..., None], 3, axis=2).astype(np.uint8)
    assert flicker.gradient_energy(ramp) == pytest.approx(3**2 + 1**2)
    assert flicker.gradient_energy(np.full((40, 60, 3), 77, np.uint8)) == 0


def test_restlessness_is_the_standard_deviation_over_time() -> None:
    random = np.random.default_rng(0)
    frames = [np.rint(128 + random.normal(0, 4, (64, 64, 3))).astype(np.uint8) for _ in range(60)]
    assert flicker.restlessness(frames) == pytest.approx(4, rel=0.02)
    assert flicker.restlessness([frames[0]] * 3) == 0


def test_a_ghost_is_what_is_left_of_another_picture() -> None:
    plain, other = texture(1, sigma=6), texture(2, sigma=6)
    where = np.zeros(SIZE, np.bool_)
    where[20:60, 30:90] = True
    mixed = cv2.addWeighted(plain, 0.7, other, 0.3, 0)
    whole = flicker.ghost(np.asarray(other), plain, where)
    assert flicker.ghost(plain, plain, where) == 0
    assert flicker.ghost(np.asarray(mixed, np.uint8), plain, where) == pytest.approx(0.3 * whole, rel=0.05)
    assert math.isnan(flicker.ghost(plain, plain, np.zeros(SIZE, np.bool_)))


def test_a_cut_is_told_from_motion() -> None:
    light, dark = np.full((90, 160, 3), 200, np.uint8), np.full((90, 160, 3), 90, np.uint8)
    assert flicker.is_cut(light, dark)
    assert not flicker.is_cut(texture(1), shifted(texture(1), 8))
