"""What a video file says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from av.stream import Disposition, Stream
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from vidstyle.frame import Matrix, untagged_matrix
from vidstyle.video.clock import FileClock
from vidstyle.video.container import known
from vidstyle.video.tags import readable_tags

Hdr = Literal["pq", "hlg"]

# Code points of ITU-T H.273, as FFmpeg, H.264, HEVC, VP9, AV1, MP4 and Matroska all use them.
UNSPECIFIED = 2
MATRIX_RGB = 0
MATRIX_BT709 = 1
MATRIX_BT470BG = 5
MATRIX_SMPTE170M = 6
MATRIX_FCC = 4
MATRIX_SMPTE240M = 7
MATRIX_BT2020 = 9
PRIMARIES_BT709 = 1
PRIMARIES_BT2020 = 9
TRANSFER_BT709 = 1
TRANSFER_PQ = 16
TRANSFER_HLG = 18
RANGE_UNSPECIFIED = 0
RANGE_LIMITED = 1
RANGE_FULL = 2


@dataclass(frozen=True, kw_only=True)
class ColorTags:
    """How pixel values are to be read, in the numbers of ITU-T H.273. Unspecified stays unspecified."""

    primaries: int = UNSPECIFIED
    """Color primaries; 1 is BT.709, 9 is BT.2020, 2 is unspecified."""
    transfer: int = UNSPECIFIED
    """Transfer characteristics; 1 is BT.709, 16 is PQ, 18 is HLG, 2 is unspecified."""
    matrix: int = UNSPECIFIED
    """Matrix coefficients; 0 is RGB, 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020, 2 is unspecified."""
    range: int = RANGE_UNSPECIFIED
    """0 is unspecified, 1 is limited (16-235), 2 is full (0-255)."""
    chroma_location: str | None = None
    """Where 4:2:0 chroma samples sit: left, center, topleft, top, bottomleft, bottom; None is unspecified."""

    @property
    def hdr(self) -> Hdr | None:
        """The high-dynamic-range transfer, if it is one."""
        return {TRANSFER_PQ: "pq", TRANSFER_HLG: "hlg"}.get(self.transfer)  # type: ignore[return-value]

    @property
    def wide(self) -> bool:
        """Whether the colors need converting to be shown as BT.709."""
        return self.hdr is not None or self.primaries == PRIMARIES_BT2020 or self.matrix == MATRIX_BT2020


def guessed_matrix(matrix: int, height: int) -> Matrix:
    """The YCbCr matrix that players take for a picture of ``height`` rows with tag ``matrix``."""
    if matrix == MATRIX_BT709:
        return "bt709"
    if matrix in (MATRIX_BT470BG, MATRIX_SMPTE170M):
        return "bt601"
    return untagged_matrix(height)


def is_rgb(frame: VideoFrame) -> bool:
    """Whether the pixels of ``frame`` are red, green and blue, or a palette of such."""
    return frame.format.is_rgb or frame.format.has_palette or frame.colorspace == MATRIX_RGB


def is_gray(format: VideoFormat) -> bool:
    """Whether pixels are whole numbers of one brightness, with or without alpha."""
    return format.name.startswith(("gray", "ya")) and not format.name.startswith(("grayf", "yaf"))


def frame_tags(frame: VideoFrame, otherwise: ColorTags) -> ColorTags:
    """The tags of one picture: its own, and where it says nothing those of ``otherwise``."""
    color_range = frame.color_range
    if frame.format.name.startswith("yuvj"):  # the old name of full range
        color_range = RANGE_FULL
    return replace(
        otherwise,
        primaries=_specified(frame.color_primaries, otherwise.primaries),
        transfer=_specified(frame.color_trc, otherwise.transfer),
        matrix=_specified(frame.colorspace, otherwise.matrix),
        range=int(color_range) if color_range in (RANGE_LIMITED, RANGE_FULL) else otherwise.range,
    )


def _specified(*codes: int) -> int:
    return next((int(code) for code in codes if code != UNSPECIFIED), UNSPECIFIED)


@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """A track of the file other than the video."""

    index: int
    """Place in the file, from 0."""
    kind: str
    """audio, subtitle, data, attachment, cover or video (a second one)."""
    codec: str
    """Codec as FFmpeg names it, "unknown" where it has no name for it."""
    time_base: Fraction | None = None
    """Seconds in one unit of the track's times."""
    language: str | None = None
    """Three-letter language, where the file says one."""

    @property
    def label(self) -> str:
        """For people: ``audio track 1 (aac)``. Tracks are counted from 0, the video among them."""
        return f"{self.kind} track {self.index} ({self.codec})"


