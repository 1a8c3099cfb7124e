"""What the window shows: the picture in the right colors, size and place, and an overlay that is legible and cheap."""

from __future__ import annotations

import timeit
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from networks import planes_from_rgb
from numpy.typing import NDArray
from pictures import photo

from vidstyle.frame import Frame, FrameFormat, Matrix, Pixels
from vidstyle.live.overlay import Overlay, Status, bgr_from_planes, draw

MICROSECOND = Fraction(1, 1_000_000)

STATUS = Status(fps=29.8, latency=(0.041, 0.055), dropped=3, title="great_wave 70 % + the_scream 30 %")


def blank(level: int, size: tuple[int, int] = (360, 640)) -> NDArray[np.uint8]:
    return np.full((*size, 3), level, np.uint8)


def touched(status: Status, level: int = 200, size: tuple[int, int] = (360, 640)) -> NDArray[np.bool_]:
    """Where the overlay has drawn."""
    picture = blank(level, size)
    Overlay().draw(picture, status)
    return np.asarray((picture != level).any(axis=2))


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
def test_text_has_contrast_on_any_picture(level: int) -> None:
    picture = blank(level)
    Overlay().draw(picture, STATUS)
    panel = picture[12:26, 12:240]  # the title
    text, ground = float(panel.max()) / 255, float(np.median(panel)) / 255
    ratio = (text**2.2 + 0.05) / (ground**2.2 + 0.05)  # WCAG asks for 4.5
    assert ratio > 4.5


def test_everything_has_its_corner() -> None:
    top_left = touched(STATUS)
    assert top_left[:80, :320].any() and not top_left[100:].any()
    assert touched(replace(STATUS, message="saved picture.png"))[320:, 200:440].any()
    assert touched(replace(STATUS, help=True))[120:280, 180:460].mean() > 0.99  # a few letters are as light
    picture = blank(255)
    Overlay().draw(picture, replace(STATUS, recording=72.0))
    corner = picture[:40, 560:].astype(int)
    assert (corner[..., 2] - corner[..., 1] > 150).sum() > 20, "recording has no red dot"


def test_pause_shows_no_rate() -> None:
    going, paused = replace(STATUS, title=""), replace(STATUS, title="", fps=None, latency=None)
    assert touched(paused).sum() < touched(going).sum() / 2


@pytest.mark.parametrize("size", [(360, 640), (720, 1280), (90, 160), (16, 24), (1080, 1920), (400, 120)])
def test_any_window_can_be_drawn_on(size: tuple[int, int]) -> None:
    status = replace(STATUS, help=True, recording=3661.0, message="word " * 60, warning="source lost", details="paused")
    assert touched(status, size=size).any()


def test_long_message_is_wrapped_not_cut() -> None:
    rows = touched(replace(STATUS, message="word " * 40))[100:].any(axis=1).sum()
    assert rows > touched(replace(STATUS, message="word"))[100:].any(axis=1).sum() * 1.8


@pytest.mark.alone
def test_unchanged_panels_are_kept_and_not_written_anew() -> None:
    def seconds(overlay: Overlay) -> float:
        return timeit.timeit(lambda: overlay.draw(picture, STATUS), number=1)

    picture, kept = blank(100), Overlay()
    anew = min(seconds(Overlay()) for _ in range(10))
    seconds(kept)
    assert min(seconds(kept) for _ in range(30)) < anew / 2


def test_memory_does_not_grow_with_every_figure() -> None:
    overlay, picture = Overlay(), blank(100)
    for number in range(60):
        overlay.draw(picture, replace(STATUS, dropped=number))
    assert len(overlay._panels) <= 16


def test_figures_are_whole_in_a_narrow_window() -> None:
    wide, narrow = touched(STATUS, size=(700, 1200)), touched(STATUS, size=(700, 300))
    assert not narrow[:, -4:].any()  # nothing is cut off
    assert narrow.any(axis=1).sum() > wide.any(axis=1).sum()  # it takes more lines


