"""The rate of a source is held at the largest work size that a measurement allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from media import make_video
from networks import fast_style

from vidstyle import realtime
from vidstyle.frame import FrameFormat, Planes
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.realtime import RealTime, measure_rate, work_size_ladder
from vidstyle.rendering import render
from vidstyle.scheduler import FrameScheduler
from vidstyle.stylizer import Stylizer

FORM = FrameFormat(height=96, width=128, pixels="i420")
ONE_CORE = BackendOptions(backend="openvino", precision="fp32", threads=1)


def test_the_largest_work_size_that_holds_the_rate_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "_measured_fps", lambda stylizer, form: 20.0)
    ladder = work_size_ladder(96)
    with Stylizer(fast_style(), backend=ONE_CORE) as stylizer:
        for rate in (10, 16, 20, 30, 60, 1000):
            found = measure_rate(stylizer, FORM, rate)
            able = [rows for rows in ladder if 0.8 * 20 * (96 / rows) ** 2 >= rate]
            assert found.rows == (able[0] if able else ladder[-1])
            assert (found.fps >= rate) is bool(able)
        assert measure_rate(stylizer, FORM, None).rate == 25
    with Stylizer(fast_style(), backend=ONE_CORE, look=LookOptions(work_size=64)) as stylizer:
        assert measure_rate(stylizer, FORM, 10).rows == 64


def test_it_says_what_it_chose() -> None:
    assert str(RealTime(25, 720, 40.2, 720)) == "25 frames a second are held at all 720 rows; 40 are possible"
    held = "25 frames a second are held at 360 rows; about 7 are possible at 720"
    assert str(RealTime(25, 720, 7.0, 360)) == held
    lost = "60 frames a second cannot be held: about 28 at 360 rows; about 7 are possible at 720"
    assert str(RealTime(60, 720, 7.0, 360)) == lost


@pytest.mark.alone
def test_the_measurement_counts_frames_that_are_painted() -> None:
    with Stylizer(fast_style(), backend=ONE_CORE) as stylizer:
        small = realtime._measured_fps(stylizer, FORM)
        large = realtime._measured_fps(stylizer, FORM.resized((384, 512)))
    assert small > 2 * large > 0


@pytest.mark.parametrize("in_flight", [1, 3])
def test_every_place_paints_a_frame_however_short_the_time(in_flight: int) -> None:
    started: list[int] = []

    def submit() -> Callable[[], Planes]:
        started.append(1)
        return tuple

    assert realtime.frames_per_second(submit, in_flight, 0.0) > 0
    assert len(started) == 2 * in_flight - 1


def test_the_measurement_paints_both_styles_of_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "_SECONDS", 0.0)
    look = LookOptions(mask="person", elsewhere="great_wave")
    with Stylizer("starry_night", backend=ONE_CORE, look=look) as stylizer:
        assert realtime._measured_fps(stylizer, FORM) > 0


def test_a_render_in_real_time_is_painted_at_fewer_rows_where_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "in.mp4", size=(96, 128), frames=4)
    monkeypatch.setattr(realtime, "_measured_fps", lambda stylizer, form: 0.5)
    report = render(source, tmp_path / "out.mp4", fast_style(), backend=ONE_CORE, realtime=True)
    assert "cannot be held" in report.realtime and "at 48 rows" in report.realtime
    assert (report.height, report.frames) == (96, 4)


def test_a_live_picture_begins_where_it_can_be_held_and_adapts_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler: FrameScheduler[None] = FrameScheduler(backend=ONE_CORE)
    style = fast_style()
    try:
        monkeypatch.setattr(realtime, "_measured_fps", lambda stylizer, form: 1000.0)
        assert scheduler.hold_source(30, style, FORM) is None
        assert scheduler.look.work_size is None
        monkeypatch.setattr(realtime, "_measured_fps", lambda stylizer, form: 20.0)
        found = scheduler.hold_source(30, style, FORM)
        assert found is not None and scheduler.look.work_size == found.rows < 96
        assert scheduler.is_ready(style, FORM, found.rows)
        for second in range(8):  # with time to spare it goes up again
            scheduler.adapt(style, FORM, 10.0 + second, shown=30, arrived=30, busy=0.1)
        while not scheduler.is_ready(style, FORM, scheduler._next_height):
            pass
        scheduler.adapt(style, FORM, 19.0, shown=30, arrived=30, busy=0.1)
        assert scheduler.look.work_size > found.rows
    finally:
        scheduler.close()
