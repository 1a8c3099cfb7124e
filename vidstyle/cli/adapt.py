"""``vidstyle adapt``: a painting in, a style file out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_notes
from vidstyle.errors import BadOption
from vidstyle.options import NetworkName
from vidstyle.system import keep_freed_memory

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.tools.contact_sheet import RGB

Mode = Literal["vector", "full", "scratch"]
PREVIEWED = 25
"""The step between start and end that --preview shows."""


def _mode(vector: bool, full: bool, from_scratch: bool) -> Mode:
    if vector + full + from_scratch > 1:
        raise click.UsageError("--vector moves the style vector alone, --from-scratch random weights; choose one")
    return "vector" if vector else "scratch" if from_scratch else "full"


@click.command()
@click.argument("painting", type=opt.FILE)
@opt.plain(
    opt.option("-o", "--output", required=True, type=opt.FILE, help="Style file to write."),
    opt.network_option("Network to start from."),
)
@opt.group(
    "mode",
    _mode,
    opt.flag("--vector", "Move only the style vector: a file of 3 kB, which learns less."),
    opt.flag("--full", hidden=True),  # what is done without --vector; once it was not
    opt.flag("--from-scratch", "Every weight, from random ones (takes thousands of steps)."),
)
@opt.group(
    "values",
    dict,
    opt.option("--steps", type=click.IntRange(1), default=150, help="Gradient steps."),
    opt.option("--batch", type=click.IntRange(1, 64), default=4, help="Photo crops a step."),
    opt.option("--crop", "size", type=opt.SIDE, default=192, help="Side of a photo crop."),
    opt.option("--style-size", type=opt.SIDE, help="Stroke scale.  [default: that of the gallery]"),
    *opt.weight_options(contrast=20),
    opt.option("--seed", type=opt.SEED, default=0, help="Same seed, same style."),
    *opt.COMPUTE,
)
@opt.group(
    "card",
    lambda title, **values: opt.given({"painting": title, **values}),
    opt.option("--title", help="Name of the painting, for the card.  [default: the name of OUTPUT]"),
    opt.option("--painter", help="For the card."),
    opt.option("--year", help="For the card."),
    opt.option("--license", "licence", help="Of the painting, for the card."),
)
@opt.plain(
    opt.option("--preview", type=opt.FILE, help="Also draw this photo before and after, beside OUTPUT."),
    opt.option("--checkpoint", type=opt.FILE, help="Where the run is kept.  [default: beside OUTPUT]"),
    opt.flag("--resume", "Continue an interrupted run from its checkpoint."),
    opt.overwrite_option("Replace OUTPUT if it exists."),
)
def adapt(
    painting: Path,
    output: Path,
    network: NetworkName,
    mode: Mode,
    values: dict[str, Any],
    card: dict[str, str],
    preview: Path | None,
    checkpoint: Path | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Make a style of PAINTING by gradient steps on every weight (MetaStyle), ready for --style.

    Ctrl-C writes the best so far to OUTPUT; --resume then goes on. With --preview a sheet beside
    OUTPUT, called OUTPUT.preview.jpg, shows the photo, the painting, and the photo painted before
    the adaptation, after 25 steps and at its end.
    """
    if output.suffix != ".safetensors":
        raise BadOption(f"{output} does not end in .safetensors, the only kind of style file; rename it")
    from vidstyle.files import check_output

    sheet = output.with_suffix(".preview.jpg")
    # An interrupted run has left its best there.
    overwrite = overwrite or resume
    kept = checkpoint or output.with_suffix(".checkpoint.safetensors")
    check_output(*((output, sheet) if preview else (output,)), overwrite=overwrite)
    check_output(kept, overwrite=True)
    from vidstyle.gallery import shared_network
    from vidstyle.imaging.image_io import read_opaque

    with opt.needs_torch("adapt"):
        from vidstyle.training.adapt import AdaptOptions, Interrupted, Measurement
        from vidstyle.training.adapt import adapt as adapt_painting
        from vidstyle.training.device import Compute
        from vidstyle.training.trainer import Checkpoint

    keep_freed_memory()
    loss, compute = replace(AdaptOptions.loss, **opt.weights_of(values)), Compute(**opt.compute_of(values))
    options = AdaptOptions(mode=mode, loss=loss, compute=compute, **opt.given(values))
    if resume and not kept.exists():
        raise BadOption(f"there is no checkpoint {kept} to resume from; start without --resume")
    start = network if mode == "scratch" else shared_network(network)  # from scratch only the shape counts
    photo = read_opaque(preview).rgb if preview else None  # before the work, so that a wrong name costs nothing
    shown: dict[int, Style] = {}

    def watch(at: Measurement, style: Style) -> None:
        if at.step in (0, PREVIEWED):
            shown[at.step] = style

    with Bar() as bar:
        try:
            style = adapt_painting(
                painting,
                start,
                name=output.stem,
                options=options,
                card={"painting": output.stem, **card},
                checkpoint=Checkpoint(path=kept, resume=resume),
                progress=lambda at: bar.update(at.step, at.steps, _figures(at.losses)),
                watch=watch,
            )
        except Interrupted as stop:
            stop.style.save(output, overwrite=overwrite)
            step = stop.style.card["steps"]
            echo(
                f"{output} is the best so far, of step {step} of {options.steps}; --resume goes on from {kept}",
                err=True,
            )
            raise
    style.save(output, overwrite=overwrite)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    if photo is not None:
        _draw(sheet, photo, painting, [*shown.values(), style], compute.threads, overwrite)
    notes, losses = style.card.get("notes", []), style.card["losses"]
    assert isinstance(losses, dict) and isinstance(notes, list)
    echo_notes(notes)
    before, after = losses["before"], losses["after"]
    echo(
        f"{output}: {style.kind} style for {style.network_name}, {options.steps} steps in {style.card['seconds']} s; "
        f"style loss {before['style']:.3f} -> {after['style']:.3f}, "
        f"content loss {before['content']:.3f} -> {after['content']:.3f}"
    )


def _draw(path: Path, photo: RGB, painting: Path, styles: list[Style], threads: int | None, overwrite: bool) -> None:
    from vidstyle.imaging.image_io import Still, read_opaque, write_still
    from vidstyle.options import BackendOptions
    from vidstyle.tools.contact_sheet import adaptation_sheet

    # PyTorch is here anyway, and nothing has to be compiled for styles that are painted once.
    backend = BackendOptions(backend="torch", threads=threads)
    moments = {style.card["steps"]: style for style in styles}  # a run of 25 steps ends where it is looked at
    write_still(
        path,
        Still(adaptation_sheet(photo, read_opaque(painting).rgb, [*moments.values()], backend=backend)),
        overwrite=overwrite,
    )
    echo(f"{path}: before and after")


def _figures(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
