"""How a live picture does: frames a second and latency, of late and over the whole run."""

from __future__ import annotations

from collections import deque

import numpy as np

_LATENCY_WINDOW = 5.0
"""Seconds that the current latency is taken over."""
_RATE_WINDOW = 2.0
"""Seconds that the current frames a second are counted over."""
_BIN_SECONDS = 0.0005
_BINS = 20_000
"""Ten seconds; longer latencies are counted in the last bin."""


class FrameStats:
    """Counts frames shown and their latency; the memory it takes does not grow. Times are in seconds."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()
        self._bins = np.zeros(_BINS, np.int64)
        self.shown = 0
        self.first: float | None = None
        self.last = 0.0
        self.longest = 0.0
        self._since = 0.0
        self._rested = 0.0
        self._is_resting = False

    def add(self, latency: float, now: float) -> None:
        """Count a frame that was taken ``latency`` ago and is on the screen ``now``."""
        if self.first is None:
            self.first = self._since = now
        elif self._is_resting:
            self._rested += now - self.last
            self._since = now
            self._recent.clear()
        self._is_resting = False
        self.last = now
        self.shown += 1
        self.longest = max(self.longest, latency)
        self._bins[min(_BINS - 1, max(0, int(latency / _BIN_SECONDS)))] += 1
        self._recent.append((now, latency))
        self._forget(now)

    def rest(self) -> None:
        """Count no time until the next frame."""
        self._is_resting = True

    def fps(self, now: float) -> float:
        """Frames a second, of late."""
        self._forget(now)
        # After a start the window is as long as there was time; a lone frame is no rate.
        span = min(_RATE_WINDOW, max(now - self._since, 0.0))
        count = sum(at > now - span for at, _ in self._recent)
        return count / span if span > 0.1 else 0.0

    def latency(self, now: float) -> tuple[float, float] | None:
        """Median and 99th percentile of late; None where nothing was shown of late."""
        self._forget(now)
        if not self._recent:
            return None
        median, late = np.percentile([latency for _, latency in self._recent], (50, 99))
        return float(median), float(late)

    def overall(self, percent: float) -> float:
        """That percentile of the latency of the whole run, exact to half a millisecond; 0 without a frame."""
        if self.shown == 0:
            return 0.0
        rank = np.searchsorted(np.cumsum(self._bins), percent / 100 * self.shown)
        return min(self.longest, (min(int(rank), _BINS - 1) + 0.5) * _BIN_SECONDS)

    @property
    def average_fps(self) -> float:
        """Frames a second from the first to the last frame."""
        seconds = 0.0 if self.first is None else self.last - self.first - self._rested
        return (self.shown - 1) / seconds if seconds > 0 else 0.0

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] <= now - _LATENCY_WINDOW:
            self._recent.popleft()
