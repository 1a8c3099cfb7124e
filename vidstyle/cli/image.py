"""``vidstyle image``: stills, folders of stills, and pipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vidstyle.cli.optimize import Optimizer, Wishes, optimize_options
from vidstyle.cli.params import (
    backend_from,
    backend_options,
    chosen_style,
    gpu_options,
    look_from,
    look_options,
    style_option,
)
from vidstyle.cli.terminal import echo, write_bytes
from vidstyle.errors import BadOption
from vidstyle.options import BackendName, Precision

if TYPE_CHECKING:
    from vidstyle.imaging.image_io import Still
    from vidstyle.stylizer import Stylizer

PIPE = Path("-")


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@style_option
@look_options
@backend_options
@gpu_options
@click.option("--format", "suffix", default="png", show_default=True, help="Kind of picture when OUT is -.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace files that exist.")
@optimize_options
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
    gpu: int | None,
    rebuild: bool,
    suffix: str,
    overwrite: bool,
    optimize: bool,
    init: Literal["metastyle", "content", "noise"] | None,
    iterations: int | None,
    style_size: int | None,
    style_weight: float | None,
    content_weight: float | None,
    tone_weight: float | None,
    seed: int | None,
    device: Literal["auto", "cpu", "cuda"] | None,
) -> None:
    """Stylize the picture IN into OUT. Folders go to folders, - is stdin and stdout.

    With --optimize, Ctrl-C writes the best so far to OUT.
    """
    look = look_from(strength, preserve_color, work_size)
    folder = source.is_dir() and source != PIPE
    ending = f".{suffix.lstrip('.')}"
    wishes = Wishes(
        init=init,
        iterations=iterations,
        style_size=style_size,
        style_weight=style_weight,
        content_weight=content_weight,
        tone_weight=tone_weight,
        seed=seed,
        device=device,
    )
    if optimize:
        if folder:
            raise BadOption(f"{source} is a folder; --optimize takes minutes a picture, so give it one picture")
        if gpu is not None or rebuild:
            raise click.UsageError("--gpu and --rebuild are not for --optimize, which runs on the --device of PyTorch")
        optimizer = Optimizer(style, wishes, look=look, backend=backend, precision=precision, threads=threads)
        _one(optimizer, source, output, ending, overwrite)
        if optimizer.interrupted:
            echo(f"{'The output' if output == PIPE else output} is the best so far", err=True)
            raise KeyboardInterrupt
        return
    wishes.refuse_without_optimize()
    from vidstyle.imaging.image_io import FORMATS
    from vidstyle.rendering import stylize_still
    from vidstyle.stylizer import Stylizer

    if style and Path(style).suffix.lower() in FORMATS and Path(style).is_file():
        raise BadOption(
            f"{style} is a picture, not a style; make a style of it with `vidstyle adapt {style} -o mine.safetensors`, "
            "or give --optimize"
        )
    options = backend_from(backend, precision, threads, gpu, rebuild)
    with Stylizer(chosen_style(style), look=look, backend=options, fixed=True) as stylizer:
        if not folder:
            _one(partial(stylize_still, stylizer), source, output, ending, overwrite)
        elif _folder(stylizer, source, output, overwrite):
            ctx.exit(1)


def _one(paint: Callable[[Still], Still], source: Path, output: Path, suffix: str, overwrite: bool) -> None:
    from vidstyle.imaging.image_io import (
        MAX_FILE_BYTES,
        check_output,
        decode_still,
        encode_still,
        fit_still,
        format_of,
        read_still,
        write_still,
    )

    # What cannot be written is told before anything is painted.
    if output == PIPE:
        format_of(suffix)
    else:
        check_output(output, source=None if source == PIPE else source, overwrite=overwrite)
    if source == PIPE:
        still = decode_still(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "standard input")
    else:
        still = read_still(source)
    painted = paint(still)
    if output != PIPE:
        notes = write_still(output, painted, overwrite=overwrite)
        echo(f"{output}: {painted.size[1]}x{painted.size[0]}")
    else:
        painted = fit_still(painted, suffix)
        notes = painted.notes
        write_bytes(encode_still(painted, suffix))
    for note in notes:
        echo(f"Note: {note}", err=True)


def _folder(stylizer: Stylizer, source: Path, output: Path, overwrite: bool) -> int:
    from vidstyle.rendering import FileResult, stylize_folder

    def tell(result: FileResult, total: int) -> None:
        echo(result.error or f"{result.source} -> {result.output}", err=result.error is not None)
        for note in result.notes:
            echo(f"Note: {note}", err=True)

    report = stylize_folder(stylizer, source, output, overwrite=overwrite, on_file=tell)
    echo(f"{len(report.files) - len(report.failed)} of {len(report.files)} pictures painted into {output}")
    return len(report.failed)
