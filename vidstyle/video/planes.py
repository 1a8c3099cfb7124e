"""Between FFmpeg's frames and our planes, with as few copies as can be."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidstyle.frame import Frame, FrameFormat, Matrix, Planes
from vidstyle.video.alpha import AlphaReader, on_white
from vidstyle.video.beside import BesideWriter
from vidstyle.video.conform import Place, place_in, put_in, size_of
from vidstyle.video.crop import Cropper
from vidstyle.video.info import (
    MATRIX_FCC,
    MATRIX_SMPTE240M,
    RANGE_FULL,
    VideoInfo,
    frame_tags,
    guessed_matrix,
    is_gray,
    is_rgb,
)
from vidstyle.video.nvidia import GpuFrames, is_in_one_piece
from vidstyle.video.pixels import plane_view, with_neutral_chroma
from vidstyle.video.sdr import SdrConverter

_FORMATS = {"rgb": "rgb24", "i420": "yuv420p", "nv12": "nv12"}
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_SWS_RANGE = {False: ColorRange.MPEG, True: ColorRange.JPEG}
_SWS_MATRIX: dict[Matrix, Colorspace] = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}
_SWS_OTHERS = {MATRIX_FCC: Colorspace.FCC, MATRIX_SMPTE240M: Colorspace.SMPTE240M}
# Bilinear chroma, and the slower rounding: without it a conversion is off by up to two levels.
_SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class PlaneReader:
    """Turns the decoder's frames into planes of one form: 8 bit, upright, one size.

    Each frame is read by its own size, format and tags, which may change in mid-stream; what it does not
    say is as at the start. Where it already is what is wanted, the planes are views into it, without a copy.
    One reader serves one thread.
    """

    def __init__(self, info: VideoInfo, form: FrameFormat) -> None:
        self._info = info
        self._form = form
        turned = info.rotation in (90, 270)
        self._stored_size = form.size[::-1] if turned else form.size
        self._cropper = Cropper(info)
        self._alpha = AlphaReader(info)
        self._sdr = SdrConverter()
        self._reformatter, self._rgb = VideoReformatter(), VideoReformatter()
        self._fitted: PlaneReader | None = None
        self.saw_transparency = False
        """Whether a frame so far had transparent parts: they are laid on white."""

    def read(self, frame: VideoFrame) -> Planes:
        """The planes of ``frame``. Views keep the decoder's frame alive as long as they live."""
        return tuple(self._upright(plane) for plane in self._planes(self._converted(frame)))

    def read_shaped(self, frame: VideoFrame) -> Planes:
        """The planes of ``frame``; where its pixels have another shape than the first one's, it lies on black."""
        place = self._place(frame)
        if place is None:
            return self.read(frame)
        form = self._form.resized(size_of(place))
        if self._fitted is None or self._fitted._form != form:
            self._fitted = PlaneReader(self._info, form)
        planes = self._fitted.read(frame)
        self.saw_transparency |= self._fitted.saw_transparency
        return put_in(planes, place, self._form)

    def _place(self, frame: VideoFrame) -> Place | None:
        info, aspect = self._info, frame.opaque
        first = info.coded_aspect or Fraction(1)
        if not isinstance(aspect, Fraction) or aspect == first:
            return None
        height, width = frame.height, frame.width
        if info.crop is not None and (height, width) == info.coded_size:
            height, width = info.crop.shown((height, width))
        shown = (height, max(1, round(width * aspect / first)))
        return place_in(shown[::-1] if info.rotation in (90, 270) else shown, self._form.size)

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        form, (height, width) = self._form, self._stored_size
        frame = self._cropper.cropped(frame)
        alpha = self._alpha.read(frame)
        tags = frame_tags(frame, self._info.stored_color)
        if is_gray(frame.format):
            # FFmpeg's scaler takes every gray picture for full range, whatever its depth.
            frame = with_neutral_chroma(frame)
        if tags.wide:
            frame = self._sdr.convert(frame, tags)
            tags = frame_tags(frame, tags)
        rgb = is_rgb(frame)
        matrix = guessed_matrix(tags.matrix, frame.height)
        full_range = tags.range == RANGE_FULL
        if (
            # The old name of full range in front of the same bytes.
            frame.format.name in ("yuv420p", "yuvj420p")
            and form.pixels == "i420"
            and tags.matrix not in _SWS_OTHERS
            and (form.matrix, form.full_range) == (matrix, full_range)
            and (frame.height, frame.width) == (height, width)
            and alpha is None
        ):
            return frame
        sws_matrix = None if rgb else _SWS_OTHERS.get(tags.matrix, _SWS_MATRIX[matrix])
        sws_range = ColorRange.JPEG if rgb else _SWS_RANGE[full_range]
        if alpha is not None:
            frame = self._on_white(frame, alpha, sws_matrix, sws_range)
            sws_matrix, sws_range = None, ColorRange.JPEG
        return self._reformatter.reformat(
            frame,
            width,
            height,
            _FORMATS[form.pixels],
            src_colorspace=sws_matrix,
            src_color_range=sws_range,
            dst_colorspace=_SWS_MATRIX[form.matrix],
            dst_color_range=_SWS_RANGE[form.full_range or form.pixels == "rgb"],
            interpolation=_SCALER,
            threads=1,
        )

    def _on_white(
        self, frame: VideoFrame, alpha: NDArray[np.uint8], matrix: Colorspace | None, color_range: ColorRange
    ) -> VideoFrame:
        """``frame`` as RGB without transparency. Before its chroma is halved: hidden colors must not bleed."""
        self.saw_transparency = True
        made = self._rgb.reformat(
            frame,
            format="rgb24",
            src_colorspace=matrix,
            src_color_range=color_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALER,
            threads=1,
        )
        rgb = plane_view(made.planes[0], (frame.height, frame.width, 3))
        return VideoFrame.from_ndarray(on_white(np.ascontiguousarray(rgb), alpha), "rgb24")

    def _planes(self, frame: VideoFrame) -> Planes:
        height, width = self._stored_size
        shapes = self._form.resized((height, width)).plane_shapes
        return tuple(plane_view(plane, shape) for plane, shape in zip(frame.planes, shapes, strict=True))

    def _upright(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._info.mirrored:
            plane = np.asarray(cv2.flip(plane, 1), np.uint8)
        turn = _TURNS.get(self._info.rotation)
        return plane if turn is None else np.asarray(cv2.rotate(plane, turn), np.uint8)


class PlaneWriter:
    """Makes the encoder's frames from planes of one form. One writer serves one thread."""

    def __init__(
        self,
        form: FrameFormat,
        pixel_format: Literal["yuv420p", "yuv444p", "nv12"],
        size: tuple[int, int],
        scaled: tuple[int, int],
        *,
        on_gpu: bool = False,
    ) -> None:
        """``size`` is what is kept: ``form.size``, or a row or column less; ``scaled`` is what it becomes.

        ``on_gpu`` says that the encoder takes frames from the GPU's memory as they are.
        """
        self._form = form
        self._pixel_format = pixel_format
        self._size = size
        self._scaled = scaled
        self._on_gpu = on_gpu
        self._gpu_frames = GpuFrames()
        self._beside = BesideWriter()
        self._reformatter = VideoReformatter()

    def write(self, frame: Frame, pts: int, time_base: Fraction) -> VideoFrame:
        """A frame for the encoder: one copy of each plane, and a conversion if the formats differ.

        Planes on the GPU are not copied where the encoder takes them there, else they are downloaded.
        """
        form = self._form
        made = self._copied(frame) if isinstance(frame.planes[0], np.ndarray) else self._gpu_frames.frame(frame)
        stays = self._on_gpu and is_in_one_piece(made)
        if not stays and (made.format.name != self._pixel_format or self._scaled != self._size):
            color_range = _SWS_RANGE[form.full_range]
            from_rgb = form.pixels == "rgb"
            made = self._reformatter.reformat(
                made,
                self._scaled[1],
                self._scaled[0],
                self._pixel_format,
                src_colorspace=None if from_rgb else _SWS_MATRIX[form.matrix],
                src_color_range=ColorRange.JPEG if from_rgb else color_range,
                dst_colorspace=_SWS_MATRIX[form.matrix],
                dst_color_range=color_range,
                interpolation=_SCALER,
                threads=1,
            )
        made.pts = pts
        made.time_base = time_base
        made.duration = frame.duration
        return made

    def _copied(self, frame: Frame) -> VideoFrame:
        height, width = self._size
        pixel_format = _FORMATS[self._form.pixels]
        if isinstance(frame.beside, VideoFrame):
            made = self._beside.frame(frame.beside, self._size, pixel_format)
        else:
            made = VideoFrame(width, height, pixel_format)
        shapes = self._form.resized(self._size).plane_shapes
        for plane, target, shape in zip(frame.planes, made.planes, shapes, strict=True):
            np.copyto(plane_view(target, shape), plane[: shape[0], : shape[1]])
        return made
