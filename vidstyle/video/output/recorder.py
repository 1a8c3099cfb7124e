"""A live picture on its way out: recorded to a file, cut into a playlist, or sent to a server."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from vidstyle.errors import VideoError
from vidstyle.files import check_output
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.output.muxer import OutputSpec, StreamEncoder, kept_size, output_spec, track_form, video_settings

_WAITING_FRAMES = 16
"""Half a second at 30 fps; then the oldest goes."""
_WAITING_PIECES = 500
"""Pieces of sound, some seconds."""
_FIRST_FRAMES = 2
"""What a server is shown before it has answered: its name, size and first picture, so to say."""
_BACK_OFF_SECONDS = 0.25
_LONGEST_BACK_OFF_SECONDS = 5.0
_STEADY_SECONDS = 1.0
"""A connection that held so long was a real one: the next wait is short again."""
_IDLE_SECONDS = 0.2
_CLOSE_SECONDS = 0.8
"""How long a server may take for what waits when all ends."""


class Recorder:
    """Writes frames and sound to one target from a thread of its own; a context manager.

    ``target`` is a file (.mp4, .m4v and .mov, written in fragments, or .mkv), a playlist (.m3u8, for HLS)
    or a URL (rtmp://, rtmps://, rtsp://, udp://, and srt:// where FFmpeg has it). Frames are shown at the
    times of the capture clock, the first at 0, and the sound in step; H.264 without delay, a key frame
    each second, and AAC. Where frames come faster than they are encoded the oldest waiting one goes.

    A file has its name from the start. If the process dies, what was written up to then plays, and at
    most about a second and a half is missing; a closed file has its duration and index like any other.
    When it cannot be written any more `failed` says so and the rest goes nowhere. A playlist or server that
    is lost is tried again after 0.25 s, then after twice as long each time up to 5 s, for ever.

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
    ) -> None:
        """Open ``target``; a server is connected to in the background.

        ``form`` is that of the frames: its even size, matrix and range are the output's, and frames that
        differ are converted. ``fps`` is about how many come, if that is known. Raises `BadOption` for what
        cannot be asked (a file that exists, unless ``overwrite``) and `VideoError` for what cannot be
        written.
        """
        self._target = output_spec(target)
        self._form, self._fps, self._sound = form, fps, sound
        self._encode = encode or EncodeOptions()
        video_settings(self._target, form, fps, self._encode)
        self.description = _described(self._target, form, sound, self._encode)
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
        self._finished = threading.Event()
        self._writer: StreamEncoder | None = None
        if self._target.kind != "server":
            check_output(Path(self._target.name), overwrite=overwrite)
            self._writer = self._open(overwrite)
        self._thread = threading.Thread(target=self._run, name="vidstyle-broadcast")
        self._thread.start()

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
        if self._target.kind == "server" and not self._finished.wait(_CLOSE_SECONDS):
            with self._state:
                writer = self._writer
            if writer is not None and writer.outlet.relay is not None:
                writer.outlet.relay.kill()
        self._finished.wait()
        self._thread.join()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._keep_on()
        except Exception as error:  # a mistake of ours must not look as if all went well
            self.failed = f"cannot write {self._target.name}: {error}"
            raise
        finally:
            with self._state:
                self._given_up = True
                self.dropped += len(self._frames)
                self._frames.clear()
                self._sounds.clear()
            self._finished.set()

    def _keep_on(self) -> None:
        back_off = _BACK_OFF_SECONDS
        while True:
            began = time.monotonic()
            try:
                writer = self._writer or self._open()
                with self._state:
                    self._writer = writer
                self._feed(writer)
                return
            except VideoError as error:
                self.failed = str(error)
            finally:
                with self._state:
                    self._writer = None
            if self._target.kind == "file":
                return
            if time.monotonic() - began >= _STEADY_SECONDS + back_off:
                back_off = _BACK_OFF_SECONDS
            if self._waited(back_off):
                return
            back_off = min(2 * back_off, _LONGEST_BACK_OFF_SECONDS)

    def _open(self, overwrite: bool = True) -> StreamEncoder:
        return StreamEncoder(
            self._target,
            form=self._form,
            fps=self._fps,
            sound=self._sound,
            encode=self._encode,
            overwrite=overwrite,
        )

    def _feed(self, writer: StreamEncoder) -> None:
        item: Frame | AudioChunk | None = None
        try:
            while True:
                item = None
                if (item := self._next(writer)) is None:
                    break
                if not writer.outlet.opened:
                    # While it connects only the first frames go out, so that what follows is not late.
                    writer.outlet.check()
                    if writer.frames >= _FIRST_FRAMES:
                        self.dropped += isinstance(item, Frame)
                        writer.skip()
                        continue
                elif writer.frames:
                    self._note_open()
                if isinstance(item, AudioChunk):
                    writer.sound(item)
                elif not writer.write(item):
                    self.dropped += 1
        except BaseException:
            self.dropped += isinstance(item, Frame)
            writer.abandon()
            raise
        else:
            writer.finish()
        finally:
            if not writer.outlet.opened:
                self.dropped += writer.frames  # nobody has seen them

    def _next(self, writer: StreamEncoder) -> Frame | AudioChunk | None:
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
            if writer.outlet.opened:
                writer.idle()
            else:
                writer.outlet.check()

    def _note_open(self) -> None:
        if self.failed is not None:
            self.failed = None
            self.reconnects += self._was_open
        self._was_open = True

    def _waited(self, seconds: float) -> bool:
        """Wait, and forget what came meanwhile; True where all is to end."""
        with self._state:
            self._state.wait_for(lambda: self._stop, seconds)
            self.dropped += len(self._frames)
            self._frames.clear()
            self._sounds.clear()
            return self._stop


_KINDS = {"mp4": "MP4 in fragments", "mov": "QuickTime in fragments", "matroska": "Matroska", "hls": "HLS"}


def _described(target: OutputSpec, form: FrameFormat, sound: AudioFormat | None, encode: EncodeOptions) -> str:
    height, width = kept_size(form, encode)
    parts = [f"H.264 {width}x{height}"]
    if sound is not None:
        track = track_form(sound)
        parts.append(f"AAC {track.rate / 1000:g} kHz {'stereo' if track.channels == 2 else 'mono'}")
    if target.muxer in _KINDS:
        parts.append(_KINDS[target.muxer])
    return f"{target.name} ({', '.join(parts)})"
