"""``vidstyle train``: paintings and photos in, a shared network out."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from vidstyle.cli.terminal import echo
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import NetworkName

if TYPE_CHECKING:
    from vidstyle.training.trainer import Progress

F = TypeVar("F", bound=Callable[..., Any])


def _data_options(command: F) -> F:
    for option in (
        click.option("--start", type=click.Path(path_type=Path), help="Network file to begin with."),
        click.option(
            "--network",
            type=click.Choice(get_args(NetworkName)),
            default="fast",
            show_default=True,
            help="Shape of the network, if it begins with random weights.",
        ),
        click.option(
            "--val-content",
            type=click.Path(path_type=Path),
            help="Folder of photos for the outer loss, none of them in --content.  [default: every 5th of --content]",
        ),
        click.option(
            "--styles", required=True, type=click.Path(path_type=Path), help="Folder of paintings, searched deeply."
        ),
        click.option(
            "--content", required=True, type=click.Path(path_type=Path), help="Folder of photos, searched deeply."
        ),
    ):
        command = option(command)
    return command


def _length_options(command: F) -> F:
    for option in (
        click.option("--warm-minutes", type=click.FloatRange(0, min_open=True), help="Time of the warm start."),
        click.option(
            "--warm-steps",
            type=click.IntRange(1),
            help="Before the bilevel phase, steps of plain training on many styles at once (a warm start).",
        ),
        click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Time of the bilevel phase."),
        click.option(
            "--steps", type=click.IntRange(1), help="Outer steps of the bilevel phase.  [default: 20000, or --minutes]"
        ),
    ):
        command = option(command)
    return command


def _problem_options(command: F) -> F:
    for option in (
        click.option(
            "--stable/--no-stable", default=True, show_default=True, help="Learn to paint a noisy, moved photo alike."
        ),
        click.option("--content-weight", type=click.FloatRange(0, 1e6), help="More photo.  [default: that of adapt]"),
        click.option(
            "--tone-weight", type=click.FloatRange(0, 1e6), help="Lights stay light, darks dark.  [default: 1]"
        ),
        click.option("--style-weight", type=click.FloatRange(0, 1e6), help="More painting.  [default: that of adapt]"),
        click.option("--style-size", type=click.IntRange(32, 2048), help="Stroke scale.  [default: that of adapt]"),
        click.option("--size", type=click.IntRange(32, 2048), default=256, show_default=True, help="Side of a crop."),
        click.option(
            "--batch", type=click.IntRange(1, 256), default=4, show_default=True, help="Photo crops for each painting."
        ),
        click.option(
            "--styles-per-step", type=click.IntRange(1, 256), default=4, show_default=True, help="Paintings of a step."
        ),
        click.option("--rate", type=float, help="Outer learning rate (eta), Adam's.  [default: 0.001]"),
        click.option(
            "--reptile",
            type=click.IntRange(1, 1000),
            metavar="K",
            help="Instead of the bilevel step, move the start towards where K steps of adapt lead, on every weight.",
        ),
        click.option("--first-order", is_flag=True, help="Take the inner gradient for a constant: less time a step."),
        click.option(
            "--inner",
            type=click.Choice(["norm", "all"]),
            default="norm",
            show_default=True,
            help="What the inner steps move: the style vector, or every weight.",
        ),
        click.option(
            "--inner-rate", type=float, help="Length of an inner step (delta).  [default: 1; 0.001 with --inner all]"
        ),
        click.option("--inner-steps", type=click.IntRange(0, 1000), default=1, show_default=True, help="T."),
    ):
        command = option(command)
    return command


def _run_options(command: F) -> F:
    for option in (
        click.option("--tensorboard", is_flag=True, help="Write event files too (pip install tensorboard)."),
        click.option(
            "--sample-every",
            type=click.IntRange(0),
            default=500,
            show_default=True,
            help="Steps between sample sheets.",
        ),
        click.option(
            "--checkpoint-every",
            type=click.IntRange(1),
            default=200,
            show_default=True,
            help="Most steps between two; there is one every two minutes in any case.",
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --run."),
        click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads."),
        click.option("--arithmetic", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option(
            "--perceptual",
            type=click.Choice(["shipped", "torchvision"]),
            default="shipped",
            show_default=True,
            help="Whose copy of VGG-16 the loss takes.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True),
    ):
        command = option(command)
    return command


@click.command()
@_data_options
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("runs/train"),
    show_default=True,
    help="Folder for the network, the log, samples and checkpoints.",
)
@_length_options
@_problem_options
@_run_options
def train(
    content: Path,
    styles: Path,
    val_content: Path | None,
    network: NetworkName,
    start: Path | None,
    folder: Path,
    steps: int | None,
    minutes: float | None,
    warm_steps: int | None,
    warm_minutes: float | None,
    inner_steps: int,
    inner_rate: float | None,
    inner: str,
    first_order: bool,
    reptile: int | None,
    rate: float | None,
    styles_per_step: int,
    batch: int,
    size: int,
    style_size: int | None,
    style_weight: float | None,
    content_weight: float | None,
    tone_weight: float | None,
    stable: bool,
    seed: int,
    perceptual: str,
    device: str,
    arithmetic: str,
    threads: int | None,
    resume: bool,
    checkpoint_every: int,
    sample_every: int,
    tensorboard: bool,
) -> None:
    """Train a shared network by MetaStyle's bilevel optimization, for `vidstyle adapt` to start from.

    With several GPUs or machines: torchrun --nproc-per-node 4 -m vidstyle -- train ...
    (the dashes keep torchrun from taking --run and --start for options of its own)
    """
    try:
        from vidstyle.training.bilevel import InnerOptions
        from vidstyle.training.device import Compute
        from vidstyle.training.loss import LossWeights
        from vidstyle.training.phases import ReptileOptions
        from vidstyle.training.train import NETWORK_FILE, Data, Keep, TrainOptions, random_network
        from vidstyle.training.train import train as train_network
    except ImportError as error:
        raise MissingDependency(f"train needs PyTorch ({error}); pip install 'vidstyle[train]'") from error
    from vidstyle.cli.bar import Bar
    from vidstyle.files import check_folder
    from vidstyle.models.architecture import Network

    leads = os.environ.get("RANK", "0") == "0"  # torchrun's processes share a terminal: one of them speaks

    check_folder(folder)
    if not resume and folder.is_dir() and any(folder.glob("*.safetensors")):
        raise BadOption(f"output {folder} exists, with a run in it; name another folder, or go on with it by --resume")
    if steps is None and minutes is None and warm_steps is None and warm_minutes is None:
        steps = 20_000
    weights = {"style": style_weight, "content": content_weight, "tone": tone_weight}
    given = {"style_size": style_size, "weight_rate": rate, "stable": None if stable else 0.0}
    options = TrainOptions(
        steps=steps,
        minutes=minutes,
        warm_steps=warm_steps,
        warm_minutes=warm_minutes,
        inner=InnerOptions(
            steps=inner_steps,
            rate=inner_rate if inner_rate is not None else 1.0 if inner == "norm" else 1e-3,
            moves=inner,  # type: ignore[arg-type]  # click has checked the choice
            first_order=first_order,
        ),
        reptile=None if reptile is None else ReptileOptions(steps=reptile),
        styles=styles_per_step,
        batch=batch,
        size=size,
        loss=LossWeights(**{term: weight for term, weight in weights.items() if weight is not None}),
        seed=seed,
        features=perceptual,  # type: ignore[arg-type]  # click has checked the choice
        compute=Compute(device=device, arithmetic=arithmetic, threads=threads),  # type: ignore[arg-type]  # likewise
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    data = Data.in_folders(styles, content, val_content, size=size)
    first = random_network(network, seed) if start is None else Network.load(start)

    with Bar() if leads else nullcontext() as bar:

        def tell(phase: str, at: Progress) -> None:
            assert bar is not None, "progress is told to the leading process"
            bar.update(at.step, at.steps, f"{phase}  " + "  ".join(f"{k} {v:.3f}" for k, v in at.losses.items()))

        keep = Keep(
            folder=folder,
            resume=resume,
            every=checkpoint_every,
            sample_every=sample_every,
            tensorboard=tensorboard,
        )
        notes: list[str] = []
        try:
            trained = train_network(first, data, options, keep, progress=tell, note=notes.append)
        except KeyboardInterrupt:
            if leads:
                echo(f"The run is kept in {folder}; continue it with --resume", err=True)
            raise
    if leads:
        for note in notes:
            echo(f"Note: {note}", err=True)
        echo(f"{folder / NETWORK_FILE}: {trained.architecture.name} network {trained.digest[:12]}")
