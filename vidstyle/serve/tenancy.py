"""Whose folder of jobs it is: that of one server at a time."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from vidstyle.errors import BadOption

_FILE = ".server"


class Tenancy:
    """Holds a folder until `end`; the system lets go of it, too, however the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take ``folder``; `BadOption` where another server has it, or where it cannot be written to."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._number = os.open(folder / _FILE, flags, 0o600)
        except OSError as error:
            raise BadOption(f"cannot keep jobs in {folder}: {error.strerror}; give another --folder") from error
        if sys.platform == "win32":
            return  # no such lock there; two servers would need two ports and one folder
        import fcntl

        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._number)
            raise BadOption(f"another `vidstyle serve` has its jobs in {folder}; give another --folder") from error

    def end(self) -> None:
        """Let go. Twice is fine."""
        number, self._number = self._number, -1
        if number >= 0:
            with contextlib.suppress(OSError):
                os.close(number)
