"""Between FFmpeg's frames and our planes, and between planes of two formats, with as few copies as can be."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import PictureType, VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidstyle.frame import Frame, FrameFormat, Matrix, Planes
from vidstyle.video.filters import Cropper, SdrConverter
from vidstyle.video.formats import UNSPECIFIED, MatrixCode, Range, guessed_matrix, is_gray, is_rgb
from vidstyle.video.info import VideoInfo
from vidstyle.video.nvcodec import GpuFrames, is_in_one_piece

_FORMATS = {"rgb": "rgb24", "i420": "yuv420p", "nv12": "nv12"}
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_MATRICES: dict[Matrix, Colorspace] = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}
_OTHER_MATRICES: dict[int, Colorspace] = {MatrixCode.FCC: Colorspace.FCC, MatrixCode.SMPTE240M: Colorspace.SMPTE240M}
_RANGES = {False: ColorRange.MPEG, True: ColorRange.JPEG}
# Bilinear chroma, and the slower rounding: without it a conversion is off by up to two levels.
_SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_OPAQUE = 250  # alpha from which on nobody sees through; lossy codecs do not hold 255
_SAME_SHAPE = 0.02  # pictures whose shapes differ by less fill the frame: nobody sees that, and encoders round sizes

Place: TypeAlias = tuple[slice, slice]
"""Rows and columns of luma in which a picture lies; they begin at even ones."""
Colors: TypeAlias = tuple[Colorspace | None, ColorRange]
"""Matrix and range as libswscale names them; None for RGB."""
_RGB: Colors = None, ColorRange.JPEG


class Scaler:
    """Converts size, layout, matrix and range of FFmpeg's frames, by libswscale. One scaler serves one thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def scale(
        self, frame: VideoFrame, size: tuple[int, int], pixel_format: str, colors: Colors, made: Colors
    ) -> VideoFrame:
        """``frame``, whose pixels mean ``colors``, at ``size``, (height, width), in the colors ``made``."""
        return self._reformatter.reformat(
            frame,
            size[1],
            size[0],
            pixel_format,
            src_colorspace=colors[0],
            src_color_range=colors[1],
            dst_colorspace=made[0],
            dst_color_range=made[1],
            interpolation=_SCALER,
            threads=1,
        )

    def to(self, frame: VideoFrame, form: FrameFormat, colors: Colors) -> VideoFrame:
        return self.scale(frame, form.size, _FORMATS[form.pixels], colors, colors_of(form))


def colors_of(form: FrameFormat) -> Colors:
    return _RGB if form.pixels == "rgb" else (_MATRICES[form.matrix], _RANGES[form.full_range])


def planes_of(frame: VideoFrame, form: FrameFormat) -> Planes:
    """Views of the planes of ``frame``, which is in ``form``; they keep it alive."""
    return tuple(plane_view(plane, shape) for plane, shape in zip(frame.planes, form.plane_shapes, strict=True))


def frame_of(planes: Planes, form: FrameFormat, made: VideoFrame | None = None) -> VideoFrame:
    """FFmpeg's frame with a copy of ``planes``, of which it may take a row or column less than they have."""
    made = made or VideoFrame(form.width, form.height, _FORMATS[form.pixels])
    for plane, target in zip(planes, planes_of(made, form), strict=True):
        np.copyto(target, plane[: target.shape[0], : target.shape[1]])
    return made


