"""``vidstyle bench temporal``: how much painted video flickers, smoothed and not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidstyle.cli.params import backend_from, backend_options
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.errors import BadOption, ImageError, MissingDependency
from vidstyle.options import BackendName, Precision, SmoothOptions

if TYPE_CHECKING:
    from vidstyle.bench_temporal import TemporalReport

STYLES = ("starry_night", "the_scream", "great_wave")


@click.command("temporal")
@click.option("--clip", "clips", type=click.Path(path_type=Path), multiple=True, help="Measure this too; repeatable.")
@click.option(
    "-s",
    "--style",
    "styles",
    metavar="NAME|FILE",
    multiple=True,
    help=f"Style to paint in; repeatable.  [default: {', '.join(STYLES)}]",
)
@click.option("--frames", type=click.IntRange(8, 10000), default=40, show_default=True, help="Frames of each clip.")
@click.option(
    "--size",
    "rows",
    type=click.IntRange(64, 4320),
    metavar="ROWS",
    default=360,
    show_default=True,
    help="Length of the shorter side at which everything is painted.",
)
@click.option(
    "--smooth",
    "strengths",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="S",
    multiple=True,
    help="Strength of smoothing; repeatable.  [default: 0.7]",
)
@backend_options
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw flicker against sharpness into a .svg or .png (needs matplotlib).",
)
@click.option("--overwrite", "-y", is_flag=True, help="Replace the file of --plot if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def bench_temporal(
    clips: tuple[Path, ...],
    styles: tuple[str, ...],
    frames: int,
    rows: int,
    strengths: tuple[float, ...],
    backend: BackendName,
    precision: Precision,
    threads: int | None,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure flicker without smoothing, with either part of it alone, and with both.

    Three clips are made from photos, so that their motion is known exactly; yours (--clip) are judged by
    Farneback's optical flow, which is not the one that smooths.
    """
    from vidstyle.bench_temporal import TemporalOptions
    from vidstyle.bench_temporal import bench_temporal as run_bench
    from vidstyle.gallery import load_blend

    options = TemporalOptions(
        clips=clips,
        frames=frames,
        rows=rows,
        smooth=tuple(SmoothOptions(strength=strength) for strength in strengths or (SmoothOptions().strength,)),
        backend=backend_from(backend, precision, threads),
    )
    if plot is not None:
        _check_plot(plot, overwrite)  # before minutes of measuring
    chosen = [load_blend(style) for style in styles or STYLES]
    report = run_bench(chosen, options, on_step=lambda step: echo(step, err=True))
    summary = {way: report.summary(way) for way in report.ways()}
    if plot is not None:
        from vidstyle.files import write_failure, write_whole
        from vidstyle.flicker_plot import flicker_plot

        try:
            drawn = flicker_plot(summary, kind="svg" if plot.suffix.lower() == ".svg" else "png")
            write_whole(plot, drawn, overwrite=overwrite)
        except OSError as error:
            raise ImageError(write_failure(plot, error)) from error
        echo(f"Plot: {plot}", err=True)
    if as_json:
        facts = {**dataclasses.asdict(report), "source_error": report.source_error(), "summary": summary}
        echo_json(facts)
    else:
        for line in _table(report):
            echo(line)


def _check_plot(path: Path, overwrite: bool) -> None:
    from vidstyle.files import check_output

    if path.suffix.lower() not in (".svg", ".png"):
        raise BadOption(f"the plot {path} does not end in .svg or .png; choose one of them")
    check_output(path, overwrite=overwrite)
    try:
        import vidstyle.flicker_plot  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"--plot needs matplotlib ({error}); pip install matplotlib") from error


HEADS = ("smoothed", "E_warp", "of none", "sharpness", "SSIM", "noise", "of none", "half-still", "ghost", "cut")


def _table(report: TemporalReport) -> list[str]:
    names = list(dict.fromkeys(result.clip for result in report.clips))
    styles = list(dict.fromkeys(result.style for result in report.clips))
    rows: list[tuple[str, ...]] = [HEADS]
    for way in report.ways():
        means = report.summary(way)
        rows.append(
            (
                way,
                f"{1e4 * means['warping_error']:.1f}",
                f"{means['warping_error_ratio']:.2f}",
                f"{means['sharpness']:.2f}",
                f"{means['similarity']:.3f}",
                f"{means['noise_gain']:.2f}",
                f"{means['noise_gain_ratio']:.2f}",
                f"{means['half_still']:.2f}",
                f"{means['ghost']:.1f}",
                f"{means['cut']:.1f}",
            )
        )
    rows.insert(1, ("source", f"{1e4 * report.source_error():.1f}", *[""] * (len(HEADS) - 2)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return [
        f"{', '.join(names)}; in {', '.join(styles)}; on {report.backend}",
        "",
        *lines,
        "",
        "E_warp      flicker along the motion (Lai 2018), in 1e-4; source is that of the clips themselves",
        "sharpness   gradient energy over that of none; SSIM is with none",
        "noise       unrest of a painted still with sensor noise, over the unrest of the still",
        "half-still  unrest, in levels, of what rests beside something that moves",
        "ghost       levels that are left of a thing where it has just been",
        "cut         levels by which the first frame after a cut differs from none's",
    ]
