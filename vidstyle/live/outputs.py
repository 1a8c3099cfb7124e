"""Where the painted frames go beside the window: recordings, streams, a virtual camera, snapshots."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import cv2

from vidstyle.errors import ImageError, VidstyleError
from vidstyle.files import short_name, write_failure, write_whole
from vidstyle.frame import Frame, FrameFormat
from vidstyle.live.overlay import bgr_from_planes
from vidstyle.options import EncodeOptions
from vidstyle.pipeline import Closing
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.output.recorder import Recorder
from vidstyle.video.output.virtual_camera import Sink


@dataclass(frozen=True)
class OutputReport:
    """How one recording or stream did."""

    name: str
    """File or address, and what is in it; without passwords."""
    dropped: int
    """Frames that are not in it."""
    reconnects: int
    """How often a lost server was there again."""
    failed: str | None
    """Why it is not whole, or nobody was there at the end; None if all went well."""


class Outputs(Closing):
    """Passes frames and sound on to every output.

    `write` and the methods that begin and end things are for one thread, `sound` for another one.
    """

    def __init__(
        self,
        form: FrameFormat,
        fps: float | None,
        sound: AudioFormat | None,
        *,
        encode: EncodeOptions,
        workers: Executor,
    ) -> None:
        """For frames of ``form``. ``workers`` run what takes its time: the end of a recording."""
        self._form, self._fps, self._sound, self._encode = form, fps, sound, encode
        self._workers = workers
        self._streams: tuple[Recorder, ...] = ()
        self._recording: tuple[Recorder, Path] | None = None
        self._camera: Sink | None = None
        self._all: list[Recorder] = []
        self._camera_failed: str | None = None
        self.recordings: list[str] = []
        """Files that were recorded, or are being."""

    def add(self, target: str | Path, *, overwrite: bool) -> Recorder:
        """Send everything to ``target``. Raises as `Recorder` does."""
        form, fps, sound, encode = self._form, self._fps, self._sound, self._encode
        stream = Recorder(target, form=form, fps=fps, sound=sound, encode=encode, overwrite=overwrite)
        self._all.append(stream)
        self._streams = (*self._streams, stream)
        return stream

    def add_camera(self, open_camera: Callable[[FrameFormat, float | None], Sink]) -> None:
        """Be a virtual camera. Raises as `VirtualCamera` does."""
        self._camera = open_camera(self._form, self._fps)

    @property
    def recording(self) -> Path | None:
        return None if self._recording is None else self._recording[1]

    def record(self, path: Path, *, overwrite: bool = False) -> None:
        """Begin to record to ``path``. Raises as `Recorder` does."""
        self._recording = self.add(path, overwrite=overwrite), path
        self.recordings.append(str(path))

    def stop_recording(self) -> None:
        """End the recording; its last frames are encoded in the background."""
        if self._recording is not None:
            recording = self._recording[0]
            self._recording = None
            self._streams = tuple(stream for stream in self._streams if stream is not recording)
            self._workers.submit(recording.close)

    def write(self, frame: Frame) -> None:
        """Pass ``frame`` on; its planes must stay as they are."""
        for stream in self._streams:
            stream.write(frame)
        if self._camera is not None:
            try:
                self._camera.write(frame)
            except VidstyleError as error:
                self._camera_failed = str(error)
                self._camera.close()
                self._camera = None

    def sound(self, sound: AudioChunk) -> None:
        for stream in self._streams:
            stream.sound(sound)

    @property
    def problem(self) -> str | None:
        """What is wrong with one of them at this moment."""
        failed = [stream.failed for stream in self._streams if stream.failed is not None]
        return next(iter(failed), self._camera_failed)

    def close(self) -> None:
        """End all of them; what waits to be encoded is written. Closing twice is fine."""
        self._recording = None
        for stream in self._all:
            stream.close()
        if self._camera is not None:
            self._camera.close()

    def report(self) -> list[OutputReport]:
        """How each of them did, in the order in which they began."""
        reports = [OutputReport(one.description, one.dropped, one.reconnects, one.failed) for one in self._all]
        if self._camera_failed is not None:
            reports.append(OutputReport("virtual camera", 0, 0, self._camera_failed))
        return reports


def free_name(path: Path) -> Path:
    """``path``, or ``out-2.mp4``, ``out-3.mp4`` ... where ``out.mp4`` is taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def snapshot_path(folder: Path, title: str, suffix: str = ".png") -> Path:
    """A name in ``folder`` that says style and time and that no file has."""
    style = re.sub(r"[^\w+-]+", "-", title.replace(" %", "").replace(" + ", "+")).strip("-") or "picture"
    return free_name(folder / f"{short_name(style, 80)}-{time.strftime('%Y%m%d-%H%M%S')}{suffix}")


def save_snapshot(frame: Frame, folder: Path, title: str) -> Path:
    """Write ``frame`` to a new PNG file in ``folder``, which is made if need be; returns its path.

    Raises `ImageError` naming the file.
    """
    path = folder / "snapshot.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = snapshot_path(folder, title)
        _, encoded = cv2.imencode(".png", bgr_from_planes(frame.planes, frame.form))
        write_whole(path, encoded.tobytes(), overwrite=False)
    except OSError as error:
        raise ImageError(write_failure(path, error)) from error
    return path