def plane_view(plane: VideoPlane, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A uint8 array of ``shape`` over FFmpeg's memory, padding left out; it keeps the frame alive."""
    stride = abs(plane.line_size)
    strides = (plane.line_size, *((shape[2], 1) if len(shape) == 3 else (1,)))
    # Rows of a frame stored bottom up have a negative stride and begin at the far end.
    offset = (shape[0] - 1) * stride if plane.line_size < 0 else 0
    return np.ndarray(shape, np.uint8, buffer=memoryview(plane), offset=offset, strides=strides)


class PlaneReader:
    """Turns the decoder's frames into planes of one form: 8 bit, upright, one size.

    Each frame is read by its own size, format and tags, which may change in mid-stream; what it does not say is as at
    the start. Where it already is what is wanted, the planes are views into it, without a copy. One reader serves one
    thread.
    """

    def __init__(self, info: VideoInfo, form: FrameFormat) -> None:
        self._info = info
        self._form = form
        self._stored = form.resized(info.upright(form.size))
        self._cropper = Cropper(info)
        self._sdr = SdrConverter()
        self._scaler, self._rgb = Scaler(), Scaler()
        self._fitted: PlaneReader | None = None
        self.saw_transparency = False
        """Whether a frame so far had transparent parts: they are laid on white."""

    def read(self, frame: VideoFrame) -> Planes:
        """The planes of ``frame``. Views keep the decoder's frame alive as long as they live."""
        return tuple(self._upright(plane) for plane in planes_of(self._converted(frame), self._stored))

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
        height, width = info.shown_size((frame.height, frame.width))
        return place_in(info.upright((height, max(1, round(width * aspect / first)))), self._form.size)

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        frame = self._cropper.cropped(frame)
        alpha = _alpha(frame, self._info)
        tags = self._info.stored_color.of(frame)
        if is_gray(frame.format):
            # FFmpeg's scaler takes every gray picture for full range, whatever its depth.
            frame = _with_neutral_chroma(frame)
        if tags.wide:
            frame = self._sdr.convert(frame, tags)
            tags = tags.of(frame)
        form, unusual = self._stored, _OTHER_MATRICES.get(tags.matrix)
        matrix, full_range = guessed_matrix(tags.matrix, frame.height), tags.range == Range.FULL
        if (
            # The old name of full range in front of the same bytes.
            frame.format.name in ("yuv420p", "yuvj420p")
            and form.pixels == "i420"
            and unusual is None
            and (form.matrix, form.full_range) == (matrix, full_range)
            and (frame.height, frame.width) == form.size
            and alpha is None
        ):
            return frame
        colors = _RGB if is_rgb(frame) else (unusual or _MATRICES[matrix], _RANGES[full_range])
        if alpha is not None:
            # Made RGB before its chroma is halved: hidden colors must not bleed.
            self.saw_transparency = True
            size = frame.height, frame.width
            made = self._rgb.scale(frame, size, "rgb24", colors, _RGB)
            rgb = plane_view(made.planes[0], (*size, 3))
            frame = VideoFrame.from_ndarray(on_white(np.ascontiguousarray(rgb), alpha), "rgb24")
            colors = _RGB
        return self._scaler.to(frame, form, colors)

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
        self._form = form.resized(size)
        self._pixel_format = pixel_format
        self._scaled = scaled
        self._on_gpu = on_gpu
        self._gpu_frames = GpuFrames()
        self._beside, self._scaler = VideoReformatter(), Scaler()

    def write(self, frame: Frame, pts: int, time_base: Fraction) -> VideoFrame:
        """A frame for the encoder: one copy of each plane, and a conversion if the formats differ.

        Planes on the GPU are not copied where the encoder takes them there, else they are downloaded.
        """
        form = self._form
        if isinstance(frame.planes[0], np.ndarray):
            made = frame_of(frame.planes, form, self._with_side_data(frame.beside))
        else:
            made = self._gpu_frames.frame(frame)
        stays = self._on_gpu and is_in_one_piece(made)
        if not stays and (made.format.name != self._pixel_format or self._scaled != form.size):
            colors = _MATRICES[form.matrix], _RANGES[form.full_range]
            made = self._scaler.scale(made, self._scaled, self._pixel_format, colors_of(form), colors)
        made.pts = pts
        made.time_base = time_base
        made.duration = frame.duration
        return made

    def _with_side_data(self, beside: object) -> VideoFrame | None:
        """A frame with what `SideDataExtractor` read, if it read anything; the pixels are still to come."""
        if not isinstance(beside, VideoFrame):
            return None
        form = self._form
        made = self._beside.reformat(
            beside, form.width, form.height, _FORMATS[form.pixels], interpolation=Interpolation.POINT, threads=1
        )
        made.pict_type = PictureType.NONE  # the encoder would make a key frame of each that was one
        made.colorspace, made.color_range = UNSPECIFIED, Range.UNSPECIFIED
        return made


class FrameConverter:
    """Converts size, layout, matrix and range of our frames. One converter serves one thread."""

    def __init__(self, form: FrameFormat) -> None:
        """``form`` is what every frame becomes."""
        self.form = form
        self._scaler = Scaler()

    def convert(self, frame: Frame) -> Frame:
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
        return planes_of(self._scaler.to(frame_of(frame.planes, given), wanted, colors_of(given)), wanted)


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
    return place[0].stop - place[0].start, place[1].stop - place[1].start


def cut_out(planes: Planes, place: Place) -> Planes:
    return tuple(plane[_in_plane(place, index)] for index, plane in enumerate(planes))


def put_in(planes: Planes, place: Place, form: FrameFormat, around: Literal["black", "mirrored"] = "black") -> Planes:
    """A picture of ``form`` with ``planes`` at ``place``, in black or in the mirror image of itself."""
    dark = 0 if form.pixels == "rgb" or form.full_range else 16
    border = cv2.BORDER_REFLECT if around == "mirrored" else cv2.BORDER_CONSTANT
    result = []
    for index, (plane, shape) in enumerate(zip(planes, form.plane_shapes, strict=True)):
        rows, columns = _in_plane(place, index)
        margins = rows.start, shape[0] - rows.stop, columns.start, shape[1] - columns.stop
        made = cv2.copyMakeBorder(plane, *margins, border, value=[dark] * 3 if index == 0 else [128, 128])
        result.append(np.asarray(made, np.uint8).reshape(shape))
    return tuple(result)


def _in_plane(place: Place, index: int) -> Place:
    rows, columns = (part if index == 0 else slice(part.start // 2, -(-part.stop // 2)) for part in place)
    return rows, columns


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``rgb``, (height, width, 3), seen through ``alpha``, (height, width), on a white ground."""
    dark = cv2.multiply(cv2.bitwise_not(rgb), cv2.merge([alpha, alpha, alpha]), scale=1 / 255)
    return np.asarray(cv2.bitwise_not(dark), np.uint8)


def _alpha(frame: VideoFrame, info: VideoInfo) -> NDArray[np.uint8] | None:
    """uint8 of shape (height, width), 0 is transparent; None where the picture is opaque."""
    format = frame.format
    if not _has_alpha(format.name) or _is_padding(format, info):
        return None
    if format.is_planar and format.components[-1].plane == 3:
        plane, bits = _samples(frame.planes[3], format), format.components[-1].bits
        if plane.min() >> (bits - 8) >= _OPAQUE:
            return None
        alpha = np.asarray(plane >> (bits - 8), np.uint8)
    else:
        rgba = frame.reformat(format="rgba", threads=1)
        alpha = np.ascontiguousarray(_samples(rgba.planes[0], rgba.format)[:, 3::4])
    return None if alpha.min() >= _OPAQUE else alpha


@lru_cache
def _has_alpha(name: str) -> bool:
    format = VideoFormat(name)
    return format.has_palette or any(component.is_alpha for component in format.components)


def _is_padding(format: VideoFormat, info: VideoInfo) -> bool:
    """Whether the fourth byte of a pixel is there to fill it up: in AVI, and on screens, it says nothing."""
    if format.has_palette:
        return info.codec not in ("png", "apng")
    doubtful = format.is_rgb and info.codec in ("rawvideo", "huffyuv")
    return doubtful and not info.container.startswith(("mov,", "nut"))


def _with_neutral_chroma(gray: VideoFrame) -> VideoFrame:
    """A gray picture, of whatever depth, as 4:2:0; an alpha channel is left out."""
    format = gray.format
    bits, end = format.components[0].bits, "be" if format.is_big_endian else "le"
    made = VideoFrame(gray.width, gray.height, "yuv420p" if bits == 8 else f"yuv420p{bits}{end}")
    luma, *chroma = (_samples(plane, made.format) for plane in made.planes)
    np.copyto(luma, _samples(gray.planes[0], format)[:, :: len(format.components)])
    for plane in chroma:
        plane.fill(1 << (bits - 1))
    made.color_range = gray.color_range
    return made


def _samples(plane: VideoPlane, format: VideoFormat) -> NDArray[Any]:
    """An array over all that a plane has in each of its rows: components that share it lie side by side.

    uint8 of shape (rows, columns * components), or uint16 where a component has more than 8 bits.
    """
    deep = format.components[0].bits > 8
    shared = sum(component.plane == 0 for component in format.components)
    rows = plane_view(plane, (plane.height, plane.width * shared * (2 if deep else 1)))
    return rows.view(">u2" if format.is_big_endian else "<u2") if deep else rows
