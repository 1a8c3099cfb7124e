"""What a start is worth: the loss of short adaptations and of training from scratch, on photos that none has seen.

    python benchmarks/adaptation.py NAME PHOTOS PAINTING [PAINTING ...] [--runs full vector scratch]
        [--scratch-steps 150 500] [--start LABEL=NETWORK ...]

Each painting is learned by every weight and by the style vector, 150 steps from the shared network, by every weight
from other networks that are to be compared, and by the same network from random weights, for as many steps and for
more. All of them learn on the same photos (those that ship, or ``--learn-on FOLDER``) with the same loss, batch and
sizes, and are measured on the same pictures of the folder PHOTOS, which nothing has learned on.

Results go to benchmarks/results/NAME/adaptation/PAINTING.json as they come. What is there is not
measured again, unless what it was measured with (options, network, photos) has changed. An
interrupted run goes on where it was, from its checkpoint in ``--work``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measured import RESULTS, ResultFile, load, machine, rounded

from vidstyle.gallery import shared_network
from vidstyle.models.architecture import Network
from vidstyle.options import NetworkName
from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
from vidstyle.training.data import Photos, picture_paths, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.trainer import Checkpoint


@dataclass(frozen=True)
class Bench:
    """What every run of this benchmark has in common."""

    network: NetworkName
    learn_on: Photos
    measure_on: Photos
    compute: Compute
    work: Path
    """Folder of the checkpoints."""
    keep: Path | None
    """Folder of the styles, if they are to be kept."""

    def conditions(self, start: Network | NetworkName, options: AdaptOptions) -> dict[str, Any]:
        """What a result depends on; a result with other conditions is measured again."""
        return {
            **options.facts(),
            "arithmetic": str(self.compute.dtype).removeprefix("torch."),
            "from": start if isinstance(start, str) else start.digest[:12],
            "learned_on": {"photos": len(self.learn_on.pictures), "digest": self.learn_on.digest[:12]},
            "measured_on": {"photos": len(self.measure_on.pictures), "digest": self.measure_on.digest[:12]},
        }

    def measure(self, painting: Path, run: str, start: Network | NetworkName, options: AdaptOptions) -> dict[str, Any]:
        """One run, and what it was measured with."""
        before, conditions = load(), self.conditions(start, options)
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:12]
        kept = self.work / f"{painting.stem}.{self.network}.{options.mode}.{digest}.safetensors"

        def show(at: Measurement, _: object) -> None:
            print(f"  step {at.step}: {at.total(options.loss):.3f}", flush=True)

        style = adapt(
            painting,
            start,
            options=options,
            photos=self.learn_on,
            measure_on=self.measure_on,
            checkpoint=Checkpoint(path=kept, every=25, resume=True),
            watch=show,
        )
        kept.unlink()
        if self.keep:
            style.save(self.keep / f"{painting.stem}.{run}.safetensors")
        curve = [Measurement(*point) for point in style.card["curve"]]  # type: ignore[attr-defined]
        return {
            "conditions": conditions,
            "seconds": style.card["seconds"],
            "total": {"before": curve[0].total(options.loss), "after": curve[-1].total(options.loss)},
            "columns": list(Measurement._fields),
            "curve": [list(point) for point in curve],
            "load_before": before,
            "machine": {
                **machine(),
                "torch": torch.__version__,
                "device": self.compute.place,
                "threads": self.compute.threads,
            },
        }


def spread(paths: list[Path], count: int) -> list[Path]:
    """``count`` of ``paths``, evenly from all over the list."""
    return [paths[index * len(paths) // count] for index in range(min(count, len(paths)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the results' folder, such as the machine's")
    parser.add_argument("photos", type=Path, help="folder of photos to measure on")
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument(
        "--runs", nargs="*", default=["full", "vector", "scratch"], choices=["full", "vector", "scratch"]
    )
    parser.add_argument("--start", nargs="+", default=[], metavar="LABEL=NETWORK", help="other networks to begin with")
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps, help="of adaptations (%(default)s)")
    parser.add_argument(
        "--scratch-steps", type=int, nargs="+", default=[150, 500], help="from random weights (%(default)s)"
    )
    parser.add_argument("--network", default="fast", choices=["fast", "paper"])
    parser.add_argument("--count", type=int, default=20, help="photos to measure on (%(default)s)")
    parser.add_argument("--learn-on", type=Path, help="folder of photos to learn on, instead of those that ship")
    parser.add_argument("--size", type=int, default=AdaptOptions().size, help="side of a photo crop (%(default)s)")
    parser.add_argument("--style-size", type=int, default=AdaptOptions().style_size, help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=AdaptOptions().batch, help="photo crops a step (%(default)s)")
    parser.add_argument("--seed", type=int, default=AdaptOptions().seed, help="(%(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-adaptation")
    parser.add_argument("--keep", type=Path, help="folder for the styles, PAINTING.RUN.safetensors")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of all results")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    words = parser.parse_args()
    folder = words.results / words.name / "adaptation"
    for path in filter(None, (folder, words.work, words.keep)):
        path.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        words.network,
        Photos.in_folder(words.learn_on) if words.learn_on else Photos.shipped(),
        Photos([read_picture(path) for path in spread(picture_paths(words.photos), words.count)]),
        Compute(threads=words.threads),
        words.work,
        words.keep,
    )
    options = AdaptOptions(
        steps=words.steps,
        batch=words.batch,
        size=words.size,
        style_size=words.style_size,
        seed=words.seed,
        compute=bench.compute,
    )
    shared = shared_network(words.network)
    runs: dict[str, tuple[Network | NetworkName, AdaptOptions]] = {}
    for mode in (mode for mode in words.runs if mode != "scratch"):
        runs[mode] = shared, replace(options, mode=mode)
    for text in words.start:
        label, _, file = text.partition("=")
        runs[label] = Network.load(Path(file)), options
    if "scratch" in words.runs:
        for steps in words.scratch_steps:
            runs[f"scratch_{steps}"] = words.network, replace(options, mode="scratch", steps=steps)
    for painting in words.paintings:
        results = ResultFile(painting.stem, folder)
        for run, (start, how) in runs.items():
            found = results.facts.get(words.network, {}).get(run, {})
            if not words.again and found.get("conditions") == rounded(bench.conditions(start, how)):
                continue
            print(f"{painting.stem}, {words.network}, {run} (load {load():.1f})", flush=True)
            results.put(words.network, run, bench.measure(painting, run, start, how))


if __name__ == "__main__":
    main()
