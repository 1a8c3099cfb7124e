"""Frames of any form made into frames of one, and pictures of one shape fitted into another."""

from __future__ import annotations

from typing import Literal, TypeAlias

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.video.pixels import plane_view

_FORMATS = {"rgb": "rgb24", "i420": "yuv420p", "nv12": "nv12"}
_SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_SAME_SHAPE = 0.02
"""Pictures whose shapes differ by less fill the frame: nobody sees that, and encoders round sizes."""

Place: TypeAlias = tuple[slice, slice]
"""Rows and columns of luma in which a picture lies; they begin at even ones."""


def place_in(size: tuple[int, int], bounds: tuple[int, int]) -> Place | None:
    """Where a picture of ``size`` lies in a frame of ``bounds``, both (height, width): as large as fits, in the middle.

    None where it fills the frame.
    """
    if abs(size[0] * bounds[1] / (size[1] * bounds[0]) - 1) < _SAME_SHAPE:
        return None
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    fitted = [
        most if round(side * scale) >= most else max(2, round(side * scale / 2) * 2)
        for side, most in zip(size, bounds, strict=True)
    ]
    begin = [(most - side) // 4 * 2 for side, most in zip(fitted, bounds, strict=True)]
    rows, columns = (slice(at, at + side) for at, side in zip(begin, fitted, strict=True))
    return rows, columns


def size_of(place: Place) -> tuple[int, int]:
    """``(height, width)`` of a place."""
    return place[0].stop - place[0].start, place[1].stop - place[1].start


def cut_out(planes: Planes, place: Place) -> Planes:
    """Views of what lies at ``place``."""
    parts = [place, *[(_halved(place[0]), _halved(place[1]))] * (len(planes) - 1)]
    return tuple(plane[part] for plane, part in zip(planes, parts, strict=True))


def put_in(planes: Planes, place: Place, form: FrameFormat, around: Literal["black", "mirrored"] = "black") -> Planes:
    """A picture of ``form`` with ``planes`` at ``place``, in black or in the mirror image of itself."""
    dark = 0 if form.pixels == "rgb" or form.full_range else 16
    result = []
    for index, (plane, shape) in enumerate(zip(planes, form.plane_shapes, strict=True)):
        rows, columns = place if index == 0 else (_halved(place[0]), _halved(place[1]))
        made = cv2.copyMakeBorder(
            plane,
            rows.start,
            shape[0] - rows.stop,
            columns.start,
            shape[1] - columns.stop,
            cv2.BORDER_REFLECT if around == "mirrored" else cv2.BORDER_CONSTANT,
            value=[dark] * 3 if index == 0 else [128, 128],
        )
        result.append(np.asarray(made, np.uint8).reshape(shape))
    return tuple(result)


def _halved(part: slice) -> slice:
    return slice(part.start // 2, -(-part.stop // 2))


class Conformer:
    """Converts size, layout, matrix and range. One conformer serves one thread."""

    def __init__(self, form: FrameFormat) -> None:
        """``form`` is what every frame becomes."""
        self.form = form
        """Of the frames that come out."""
        self._reformatter = VideoReformatter()

    def conform(self, frame: Frame) -> Frame:
        """``frame`` itself where it has the form, else one with new planes: `place_in` says where, on black."""
        given, wanted = frame.form, self.form
        place = place_in(given.size, wanted.size)
        if place is None:
            planes = self._converted(frame, wanted)
            return frame if planes is frame.planes else frame.with_planes(planes, wanted)
        return frame.with_planes(put_in(self._converted(frame, wanted.resized(size_of(place))), place, wanted), wanted)

    def _converted(self, frame: Frame, wanted: FrameFormat) -> Planes:
        given = frame.form
        if given == wanted or (given.pixels == wanted.pixels == "rgb" and given.size == wanted.size):
            return frame.planes
        source = VideoFrame(given.width, given.height, _FORMATS[given.pixels])
        for plane, target, shape in zip(frame.planes, source.planes, given.plane_shapes, strict=True):
            np.copyto(plane_view(target, shape), plane)
        made = self._reformatter.reformat(
            source,
            wanted.width,
            wanted.height,
            _FORMATS[wanted.pixels],
            src_colorspace=_matrix(given),
            dst_colorspace=_matrix(wanted),
            src_color_range=_range(given),
            dst_color_range=_range(wanted),
            interpolation=_SCALER,
            threads=1,
        )
        return tuple(plane_view(plane, shape) for plane, shape in zip(made.planes, wanted.plane_shapes, strict=True))


def _matrix(form: FrameFormat) -> Colorspace | None:
    if form.pixels == "rgb":
        return None
    return Colorspace.ITU709 if form.matrix == "bt709" else Colorspace.ITU601


def _range(form: FrameFormat) -> ColorRange:
    return ColorRange.JPEG if form.pixels == "rgb" or form.full_range else ColorRange.MPEG
