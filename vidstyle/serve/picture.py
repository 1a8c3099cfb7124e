"""Pictures on their way in and out: scaled to what is painted, mirrored, split."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.imaging import resample
from vidstyle.video.capture.clock import MICROSECOND
from vidstyle.video.convert import FrameConverter, plane_view
from vidstyle.video.formats import UNSPECIFIED, MatrixCode, Range

Picture: TypeAlias = VideoFrame | Frame
"""As a browser's camera or as the server's own source gives it."""

_STEP = 4
"""Sides are multiples of it, which the network needs anyway: fewer sizes are compiled, and none is padded."""
_SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_NATIVE_MATRICES = (UNSPECIFIED, MatrixCode.BT470BG, MatrixCode.SMPTE170M)


def size_of(picture: Picture) -> tuple[int, int]:
    """``(height, width)``."""
    return picture.form.size if isinstance(picture, Frame) else (picture.height, picture.width)


def form_for(size: tuple[int, int], most: tuple[int, int]) -> FrameFormat:
    """The form in which a picture of ``size`` is painted: I420 in BT.601, as browsers have it.

    Its size fits into ``most``, both ``(height, width)``; upright it fits into ``most`` turned upright.
    """
    if size[0] > size[1] and most[0] < most[1]:
        most = most[1], most[0]
    scale = min(1.0, most[0] / size[0], most[1] / size[1])
    height, width = (
        max(4 * _STEP, min(round(side * scale / _STEP), bound // _STEP) * _STEP)
        for side, bound in zip(size, most, strict=True)
    )
    return FrameFormat(height=height, width=width, pixels="i420", matrix="bt601")


class Intake:
    """Makes frames of pictures. One intake serves one thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._conformer: FrameConverter | None = None

    def frame(self, picture: Picture, form: FrameFormat, came: int) -> Frame:
        """``picture`` in ``form``; ``came``, in microseconds of `time.monotonic`, is its time.

        Where it needs no change its planes are those of the decoder: not to be written to.
        """
        if isinstance(picture, Frame):
            if picture.form.resized(form.size) == form:
                return picture.with_planes(resample.resize(picture.planes, picture.form, form.size), form)
            if self._conformer is None or self._conformer.form != form:
                self._conformer = FrameConverter(form)
            return self._conformer.convert(picture)
        native = picture.colorspace in _NATIVE_MATRICES and picture.color_range != Range.FULL
        if picture.format.name != "yuv420p" or not native:
            picture = self._reformatter.reformat(
                picture,
                form.width,
                form.height,
                "yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=_SCALER,
                threads=1,
            )
        given = form.resized((picture.height, picture.width))
        planes = tuple(
            plane_view(plane, shape) for plane, shape in zip(picture.planes, given.plane_shapes, strict=True)
        )
        return Frame(resample.resize(planes, given, form.size), form, came, MICROSECOND)


def finished(painted: Planes, source: Planes, form: FrameFormat, *, split: bool, mirror: bool) -> VideoFrame:
    """A frame for the encoder with the picture that the visitor sees: one copy of each plane.

    ``painted`` and ``source`` are of ``form``, which is I420. Split, the source is on the left of the
    screen and the painting on the right, mirrored or not, with a white line between them.
    """
    made = VideoFrame(form.width, form.height, "yuv420p")
    middle = form.width // 4
    for index, (plane, shape) in enumerate(zip(made.planes, form.plane_shapes, strict=True)):
        target = plane_view(plane, shape)
        left, right = source[index] if split else painted[index], painted[index]
        if mirror:
            left, right = left[:, ::-1], right[:, ::-1]
        if not split:
            np.copyto(target, right)
            continue
        half = middle * (2 if index == 0 else 1)
        np.copyto(target[:, :half], left[:, :half])
        np.copyto(target[:, half:], right[:, half:])
        if index == 0:
            target[:, half - 1 : half + 1] = 235
        else:
            target[:, half - 1 : half + 1] = 128
    return made
