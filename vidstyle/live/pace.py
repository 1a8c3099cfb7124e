"""Which work size holds the frame rate that was asked for."""

from __future__ import annotations

import math

from vidstyle.options import check_between

_STEP = 0.88
"""Each height is about 12 % lower than the one above it: a fifth of the work."""
_FLOOR = 0.5
"""The lowest height, as a part of the first: strokes of twice their size."""
_PERIOD = 1.0
"""Seconds over which is measured before anything is decided."""
_SETTLE = 0.5
"""Seconds after a change that count for nothing."""
_SLACK = 0.97
"""What counts as holding a frame rate: nobody sees one frame in thirty."""
_ROOM = 1.15
"""How much more than needed the next height up must promise."""
_QUIET = 4.0
"""Seconds for which it must promise that."""
_MOST_QUIET = 120.0
_REGRET = 10.0
"""A step up that is taken back within this time was a mistake: the next one waits twice as long."""


class Pace:
    """Chooses the work size, a height in rows, from how busy the machine was.

    Strokes have a fixed size in the pixels that the network sees, so that a smaller work size means
    larger strokes on the screen, and no choice of sizes changes that. Small steps, and a floor of half
    of the first height, are what keeps them as steady as can be. It steps down when a second was too
    slow, and up only after several seconds in which the next height would have been fast enough.

    Pure logic: times, in seconds, are given to it.
    """

    def __init__(self, target_fps: float, start: int, *, least: int = 16) -> None:
        """Hold ``target_fps`` beginning, and at best, with ``start`` rows; never go below ``least`` rows."""
        check_between("target fps", target_fps, 1, 240)
        check_between("first work size", start, 16, 1 << 16)
        self._target = target_fps
        self.heights = _ladder(start, max(least, 16))
        """The heights to choose from, the largest first; all but the first are multiples of 4."""
        self._at = 0
        self._wanted: int | None = None
        self._fixed_until = 0.0
        self._quiet_since: float | None = None
        self._quiet = _QUIET
        self._went_up = float("-inf")
        self._clear(None)

    @property
    def height(self) -> int:
        """The work size in use."""
        return self.heights[self._at]

    def note(self, now: float, *, shown: int, arrived: int, busy: float) -> int | None:
        """Another moment has passed; returns the height to change to, or None.

        Since the last call ``shown`` frames were shown and ``arrived`` came from the source, and the
        machine was ``busy`` for so many seconds with frames at hand. Having returned a height it waits
        for `switched` or `refused`.
        """
        if self._wanted is not None or now < self._fixed_until:
            self._clear(None)
            return None
        if self._began is None:
            self._clear(now)
            return None
        self._shown += shown
        self._arrived += arrived
        self._busy += busy
        seconds = now - self._began
        if seconds < _PERIOD:
            return None
        index = self._decided(now, seconds)
        self._clear(now)
        if index == self._at:
            return None
        self._wanted = index
        return self.heights[index]

    def switched(self, now: float) -> None:
        """The height that `note` returned is in use from now on."""
        assert self._wanted is not None
        if self._wanted > self._at:
            if now - self._went_up < _REGRET:
                self._quiet = min(_MOST_QUIET, 2 * self._quiet)
        else:
            self._went_up = now
        self._at, self._wanted = self._wanted, None
        self._fixed_until = now + _SETTLE
        self._quiet_since = None

    def refused(self) -> None:
        """The height that `note` returned cannot be had; neither it nor any lower one is asked for again."""
        assert self._wanted is not None
        self.heights = self.heights[: max(self._wanted, self._at + 1)]
        self._wanted = None

    def _decided(self, now: float, seconds: float) -> int:
        if self._shown == 0 or self._arrived == 0:
            self._quiet_since = None  # no source: nothing to learn
            return self._at
        # A slow source is no reason to paint less.
        target = min(self._target, self._arrived / seconds)
        able = self._shown / min(max(self._busy, 1e-6), seconds)  # frames a second, if they came without end
        if max(able, self._shown / seconds) < target * _SLACK:
            self._quiet_since = None
            far = able < target * _STEP**2
            return min(self._at + (2 if far else 1), len(self.heights) - 1)
        up = max(self._at - 1, 0)
        ratio = (self.heights[up] / self.heights[self._at]) ** 2
        if up == self._at or able / ratio < target * _ROOM:
            self._quiet_since = None
            return self._at
        if self._quiet_since is None:
            self._quiet_since = now - seconds
        return up if now - self._quiet_since >= self._quiet else self._at

    def _clear(self, began: float | None) -> None:
        self._began = began
        self._shown = self._arrived = 0
        self._busy = 0.0


def _ladder(start: int, least: int) -> tuple[int, ...]:
    floor = math.ceil(max(least, start * _FLOOR) / 4) * 4
    heights, height = [start], start * _STEP
    while height > floor * 1.05:  # two heights that are nearly the same are one too many
        heights.append(round(height / 4) * 4)
        height *= _STEP
    kept = [start]
    for height in (*heights[1:], floor):
        if floor <= height < kept[-1]:
            kept.append(int(height))
    return tuple(kept)
