"""Pictures of one shape in frames of another: whole, in the middle, on black."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from networks import flat, planes_from_rgb

from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import Pixels
from vidstyle.video.convert import FrameConverter, cut_out, place_in, put_in, size_of


@pytest.mark.parametrize(
    ("size", "bounds", "fitted"),
    [
        ((320, 240), (240, 320), (240, 180)),
        ((1920, 1080), (360, 640), (360, 202)),
        ((90, 160), (480, 480), (270, 480)),
        ((480, 640), (240, 320), None),
        ((48, 64), (47, 63), None),
        ((2, 1000), (48, 64), (2, 64)),
        ((7, 9), (33, 21), (16, 21)),
    ],
)
def test_a_picture_lies_whole_in_the_middle(
    size: tuple[int, int], bounds: tuple[int, int], fitted: tuple[int, int] | None
) -> None:
    place = place_in(size, bounds)
    if place is None or fitted is None:
        assert place is fitted is None
        return
    assert size_of(place) == fitted
    for part, most in zip(place, bounds, strict=True):
        assert part.start % 2 == 0 and abs(part.start - (most - part.stop)) <= 3


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bounds", [(48, 64), (35, 51)])
def test_what_is_around_is_black_and_what_is_inside_is_not_stretched(
    pixels: Pixels, full_range: bool, bounds: tuple[int, int]
) -> None:
    tall = FrameFormat(height=96, width=48, pixels="i420", full_range=full_range)
    wide = FrameFormat(height=bounds[0], width=bounds[1], pixels=pixels, full_range=full_range)
    rgb = flat((200, 60, 60), (96, 48))
    rgb[40:56, 16:32] = 255  # a square
    placed = FrameConverter(wide).convert(Frame(planes_from_rgb(rgb, tall), tall, 5, Fraction(1, 25)))
    place = place_in(tall.size, wide.size)
    assert place is not None and (placed.form, placed.pts) == (wide, 5)
    black = put_in(tuple(np.zeros_like(p) for p in cut_out(placed.planes, place)), place, wide)
    light = placed.planes[0].reshape(*bounds, -1)[..., -1].astype(int)
    assert (light[:, : place[1].start] == (0 if pixels == "rgb" or full_range else 16)).all()
    for plane, dark in zip(placed.planes, black, strict=True):
        inside = cut_out((dark, dark), place)[dark is not black[0]]
        inside[...] = cut_out((plane, plane), place)[dark is not black[0]]
        np.testing.assert_array_equal(plane, dark)
    bright = light[place] > (light[place].max() + light[place].min()) / 2
    height, width = bright.any(1).sum(), bright.any(0).sum()
    assert abs(height - width) <= 1 and height == pytest.approx(bounds[0] / 6, abs=1.5)


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_the_mirror_image_around_keeps_the_mean(pixels: Pixels) -> None:
    form = FrameFormat(height=20, width=200, pixels=pixels)
    place = place_in((20, 10), form.size)
    assert place is not None
    random = np.random.default_rng(0)
    inner = tuple(random.integers(0, 256, shape, np.uint8) for shape in form.resized((20, 10)).plane_shapes)
    filled = put_in(inner, place, form, "mirrored")
    assert [plane.shape for plane in filled] == list(form.plane_shapes)
    for plane, small, again in zip(filled, inner, cut_out(filled, place), strict=True):
        np.testing.assert_array_equal(again, small)
        assert plane.mean() == pytest.approx(small.mean(), abs=8)
