"""What was tried, measured again: the same render in several ways, in turn, in one process.

    python benchmarks/variants.py NAME [--cases 360p ...]

Options of the command line are given as such; ways that were given up are put in place of the ones
that the program has. Results go to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import cv2
from clips import clip_name, make_clip
from measured import RESULTS, ResultFile, load
from run import CASES, STYLE, machine

from vidstyle import rendering
from vidstyle.frame import Frame, Planes
from vidstyle.options import BackendOptions, ClipOptions, EncodeOptions, LookOptions, Precision
from vidstyle.pipeline import Pipeline, StageSeconds
from vidstyle.rendering import render
from vidstyle.stylizer import FrameTask, Stylizer
from vidstyle.system import find_cpu
from vidstyle.tools.bench import Spread
from vidstyle.video.formats import Encoder

Change = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Variant:
    """One way to render."""

    backend: BackendOptions = field(default_factory=BackendOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    change: Change = nullcontext
    codes: bool = False
    """Whether it is about the encoder: then the size and the faithfulness of the file count too."""


def pipeline_with(**fixed: int) -> Change:
    """A pipeline with other queues or another number of frames under way."""
    return lambda: patch.object(rendering, "Pipeline", lambda **given: Pipeline(**{**given, **fixed}))


def encoder_with(**fixed: str) -> Change:
    """The encoder with other settings of FFmpeg."""
    settings = Encoder.settings

    def changed(self: Encoder, options: EncodeOptions) -> dict[str, str]:
        return {**settings(self, options), **fixed}

    return lambda: patch.object(Encoder, "settings", changed)


def stream_finishing_late(stylizer: Stylizer, frames: Iterable[Frame], write: Callable[[Frame], None]) -> StageSeconds:
    """`stylize_stream`, but frames are enlarged on the encoder's thread."""
    frames = iter(frames)
    first = next(frames)
    backend = stylizer.open(first.form)

    def prepared() -> Generator[FrameTask, None, None]:
        yield stylizer.prepare(first)
        for frame in frames:
            yield stylizer.prepare(frame)

    def submit(job: FrameTask) -> Callable[[], tuple[FrameTask, Planes]]:
        pending = stylizer.submit(job)
        return lambda: (job, pending())

    pipeline: Pipeline[FrameTask, tuple[FrameTask, Planes]] = Pipeline(in_flight=backend.in_flight)
    pipeline.run(prepared(), submit, lambda result: write(stylizer.finish(*result)))
    return pipeline.seconds


FLOATS: tuple[Precision, ...] = ("bf16", "fp32") if find_cpu().features.get("bf16") else ("fp32",)
VARIANTS = {
    "as it is": Variant(codes=True),
    "as it is, again": Variant(),  # what chance does
    "`--preset ultrafast`": Variant(encode=EncodeOptions(preset="ultrafast"), codes=True),
    "`--preset veryfast`": Variant(encode=EncodeOptions(preset="veryfast"), codes=True),
    "`--preset medium`": Variant(encode=EncodeOptions(preset="medium"), codes=True),
    "with B-frames": Variant(change=encoder_with(bf="3"), codes=True),
    "x264 in slices": Variant(change=encoder_with(thread_type="slice"), codes=True),
    **{f"`--precision {one}`": Variant(backend=BackendOptions(precision=one)) for one in FLOATS},
    "`--backend onnxruntime`": Variant(backend=BackendOptions(backend="onnxruntime")),
    "`--threads 1`": Variant(backend=BackendOptions(threads=1)),
    "one frame under way": Variant(change=pipeline_with(in_flight=1)),
    "queues of 1 frame": Variant(change=pipeline_with(depth=1)),
    "queues of 16 frames": Variant(change=pipeline_with(depth=16)),
    "frames finished on the encoder's thread": Variant(
        change=lambda: patch.object(rendering, "stylize_stream", stream_finishing_late)
    ),
}


def fps_of(variant: Variant, clip: Path, output: Path, work_size: int | None, seconds: float) -> float:
    """Frames a second, from the first frame going in to the finished file."""
    began: list[float] = []
    with variant.change():
        report = render(
            clip,
            output,
            STYLE,
            look=LookOptions(work_size=work_size),
            backend=variant.backend,
            encode=variant.encode,
            clip=ClipOptions(end=seconds),
            overwrite=True,
            on_start=lambda _: began.append(time.perf_counter()),
        )
    return report.frames / (time.perf_counter() - began[0])


def file_facts(painted: Path, lossless: Path, seconds: float) -> dict[str, float]:
    """Size of ``painted``, and how near its luma comes to that of ``lossless``, in every tenth frame."""
    nearness = []
    with av.open(str(painted)) as coded, av.open(str(lossless)) as exact:
        for number, (a, b) in enumerate(zip(coded.decode(video=0), exact.decode(video=0), strict=True)):
            if number % 10 == 0:
                nearness.append(cv2.PSNR(*(frame.to_ndarray()[: frame.height] for frame in (a, b))))
    return {"kbit_s": painted.stat().st_size * 8 / 1000 / seconds, "psnr_db": statistics.mean(nearness)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result file, such as the machine's")
    parser.add_argument("--cases", nargs="+", default=["360p", "720p", "1080p-work-360"], choices=list(CASES))
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="how much of the clip is rendered")
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    options.clips.mkdir(parents=True, exist_ok=True)
    results = ResultFile(options.name, options.results)
    for name in options.cases:
        case = CASES[name]
        path = options.clips / clip_name(case.width, case.height, 20)
        clip = make_clip(path, case.width, case.height, 20)
        found: dict[str, list[float]] = {variant: [] for variant in options.only}
        files = {}
        before = load()
        with tempfile.TemporaryDirectory() as folder:
            lossless, painted = Path(folder) / "lossless.mkv", Path(folder) / "painted.mp4"
            fps_of(Variant(encode=EncodeOptions(codec="ffv1")), clip, lossless, case.work_size, options.seconds)
            for number in range(options.rounds + 1):
                for variant in found:
                    fps = fps_of(VARIANTS[variant], clip, painted, case.work_size, options.seconds)
                    if number > 0:  # the first round compiles and warms up
                        found[variant].append(fps)
                    elif VARIANTS[variant].codes:
                        files[variant] = file_facts(painted, lossless, options.seconds)
        work = f", work size {case.work_size}" if case.work_size else ""
        facts = {
            "title": f"{case.width}x{case.height}{work}",
            "rounds": options.rounds,
            "seconds": options.seconds,
            "load_before": before,
            "files": files,
            "fps": {variant: asdict(Spread.of(values)) for variant, values in found.items()},
        }
        results.put("machine", "variants", machine(options.note))
        results.put("variants", name, facts)
        for variant, values in found.items():
            print(f"{name:16} {variant:42} {Spread.of(values).median:7.1f} fps", flush=True)


if __name__ == "__main__":
    main()
