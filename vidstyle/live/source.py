"""What a live picture takes in: frames, read by a thread of their own, and sound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Literal, Protocol

from vidstyle.frame import Frame, FrameFormat
from vidstyle.scheduler import LatestSlot
from vidstyle.video.audio import AudioChunk, AudioFormat

OnSound = Callable[[AudioChunk], None]


class Source(Protocol):
    """What frames come from; `vidstyle.video.capture.Capture` is one."""

    form: FrameFormat
    """Of the frames; one whose picture has another shape may have another size."""
    description: str
    """What was negotiated, for people."""
    fps: float | None
    """Frames a second that it says it delivers."""
    reconnects: int
    """How often it has come back."""
    state: Literal["open", "lost"]
    """``lost`` while it is waited for."""
    sound_form: AudioFormat | None
    """Of its sound, if it has any."""

    def frames(self) -> Generator[Frame, None, None]:
        """Frames whose ``pts`` are microseconds of `time.monotonic`."""

    def close(self) -> None:
        """End `frames`, whatever it waits for; called from another thread. Closing twice is fine."""


class Microphone(Protocol):
    """Sound from elsewhere than the source of the picture."""

    form: AudioFormat
    """Of every piece."""

    def close(self) -> None:
        """Stop. Closing twice is fine."""


class CaptureThread(threading.Thread):
    """Reads a source as fast as it comes; all but the newest frame is dropped."""

    def __init__(self, source: Source, latest: LatestSlot[Frame]) -> None:
        super().__init__(name="vidstyle-capture")
        self._source, self._latest = source, latest
        self._finished = threading.Event()

    def run(self) -> None:
        """Pass frames on until the source ends; its error, if it raises one, goes to who takes the frames."""
        try:
            for frame in self._source.frames():
                self._latest.put(frame)
            self._latest.close()
        except BaseException as error:
            self._latest.close(error)
        finally:
            self._finished.set()

    def end(self) -> None:
        """Close the source and wait for the thread."""
        self._source.close()
        if self.ident is None:
            return  # it was never started
        # Before Python 3.13 a join that Ctrl-C interrupts marks a running thread as dead.
        self._finished.wait()
        self.join()
