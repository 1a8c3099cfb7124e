"""A virtual X screen whose pixels lie in a file, so that looking at them asks nothing of the program that draws."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class Screen:
    """An Xvfb of its own. A context manager."""

    def __init__(self, folder: Path, size: tuple[int, int] = (720, 1280)) -> None:
        """Start it, with its picture in a file in ``folder``; ``size`` is (height, width)."""
        read, write = os.pipe()
        words = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size[1]}x{size[0]}x24", "-fbdir", str(folder)]
        quiet = subprocess.DEVNULL
        self._server = subprocess.Popen(
            [*words, "-nolisten", "tcp", "-noreset"], pass_fds=[write], stdout=quiet, stderr=quiet
        )
        os.close(write)
        with os.fdopen(read) as answer:
            self.name = f":{answer.readline().strip()}"
        self.environment = {**os.environ, "DISPLAY": self.name}
        self.pixels = _mapped(folder / "Xvfb_screen0")
        """uint8 (height, width, 4): blue, green, red and nothing, as they are at this very moment."""

    @property
    def pid(self) -> int:
        """Of the X server."""
        return self._server.pid

    def tool(self, *words: str) -> str:
        """What xdotool answers."""
        done = subprocess.run(["xdotool", *words], env=self.environment, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()

    def start_tool(self, *words: str) -> subprocess.Popen[bytes]:
        """Start xdotool and go on."""
        return subprocess.Popen(["xdotool", *words], env=self.environment)

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.terminate()
        self._server.wait()


def _mapped(path: Path) -> NDArray[np.uint8]:
    """The pixels of an XWD file, mapped: a header of big-endian words, the colors, the rows."""
    words = np.fromfile(path, ">u4", 25)
    header_bytes, width, height, row_bytes, colors = (int(words[place]) for place in (0, 4, 5, 12, 19))
    rows = np.memmap(path, np.uint8, "r", header_bytes + 12 * colors, (height, row_bytes))
    return rows.reshape(height, -1, 4)[:, :width]
