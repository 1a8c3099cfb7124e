"""``vidstyle image``: stills, folders of stills, and pipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidstyle.cli.params import backend_from, backend_options, chosen_style, look_from, look_options, style_option
from vidstyle.options import BackendName, Precision

if TYPE_CHECKING:
    from vidstyle.stylize import Stylizer

PIPE = Path("-")


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@style_option
@look_options
@backend_options
@click.option("--format", "suffix", default="png", show_default=True, help="Kind of picture when OUT is -.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace files that exist.")
@click.pass_context
def image(
    ctx: click.Context,
    source: Path,
    output: Path,
    style: str | None,
    strength: float,
    preserve_color: bool,
    work_size: int | None,
    backend: BackendName,
    precision: Precision,
    threads: int | None,
    suffix: str,
    overwrite: bool,
) -> None:
    """Stylize the picture IN into OUT. Folders go to folders, - is stdin and stdout."""
    from vidstyle.stylize import Stylizer

    look = look_from(strength, preserve_color, work_size)
    with Stylizer(chosen_style(style), look=look, backend=backend_from(backend, precision, threads)) as stylizer:
        if source.is_dir() and source != PIPE:
            failed = _folder(stylizer, source, output, overwrite)
            if failed:
                ctx.exit(1)
        else:
            _one(stylizer, source, output, f".{suffix.lstrip('.')}", overwrite)


def _one(stylizer: Stylizer, source: Path, output: Path, suffix: str, overwrite: bool) -> None:
    from vidstyle.still import (
        MAX_FILE_BYTES,
        check_output,
        decode_still,
        encode_still,
        fit_still,
        format_of,
        read_still,
        write_still,
    )
    from vidstyle.stylize_still import stylize_still

    # What cannot be written is told before anything is painted.
    if output == PIPE:
        format_of(suffix)
    else:
        check_output(output, source=None if source == PIPE else source, overwrite=overwrite)
    if source == PIPE:
        still = decode_still(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "standard input")
    else:
        still = read_still(source)
    painted = stylize_still(stylizer, still)
    if output != PIPE:
        notes = write_still(output, painted, overwrite=overwrite)
        click.echo(f"{output}: {painted.size[1]}x{painted.size[0]}")
    else:
        painted = fit_still(painted, suffix)
        notes = painted.notes
        sys.stdout.buffer.write(encode_still(painted, suffix))
    for note in notes:
        click.echo(f"Note: {note}", err=True)


def _folder(stylizer: Stylizer, source: Path, output: Path, overwrite: bool) -> int:
    from vidstyle.stylize_still import FileResult, stylize_folder

    def tell(result: FileResult, total: int) -> None:
        click.echo(result.error or f"{result.source} -> {result.output}", err=result.error is not None)
        for note in result.notes:
            click.echo(f"Note: {note}", err=True)

    report = stylize_folder(stylizer, source, output, overwrite=overwrite, on_file=tell)
    click.echo(f"{len(report.files) - len(report.failed)} of {len(report.files)} pictures painted into {output}")
    return len(report.failed)
