"""Whole videos, streams of frames, pictures and folders of pictures through a `Stylizer`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vidstyle.errors import BadOption, ImageError, VideoError, VidstyleError
from vidstyle.files import as_path, check_folder, check_output, files_in, make_folder
from vidstyle.frame import Frame, FrameFormat, Pixels
from vidstyle.imaging import image_io, resample
from vidstyle.imaging.image_io import FORMATS, Still, read_still, write_still
from vidstyle.models.style import Style
from vidstyle.models.timeline import Timeline, clock
from vidstyle.options import (
    MAX_SIDE,
    BackendOptions,
    ClipOptions,
    EncodeOptions,
    LookOptions,
    SmoothOptions,
    check_callable,
    check_kind,
    check_whole,
)
from vidstyle.pipeline import Closing, Pipeline, StageSeconds
from vidstyle.realtime import RealTime, measure_rate
from vidstyle.stylizer import FrameTask, Stylizer, as_style, work_size_note

if TYPE_CHECKING:
    from vidstyle.backends.base import Backend
    from vidstyle.video.info import VideoInfo
    from vidstyle.video.reader import VideoReader
    from vidstyle.video.stretch import Stretch
    from vidstyle.video.writer import VideoWriter


def stylize_stream(
    stylizer: Stylizer, frames: Iterable[Frame], write: Callable[[Frame], None], *, depth: int = 4
) -> StageSeconds:
    """Stylize every frame of ``frames`` into ``write``, in order, on three threads.

    ``frames`` runs on one thread, ``write`` on another, the network on the caller's. At most about
    ``2 * depth`` frames are in memory beside those that the network has under way. A generator is
    closed at the end. ``stylizer.style`` may be set while ``frames`` runs: a frame gets the style that
    was set when it was yielded. All frames have one form.
    """
    check_kind("stylizer", stylizer, Stylizer, needed=True)
    check_callable("write", write, needed=True)
    check_whole("depth", depth, 1, 1024)
    if not isinstance(frames, Iterable):
        raise BadOption(
            f"frames are a {type(frames).__name__}; give something that yields Frame(...), one after another"
        )
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return StageSeconds()
    check_kind("the first of the frames", first, Frame, needed=True)
    backend = stylizer.open(first.form)

    def prepared() -> Generator[FrameTask, None, None]:
        try:
            yield stylizer.estimate_motion(stylizer.prepare(first))
            for frame in frames:
                yield stylizer.estimate_motion(stylizer.prepare(frame))
        finally:
            if isinstance(frames, Generator):
                frames.close()

    def submit(job: FrameTask) -> Callable[[], Frame]:
        # The frame is finished here, on the caller's thread, which has nothing else to do than to wait
        # for the network: at large sizes the encoder's thread is the one that all wait for.
        pending = stylizer.submit(job)
        return lambda: stylizer.finish(job, pending())

    pipeline: Pipeline[FrameTask, Frame] = Pipeline(depth=depth, in_flight=stylizer.frames_in_flight(backend))
    pipeline.run(prepared(), submit, write)
    return pipeline.seconds


@dataclass(frozen=True)
class Progress:
    """How far a render has come; given to ``on_progress`` after every frame."""

    frames: int
    total: int | None
    """Frames expected, where the container says enough to tell."""
    seconds_of_video: float
    seconds: float
    """Time since the first frame went in (opening and compiling are not counted)."""
    taken_over: int = 0
    """How many of the frames an earlier run had painted."""


@dataclass
class RenderReport:
    """What `render` did."""

    output: str
    style: str
    """Name of the style or blend, or ``great_wave, from 0:05 the_scream`` where it changes."""
    backend: str
    width: int
    height: int
    frames: int = 0
    lost: int = 0
    """Frames of the input that could not be decoded."""
    errors: list[str] = field(default_factory=list)
    """What was wrong with the first few of them; one sentence each."""
    seconds_of_video: float = 0.0
    startup_seconds: float = 0.0
    """Opening files and compiling the network."""
    seconds: float = 0.0
    """From the first frame going in to the finished file."""
    stages: StageSeconds = field(default_factory=StageSeconds)
    """Seconds each stage was at work; they overlap."""
    notes: list[str] = field(default_factory=list)
    """What the output does not keep of the input, or what was done to keep it; one sentence each."""
    styles: list[tuple[float, str]] = field(default_factory=list)
    """Each style's name behind the second of the output at which it is fully there."""
    fade: float = 0.0
    """Seconds for which one style fades into the next, where there is more than one."""
    parts: int = 0
    """How many parts it was painted in; 0 for one piece."""
    taken_over: int = 0
    """How many of the frames earlier runs had painted."""
    realtime: str = ""
    """What was measured and chosen so that the rate of the source is held, where that was asked for."""

    @property
    def fps(self) -> float:
        """Frames a second that this run painted, end to end, start-up excluded."""
        return (self.frames - self.taken_over) / self.seconds if self.seconds > 0 else 0.0


