"""Frames of a video file, upright, in one form, each with its time; which are missing, and what changes on the way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle._renamed import renamed_attribute
from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, Matrix, Pixels
from vidstyle.options import ClipOptions
from vidstyle.pipeline import Closing
from vidstyle.video.convert import PlaneReader
from vidstyle.video.demux import (
    ONE_THREAD_PIXELS,
    READ_ERRORS_ALLOWED,
    PacketReader,
    Part,
    PictureDecoder,
    is_on_gpu,
    open_input,
    packet_seconds,
    packets,
    video_stream,
)
from vidstyle.video.filters import Deinterlacer, SideDataExtractor
from vidstyle.video.formats import INDEXED, ONE_FRAME_A_PACKET, ColorTags
from vidstyle.video.info import VideoInfo, probe
from vidstyle.video.nvcodec import VideoGpu, gpu_planes, nvdec_decoder, nvdec_obstacle, trial_obstacle
from vidstyle.video.stretch import EntryPoint, Stretch, is_indexed

GLIMPSE_SECONDS = Fraction(1, 20)
"""A picture is not shown for less than this at the start of a clip."""
_ERRORS_KEPT = 5
# Containers differ by a frame or two, and by rounding, between the length they declare and what they hold.
_SLACK_SECONDS = 1.0
_UNCODED_BYTES = 16  # a packet of MPEG-4 that is no larger says that the last picture goes on; players show nothing new
_SQUARE = Fraction(1)


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that was typed, so that 1.1 s means a frame at exactly 11/10 s."""
    return Fraction(repr(seconds))


@dataclass(frozen=True)
class TimeRange:
    """The stretch of the source's clock that goes into the output: begin, end and shift, in seconds.

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
        return (self.begin is None or seconds >= self.begin) and not self.is_over(seconds)

    def is_over(self, seconds: Fraction) -> bool:
        return self.end is not None and seconds >= self.end

    def cut(self, begin: Fraction, end: Fraction) -> tuple[Fraction, Fraction] | None:
        """The part of what lasts from ``begin`` to ``end`` that is inside, if any."""
        begin = begin if self.begin is None else max(begin, self.begin)
        end = end if self.end is None else min(end, self.end)
        return (begin, end) if begin < end else None


class VideoReader(Closing):
    """A video file to read frames from.

    Use it from one thread. It is a context manager; closing twice is fine. A frame that cannot be decoded is not the
    end: it is counted in ``lost`` and reading goes on.
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
        stretch: Stretch | None = None,
        info: VideoInfo | None = None,
    ) -> None:
        """Open ``path`` and decode its first picture. Raises `VideoError` naming the file.

        Frames have the matrix and range of the file, or those given. ``threads`` is how many threads the decoder may
        use; None lets it choose. ``gpu`` is the one that decodes, if ``clip.decoder`` has one do that; ``on_device``
        leaves its frames (nv12) there, as planes that are no arrays but give themselves to others by DLPack. Where the
        size changes in mid-stream, frames are on the host even so. Of the frames, ``stretch`` are handed out, all
        without it; ``info`` is what `probe` said of the file, if that is known already.
        """
        if on_device and pixels != "nv12":
            raise BadOption(f"{pixels = } cannot stay on the GPU; NVDEC's frames are nv12")
        self.path = path
        self.info: VideoInfo = info or probe(path)
        self.form = self.info.form(self.info.size, pixels, matrix, full_range)
        self._threads = threads
        self._clip = clip or ClipOptions()
        self.stretch = stretch
        """The frames that are handed out, where not all are."""
        self._loss: FrameLoss | None = None
        self._reading: Generator[Frame, None, None] | None = None
        self._closed = False
        self.notes: list[str] = list(self.info.notes)
        """Sentences for the user about what is converted; reading may add some."""
        self._gpu = None if self._clip.decoder == "software" else self._opened_gpu(gpu, on_device)
        self.decoder: Literal["software", "nvdec"] = "software" if self._gpu is None else "nvdec"
        self.on_device = on_device and self._gpu is not None
        """Whether frames stay on the GPU."""
        self.entries: list[EntryPoint] = []
        """The key frames among the packets that `times` has read, in the order of the file; their ``pts`` are 0."""

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
        return self._loss.lost if self._loss else 0

    @property
    def errors(self) -> list[str]:
        """Sentences on the first few of them."""
        return self._loss.errors if self._loss else []

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def frames(self) -> Generator[Frame, None, None]:
        """Every frame of the clip, in the order of showing, from the beginning at each call.

        ``pts`` is as in the file. Planes may be views into the decoder's memory: they stay valid as long as they are
        referenced, and are not to be written to.
        """
        if self._closed:
            raise VideoError(f"{self.path} is closed; open it again")
        self._reading = self._frames()
        return self._reading

    def times(self) -> Iterator[tuple[int, bool]]:
        """The pts of every frame that `frames` gives, and whether it is a key frame; pictures are not converted."""
        with open_input(self.path) as container:
            one = _Pass(self, container, TimeRange.of(self.info, self._clip), seek=False)
            self._loss = one.loss
            for decoded, pts, _ in one.shown():
                yield pts, decoded.key_frame
            self.entries = [replace(entry, delay=one.clock.delay) for entry in one.entries]

    def close(self) -> None:
        """Stop reading and close the file. Closing twice is fine."""
        self._closed = True
        if self._reading is not None:
            with contextlib.suppress(ValueError):  # it runs on another thread, which closes it
                self._reading.close()
            self._reading = None
        self._gpu = None

    def _frames(self) -> Generator[Frame, None, None]:
        span = TimeRange.of(self.info, self._clip)
        if self.stretch is not None:
            yield from self._read(span, seek=False)
            return
        # Where the index is wrong or missing, reading from the beginning is the fallback.
        if span.begin is not None and self.info.container.startswith(INDEXED) and not self.info.clock.parts:
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
        with open_input(self.path) as container:
            one = _Pass(self, container, span, seek=seek)
            self._loss = one.loss
            yield from one.frames()


