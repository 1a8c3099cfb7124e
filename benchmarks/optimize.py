"""From where a still is best optimized: the photo, noise, or what an adapted network painted.

    python benchmarks/optimize.py NAME PAINTING [PAINTING ...] --photos PHOTO [PHOTO ...]

Each photo is optimized for each painting from all three starts, with the same loss and the same L-BFGS.
The curves go to benchmarks/results/NAME/optimize/PAINTING.json as they come, and beside them the
iteration at which each one passes what the photo's own reached at its end. What is there is not
measured again, unless what it was measured with has changed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch
from measured import RESULTS, ResultFile, load

from vidstyle.gallery import shared_network
from vidstyle.options import LookOptions
from vidstyle.training.data import read_picture
from vidstyle.training.device import Compute
from vidstyle.training.gatys import Init, OptimizeOptions, optimize
from vidstyle.training.trainer import Progress

INITS: tuple[Init, ...] = get_args(Init)


def conditions(options: OptimizeOptions) -> dict[str, Any]:
    """What a result depends on."""
    facts = {
        "init": options.init,
        "iterations": options.iterations,
        "work_size": options.look.work_size,
        "style_size": options.style_size,
        "loss": asdict(options.loss),
        "seed": options.seed,
        "arithmetic": str(options.compute.dtype).removeprefix("torch."),
    }
    if options.init == "metastyle":
        facts |= {"adapt_steps": options.adapt_steps, "network": shared_network("fast").digest[:12]}
    return facts


def measure(photo: Path, painting: Path, options: OptimizeOptions) -> dict[str, Any]:
    """One optimization, and what it was measured with."""

    def show(at: Progress) -> None:
        if at.step % 50 == 0:
            print(f"  {options.init} {at.step}: {at.losses['total']:.4f}", flush=True)

    before = load()
    result = optimize(read_picture(photo), painting, options=options, progress=show)
    return {
        "conditions": conditions(options),
        "losses": result.losses,
        "start_seconds": result.start_seconds,
        "seconds": result.seconds,
        "curve": list(result.curve),
        "load_before": before,
        "machine": {
            "torch": torch.__version__,
            "device": options.compute.place,
            "threads": options.compute.threads or torch.get_num_threads(),
        },
    }


def passed(curve: list[float], loss: float) -> int | None:
    """The first iteration after which the loss is no higher than ``loss``."""
    return next((iteration for iteration, reached in enumerate(curve) if reached <= loss), None)


def comparison(runs: dict[str, Any]) -> dict[str, Any]:
    """Where each start passes what the photo's reached at its end; None where it never does."""
    aim = min(runs["content"]["curve"])
    return {"loss_from_content": aim, "passed_at": {init: passed(run["curve"], aim) for init, run in runs.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = OptimizeOptions()
    parser.add_argument("name", help="name of the results' folder, such as the machine's")
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--inits", nargs="+", choices=INITS, default=INITS, help="starts (all of them)")
    parser.add_argument("--rows", type=int, default=192, help="height of the optimized picture (%(default)s)")
    parser.add_argument("--iterations", type=int, default=default.iterations, help="(%(default)s)")
    parser.add_argument("--adapt-steps", type=int, default=default.adapt_steps, help="(%(default)s)")
    parser.add_argument("--style-weight", type=float, default=default.loss.style, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="(%(default)s)")
    parser.add_argument("--arithmetic", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of all results")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    words = parser.parse_args()
    folder = words.results / words.name / "optimize"
    folder.mkdir(parents=True, exist_ok=True)
    options = OptimizeOptions(
        iterations=words.iterations,
        adapt_steps=words.adapt_steps,
        loss=replace(default.loss, style=words.style_weight),
        look=LookOptions(work_size=words.rows),
        seed=words.seed,
        compute=Compute(arithmetic=words.arithmetic, threads=words.threads),
    )
    for painting in words.paintings:
        results = ResultFile(painting.stem, folder)
        for photo in words.photos:
            for init in words.inits:
                wanted = replace(options, init=init)
                kept = results.facts.get(photo.stem, {}).get(init)
                if kept and kept["conditions"] == conditions(wanted) and not words.again:
                    continue
                print(f"{painting.stem}, {photo.stem}, from {init}", flush=True)
                results.put(photo.stem, init, measure(photo, painting, wanted))
            runs = {init: results.facts[photo.stem][init] for init in INITS if init in results.facts[photo.stem]}
            if "content" in runs:
                results.put(photo.stem, "comparison", comparison(runs))
                print(f"{painting.stem}, {photo.stem}: {results.facts[photo.stem]['comparison']}", flush=True)


if __name__ == "__main__":
    main()
