"""A film in parts: planned once, painted part by part, assembled, and gone on with where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError, VidstyleError
from vidstyle.files import as_path, check_output
from vidstyle.films.folder import PartRecord, PartsFolder, file_digest, folder_of, whole_name
from vidstyle.films.part import ENCODER_THREADS, Film, stamp_of
from vidstyle.films.plan import PART_SECONDS, Part, Plan, facts_of, make_plan, unpacked
from vidstyle.films.processes import Order, Tell, paint_here, paint_in_processes
from vidstyle.models.style import Style
from vidstyle.models.timeline import Timeline
from vidstyle.options import (
    BackendOptions,
    ClipOptions,
    EncodeOptions,
    LookOptions,
    SmoothOptions,
    check_between,
    check_callable,
    check_whole,
)
from vidstyle.rendering import Progress, RenderReport, VideoPainter, no_picture
from vidstyle.video.demux import open_demuxer, packets
from vidstyle.video.frame_index import index_frames
from vidstyle.video.info import VideoInfo
from vidstyle.video.writer import VideoWriter

LONG_SECONDS = 600.0
"""Films longer than this are rendered in parts by themselves."""
MAX_WORKERS = 4096
_ERRORS_KEPT = 5


def is_long(info: VideoInfo, clip: ClipOptions) -> bool:
    """Whether so much of the video that ``info`` is of is rendered that parts pay."""
    ends = [end for end in (info.duration, clip.end) if end is not None]
    return bool(ends) and min(ends) - clip.start > LONG_SECONDS


def render_parts(
    source: str | Path,
    output: str | Path,
    style: str | Path | Style | Timeline | None = None,
    *,
    size: tuple[int, int | None] | None = None,
    look: LookOptions | None = None,
    smooth: SmoothOptions | None = None,
    backend: BackendOptions | None = None,
    encode: EncodeOptions | None = None,
    clip: ClipOptions | None = None,
    overwrite: bool = False,
    workers: int | str = 1,
    part_seconds: float = PART_SECONDS,
    keep_parts: bool = False,
    info: VideoInfo | None = None,
    on_plan: Callable[[int, float], None] | None = None,
    on_start: Callable[[RenderReport], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RenderReport:
    """Do what `render` does, in parts of about ``part_seconds`` that are kept until all of them are there.

    Called again with the same arguments it goes on where it was stopped, however that was. ``workers`` is how many
    processes paint at once (1 is this one), or the address of a Ray cluster, ``ray://HOST:10001`` or ``ray`` for the
    one that is there. The parts lie in a folder beside ``output`` (``out.mp4.parts``), which goes when the film is
    whole, unless ``keep_parts``. ``info`` is as for `render`. ``on_plan`` is told how many frames and seconds of the
    source were looked through before anything is painted. Raises what `render` raises, and `BadOption` where that
    folder belongs to another run or to a film with other options.
    """
    check_callable("on_plan", on_plan)
    check_callable("on_start", on_start)
    check_callable("on_progress", on_progress)
    check_between("part seconds", part_seconds, 0.1, 86400)
    crew = _crew(workers)
    source, output = as_path(source, "input"), as_path(output, "output")
    done = finished_report(output, keep_parts=keep_parts)
    if done is not None and not overwrite:
        return done
    check_output(output, overwrite=overwrite, source=source)
    painter = VideoPainter(style, size=size, look=look, smooth=smooth, backend=backend, encode=encode, clip=clip)
    with painter:
        film = Film(
            source=source,
            stamp=stamp_of(source),
            output=output,
            style=painter.timeline,
            size=size,
            look=painter.stylizer.look,
            smooth=painter.smooth,
            backend=painter.backend,
            encode=painter.encode,
            clip=painter.clip,
        )
        run = _Run(film, painter, on_progress)
        report = run.prepare(output, info)
        with PartsFolder(output) as folder:
            run.plan(folder, part_seconds, on_plan)
            run.take_over(folder)
            run.began = time.perf_counter()
            report.startup_seconds = run.began - run.opened
            if on_start is not None:
                on_start(report)
            for _ in range(2):  # again where a part was damaged meanwhile
                for record in crew(film, run.missing(), folder, run.tell):
                    folder.add(record)
                    run.records[record.number] = record
                whole = run.assemble(folder)
                if whole is not None:
                    break
            else:
                raise VideoError(f"parts in {folder.path} are damaged again and again; is the disk in order?")
            run.finish(report)
            folder.publish(whole, output, report, overwrite=overwrite)
            if not keep_parts:
                folder.remove(output)
    return report


def _crew(workers: int | str) -> Callable[[Film, list[Order], PartsFolder, Tell], Iterator[PartRecord]]:
    """What paints, for ``workers`` as `render_parts` has it. `BadOption` where that is none."""
    if isinstance(workers, str):
        from vidstyle.films.cluster import cluster_crew

        return cluster_crew(workers)
    check_whole("workers", workers, 1, MAX_WORKERS)
    if workers == 1:
        return paint_here
    return lambda film, orders, folder, tell: paint_in_processes(film, orders, folder, tell, min(workers, len(orders)))


def finished_report(output: Path, *, keep_parts: bool = False) -> RenderReport | None:
    """The report of a film that was whole when its run was killed, where ``output`` is that; its parts are cleaned up.

    None for everything else.
    """
    if not output.exists() or not folder_of(output).is_dir():
        return None
    with PartsFolder(output) as folder:
        report = folder.report_of(output)
        if report is not None and not keep_parts:
            folder.remove(output)
        return report


class _Run:
    """One run of `render_parts`: what is done, and how far it is."""

    def __init__(self, film: Film, painter: VideoPainter, on_progress: Callable[[Progress], None] | None) -> None:
        self.opened = self.began = time.perf_counter()
        self.records: dict[int, PartRecord] = {}
        self.notes: list[str] = []
        self._film, self._painter, self._on_progress = film, painter, on_progress
        self._under_way: dict[int, int] = {}
        self._taken_over = 0

    def prepare(self, output: Path, info: VideoInfo | None) -> RenderReport:
        """Look at the source, and report what is to come."""
        with self._painter.open_reader(self._film.source, info=info) as video:
            self._info: VideoInfo = video.info
            self._form = self._painter.form(video)
            self._on_device = video.on_device
            self._no_picture: Callable[[], VidstyleError] = lambda: no_picture(video, self._film.clip)
        return self._painter.report(output, self._form, "")

    def plan(self, folder: PartsFolder, seconds: float, on_frames: Callable[[int, float], None] | None) -> None:
        """Take over the plan of an earlier run, or make one."""
        film, painter = self._film, self._painter
        facts = facts_of(painter, film.size, film.output.suffix.lower())
        plan = folder.plan()
        if plan is not None:
            same = film.stamp == plan.stamp
            source = plan.facts.get("source", "") if same else _source_fact(film.source)
            plan.check({"source": source, **facts}, folder.path)
        else:
            facts = {"source": _source_fact(film.source), **facts}
            index = index_frames(film.source, film.clip, info=self._info, on_frames=on_frames)
            if not len(index.pts):
                raise self._no_picture()
            plan = make_plan(painter, film.source, index, facts=facts, stamp=film.stamp, seconds=seconds)
            film.check_source()
            folder.write_plan(plan)
        self._plan = plan

    def take_over(self, folder: PartsFolder) -> None:
        """Find what earlier runs have done; what is damaged is painted again."""
        for part in self._plan.parts:
            try:
                record = folder.record(part, self._plan)
            except VideoError as error:
                self.notes.append(f"{error}: part {part.number} is painted again")
                folder.drop(part.number)
                continue
            if record is not None:
                self.records[part.number] = record
        self._taken_over = sum(self._plan.parts[number].frames for number in self.records)

    def missing(self) -> list[Order]:
        """The parts to paint."""
        plan = self._plan
        return [(part, plan.pts_of(part)) for part in plan.parts if part.number not in self.records]

    def tell(self, number: int, frames: int) -> None:
        self._under_way[number] = frames
        if self._on_progress is None:
            return
        parts = self._plan.parts
        done = sum(parts[n].frames for n in self.records)
        done += sum(count for n, count in self._under_way.items() if n not in self.records)
        total = len(self._plan.pts)
        seconds = float((self._plan.pts[-1] - self._plan.pts[0]) * Fraction(*self._plan.time_base)) * done / total
        elapsed = time.perf_counter() - self.began
        self._on_progress(Progress(done, total, seconds, elapsed, self._taken_over))

    def assemble(self, folder: PartsFolder) -> Path | None:
        """The film in one file; None where a part does not fit the plan, which is then to be painted again."""
        film, plan = self._film, self._plan
        film.check_source()
        if not any(record.frames for record in self.records.values()):
            errors = [error for record in self.records.values() for error in record.errors]
            raise VideoError(f"no picture of {film.source} can be decoded: {'; '.join(errors[:_ERRORS_KEPT])}")
        whole = folder.path / whole_name(film.output)
        writer = self._painter.open_writer(
            whole,
            self._info,
            self._form,
            source_path=film.source,
            on_device=self._on_device,
            threads=ENCODER_THREADS,
        )
        with writer:
            for part in plan.parts:
                record = self.records[part.number]
                try:
                    append_part(writer, folder.packets(part.number), record, plan, part)
                except BadPart as error:
                    self.notes.append(f"{error}: part {part.number} is painted again")
                    folder.drop(part.number)
                    del self.records[part.number]
                    writer.abort()
                    return None
        film.check_source()
        self.notes += [note for note in writer.notes if note not in self.notes]
        return whole

    def finish(self, report: RenderReport) -> None:
        """Put what was done into ``report``."""
        plan, records = self._plan, [self.records[part.number] for part in self._plan.parts]
        report.backend = records[-1].backend
        report.frames = sum(record.frames for record in records)
        report.taken_over, report.parts = self._taken_over, len(records)
        report.lost = sum(record.lost for record in records)
        report.errors = [error for record in records for error in record.errors][:_ERRORS_KEPT]
        base = Fraction(*plan.time_base)
        last = unpacked(records[-1].durations)[-1:].sum()
        report.seconds_of_video = float(int(plan.pts[-1] - plan.pts[0] + last) * base)
        notes = [*self._info.notes, *self.notes, *(note for record in records for note in record.notes)]
        notes += self._painter.notes(self._form, Fraction(report.seconds_of_video))
        report.notes = list(dict.fromkeys(notes))
        report.seconds = time.perf_counter() - self.began


def _source_fact(source: Path) -> str:
    size = stamp_of(source)[0]
    return f"of {size} bytes ({file_digest(source)[:16]})"


class BadPart(VideoError):
    """A part does not hold the frames that the plan has."""


def append_part(writer: VideoWriter, path: Path, record: PartRecord, plan: Plan, part: Part) -> None:
    """Write the packets of ``part``, which lie in ``path``, at their times in the plan. Raises `BadPart`."""
    pts = plan.pts_of(part)
    if record.missing:
        pts = pts[~np.isin(pts, record.missing)]
    if not len(pts):
        return
    expected = _spaced(pts - writer.shift, writer.tick)
    durations = unpacked(record.durations)
    base = Fraction(*plan.time_base)
    if len(durations) != len(pts):
        raise BadPart(f"{path} tells of {len(durations)} frames, the plan of {len(pts)}")
    try:
        container = open_demuxer(str(path.absolute()), format="nut")
    except (OSError, ValueError) as error:
        raise BadPart(f"{path} cannot be read: {error}") from error
    count = 0
    with container:
        stream = container.streams.video[0]
        scale = Fraction(stream.time_base or base) / base
        up, down = scale.numerator, scale.denominator
        for packet in packets(container, stream):
            if not packet.size:
                continue
            if count >= len(pts) or packet.pts is None or packet.pts * up != int(expected[count]) * down:
                raise BadPart(f"{path} has a frame at another time than the plan")
            writer.write_packet(packet, int(pts[count]), int(durations[count]))
            count += 1
    if count != len(pts):
        raise BadPart(f"{path} holds {count} frames, the plan {len(pts)}")


def _spaced(pts: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
    """Times as the writer of the part had to move them, so that no two frames are closer than ``tick``."""
    if np.all(np.diff(pts) >= tick):
        return pts
    moved = pts.copy()
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + tick)
    return moved
