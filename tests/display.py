"""A live window on a screen of its own, that keys are sent to."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import repository
from live_media import PATIENCE, start_xvfb, stop_xvfb
from numpy.typing import NDArray

SCREEN = (720, 1280)


class Webcam:
    """``vidstyle webcam`` in a process of its own, with a window on an Xvfb of its own. A context manager."""

    def __init__(self, folder: Path, *words: str) -> None:
        """The test is skipped where there can be no screen."""
        if shutil.which("xdotool") is None:
            pytest.skip("there is no xdotool")
        self._folder, self._window = folder, ""
        self._xvfb, self._display = start_xvfb(SCREEN, "-fbdir", str(folder))
        self._env = {**os.environ, "DISPLAY": self._display, "PYTHONPATH": str(repository())}
        # Pictures are compared with those of the whole size, and a busy machine would paint at fewer rows.
        command = [sys.executable, "-m", "vidstyle", "webcam", "--json", "--no-realtime", *words]
        how: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=folder, env=self._env, **how)
        self.pid = self._process.pid

    def __enter__(self) -> Webcam:
        try:
            self.until(lambda: self._tool("search", "--name", "^vidstyle$"), "a window")
            self._window = self._tool("search", "--name", "^vidstyle$").split()[-1]
            self.until(lambda: self.shot()[200:].std() > 5, "a picture")
            self._tool("windowfocus", self._window)  # there is no window manager to do it
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=PATIENCE)
        stop_xvfb(self._xvfb)

    def _tool(self, *words: str) -> str:
        """What xdotool says."""
        done = subprocess.run(["xdotool", *words], env=self._env, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip()

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for ``condition``."""
        end = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                pytest.fail(f"ended before there was {what}: {self._process.communicate(timeout=PATIENCE)}")
            if time.monotonic() > end:
                pytest.fail(f"there was not {what} within {seconds} s")
            time.sleep(0.03)

    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the window."""
        lines = dict(line.split("=") for line in self._tool("getwindowgeometry", "--shell", self._window).split())
        return int(lines["HEIGHT"]), int(lines["WIDTH"])

    def shot(self) -> NDArray[np.uint8]:
        """What is in the window, which lies in the corner of the screen: RGB of shape (height, width, 3)."""
        data = (self._folder / "Xvfb_screen0").read_bytes()  # an XWD file: header, colors, pixels
        header = np.frombuffer(data, ">u4", 25)
        begin = int(header[0] + 12 * header[19])
        rows = np.frombuffer(data, np.uint8, int(header[12] * header[5]), begin).reshape(header[5], header[12])
        height, width = self.size() if self._window else (360, 640)
        return rows.reshape(header[5], -1, 4)[:height, :width, 2::-1].copy()

    def press(self, *keys: str) -> None:
        """Type ``keys``, by their X11 names, as fast as a fast typist."""
        for key in keys:
            self._tool("key", key)
            time.sleep(0.12)

    def close_button(self) -> None:
        """What a window manager sends when its close button is clicked."""
        x11: Any = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        connection = ctypes.c_void_p(x11.XOpenDisplay(self._display.encode()))
        assert connection, "the display does not answer"
        # XClientMessageEvent: type, serial, send_event, display, window, message_type, format, data
        event = (ctypes.c_long * 24)()
        names = (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
        protocols, delete = (x11.XInternAtom(connection, name, 0) for name in names)
        event[0], event[4], event[5], event[6], event[7] = 33, int(self._window), protocols, 32, delete
        x11.XSendEvent(connection, ctypes.c_ulong(int(self._window)), 0, ctypes.c_long(0), event)
        x11.XCloseDisplay(connection)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def report(self) -> dict[str, Any]:
        """Wait for the end, which must be a good one."""
        out, err = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, err
        report: dict[str, Any] = json.loads(out)
        return report


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean of how far the values are from each other."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())
