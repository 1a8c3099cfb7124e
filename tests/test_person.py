"""The mask of people: found, steady over time, forgotten at cuts."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import cv2
import numpy as np
import pytest
from networks import planes_from_rgb
from numpy.typing import NDArray

from vidstyle import BackendOptions, Frame, FrameFormat, LookOptions, Stylizer
from vidstyle.data import PERSON_FILE, PERSON_WIDE_FILE, PHOTOS
from vidstyle.masks.mask import open_mask
from vidstyle.masks.person import PersonMask

U8 = NDArray[np.uint8]
SIZE = (144, 256)
HEAD, BODY, WALL = (0.30, 0.42), (0.75, 0.42), (0.15, 0.15)
"""Places in the photo, as shares of its height and width."""


def astronaut(size: tuple[int, int] = SIZE) -> U8:
    """The photo of a woman before a wall."""
    rgb = cv2.imread(str(PHOTOS / "astronaut.jpg"))[..., ::-1]
    return np.asarray(cv2.resize(np.ascontiguousarray(rgb), size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def as_frame(rgb: U8, pixels: Literal["rgb", "i420", "nv12"] = "i420", pts: int = 0) -> Frame:
    form = FrameFormat(height=rgb.shape[0], width=rgb.shape[1], pixels=pixels, matrix="bt601")
    return Frame(planes_from_rgb(rgb, form), form, pts, Fraction(1, 25))


def at(mask: U8, place: tuple[float, float]) -> int:
    return int(mask[round(place[0] * mask.shape[0]), round(place[1] * mask.shape[1])])


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_a_person_is_found(backend: Literal["openvino", "onnxruntime"], pixels: Literal["rgb", "i420", "nv12"]) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    frame = as_frame(astronaut((181, 321)), pixels)
    with PersonMask(frame.form, BackendOptions(backend=backend)) as person:
        mask = person.at(frame)
    assert mask.shape == (181, 321) and mask.dtype == np.uint8
    assert (at(mask, HEAD), at(mask, BODY), at(mask, WALL)) == (255, 255, 0)
    background = open_mask("background", frame.form, BackendOptions(backend=backend))
    assert np.array_equal(background.at(frame), 255 - mask)
    background.close()


@pytest.mark.parametrize("size", [(320, 180), (200, 200), (40, 60), (33, 51)])
def test_upright_and_small_frames(size: tuple[int, int]) -> None:
    frame = as_frame(astronaut(size))
    with PersonMask(frame.form) as person:
        mask = person.at(frame)
    assert mask.shape == size and at(mask, BODY) > 200 and at(mask, WALL) < 30


def test_the_mask_is_steady_where_nothing_moves_and_new_after_a_cut() -> None:
    chance = np.random.default_rng(0)
    rgb = astronaut()
    noisy = [np.clip(rgb + chance.normal(0, 6, rgb.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    frames = [as_frame(one) for one in noisy]
    with PersonMask(frames[0].form) as person:
        alone = []
        for frame in frames:
            person.reset()
            alone.append(person.at(frame).astype(float))
        person.reset()
        steady = [person.at(frame).astype(float) for frame in frames]
        cut = person.at(as_frame(np.ascontiguousarray(rgb[:, ::-1]) // 3 + 120))
        person.reset()
        fresh = person.at(as_frame(np.ascontiguousarray(rgb[:, ::-1]) // 3 + 120))
    assert np.diff(steady[2:], axis=0).std() < 0.6 * np.diff(alone[2:], axis=0).std()
    assert np.array_equal(cut, fresh)


def test_the_mask_follows_what_moves() -> None:
    wide = cv2.copyMakeBorder(astronaut((144, 144)), 0, 0, 80, 120, cv2.BORDER_REPLICATE)
    with PersonMask(as_frame(wide[:, :256]).form) as person:
        for step in range(12):
            mask = person.at(as_frame(np.ascontiguousarray(wide[:, 4 * step : 4 * step + 256])))
        person.reset()
        there = person.at(as_frame(np.ascontiguousarray(wide[:, 44 : 44 + 256])))
    assert np.abs(mask.astype(int) - there).mean() < 4, "levels: it does not lag"


def test_only_the_person_is_painted() -> None:
    rgb = astronaut((96, 96))
    with Stylizer(look=LookOptions(mask="person"), backend=BackendOptions(threads=1)) as stylizer:
        painted = stylizer(rgb)
        assert np.array_equal(stylizer(rgb)[:10, :10], rgb[:10, :10])
    apart = np.abs(painted.astype(int) - rgb).mean(axis=2)
    assert apart[:12, :12].max() <= 1 and apart[70:, 30:60].mean() > 10


def test_both_networks_ship_as_half_floats() -> None:
    for path in (PERSON_FILE, PERSON_WIDE_FILE):
        assert 200_000 < path.stat().st_size < 260_000
