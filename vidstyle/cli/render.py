"""``vidstyle render``: a video file in, a painted video file out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_json, echo_notes
from vidstyle.errors import BadOption
from vidstyle.options import ClipOptions, EncodeOptions

if TYPE_CHECKING:
    from vidstyle.rendering import Progress, RenderReport


def _workers(text: str) -> int | str:
    text = text.strip()
    if text == "ray" or text.startswith("ray://"):
        return text
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a number of workers; write 4, ray, or ray://HOST:10001")
    return int(text)


@click.command(cls=opt.SmoothCommand)
@click.argument("sources", metavar="IN...", type=opt.FILE, nargs=-1, required=True)
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
    opt.option(
        "--parts/--no-parts",
        default=None,
        help="Render in parts that are kept in OUT.parts until all are there: the same command goes on after any "
        "interruption.  [default: for more than ten minutes of film]",
    ),
    opt.option(
        "--workers",
        type=opt.text_type("workers", _workers),
        metavar="N|ray|ray://HOST:PORT",
        help="Paint so many parts at once, in processes here or on a Ray cluster (ray: the one that is there, or one "
        "started here).  [default: 1]",
    ),
    opt.option("--part-seconds", type=click.FloatRange(0.1, 86400), help="Film in a part.  [default: 60]"),
    opt.flag("--keep-parts", "Keep OUT.parts when OUT is whole."),
    opt.flag("--realtime", "Paint at the largest work size at which the rate of IN is held here; says which."),
    opt.flag("--skip-errors", "Succeed even if some frames cannot be decoded."),
    opt.overwrite_option("Replace OUT if it exists."),
    opt.json_option(),
)
@click.pass_context
def render(
    ctx: click.Context,
    /,
    sources: tuple[Path, ...],
    output: Path,
    skip_errors: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Stylize the video IN into OUT; sound, subtitles, timestamps and metadata are kept.

    Several videos, and folders of videos, go into the folder OUT; those that are there already are skipped.
    """
    if len(sources) > 1 or sources[0].is_dir():
        ctx.exit(_batch(sources, output, skip_errors, overwrite, as_json, options))
    source = sources[0]
    report = _one(source, output, overwrite, **options)
    echo_notes(report.notes)
    if as_json:
        echo_json(_facts(report))
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


def _one(
    source: Path,
    output: Path,
    overwrite: bool,
    *,
    clip: ClipOptions,
    parts: bool | None,
    workers: int | str | None,
    part_seconds: float | None,
    keep_parts: bool,
    realtime: bool,
    **options: Any,
) -> RenderReport:
    """Render one video, with a bar."""

    def start(report: RenderReport) -> None:
        on = f" on {report.backend}" if report.backend else ""
        echo(f"Painting {report.style} at {report.width}x{report.height}{on}", err=True)
        if report.realtime:
            echo(f"Real time: {report.realtime}", err=True)

    def update(at: Progress) -> None:
        seconds, share = max(at.seconds, 1e-6), 1 - at.taken_over / max(at.frames, 1)
        figures = f"{share * at.frames / seconds:.1f} fps  {share * at.seconds_of_video / seconds:.2f}x real time"
        bar.update(at.frames, at.total, figures)

    asked = {"--workers": workers is not None, "--part-seconds": part_seconds is not None, "--keep-parts": keep_parts}
    names = " and ".join(name for name, is_asked in asked.items() if is_asked)
    if parts is False and names:
        raise BadOption(f"{names} cannot be without parts; leave out --no-parts")
    if realtime and (parts or names):
        raise BadOption("--realtime measures for a video in one piece; leave it out, or --parts and what goes with it")
    parts = False if realtime else parts
    with Bar() as bar:
        shared: dict[str, Any] = {**options, "clip": clip, "overwrite": overwrite}
        shared |= {"on_start": start, "on_progress": update}
        in_parts = parts or bool(names)
        if parts is not False:
            from vidstyle.files import check_output
            from vidstyle.films.folder import folder_of

            if not folder_of(output).exists():
                check_output(output, overwrite=overwrite, source=source)  # before a long file is looked through
        if parts is None and not in_parts:
            from vidstyle.films.film import is_long
            from vidstyle.video.info import probe

            shared["info"] = probe(source)  # once: some files are read to their end for it
            in_parts = is_long(shared["info"], clip)
        if not in_parts:
            from vidstyle.rendering import render as render_video

            return render_video(source, output, realtime=realtime, **shared)
        from vidstyle.films.film import render_parts

        own = opt.given({"workers": workers, "part_seconds": part_seconds})
        try:
            return render_parts(source, output, keep_parts=keep_parts, **own, **shared)
        except KeyboardInterrupt:
            echo("What is done is kept: the same command goes on.", err=True)
            raise


def _batch(
    sources: tuple[Path, ...],
    output: Path,
    skip_errors: bool,
    overwrite: bool,
    as_json: bool,
    options: dict[str, Any],
) -> int:
    """Render many videos; the exit code."""
    from vidstyle.films.batch import BatchResult, batch_outputs, render_batch

    def tell(result: BatchResult) -> None:
        echo_notes([] if result.report is None else result.report.notes)
        if result.error is not None:
            echo(f"Failed: {result.error}", err=True)
        elif not as_json:
            echo(f"{result.output}: there already" if result.report is None else _closing_line(result.report))

    jobs = batch_outputs(sources, output)
    results = render_batch(
        jobs,
        lambda source, target: _one(source, target, overwrite, **options),
        overwrite=overwrite,
        skip_errors=skip_errors,
        keep_parts=options["keep_parts"],
        on_result=tell,
    )
    if as_json:
        echo_json(
            [
                {
                    "source": str(result.source),
                    "output": str(result.output),
                    "state": result.state,
                    "error": result.error,
                    "report": None if result.report is None else _facts(result.report),
                }
                for result in results
            ]
        )
    states = [result.state for result in results]
    failed = [str(result.source) for result in results if result.state == "failed"]
    line = f"{states.count('done')} of {len(results)} videos rendered, {states.count('skipped')} there already"
    echo(f"{line}, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}", err=as_json)
    return 1 if failed else 0


def _facts(report: RenderReport) -> dict[str, Any]:
    return {**dataclasses.asdict(report), "fps": report.fps}


def _closing_line(report: RenderReport) -> str:
    speed = report.fps * report.seconds_of_video / max(report.frames, 1)
    line = (
        f"{report.output}: {report.frames} frames in {report.seconds:.1f} s ({report.fps:.1f} fps, {speed:.2f}x real "
        f"time; start-up {report.startup_seconds:.1f} s)"
    )
    if report.parts:
        kept = f", {report.taken_over} frames of them painted before" if report.taken_over else ""
        return f"{line} in {report.parts} parts{kept}; not decoded {report.lost}"
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in dataclasses.asdict(report.stages).items())
    return f"{line}; seconds at work: {stages}; not decoded {report.lost}"
