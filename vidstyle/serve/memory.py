"""Memory of those who have left, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Collect what holds itself, as connections do, and return free memory to the system. Takes some milliseconds.

    glibc keeps what threads have freed, of each thread apart, and codecs free much.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
