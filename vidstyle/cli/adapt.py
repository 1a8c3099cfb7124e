"""``vidstyle adapt``: a painting in, a style file out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click

from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import NetworkName


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
@click.option("--full", is_flag=True, help="Move every weight: the last bit of quality, but no blending.")
@click.option("--from-scratch", is_flag=True, help="Every weight, from random ones (takes thousands of steps).")
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Gradient steps.")
@click.option("--batch", type=click.IntRange(1, 64), default=4, show_default=True, help="Photo crops a step.")
@click.option("--crop", type=click.IntRange(32, 2048), default=192, show_default=True, help="Side of a photo crop.")
@click.option("--style-size", type=click.IntRange(32, 2048), help="Stroke scale.  [default: that of the gallery]")
@click.option("--style-weight", type=click.FloatRange(0, 1e6), help="More painting.  [default: that of the gallery]")
@click.option("--content-weight", type=click.FloatRange(0, 1e6), help="More photo.  [default: that of the gallery]")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Same seed, same style.")
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
    full: bool,
    from_scratch: bool,
    steps: int,
    batch: int,
    crop: int,
    style_size: int | None,
    style_weight: float | None,
    content_weight: float | None,
    seed: int,
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
    """Make a style of PAINTING by gradient steps (MetaStyle), ready for --style."""
    if full and from_scratch:
        raise click.UsageError("--full starts from a trained network, --from-scratch from random weights; choose one")
    if output.suffix != ".safetensors":
        raise BadOption(f"{output} does not end in .safetensors, the only kind of style file; rename it")
    if not output.parent.is_dir():
        raise BadOption(f"the folder of {output} does not exist; make it first")
    if output.exists() and not overwrite:
        raise BadOption(f"{output} exists; choose another name or give --overwrite")
    from vidstyle.cli.bar import Bar
    from vidstyle.gallery import shared_network

    try:
        from vidstyle.training.adapt import AdaptOptions
        from vidstyle.training.adapt import adapt as adapt_painting
        from vidstyle.training.compute import Compute
        from vidstyle.training.descent import Checkpoint
        from vidstyle.training.perceptual import LossWeights
    except ImportError as error:
        raise MissingDependency(f"adapt needs PyTorch ({error}); pip install 'vidstyle[train]'") from error

    wishes = {"style": style_weight, "content": content_weight}
    sizes = {} if style_size is None else {"style_size": style_size}
    options = AdaptOptions(
        mode="full" if full else "scratch" if from_scratch else "vector",
        steps=steps,
        batch=batch,
        size=crop,
        seed=seed,
        loss=LossWeights(**{term: weight for term, weight in wishes.items() if weight is not None}),
        compute=Compute(arithmetic=arithmetic, threads=threads),  # type: ignore[arg-type]  # click has checked it
        **sizes,
    )
    kept = checkpoint or output.with_suffix(".checkpoint.safetensors")
    if resume and not kept.exists():
        raise BadOption(f"there is no checkpoint {kept} to resume from; start without --resume")
    card = {"painting": title or output.stem, "painter": painter, "year": year, "licence": licence}
    start = network if from_scratch else shared_network(network)  # from scratch only the shape counts
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
            )
        except KeyboardInterrupt:
            click.echo(f"The run is kept in {kept}; continue it with --resume", err=True)
            raise
    style.save(output)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    losses = style.card["losses"]
    assert isinstance(losses, dict)
    before, after = losses["before"], losses["after"]
    click.echo(
        f"{output}: {style.kind} style for {style.network_name}, {steps} steps in {style.card['seconds']} s; "
        f"style loss {before['style']:.3f} -> {after['style']:.3f}, "
        f"content loss {before['content']:.3f} -> {after['content']:.3f}"
    )


def _figures(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
