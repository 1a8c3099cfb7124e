"""``vidstyle render``: a video file in, a painted video file out."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from vidstyle.cli.params import (
    Seconds,
    Size,
    SmoothCommand,
    backend_from,
    backend_options,
    chosen_timeline,
    gpu_options,
    look_from,
    look_options,
    smooth_from,
    smooth_options,
    style_option,
    timeline_options,
)
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.options import (
    BackendName,
    ClipOptions,
    Codec,
    DecoderName,
    EncodeOptions,
    EncoderName,
    PixelFormat,
    Precision,
)

if TYPE_CHECKING:
    from vidstyle.rendering import Progress, RenderReport


@click.command(cls=SmoothCommand)
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@style_option
@timeline_options
@look_options
@smooth_options
@click.option("--size", type=Size(), help="Size of the output.  [default: that of the input]")
@click.option("--start", type=Seconds(), default=0.0, help="Begin at this time: seconds, m:ss or h:mm:ss.")
@click.option("--end", type=Seconds(), help="End at this time.")
@click.option("--codec", type=click.Choice(get_args(Codec)), help="Video codec.  [default: by the suffix of OUT]")
@click.option("--crf", type=click.IntRange(0, 63), help="Constant quality, smaller is better.")
@click.option("--preset", help="Speed name of the encoder, such as veryfast or medium.")
@click.option(
    "--pixel-format",
    type=click.Choice(get_args(PixelFormat)),
    default="yuv420p",
    show_default=True,
    help="yuv444p keeps odd sizes and full color.",
)
@backend_options
@gpu_options
@click.option(
    "--decoder",
    type=click.Choice(get_args(DecoderName)),
    default="software",
    show_default=True,
    help="nvdec is an NVIDIA GPU's; auto takes it where it can.",
)
@click.option(
    "--encoder",
    type=click.Choice(get_args(EncoderName)),
    default="software",
    show_default=True,
    help="nvenc is an NVIDIA GPU's; auto takes it where it can.",
)
@click.option("--skip-errors", is_flag=True, help="Succeed even if some frames cannot be decoded.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.pass_context
def render(
    ctx: click.Context,
    source: Path,
    output: Path,
    style: str | None,
    style_at: tuple[tuple[float, str], ...],
    fade: float | None,
    strength: float,
    preserve_color: bool,
    work_size: int | None,
    smooth: float | None,
    size: tuple[int, int | None] | None,
    start: float,
    end: float | None,
    codec: Codec | None,
    crf: int | None,
    preset: str | None,
    pixel_format: PixelFormat,
    backend: BackendName,
    precision: Precision,
    threads: int | None,
    gpu: int | None,
    rebuild: bool,
    decoder: DecoderName,
    encoder: EncoderName,
    skip_errors: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Stylize the video IN into OUT; sound, subtitles, timestamps and metadata are kept."""
    from vidstyle.rendering import render as render_video

    with ExitStack() as stack:
        display = _Display(stack)
        report = render_video(
            source,
            output,
            chosen_timeline(style, style_at, fade),
            size=size,
            look=look_from(strength, preserve_color, work_size),
            smooth=smooth_from(smooth),
            backend=backend_from(backend, precision, threads, gpu, rebuild),
            encode=EncodeOptions(codec=codec, crf=crf, preset=preset, pixel_format=pixel_format, encoder=encoder),
            clip=ClipOptions(start=start, end=end, skip_errors=skip_errors, decoder=decoder),
            overwrite=overwrite,
            on_start=display.start,
            on_progress=display.update,
        )
    for note in report.notes:
        echo(f"Note: {note}", err=True)
    if as_json:
        facts = dataclasses.asdict(report)
        echo_json({**facts, "fps": report.fps})
    else:
        echo(_closing_line(report))
    for sentence in report.errors:
        echo(f"Lost: {sentence}", err=True)
    if report.lost and not skip_errors:
        echo(
            f"Error: {report.lost} frames of {source} could not be decoded; {output} is written without them "
            "(--skip-errors accepts that)",
            err=True,
        )
        ctx.exit(1)


class _Display:
    """What runs, and then the bar: frames, fps, speed and time left."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, report: RenderReport) -> None:
        """Say what runs and show the bar, once everything is open and compiled."""
        from vidstyle.cli.bar import Bar

        echo(f"Painting {report.style} at {report.width}x{report.height} on {report.backend}", err=True)
        self._bar = self._stack.enter_context(Bar())

    def update(self, progress: Progress) -> None:
        """Move the bar; called after each frame, on another thread."""
        fps = progress.frames / max(progress.seconds, 1e-6)
        speed = progress.seconds_of_video / max(progress.seconds, 1e-6)
        self._bar.update(progress.frames, progress.total, f"{fps:.1f} fps  {speed:.2f}x real time")


def _closing_line(report: RenderReport) -> str:
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in dataclasses.asdict(report.stages).items())
    speed = report.seconds_of_video / report.seconds if report.seconds else 0.0
    return (
        f"{report.output}: {report.frames} frames in {report.seconds:.1f} s ({report.fps:.1f} fps, {speed:.2f}x real "
        f"time; start-up {report.startup_seconds:.1f} s); seconds at work: {stages}; "
        f"not decoded {report.lost}, dropped 0"
    )
