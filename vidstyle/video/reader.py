"""Frames of a video file, upright, in one form, each with its time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle._renamed import renamed_attribute
from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat, Matrix, Pixels
from vidstyle.options import ClipOptions
from vidstyle.video.clock import PacketReader, Part
from vidstyle.video.convert import PlaneReader
from vidstyle.video.demux import PictureDecoder, is_on_gpu, open_input, packets, video_stream
from vidstyle.video.filters import Deinterlacer, SideDataExtractor
from vidstyle.video.formats import RANGE_FULL, ColorTags, frame_tags, guessed_matrix
from vidstyle.video.info import VideoInfo, probe
from vidstyle.video.nvcodec import VideoGpu, gpu_planes, nvdec_decoder, nvdec_obstacle, trial_obstacle

_READ_ERRORS_ALLOWED = 100
_ONE_THREAD_PIXELS = 1920 * 1088
"""Up to Full HD one thread decodes faster than any network runs, and at a tenth less cost than several."""
_INDEXED = ("mov,", "matroska,")
"""Containers whose index says where key frames are; others are read from the beginning."""


class VideoReader:
    """A video file to read frames from.

    Use it from one thread. It is a context manager; closing twice is fine. A frame that cannot be
    decoded is not the end: it is counted in ``lost`` and reading goes on.
    """

    def __init__(
        self,
        path: Path,
        *,
        pixels: Pixels = "i420",
        matrix: Matrix | None = None,
        full_range: bool | None = None,
        clip: ClipOptions | None = None,
        threads: int | None = None,
        gpu: int | None = None,
        on_device: bool = False,
    ) -> None:
        """Open ``path`` and decode its first picture. Raises `VideoError` naming the file.

        Frames have the matrix and range of the file, or those given. ``threads`` is how many threads the
        decoder may use; None lets it choose. ``gpu`` is the one that decodes, if ``clip.decoder`` has one
        do that; ``on_device`` leaves its frames (nv12) there, as planes that are no arrays but give
        themselves to others by DLPack. Where the size changes in mid-stream, frames are on the host even so.
        """
        if on_device and pixels != "nv12":
            raise BadOption(f"{pixels = } cannot stay on the GPU; NVDEC's frames are nv12")
        self.path = path
        self.info: VideoInfo = probe(path)
        """What the file says about itself."""
        height, width = self.info.size
        stored_height = width if self.info.rotation in (90, 270) else height
        color = self.info.color
        self.form = FrameFormat(
            height=height,
            width=width,
            pixels=pixels,
            matrix=matrix or guessed_matrix(color.matrix, stored_height),
            full_range=color.range == RANGE_FULL if full_range is None else full_range,
        )
        """Form of every frame."""
        self._ledger: FrameLoss | None = None
        self._clip = clip or ClipOptions()
        self._threads = threads
        self._reading: Generator[Frame, None, None] | None = None
        self._closed = False
        self.notes: list[str] = list(self.info.notes)
        """Sentences for the user about what is converted; reading may add some."""
        self._gpu = None if self._clip.decoder == "software" else self._opened_gpu(gpu, on_device)
        self.decoder: Literal["software", "nvdec"] = "software" if self._gpu is None else "nvdec"
        """What decodes."""
        self.on_device = on_device and self._gpu is not None
        """Whether frames stay on the GPU."""

    def _opened_gpu(self, number: int | None, on_device: bool) -> VideoGpu | None:
        gpu, obstacle = None, nvdec_obstacle(self.info, self.form, on_device=on_device)
        if obstacle is None:
            try:
                gpu = VideoGpu(number, shared=on_device)
            except VideoError as error:
                if self._clip.decoder == "nvdec":
                    raise VideoError(f"NVDEC cannot decode {self.path}: {error}; decode in software") from error
                obstacle = str(error)
            else:
                obstacle = trial_obstacle(self.path, self.info.codec, gpu)
        if obstacle is None:
            return gpu
        self._note(f"NVDEC is not used, the processor decodes: {obstacle}")
        return None

    @property
    def frames_expected(self) -> int | None:
        """How many frames the clip should have, as far as the file says enough to tell."""
        info, clip = self.info, self._clip
        if clip.start == 0 and clip.end is None:
            return info.frames
        if info.duration is None or info.rate is None:
            return None
        end = info.duration if clip.end is None else min(clip.end, info.duration)
        return max(0, round((end - clip.start) * info.rate))

    @property
    def lost(self) -> int:
        """Frames so far that could not be decoded, or not in full; final when `frames` has ended."""
        return self._ledger.lost if self._ledger else 0

    @property
    def errors(self) -> list[str]:
        """Sentences on the first few of them."""
        return self._ledger.errors if self._ledger else []

    def frames(self) -> Generator[Frame, None, None]:
        """Every frame of the clip, in the order of showing, from the beginning at each call.

        ``pts`` is as in the file. Planes may be views into the decoder's memory: they stay valid as
        long as they are referenced, and are not to be written to.
        """
        if self._closed:
            raise VideoError(f"{self.path} is closed; open it again")
        self._reading = self._frames()
        return self._reading

    def close(self) -> None:
        """Stop reading and close the file. Closing twice is fine."""
        self._closed = True
        if self._reading is not None:
            with contextlib.suppress(ValueError):  # it runs on another thread, which closes it
                self._reading.close()
            self._reading = None
        self._gpu = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames(self) -> Generator[Frame, None, None]:
        span = TimeRange.of(self.info, self._clip)
        # Where the index is wrong or missing, reading from the beginning is the fallback.
        if span.begin is not None and self.info.container.startswith(_INDEXED) and not self.info.clock.parts:
            frames = self._read(span, seek=True)
            first = next(frames, None)
            if first is not None and first.pts * first.time_base <= span.begin:
                yield first
                yield from frames
                return
            frames.close()
            if first is None and self.info.end is not None and span.begin >= self.info.end:
                return
        yield from self._read(span, seek=False)

    def _read(self, span: TimeRange, *, seek: bool) -> Generator[Frame, None, None]:
        info = self.info
        reader, beside = PlaneReader(info, self.form), SideDataExtractor(info)
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            if self._threads is not None:
                stream.codec_context.thread_count = self._threads
            elif self.form.width * self.form.height <= _ONE_THREAD_PIXELS:
                stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "AUTO"
            gpu = None if self._gpu is None else nvdec_decoder(stream, info.codec, self._gpu.accelerator)
            decoder = PictureDecoder(stream, gpu)
            if seek and span.begin is not None:
                with contextlib.suppress(av.error.FFmpegError):
                    container.seek(math.floor(span.begin / info.time_base), stream=stream)
            ledger = self._ledger = FrameLoss(stream, interlaced=info.interlaced)
            for decoded, pts, duration in self._shown(container, stream, decoder, ledger, span):
                planes = gpu_planes(decoded, self.form) if self.on_device else None
                if planes is None:
                    planes = reader.read_shaped(decoded)
                if reader.saw_transparency:
                    self._note("the video has transparent parts, which outputs cannot hold: they are laid on white")
                yield Frame(planes, self.form, pts, info.time_base, duration, beside.read(decoded))
            if ledger.skipped:
                self._note(
                    f"{ledger.skipped} pictures before a key frame need others that the file does not have: "
                    "they are left out"
                )

    def _shown(
        self,
        container: InputContainer,
        stream: VideoStream,
        decoder: PictureDecoder,
        ledger: FrameLoss,
        span: TimeRange,
    ) -> Generator[tuple[VideoFrame, int, int], None, None]:
        """The pictures of the clip, each with the pts from which on it is shown there, and for how many ticks.

        A picture is shown until the next one, so each waits for the next.
        """
        info = self.info
        clock = _Clock(info)
        first = math.floor((span.begin or info.start) / info.time_base)
        glimpse = 0 if span.begin is None else GLIMPSE_SECONDS / info.time_base
        held: tuple[VideoFrame, int] | None = None
        for decoded in self._progressive(container, stream, decoder, ledger, span):
            pts = clock.pts(decoded)
            over = span.is_over(pts * info.time_base)
            if held is not None and not over and held[1] < first < pts < first + glimpse:
                # At usual rates a clip begins with a whole picture, not with the rest of the one before.
                decoded.duration += pts - first if decoded.duration else 0
                pts = first
            elif held is not None:
                yield from self._cut(*held, pts, span)
            if over:
                return
            held = decoded, pts
        if held is not None:
            end = max(clock.end, math.floor(ledger.end / info.time_base))
            # Players leave the last picture standing while the sound goes on.
            if info.end is not None and span.end is not None:
                end = max(end, math.ceil(min(span.end, info.end) / info.time_base))
            elif info.end is not None and span.begin is not None and end * info.time_base <= span.begin:
                end = math.ceil(info.end / info.time_base)
            if end > clock.end:
                held[0].duration = end - held[1]
            yield from self._cut(*held, end, span)
        ended = info.declared_end
        if ended is not None and span.end is not None:
            ended = min(ended, span.end)
        ledger.ended(self.path, ended, info.rate)

    def _cut(
        self, decoded: VideoFrame, pts: int, end: int, span: TimeRange
    ) -> Generator[tuple[VideoFrame, int, int], None, None]:
        if span.begin is None and span.end is None:
            yield decoded, pts, decoded.duration
            return
        base = self.info.time_base
        inside = span.cut(pts * base, max(end, pts + 1) * base)
        if inside is not None:
            first, last = (
                math.floor(inside[0] / base),
                max(math.floor(inside[1] / base), math.floor(inside[0] / base) + 1),
            )
            whole = (first, last) == (pts, end)
            yield decoded, first, decoded.duration if whole else last - first

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _progressive(
        self,
        container: InputContainer,
        stream: VideoStream,
        decoder: PictureDecoder,
        ledger: FrameLoss,
        span: TimeRange,
    ) -> Generator[VideoFrame, None, None]:
        deinterlacer = Deinterlacer()
        changes = StreamChanges(self.info)
        for frame in self._decoded(container, stream, decoder, ledger, span):
            for sentence in changes.seen(frame):
                self._note(sentence)
            yield from deinterlacer.frames(frame)
        yield from deinterlacer.frames(None)

    def _decoded(
        self,
        container: InputContainer,
        stream: VideoStream,
        decoder: PictureDecoder,
        ledger: FrameLoss,
        span: TimeRange,
    ) -> Generator[VideoFrame, None, None]:
        read_errors = 0
        reader = PacketReader(container, self.info.clock, stream)
        entry = _Entry(self.info)
        ended = False
        while not ended:
            try:
                packet = next(reader, None)
            except av.error.FFmpegError as error:
                # A demuxer often finds its way again behind a damaged place.
                ledger.unreadable(error.strerror or type(error).__name__)
                read_errors += 1
                if read_errors > _READ_ERRORS_ALLOWED:
                    return
                continue
            ended = packet is None
            if packet is None:
                yield from self._booked(decoder.drain(), ledger, span)
            elif entry.skips(packet, reader.number(stream)):
                ledger.skipped += 1
            else:
                if entry.begins:
                    yield from self._booked(decoder.drain(), ledger, span)
                    ledger.entered()
                yield from self._booked(self._pictures(packet, decoder, ledger, span), ledger, span)

    def _booked(self, frames: list[VideoFrame], ledger: FrameLoss, span: TimeRange) -> Iterator[VideoFrame]:
        for frame in frames:
            ledger.decoded(frame, wanted=frame.pts is None or span.holds(frame.pts * self.info.time_base))
            yield frame

    @staticmethod
    def _pictures(
        packet: Packet[VideoStream], decoder: PictureDecoder, ledger: FrameLoss, span: TimeRange
    ) -> list[VideoFrame]:
        ledger.came(packet)
        if not packet.size:
            return []  # the picture before goes on
        wanted = packet.pts is None or span.holds(packet.pts * packet.time_base)
        if wanted:
            ledger.sent(packet)
        try:
            return decoder.decode(packet)
        except av.error.FFmpegError:
            if wanted:
                ledger.failed(packet)
            return []


class _Entry:
    """Where each part of a file can be entered: not before its first key frame."""

    def __init__(self, info: VideoInfo) -> None:
        self._parts = list(info.clock.parts)
        self._part: Part | None = None
        self._leading = False
        self._first = True
        self._codec = info.codec
        self.begins = False
        """Whether the packet is the first of a further part that goes to the decoder."""

    def skips(self, packet: Packet[VideoStream], number: int) -> bool:
        """Whether ``packet``, of that number, has no picture that can be decoded."""
        self.begins = False
        if self._parts and number >= self._parts[0].first:
            entered = self._parts.pop(0)
            if entered.fresh:
                self._first, self._part = self._part is None, entered
                self._leading = not self._first or self._codec == "h264"
        part = self._part
        if part is None:
            return False
        if number < part.key:
            return True
        self.begins = number == part.key and not self._first
        if number > part.key and self._leading and packet.pts is not None:
            return packet.pts * packet.time_base < part.begin
        return False


class _Clock:
    """Gives a time to frames that have none: raw streams, and AVI, which counts packets and knows no times."""

    def __init__(self, info: VideoInfo) -> None:
        self._counts_packets = info.container == "avi"
        self._step = max(1, round(1 / ((info.rate or Fraction(25)) * info.time_base)))
        self._next = 0
        self.end = 0
        """When the last frame ends."""
        self._delay: int | None = None

    def pts(self, frame: VideoFrame) -> int:
        pts = frame.pts
        if self._counts_packets:
            # What FFmpeg gives as the time is a guess, wrong if there are B frames. The packet's number is
            # right but for the decoder's delay, which the first frame shows: it is shown at 0.
            if self._delay is None and frame.dts is not None:
                self._delay = frame.dts
            pts = None if frame.dts is None else frame.dts - (self._delay or 0)
        if pts is None:
            pts = self._next
        self._next = self.end = pts + (frame.duration or self._step)
        return pts


_ERRORS_KEPT = 5
# Containers differ by a frame or two, and by rounding, between the length they declare and what they hold.
_SLACK_SECONDS = 1.0
_UNCODED_BYTES = 16
"""A packet of MPEG-4 that is no larger says that the last picture goes on; players show nothing new."""
_ONE_FRAME_A_PACKET = ("h264", "hevc", "libdav1d", "av1", "mpeg4", "ffv1", "mjpeg", "prores")


class FrameLoss:
    """Books packets against frames."""

    def __init__(self, stream: VideoStream, *, interlaced: bool) -> None:
        self._stream = stream
        # A packet may hold one field of two, or a picture that is never shown.
        self._balances = stream.codec_context.name in _ONE_FRAME_A_PACKET and not interlaced
        self._open: list[int | None] = []
        self._uncoded: set[int | None] = set()
        self._first_key: int | None = None
        self._shown = False
        self._damaged = False
        self.end = Fraction(0)
        """Seconds at which the last picture ends that came out, or that a packet without data asked to go on."""
        self._last_dts: int | None = None
        self._read_failed = False
        self.lost = 0
        """Frames that could not be decoded, or not in full."""
        self.skipped = 0
        """Frames before the first key frame, of which no decoder can make a picture; they are no losses."""
        self.errors: list[str] = []
        """Sentences on the first few."""

    def entered(self) -> None:
        """What comes now is of another part of the file, and leans on nothing that came before."""
        self._first_key, self._shown, self._damaged = None, False, False

    def came(self, packet: Packet[VideoStream]) -> None:
        """A packet was read."""
        if packet.dts is not None:
            self._last_dts = packet.dts
        if packet.is_keyframe and self._first_key is None:
            self._first_key = packet.pts
        if not packet.size and packet.pts is not None:
            self.end = max(self.end, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def sent(self, packet: Packet[VideoStream]) -> None:
        """A packet of the clip goes to the decoder."""
        if not packet.is_discard:
            self._open.append(packet.pts)
            if self._stream.codec_context.name == "mpeg4" and packet.size <= _UNCODED_BYTES:
                self._uncoded.add(packet.pts)

    def failed(self, packet: Packet[VideoStream]) -> None:
        """The decoder refused a packet."""
        self._settle(packet.pts)
        if self._first_key is None and not self._shown:
            self.skipped += 1
        else:
            self._damaged = True
            self._lose(1, f"a frame{_at(packet.pts, self._stream)} could not be decoded")

    def unreadable(self, reason: str) -> None:
        """The file could not be read on."""
        self._read_failed = True
        self._tell(f"the file could not be read on: {reason}")

    def decoded(self, frame: VideoFrame, *, wanted: bool) -> None:
        """A frame came out, ``wanted`` if it begins within the clip."""
        if frame.pts is not None:
            self.end = max(self.end, (frame.pts + frame.duration) * (self._stream.time_base or Fraction(0)))
        if not self._shown and frame.pts is not None:
            self._shown = True
            # Nobody could show what precedes the first picture, unless it was damage that kept it from being shown.
            first = self._first_key if self._damaged else frame.pts
            before = [pts for pts in self._open if pts is not None and first is not None and pts < first]
            self._open = [pts for pts in self._open if pts not in before]
            self.skipped += len(before)
        if not wanted:
            return
        self._settle(frame.pts)
        if frame.is_corrupt:
            self._lose(1, f"the frame{_at(frame.pts, self._stream)} is damaged and was repaired by guessing")

    def ended(self, path: Path, declared_end: Fraction | None, rate: Fraction | None) -> None:
        """Nothing more comes: book what was never seen."""
        open_ = [pts for pts in self._open if pts not in self._uncoded]
        if self._balances and open_:
            self._lose(len(open_), f"{len(open_)} frames gave no picture")
        missing = self._missing(path, declared_end, rate)
        if missing:
            self._lose(missing, f"the file ends {missing} frames early: it is cut off")
        elif self._read_failed:
            self.lost += 1

    def _settle(self, pts: int | None) -> None:
        if pts in self._open:
            self._open.remove(pts)
        elif self._open:
            del self._open[0]

    def _missing(self, path: Path, declared_end: Fraction | None, rate: Fraction | None) -> int:
        stream = self._stream
        if stream.container.format.name.startswith("mov,") and self._last_dts is not None:
            # The index of an MP4 lists every frame, whether or not it is there.
            index = stream.index_entries
            missing = 0
            for place in range(len(index) - 1, -1, -1):
                stamp = index[place].timestamp
                if stamp <= self._last_dts:
                    break
                if declared_end is None or stamp * (stream.time_base or 0) < declared_end:
                    missing += 1
            return missing
        if declared_end is None or rate is None or declared_end - self.end <= _SLACK_SECONDS:
            return 0
        # Sound or subtitles that go on are no sign of damage.
        own = stream.duration is not None and not stream.container.format.name.startswith("matroska")
        says_own_length = own or "DURATION" in stream.metadata
        if not says_own_length and _others_end(path, stream.index) > self.end:
            return 0
        return round((declared_end - self.end) * rate)

    def _lose(self, count: int, sentence: str) -> None:
        self.lost += count
        self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        if len(self.errors) < _ERRORS_KEPT and sentence not in self.errors:
            self.errors.append(sentence)


def _at(pts: int | None, stream: VideoStream) -> str:
    return "" if pts is None or not stream.time_base else f" at {float(pts * stream.time_base):.3f} s"


def _others_end(path: Path, index: int) -> Fraction:
    """Seconds at which the last packet of any other track ends, less half a second for what overlaps."""
    end = Fraction(0)
    with open_input(path) as container, contextlib.suppress(av.error.FFmpegError):
        others = [s for s in container.streams if s.index != index and s.type in ("audio", "video", "subtitle")]
        for packet in packets(container, *others) if others else ():
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return end - Fraction(1, 2)


GLIMPSE_SECONDS = Fraction(1, 20)
"""A picture is not shown for less than this at the start of a clip."""


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that was typed, so that 1.1 s means a frame at exactly 11/10 s."""
    return Fraction(repr(seconds))


