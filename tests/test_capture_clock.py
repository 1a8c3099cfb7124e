"""Times of live pictures and sound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vidstyle.video.capture import clock
from vidstyle.video.capture.clock import ArrivalClock, Backlog, PlayClock


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the capture clock, in seconds."""
    time = [1_000_000_000]
    monkeypatch.setattr(clock, "now", lambda: time[0])

    def to(seconds: float) -> None:
        time[0] = 1_000_000_000 + round(seconds * 1e6)

    return to


def seconds(pts: int) -> float:
    return (pts - 1_000_000_000) / 1e6


def test_jitter_of_the_way_is_not_in_the_times(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    delays = [0.0, 0.03, 0.01, 0.05, 0.0, 0.02]
    times = []
    for number, delay in enumerate(delays):
        at(number / 25 + delay)
        times.append(seconds(clock.picture(7 + number / 25)))
    assert times == pytest.approx([number / 25 for number in range(6)], abs=0.001)


def test_picture_is_never_from_the_future(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    at(0.5)
    clock.picture(0.0)
    at(0.51)
    assert seconds(clock.picture(0.3)) == pytest.approx(0.51)  # what was held up came in a burst
    at(0.52)
    assert seconds(clock.picture(0.4)) == pytest.approx(0.52)


@pytest.mark.parametrize("speed", [0.9995, 1.0005])
def test_sender_with_another_clock_is_followed(at: Callable[[float], None], speed: float) -> None:
    clock = ArrivalClock()
    for number in range(0, 60_000, 10):
        at(number / 25)
        last = seconds(clock.picture(number / 25 * speed))
    assert last == pytest.approx(number / 25, abs=0.002)


def test_clock_that_jumps_is_followed_at_once(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    at(0)
    clock.picture(5000.0)
    at(0.04)
    assert seconds(clock.picture(0.0)) == pytest.approx(0.04)


def test_what_has_waited_here_is_told_as_late(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    for number in range(100):  # half as fast as they come
        at(number / 12.5)
        taken = clock.picture(number / 25, waited=number == 0)
    assert seconds(taken) == pytest.approx(99 / 25, abs=0.02)


def simulate(decode: float, *, timed: bool, gop: int = 25, hold: tuple[float, float] = (0, 0)) -> list[float]:
    """The ages at which pictures are decoded that come 25 times a second and take ``decode`` seconds each.

    None comes in between the two times of ``hold``, and all that were held up after them.
    """
    backlog, now, ages = Backlog(), 0.0, []
    for number in range(1000):
        came = number / 25
        arrives = hold[1] if hold[0] <= came < hold[1] else came
        waited = max(0.0, arrives - now)
        now = max(now, arrives) + 1e-4
        if not backlog.skips(came if timed else None, now, waited, key=number % gop == 0):
            now += decode
            ages.append(now - came)
    return ages


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("gop", [1, 25])
@pytest.mark.parametrize("decode", [0.05, 0.1])
def test_a_decoder_that_is_too_slow_falls_behind_by_no_more_than_a_moment(decode: float, gop: int, timed: bool) -> None:
    ages = simulate(decode, timed=timed, gop=gop)
    assert max(ages) < 0.8
    assert len(ages) > 0.3 * min(1000, 40 / decode)


@pytest.mark.parametrize("timed", [True, False])
def test_a_decoder_that_keeps_up_decodes_all_even_after_a_hiccup_of_the_way(timed: bool) -> None:
    assert len(simulate(0.03, timed=timed)) == 1000
    assert len(simulate(0.002, timed=timed, hold=(10, 12))) == 1000


def test_a_sender_that_is_late_from_now_on_is_shown() -> None:
    backlog, shown = Backlog(), 0
    for number in range(500):
        now = number / 25 + (1.5 if number > 100 else 0)
        shown += not backlog.skips(number / 25, now, 0.039, key=number % 25 == 0)
    assert shown > 450


def test_counted_frames_get_the_time_of_their_arrival(at: Callable[[float], None]) -> None:
    clock = ArrivalClock(synthetic=True)
    for number in range(10):
        at(number / 10)  # ten a second, though the demuxer believes in 25
        assert seconds(clock.picture(number / 25)) == pytest.approx(number / 10)


def test_time_of_a_driver_on_our_clock_is_taken_as_it_is(at: Callable[[float], None]) -> None:
    clock = ArrivalClock(monotonic=True)
    at(2.05)
    assert seconds(clock.picture(1002.0)) == pytest.approx(2.0)


def test_sound_is_in_step_with_the_picture(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    assert clock.sound(3.0) is None
    at(1.0)
    clock.picture(3.0)
    assert seconds(clock.sound(3.5) or 0) == pytest.approx(1.5)


def test_second_pass_begins_when_the_first_is_over(at: Callable[[float], None]) -> None:
    clock = PlayClock()
    at(0)
    clock.begin(10.0)
    assert seconds(clock.due(10.0, 0.04)) == 0
    assert seconds(clock.due(10.04, 0.04)) == pytest.approx(0.04)
    at(0.05)
    clock.begin(10.0)
    assert seconds(clock.due(10.0, 0.04)) == pytest.approx(0.08)


def test_recording_is_put_off_where_the_machine_does_not_keep_up(at: Callable[[float], None]) -> None:
    clock = PlayClock()
    at(0)
    clock.begin(0.0)
    at(0.3)
    assert seconds(clock.late(clock.due(0.1, 0.04))) == pytest.approx(0.1)  # late, and given at once
    at(3.0)
    assert seconds(clock.late(clock.due(0.2, 0.04))) == pytest.approx(3.0)
    assert seconds(clock.due(0.24, 0.04)) == pytest.approx(3.04)


def test_a_recording_whose_clock_jumps_is_played_on_without_a_pause(at: Callable[[float], None]) -> None:
    at(0)
    clock = PlayClock()
    clock.begin(100.0, may_jump=True)
    times = [100.0, 100.5, 10_000.0, 10_000.5, 5.0, 5.5]
    shown = []
    for number, time in enumerate(times):
        at(number / 2)
        shown.append(seconds(clock.late(clock.due(time, 0.5))))
    assert shown == pytest.approx([number / 2 for number in range(6)])


def test_a_pause_of_a_recording_that_cannot_jump_is_kept(at: Callable[[float], None]) -> None:
    at(0)
    clock = PlayClock()
    clock.begin(0.0)
    assert [seconds(clock.due(time, 0.04)) for time in (0.0, 30.0)] == [0.0, 30.0]


def test_sound_of_another_clock_than_the_picture_has_is_left_out(at: Callable[[float], None]) -> None:
    clock = ArrivalClock()
    at(1)
    clock.picture(10_000.0)
    assert clock.sound(10_000.0) is not None
    at(2)
    clock.picture(0.0)  # the sender has started again
    assert clock.sound(10_001.0) is None
    assert clock.sound(0.0) is not None
