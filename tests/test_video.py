"""FFmpeg and OpenCV on one X display: in either order, in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from live_media import x_display

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X on Linux")


def printed(code: str, **environment: str) -> str:
    """What a process prints that runs ``code``."""
    environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def on_a_display(code: str) -> str:
    """What it prints on a display of its own, 300x200 pixels."""
    with x_display((200, 300)) as display:
        return printed(code, DISPLAY=display)


_BOTH = """
import os, sys
for name in {order!r}.split():
    __import__(name)
import av, cv2, numpy
from vidstyle.video import LIBXCB_IS_SHARED
assert LIBXCB_IS_SHARED
cv2.imshow("a", numpy.full((40, 40, 3), 200, numpy.uint8))
cv2.waitKey(50)
with av.open(os.environ["DISPLAY"], format="x11grab", timeout=(3, 3)) as screen:
    frame = next(screen.decode(video=0))
cv2.destroyAllWindows()
print("both", frame.width)
"""


@pytest.mark.parametrize("order", ["cv2 vidstyle.video av", "av vidstyle.video cv2", "vidstyle.video av cv2"])
def test_window_and_screen_work_in_one_process(order: str) -> None:
    assert on_a_display(_BOTH.format(order=order)) == "both 300\n"


_WINDOW = """
import time
for name in {order!r}.split():
    __import__(name)
import numpy
from vidstyle.live.window import Window, screen_size
with Window("a", (40, 60)) as window:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        window.show(numpy.full((*window.size, 3), 200, numpy.uint8))
        assert window.keys() == []
    print("window", screen_size())
"""


@pytest.mark.parametrize("order", ["av vidstyle", "cv2 vidstyle", "vidstyle"])
def test_live_window_works_whatever_was_imported_before(order: str) -> None:
    assert on_a_display(_WINDOW.format(order=order)) == "window (200, 300)\n"


def test_too_late_is_told() -> None:
    assert printed("import cv2, av, vidstyle.video; print(vidstyle.video.LIBXCB_IS_SHARED)") == "False\n"
