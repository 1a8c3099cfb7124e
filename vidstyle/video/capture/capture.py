"""Frames of a live source, each with the time at which it was taken."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal

from vidstyle.errors import VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import MAX_SIDE, check_between
from vidstyle.pipeline import BackOff, Closing
from vidstyle.video.audio import AudioChunk, AudioFormat, AudioReader
from vidstyle.video.capture.clock import MICROSECOND, ArrivalClock, PlayClock, now
from vidstyle.video.capture.devices import InputSpec, input_spec
from vidstyle.video.capture.reader import AudioPiece, LiveReader
from vidstyle.video.demux import SourceLost

_FIRST_SECONDS = 5.0  # for each of the two steps in which FFmpeg opens a source
_AGAIN_SECONDS = 0.9  # the same when it is opened again: `Capture.close` may have to wait for both steps


class Capture(Closing):
    """A live source to read frames from: camera, screen, stream, test pattern, or a file played in real time.

    ``source`` is one of

    - ``0``, ``1``, ``/dev/video0``, a camera's name or a part of it that fits no other camera;
    - ``screen``: what the display shows;
    - ``testsrc``: FFmpeg's test pattern;
    - a URL: ``rtsp://``, ``http://``, ``https://``, ``udp://``, ``rtmp://``, ``srt://``;
    - the path of a video file, played by its own times.

    A camera or stream that drops is opened again for ever, with growing pauses. A recording (a file, or a URL with a
    beginning and an end) ends, or starts again with ``loop``.

    One thread reads; `close` may be called from any. It is a context manager. Run on Linux; cameras and screens of
    macOS and Windows follow FFmpeg's documentation and are untried.
    """

    def __init__(
        self,
        source: str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        loop: bool = False,
        on_sound: Callable[[AudioChunk], None] | None = None,
        back_off: float = 0.25,
        patience: float = _FIRST_SECONDS,
    ) -> None:
        """Open ``source`` and decode its first picture. Raises `VideoError` in one sentence.

        ``size`` is ``(height, width)``: cameras are asked for it, the test pattern is made at it, larger screens,
        streams and files are scaled down to fit inside. ``fps`` is asked of cameras, screens and the test pattern.
        ``on_sound`` is called with the source's sound on the thread that reads frames. ``back_off`` is the first pause
        in seconds before a lost source is opened again, ``patience`` how long it may take for each of the two steps in
        which FFmpeg opens it.
        """
        for side in size or ():
            check_between("side of the source", side, 16, MAX_SIDE)
        if fps is not None:
            check_between("fps of the source", fps, 1, 240)
        self.source = source
        self._size, self._fps, self._loop, self._on_sound = size, fps, loop, on_sound
        self._back_off, self._patience = back_off, patience
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._owner: int | None = None
        began = time.monotonic()
        spec = self._spec()
        reader = self._reader = self._opened(spec, patience)
        # A source that takes its time is given it again, though closing may then take as long.
        self._again_seconds = min(max(_AGAIN_SECONDS, 2 * (time.monotonic() - began)), patience)
        self.live = reader.live
        """Whether it goes on for ever; False for a recording, which ends."""
        self.form: FrameFormat = reader.natural_form()
        """Form of the frames. What comes in another one later is converted and scaled to it. A picture of another shape
        is as large as fits inside, and its frame has that size."""
        if size is not None and spec.kind not in ("camera", "pattern"):
            self.form = self.form.resized(_fitted(self.form.size, size))
        self.sound_form: AudioFormat | None = reader.sound
        """Form of its sound, None without sound."""
        self.fps: float | None = reader.fps
        """Frames a second that the source says it delivers, None where it says nothing."""
        self.label = spec.label
        """What the source is called to people: the name of a camera or file, scheme and host of a URL."""
        self.description = _described(spec, reader, self.form)
        """What was really negotiated: ``HD Pro Webcam C920, 1280x720 at 30 fps (mjpeg)``."""
        self.reconnects = 0
        self.state: Literal["open", "lost"] = "open"
        """``lost`` while it waits for the source to come back."""
        self._last = 0
        self._run = self._frames()

    def frames(self) -> Generator[Frame, None, None]:
        """Every frame, as it comes, until the recording ends or `close` is called.

        ``pts`` is the capture clock, microseconds of `time.monotonic`: when a camera's or stream's frame came in, when
        a recording's frame is due. Recordings and the test pattern start at the first call. Planes may be views into
        the decoder's memory: valid while referenced, not to be written to. Raises `VideoError` where a recording breaks
        off.
        """
        while True:
            with self._lock:
                if self._stop.is_set():
                    return
                self._owner = threading.get_ident()
                try:
                    frame = next(self._run, None)
                finally:
                    self._owner = None
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """Stop reading and free the source: within two seconds, whatever it does. Closing twice is fine."""
        self._stop.set()
        if self._owner == threading.get_ident():
            return  # called by `on_sound`; the reader is on its way out
        with self._lock:
            self._run.close()
            self._reader.close()

    def _spec(self) -> InputSpec:
        # Looked up anew each time: a camera that is plugged in again may have another number.
        return input_spec(self.source, size=self._size, fps=self._fps)

    def _opened(self, spec: InputSpec, seconds: float) -> LiveReader:
        return LiveReader(spec, self._stop, seconds, sound=self._on_sound is not None)

    def _frames(self) -> Generator[Frame, None, None]:
        play = PlayClock()
        while True:
            try:
                yield from self._play(self._reader, play)
            except SourceLost as error:
                if not self.live and not self._stop.is_set():
                    raise VideoError(f"{self.label} broke off while it was played: {error}") from error
            finally:
                self._reader.close()
            if self._stop.is_set():
                return
            if not self.live:
                if not self._loop:
                    self._stop.wait((play.end - now()) / 1e6)  # the last frame is shown for its time, too
                    return
                self._reader = self._opened(self._spec(), self._patience)
            elif not self._reconnect():
                return
            # A frame that was asked for its side data, as the first one is, and that data hold each other, and the
            # decoder's buffers: too few objects for Python to look for them soon. This takes about 10 ms.
            gc.collect()

    def _play(self, reader: LiveReader, play: PlayClock) -> Generator[Frame, None, None]:
        sound = None if self.sound_form is None else AudioReader(self.sound_form)
        reader.become(self.form, sound)
        arrival = ArrivalClock(synthetic=reader.counted, monotonic=reader.info.container.endswith("v4l2"))
        if reader.paced:
            play.begin(float(reader.info.start), may_jump=reader.may_jump)
        for item in reader.read():
            if self._stop.is_set():
                return
            if isinstance(item, AudioPiece):
                if sound is not None and self._on_sound is not None:
                    length = item.samples.shape[1] / sound.form.rate
                    at = play.due(item.seconds, length) if reader.paced else arrival.sound(item.seconds)
                    if at is not None:
                        self._on_sound(sound.join(item.samples, at))
                continue
            planes, shown = reader.planes(item.decoded)
            if not reader.paced:
                pts = arrival.picture(item.seconds, waited=reader.waited)
            else:
                pts = play.late(play.due(item.seconds or 0.0, item.length))
                if self._stop.wait((pts - now()) / 1e6):
                    return
            self._last = pts = max(pts, self._last + 1)
            yield Frame(planes, shown, pts, MICROSECOND, round(item.length * 1e6) if reader.paced else 0)

    def _reconnect(self) -> bool:
        self.state = "lost"
        reader = BackOff(self._back_off).retry(
            lambda: self._opened(self._spec(), self._again_seconds), self._stop, VideoError
        )
        if reader is None:
            return False
        self._reader = reader
        self.reconnects += 1
        self.state = "open"
        return True


def _fitted(size: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """``size`` scaled down to lie within ``bounds``, its aspect kept, sides even."""
    scale = min(1.0, bounds[0] / size[0], bounds[1] / size[1])
    if scale == 1.0:
        return size
    return max(2, round(size[0] * scale / 2) * 2), max(2, round(size[1] * scale / 2) * 2)


def _described(spec: InputSpec, reader: LiveReader, form: FrameFormat) -> str:
    height, width = reader.info.size
    text = f"{spec.label}, {width}x{height}"
    if reader.fps:
        text += f" at {reader.fps:.4g} fps"
    if spec.kind != "pattern":
        text += f" ({reader.info.codec})"
    if form.size != reader.info.size:
        text += f", scaled to {form.width}x{form.height}"
    return text
