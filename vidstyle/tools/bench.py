"""How fast this machine paints: each stage alone, and all of them at once."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidstyle import __version__
from vidstyle.backends import backend_report
from vidstyle.backends.base import Pending, distribution_version, usable_cores
from vidstyle.errors import BadOption
from vidstyle.frame import Planes
from vidstyle.gallery import DEFAULT_STYLE, load_blend
from vidstyle.imaging.resample import kernels_in_use
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, ClipOptions, EncodeOptions, LookOptions, check_fields, within
from vidstyle.rendering import render
from vidstyle.stylizer import FrameTask, Stylizer
from vidstyle.system import Cpu, Memory, find_cpu, find_memory, system_name
from vidstyle.video.formats import ENCODERS, codec_for
from vidstyle.video.reader import VideoReader
from vidstyle.video.synthetic import generate_clip
from vidstyle.video.writer import VideoWriter

SIZES: tuple[tuple[int, int], ...] = ((360, 640), (720, 1280), (1080, 1920))
"""``(height, width)`` of the clips that are generated, unless others are asked for."""
WORK_SIZE = 360
"""Larger clips are also rendered at this work size."""
_MIN_FRAMES = 8
_FRAME_BYTES = 1 << 28
"""The decoded frames of a round are kept in memory, and so is what is made of them: about three times this."""
_PACKAGES = ("av", "opencv-python", "numpy")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure, and for how long."""

    sizes: tuple[tuple[int, int], ...] = SIZES
    """``(height, width)`` of the generated clips; without meaning where ``clip`` is given."""
    clip: Path | None = None
    """A video to measure with, in its own size; None generates one for each size."""
    work_sizes: tuple[int | None, ...] | None = None
    """Work sizes to measure; None is none, and `WORK_SIZE` too for clips larger than it."""
    backends: tuple[BackendOptions, ...] | None = None
    """Backends to measure; None is every one installed."""
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    frames: int = within(100, _MIN_FRAMES, 1_000_000)
    rounds: int = within(3, 1, 1000)
    round_seconds: float = within(2.0, 0, 1e6)
    """Where the network is slow, a round has fewer frames, so that they take it about this long (8 at least)."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Spread:
    """The same thing, measured several times."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class StageTime:
    """One stage, alone on the machine: milliseconds a frame by the clock, and of processor time in all threads."""

    ms: Spread
    cpu_ms: Spread


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One clip at one work size on one backend."""

    width: int
    height: int
    work_size: int | None
    """Height that the network saw; None is all of it."""
    backend: str
    description: str
    clip: str
    """Parameters of the generated clip, or name of the file."""
    clip_seconds: float
    """How much of the clip was rendered in each round."""
    frames: int
    rounds: int
    startup_seconds: float
    """Opening the files and loading the compiled network in a running process; in none of the other figures."""
    decode: StageTime
    scale: StageTime | None = None
    """To the work size and back; None where there is none."""
    infer: StageTime
    """The network, with as many frames under way as in a render."""
    encode: StageTime
    render: StageTime
    fps: Spread
    cores_busy: Spread
    """The part of the usable cores' time that the render used: 1 is all of it."""
    overhead: Spread
    """Processor time of the render over that of its stages alone in the same round: 1 is no loss."""


@dataclass
class BenchReport:
    """Everything that `bench` measured, and what on. Plain data: `dataclasses.asdict` of it goes into JSON."""

    vidstyle: str
    commit: str | None
    """Commit of the checkout, "+" behind it where the package differs; None outside of a checkout."""
    date: str
    python: str
    system: str
    cpu: Cpu
    memory: Memory
    packages: dict[str, str]
    kernels: str | None
    """Instruction set of the compiled kernels; None where NumPy and OpenCV serve instead."""
    style: str
    """The style painted; speed hardly depends on it."""
    encoder: str
    load_before: float | None
    """Processes that wanted to run before it began, averaged over a minute; None where nobody counts."""
    cases: list[CaseResult] = field(default_factory=list)


