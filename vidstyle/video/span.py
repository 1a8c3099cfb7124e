"""The stretch of the source's clock that goes into the output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from vidstyle.options import ClipOptions
from vidstyle.video.info import VideoInfo

GLIMPSE_SECONDS = Fraction(1, 20)
"""A picture is not shown for less than this at the start of a clip."""


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that was typed, so that 1.1 s means a frame at exactly 11/10 s."""
    return Fraction(repr(seconds))


@dataclass(frozen=True)
class Span:
    """Begin, end and shift, in seconds of the source's clock.

    Whatever is shown or heard for a while is inside if any of that while is.
    """

    begin: Fraction | None
    """What has ended by then is left out; None keeps everything from the first packet on."""
    end: Fraction | None
    """What begins at that time or later is left out; None keeps everything to the last packet."""
    shift: Fraction
    """What is subtracted from every time, so that the output starts at 0."""

    @classmethod
    def of(cls, info: VideoInfo, clip: ClipOptions) -> Span:
        """The part of the video ``info`` that ``clip`` names; a clip counts from the file's start."""
        # Whole ticks of the video's clock, so that its times stay exact.
        shift = (info.start + exact_seconds(clip.start)) // info.time_base * info.time_base
        end = None if clip.end is None else info.start + exact_seconds(clip.end)
        return cls(shift if clip.start > 0 else None, end, shift)

    def pictures_before(self, start: Fraction, rate: Fraction) -> int:
        """How many pictures, evenly spaced from ``start`` on, are left out before the first that is shown."""
        if self.begin is None:
            return 0
        place = (self.begin - start) * rate
        next_one = math.ceil(place)
        return next_one if next_one - place < GLIMPSE_SECONDS * rate else math.floor(place)

    def holds(self, seconds: Fraction) -> bool:
        """Whether ``seconds`` is inside."""
        return (self.begin is None or seconds >= self.begin) and (self.end is None or seconds < self.end)

    def cut(self, begin: Fraction, end: Fraction) -> tuple[Fraction, Fraction] | None:
        """The part of what lasts from ``begin`` to ``end`` that is inside, if any."""
        inside = (
            begin if self.begin is None else max(begin, self.begin),
            end if self.end is None else min(end, self.end),
        )
        return inside if inside[0] < inside[1] else None

    def is_over(self, seconds: Fraction) -> bool:
        """Whether ``seconds`` is behind the end."""
        return self.end is not None and seconds >= self.end
