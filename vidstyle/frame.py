"""A video frame as vidstyle passes it on: 8-bit planes, what they mean, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vidstyle._renamed import renamed_attribute
from vidstyle.errors import BadOption
from vidstyle.options import MAX_SIDE, check_choice, check_kind, check_whole
from vidstyle.options import Matrix as Matrix
from vidstyle.options import Pixels as Pixels

Planes: TypeAlias = tuple[NDArray[np.uint8], ...]
_U8 = np.dtype(np.uint8)


def as_rgb(picture: object, what: str = "picture") -> NDArray[np.uint8]:
    """``picture`` as a uint8 RGB array of shape (height, width, 3), any strides, without a copy where it is one.

    What NumPy takes for such an array, as a PIL image or a torch tensor in main memory, is one. Raises `BadOption`,
    which calls it ``what`` and says how to make one of the usual others.
    """
    hint = ""
    if isinstance(picture, str | bytes | PathLike):
        found, hint = (repr(str(picture)), "read it with vidstyle.imaging.image_io.read_still(Path(...)).rgb")
    else:
        try:
            array = np.asarray(picture)
        except Exception as error:  # each library has its own for what is not in main memory, or no rectangle
            raise BadOption(f"{what} is a {type(picture).__name__} that is no array: {error}; {_WANTED}") from error
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            return array
        found = f"{array.dtype} of shape {array.shape}"
        if array.dtype.kind not in "uifb":
            found, hint = f"a {type(picture).__name__}", ""
        elif array.ndim == 4:
            hint = "give one picture after the other"
        elif array.ndim == 2 or array.shape[-1:] == (1,):
            hint = "make color of gray with np.repeat(gray.reshape(*gray.shape[:2], 1), 3, axis=2)"
        elif array.shape[-1:] == (4,):
            hint = "leave out alpha with rgba[..., :3]"
        elif array.ndim == 3 and array.shape[0] == 3 != array.shape[2]:
            hint = "bring its channels to the end with chw.transpose(1, 2, 0)"
        elif array.ndim != 3:
            hint = ""
        elif array.dtype.kind == "f":
            hint = "where it holds 0 to 1, give (rgb * 255).round().astype(np.uint8)"
        elif array.dtype != np.uint8:
            hint = "give levels of 0 to 255 with .astype(np.uint8)"
    raise BadOption(f"{what} is {found}; {_WANTED}{f': {hint}' if hint else ''}")


_WANTED = "it must be a uint8 RGB array of shape (height, width, 3)"


@dataclass(frozen=True, kw_only=True)
class FrameFormat:
    """Size and meaning of a frame's planes. Hashable: one compiled graph serves one form."""

    height: int
    width: int
    pixels: Pixels = "rgb"
    """Layout of the planes, see `plane_shapes`."""
    matrix: Matrix = "bt709"
    """YCbCr matrix; without meaning for rgb."""
    full_range: bool = False
    """Luma and chroma use 0-255 (True) or 16-235 and 16-240 (False); without meaning for rgb."""

    def __post_init__(self) -> None:
        for what, side in (("height", self.height), ("width", self.width)):
            check_whole(f"frame {what}", side, 1, MAX_SIDE)
        check_choice("pixels", self.pixels, get_args(Pixels))
        check_choice("matrix", self.matrix, get_args(Matrix))

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

    def resized(self, size: tuple[int, int]) -> FrameFormat:
        """The same form at another ``(height, width)``."""
        return replace(self, height=size[0], width=size[1])


@dataclass(frozen=True)
class Frame:
    """One picture and the time at which it is shown."""

    planes: Planes
    """uint8 arrays of the shapes that ``form.plane_shapes`` says. Rows may be padded (strided)."""
    form: FrameFormat
    pts: int
    """Presentation time in units of ``time_base``; never recomputed from a frame rate."""
    time_base: Fraction
    """Seconds in one unit of ``pts``."""
    duration: int = 0
    """How long it is shown, in units of ``time_base``; 0 where the source does not say."""
    beside: object | None = field(default=None, compare=False, repr=False)
    """What the source has beside the pixels (closed captions), for the sink alone."""

    def __post_init__(self) -> None:
        check_kind("form", self.form, FrameFormat, needed=True)
        if isinstance(self.planes, list):
            object.__setattr__(self, "planes", tuple(self.planes))
        try:
            found = [(plane.dtype, tuple(plane.shape)) for plane in self.planes]
        except (AttributeError, TypeError):
            kinds = [type(plane).__name__ for plane in self.planes] if isinstance(self.planes, tuple | list) else []
            given = ", ".join(kinds) or f"a {type(self.planes).__name__}"
        else:
            if found == [(_U8, shape) for shape in self.form.plane_shapes]:
                return
            given = ", ".join(f"{dtype} of shape {shape}" for dtype, shape in found[:4]) or "none"
        form = self.form
        raise BadOption(
            f"planes of the frame are {given}; a {form.pixels} frame of {form.width}x{form.height} has a tuple of "
            f"uint8 arrays of the shapes {', '.join(map(str, form.plane_shapes))}"
        )

    @property
    def seconds(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    def with_planes(self, planes: Planes, form: FrameFormat | None = None) -> Frame:
        """The same moment with other pixels (and another form, if one is given)."""
        return replace(self, planes=planes, form=form or self.form)


# YCbCr and RGB as 3x3 matrices (ITU-R BT.601-7 and BT.709-6, 8 bit) on the 0-255 scale, so that they can be folded
# into the first and the last convolution of a graph that takes and returns 8-bit pixels.
_LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def yuv_from_rgb(matrix: Matrix, full_range: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(m, offset)`` such that ``yuv = m @ rgb + offset``; m is 3x3, everything on the 0-255 scale."""
    kr, kb = _LUMA_WEIGHTS[matrix]
    kg = 1.0 - kr - kb
    luma = np.array([kr, kg, kb])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - kb))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - kr))
    m = np.stack([luma, cb, cr])
    if full_range:
        return m, np.array([0.0, 128.0, 128.0])
    scale = np.array([219.0, 224.0, 224.0]) / 255.0
    return m * scale[:, None], np.array([16.0, 128.0, 128.0])


def rgb_from_yuv(matrix: Matrix, full_range: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(m, offset)`` such that ``rgb = m @ yuv + offset``: the inverse of `yuv_from_rgb`."""
    forward, offset = yuv_from_rgb(matrix, full_range)
    inverse = np.linalg.inv(forward).astype(np.float64)
    return inverse, -inverse @ offset


def untagged_matrix(height: int) -> Matrix:
    """The YCbCr matrix that players take for a picture of ``height`` rows that names none."""
    return "bt709" if height >= 720 else "bt601"


if not TYPE_CHECKING:  # which would take every name for one of this module

    def __getattr__(name: str) -> object:
        return renamed_attribute(__name__, name)
