"""``vidstyle render``: a video file in, a painted video file out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_json, echo_notes
from vidstyle.options import BackendOptions, ClipOptions, EncodeOptions, LookOptions, SmoothOptions

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.models.timeline import Timeline
    from vidstyle.rendering import Progress, RenderReport


@click.command(cls=opt.SmoothCommand)
@click.argument("source", metavar="IN", type=opt.FILE)
@click.argument("output", metavar="OUT", type=opt.FILE)
@opt.timeline_options
@opt.look_options
@opt.smooth_options
@opt.plain(opt.option("--size", type=opt.SIZE, help="Size of the output.  [default: that of the input]"))
@opt.group(
    "clip",
    ClipOptions,
    opt.field(ClipOptions, "start", "Begin at this time: seconds, m:ss or h:mm:ss.", type=opt.SECONDS),
    opt.field(ClipOptions, "end", "End at this time.", type=opt.SECONDS),
    opt.field(ClipOptions, "decoder", "nvdec is an NVIDIA GPU's; auto takes it where it can."),
)
@opt.group(
    "encode",
    EncodeOptions,
    opt.field(EncodeOptions, "codec", "Video codec.  [default: by the suffix of OUT]"),
    opt.field(EncodeOptions, "crf", "Constant quality, smaller is better."),
    opt.field(EncodeOptions, "preset", "Speed name of the encoder, such as veryfast or medium."),
    opt.field(EncodeOptions, "pixel_format", "yuv444p keeps odd sizes and full color."),
    opt.field(EncodeOptions, "encoder", "nvenc is an NVIDIA GPU's; auto takes it where it can."),
)
@opt.gpu_backend_options
@opt.plain(
    opt.flag("--skip-errors", "Succeed even if some frames cannot be decoded."),
    opt.overwrite_option("Replace OUT if it exists."),
    opt.json_option(),
)
@click.pass_context
def render(
    ctx: click.Context,
    source: Path,
    output: Path,
    style: Style | Timeline,
    look: LookOptions,
    smooth: SmoothOptions | None,
    size: tuple[int, int | None] | None,
    clip: ClipOptions,
    encode: EncodeOptions,
    backend: BackendOptions,
    skip_errors: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Stylize the video IN into OUT; sound, subtitles, timestamps and metadata are kept."""
    from vidstyle.rendering import render as render_video

    def start(report: RenderReport) -> None:
        echo(f"Painting {report.style} at {report.width}x{report.height} on {report.backend}", err=True)

    def update(at: Progress) -> None:
        seconds = max(at.seconds, 1e-6)
        figures = f"{at.frames / seconds:.1f} fps  {at.seconds_of_video / seconds:.2f}x real time"
        bar.update(at.frames, at.total, figures)

    with Bar() as bar:
        report = render_video(
            source,
            output,
            style,
            size=size,
            look=look,
            smooth=smooth,
            backend=backend,
            encode=encode,
            clip=clip,
            overwrite=overwrite,
            on_start=start,
            on_progress=update,
        )
    echo_notes(report.notes)
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


def _closing_line(report: RenderReport) -> str:
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in dataclasses.asdict(report.stages).items())
    speed = report.seconds_of_video / report.seconds if report.seconds else 0.0
    return (
        f"{report.output}: {report.frames} frames in {report.seconds:.1f} s ({report.fps:.1f} fps, {speed:.2f}x real "
        f"time; start-up {report.startup_seconds:.1f} s); seconds at work: {stages}; not decoded {report.lost}"
    )
