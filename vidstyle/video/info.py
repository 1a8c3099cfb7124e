"""What a video file says about itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.errors import VideoError, reason
from vidstyle.frame import FrameFormat, Matrix, Pixels
from vidstyle.video.clock import file_clock
from vidstyle.video.demux import FileClock, PictureDecoder, ffmpeg_reasons, known, open_input, packets, video_stream
from vidstyle.video.filters import SideDataReader
from vidstyle.video.formats import (
    BROADCAST,
    BT709_TAGS,
    LIMITED_GRAY,
    SHAPELESS,
    STEREO,
    UNSPECIFIED,
    ColorTags,
    Hdr,
    MatrixCode,
    Range,
    guessed_matrix,
    is_gray,
    is_rgb,
)


@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """A track of the file other than the video."""

    index: int
    kind: str
    """audio, subtitle, data, attachment, cover or video (a second one)."""
    codec: str
    """Codec as FFmpeg names it, "unknown" where it has no name for it."""
    time_base: Fraction | None = None

    @property
    def label(self) -> str:
        """For people: ``audio track 1 (aac)``. Tracks are counted from 0, the video among them."""
        return f"{self.kind} track {self.index} ({self.codec})"


def track_info(stream: Stream) -> TrackInfo:
    cover = stream.type == "video" and stream.disposition & Disposition.attached_pic
    # Of those without a decoder, data tracks and attachments alone have a name.
    codec = getattr(stream, "name", None) if stream.codec_context is None else stream.codec_context.codec.canonical_name
    return TrackInfo(
        index=stream.index,
        kind="cover" if cover else stream.type,
        codec=codec or "unknown",
        time_base=known(stream.time_base),
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
    codec: str
    pixel_format: str
    rotation: int
    """Degrees, clockwise, by which the stored picture is turned to be shown: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether the stored picture is also mirrored left to right (before it is turned)."""
    sample_aspect_ratio: Fraction | None
    """Width of a shown pixel over its height; None where the file does not say (square)."""
    color: ColorTags
    """Tags of the frames as `VideoReader` hands them out, to be written back."""
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
    notes: tuple[str, ...] = ()
    """Sentences for the user about what is converted."""

    @property
    def hdr(self) -> Hdr | None:
        """``pq`` or ``hlg`` where the file is high dynamic range (frames are handed out as BT.709)."""
        return self.stored_color.hdr

    def shown_size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """``(height, width)`` that is shown of a picture of ``stored`` size, which is turned only later."""
        return stored if self.crop is None or stored != self.coded_size else self.crop.shown(stored)

    def upright(self, size: tuple[int, int]) -> tuple[int, int]:
        """``size`` of a stored picture, (height, width), after the rotation; and the reverse."""
        return size[::-1] if self.rotation in (90, 270) else size

    def form(
        self, size: tuple[int, int], pixels: Pixels, matrix: Matrix | None = None, full_range: bool | None = None
    ) -> FrameFormat:
        """The format of upright frames of ``size`` in the file's own colors, but for what is given."""
        color = self.color
        return FrameFormat(
            height=size[0],
            width=size[1],
            pixels=pixels,
            matrix=matrix or guessed_matrix(color.matrix, self.upright(size)[0]),
            full_range=color.range == Range.FULL if full_range is None else full_range,
        )


_CHROMA_LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
_CONVERTED_MATRICES = (MatrixCode.RGB, MatrixCode.FCC, MatrixCode.SMPTE240M)
_DOLBY_VISION_ALONE = (5, 10, 20)  # profiles whose pictures may be in Dolby's own colors, IPT-PQ-c2
_CONVERT = (
    "`ffmpeg -i IN -vf libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709:format=yuv420p -c:a copy OUT`"
)
_RECTILINEAR = 4  # AVSphericalProjection of what every camera takes
_INTERLACED_ORDERS = (2, 3, 4, 5)  # AVFieldOrder: TT, BB, TB, BT


def probe(path: Path) -> VideoInfo:
    """Open ``path``, decode its first picture and close it again. Raises `VideoError`."""
    with open_input(path) as container:
        stream = video_stream(container, path)
        frame = _first_frame(container, stream, path)
        return read_info(path, container, stream, frame, file_clock(path, container, stream))


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    stream.codec_context.thread_type = "NONE"
    decoder = PictureDecoder(stream)
    demuxed = packets(container, stream)
    why = ""
    while True:
        try:
            with ffmpeg_reasons():
                packet = next(demuxed, None)
                if packet is None:
                    raise VideoError(f"{path} holds no frame that can be decoded{why}")
                for frame in decoder.decode(packet):
                    return frame
        except av.error.FFmpegError as error:
            why = f": {reason(error)}"  # the source counts what cannot be decoded; here any picture will do


