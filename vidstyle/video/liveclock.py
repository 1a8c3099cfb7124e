"""The times of live pictures and sound, on one clock: microseconds of `time.monotonic`."""

from __future__ import annotations

import time
from fractions import Fraction

MICROSECOND = Fraction(1, 1_000_000)
"""Time base of the capture clock."""
_CREEP = 0.001
_JUMP = 500_000
_LATE = 500_000
_FAR = 10_000_000
"""Sound and picture of one moment arrive within less than this; broadcasts' clocks that leap further have jumped."""


def now() -> int:
    """The capture clock, in microseconds."""
    return time.monotonic_ns() // 1000


class ArrivalClock:
    """Times of a stream that somebody else sends at their pace.

    Its own times are kept as far apart as they are and laid against the earliest arrivals, so that what
    the way held up does not show as jitter. A sender whose clock is slower or faster is followed.
    """

    def __init__(self, *, invented: bool = False, ours: bool = False) -> None:
        """``invented``: the demuxer counts frames and knows no times. ``ours``: they are of our clock already."""
        self._invented = invented
        self._ours = ours
        self._offset: float | None = None
        self._last = 0

    def picture(self, seconds: float | None) -> int:
        """When the picture with time ``seconds`` that arrives now was taken; never in the future."""
        here = now()
        if seconds is None or self._invented:
            if seconds is not None:
                self._offset = here - seconds * 1e6
            return here
        pts = seconds * 1e6
        if self._ours and 0 <= here - pts <= 1_000_000:
            self._offset = 0.0
            return round(pts)
        offset = here - pts
        if self._offset is None or abs(offset - self._offset) > _JUMP:
            self._offset = offset
        else:
            # It rises a millisecond a second, should the sender's clock be slow, and drops to every earlier arrival.
            self._offset = min(self._offset + _CREEP * (here - self._last), offset)
        self._last = here
        return round(pts + self._offset)

    def sound(self, seconds: float) -> int | None:
        """When sound with time ``seconds`` was heard; None before there was a picture, and while the sender's
        clock has jumped for one of the two alone."""
        if self._offset is None:
            return None
        at = round(seconds * 1e6 + self._offset)
        return at if abs(at - now()) < _FAR else None


class PlayClock:
    """Times of a recording that is played at its own pace, again and again."""

    def __init__(self) -> None:
        self._zero: float | None = None
        self._end: float | None = None
        self._may_jump = False

    @property
    def end(self) -> int:
        """When all that was timed so far is over."""
        return now() if self._end is None else round(self._end)

    def begin(self, seconds: float, *, may_jump: bool = False) -> None:
        """The recording starts (again) at its time ``seconds``: now, or when the last pass is over.

        ``may_jump``: a leap of its clock is no pause, as the recording may be joined of several.
        """
        self._zero = self.end - seconds * 1e6
        self._may_jump = may_jump

    def due(self, seconds: float, length: float) -> int:
        """When what has time ``seconds`` and lasts ``length`` seconds is to be shown or heard."""
        if self._zero is None:
            self.begin(seconds)
        at = (self._zero or 0.0) + seconds * 1e6
        if self._may_jump and self._end is not None and self._zero is not None and at - self._end > _FAR:
            self._zero -= at - self._end
            at = self._end
        self._end = max(self._end or at, at + length * 1e6)
        return round(at)

    def late(self, at: int) -> int:
        """``at``, unless that is long past: then the rest is put off, as this machine does not keep up."""
        behind = now() - at
        if behind > _LATE and self._zero is not None and self._end is not None:
            self._zero += behind
            self._end += behind
            return at + behind
        return at