def render(
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
    realtime: bool = False,
    overwrite: bool = False,
    info: VideoInfo | None = None,
    on_start: Callable[[RenderReport], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RenderReport:
    """Stylize the video ``source`` into the file ``output``, with its sound, and say what was done.

    ``style`` is as for `Stylizer`, or a `Timeline` of styles; None takes the default one. The
    timeline's clock is that of the output as a player shows it: with a clip, 0 is the clip's start.
    Each frame is painted in the style of its own time, whatever the frame rate. ``size`` is the output's
    ``(height, width)``; with a width of None the shape is kept. With ``realtime`` the work size is the largest at which
    the rate of the source is held, as measured at the start. ``output`` appears, whole, when all is
    written: an error or Ctrl-C leaves nothing under that name. ``info`` is what `probe` said of ``source``, if
    that is known already. The callbacks are called on other threads. Raises `VideoError`, `BadModel`, `BadOption` or
    `MissingDependency`.
    """
    began = time.perf_counter()
    check_callable("on_start", on_start)
    check_callable("on_progress", on_progress)
    source, output = as_path(source, "input"), as_path(output, "output")
    check_output(output, overwrite=overwrite, source=source)  # before a long file is looked through
    with ExitStack() as stack:
        painter = stack.enter_context(
            VideoPainter(style, size=size, look=look, smooth=smooth, backend=backend, encode=encode, clip=clip)
        )
        video = stack.enter_context(painter.open_reader(source, info=info))
        form = painter.form(video)
        sink = stack.enter_context(
            painter.open_writer(
                output, video.info, form, source_path=source, on_device=video.on_device, overwrite=overwrite
            )
        )
        frames = painter.frames(video)
        first = next(frames, None)
        if first is None:
            raise no_picture(video, painter.clip)
        speed = painter.hold_rate(form, video.info.rate) if realtime else None
        program = painter.open_program(video, sink)
        report = painter.report(output, form, program.description)
        report.realtime = "" if speed is None else str(speed)
        report.startup_seconds = time.perf_counter() - began
        if on_start is not None:
            on_start(report)
        began = time.perf_counter()

        def write(frame: Frame) -> None:
            sink.write(frame)
            report.frames += 1
            report.seconds_of_video = max(report.seconds_of_video, float(painter.end_of(frame)))
            if on_progress is not None:
                elapsed = time.perf_counter() - began
                on_progress(Progress(report.frames, video.frames_expected, report.seconds_of_video, elapsed))

        report.stages = stylize_stream(painter.stylizer, chain((first,), frames), write)
        sink.finish()
        report.seconds = time.perf_counter() - began
        report.lost, report.errors = video.lost, list(video.errors)
        report.notes = [*video.notes, *sink.notes, *painter.notes(form, painter.shown)]
    return report


class VideoPainter(Closing):
    """A `Stylizer` with what one video asks of it: the form of its frames, and for each the style of its time.

    The arguments are those of `render`. Use it from one thread; `frames` may run on another.
    """

    def __init__(
        self,
        style: str | Path | Style | Timeline | None,
        *,
        size: tuple[int, int | None] | None = None,
        look: LookOptions | None = None,
        smooth: SmoothOptions | None = None,
        backend: BackendOptions | None = None,
        encode: EncodeOptions | None = None,
        clip: ClipOptions | None = None,
    ) -> None:
        check_kind("encode", encode, EncodeOptions)
        check_kind("clip", clip, ClipOptions)
        check_kind("backend", backend, BackendOptions)
        self.encode, self.clip = encode or EncodeOptions(), clip or ClipOptions()
        self.timeline = style if isinstance(style, Timeline) else Timeline([(0, as_style(style))])
        self.backend = backend or BackendOptions()
        self.gpu = self.backend.gpu
        self.smooth = smooth if smooth is not None and smooth.strength > 0 else None
        self.shown = Fraction(0)
        """Seconds of the output at which the frame is shown that `frames` gave last."""
        self._size, self._zero = size, Fraction(0)
        self._rate: Fraction | None = None
        fixed = len(self.timeline.keys) == 1
        if look is not None and look.mask is not None:
            from vidstyle.masks.mask import check_mask

            check_mask(look.mask)
        self.stylizer = Stylizer(self.timeline.keys[0].style, look=look, smooth=smooth, backend=backend, fixed=fixed)
        # Frames that nothing but the network and the encoder touches need not leave the GPU.
        self._untouched = size is None and smooth is None and self.stylizer.look == LookOptions()

    def open_reader(
        self, source: Path, *, stretch: Stretch | None = None, info: VideoInfo | None = None
    ) -> VideoReader:
        """A reader of ``source`` in the form that is painted. `BadOption` where a style is too late to be seen."""
        from vidstyle.video.reader import TimeRange, VideoReader

        pixels: Pixels = "rgb" if self.encode.pixel_format == "yuv444p" else "i420"
        matrix = full_range = None
        if self.stylizer.engine is not None:  # its colors are those that it was built for
            card = self.stylizer.engine.card
            pixels, matrix, full_range = card.pixels, card.matrix, card.full_range
        video = VideoReader(
            source,
            pixels=pixels,
            matrix=matrix,
            full_range=full_range,
            clip=self.clip,
            gpu=self.gpu,
            on_device=self._untouched and pixels == "nv12" and self.clip.decoder != "software",
            stretch=stretch,
            info=info,
        )
        try:
            _check_end(self.timeline, video.info.duration, self.clip)
        except BadOption:
            video.close()
            raise
        self._zero, self._rate = TimeRange.of(video.info, self.clip).shift, video.info.rate
        self.stylizer.mask_begins = video.info.start
        return video

    def open_writer(
        self,
        output: Path,
        info: VideoInfo,
        form: FrameFormat,
        *,
        source_path: Path | None,
        on_device: bool,
        overwrite: bool = True,
        packets_to: Path | None = None,
        threads: int | None = None,
    ) -> VideoWriter:
        """A `VideoWriter` of what is painted of the video that ``info`` is of."""
        from vidstyle.video.writer import VideoWriter

        return VideoWriter(
            output,
            source=info,
            source_path=source_path,
            form=form,
            encode=self.encode,
            clip=self.clip,
            overwrite=overwrite,
            gpu=self.gpu,
            on_device=on_device,
            packets_to=packets_to,
            threads=threads,
        )

    def open_program(self, video: VideoReader, writer: VideoWriter) -> Backend:
        """Compile what paints the frames of ``video``; where both ends are on the GPU, so is what it gives."""
        program = self.stylizer.open(self.form(video))
        program.device_output = video.on_device and writer.encoder.endswith("_nvenc")
        if self.stylizer.look.mask is not None:
            self.stylizer.open_mask(self.form(video), self.stylizer.look.mask)
        return program

    def hold_rate(self, form: FrameFormat, rate: Fraction | None) -> RealTime:
        """Paint frames of ``form`` at the largest work size at which ``rate`` is held, as a measurement has it."""
        found = measure_rate(self.stylizer, form, rate)
        if found.rows != found.whole:
            self.stylizer.look = replace(self.stylizer.look, work_size=found.rows)
        return found

    def form(self, video: VideoReader) -> FrameFormat:
        """That of the painted frames of ``video``. `BadOption` for a size that cannot be."""
        return video.form.resized(_output_size(video.form, self._size))

    def frames(self, video: VideoReader) -> Generator[Frame, None, None]:
        """The frames of ``video`` at the size of the output; each sets its style before it comes."""
        form = self.form(video)
        for frame in video.frames():
            self.shown = frame.pts * frame.time_base - self._zero
            self.stylizer.style = self.timeline.at(self.shown)
            if form != video.form:
                frame = frame.with_planes(resample.resize(frame.planes, frame.form, form.size), form)
            yield frame

    def end_of(self, frame: Frame) -> Fraction:
        """Second of the output at which ``frame`` ends."""
        return (frame.pts + frame.duration) * frame.time_base - self._zero

    def report(self, output: Path, form: FrameFormat, backend: str) -> RenderReport:
        """A report of what has not begun yet."""
        keys = [(float(key.seconds), key.style.name) for key in self.timeline.keys]
        fade = float(self.timeline.fade)
        return RenderReport(str(output), self.timeline.name, backend, form.width, form.height, styles=keys, fade=fade)

    def notes(self, form: FrameFormat, end: Fraction) -> list[str]:
        """What is to be said of an output of ``form`` that ends at ``end``."""
        small = work_size_note(form.size, self.stylizer.look, self.stylizer.engine)
        notes = [note for note in (small, self.timeline.unseen(end)) if note]
        if self.stylizer.look.mask is not None:
            from vidstyle.masks.mask import mask_notes
            from vidstyle.video.reader import exact_seconds

            end += exact_seconds(self.clip.start)
            notes += mask_notes(self.stylizer.look.mask, form.size, rate=self._rate, end=end)
        return notes

    def close(self) -> None:
        self.stylizer.close()


def _check_end(timeline: Timeline, duration: float | None, clip: ClipOptions) -> None:
    ends = [end for end in (duration, clip.end) if end is not None]
    unseen = timeline.unseen(min(ends) - clip.start) if ends else None
    if unseen is not None:
        raise BadOption(f"{unseen}; give an earlier time, or leave it out")


def no_picture(video: VideoReader, clip: ClipOptions) -> VidstyleError:
    """Why ``video`` gave no frame."""
    if video.lost:
        return VideoError(f"no picture of {video.path} can be decoded: {'; '.join(video.errors)}")
    info = video.info
    if info.end is not None and clip.start >= info.end - info.start:
        lasts = clock(info.end - info.start)
        return BadOption(f"start is {clock(clip.start)}; {video.path.name} lasts {lasts}: start earlier")
    end = "its end" if clip.end is None else clock(clip.end)
    return BadOption(f"{video.path.name} shows no picture from {clock(clip.start)} to {end}; name another clip")


def _output_size(form: FrameFormat, size: tuple[int, int | None] | None) -> tuple[int, int]:
    if size is None:
        return form.size
    if not (isinstance(size, tuple | list) and len(size) == 2):
        raise BadOption(f"size is {size!r}; it must be (height, width), or (height, None) to keep the shape")
    height, width = size
    check_whole("output height", height, 2, MAX_SIDE)
    if width is None:
        width = max(2, round(height * form.width / form.height / 2) * 2)
    check_whole("output width", width, 2, MAX_SIDE)
    return height, width


@dataclass(frozen=True)
class FileResult:
    """What became of one picture."""

    source: str
    output: str
    """The file written, or that would have been."""
    error: str | None = None
    """Why nothing was written, as one sentence; None when all went well."""
    notes: tuple[str, ...] = ()
    """What the output does not keep of the source; one sentence each."""


def stylize_still(stylizer: Stylizer, still: Still) -> Still:
    """``still`` painted, with its own alpha and color profile."""
    check_kind("still", still, Still, needed=True)
    size = still.size
    note = work_size_note(size, stylizer.look, stylizer.engine)
    notes = [*still.notes, *([] if note is None else [note])]
    if stylizer.look.mask is not None:
        from vidstyle.masks.mask import mask_notes

        notes += mask_notes(stylizer.look.mask, size)
    stylizer.begin_scene()
    return replace(still, rgb=stylizer(still.rgb), notes=tuple(notes))


def stylize_file(stylizer: Stylizer, source: Path | str, output: Path | str, *, overwrite: bool = False) -> FileResult:
    """Paint the picture file ``source`` into ``output``; raises `ImageError` or `BadOption`.

    What the output could not be is said before the source is read.
    """
    source, output = as_path(source, "picture"), as_path(output, "output")
    image_io.check_output(output, source=source, overwrite=overwrite)
    notes = write_still(output, stylize_still(stylizer, read_still(source)), overwrite=overwrite)
    return FileResult(str(source), str(output), notes=notes)


def stylize_folder(
    stylizer: Stylizer,
    source: Path | str,
    output: Path | str,
    *,
    overwrite: bool = False,
    on_file: Callable[[FileResult, int], None] | None = None,
) -> list[FileResult]:
    """Paint every picture of the folder ``source`` into a file of the same name in ``output``.

    Pictures are told by the endings of their names (`vidstyle.imaging.image_io.FORMATS`), hidden files are left
    out, and subfolders are not entered. ``output`` is made where it is missing. A picture that cannot be read or
    written is in the results, which are sorted by name, and the others go on. ``on_file(result, total)`` is called
    after each.
    """
    source, output = as_path(source, "folder"), as_path(output, "folder")
    pictures = _pictures(source)
    check_folder(output)
    make_folder(output, source)
    results = []
    for picture in pictures:
        target = output / picture.name
        try:
            result = stylize_file(stylizer, picture, target, overwrite=overwrite)
        except (BadOption, ImageError) as error:
            result = FileResult(str(picture), str(target), error=str(error))
        results.append(result)
        if on_file is not None:
            on_file(result, len(pictures))
    return results


def _pictures(folder: Path) -> list[Path]:
    try:
        found = files_in(folder, FORMATS)
    except OSError as error:
        raise ImageError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not found:
        raise ImageError(f"{folder} holds no pictures; their names end in {', '.join(FORMATS)}")
    return found
