"""Encoders that change how the system schedules this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from media import make_video

from vidstyle.options import EncodeOptions
from vidstyle.rendering import render
from vidstyle.video.formats import keep_scheduling

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="schedules as Linux does")


def policies() -> set[int]:
    """Those of all threads of this process."""
    found = set()
    for entry in Path("/proc/self/task").iterdir():
        try:
            found.add(os.sched_getscheduler(int(entry.name)))
        except ProcessLookupError:
            continue  # it has ended
    return found


@contextmanager
def waiting_thread() -> Iterator[None]:
    """A thread that begins, and inherits what this one is."""
    go, started = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), go.wait(60)))
    thread.start()
    try:
        assert started.wait(60)
        yield
    finally:
        go.set()
        thread.join(60)


def test_thread_and_what_it_began_are_scheduled_as_before() -> None:
    before = policies()
    with ExitStack() as stack:
        with keep_scheduling():
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            stack.enter_context(waiting_thread())
            assert os.SCHED_BATCH in policies()
        assert policies() == before


def test_scheduling_is_put_back_after_an_error() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(ZeroDivisionError), keep_scheduling():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        raise ZeroDivisionError
    assert os.sched_getscheduler(0) == before


def test_av1_is_written_without_a_real_time_thread(tmp_path: Path) -> None:
    """SVT-AV1 makes them where it may: for root."""
    clip = make_video(tmp_path / "in.mp4", size=(64, 96), frames=6)
    seen: list[set[int]] = []
    encode = EncodeOptions(codec="av1", preset="12")
    render(clip, tmp_path / "out.mkv", "starry_night", encode=encode, on_progress=lambda _: seen.append(policies()))
    assert len(seen) >= 2
    assert not {os.SCHED_FIFO, os.SCHED_RR} & set().union(*seen)
