"""The work size at which the rate of a source is held, from a short measurement of the network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import count, takewhile

import numpy as np

from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.pipeline import overlapped
from vidstyle.stylizer import Stylizer

WORK_SIZE_STEP = 0.88
"""Each work size is about 12 % lower than the one above it: a fifth of the work."""
_FLOOR = 0.5  # the lowest height, as a part of the first: strokes of twice their size
_SECONDS = 0.4
"""How long is measured; longer where a frame takes longer."""
_USUAL_RATE = 25
"""Of a source that does not say its rate."""
_SHARE = 0.8
"""What the network gets of the machine; the rest is the decoder's and the encoder's."""


@dataclass(frozen=True)
class RealTime:
    """What a measurement found."""

    rate: float
    """Frames a second of the source."""
    whole: int
    """Rows of the largest work size."""
    whole_fps: float
    """Frames a second that can be painted at that size, beside decoder and encoder."""
    rows: int
    """Rows of the largest work size at which ``rate`` is held; the least one, if it is held at none."""

    @property
    def fps(self) -> float:
        """Frames a second to expect at ``rows``."""
        return self.whole_fps * (self.whole / self.rows) ** 2

    def __str__(self) -> str:
        if self.rows == self.whole and self.fps >= self.rate:
            return f"{self.rate:.4g} frames a second are held at all {self.rows} rows; {self.fps:.0f} are possible"
        slow = f"about {self.whole_fps:.0f} are possible at {self.whole}"
        if self.fps >= self.rate:
            return f"{self.rate:.4g} frames a second are held at {self.rows} rows; {slow}"
        return f"{self.rate:.4g} frames a second cannot be held: about {self.fps:.0f} at {self.rows} rows; {slow}"


def measure_rate(stylizer: Stylizer, form: FrameFormat, rate: float | Fraction | None) -> RealTime:
    """Paint frames of ``form`` for half a second, and find the rows at which ``rate`` frames a second are held.

    Never more rows than ``stylizer`` has by itself. A style out of an engine file for one size keeps that size.
    """
    rate, engine = float(rate or _USUAL_RATE), stylizer.engine
    whole = stylizer.work_size(form)[0]
    fps = _SHARE * _measured_fps(stylizer, form)
    fixed = engine is not None and not engine.card.dynamic
    heights = (whole,) if fixed else work_size_ladder(whole, 16 if engine is None else engine.card.smallest[0])
    held = (rows for rows in heights if fps * (whole / rows) ** 2 >= rate)
    return RealTime(rate, whole, fps, next(held, heights[-1]))


def work_size_ladder(start: int, least: int = 16) -> tuple[int, ...]:
    """Work sizes in rows from ``start`` down to half of it, or ``least``, each with a fifth less work."""
    floor = math.ceil(max(least, start * _FLOOR) / 4) * 4
    heights, height = [start], start * WORK_SIZE_STEP
    while height > floor * 1.05:  # two heights that are nearly the same are one too many
        heights.append(round(height / 4) * 4)
        height *= WORK_SIZE_STEP
    kept = [start]
    for height in (*heights[1:], floor):
        if floor <= height < kept[-1]:
            kept.append(int(height))
    return tuple(kept)


def frames_per_second(submit: Callable[[], Callable[[], Planes]], in_flight: int, seconds: float) -> float:
    """Frames painted in a second: ``submit`` is called for ``seconds``, with ``in_flight`` frames under way at once.

    Every submitted frame is counted; there are ``2 * in_flight - 1`` at least, however short the time.
    """
    began = time.perf_counter()
    going = takewhile(lambda n: n < 2 * in_flight - 1 or time.perf_counter() - began < seconds, count())
    done = sum(1 for _ in overlapped((submit() for _ in going), in_flight))
    return done / (time.perf_counter() - began)


def _measured_fps(stylizer: Stylizer, form: FrameFormat) -> float:
    planes = tuple(np.full(shape, 128, np.uint8) for shape in form.plane_shapes)
    most = stylizer.frames_in_flight(stylizer.open(form))
    task = stylizer.prepare(Frame(planes, form, 0, Fraction(1, 1000)))
    stylizer.submit(task)()  # the first frame finds the caches empty
    return frames_per_second(partial(stylizer.submit, task), most, _SECONDS)