def read_info(
    path: Path | str, container: InputContainer, stream: VideoStream, frame: VideoFrame, clock: FileClock | None = None
) -> VideoInfo:
    """What an open file or stream says about itself; ``frame`` is its first picture. Raises `VideoError`."""
    context = stream.codec_context
    description = _description(container, stream)
    side_data = SideDataReader(frame)
    rotation, mirrored = _orientation(side_data)
    spherical = side_data.numbers("SPHERICAL")
    crop = _crop(description, frame)
    height, width = crop.shown((frame.height, frame.width)) if crop else (frame.height, frame.width)
    coded_aspect = frame.opaque if isinstance(frame.opaque, Fraction) else None
    aspect = known(stream.sample_aspect_ratio)
    if coded_aspect is not None and container.format.name in SHAPELESS:
        aspect = coded_aspect
    if rotation in (90, 270):
        height, width = width, height
        aspect = 1 / aspect if aspect else None
    stored = _color_tags(description, stream, frame)
    time_base = known(stream.time_base) or Fraction(1, 90000)
    clock = clock or FileClock()
    start = _start(container, stream) if clock.start is None else clock.start
    rate = known(stream.average_rate) or known(stream.guessed_rate)
    duration = _duration(container, stream)
    declared_end = None
    if duration is not None and container.format.name not in BROADCAST:
        if not container.format.name.startswith("mov,") and duration > start > 0:
            # Matroska, ASF and NUT count it from 0, FLV from the first picture: nothing tells, so it may end early.
            duration -= float(start)
        declared_end = start + Fraction(duration).limit_denominator(av.time_base)
    end = clock.end if clock.end is not None else declared_end
    if clock.end is not None:
        duration = float(clock.end - start)
    elif end is not None and container.duration is not None:
        end = max(end, Fraction(container.duration, av.time_base))  # sound may go on
    estimate = round(duration * rate) if duration and rate else None
    # MPEG-PS counts the frames that were read while probing.
    frames = stream.frames if stream.frames > 1 else estimate
    interlaced = frame.interlaced_frame or context.field_order in _INTERLACED_ORDERS
    notes = []
    color = stored
    dolby_vision = _dolby_vision(description)
    if dolby_vision is not None:
        profile, compatible = dolby_vision
        if profile in _DOLBY_VISION_ALONE and not compatible:
            raise VideoError(
                f"{path} is Dolby Vision profile {profile}, whose colors cannot be read; "
                f"convert it first, for example with {_CONVERT}"
            )
        notes.append(f"the video is Dolby Vision profile {profile}: its plain pictures are used, without that layer")
    if side_data.has_profile:
        notes.append("the pictures have a color profile (ICC), which is left out: they are taken for BT.709 or sRGB")
    if crop is not None:
        notes.append(f"the file asks for {width}x{height} of its {frame.width}x{frame.height} pixels: it is cropped")
    if stored.matrix != UNSPECIFIED and stored.matrix not in list(MatrixCode):
        raise VideoError(
            f"{path} stores its colors in a way (matrix {stored.matrix} of ITU-T H.273) that cannot be read; "
            f"convert it first, for example with {_CONVERT}"
        )
    if stored.wide:
        color = BT709_TAGS
        kind = {"pq": "HDR (PQ)", "hlg": "HDR (HLG)", None: "in BT.2020 colors"}[stored.hdr]
        notes.append(f"the video is {kind}: it is converted to standard range and BT.709 colors")
    elif stored.matrix in _CONVERTED_MATRICES or is_rgb(frame):
        # Encoders and graphs know two matrices; the others become the one that players expect.
        guess = guessed_matrix(UNSPECIFIED, frame.height)
        matrix = MatrixCode.BT709 if guess == "bt709" else MatrixCode.SMPTE170M
        color = replace(stored, matrix=matrix, range=Range.LIMITED)
    if rotation or mirrored:
        # A turned grid of chroma samples has no name, except where it is symmetric.
        kept = stored.chroma_location if stored.chroma_location == "center" else None
        color = replace(color, chroma_location=kept)
    if interlaced:
        notes.append("the video is interlaced: it is deinterlaced (bwdif), at the same frame rate")
    if len(clock.parts) > 1:
        places = [f"{float(part.begin - start):.2f} s" for part in clock.parts[1:4]]
        more = " and later" if len(clock.parts) > 4 else ""
        notes.append(
            f"the file's clock starts anew at {', '.join(places)}{more}, as where recordings were joined: "
            "its parts follow each other without a gap"
        )
    metadata = (stream.metadata, *(other.metadata for other in container.streams), container.metadata)
    return VideoInfo(
        size=(height, width),
        index=stream.index,
        rate=rate,
        time_base=time_base,
        start=start,
        duration=duration,
        frames=frames,
        container=container.format.name,
        codec=context.codec.canonical_name,
        pixel_format=frame.format.name,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=aspect,
        color=color,
        stored_color=stored,
        coded_size=(frame.height, frame.width),
        coded_aspect=coded_aspect,
        crop=crop,
        stereo=None if rotation or mirrored else _stereo(side_data),
        spherical=spherical is not None and bool(spherical[0] != _RECTILINEAR),
        captions="A53_CC" in side_data,
        timecode=_timecode(*metadata),
        interlaced=interlaced,
        clock=clock,
        declared_end=declared_end,
        end=end,
        tags=readable_tags(container.metadata),
        tracks=tuple(track_info(s) for s in container.streams if s.index != stream.index),
        notes=tuple(notes),
    )


