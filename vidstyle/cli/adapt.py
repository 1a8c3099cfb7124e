"""``vidstyle adapt``: a painting in, a style file out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from vidstyle.cli.terminal import echo
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import NetworkName

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.tools.contact_sheet import RGB

PREVIEWED = 25
"""The step between start and end that --preview shows."""


@click.command()
@click.argument("painting", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Style file to write.")
@click.option(
    "--network",
    type=click.Choice(get_args(NetworkName)),
    default="fast",
    show_default=True,
    help="Network to start from.",
)
@click.option("--vector", is_flag=True, help="Move only the style vector: a file of 3 kB, which learns less.")
@click.option("--full", is_flag=True, hidden=True)  # what is done without --vector; once it was not
@click.option("--from-scratch", is_flag=True, help="Every weight, from random ones (takes thousands of steps).")
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Gradient steps.")
@click.option("--batch", type=click.IntRange(1, 64), default=4, show_default=True, help="Photo crops a step.")
@click.option("--crop", type=click.IntRange(32, 2048), default=192, show_default=True, help="Side of a photo crop.")
@click.option("--style-size", type=click.IntRange(32, 2048), help="Stroke scale.  [default: that of the gallery]")
@click.option("--style-weight", type=click.FloatRange(0, 1e6), help="More painting.  [default: that of the gallery]")
@click.option("--content-weight", type=click.FloatRange(0, 1e6), help="More photo.  [default: that of the gallery]")
@click.option("--tone-weight", type=click.FloatRange(0, 1e6), help="Lights stay light, darks dark.  [default: 1]")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Same seed, same style.")
@click.option(
    "--preview", type=click.Path(path_type=Path), help="Also draw this photo before and after, beside OUTPUT."
)
@click.option(
    "--perceptual",
    type=click.Choice(["shipped", "torchvision"]),
    default="shipped",
    show_default=True,
    help="Whose copy of VGG-16 the loss takes.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--arithmetic", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.")
@click.option("--title", help="Name of the painting, for the card.  [default: the name of OUTPUT]")
@click.option("--painter", help="For the card.")
@click.option("--year", help="For the card.")
@click.option("--license", "licence", help="Of the painting, for the card.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Where the run is kept.  [default: beside OUTPUT]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run from its checkpoint.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace OUTPUT if it exists.")
def adapt(
    painting: Path,
    output: Path,
    network: NetworkName,
    vector: bool,
    full: bool,
    from_scratch: bool,
    steps: int,
    batch: int,
    crop: int,
    style_size: int | None,
    style_weight: float | None,
    content_weight: float | None,
    tone_weight: float | None,
    seed: int,
    preview: Path | None,
    perceptual: str,
    device: str,
    arithmetic: str,
    threads: int | None,
    title: str | None,
    painter: str | None,
    year: str | None,
    licence: str | None,
    checkpoint: Path | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Make a style of PAINTING by gradient steps on every weight (MetaStyle), ready for --style.

    Ctrl-C writes the best so far to OUTPUT; --resume then goes on. With --preview a sheet beside
    OUTPUT, called OUTPUT.preview.jpg, shows the photo, the painting, and the photo painted before
    the adaptation, after 25 steps and at its end.
    """
    if vector + full + from_scratch > 1:
        raise click.UsageError("--vector moves the style vector alone, --from-scratch random weights; choose one")
    if output.suffix != ".safetensors":
        raise BadOption(f"{output} does not end in .safetensors, the only kind of style file; rename it")
    from vidstyle.files import check_output

    sheet = output.with_suffix(".preview.jpg")
    # An interrupted run has left its best there.
    overwrite = overwrite or resume
    kept = checkpoint or output.with_suffix(".checkpoint.safetensors")
    check_output(*((output, sheet) if preview else (output,)), overwrite=overwrite)
    check_output(kept, overwrite=True)
    from vidstyle.cli.bar import Bar
    from vidstyle.gallery import shared_network
    from vidstyle.imaging.image_io import read_opaque

    try:
        from vidstyle.training.adapt import AdaptOptions, Interrupted, Measurement
        from vidstyle.training.adapt import adapt as adapt_painting
        from vidstyle.training.device import Compute
        from vidstyle.training.loss import LossWeights
        from vidstyle.training.trainer import Checkpoint
    except ImportError as error:
        raise MissingDependency(f"adapt needs PyTorch ({error}); pip install 'vidstyle[train]'") from error

    wishes = {"style": style_weight, "content": content_weight, "tone": tone_weight}
    sizes = {} if style_size is None else {"style_size": style_size}
    options = AdaptOptions(
        mode="vector" if vector else "scratch" if from_scratch else "full",
        steps=steps,
        batch=batch,
        size=crop,
        seed=seed,
        loss=LossWeights(**{term: weight for term, weight in wishes.items() if weight is not None}),
        features=perceptual,  # type: ignore[arg-type]  # click has checked the choice
        compute=Compute(device=device, arithmetic=arithmetic, threads=threads),  # type: ignore[arg-type]  # by click
        **sizes,
    )
    if resume and not kept.exists():
        raise BadOption(f"there is no checkpoint {kept} to resume from; start without --resume")
    card = {"painting": title or output.stem, "painter": painter, "year": year, "licence": licence}
    start = network if from_scratch else shared_network(network)  # from scratch only the shape counts
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
                card={key: value for key, value in card.items() if value is not None},
                checkpoint=Checkpoint(path=kept, resume=resume),
                progress=lambda at: bar.update(at.step, at.steps, _figures(at.losses)),
                watch=watch,
            )
        except Interrupted as stop:
            stop.style.save(output, overwrite=overwrite)
            step = stop.style.card["steps"]
            echo(f"{output} is the best so far, of step {step} of {steps}; --resume goes on from {kept}", err=True)
            raise
    style.save(output, overwrite=overwrite)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    if photo is not None:
        _draw(sheet, photo, painting, [*shown.values(), style], threads, overwrite)
    notes, losses = style.card.get("notes", []), style.card["losses"]
    assert isinstance(losses, dict) and isinstance(notes, list)
    for note in notes:
        echo(f"Note: {note}", err=True)
    before, after = losses["before"], losses["after"]
    echo(
        f"{output}: {style.kind} style for {style.network_name}, {steps} steps in {style.card['seconds']} s; "
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