@dataclass(frozen=True)
class TimeRange:
    """Begin, end and shift, in seconds of the source's clock.

    Whatever is shown or heard for a while is inside if any of that while is.
    """

    begin: Fraction | None
    """What has ended by then is left out; None keeps everything from the first packet on."""
    end: Fraction | None
    """What begins at that time or later is left out; None keeps everything to the last packet."""
    shift: Fraction
    """What is subtracted from every time, so that the output starts at 0."""

    @classmethod
    def of(cls, info: VideoInfo, clip: ClipOptions) -> TimeRange:
        """The part of the video ``info`` that ``clip`` names; a clip counts from the file's start."""
        # Whole ticks of the video's clock, so that its times stay exact.
        shift = (info.start + exact_seconds(clip.start)) // info.time_base * info.time_base
        end = None if clip.end is None else info.start + exact_seconds(clip.end)
        return cls(shift if clip.start > 0 else None, end, shift)

    def pictures_before(self, start: Fraction, rate: Fraction) -> int:
        """How many pictures, evenly spaced from ``start`` on, are left out before the first that is shown."""
        if self.begin is None:
            return 0
        place = (self.begin - start) * rate
        next_one = math.ceil(place)
        return next_one if next_one - place < GLIMPSE_SECONDS * rate else math.floor(place)

    def holds(self, seconds: Fraction) -> bool:
        """Whether ``seconds`` is inside."""
        return (self.begin is None or seconds >= self.begin) and (self.end is None or seconds < self.end)

    def cut(self, begin: Fraction, end: Fraction) -> tuple[Fraction, Fraction] | None:
        """The part of what lasts from ``begin`` to ``end`` that is inside, if any."""
        inside = (
            begin if self.begin is None else max(begin, self.begin),
            end if self.end is None else min(end, self.end),
        )
        return inside if inside[0] < inside[1] else None

    def is_over(self, seconds: Fraction) -> bool:
        """Whether ``seconds`` is behind the end."""
        return self.end is not None and seconds >= self.end