def _orientation(side_data: SideDataReader) -> tuple[int, bool]:
    """``(degrees clockwise, mirrored)`` of the display matrix, rounded to quarter turns."""
    display = side_data.numbers("DISPLAYMATRIX")
    if display is None:
        return 0, False
    a, b, _, c, d = display[:5].astype(float)
    mirrored = bool(a * d - b * c < 0)
    if mirrored:  # the matrix mirrors x first, then turns
        a, b = -a, -b
    return round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360, mirrored


def _stereo(side_data: SideDataReader) -> str | None:
    stereo = side_data.numbers("STEREO3D")
    words = None if stereo is None else STEREO.get(int(stereo[0]))
    return None if stereo is None or words is None else words[stereo[1] & 1]


def _color_tags(description: str, stream: VideoStream, frame: VideoFrame) -> ColorTags:
    # The decoder knows what the bitstream says, the context what the container says.
    context, line = stream.codec_context, description.partition("\n")[0]
    words = {word for part in re.findall(r"\(([^()]*)\)", line) for word in part.split(", ")}
    tags = ColorTags(
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
        matrix=int(context.colorspace),
        range=int(context.color_range) if context.color_range in (Range.LIMITED, Range.FULL) else Range.UNSPECIFIED,
        chroma_location=next((location for location in _CHROMA_LOCATIONS if location in words), None),
    ).of(frame)
    if is_gray(frame.format) and not tags.range and context.name not in LIMITED_GRAY:
        return replace(tags, range=Range.FULL)
    return tags


def _description(container: InputContainer, stream: VideoStream) -> str:
    """What FFmpeg prints of ``stream``. PyAV has no attribute for much of it."""
    level = av.logging.get_level()
    av.logging.set_libav_level(av.logging.VERBOSE)
    av.logging.set_level(av.logging.VERBOSE)
    try:
        text = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
        av.logging.set_libav_level(av.logging.INFO)
    parts = re.split(r"^ *(?=Stream #)", text, flags=re.MULTILINE)
    return next((part for part in parts if re.match(rf"Stream #0:{stream.index}\b", part)), "")


def _crop(description: str, frame: VideoFrame) -> Crop | None:
    # Tags stand before this heading; whatever is in them does not count.
    match = re.search(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", _side_data(description), re.MULTILINE)
    if match is None:
        return None
    left, right, top, bottom = map(int, match.groups())
    crop = Crop(left=left, right=right, top=top, bottom=bottom)
    return crop if any(map(int, match.groups())) and min(crop.shown((frame.height, frame.width))) > 0 else None


def _dolby_vision(description: str) -> tuple[int, int] | None:
    """Profile and compatibility (0: its pictures mean nothing to others), where the container says them."""
    match = re.search(r"DOVI configuration record: .*\bprofile: (\d+).*id: (\d+)", _side_data(description))
    return None if match is None else (int(match[1]), int(match[2]))


def _side_data(description: str) -> str:
    return description.rpartition("\n    Side data:\n")[2] if "\n    Side data:\n" in description else ""


def _start(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds at which the first picture is shown or the first sound heard."""
    starts = []
    for other in (stream, *container.streams.audio):
        if other.start_time is not None and other.time_base:
            begin = other.start_time * other.time_base
            starts.append(begin if other is stream else max(Fraction(0), begin))  # sound may be primed before 0
    return min(starts, default=Fraction(container.start_time or 0, av.time_base))


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    # Matroska has the length of each track in a tag: "00:00:05.000000000". Where FFmpeg has a length of the stream
    # there, too, it is that of the file.
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match:
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def readable_tags(tags: dict[str, str]) -> dict[str, str]:
    """``tags`` as PyAV reads them, with a replacement character for each byte that is not UTF-8."""
    return {_readable(key): _readable(value) for key, value in tags.items()}


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _timecode(*tags: dict[str, str]) -> str | None:
    """The first time code among ``tags``; containers spell the key in their own ways."""
    found = (value for each in tags for key, value in readable_tags(each).items() if key.lower() == "timecode")
    return next(found, None)
