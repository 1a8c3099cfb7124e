"""Frames of a video file, upright, in one form, each with its time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat, Matrix, Pixels
from vidstyle.options import ClipOptions
from vidstyle.video.beside import BesideReader
from vidstyle.video.changes import Changes
from vidstyle.video.clock import PacketReader, Part
from vidstyle.video.container import open_input
from vidstyle.video.decoder import PictureDecoder
from vidstyle.video.deinterlace import Deinterlacer
from vidstyle.video.info import RANGE_FULL, VideoInfo, guessed_matrix
from vidstyle.video.ledger import LossLedger
from vidstyle.video.nvidia import VideoGpu, gpu_planes, nvdec_decoder, nvdec_obstacle, trial_obstacle
from vidstyle.video.planes import PlaneReader
from vidstyle.video.probe import probe, video_stream
from vidstyle.video.span import GLIMPSE_SECONDS, Span

_READ_ERRORS_ALLOWED = 100
_ONE_THREAD_PIXELS = 1920 * 1088
"""Up to Full HD one thread decodes faster than any network runs, and at a tenth less cost than several."""
_INDEXED = ("mov,", "matroska,")
"""Containers whose index says where key frames are; others are read from the beginning."""


class VideoSource:
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
        self._ledger: LossLedger | None = None
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

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames(self) -> Generator[Frame, None, None]:
        span = Span.of(self.info, self._clip)
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

    def _read(self, span: Span, *, seek: bool) -> Generator[Frame, None, None]:
        info = self.info
        reader, beside = PlaneReader(info, self.form), BesideReader(info)
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
            ledger = self._ledger = LossLedger(stream, interlaced=info.interlaced)
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
        ledger: LossLedger,
        span: Span,
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
        self, decoded: VideoFrame, pts: int, end: int, span: Span
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
        ledger: LossLedger,
        span: Span,
    ) -> Generator[VideoFrame, None, None]:
        deinterlacer = Deinterlacer()
        changes = Changes(self.info)
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
        ledger: LossLedger,
        span: Span,
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

    def _booked(self, frames: list[VideoFrame], ledger: LossLedger, span: Span) -> Iterator[VideoFrame]:
        for frame in frames:
            ledger.decoded(frame, wanted=frame.pts is None or span.holds(frame.pts * self.info.time_base))
            yield frame

    @staticmethod
    def _pictures(
        packet: Packet[VideoStream], decoder: PictureDecoder, ledger: LossLedger, span: Span
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
