"""``vidstyle bench``: how fast this machine paints."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, get_args

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.options import BackendName, BackendOptions, EncodeOptions

if TYPE_CHECKING:
    from vidstyle.tools.bench import CaseResult


@click.command()
@opt.plain(
    opt.STYLE,
    opt.option("--size", "sizes", type=opt.SIZE, multiple=True, help="Size of a generated clip; repeatable."),
)
@opt.group(
    "values",
    dict,
    opt.option("--clip", type=opt.FILE, help="Measure with this video instead of generated ones."),
    opt.option("--frames", type=click.IntRange(8), default=100, help="Frames in a round, at most."),
    opt.option("--rounds", type=click.IntRange(1, 1000), default=3, help="Median of this many."),
    opt.option("--seconds", "round_seconds", type=float, default=2.0, help="Length of a round of a slow network."),
)
@opt.plain(
    opt.option(
        "--work-size",
        "work_sizes",
        type=click.IntRange(0, 16384),
        metavar="ROWS",
        multiple=True,
        help="Height at which the network sees the frame, 0 for all of it; repeatable.  [default: 0, and 360 for HD]",
    ),
    opt.option(
        "--backend",
        "backends",
        type=click.Choice(get_args(BackendName)),
        multiple=True,
        help="Inference library; repeatable.  [default: all that work here]",
    ),
)
@opt.group("backend", BackendOptions, opt.PRECISION, opt.THREADS)
@opt.group(
    "encode",
    EncodeOptions,
    opt.field(EncodeOptions, "codec", "Video codec of the results.  [default: h264]"),
    opt.field(EncodeOptions, "preset", "Speed name of the encoder."),
)
@opt.plain(opt.json_option("Print everything as JSON on stdout."))
def bench(
    style: str | None,
    sizes: tuple[tuple[int, int | None], ...],
    values: dict[str, Any],
    work_sizes: tuple[int, ...],
    backends: tuple[BackendName, ...],
    backend: BackendOptions,
    encode: EncodeOptions,
    as_json: bool,
) -> None:
    """Time decoding, network and encoding alone and together, by size and backend."""
    from vidstyle.backends import backend_report
    from vidstyle.tools.bench import SIZES, BenchOptions
    from vidstyle.tools.bench import bench as run_bench

    if values["clip"] is not None and sizes:
        raise click.UsageError("--clip has its own size; leave out --size")
    names: Any = backends or [status.name for status in backend_report() if status.works]
    options = BenchOptions(
        sizes=tuple((rows, round(rows * 8 / 9) * 2 if columns is None else columns) for rows, columns in sizes)
        or SIZES,
        work_sizes=tuple(size or None for size in work_sizes) or None,
        backends=tuple(replace(backend, backend=name) for name in names),
        encode=encode,
        **values,
    )

    def tell(case: CaseResult) -> None:
        for line in _lines(case):
            echo(line, err=as_json)

    report = run_bench(options, opt.chosen_style(style), on_case=tell)
    if as_json:
        echo_json(asdict(report))
        return
    cpu = report.cpu
    echo("")
    echo(f"{cpu.model}, {cpu.usable_cores} cores; {report.encoder}; style {report.style}; {report.date}")
    echo(f"Milliseconds a frame (smallest-largest of {options.rounds} rounds); start-up is in no other figure.")


def _lines(case: CaseResult) -> list[str]:
    work = f", work size {case.work_size}" if case.work_size is not None else ""
    stages = {"decode": case.decode, "scale": case.scale, "infer": case.infer, "encode": case.encode}
    stages["render"] = case.render
    return [
        f"{case.width}x{case.height}{work}, {case.description}, {case.frames} frames of {case.clip}",
        *(
            f"  {name:8}{time.ms.median:9.2f} ms ({time.ms.low:.2f}-{time.ms.high:.2f})"
            f"{time.cpu_ms.median:9.2f} ms of processor time"
            for name, time in stages.items()
            if time is not None
        ),
        f"  {case.fps.median:.1f} fps ({case.fps.low:.1f}-{case.fps.high:.1f}), "
        f"cores {100 * case.cores_busy.median:.0f} % busy, "
        f"processor time {case.overhead.median:.2f} x that of the stages, start-up {case.startup_seconds:.2f} s",
    ]
