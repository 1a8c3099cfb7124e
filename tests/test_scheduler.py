"""The live scheduler: the newest frame wins, nothing is lost silently, and the work size follows the machine."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from live_media import wait_for
from networks import photo, planes_from_rgb, worst_psnr

from vidstyle.errors import BadOption
from vidstyle.frame import Frame, FrameFormat
from vidstyle.gallery import load_style
from vidstyle.imaging.image_io import Still, write_still
from vidstyle.models.style import Style, blend
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.scheduler import AdaptiveResolution, FrameScheduler, LatestSlot
from vidstyle.stylizer import Stylizer

STYLE, OTHER = load_style("starry_night"), load_style("the_scream")
FORM = FrameFormat(height=48, width=64, pixels="i420")


def frame(form: FrameFormat = FORM, pts: int = 0) -> Frame:
    return Frame(planes_from_rgb(photo("chelsea", form.size), form), form, pts, Fraction(1, 1_000_000))


def test_newest_item_wins_and_drops_are_counted() -> None:
    slot: LatestSlot[int] = LatestSlot()
    for number in range(5):
        slot.put(number)
    assert (slot.take(0), slot.take(0)) == (4, None)
    assert (slot.arrived, slot.dropped) == (5, 4)


@pytest.mark.parametrize("act", ["put", "close"])
def test_take_is_woken(act: str) -> None:
    slot: LatestSlot[int] = LatestSlot()
    timer = threading.Timer(0.05, lambda: slot.put(7) if act == "put" else slot.close())
    timer.start()
    began = time.monotonic()
    assert slot.take(60) == (7 if act == "put" else None)
    assert time.monotonic() - began < 30
    timer.join()


def test_last_item_comes_before_the_end_and_its_error() -> None:
    slot: LatestSlot[int] = LatestSlot()
    slot.put(1)
    slot.close(OSError("gone"))
    assert not slot.is_over
    assert slot.take(0) == 1
    assert slot.is_over
    with pytest.raises(OSError, match="gone"):
        slot.take(0)


def test_frames_come_back_in_order_with_what_came_with_them() -> None:
    scheduler: FrameScheduler[str] = FrameScheduler()
    assert "fp32" in scheduler.open(STYLE, FORM) or "bf16" in scheduler.open(STYLE, FORM)
    assert scheduler.seconds_until_ready() == 0
    for number, style in enumerate((STYLE, OTHER)):
        assert not scheduler.is_full
        scheduler.start(scheduler.prepare(frame(pts=number), style), style.name)
    assert (scheduler.is_full, len(scheduler), scheduler.oldest) == (True, 2, STYLE.name)
    results = [scheduler.finish() for _ in range(2)]
    assert [(name, painted.pts) for name, painted in results] == [(STYLE.name, 0), (OTHER.name, 1)]
    scheduler.start(scheduler.prepare(frame(), STYLE, strength=0.0), "bare")
    assert 0 <= scheduler.seconds_until_ready() < 30
    assert (scheduler.finish()[1].planes[0] == frame().planes[0]).all()
    scheduler.close()
    scheduler.close()


def test_programs_are_compiled_in_the_background_and_freed_when_unused() -> None:
    scheduler: FrameScheduler[None] = FrameScheduler(max_programs=100)
    forms = [FORM.resized((height, 64)) for height in (16, 20, 24, 28)]
    for form in forms:
        assert not scheduler.is_ready(STYLE, form)
        assert wait_for(lambda form=form: scheduler.is_ready(STYLE, form))  # type: ignore[misc]
        assert scheduler.is_ready(OTHER, form), "programs play every style of a network"
    scheduler.free_unused([(STYLE.network_name, forms[0])])
    assert [scheduler.is_ready(STYLE, form) for form in forms] == [True, False, True, True]
    scheduler.close()


def test_program_that_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Stylizer, form: FrameFormat, work_size: int | None = None) -> None:
        raise BadOption("no memory")

    monkeypatch.setattr(Stylizer, "open", broken)
    scheduler: FrameScheduler[None] = FrameScheduler()
    with pytest.raises(BadOption, match="no memory"):
        wait_for(lambda: scheduler.is_ready(STYLE, FORM))
    scheduler.hold(30, STYLE, 720)
    form, problem, now = FORM.resized((720, 1280)), None, 0.0
    while problem is None and now < 100:
        now += 0.1
        problem = scheduler.adapt(STYLE, form, now, shown=1, arrived=3, busy=0.1)
        time.sleep(0.001)
    assert problem is not None and "no memory" in problem
    assert scheduler.look.work_size is None
    scheduler.close()


class Machine:
    """Paints 720 rows of a source with ``fps`` at just ``able`` a second, and obeys the resolution at once."""

    def __init__(self, able: float, fps: float = 30.0) -> None:
        self.resolution, self.able, self.fps = AdaptiveResolution(30, 720), able, fps
        self.now = 0.0
        self.heights: list[tuple[float, int]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            each = (self.resolution.height / 720) ** 2 / self.able
            period = max(each, 1 / self.fps)
            self.now += period
            wanted = self.resolution.update(self.now, shown=1, arrived=max(1, round(period * self.fps)), busy=each)
            if wanted is not None:
                self.resolution.applied(self.now)
                self.heights.append((self.now, wanted))


def test_ladder_has_small_steps_and_a_floor_of_half() -> None:
    assert AdaptiveResolution(30, 720, least=500).heights[-1] == 500
    for start in (360, 480, 720, 1080, 64, 34):
        heights = AdaptiveResolution(30, start).heights
        assert heights[0] == start
        assert heights[-1] == pytest.approx(start / 2, abs=4)
        assert heights[-1] >= start / 2
        assert all(height % 4 == 0 for height in heights[1:])
        assert list(heights) == sorted(set(heights), reverse=True)
        if start >= 360:
            assert all(0.8 < low / high < 0.97 for high, low in zip(heights, heights[1:], strict=False))


@pytest.mark.parametrize(("able", "source", "rows"), [(60, 30, 720), (2, 30, 360), (26, 24, 720)])
def test_steps_down_to_the_floor_for_the_machine_and_not_for_the_source(able: float, source: float, rows: int) -> None:
    machine = Machine(able, fps=source)
    machine.run(60)
    assert machine.resolution.height == rows


def test_slow_machine_steps_down_until_it_holds() -> None:
    machine = Machine(20)
    machine.run(1.5)
    assert machine.heights, "it waits longer than a second and a half"
    machine.run(10)
    rows = machine.resolution.height
    assert 20 * (720 / rows) ** 2 >= 29 and rows >= 540  # and no further than need be


def test_goes_up_again_after_quiet_seconds() -> None:
    machine = Machine(15)
    machine.run(20)
    assert machine.resolution.height < 600
    machine.able = 80
    began, low = machine.now, machine.resolution.height
    machine.run(3)
    assert machine.resolution.height == low, "up within three seconds is no quiet"
    machine.run(57)
    assert machine.resolution.height == 720
    first_up = next(at for at, rows in machine.heights if rows > low and at > began)
    assert first_up - began >= 4


@pytest.mark.parametrize("fps", [22, 24, 25, 26, 28, 29, 31, 33])
def test_does_not_swing(fps: float) -> None:
    machine = Machine(fps)
    machine.run(20)
    settled = len(machine.heights)
    machine.run(300)
    assert len(machine.heights) - settled <= 1


def test_swinging_machine_makes_it_wait_longer_each_time() -> None:
    machine = Machine(15)
    machine.run(20)
    for _ in range(20):  # fast for as long as it takes to go up, then slow: the worst that can be
        low, began, machine.able = machine.resolution.height, machine.now, 90
        while machine.resolution.height == low and machine.now - began < 200:
            machine.run(0.5)
        machine.able = 15
        machine.run(8)
    assert sum(at > machine.heights[-1][0] - 300 for at, _ in machine.heights) <= 16


def test_source_that_is_away_teaches_nothing() -> None:
    resolution = AdaptiveResolution(30, 720)
    for tick in range(1000):
        assert resolution.update(tick / 50, shown=0, arrived=0, busy=0.001) is None
    assert resolution.height == 720


def test_waits_for_the_switch_and_asks_for_a_refused_height_once() -> None:
    resolution, now, asked = AdaptiveResolution(30, 720), 0.0, []
    for _ in range(200):
        now += 0.1
        wanted = resolution.update(now, shown=1, arrived=3, busy=0.1)
        if wanted is not None:
            asked.append((wanted, now))
    assert len(asked) == 1 and resolution.height == 720
    resolution.applied(now)
    assert resolution.height == asked[0][0]
    for _ in range(200):
        now += 0.1
        if resolution.update(now, shown=1, arrived=3, busy=0.1) is not None:
            resolution.rejected()
    assert resolution.height == resolution.heights[-1] == asked[0][0]


@pytest.mark.parametrize(("fps", "start"), [(0, 720), (500, 720), (30, 4), (float("nan"), 720)])
def test_nonsense_is_refused(fps: float, start: int) -> None:
    with pytest.raises(BadOption):
        AdaptiveResolution(fps, start)


def test_a_style_that_stays_gets_a_program_of_its_own_and_a_change_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.backends.openvino._why_int8", lambda: (True, "for the test"))
    monkeypatch.setattr("vidstyle.scheduler._STEADY", 0.0)
    painter: FrameScheduler[None] = FrameScheduler(backend=BackendOptions(backend="openvino", threads=1))

    def paint(style: Style) -> Frame:
        painter.start(painter.prepare(frame(), style), None)
        return painter.finish()[1]

    try:
        painter.open(STYLE, FORM)
        first = paint(STYLE)
        paint(STYLE)
        (own,) = painter._own.values()
        while not own.done():
            assert (paint(STYLE).planes[0] == first.planes[0]).all()  # by the program for all styles, meanwhile
            time.sleep(0.05)
        steady = paint(STYLE)
        assert " int8 " in own.result().description
        assert 35 < worst_psnr(steady.planes, first.planes) < 60
        with Stylizer(OTHER, backend=BackendOptions(backend="openvino", threads=1)) as floats:
            task = floats.prepare(frame())
            np.testing.assert_array_equal(paint(OTHER).planes[0], floats.submit(task)()[0])
        blended = blend([(STYLE, 0.5), (OTHER, 0.5)])
        assert worst_psnr(paint(blended).planes, steady.planes) < 35
        assert (paint(STYLE).planes[0] == steady.planes[0]).all()
    finally:
        painter.close()


def test_a_style_that_stays_beside_one_elsewhere_is_painted_by_the_program_of_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vidstyle.backends.openvino._why_int8", lambda: (True, "for the test"))
    monkeypatch.setattr("vidstyle.scheduler._STEADY", 0.0)
    mask = tmp_path / "mask.png"
    write_still(mask, Still(np.full((*FORM.size, 3), 128, np.uint8)))
    painter: FrameScheduler[None] = FrameScheduler(
        backend=BackendOptions(backend="openvino", threads=1), look=LookOptions(mask=str(mask), elsewhere="great_wave")
    )
    try:
        painter.open(STYLE, FORM)
        painted = []
        for _ in range(4):
            painter.start(painter.prepare(frame(), STYLE), None)
            painted.append(painter.finish()[1])
            for own in painter._own.values():
                own.result()  # were there one, the next frame would be painted by it
        assert all((now.planes[0] == painted[0].planes[0]).all() for now in painted)
    finally:
        painter.close()
