"""Overlay: legible on any picture, in place, cheap."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vidstyle.live.overlay import Overlay, Status

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
    assert top_left[:80, :320].any()
    assert not top_left[100:].any()
    recording = touched(replace(STATUS, recording=72.0))
    assert recording[:40, 560:].any()
    message = touched(replace(STATUS, message="saved picture.png"))
    assert message[320:, 200:440].any()
    helped = touched(replace(STATUS, help=True))
    assert helped[120:280, 180:460].mean() > 0.99  # a few letters are as light as the picture


def test_recording_has_a_red_dot() -> None:
    picture = blank(255)
    Overlay().draw(picture, replace(STATUS, recording=5.0))
    corner = picture[:40, 560:].astype(int)
    assert (corner[..., 2] - corner[..., 1] > 150).sum() > 20


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
        began = time.perf_counter()
        overlay.draw(picture, STATUS)
        return time.perf_counter() - began

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
