"""The public face: a `Stylizer` for arrays and frames, and `render` for whole videos."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption, VideoError, VidstyleError
from vidstyle.files import as_path, check_output
from vidstyle.frame import Frame, FrameForm, Pixels, Planes, as_rgb
from vidstyle.gallery import default_style_name, load_blend
from vidstyle.imaging import resample
from vidstyle.models.architecture import Architecture, Network
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
from vidstyle.pipeline import Pipeline, StageSeconds

if TYPE_CHECKING:
    from vidstyle.backends.base import Backend, Program
    from vidstyle.imaging.smoothing import Motion, Smoother
    from vidstyle.models.engine_file import EngineFile
    from vidstyle.video.source import VideoSource

_FORMS_KEPT = 4
"""Compiled programs a `Stylizer` keeps; a folder of stills of many sizes must not fill the memory."""
_NO_TIME = Fraction(1, 1000)


@dataclass(frozen=True)
class Job:
    """A frame on its way through a `Stylizer`."""

    frame: Frame
    """The source at the size of the result."""
    work: Frame
    """What the network sees: the same frame, or a smaller one (`LookOptions.work_size`)."""
    style: Style
    """The style of this very frame: it may change from one frame to the next."""
    look: LookOptions
    """How this very frame is finished."""
    smoothing: tuple[Smoother, Motion | None] | None = None
    """What follows the motion, and what it saw in the source of this frame, where `Stylizer.foresee` was called."""


class Stylizer:
    """Paints pictures and frames in one style (or a blend).

    >>> painted = Stylizer("starry_night")(rgb)

    ``style`` is a shipped name, a style file, an engine file, a blend such as
    ``"great_wave:0.7,the_scream:0.3"`` or a `Style`. A graph is compiled at the first frame of each form
    and kept; it plays every style of the network. With ``fixed`` the style will not change: some backends are
    faster then. ``look`` may be replaced at any time; a frame under way keeps its own. With ``smooth`` the
    frames are those of one video, and each is made to go with the one before. Use it from one thread;
    `open` and `prepare` alone may run on any, and so may `compose`, one frame at a time and in order.
    Copied, pickled or used in a forked process it compiles its graphs anew.
    """

    def __init__(
        self,
        style: str | Path | Style | None = None,
        *,
        look: LookOptions | None = None,
        backend: BackendOptions | None = None,
        smooth: SmoothOptions | None = None,
        fixed: bool = False,
    ) -> None:
        check_kind("look", look, LookOptions)
        check_kind("backend", backend, BackendOptions)
        check_kind("smooth", smooth, SmoothOptions)
        self._style = _style(style)
        self._engine = self._style.engine
        self._fixed = fixed
        self._look = look or LookOptions()
        self._options = backend or BackendOptions()
        self._open: OrderedDict[FrameForm, Backend] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._smooth = smooth if smooth is not None and smooth.strength > 0 else None
        self._smoother: Smoother | None = None

    @property
    def style(self) -> Style:
        """The style of the next frame. Any style of the same network may be set at any time."""
        return self._style

    @style.setter
    def style(self, style: str | Path | Style) -> None:
        chosen = _style(style)
        if chosen.architecture != self._style.architecture:
            raise BadOption(
                f"style {chosen.name!r} runs on another network than {self._style.name!r}; make a new Stylizer for it"
            )
        if self._fixed and chosen.parts != self._style.parts:
            raise BadOption(f"this Stylizer was made for {self._style.name!r} alone (fixed); make one without that")
        self._style = chosen

    @property
    def look(self) -> LookOptions:
        """How frames are finished, from the next one on; may be set at any time."""
        return self._look

    @look.setter
    def look(self, look: LookOptions) -> None:
        check_kind("look", look, LookOptions, needed=True)
        self._look = look

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The stylized picture: uint8 RGB of shape (height, width, 3), like ``rgb``; a new array.

        ``rgb`` may be read-only and have any strides, and be anything that NumPy takes for such an array, as a PIL
        image in RGB; `BadOption` says how to make one of another picture.
        """
        rgb = as_rgb(rgb)
        form = FrameForm(height=rgb.shape[0], width=rgb.shape[1], pixels="rgb")
        job = self.prepare(Frame((rgb,), form, 0, _NO_TIME))
        painted = self.compose(job, self.submit(job)()).planes[0]
        return np.array(painted) if np.may_share_memory(painted, rgb) else painted

    @property
    def engine(self) -> EngineFile | None:
        """The engine file that paints, if the style came out of one."""
        return self._engine

    def open(self, form: FrameForm, work_size: int | None = None) -> Backend:
        """The compiled program for frames of ``form``, painted at ``work_size`` rows or as `look` says.

        `submit` calls it; call it yourself, on any thread, to have the compilation behind you, or to see
        what runs.
        """
        check_kind("form", form, FrameForm, needed=True)
        if work_size is not None:
            check_whole("work size", work_size, 1, MAX_SIDE)
        self._forget_inherited()
        work_form = form.resized(self._work_size(form, work_size or self.look.work_size))
        with self._lock:
            known = self._open.get(work_form)
            if known is not None:
                self._open.move_to_end(work_form)
                return known
        compiled = self._compiled(work_form)  # without the lock: frames of other forms go on meanwhile
        with self._lock:
            backend = self._open.setdefault(work_form, compiled)
            oldest = self._open.popitem(last=False)[1] if len(self._open) > _FORMS_KEPT else None
        for unneeded in (oldest, compiled if backend is not compiled else None):
            if unneeded is not None:
                unneeded.close()
        return backend

    def _compiled(self, form: FrameForm) -> Backend:
        from vidstyle.backends import open_backend, open_engine

        program = network_program(self._style.architecture, form, only=self._style.network if self._fixed else None)
        if self._engine is None:
            return open_backend(program, self._options)
        if self._options.rebuild:
            from vidstyle.engine.build import fitting_engine

            self._engine = fitting_engine(self._engine, form, self._options)
        return open_engine(self._engine, program, self._options)

    def prepare(self, frame: Frame) -> Job:
        """Make the picture that the network sees, and note the style of this moment. Safe on any thread."""
        check_kind("frame", frame, Frame, needed=True)
        form, look = frame.form, self.look
        size = self._work_size(form, look.work_size)
        work = frame
        if size != form.size:
            work = frame.with_planes(resample.shrink(frame.planes, form, size), form.resized(size))
        return Job(frame, work, self._style, look)

    def foresee(self, job: Job) -> Job:
        """Do what smoothing needs of the source alone, so that `compose` has less to do. For every frame, in order,
        on one thread, or for none."""
        if self._smooth is None:
            return job
        smoother = self._smoother_of(job.work.form, self._smooth)
        return replace(job, smoothing=(smoother, smoother.look(job.work.planes, job.style.parts)))

    def submit(self, job: Job) -> Callable[[], Planes]:
        """Start the network on a prepared frame; the function returned waits for its planes."""
        backend = self.open(job.frame.form, job.look.work_size)
        return backend.submit(job.work.planes, job.style)

    def compose(self, job: Job, styled: Planes) -> Frame:
        """The finished frame from what the network made of it."""
        frame, form, look = job.frame, job.frame.form, job.look
        if job.smoothing is not None:
            smoother, motion = job.smoothing
            styled = smoother.blend(styled, motion)
        elif self._smooth is not None:
            styled = self._smoother_of(job.work.form, self._smooth).step(job.work.planes, styled, job.style.parts)
        if job.work is not job.frame:
            styled = resample.enlarge(styled, job.work.planes, frame.planes, job.work.form, form)
        if look.preserve_color:
            styled = resample.keep_color(frame.planes, styled, form)
        return frame.with_planes(resample.mix(frame.planes, styled, look.strength))

    def _smoother_of(self, form: FrameForm, smooth: SmoothOptions) -> Smoother:
        from vidstyle.imaging.smoothing import Smoother

        if self._smoother is None or self._smoother.form != form:
            self._smoother = Smoother(form, smooth)
        return self._smoother

    def _work_size(self, form: FrameForm, height: int | None) -> tuple[int, int]:
        if height is None or height >= form.height:
            return form.size
        card = None if self._engine is None else self._engine.card
        if card is not None and not card.dynamic and card.best[0] == height:
            return card.best  # its width may have been rounded otherwise
        # A multiple of four in both directions needs no padding inside the graph.
        rows = max(8, round(height / 4) * 4)
        return rows, max(8, round(rows * form.width / form.height / 4) * 4)

    def _forget_inherited(self) -> None:
        """In a forked process: have programs, and a lock, of its own."""
        if self._process != os.getpid():
            self._process, self._lock, self._open = os.getpid(), threading.Lock(), OrderedDict()

    def __reduce__(self) -> tuple[Callable[[], Stylizer], tuple[()]]:
        again = partial(type(self), self._style, look=self.look, backend=self._options, smooth=self._smooth)
        return partial(again, fixed=self._fixed), ()

    def close(self) -> None:
        """Free the compiled programs. Closing twice is fine."""
        self._forget_inherited()
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Stylizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def network_program(shape: Architecture, form: FrameForm, *, only: Network | None = None) -> Program:
    """What a backend compiles to paint frames of ``form`` in any style of ``shape``; or in ``only`` that one."""
    from vidstyle.backends.base import Program
    from vidstyle.graph import onnx_from_network, style_tensors

    single = None
    if only is not None:
        single = Program(
            shape,
            form,
            lambda precision: onnx_from_network(only, form, precision=precision).SerializeToString(),
            lambda network: {"style": network.start[None]},
        )
    return Program(
        shape,
        form,
        lambda precision: onnx_from_network(shape, form, precision=precision).SerializeToString(),
        lambda network: style_tensors(network, form),
        single,
    )


