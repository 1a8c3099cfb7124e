"""One opening of a live source: what it delivers, until it ends or drops."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.video.audio import AudioReader, audio_format
from vidstyle.video.capture.clock import Backlog
from vidstyle.video.capture.devices import InputSpec
from vidstyle.video.convert import PlaneReader, place_in, size_of
from vidstyle.video.demux import ONE_THREAD_PIXELS, PictureDecoder, SourceLost, live_packets, video_stream
from vidstyle.video.filters import Deinterlacer
from vidstyle.video.formats import BROADCAST, UNTIMED
from vidstyle.video.info import VideoInfo, read_info

_SILENCE_SECONDS = 5.0  # how long packets may come without a picture in them before the stream is taken for lost
_POLL_SECONDS = 0.002  # how often a device that has nothing yet is asked again
_MAX_ASPECT = 8  # pixels that are said to be wider, or higher, than that are a mistake


@dataclass(frozen=True)
class Picture:
    """A decoded picture on the stream's own clock."""

    decoded: VideoFrame
    """Upright or not, in any pixel format; `LiveReader.planes` makes planes of it."""
    seconds: float | None
    """When it is shown; None where the stream does not say."""
    length: float
    """Seconds for which it is shown, as far as known, else 0."""


@dataclass(frozen=True)
class AudioPiece:
    """Decoded sound on the stream's own clock."""

    samples: NDArray[np.float32]
    """(channels, n)."""
    seconds: float


