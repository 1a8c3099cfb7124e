"""A live picture on its way out: recorded to a file, cut into a playlist, or sent to a server."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from pathlib import Path

from vidstyle.errors import VideoError
from vidstyle.files import check_output
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.pipeline import BackOff, Closing, Worker
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.formats import ENCODERS
from vidstyle.video.output.muxer import (
    OutputSpec,
    StreamEncoder,
    output_spec,
    sound_encoder,
    track_form,
    video_settings,
)

_WAITING_FRAMES = 16  # half a second at 30 fps; then the oldest goes
_WAITING_PIECES = 500  # pieces of sound, some seconds
_FIRST_FRAMES = 2  # frames that go to a server before it has answered: enough to say its format and show a picture
_STEADY_SECONDS = 1.0  # a connection that held so long was a real one: the next wait is short again
_IDLE_SECONDS = 0.2
_CLOSE_TIMEOUT = 0.8  # how many seconds a server may take for what waits when all ends
_KINDS = {"mp4": "MP4 in fragments", "mov": "QuickTime in fragments", "matroska": "Matroska", "hls": "HLS"}


class Recorder(Closing):
    """Writes frames and sound to one target from a thread of its own; a context manager.

    ``target`` is a file (.mp4, .m4v and .mov, written in fragments, or .mkv), a playlist (.m3u8, for HLS) or a URL
    (rtmp://, rtmps://, rtsp://, udp://, whip+https://, and srt:// where FFmpeg has it). Frames are shown at the times
    of the capture clock, the first at 0, and the sound in step; H.264 without delay, a key frame each second, and AAC
    (Opus by WHIP). Where frames come faster than they are encoded the oldest waiting one goes.

    A file has its name from the start. If the process dies, what was written up to then plays, and at most about a
    second and a half is missing; a closed file has its duration and index like any other. When it cannot be written any
    more `failed` says so and the rest goes nowhere. A playlist or server that is lost is tried again after pauses as
    ``back_off`` has them, for ever.

    `write` and `sound` may be called from two threads, and return at once.
    """

    def __init__(
        self,
        target: str | Path,
        *,
        form: FrameFormat,
        fps: float | None,
        sound: AudioFormat | None,
        encode: EncodeOptions | None = None,
        overwrite: bool = False,
        back_off: BackOff | None = None,
    ) -> None:
        """Open ``target``; a server is connected to in the background.

        ``form`` is that of the frames: its even size, matrix and range are the output's, and frames that differ are
        converted. ``fps`` is about how many come, if that is known. Raises `BadOption` for what cannot be asked (a file
        that exists, unless ``overwrite``) and `VideoError` for what cannot be written.
        """
        spec = self._spec = output_spec(target)
        encode = encode or EncodeOptions()
        video_settings(spec, form, fps, encode)
        self._open = partial(StreamEncoder, spec, form=form, fps=fps, sound=sound, encode=encode)
        self._back_off = back_off or BackOff()
        self.description = _described(spec, ENCODERS["h264"].kept_size(form.size, encode.pixel_format), sound)
        """What is written where, for people; without passwords and keys."""
        self.dropped = 0
        """Frames that are not in the output: they came too fast, or the far end was away."""
        self.reconnects = 0
        """How often the far end was there again after it had been lost."""
        self.failed: str | None = None
        """Why nothing is written at this moment; None while all is well."""
        self._state = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._sounds: deque[AudioChunk] = deque(maxlen=_WAITING_PIECES)
        self._stop = False
        self._given_up = False
        self._was_open = False
        self._encoder: StreamEncoder | None = None
        if spec.kind != "server":
            check_output(Path(spec.name), overwrite=overwrite)
            self._encoder = self._open(overwrite=overwrite)
        self._worker = Worker("recorder", self._run)
        self._worker.start()

    def write(self, frame: Frame) -> None:
        """Add ``frame``, whose planes must stay as they are from now on (they are not copied)."""
        with self._state:
            if self._stop or self._given_up:
                self.dropped += not self._stop
                return
            self._frames.append(frame)
            if len(self._frames) > _WAITING_FRAMES:
                self._frames.popleft()
                self.dropped += 1
            self._state.notify()

    def sound(self, sound: AudioChunk) -> None:
        """Add ``sound``, whose samples must stay as they are from now on."""
        with self._state:
            if not (self._stop or self._given_up):
                self._sounds.append(sound)
                self._state.notify()

    def close(self) -> None:
        """Write what waits, and end. A server has two seconds for it, a disk as long as it takes.

        Closing twice is fine. Raises nothing: `failed` tells whether the end of a file could be written.
        """
        with self._state:
            self._stop = True
            self._state.notify()
        if self._spec.kind == "server" and not self._worker.finished.wait(_CLOSE_TIMEOUT):
            with self._state:
                encoder = self._encoder
            if encoder is not None and encoder.muxer.process is not None:
                encoder.muxer.process.kill()
        self._worker.join()

    def _run(self) -> None:
        try:
            self._keep_on()
        except Exception as error:  # a mistake of ours must not look as if all went well
            self.failed = f"cannot write {self._spec.name}: {error}"
            raise
        finally:
            with self._state:
                self._given_up = True
                self._forget()

    def _keep_on(self) -> None:
        while True:
            began = time.monotonic()
            try:
                encoder = self._encoder or self._open()
                with self._state:
                    self._encoder = encoder
                self._feed(encoder)
                return
            except VideoError as error:
                self.failed = str(error)
            finally:
                with self._state:
                    self._encoder = None
            if self._spec.kind == "file":
                return
            if time.monotonic() - began >= _STEADY_SECONDS + self._back_off.seconds:
                self._back_off.reset()
            with self._state:
                self._state.wait_for(lambda: self._stop, self._back_off.next())
                self._forget()  # what came meanwhile
                if self._stop:
                    return

    def _feed(self, encoder: StreamEncoder) -> None:
        item: Frame | AudioChunk | None = None
        muxer = encoder.muxer
        try:
            while True:
                item = None
                if (item := self._next(encoder)) is None:
                    break
                if not muxer.opened:
                    # While it connects only the first frames go out, so that what follows is not late.
                    muxer.check()
                    if encoder.frames >= _FIRST_FRAMES:
                        self.dropped += isinstance(item, Frame)
                        encoder.skip()
                        continue
                elif encoder.frames:
                    if self.failed is not None:
                        self.failed = None
                        self.reconnects += self._was_open
                    self._was_open = True
                if isinstance(item, AudioChunk):
                    encoder.sound(item)
                elif not encoder.write(item):
                    self.dropped += 1
        except BaseException:
            self.dropped += isinstance(item, Frame)
            muxer.abandon()
            raise
        else:
            encoder.finish()
        finally:
            if not muxer.opened:
                self.dropped += encoder.frames  # nobody has seen them

    def _next(self, encoder: StreamEncoder) -> Frame | AudioChunk | None:
        while True:
            with self._state:
                if not (self._frames or self._sounds or self._stop):
                    self._state.wait(_IDLE_SECONDS)
                # Sound first: it is taken for missing when it is far behind the picture.
                if self._sounds:
                    return self._sounds.popleft()
                if self._frames:
                    return self._frames.popleft()
                if self._stop:
                    return None
            if encoder.muxer.opened:
                encoder.idle()
            else:
                encoder.muxer.check()

    def _forget(self) -> None:
        self.dropped += len(self._frames)
        self._frames.clear()
        self._sounds.clear()


def _described(spec: OutputSpec, size: tuple[int, int], sound: AudioFormat | None) -> str:
    parts = [f"H.264 {size[1]}x{size[0]}"]
    if sound is not None:
        track, codec = track_form(sound, spec), "Opus" if sound_encoder(spec) == "libopus" else "AAC"
        parts.append(f"{codec} {track.rate / 1000:g} kHz {track.label}")
    if spec.muxer in _KINDS:
        parts.append(_KINDS[spec.muxer])
    return f"{spec.name} ({', '.join(parts)})"
