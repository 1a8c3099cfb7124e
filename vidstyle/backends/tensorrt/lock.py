"""A lock between processes, which the system takes back from one that dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` (made where it is missing, and left there) until the end of the block; wait for others to let go.

    `OSError` where the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while not _taken(file.fileno()):
            time.sleep(_POLL_SECONDS)  # and not a blocking call, which Ctrl-C does not end everywhere
        yield  # closing the file lets go of it


if sys.platform == "win32":
    import msvcrt

    def _taken(number: int) -> bool:
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _taken(number: int) -> bool:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