class LiveReader:
    """An open source. Use it from one thread at a time.

    ``stop`` ends it: no call waits much longer than a second and a half after it was set.
    """

    def __init__(self, spec: InputSpec, stop: threading.Event, seconds: float, *, sound: bool) -> None:
        """Open ``spec`` and decode its first picture, with about ``2 * seconds`` to open it.

        ``sound``: also decode the first sound track. Raises `VideoError`.
        """
        self._stop = stop
        self._container: InputContainer = spec.open(seconds)
        try:
            self._video = video_stream(self._container, spec.label)
            # A broadcast may name a track that it does not send.
            heard = (s for s in self._container.streams.audio if s.codec_context and s.codec_context.sample_rate)
            self._audio: AudioStream | None = next(heard, None)
            self.sound = None if self._audio is None else audio_format(self._audio)
            """Form that its sound is brought to, None without sound."""
            if not sound:
                self._audio = None
            self.live = spec.kind != "file" and not (spec.kind == "network" and self._container.duration)
            """Whether it goes on for ever: not a recording, be it on disk or behind a URL."""
            self.paced = not self.live or spec.kind == "pattern"
            """Whether it delivers as fast as it is read, so that the reader has to keep the time."""
            self.counted = self.live and self._container.format.name in UNTIMED
            """Whether the stream has no times of its own."""
            self.may_jump = self._container.format.name in BROADCAST
            self.waited = True
            """Whether the last picture had to be waited for: one that had not has been waiting itself."""
            self._backlog = Backlog()
            self._in_segments = self._container.format.name == "hls"
            self._tune()
            self._decoder = PictureDecoder(self._video)
            self._decoded = self._decode()
            self._waiting: deque[VideoFrame | AudioFrame] = deque()
            self.info: VideoInfo = read_info(spec.label, self._container, self._video, self._first(spec.label))
            self._progressive = Deinterlacer()
        except BaseException:
            self._container.close()
            raise
        self.fps = self._rate()
        """Frames a second that it says it delivers, None where it says nothing credible."""
        self._step = 1 / (self.fps or 25.0)
        self._form = self.natural_form()
        self._reader: tuple[FrameFormat, PlaneReader] | None = None
        self._sound: AudioReader | None = None

    def _rate(self) -> float | None:
        if self.counted:
            return None
        # The third is FFmpeg's guess from the first few times, often twice the rate.
        for rate in (self._video.average_rate, self._video.codec_context.framerate, self.info.rate):
            if rate and 1 <= rate <= 240:
                return float(rate)
        return None

    def natural_form(self) -> FrameFormat:
        """Form of its pictures as they are shown, upright and with square pixels, as i420."""
        return self.info.form(self._shown(self.info.coded_size), "i420")

    def become(self, form: FrameFormat, sound: AudioReader | None) -> None:
        """From now on pictures are brought to ``form``, as large as fits, and sound to the form of ``sound``."""
        self._form, self._reader = form, (form, PlaneReader(self.info, form))
        self._sound = sound

    def _shown(self, stored: tuple[int, int]) -> tuple[int, int]:
        """``(height, width)`` of a picture stored as ``(height, width)``, cropped, upright, with square pixels."""
        height, width = self.info.shown_size(stored)
        aspect = self._decoder.sample_aspect_ratio or self._video.sample_aspect_ratio
        if aspect and aspect != 1 and _MAX_ASPECT > aspect > 1 / _MAX_ASPECT:
            width = max(2, round(width * aspect / 2) * 2)
        return self.info.upright((height, width))

    def close(self) -> None:
        """Close the container. Not while another thread reads."""
        self._decoded.close()
        self._waiting.clear()
        with contextlib.suppress(av.error.FFmpegError):
            self._container.close()

    def read(self) -> Iterator[Picture | AudioPiece]:
        """Everything it delivers, as it comes; ends where a recording ends. Raises `SourceLost`."""
        seconds: float | None = None
        for decoded in chain(self._in_order(), (None,)):  # the last picture comes when the end is known
            if isinstance(decoded, AudioFrame):
                if self._sound is not None:
                    yield from (AudioPiece(*piece) for piece in self._sound.read(decoded))
                continue
            for frame in self._progressive.frames(decoded):
                base = frame.time_base or Fraction(1, 90000)
                length = float(frame.duration * base) if frame.duration else self._step
                if frame.pts is not None:
                    seconds = float(frame.pts * base)
                elif seconds is not None:
                    seconds += length
                yield Picture(frame, seconds, length)

    def planes(self, frame: VideoFrame) -> tuple[Planes, FrameFormat]:
        """The planes of ``frame``, and their form: the one agreed, or the part of it that another shape fills.

        They may be views into the decoder's memory.
        """
        assert self._reader is not None, "become() comes first"
        place = place_in(self._shown((frame.height, frame.width)), self._form.size)
        form = self._form if place is None else self._form.resized(size_of(place))
        if form != self._reader[0]:
            self._reader = form, PlaneReader(self.info, form)
        planes = self._reader[1].read(frame)
        if self._video.codec_context.name == "rawvideo":
            # These views would be into the driver's few buffers, which are gone when the device is closed.
            planes = tuple(np.array(plane) for plane in planes)
        return planes, form

    def _tune(self) -> None:
        context = self._video.codec_context
        if self.live:
            # Threads that decode whole frames hold back as many frames as there are threads.
            context.thread_type = "SLICE"
        elif context.width * context.height > ONE_THREAD_PIXELS:
            context.thread_type = "AUTO"
        else:
            context.thread_count = 1

    def _first(self, label: str) -> VideoFrame:
        try:
            for frame in self._decoded:
                self._waiting.append(frame)
                if isinstance(frame, VideoFrame):
                    return frame
        except SourceLost as error:
            raise VideoError(f"{label} broke off before its first picture: {error}") from error
        raise VideoError(f"{label} holds no picture that can be decoded")

    def _in_order(self) -> Iterator[VideoFrame | AudioFrame]:
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._decoded

    def _decode(self) -> Generator[VideoFrame | AudioFrame, None, None]:
        streams: list[VideoStream | AudioStream] = [self._video]
        if self._audio is not None:
            streams.append(self._audio)
        seen = reading = time.monotonic()
        for packet in live_packets(self._container, self._stop, *streams, poll_seconds=_POLL_SECONDS):
            came = time.monotonic()
            if packet.stream is self._video and packet.size and not (self.paced or self._in_segments):
                self.waited = came - reading > _POLL_SECONDS
                timed = None if self.counted or packet.dts is None or not packet.time_base else packet.dts
                at = None if timed is None else float(timed * packet.time_base)
                if self._backlog.skips(at, came, came - reading, key=packet.is_keyframe):
                    seen = reading = came
                    continue
            try:
                frames = self._decoder.decode(packet) if packet.stream is self._video else packet.decode()
            except av.error.FFmpegError:
                frames = []  # damaged; the next key frame mends it
            for frame in frames:
                if isinstance(frame, VideoFrame):
                    seen = came
                if isinstance(frame, VideoFrame | AudioFrame):
                    yield frame
            if self.live and came - seen > _SILENCE_SECONDS:
                raise SourceLost("no picture can be decoded")
            reading = time.monotonic()
