"""Frames of any form made into frames of one."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidstyle.frame import Frame, FrameForm
from vidstyle.video.pixels import plane_view

_FORMATS = {"rgb": "rgb24", "i420": "yuv420p", "nv12": "nv12"}
_SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Conformer:
    """Converts size, layout, matrix and range. One conformer serves one thread."""

    def __init__(self, form: FrameForm) -> None:
        """``form`` is what every frame becomes."""
        self.form = form
        """Of the frames that come out."""
        self._reformatter = VideoReformatter()

    def conform(self, frame: Frame) -> Frame:
        """``frame`` itself where it has the form, else one with new planes. Its shape is not kept."""
        given, wanted = frame.form, self.form
        if given == wanted or (given.pixels == wanted.pixels == "rgb" and given.size == wanted.size):
            return frame
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
        planes = (plane_view(plane, shape) for plane, shape in zip(made.planes, wanted.plane_shapes, strict=True))
        return frame.with_planes(tuple(planes), wanted)


def _matrix(form: FrameForm) -> Colorspace | None:
    if form.pixels == "rgb":
        return None
    return Colorspace.ITU709 if form.matrix == "bt709" else Colorspace.ITU601


def _range(form: FrameForm) -> ColorRange:
    return ColorRange.JPEG if form.pixels == "rgb" or form.full_range else ColorRange.MPEG