_SQUARE = Fraction(1)


class StreamChanges:
    """Looks at the decoder's frames, all of which are brought to the form of the first one."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._first: tuple[tuple[int, int], str, ColorTags, Fraction] | None = None
        self._last: tuple[object, ...] = ()

    def seen(self, frame: VideoFrame) -> Iterator[str]:
        """Sentences on what is other in ``frame`` than in the first one."""
        format = self._info.pixel_format if is_on_gpu(frame) else frame.format.name
        aspect = frame.opaque if isinstance(frame.opaque, Fraction) else _SQUARE
        look = (
            *(frame.width, frame.height, format, frame.interlaced_frame, aspect),
            *(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc),
        )
        if look == self._last:
            return
        self._last = look
        colors = frame_tags(frame, self._info.stored_color)
        size = (frame.width, frame.height)
        if self._first is None:
            self._first = (size, format, colors, self._info.coded_aspect or _SQUARE)
        first_size, first_format, first_colors, first_aspect = self._first
        if size != first_size:
            yield "the picture changes its size in mid-stream: every frame is scaled to the first one's size"
        if aspect != first_aspect:
            yield (
                f"the pixels change their shape in mid-stream, from {_ratio(first_aspect)} to {_ratio(aspect)}: "
                "frames that would look squeezed are fitted between black bars"
            )
        if format != first_format:
            yield f"the video changes from {first_format} to {format} in mid-stream: every frame is converted"
        if colors != first_colors:
            if colors.wide and not first_colors.wide:
                yield "the video is HDR or in BT.2020 colors in parts: these are converted to standard range and colors"
            else:
                yield "the video changes its colors in mid-stream: every frame is converted to the first one's"
        if frame.interlaced_frame and not self._info.interlaced:
            yield "the video is interlaced in parts: these are deinterlaced (bwdif)"


def _ratio(aspect: Fraction) -> str:
    return f"{aspect.numerator}:{aspect.denominator}"


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return renamed_attribute(__name__, name)
