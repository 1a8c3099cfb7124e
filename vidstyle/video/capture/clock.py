"""The times of live pictures and sound, on one clock: microseconds of `time.monotonic`."""

from __future__ import annotations

import time
from collections import deque
from fractions import Fraction

MICROSECOND = Fraction(1, 1_000_000)
_CREEP = 0.001
_JUMP = 500_000
_LEAP = 1.0  # seconds from one packet to the next that no stream needs: its clock has been set
_PATIENCE = 0.2  # seconds by which pictures may be late, and for which they may be, before some are left out
_RESTED = 0.1
_IDLE_SHARE = 0.05
LATE = 500_000
"""Microseconds by which a recording may be late before the rest is put off."""
_FAR = 10_000_000
"""Sound and picture of one moment arrive within less than this; broadcasts' clocks that leap further have jumped."""


def now() -> int:
    return time.monotonic_ns() // 1000


class ArrivalClock:
    """Times of a stream that somebody else sends at their pace.

    Its own times are kept as far apart as they are and laid against the earliest arrivals, so that what the way held up
    does not show as jitter. A sender whose clock is slower or faster is followed.
    """

    def __init__(self, *, synthetic: bool = False, monotonic: bool = False) -> None:
        """``synthetic``: the demuxer counts frames and knows no times. ``monotonic``: they are of our clock already."""
        self._synthetic, self._monotonic = synthetic, monotonic
        self._offset: float | None = None
        self._seconds: float | None = None
        self._last = 0

    def picture(self, seconds: float | None, *, waited: bool = True) -> int:
        """When the picture with time ``seconds`` that arrives now was taken; never in the future.

        Unless it was ``waited`` for, one that is late has been waiting here, and its clock has not been set.
        """
        here = now()
        if seconds is None or self._synthetic:
            if seconds is not None:
                self._offset = here - seconds * 1e6
            return here
        pts = seconds * 1e6
        if self._monotonic and 0 <= here - pts <= 1_000_000:
            self._offset = 0.0
            return round(pts)
        offset = here - pts
        leapt = self._seconds is None or not 0 <= seconds - self._seconds <= _LEAP
        self._seconds = seconds
        if self._offset is None or (abs(offset - self._offset) > _JUMP and (waited or leapt)):
            self._offset = offset
        else:
            # It rises a millisecond a second, should the sender's clock be slow, and drops to every earlier arrival.
            self._offset = min(self._offset + _CREEP * (here - self._last), offset)
        self._last = here
        return round(pts + self._offset)

    def sound(self, seconds: float) -> int | None:
        """When sound with time ``seconds`` was heard; None before there was a picture, and while the sender's clock has
        jumped for one of the two alone."""
        if self._offset is None:
            return None
        at = round(seconds * 1e6 + self._offset)
        return at if abs(at - now()) < _FAR else None


class Backlog:
    """Tells which packets of a live stream to leave undecoded, where they come faster than they are decoded.

    Left to itself the picture would fall behind for good: what is not yet read waits in the buffers of FFmpeg, of the
    system and of the sender. Times are seconds of any clock that goes forward.
    """

    def __init__(self) -> None:
        self._base: float | None = None
        self._last = self._at = 0.0
        self._since: float | None = None
        self._skipping = False
        self._rested = 0.0
        self._waits: deque[tuple[float, float]] = deque()

    def skips(self, seconds: float | None, now: float, waited: float, *, key: bool) -> bool:
        """Whether the next packet, read at ``now`` after ``waited`` seconds of waiting for it, is to be left out.

        ``seconds`` is its time, None where the stream has none. What follows a packet that is left out leans on it, up
        to the next ``key`` packet.
        """
        behind = self._is_untimed_behind(now, waited) if seconds is None else self._is_behind(seconds, now)
        if not behind:
            self._since = None
        elif self._since is None:
            self._since, self._rested = now, 0.0
        self._rested += waited
        if behind and self._rested > _RESTED:
            # There is nothing that waits to be read: it was the sender, or the way, that was late.
            self._base, self._since = None, None
            self._waits.clear()
            behind = False
        if behind and self._since is not None and now - self._since > _PATIENCE:
            self._skipping = True
        elif self._skipping and not behind and key:
            self._skipping = False
        return self._skipping

    def _is_behind(self, seconds: float, now: float) -> bool:
        late = now - seconds
        if self._base is None or not 0 <= seconds - self._last <= _LEAP:
            self._base = late  # its clock begins, or begins anew
        self._base = min(self._base + _CREEP * (now - self._at), late)
        self._last, self._at = seconds, now
        # Once it skips it catches up with all.
        return late - self._base > (_PATIENCE / 4 if self._skipping else _PATIENCE)

    def _is_untimed_behind(self, now: float, waited: float) -> bool:
        """Whether there was next to no wait of late: more is there than is decoded."""
        self._waits.append((now, waited))
        while self._waits[0][0] < now - 2 * _PATIENCE:
            self._waits.popleft()
        long_enough = now - self._waits[0][0] > _PATIENCE
        return long_enough and sum(wait for _, wait in self._waits) < _IDLE_SHARE * 2 * _PATIENCE


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
        if behind > LATE and self._zero is not None and self._end is not None:
            self._zero += behind
            self._end += behind
            return at + behind
        return at
