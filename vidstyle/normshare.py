"""How much of an earlier frame's statistics the norms of the next one take; see `vidstyle.graph.state`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import Planes
from vidstyle.options import SmoothOptions

USUAL = 0.8
"""Share that is kept from one frame to the next, at a strength of 0.7. It takes a fifth off the unrest of what
stands still beside what moves; with more, slow changes of light swing on."""
MOST = 0.9
CUT_LEVELS = 12.0
"""Mean difference of two frames that begins a new scene. Fast motion may pass it too: then nothing is kept,
which is as if nothing smoothed."""
ROWS = 45
"""About so many rows, and as many pixels in each as that makes, are looked at."""


class NormShare:
    """The share for each frame of one video, in order."""

    def __init__(self, options: SmoothOptions) -> None:
        self._kept = min(MOST, USUAL * options.strength / 0.7)
        self._last: tuple[NDArray[np.int16], NDArray[np.float32]] | None = None
        self._since = 0

    def next(self, source: Planes, vector: NDArray[np.float32], lag: int) -> float:
        """The share of the statistics of ``lag`` frames before; 0 where those are of another scene or style.

        It decays as fast whatever the lag: as kept from frame to frame, ``lag`` times.
        """
        plane = source[0]
        step = max(1, min(plane.shape[:2]) // ROWS)
        now = plane[::step, ::step].astype(np.int16)
        last, self._last = self._last, (now, vector)
        self._since = self._since + 1 if last is not None and _same_scene(last, self._last) else 0
        return float(self._kept**lag) if self._since >= lag else 0.0


def _same_scene(
    last: tuple[NDArray[np.int16], NDArray[np.float32]], now: tuple[NDArray[np.int16], NDArray[np.float32]]
) -> bool:
    if last[0].shape != now[0].shape or not np.array_equal(last[1], now[1]):
        return False
    return bool(np.abs(now[0] - last[0]).mean() <= CUT_LEVELS)
