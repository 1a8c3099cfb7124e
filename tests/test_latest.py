"""Latest: the newest wins, nothing is lost silently, nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from vidstyle.live.latest import Latest


def test_newest_wins_and_drops_are_counted() -> None:
    latest: Latest[int] = Latest()
    for number in range(5):
        latest.put(number)
    assert latest.take(0) == 4
    assert latest.take(0) is None
    assert (latest.arrived, latest.dropped) == (5, 4)


def test_take_is_woken_by_put() -> None:
    latest: Latest[int] = Latest()
    timer = threading.Timer(0.05, latest.put, (7,))
    timer.start()
    began = time.monotonic()
    assert latest.take(60) == 7
    assert time.monotonic() - began < 30
    timer.join()


def test_last_item_comes_before_the_end() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.close()
    assert not latest.over
    assert latest.take(0) == 1
    assert latest.over
    began = time.monotonic()
    assert latest.take(60) is None
    assert time.monotonic() - began < 30


def test_error_of_the_source_is_raised_after_its_last_item() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.close(OSError("gone"))
    assert latest.take(0) == 1
    with pytest.raises(OSError, match="gone"):
        latest.take(0)