def _style(style: str | Path | Style | None) -> Style:
    if isinstance(style, Style):
        return style
    if style is not None and not isinstance(style, str | os.PathLike):
        raise BadOption(f"style is {style!r}; it must be a name, a file, a blend such as 'a:0.7,b:0.3', or a Style")
    return load_blend(default_style_name() if style is None else style)


def stylize_stream(
    stylizer: Stylizer,
    frames: Iterable[Frame],
    write: Callable[[Frame], None],
    *,
    depth: int = 4,
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

    def prepared() -> Generator[Job, None, None]:
        try:
            yield stylizer.foresee(stylizer.prepare(first))
            for frame in frames:
                yield stylizer.foresee(stylizer.prepare(frame))
        finally:
            if isinstance(frames, Generator):
                frames.close()

    def submit(job: Job) -> Callable[[], Frame]:
        # The frame is finished here, on the caller's thread, which has nothing else to do than to wait
        # for the network: at large sizes the encoder's thread is the one that all wait for.
        pending = stylizer.submit(job)
        return lambda: stylizer.compose(job, pending())

    pipeline: Pipeline[Job, Frame] = Pipeline(depth=depth, in_flight=backend.in_flight)
    pipeline.run(prepared(), submit, write)
    return pipeline.seconds


@dataclass(frozen=True)
class Progress:
    """How far a render has come; given to ``on_progress`` after every frame."""

    frames: int
    """Frames written."""
    total: int | None
    """Frames expected, where the container says enough to tell."""
    seconds_of_video: float
    """How much video they show."""
    seconds: float
    """Time since the first frame went in (opening and compiling are not counted)."""


@dataclass
class RenderReport:
    """What `render` did."""

    output: str
    """The file written."""
    style: str
    """Name of the style or blend, or ``great_wave, from 0:05 the_scream`` where it changes."""
    backend: str
    """Library, version, precision and threads."""
    width: int
    """Of the output, in pixels."""
    height: int
    """Of the output, in pixels."""
    frames: int = 0
    """Frames written."""
    lost: int = 0
    """Frames of the input that could not be decoded."""
    errors: list[str] = field(default_factory=list)
    """What was wrong with the first few of them; one sentence each."""
    seconds_of_video: float = 0.0
    """Duration of what was written."""
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

    @property
    def fps(self) -> float:
        """Frames a second, end to end, start-up excluded."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


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
    overwrite: bool = False,
    on_start: Callable[[RenderReport], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RenderReport:
    """Stylize the video ``source`` into the file ``output``, with its sound, and say what was done.

    ``style`` is as for `Stylizer`, or a `Timeline` of styles; None takes the default one. The
    timeline's clock is that of the output as a player shows it: with a clip, 0 is the clip's start.
    Each frame is painted in the style of its own time, whatever the frame rate. ``size`` is the output's
    ``(height, width)``; with a width of None the shape is kept. ``output`` appears, whole, when all is
    written: an error or Ctrl-C leaves nothing under that name. The callbacks are called on other
    threads. Raises `VideoError`, `BadModel`, `BadOption` or `MissingDependency`.
    """
    from vidstyle.video.sink import VideoSink
    from vidstyle.video.source import VideoSource
    from vidstyle.video.span import Span

    began = time.perf_counter()
    check_kind("encode", encode, EncodeOptions)
    check_kind("clip", clip, ClipOptions)
    check_callable("on_start", on_start)
    check_callable("on_progress", on_progress)
    encode, clip = encode or EncodeOptions(), clip or ClipOptions()
    source, output = as_path(source, "input"), as_path(output, "output")
    check_output(output, overwrite=overwrite, source=source)  # before a long file is looked through
    timeline = style if isinstance(style, Timeline) else Timeline([(0, _style(style))])
    with ExitStack() as stack:
        fixed = len(timeline.keys) == 1
        stylizer = stack.enter_context(
            Stylizer(timeline.keys[0].style, look=look, smooth=smooth, backend=backend, fixed=fixed)
        )
        pixels: Pixels = "rgb" if encode.pixel_format == "yuv444p" else "i420"
        matrix = full_range = None
        if stylizer.engine is not None:  # its colors are those that it was built for
            card = stylizer.engine.card
            pixels, matrix, full_range = card.pixels, card.matrix, card.full_range
        # Frames that nothing but the network and the encoder touches need not leave the GPU.
        untouched = pixels == "nv12" and size is None and smooth is None and stylizer.look == LookOptions()
        gpu = None if backend is None else backend.gpu
        video = stack.enter_context(
            VideoSource(
                source,
                pixels=pixels,
                matrix=matrix,
                full_range=full_range,
                clip=clip,
                gpu=gpu,
                on_device=untouched and clip.decoder != "software",
            )
        )
        _check_end(timeline, video.info.duration, clip)
        form = video.form.resized(_output_size(video.form, size))
        sink = stack.enter_context(
            VideoSink(
                output,
                source=video.info,
                source_path=source,
                form=form,
                encode=encode,
                clip=clip,
                overwrite=overwrite,
                gpu=gpu,
                on_device=video.on_device,
            )
        )
        frames = video.frames()
        first = next(frames, None)
        if first is None:
            raise _no_picture(video, clip)
        program = stylizer.open(form)
        program.device_output = video.on_device and sink.encoder.endswith("_nvenc")
        report = RenderReport(
            str(output),
            timeline.name,
            program.description,
            form.width,
            form.height,
            styles=[(float(key.seconds), key.style.name) for key in timeline.keys],
            fade=float(timeline.fade),
        )
        report.startup_seconds = time.perf_counter() - began
        if on_start is not None:
            on_start(report)
        began = time.perf_counter()

        zero = Span.of(video.info, clip).shift
        shown = Fraction(0)

        def resized() -> Generator[Frame, None, None]:
            nonlocal shown
            for frame in chain((first,), frames):
                shown = frame.pts * frame.time_base - zero
                stylizer.style = timeline.at(shown)
                if form != video.form:
                    frame = frame.with_planes(resample.resize(frame.planes, frame.form, form.size), form)
                yield frame

        def write(frame: Frame) -> None:
            sink.write(frame)
            report.frames += 1
            end = (frame.pts + frame.duration) * frame.time_base - zero
            report.seconds_of_video = max(report.seconds_of_video, float(end))
            if on_progress is not None:
                elapsed = time.perf_counter() - began
                on_progress(Progress(report.frames, video.frames_expected, report.seconds_of_video, elapsed))

        report.stages = stylize_stream(stylizer, resized(), write)
        sink.finish()
        report.seconds = time.perf_counter() - began
        report.lost, report.errors = video.lost, list(video.errors)
        report.notes = [*video.notes, *sink.notes]
        unseen = timeline.unseen(shown)
        if unseen is not None:
            report.notes.append(unseen)
    return report


def _check_end(timeline: Timeline, duration: float | None, clip: ClipOptions) -> None:
    ends = [end for end in (duration, clip.end) if end is not None]
    unseen = timeline.unseen(min(ends) - clip.start) if ends else None
    if unseen is not None:
        raise BadOption(f"{unseen}; give an earlier time, or leave it out")


def _no_picture(video: VideoSource, clip: ClipOptions) -> VidstyleError:
    if video.lost:
        return VideoError(f"no picture of {video.path} can be decoded: {'; '.join(video.errors)}")
    info = video.info
    if info.end is not None and clip.start >= info.end - info.start:
        lasts = clock(info.end - info.start)
        return BadOption(f"start is {clock(clip.start)}; {video.path.name} lasts {lasts}: start earlier")
    end = "its end" if clip.end is None else clock(clip.end)
    return BadOption(f"{video.path.name} shows no picture from {clock(clip.start)} to {end}; name another clip")


def _output_size(form: FrameForm, size: tuple[int, int | None] | None) -> tuple[int, int]:
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
