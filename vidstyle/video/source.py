"""Frames of a video file, upright, in one form, each with its time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameForm, Matrix, Pixels
from vidstyle.options import ClipOptions
from vidstyle.video.beside import BesideReader
from vidstyle.video.changes import Changes
from vidstyle.video.container import open_input, packets
from vidstyle.video.decoder import PictureDecoder
from vidstyle.video.deinterlace import Deinterlacer
from vidstyle.video.info import RANGE_FULL, VideoInfo, guessed_matrix
from vidstyle.video.ledger import LossLedger
from vidstyle.video.nvidia import VideoGpu, gpu_planes, nvdec_decoder, nvdec_obstacle, trial_obstacle
from vidstyle.video.planes import PlaneReader
from vidstyle.video.probe import probe, video_stream
from vidstyle.video.span import Span, exact_seconds

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
        self.form = FrameForm(
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
        info = self.info
        span = Span.of(info, self._clip)
        reader, beside = PlaneReader(info, self.form), BesideReader(info)
        clock = _Clock(info)
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            if self._threads is not None:
                stream.codec_context.thread_count = self._threads
            elif self.form.width * self.form.height <= _ONE_THREAD_PIXELS:
                stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "AUTO"
            gpu = None if self._gpu is None else nvdec_decoder(stream, info.codec, self._gpu.accelerator)
            decoder = PictureDecoder(stream, gpu)
            if span.begin is not None and info.container.startswith(_INDEXED):
                # Where there is no usable index, reading from the beginning is the fallback.
                with contextlib.suppress(av.error.FFmpegError):
                    container.seek(math.floor(span.begin / info.time_base), stream=stream)
            ledger = self._ledger = LossLedger(stream, interlaced=info.interlaced)
            for decoded in self._progressive(container, stream, decoder, ledger, span):
                pts = clock.pts(decoded)
                seconds = pts * info.time_base
                if span.is_over(seconds):
                    return
                if span.holds(seconds):
                    planes = gpu_planes(decoded, self.form) if self.on_device else None
                    if planes is None:
                        planes = reader.read(decoded)
                    yield Frame(planes, self.form, pts, info.time_base, decoded.duration, beside.read(decoded))
            declared = None if info.duration is None else info.start + exact_seconds(info.duration)
            if declared is not None and span.end is not None:
                declared = min(declared, span.end)
            ledger.ended(self.path, declared, info.rate)

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
            for sentence in changes.seen(frame, decoder.sample_aspect_ratio):
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
        demuxed = packets(container, stream)
        while True:
            try:
                packet = next(demuxed, None)
            except av.error.FFmpegError as error:
                # A demuxer often finds its way again behind a damaged place.
                ledger.unreadable(error.strerror or type(error).__name__)
                read_errors += 1
                if read_errors > _READ_ERRORS_ALLOWED:
                    return
                demuxed = packets(container, stream)
                continue
            if packet is None:
                return
            wanted = packet.pts is None or span.holds(packet.pts * packet.time_base)
            if wanted:
                ledger.sent(packet)
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError:
                if wanted:
                    ledger.failed(packet)
                continue
            for frame in frames:
                if frame.pts is None or span.holds(frame.pts * self.info.time_base):
                    ledger.decoded(frame)
                yield frame


class _Clock:
    """Gives a time to frames that have none: raw streams, and AVI, which counts packets and knows no times."""

    def __init__(self, info: VideoInfo) -> None:
        self._counts_packets = info.container == "avi"
        self._step = max(1, round(1 / ((info.rate or Fraction(25)) * info.time_base)))
        self._next = 0
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
        self._next = pts + (frame.duration or self._step)
        return pts