def bench(
    options: BenchOptions | None = None,
    style: str | Path | Style | None = None,
    *,
    on_case: Callable[[CaseResult], None] | None = None,
) -> BenchReport:
    """Time decoding, inference and encoding alone, and the whole render, for each size and backend.

    A round times one after the other, and there are several rounds after one to warm up, so that a
    disturbance does not fall on one stage alone. ``style`` is as for `Stylizer`. ``on_case`` gets each
    result as it comes. Raises what `render` raises.
    """
    options = options or BenchOptions()
    style = style if isinstance(style, Style) else load_blend(style or DEFAULT_STYLE)
    report = describe_run(style, options.encode)
    backends = options.backends or tuple(
        BackendOptions(backend=status.name)  # type: ignore[arg-type]  # the report names backends only
        for status in backend_report()
        if status.works
    )
    with tempfile.TemporaryDirectory(prefix="vidstyle-bench-") as name:
        folder = Path(name)
        for clip, description in _clips(options, folder):
            with VideoReader(clip) as video:
                height = video.form.height
            for work_size in _work_sizes(options, height):
                for backend in backends:
                    look = LookOptions(work_size=work_size or height)  # not what None chooses for large frames
                    with closing(_Case(clip, folder, style, look, backend, options)) as case:
                        report.cases.append(case.measure(description))
                    if on_case is not None:
                        on_case(report.cases[-1])
    return report


