"""The beat: tempo and phase from beats, taps or MIDI clock, and changes that wait for the next beat or bar.

Pure logic: times, in seconds of one clock that goes forward, are given to it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")

Quantize = Literal["beat", "bar"]
MidiKind = Literal["clock", "start", "continue", "stop", "songpos"]
BEATS_PER_BAR = 4
TICKS_PER_BEAT, TICKS_PER_POSITION = 24, 6
"""Of MIDI: clocks in a quarter note, and in a unit of the song position."""
MIN_PERIOD, MAX_PERIOD = 0.2, 3.0
"""Seconds of a beat: 300 to 20 a minute. What comes sooner is no beat of its own, and what comes later begins anew."""
_TAP_SECONDS = 2.0
"""After such a pause a tap is the first beat of a bar."""
_BEATS_KEPT = 5
"""The tempo is taken over so many beats: it is steady on a network that is not, and follows within a bar."""
_JUMP = 0.15
"""A beat that differs by more from the tempo is another tempo, not a beat that came late."""
_TICKS_KEPT = 2 * TICKS_PER_BEAT + 1
_MIN_TICKS = 7
"""A quarter of a beat."""
_MAX_TICK = MAX_PERIOD / TICKS_PER_BEAT
_MAX_WAITING = 64


class Tempo:
    """Tells where in the music a moment is. Whoever told the beat last is believed. Safe on any thread.

    Between beats, and when no more come, it goes on at the last tempo.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._period: float | None = None
        self._origin, self._count = 0.0, 0.0  # a time, and the beats that had passed by then
        self._beats: deque[float] = deque(maxlen=_BEATS_KEPT)
        self._ticks: deque[float] = deque(maxlen=_TICKS_KEPT)
        self._tick = -1
        self._stopped = False

    @property
    def bpm(self) -> float | None:
        """Beats a minute; None while that is not known."""
        with self._lock:
            return None if self._period is None else 60 / self._period

    def position(self, now: float) -> float | None:
        """Beats since some first beat of a bar; None while the tempo is not known, or a sequencer has stopped."""
        with self._lock:
            return self._position(now)

    def beat(self, now: float, number: int | None = None) -> None:
        """A beat is now; of the bar it is ``number``, from 1, where that is known."""
        with self._lock:
            gap = now - self._beats[-1] if self._beats else math.inf
            if gap < MIN_PERIOD:
                return
            if gap > MAX_PERIOD:
                self._beats.clear()
            elif self._period is not None and abs(gap / self._period - 1) > _JUMP:
                self._beats = deque([self._beats[-1]], _BEATS_KEPT)
            position = self._position(now)
            count = 0 if position is None else round(position)  # the same one may not begin twice
            count = max(count, math.floor(self._count) + 1) if self._beats else count
            if number is not None:
                count += (number - 1 - count) % BEATS_PER_BAR
            self._beats.append(now)
            if len(self._beats) > 1:
                self._period = (now - self._beats[0]) / (len(self._beats) - 1)
            self._origin, self._count, self._stopped = now, count, False

    def tap(self, now: float) -> None:
        """Somebody has tapped the beat; the first tap after a pause is the first beat of a bar."""
        with self._lock:
            is_first = not self._beats or now - self._beats[-1] > _TAP_SECONDS
        self.beat(now, 1 if is_first else None)

    def midi(self, kind: MidiKind, now: float, position: int = 0) -> None:
        """A MIDI message has come; ``position`` is that of a ``songpos``, in sixteenths."""
        with self._lock:
            if kind == "clock":
                self._on_tick(now)
            elif kind == "songpos":
                self._tick = TICKS_PER_POSITION * position - 1
            else:
                self._stopped = kind == "stop"
                if kind == "start":
                    self._tick = -1  # the clock that follows is the first beat

    def _on_tick(self, now: float) -> None:
        if self._ticks and now - self._ticks[-1] > _MAX_TICK:
            self._ticks.clear()
        self._ticks.append(now)
        if not self._stopped:  # some send clocks all the time, so that others know the tempo
            self._tick += 1
            self._origin, self._count = now, self._tick / TICKS_PER_BEAT
        if len(self._ticks) >= _MIN_TICKS:
            span = now - self._ticks[0]
            self._period = min(MAX_PERIOD, max(MIN_PERIOD, TICKS_PER_BEAT * span / (len(self._ticks) - 1)))

    def _position(self, now: float) -> float | None:
        if self._period is None or self._stopped:
            return None
        return self._count + (now - self._origin) / self._period


def pulsed(strength: float, position: float | None, depth: float) -> float:
    """``strength`` on the beat; between two it sinks softly by the share ``depth``. Without a position it stays."""
    if position is None or depth == 0:
        return strength
    return strength * (1 - depth * (1 - math.cos(2 * math.pi * position)) / 2)


class _Waiting(NamedTuple, Generic[T]):
    item: T
    asked: float
    until: float
    """Positions, in beats."""


class Quantizer(Generic[T]):
    """Holds changes back until the next beat or bar. Use it from one thread."""

    def __init__(self, tempo: Tempo, unit: Quantize | None) -> None:
        """Without a ``unit`` nothing waits."""
        self._tempo = tempo
        self.unit = unit
        self._beats = BEATS_PER_BAR if unit == "bar" else 1
        self._waiting: dict[object, _Waiting[T]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, slot: object, item: T, now: float) -> bool:
        """Whether ``item`` waits, in the place of what waits in the same ``slot``.

        Nothing waits where there is no tempo, or where too much waits already.
        """
        position = self._tempo.position(now)
        if self.unit is None or position is None:
            return False
        self._waiting.pop(slot, None)  # what comes later is done later
        if len(self._waiting) >= _MAX_WAITING:
            return False
        until = self._beats * (math.floor(position / self._beats) + 1)
        self._waiting[slot] = _Waiting(item, position, until)
        return True

    def due(self, now: float) -> list[T]:
        """What has waited long enough, in the order in which it came."""
        if not self._waiting:
            return []
        position = self._tempo.position(now)
        # A sequencer that was started again is before the moment of the request: there is nothing to wait for.
        slots = [
            slot
            for slot, one in self._waiting.items()
            if position is None or position >= one.until or position < one.asked - self._beats
        ]
        return [self._waiting.pop(slot).item for slot in slots]