class _Pass:
    """One reading of a file: packets, pictures, progressive pictures, those of the clip, frames."""

    def __init__(self, reader: VideoReader, container: InputContainer, span: TimeRange, *, seek: bool) -> None:
        info = self._info = reader.info
        self._reader, self._container, self._span = reader, container, span
        stream = self._stream = video_stream(container, reader.path)
        if reader._threads is not None:
            stream.codec_context.thread_count = reader._threads
        elif reader.form.width * reader.form.height <= ONE_THREAD_PIXELS:
            stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "AUTO"
        gpu = None if reader._gpu is None else nvdec_decoder(stream, info.codec, reader._gpu.accelerator)
        self._decoder = PictureDecoder(stream, gpu)
        if seek and span.begin is not None:
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(math.floor(span.begin / info.time_base), stream=stream)
        self.loss = FrameLoss(stream, interlaced=info.interlaced)
        self.entries: list[EntryPoint] = []
        stretch = self._stretch = reader.stretch
        self._first_packet = 0
        self.clock = _Clock(info)
        if stretch is not None and stretch.entry is not None:
            self.clock = _Clock(info, stretch.entry)
            if is_indexed(reader.path, info, stretch.entry):
                container.seek(stretch.entry.packet_pts or 0, stream=stream)
            else:
                self._first_packet = stretch.entry.number

    def frames(self) -> Iterator[Frame]:
        """The frames of the clip, in the reader's form."""
        reader, info = self._reader, self._info
        planes_of, side_data = PlaneReader(info, reader.form), SideDataExtractor(info)
        stretch = self._stretch
        for decoded, pts, duration in self.shown():
            if stretch is not None and pts < stretch.first:
                continue
            if stretch is not None and pts > stretch.last:
                self.loss.stop()
                return
            planes = gpu_planes(decoded, reader.form) if reader.on_device else None
            if planes is None:
                planes = planes_of.read_shaped(decoded)
            if planes_of.saw_transparency:
                reader._note("the video has transparent parts, which outputs cannot hold: they are laid on white")
            yield Frame(planes, reader.form, pts, info.time_base, duration, side_data.read(decoded))
        if self.loss.skipped and stretch is None:
            reader._note(
                f"{self.loss.skipped} pictures before a key frame need others that the file does not have: "
                "they are left out"
            )

    def shown(self) -> Iterator[tuple[VideoFrame, int, int]]:
        """The pictures of the clip, each with the pts from which on it is shown there, and for how many ticks.

        A picture is shown until the next one, so each waits for the next.
        """
        info, span, clock = self._info, self._span, self.clock
        first = math.floor((span.begin or info.start) / info.time_base)
        glimpse = 0 if span.begin is None else GLIMPSE_SECONDS / info.time_base
        held: tuple[VideoFrame, int] | None = None
        for decoded in self._progressive():
            pts = clock.pts(decoded)
            over = span.is_over(pts * info.time_base)
            if held is not None and not over and held[1] < first < pts < first + glimpse:
                # At usual rates a clip begins with a whole picture, not with the rest of the one before.
                decoded.duration += pts - first if decoded.duration else 0
                pts = first
            elif held is not None:
                yield from self._cut(*held, pts)
            if over:
                return
            held = decoded, pts
        if held is not None:
            end = max(clock.end, math.floor(self.loss.end / info.time_base))
            # Players leave the last picture standing while the sound goes on.
            if info.end is not None and span.end is not None:
                end = max(end, math.ceil(min(span.end, info.end) / info.time_base))
            elif info.end is not None and span.begin is not None and end * info.time_base <= span.begin:
                end = math.ceil(info.end / info.time_base)
            if end > clock.end:
                held[0].duration = end - held[1]
            yield from self._cut(*held, end)
        ended = info.declared_end
        if ended is not None and span.end is not None:
            ended = min(ended, span.end)
        self.loss.close(self._reader.path, ended, info.rate)

    def _cut(self, decoded: VideoFrame, pts: int, end: int) -> Iterator[tuple[VideoFrame, int, int]]:
        base = self._info.time_base
        if self._span.begin is None and self._span.end is None:
            yield decoded, pts, decoded.duration
        elif (inside := self._span.cut(pts * base, max(end, pts + 1) * base)) is not None:
            first = math.floor(inside[0] / base)
            last = max(math.floor(inside[1] / base), first + 1)
            yield decoded, first, decoded.duration if (first, last) == (pts, end) else last - first

    def _progressive(self) -> Iterator[VideoFrame]:
        deinterlacer, changes = Deinterlacer(), StreamChanges(self._info)
        for frame in self._decoded():
            for sentence in changes.on_frame(frame):
                self._reader._note(sentence)
            yield from deinterlacer.frames(frame)
        yield from deinterlacer.frames(None)

    def _decoded(self) -> Iterator[VideoFrame]:
        read_errors, ended = 0, False
        reader = PacketReader(self._container, self._info.clock, self._stream)
        entry, number = _Entry(self._info), -1
        while not ended:
            try:
                packet = next(reader, None)
            except av.error.FFmpegError as error:
                # A demuxer often finds its way again behind a damaged place.
                self.loss.on_read_error(error.strerror or type(error).__name__)
                read_errors += 1
                if read_errors > READ_ERRORS_ALLOWED:
                    return
                continue
            ended = packet is None
            number += 1
            if packet is not None and entry.skips(packet, reader.number(self._stream)):
                self.loss.skipped += 1
                continue
            if packet is not None and number < self._first_packet:
                continue
            if packet is not None and packet.is_keyframe:
                self.entries.append(EntryPoint(number, 0, packet.pts))
            if packet is None or entry.begins:
                yield from self._counted(self._decoder.drain())
            if packet is not None:
                if entry.begins:
                    self.loss.begin_part()
                yield from self._counted(self._pictures(packet))

    def _counted(self, frames: list[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            wanted = frame.pts is None or self._wants(frame.pts, self._info.time_base)
            self.loss.on_frame(frame, wanted=wanted)
            yield frame

    def _wants(self, pts: int, base: Fraction) -> bool:
        counted = self._stretch is None or self._stretch.counts(pts)
        return counted and self._span.holds(pts * base)

    def _pictures(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        wanted = packet.pts is None or self._wants(packet.pts, packet.time_base)
        self.loss.on_packet(packet, wanted=wanted)
        if not packet.size:
            return []  # the picture before goes on
        try:
            return self._decoder.decode(packet)
        except av.error.FFmpegError:
            if wanted:
                self.loss.on_error(packet)
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

    def __init__(self, info: VideoInfo, entry: EntryPoint | None = None) -> None:
        """``entry`` is where decoding begins, where that is not the first picture."""
        self._counts_packets = info.container == "avi"
        self._step = max(1, round(1 / ((info.rate or Fraction(25)) * info.time_base)))
        self._next = 0 if entry is None else entry.pts
        self.end = 0
        self.delay = None if entry is None else entry.delay
        """By how many packets the decoder lags behind, once it is known; where packets are counted."""

    def pts(self, frame: VideoFrame) -> int:
        pts = frame.pts
        if self._counts_packets:
            # What FFmpeg gives as the time is a guess, wrong if there are B frames. The packet's number is right but
            # for the decoder's delay, which the first frame shows: it is shown at 0.
            if self.delay is None and frame.dts is not None:
                self.delay = frame.dts
            pts = None if frame.dts is None else frame.dts - (self.delay or 0)
        if pts is None:
            pts = self._next
        self._next = self.end = pts + (frame.duration or self._step)
        return pts


class FrameLoss:
    """Counts packets against frames, so that none is lost in silence."""

    def __init__(self, stream: VideoStream, *, interlaced: bool) -> None:
        self._stream = stream
        # A packet may hold one field of two, or a picture that is never shown.
        self._balances = stream.codec_context.name in ONE_FRAME_A_PACKET and not interlaced
        self._open: list[int | None] = []
        self._uncoded: set[int | None] = set()
        self._first_key: int | None = None
        self._shown = self._damaged = self._read_failed = False
        self._last_dts: int | None = None
        self.end = Fraction(0)
        """Seconds at which the last picture ends that came out, or that a packet without data asked to go on."""
        self.lost = 0
        """Frames that could not be decoded, or not in full."""
        self.skipped = 0
        """Frames before the first key frame, of which no decoder can make a picture; they are no losses."""
        self.errors: list[str] = []
        """Sentences on the first few."""

    def begin_part(self) -> None:
        """Note that what comes now is of another part of the file, and leans on nothing that came before."""
        self._first_key, self._shown, self._damaged = None, False, False

    def on_packet(self, packet: Packet[VideoStream], *, wanted: bool) -> None:
        """Count a packet, which goes to the decoder if it has data, ``wanted`` if its picture is in the clip."""
        if packet.dts is not None:
            self._last_dts = packet.dts
        if packet.is_keyframe and self._first_key is None:
            self._first_key = packet.pts
        if not packet.size:
            if packet.pts is not None:
                self.end = max(self.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        elif wanted and not packet.is_discard:
            self._open.append(packet.pts)
            if self._stream.codec_context.name == "mpeg4" and packet.size <= _UNCODED_BYTES:
                self._uncoded.add(packet.pts)

    def on_error(self, packet: Packet[VideoStream]) -> None:
        self._settle(packet.pts)
        if self._first_key is None and not self._shown:
            self.skipped += 1
        else:
            self._damaged = True
            self._lose(1, f"a frame{self._at(packet.pts)} could not be decoded")

    def on_read_error(self, reason: str) -> None:
        """Note that the file could not be read on."""
        self._read_failed = True
        self._lose(0, f"the file could not be read on: {reason}")

    def on_frame(self, frame: VideoFrame, *, wanted: bool) -> None:
        """Count a frame that came out, ``wanted`` if it begins within the clip."""
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
            self._lose(1, f"the frame{self._at(frame.pts)} is damaged and was repaired by guessing")

    def close(self, path: Path, declared_end: Fraction | None, rate: Fraction | None) -> None:
        """Count what was never seen: nothing more comes."""
        self._count_unseen(lambda pts: True)
        missing = self._missing(path, declared_end, rate)
        if missing:
            self._lose(missing, f"the file ends {missing} frames early: it is cut off")
        elif self._read_failed:
            self.lost += 1

    def stop(self) -> None:
        """Count what was wanted and never seen, as far as times tell; more is not asked for."""
        self._count_unseen(lambda pts: pts is not None)

    def _count_unseen(self, counts: Callable[[int | None], bool]) -> None:
        open_ = [pts for pts in self._open if pts not in self._uncoded and counts(pts)]
        if self._balances and open_:
            self._lose(len(open_), f"{len(open_)} frames gave no picture")

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
        if len(self.errors) < _ERRORS_KEPT and sentence not in self.errors:
            self.errors.append(sentence)

    def _at(self, pts: int | None) -> str:
        base = self._stream.time_base
        return "" if pts is None or not base else f" at {float(pts * base):.3f} s"


def _others_end(path: Path, index: int) -> Fraction:
    """Seconds at which the last packet of any other track ends, less half a second for what overlaps."""
    end = Fraction(0)
    with open_input(path) as container, contextlib.suppress(av.error.FFmpegError):
        others = [s for s in container.streams if s.index != index and s.type in ("audio", "video", "subtitle")]
        for packet in packets(container, *others) if others else ():
            if packet.pts is not None:
                end = max(end, packet_seconds(packet) + (packet.duration or 0) * packet.time_base)
    return end - Fraction(1, 2)


class StreamChanges:
    """Tells what changes in mid-stream, once each: all frames are brought to the form of the first one."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._first: tuple[tuple[int, int], str, ColorTags, Fraction] | None = None
        self._last: tuple[object, ...] = ()

    def on_frame(self, frame: VideoFrame) -> Iterator[str]:
        """Sentences on what is other in ``frame``, as decoded, than in the first one."""
        format = self._info.pixel_format if is_on_gpu(frame) else frame.format.name
        aspect = frame.opaque if isinstance(frame.opaque, Fraction) else _SQUARE
        look = (
            *(frame.width, frame.height, format, frame.interlaced_frame, aspect),
            *(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc),
        )
        if look == self._last:
            return
        self._last = look
        colors = self._info.stored_color.of(frame)
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
