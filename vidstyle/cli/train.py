"""``vidstyle train``: paintings and photos in, a shared network out."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_notes
from vidstyle.errors import BadOption
from vidstyle.options import NetworkName
from vidstyle.system import keep_freed_memory

if TYPE_CHECKING:
    from vidstyle.training.trainer import Progress

_STEPS = 20_000  # steps of a run for which neither steps nor minutes are given
_TIME = click.FloatRange(0, min_open=True)


def _inner(inner: str, inner_steps: int, inner_rate: float | None, first_order: bool) -> dict[str, Any]:
    rate = inner_rate if inner_rate is not None else 1.0 if inner == "norm" else 1e-3
    return {"moves": inner, "steps": inner_steps, "rate": rate, "first_order": first_order}


@click.command()
@opt.group(
    "data",
    dict,
    opt.option("--content", required=True, type=opt.FILE, help="Folder of photos, searched deeply."),
    opt.option("--styles", "paintings", required=True, type=opt.FILE, help="Folder of paintings, searched deeply."),
    opt.option(
        "--val-content",
        "held_out",
        type=opt.FILE,
        help="Folder of photos for the outer loss, none of them in --content.  [default: every 5th of --content]",
    ),
)
@opt.plain(
    opt.network_option("Shape of the network, if it begins with random weights."),
    opt.option("--start", type=opt.FILE, help="Network file to begin with."),
)
@opt.group(
    "keep",
    dict,
    opt.option(
        "--run",
        "folder",
        type=opt.FILE,
        default=Path("runs/train"),
        help="Folder for the network, the log, samples and checkpoints.",
    ),
    opt.flag("--resume", "Go on with the run in --run."),
    opt.option(
        "--checkpoint-every",
        "every",
        type=click.IntRange(1),
        default=200,
        help="Most steps between two; there is one every two minutes in any case.",
    ),
    opt.option("--sample-every", type=click.IntRange(0), default=500, help="Steps between sample sheets."),
    opt.flag("--tensorboard", "Write event files too (pip install tensorboard)."),
)
@opt.group(
    "inner",
    _inner,
    opt.option("--inner-steps", type=click.IntRange(0, 1000), default=1, help="T."),
    opt.option("--inner-rate", type=float, help="Length of a step (delta).  [default: 1; 0.001 with --inner all]"),
    opt.option(
        "--inner",
        type=click.Choice(["norm", "all"]),
        default="norm",
        help="What the inner steps move: the style vector, or every weight.",
    ),
    opt.flag("--first-order", "Take the inner gradient for a constant: less time a step."),
)
@opt.plain(
    opt.option(
        "--reptile",
        type=click.IntRange(1, 1000),
        metavar="K",
        help="Instead of the bilevel step, move the start towards where K steps of adapt lead, on every weight.",
    )
)
@opt.group(
    "values",
    dict,
    opt.option(
        "--steps", type=click.IntRange(1), help=f"Outer steps of the bilevel phase.  [default: {_STEPS}, or --minutes]"
    ),
    opt.option("--minutes", type=_TIME, help="Time of the bilevel phase."),
    opt.option(
        "--warm-steps",
        type=click.IntRange(1),
        help="Before the bilevel phase, steps of plain training on many styles at once (a warm start).",
    ),
    opt.option("--warm-minutes", type=_TIME, help="Time of the warm start."),
    opt.option("--rate", "weight_rate", type=float, help="Outer learning rate (eta), Adam's.  [default: 0.001]"),
    opt.option("--styles-per-step", "styles", type=click.IntRange(1, 256), default=4, help="Paintings of a step."),
    opt.option("--batch", type=click.IntRange(1, 256), default=4, help="Photo crops for each painting."),
    opt.option("--size", type=opt.SIDE, default=256, help="Side of a crop."),
    opt.option("--style-size", type=opt.SIDE, help="Stroke scale.  [default: that of adapt]"),
    *opt.weight_options(),
    opt.option("--stable/--no-stable", default=True, help="Learn to paint a noisy, moved photo alike."),
    opt.option("--seed", type=opt.SEED, default=0),
    *opt.COMPUTE,
)
def train(
    data: dict[str, Any],
    network: NetworkName,
    start: Path | None,
    keep: dict[str, Any],
    inner: dict[str, Any],
    reptile: int | None,
    values: dict[str, Any],
) -> None:
    """Train a shared network by MetaStyle's bilevel optimization, for `vidstyle adapt` to start from.

    With several GPUs or machines: torchrun --nproc-per-node 4 -m vidstyle -- train ...
    (the dashes keep torchrun from taking --run and --start for options of its own)
    """
    with opt.needs_torch("train"):
        from vidstyle.training.bilevel import InnerOptions
        from vidstyle.training.device import Compute
        from vidstyle.training.loss import LossWeights
        from vidstyle.training.phases import ReptileOptions
        from vidstyle.training.train import NETWORK_FILE, Data, Keep, TrainOptions, random_network
        from vidstyle.training.train import train as train_network
    from vidstyle.files import check_folder
    from vidstyle.models.architecture import Network

    keep_freed_memory()
    leads = os.environ.get("RANK", "0") == "0"  # torchrun's processes share a terminal: one of them speaks

    folder: Path = keep["folder"]
    check_folder(folder)
    if not keep["resume"] and folder.is_dir() and any(folder.glob("*.safetensors")):
        raise BadOption(f"output {folder} exists, with a run in it; name another folder, or go on with it by --resume")
    if not opt.given({name: values[name] for name in ("steps", "minutes", "warm_steps", "warm_minutes")}):
        values["steps"] = _STEPS
    values["stable"] = None if values["stable"] else 0.0
    options = TrainOptions(
        inner=InnerOptions(**inner),
        reptile=None if reptile is None else ReptileOptions(steps=reptile),
        loss=LossWeights(**opt.weights_of(values)),
        compute=Compute(**opt.compute_of(values)),
        **opt.given(values),
    )
    photos = Data.in_folders(data["paintings"], data["content"], data["held_out"], size=options.size)
    first = random_network(network, options.seed) if start is None else Network.load(start)

    with Bar() if leads else nullcontext() as bar:

        def tell(phase: str, at: Progress) -> None:
            assert bar is not None, "progress is told to the leading process"
            bar.update(at.step, at.steps, f"{phase}  " + "  ".join(f"{k} {v:.3f}" for k, v in at.losses.items()))

        notes: list[str] = []
        try:
            trained = train_network(first, photos, options, Keep(**keep), progress=tell, note=notes.append)
        except KeyboardInterrupt:
            if leads:
                echo(f"The run is kept in {folder}; continue it with --resume", err=True)
            raise
    if leads:
        echo_notes(notes)
        echo(f"{folder / NETWORK_FILE}: {trained.architecture.name} network {trained.digest[:12]}")