def describe_run(style: Style, encode: EncodeOptions) -> BenchReport:
    """A report with everything but the cases."""
    versions = {name: distribution_version(name) for name in _PACKAGES}
    versions |= {status.name: status.version for status in backend_report()}
    encoder = ENCODERS[codec_for(Path(f"x{_suffix(encode)}"), encode)]
    settings = [f"{key} {value}" for key, value in encoder.settings(encode).items()]
    return BenchReport(
        vidstyle=__version__,
        commit=_commit(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=system_name(),
        cpu=find_cpu(),
        memory=find_memory(),
        packages={name: version for name, version in versions.items() if version is not None},
        kernels=kernels_in_use(),
        style=style.name,
        encoder=" ".join([encoder.name, *settings]),
        load_before=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def _suffix(encode: EncodeOptions) -> str:
    return ".mp4" if encode.codec is None else ".mkv"  # Matroska holds every codec


def _commit() -> str | None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a virtual environment may lie in a foreign checkout
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _clips(options: BenchOptions, folder: Path) -> Iterator[tuple[Path, str]]:
    if options.clip is not None:
        yield options.clip, options.clip.name
        return
    for size in options.sizes:
        path = folder / f"{size[1]}x{size[0]}.mp4"
        yield path, generate_clip(path, size, min(options.frames, _frames_that_fit(size)))


def _frames_that_fit(size: tuple[int, int]) -> int:
    return max(_MIN_FRAMES, _FRAME_BYTES // (size[0] * size[1] * 3 // 2))


def _work_sizes(options: BenchOptions, height: int) -> tuple[int | None, ...]:
    if options.work_sizes is not None:
        return options.work_sizes
    return (None, WORK_SIZE) if height > WORK_SIZE else (None,)


def _now() -> NDArray[np.float64]:
    """Seconds by the clock, and of processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def _timed(work: Callable[[], object]) -> NDArray[np.float64]:
    began = _now()
    work()
    return _now() - began


class _Case:
    """One clip, work size and backend: its frames in memory, its network compiled."""

    def __init__(
        self, clip: Path, folder: Path, style: Style, look: LookOptions, backend: BackendOptions, options: BenchOptions
    ) -> None:
        self._clip, self._output = clip, folder / f"painted{_suffix(options.encode)}"
        self._style, self._look, self._backend, self._options = style, look, backend, options
        self._startup_seconds: list[float] = []
        with ExitStack() as stack:
            self._stylizer = stack.enter_context(Stylizer(style, look=look, backend=backend, fixed=True))
            with VideoReader(clip) as video:
                self._form, self._info = video.form, video.info
                frames = list(islice(video.frames(), min(options.frames, _frames_that_fit(self._form.size))))
            if len(frames) < _MIN_FRAMES:
                raise BadOption(f"clip {clip} has {len(frames)} frames; at least {_MIN_FRAMES} are needed to measure")
            self._program = self._stylizer.open(self._form)
            self._jobs = [self._stylizer.prepare(frame) for frame in frames]
            few = self._jobs[:_MIN_FRAMES]
            self._paint(few)  # the first time takes longer
            took = _timed(lambda: self._paint(few))[0] / len(few)
            del self._jobs[max(_MIN_FRAMES, round(options.round_seconds / took)) :]
            self._painted = self._paint(self._jobs)
            self._finished = [self._stylizer.finish(*pair) for pair in zip(self._jobs, self._painted, strict=True)]
            step = 1 / (self._info.rate or Fraction(25))
            self._seconds = float(frames[len(self._jobs) - 1].seconds + step / 2 - self._info.start)
            self._video = stack.enter_context(VideoReader(clip, clip=ClipOptions(end=self._seconds)))
            self.close = stack.pop_all().close

    def measure(self, clip: str) -> CaseResult:
        """Every stage and the whole, round by round. ``clip`` says what is rendered."""
        stages: dict[str, Callable[[], object]] = {
            "decode": lambda: deque(self._video.frames(), maxlen=0),
            "infer": lambda: self._paint(self._jobs),
            "encode": self._encode,
        }
        if self._look.work_size != self._form.height:
            stages["scale"] = self._scale
        rounds = []
        for _ in range(self._options.rounds + 1):
            rounds.append({stage: _timed(work) for stage, work in stages.items()})
            rounds[-1]["render"] = self._render()
        del rounds[0]  # it was to warm up
        times = {}
        for stage in rounds[0]:
            clock, cpu = ([1000 * seconds[stage][i] / len(self._jobs) for seconds in rounds] for i in range(2))
            times[stage] = StageTime(Spread.of(clock), Spread.of(cpu))
        whole = [seconds["render"] for seconds in rounds]
        alone = [sum(seconds[stage][1] for stage in stages) for seconds in rounds]
        return CaseResult(
            width=self._form.width,
            height=self._form.height,
            work_size=None if self._look.work_size == self._form.height else self._look.work_size,
            backend=self._program.name,
            description=self._program.description,
            clip=clip,
            clip_seconds=self._seconds,
            frames=len(self._jobs),
            rounds=self._options.rounds,
            startup_seconds=statistics.median(self._startup_seconds[1:]),
            **times,
            fps=Spread.of([len(self._jobs) / clock for clock, _ in whole]),
            cores_busy=Spread.of([cpu / clock / usable_cores() for clock, cpu in whole]),
            overhead=Spread.of([cpu / parts for (_, cpu), parts in zip(whole, alone, strict=True)]),
        )

    def _paint(self, jobs: list[FrameTask]) -> list[Planes]:
        """What the network makes of ``jobs``, with as many under way as a render has."""
        under_way: deque[Pending] = deque()
        results = []
        for job in jobs:
            under_way.append(self._stylizer.submit(job))
            if len(under_way) >= self._program.in_flight:
                results.append(under_way.popleft()())
        return results + [pending() for pending in under_way]

    def _scale(self) -> None:
        for job, planes in zip(self._jobs, self._painted, strict=True):
            self._stylizer.finish(self._stylizer.prepare(job.frame), planes)

    def _encode(self) -> None:
        with VideoWriter(
            self._output,
            source=self._info,
            source_path=None,
            form=self._form,
            encode=self._options.encode,
            overwrite=True,
        ) as sink:
            for frame in self._finished:
                sink.write(frame)

    def _render(self) -> NDArray[np.float64]:
        began = []
        report = render(
            self._clip,
            self._output,
            self._style,
            look=self._look,
            backend=self._backend,
            encode=self._options.encode,
            clip=ClipOptions(end=self._seconds),
            overwrite=True,
            on_start=lambda _: began.append(_now()),
        )
        self._startup_seconds.append(report.startup_seconds)
        return np.asarray(_now() - began[0])