def track_info(stream: Stream) -> TrackInfo:
    """What PyAV's ``stream`` is."""
    kind: str = stream.type
    if kind == "video" and stream.disposition & Disposition.attached_pic:
        kind = "cover"
    if stream.codec_context is not None:
        name: str | None = stream.codec_context.codec.canonical_name
    else:
        name = getattr(stream, "name", None)  # only data tracks and attachments have one
    return TrackInfo(
        index=stream.index,
        kind=kind,
        codec=name or "unknown",
        time_base=known(stream.time_base),
        language=readable_tags(stream.metadata).get("language"),
    )


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Rows and columns of the stored picture that the container says are not to be shown."""

    left: int
    right: int
    top: int
    bottom: int

    def shown(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(height, width)`` that is left of a stored ``(height, width)``."""
        return size[0] - self.top - self.bottom, size[1] - self.left - self.right


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """A video file as it is opened; the fields describe its first picture track."""

    size: tuple[int, int]
    """``(height, width)`` in pixels as shown, that is after cropping and the rotation."""
    index: int
    """Which track of the file it is, from 0."""
    rate: Fraction | None
    """Average frames a second; None where the file does not tell. Frames need not be evenly spaced."""
    time_base: Fraction
    """Seconds in one unit of the frames' ``pts``."""
    start: Fraction
    """Seconds at which the file's clock starts; ``ClipOptions`` count from here."""
    duration: float | None
    """Length in seconds, where the file says it."""
    frames: int | None
    """How many frames to expect: as declared, else rate times duration, else None."""
    container: str
    """Container format as FFmpeg names it."""
    codec: str
    """Video codec as FFmpeg names it."""
    pixel_format: str
    """Pixel format of the decoder as FFmpeg names it."""
    rotation: int
    """Degrees, clockwise, by which the stored picture is turned to be shown: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether the stored picture is also mirrored left to right (before it is turned)."""
    sample_aspect_ratio: Fraction | None
    """Width of a shown pixel over its height; None where the file does not say (square)."""
    color: ColorTags
    """Tags of the frames as `VideoSource` hands them out, to be written back."""
    stored_color: ColorTags
    """Tags as they are in the file; other than ``color`` where frames are converted."""
    coded_size: tuple[int, int]
    """``(height, width)`` of the decoder's first picture, neither cropped nor rotated."""
    coded_aspect: Fraction | None
    """Width of a stored pixel over its height, as the decoder says of the first picture; None where it says nothing."""
    crop: Crop | None
    """What the container asks to leave out of pictures of that size."""
    stereo: str | None
    """How the two pictures of stereo video lie in a frame, in Matroska's words (``left_right``); None for others."""
    spherical: bool
    """Whether the file is marked as a 360-degree video."""
    captions: bool
    """Whether the first picture has closed captions beside it."""
    timecode: str | None
    """Time code of the first picture, ``01:02:03:04``, as the file says it."""
    interlaced: bool
    """Whether the frames are stored as two fields (they are handed out deinterlaced)."""
    clock: FileClock = FileClock()
    """How the times of its packets are corrected."""
    declared_end: Fraction | None = None
    """Seconds of the file's clock at which it says that its pictures end, if it does."""
    end: Fraction | None = None
    """Seconds of the file's clock at which all of it ends, sound too, as far as known."""
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    """Title, date and so on, as the file has them."""
    tracks: tuple[TrackInfo, ...] = ()
    """Every other track."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about what is converted."""

    @property
    def hdr(self) -> Hdr | None:
        """``pq`` or ``hlg`` where the file is high dynamic range (frames are handed out as BT.709)."""
        return self.stored_color.hdr
