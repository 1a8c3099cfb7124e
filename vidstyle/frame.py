"""A video frame as vidstyle passes it on: 8-bit planes, what they mean, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.options import MAX_SIDE, Matrix, Pixels

__all__ = ["Frame", "FrameForm", "Matrix", "Pixels", "Planes"]

Planes: TypeAlias = tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, kw_only=True)
class FrameForm:
    """Size and meaning of a frame's planes. Hashable: one compiled graph serves one form."""

    height: int
    """Luma rows."""
    width: int
    """Luma columns."""
    pixels: Pixels = "rgb"
    """Layout of the planes, see `plane_shapes`."""
    matrix: Matrix = "bt709"
    """YCbCr matrix; without meaning for rgb."""
    full_range: bool = False
    """Luma and chroma use 0-255 (True) or 16-235 and 16-240 (False); without meaning for rgb."""

    def __post_init__(self) -> None:
        for what, side in (("height", self.height), ("width", self.width)):
            if not 1 <= side <= MAX_SIDE:
                raise BadOption(f"frame {what} is {side}; it must lie between 1 and {MAX_SIDE} pixels")

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in luma pixels."""
        return self.height, self.width

    @property
    def chroma_size(self) -> tuple[int, int]:
        """``(height, width)`` of the 4:2:0 chroma planes, rounded up."""
        return -(-self.height // 2), -(-self.width // 2)

    @property
    def plane_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the uint8 planes, in order.

        rgb: one interleaved plane (H, W, 3). i420: Y (H, W), then U and V (ceil(H/2), ceil(W/2)).
        nv12: Y (H, W), then interleaved UV (ceil(H/2), ceil(W/2), 2).
        """
        if self.pixels == "rgb":
            return ((*self.size, 3),)
        if self.pixels == "i420":
            return (self.size, self.chroma_size, self.chroma_size)
        return (self.size, (*self.chroma_size, 2))

    def resized(self, size: tuple[int, int]) -> FrameForm:
        """The same form at another ``(height, width)``."""
        return replace(self, height=size[0], width=size[1])


@dataclass(frozen=True)
class Frame:
    """One picture and the time at which it is shown."""

    planes: Planes
    """uint8 arrays of the shapes that ``form.plane_shapes`` says. Rows may be padded (strided)."""
    form: FrameForm
    """What the planes mean."""
    pts: int
    """Presentation time in units of ``time_base``; never recomputed from a frame rate."""
    time_base: Fraction
    """Seconds in one unit of ``pts``."""
    duration: int = 0
    """How long it is shown, in units of ``time_base``; 0 where the source does not say."""
    beside: object | None = field(default=None, compare=False, repr=False)
    """What the source has beside the pixels (closed captions), for the sink alone."""

    @property
    def seconds(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    def with_planes(self, planes: Planes, form: FrameForm | None = None) -> Frame:
        """The same moment with other pixels (and another form, if one is given)."""
        return replace(self, planes=planes, form=form or self.form)
