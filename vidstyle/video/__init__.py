"""Video in and out, through FFmpeg."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def share_libxcb() -> bool:
    """Make FFmpeg and OpenCV use one libxcb, where each wheel brings its own; return whether that was still possible.

    Both wheels carry a libxcb-shm (and -shape, -xfixes) of the same name, of which a process loads only the first; but
    PyAV's is for the libxcb inside its wheel and OpenCV's for that of the system. The second package then talks to the
    X server through the wrong one: reading the screen with FFmpeg, or opening a window with OpenCV, ends in a
    segmentation fault or hangs. With one of the two libraries made global before the second package is loaded,
    everything uses that one. Call it once, before both are loaded.
    """
    if not sys.platform.startswith("linux") or not _MAPS.exists():
        return True
    loaded = set(re.findall(r"/\S+\.so\S*", _MAPS.read_text(errors="replace")))
    of_av = next((path for path in loaded if re.search(r"/av\.libs/libxcb-[0-9a-f]+\.so", path)), None)
    if of_av is not None and any("/opencv_python.libs/" in path for path in loaded):
        return False
    try:
        ctypes.CDLL(of_av or "libxcb.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return True  # no X on this machine: OpenCV cannot open a window, and there is nothing to share
    return True


LIBXCB_IS_SHARED = share_libxcb()
"""Whether FFmpeg can read an X screen in the process in which OpenCV opens windows. See `share_libxcb`."""