def solid(rgb: tuple[int, int, int], form: FrameFormat) -> Frame:
    """A frame of one color."""
    return Frame(planes_from_rgb(np.full((*form.size, 3), rgb, np.uint8), form), form, 0, MICROSECOND)


def form(height: int = 32, width: int = 48) -> FrameFormat:
    return FrameFormat(height=height, width=width, pixels="i420")


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (17, 23)])
def test_colors_are_right_in_every_form(
    pixels: Pixels, matrix: Matrix, full_range: bool, size: tuple[int, int]
) -> None:
    whole = FrameFormat(height=size[0], width=size[1], pixels=pixels, matrix=matrix, full_range=full_range)
    for rgb in ((255, 255, 255), (0, 0, 0), (200, 30, 60), (20, 180, 90), (40, 60, 220)):
        bgr = bgr_from_planes(solid(rgb, whole).planes, whole)
        assert (bgr.shape, bgr.dtype) == ((*size, 3), np.uint8)
        assert np.abs(bgr.astype(int) - rgb[::-1]).max() <= 2


def test_every_pixel_has_the_chroma_of_its_place() -> None:
    wide = form(16, 16)
    left, right = solid((220, 30, 30), wide), solid((30, 30, 220), wide)
    planes = tuple(
        np.concatenate([a[:, : a.shape[1] // 2], b[:, b.shape[1] // 2 :]], axis=1)
        for a, b in zip(left.planes, right.planes, strict=True)
    )
    bgr = bgr_from_planes(planes, wide).astype(int)
    assert np.abs(bgr[:, :8] - (30, 30, 220)).max() <= 2
    assert np.abs(bgr[:, 8:] - (220, 30, 30)).max() <= 2


@pytest.mark.parametrize("size", [(32, 48), (64, 96), (20, 30), (100, 48), (32, 200), (31, 47)])
def test_picture_fills_the_window_and_keeps_its_shape(size: tuple[int, int]) -> None:
    white = solid((255, 255, 255), form())
    shown = draw(white, white, size)
    assert shown.shape == (*size, 3)
    rows, columns = shown.max(axis=(1, 2)) > 128, shown.max(axis=(0, 2)) > 128
    height, width = int(rows.sum()), int(columns.sum())
    assert height == size[0] or width == size[1]
    assert width / height == pytest.approx(1.5, rel=0.06)
    assert abs(int(rows[::-1].argmax()) - int(rows.argmax())) <= 1  # in the middle
    assert abs(int(columns[::-1].argmax()) - int(columns.argmax())) <= 1


@pytest.mark.parametrize("mirror", [False, True])
def test_views(mirror: bool) -> None:
    red, blue = solid((200, 0, 0), form()), solid((0, 0, 200), form())
    for view, channel in (("painted", 2), ("original", 0)):
        assert draw(red, blue, (32, 48), view=view, mirror=mirror)[..., channel].min() > 190  # type: ignore[arg-type]
    shown = draw(red, blue, (32, 48), view="split", mirror=mirror)
    assert shown[:, :20, 0].min() > 190, "left is the source, blue"
    assert shown[:, 28:, 2].min() > 190, "right is the painting, red"
    assert shown[:, 23:25].min() == 255


def test_mirror_turns_left_and_right() -> None:
    picture = Frame((photo(1, (32, 48)),), FrameFormat(height=32, width=48), 0, MICROSECOND)
    plain, mirrored = (draw(picture, picture, (32, 48), mirror=mirror) for mirror in (False, True))
    assert np.array_equal(plain[:, ::-1], mirrored) and np.array_equal(plain[..., ::-1], picture.planes[0])


def test_frame_is_left_as_it_is() -> None:
    picture = solid((1, 2, 3), form())
    for plane in picture.planes:
        plane.flags.writeable = False
    draw(picture, picture, (32, 48), view="split")
