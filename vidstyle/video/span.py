"""The stretch of the source's clock that goes into the output."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vidstyle.options import ClipOptions
from vidstyle.video.info import VideoInfo


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that was typed, so that 1.1 s means a frame at exactly 11/10 s."""
    return Fraction(repr(seconds))


@dataclass(frozen=True)
class Span:
    """Begin, end and shift, in seconds of the source's clock."""

    begin: Fraction | None
    """What is shown earlier is left out; None keeps everything from the first packet on."""
    end: Fraction | None
    """What is shown at that time or later is left out; None keeps everything to the last packet."""
    shift: Fraction
    """What is subtracted from every time: 0 unless the beginning is cut off or the clock is arbitrary."""

    @classmethod
    def of(cls, info: VideoInfo, clip: ClipOptions) -> Span:
        """The part of the video ``info`` that ``clip`` names; a clip counts from the file's start."""
        begin = info.start + exact_seconds(clip.start) if clip.start > 0 else None
        end = None if clip.end is None else info.start + exact_seconds(clip.end)
        # Whole ticks of the video's clock, so that its times stay exact.
        shift = begin if begin is not None else info.start if info.clock_is_arbitrary else Fraction(0)
        return cls(begin, end, shift // info.time_base * info.time_base)

    def holds(self, seconds: Fraction) -> bool:
        """Whether what is shown at ``seconds`` is inside."""
        return (self.begin is None or seconds >= self.begin) and (self.end is None or seconds < self.end)

    def is_over(self, seconds: Fraction) -> bool:
        """Whether ``seconds`` is behind the end."""
        return self.end is not None and seconds >= self.end
