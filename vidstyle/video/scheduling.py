"""How the system shares out its processors, put back after an encoder has changed it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def usual_scheduling() -> Generator[None, None, None]:
    """Open an encoder within: this thread, and those that the encoder begins, are scheduled as this one was before.

    SVT-AV1 makes the thread that opens it, and its own, real-time ones (SCHED_FIFO, priority 99) where it may,
    which is for root, so in most containers. Whatever such a thread starts later inherits that, and nothing else
    on the machine gets a processor while two of them are busy.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield  # not Linux, and SVT-AV1 leaves things as they are
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    before = _threads()
    try:
        yield
    finally:
        # 0 is this thread, which has no other name where there is no /proc.
        for thread in {0, *_threads()} - before:
            with suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, priority)


def _threads() -> set[int]:
    """The numbers that the system gives to the threads of this process; none where it does not tell."""
    try:
        return {int(entry.name) for entry in _THREADS.iterdir()}
    except OSError:
        return set()
