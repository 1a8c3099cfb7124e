"""``vidstyle image``: stills, folders of stills, and pipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_notes, write_bytes
from vidstyle.errors import BadOption
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.system import keep_freed_memory

if TYPE_CHECKING:
    from vidstyle.imaging.image_io import Still
    from vidstyle.stylizer import Stylizer
    from vidstyle.training.gatys import Optimized

PIPE = Path("-")


@click.command()
@click.argument("source", metavar="IN", type=opt.FILE)
@click.argument("output", metavar="OUT", type=opt.FILE)
@opt.plain(opt.STYLE)
@opt.look_options
@opt.still_backend_options
@opt.plain(
    opt.option("--format", "suffix", default="png", help="Kind of picture when OUT is -."),
    opt.overwrite_option("Replace files that exist."),
    opt.flag(
        "--optimize",
        "Optimize the pixels themselves (Gatys et al.): minutes a picture, the best quality. "
        "--style is then the painting, a picture file. The options from here on are for this alone.",
    ),
)
@opt.group(
    "values",
    dict,
    opt.option(
        "--init",
        type=click.Choice(["metastyle", "content", "noise"]),
        help="Start from a network adapted to the painting, the photo, or noise.  [default: content]",
    ),
    opt.option("--iterations", type=click.IntRange(1), help="Steps of --optimize.  [default: 300]"),
    opt.option(
        "--style-size", type=opt.SIDE, help="Stroke scale: shorter side of the painting.  [default: that of the photo]"
    ),
    *opt.weight_options(detail=0),
    opt.option("--seed", type=opt.SEED, help="Same seed, same picture.  [default: 0]"),
    opt.option("--device", type=opt.DEVICES, help="Where --optimize computes.  [default: auto]"),
)
@click.pass_context
def image(
    ctx: click.Context,
    source: Path,
    output: Path,
    style: str | None,
    look: LookOptions,
    backend: BackendOptions,
    suffix: str,
    overwrite: bool,
    optimize: bool,
    values: dict[str, Any],
) -> None:
    """Stylize the picture IN into OUT. Folders go to folders, - is stdin and stdout.

    With --optimize, Ctrl-C writes the best so far to OUT.
    """
    folder = source.is_dir() and source != PIPE
    ending = f".{suffix.lstrip('.')}"
    if optimize:
        if folder:
            raise BadOption(f"{source} is a folder; --optimize takes minutes a picture, so give it one picture")
        optimizer = _Optimizer(style, values, look, backend)
        _one(optimizer, source, output, ending, overwrite)
        if optimizer.interrupted:
            echo(f"{'The output' if output == PIPE else output} is the best so far", err=True)
            raise KeyboardInterrupt
        return
    if opt.given(values):
        names = " and ".join(f"--{name.replace('_', '-')}" for name in opt.given(values))
        raise BadOption(f"{names} need --optimize; give it too, or leave them out")
    from vidstyle.imaging.image_io import FORMATS
    from vidstyle.rendering import stylize_still
    from vidstyle.stylizer import Stylizer

    if style and Path(style).suffix.lower() in FORMATS and Path(style).is_file():
        raise BadOption(
            f"{style} is a picture, not a style; make a style of it with `vidstyle adapt {style} -o mine.safetensors`, "
            "or give --optimize"
        )
    with Stylizer(opt.chosen_style(style), look=look, backend=backend, fixed=True) as stylizer:
        if not folder:
            _one(partial(stylize_still, stylizer), source, output, ending, overwrite)
        elif _folder(stylizer, source, output, overwrite):
            ctx.exit(1)


def _one(paint: Callable[[Still], Still], source: Path, output: Path, suffix: str, overwrite: bool) -> None:
    from vidstyle.imaging import image_io

    # What cannot be written is told before anything is painted.
    if output == PIPE:
        image_io.format_of(suffix)
    else:
        image_io.check_output(output, source=None if source == PIPE else source, overwrite=overwrite)
    if source == PIPE:
        still = image_io.decode_still(sys.stdin.buffer.read(image_io.MAX_FILE_BYTES + 1), "standard input")
    else:
        still = image_io.read_still(source)
    painted = paint(still)
    if output != PIPE:
        notes = image_io.write_still(output, painted, overwrite=overwrite)
        echo(f"{output}: {painted.size[1]}x{painted.size[0]}")
    else:
        painted = image_io.fit_still(painted, suffix)
        notes = painted.notes
        write_bytes(image_io.encode_still(painted, suffix))
    echo_notes(notes)


def _folder(stylizer: Stylizer, source: Path, output: Path, overwrite: bool) -> int:
    from vidstyle.rendering import FileResult, stylize_folder

    def tell(result: FileResult, total: int) -> None:
        echo(result.error or f"{result.source} -> {result.output}", err=result.error is not None)
        echo_notes(result.notes)

    results = stylize_folder(stylizer, source, output, overwrite=overwrite, on_file=tell)
    failed = sum(result.error is not None for result in results)
    echo(f"{len(results) - failed} of {len(results)} pictures painted into {output}")
    return failed


class _Optimizer:
    """Paints a `Still` like the picture file that ``--style`` names.

    After Ctrl-C it returns the best so far, and `interrupted` is set.
    """

    def __init__(self, style: str | None, values: dict[str, Any], look: LookOptions, backend: BackendOptions) -> None:
        self._painting = _painting(style)
        if backend.gpu is not None or backend.rebuild:
            raise click.UsageError("--gpu and --rebuild are not for --optimize, which runs on the --device of PyTorch")
        if look.mask is not None:
            raise click.UsageError("--mask is not for --optimize, which works on the whole picture; leave it out")
        if backend.backend not in ("auto", "torch"):
            raise BadOption(f"--optimize computes with PyTorch, not with {backend.backend}; leave --backend out")
        if backend.precision == "fp16" or backend.precision == "int8":  # noqa: PLR1714, which mypy does not follow
            raise BadOption(f"--optimize computes in fp32 or bf16, not in {backend.precision}; leave --precision out")
        with opt.needs_torch("--optimize"):
            from vidstyle.training.device import Compute
            from vidstyle.training.gatys import OptimizeOptions
        keep_freed_memory()
        loss = replace(OptimizeOptions().loss, **opt.weights_of(values))
        device: Any = values.pop("device") or "auto"
        compute = Compute(device=device, arithmetic=backend.precision, threads=backend.threads)
        self._options = OptimizeOptions(look=look, loss=loss, compute=compute, **opt.given(values))
        self.interrupted = False

    def __call__(self, still: Still) -> Still:
        from vidstyle.training.gatys import Interrupted, optimize

        with Bar() as bar:
            try:
                result = optimize(
                    still.rgb,
                    self._painting,
                    options=self._options,
                    adapting=lambda at: bar.update(at.step, at.steps, "adapting a network for the start"),
                    progress=lambda at: bar.update(at.step, at.steps, f"loss {at.losses['total']:.3f}"),
                )
            except Interrupted as stop:
                result = stop.result
                self.interrupted = True
        self._report(result)
        return replace(still, rgb=result.rgb, notes=(*still.notes, *result.notes))

    def _report(self, result: Optimized) -> None:
        done = f"{result.iterations} of {self._options.iterations}" if self.interrupted else f"{result.iterations}"
        start = f", {result.start_seconds:.0f} s for the start" if self._options.init == "metastyle" else ""
        echo(
            f"{done} iterations in {result.seconds:.0f} s{start}: "
            f"loss {result.curve[0]:.3f} -> {result.losses['total']:.3f} (style {result.losses['style']:.3f}, "
            f"content {result.losses['content']:.3f})",
            err=True,
        )


def _painting(style: str | None) -> Path:
    needs = "--optimize needs the painting itself, as --style painting.jpg"
    if style is None:
        raise BadOption(f"{needs}; no --style was given")
    path = Path(style)
    if not path.is_file():
        raise BadOption(f"{needs}; {style!r} is not a file")
    if path.suffix == ".safetensors":
        raise BadOption(f"{needs}; {style} is a style file, which paints without --optimize")
    return path
