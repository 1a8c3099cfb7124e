"""Pace: steps down when too slow, up when there is room, and does not swing."""

from __future__ import annotations

import pytest

from vidstyle.errors import BadOption
from vidstyle.live.pace import Pace


class Machine:
    """Paints ``rows`` in ``cost * rows²`` seconds of a source with ``fps``, and obeys the pace at once."""

    def __init__(self, pace: Pace, cost: float, fps: float = 30.0) -> None:
        self.pace, self.cost, self.fps = pace, cost, fps
        self.now = 0.0
        self.heights: list[tuple[float, int]] = []
        self.shown = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            each = self.cost * self.pace.height**2
            period = max(each, 1 / self.fps)
            self.now += period
            self.shown += 1
            wanted = self.pace.note(self.now, shown=1, arrived=max(1, round(period * self.fps)), busy=each)
            if wanted is not None:
                self.pace.switched(self.now)
                self.heights.append((self.now, wanted))


def cost_for(fps: float, rows: int) -> float:
    """The cost at which a machine paints ``rows`` at just ``fps``."""
    return 1 / fps / rows**2


def test_ladder_has_small_steps_and_a_floor_of_half() -> None:
    for start in (360, 480, 720, 1080, 64, 34):
        heights = Pace(30, start).heights
        assert heights[0] == start
        assert heights[-1] == pytest.approx(start / 2, abs=4)
        assert heights[-1] >= start / 2
        assert all(height % 4 == 0 for height in heights[1:])
        assert list(heights) == sorted(set(heights), reverse=True)
        if start >= 360:
            assert all(0.8 < low / high < 0.97 for high, low in zip(heights, heights[1:], strict=False))


def test_fast_machine_is_left_alone() -> None:
    machine = Machine(Pace(30, 720), cost_for(60, 720))
    machine.run(60)
    assert machine.heights == []


def test_slow_machine_steps_down_until_it_holds() -> None:
    machine = Machine(Pace(30, 720), cost_for(20, 720))
    machine.run(1.5)
    assert machine.heights, "it waits longer than a second and a half"
    machine.run(10)
    rows = machine.pace.height
    assert 1 / (machine.cost * rows**2) >= 29
    assert rows >= 540  # and no further than need be


def test_floor_is_held_though_it_is_too_slow() -> None:
    machine = Machine(Pace(30, 720), cost_for(2, 720))
    machine.run(60)
    assert machine.pace.height == 360


def test_goes_up_again_after_quiet_seconds() -> None:
    machine = Machine(Pace(30, 720), cost_for(15, 720))
    machine.run(20)
    assert machine.pace.height < 600
    machine.cost = cost_for(80, 720)
    began, low = machine.now, machine.pace.height
    machine.run(3)
    assert machine.pace.height == low, "up within three seconds is no quiet"
    machine.run(57)
    assert machine.pace.height == 720
    first_up = next(at for at, rows in machine.heights if rows > low and at > began)
    assert first_up - began >= 4


@pytest.mark.parametrize("fps", [22, 24, 25, 26, 28, 29, 31, 33])
def test_does_not_swing(fps: float) -> None:
    machine = Machine(Pace(30, 720), cost_for(fps, 720))
    machine.run(20)
    settled = len(machine.heights)
    machine.run(300)
    assert len(machine.heights) - settled <= 1


def test_swinging_machine_makes_it_wait_longer_each_time() -> None:
    pace = Pace(30, 720)
    machine = Machine(pace, cost_for(15, 720))
    machine.run(20)
    for _ in range(20):  # fast for as long as it takes to go up, then slow: the worst that can be
        low = pace.height
        machine.cost = cost_for(90, 720)
        began = machine.now
        while pace.height == low and machine.now - began < 200:
            machine.run(0.5)
        machine.cost = cost_for(15, 720)
        machine.run(8)
    changes = [at for at, _ in machine.heights]
    late = [at for at in changes if at > changes[-1] - 300]
    assert len(late) <= 16


def test_slow_source_is_no_reason_to_paint_less() -> None:
    machine = Machine(Pace(30, 720), cost_for(26, 720), fps=24)
    machine.run(60)
    assert machine.heights == []


def test_source_that_is_away_teaches_nothing() -> None:
    pace = Pace(30, 720)
    for tick in range(1000):
        assert pace.note(tick / 50, shown=0, arrived=0, busy=0.001) is None
    assert pace.height == 720


def test_waits_for_the_switch() -> None:
    pace = Pace(30, 720)
    wanted = None
    now = 0.0
    while wanted is None:
        now += 0.1
        wanted = pace.note(now, shown=1, arrived=3, busy=0.1)
    for _ in range(50):
        now += 0.1
        assert pace.note(now, shown=1, arrived=3, busy=0.1) is None
    assert pace.height == 720
    pace.switched(now)
    assert pace.height == wanted


def test_refused_height_is_not_asked_for_again() -> None:
    pace, now = Pace(30, 720), 0.0
    for _ in range(200):
        now += 0.1
        if pace.note(now, shown=1, arrived=3, busy=0.1) is not None:
            pace.refused()
    assert pace.height == 720
    assert len(pace.heights) == 1 or 720 in pace.heights


def test_engine_has_a_least_height() -> None:
    assert Pace(30, 720, least=500).heights[-1] == 500


@pytest.mark.parametrize(("fps", "start"), [(0, 720), (500, 720), (30, 4), (float("nan"), 720)])
def test_nonsense_is_refused(fps: float, start: int) -> None:
    with pytest.raises(BadOption):
        Pace(fps, start)
