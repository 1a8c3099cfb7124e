"""One part of a film: decoded from a key frame, painted, coded."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.films.folder import PartRecord, file_digest, pts_digest
from vidstyle.films.plan import Part, packed
from vidstyle.frame import Frame
from vidstyle.models.timeline import Timeline
from vidstyle.options import BackendOptions, ClipOptions, EncodeOptions, LookOptions, SmoothOptions
from vidstyle.pipeline import Closing
from vidstyle.rendering import VideoPainter, stylize_stream
from vidstyle.video.info import VideoInfo
from vidstyle.video.stretch import EntryPoint

ENCODER_THREADS = 4
"""What encoders make depends on how many threads they have, so it is the same number on every machine."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """What all parts of a film have in common. It can be pickled, and sent to other machines."""

    source: Path
    stamp: tuple[int, int]
    """Size of the source in bytes, and when it was changed last, in nanoseconds; see `stamp_of`."""
    output: Path
    style: Timeline
    size: tuple[int, int | None] | None
    look: LookOptions
    smooth: SmoothOptions | None
    backend: BackendOptions
    encode: EncodeOptions
    clip: ClipOptions

    def painter(self) -> VideoPainter:
        """What paints it; close it after use."""
        return VideoPainter(
            self.style,
            size=self.size,
            look=self.look,
            smooth=self.smooth,
            backend=self.backend,
            encode=self.encode,
            clip=self.clip,
        )

    def on(self, threads: int) -> Film:
        """The same film, painted by so many threads unless the user has said how many."""
        own = self.backend.threads
        return replace(self, backend=replace(self.backend, threads=threads if own is None else own))

    def check_source(self) -> None:
        """`VideoError` where the source has been changed since the film was begun."""
        if stamp_of(self.source) != self.stamp:
            raise VideoError(
                f"{self.source} was changed while it was rendered; what is done is kept: put the old file back and "
                "give the same command again, or delete the parts to begin anew"
            )


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change of a file. Raises `VideoError`."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


class PartPainter(Closing):
    """Paints parts of one film, one after the other. Use it from one thread."""

    def __init__(self, film: Film) -> None:
        self._film = film
        self._painter = film.painter()
        self._info: VideoInfo | None = None

    def paint(
        self, part: Part, pts: NDArray[np.int64], target: Path, on_frame: Callable[[int], None] | None = None
    ) -> PartRecord:
        """Paint ``part``, whose frames are shown at ``pts``, into the packets' file ``target``.

        ``on_frame`` is told after each how many are done. Raises `VideoError`, and whatever `render` raises.
        """
        self._film.check_source()
        record = self._painted(part, pts, target, part.entry, on_frame)
        if record.missing and not record.lost and part.entry is not None:
            # The key frame needs others before it, whatever the file says.
            record = self._painted(part, pts, target, None, on_frame)
        self._film.check_source()
        if record.missing and not record.lost:
            raise VideoError(
                f"{len(record.missing)} frames of part {part.number} of {self._film.source} do not come out of the "
                "decoder at their times; render it in one piece with --no-parts"
            )
        return record

    def _painted(
        self,
        part: Part,
        pts: NDArray[np.int64],
        target: Path,
        entry: EntryPoint | None,
        on_frame: Callable[[int], None] | None,
    ) -> PartRecord:
        film, painter = self._film, self._painter
        began, done = time.perf_counter(), array("q")
        painter.stylizer.begin_scene()
        with painter.open_reader(film.source, stretch=replace(part.stretch, entry=entry), info=self._info) as video:
            self._info = video.info
            writer = painter.open_writer(
                film.output,
                video.info,
                painter.form(video),
                source_path=None,
                on_device=video.on_device,
                packets_to=target,
                threads=ENCODER_THREADS,
            )
            try:
                program = painter.open_program(video, writer)

                def write(frame: Frame) -> None:
                    if frame.pts < part.first:
                        return
                    writer.write(frame)
                    done.append(frame.pts)
                    if on_frame is not None:
                        on_frame(len(done))

                stylize_stream(painter.stylizer, painter.frames(video), write)
                if done:
                    writer.finish()
            finally:
                writer.abort()
            there = np.array(done, np.int64)
            if not np.array_equal(there, pts[np.isin(pts, there)]):
                raise VideoError(
                    f"part {part.number} of {film.source} has frames that its packets do not tell of; render it in one "
                    "piece with --no-parts"
                )
            return PartRecord(
                number=part.number,
                frames=len(there),
                pts=pts_digest(there),
                durations=packed(np.array(writer.durations, np.int64)),
                missing=pts[~np.isin(pts, there)].tolist(),
                lost=video.lost,
                size=target.stat().st_size if done else 0,
                sha256=file_digest(target) if done else "",
                seconds=time.perf_counter() - began,
                backend=program.description,
                errors=list(video.errors),
                notes=[note for note in (*video.notes, *writer.notes) if note not in video.info.notes],
            )

    def close(self) -> None:
        self._painter.close()
