"""What a start is worth: the loss after 150 steps of `adapt` on every weight, from random weights and from networks.

    python benchmarks/starts.py NAME PAINTING [PAINTING ...] [--start LABEL=NETWORK ...] [--learn-on PHOTOS]

The shipped network of `fast` is always among the starts. Each run takes two crops a step and one thread, and is
measured on the six photos that ship; the figure is the whole loss. Results go to benchmarks/results/NAME/starts.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measured import RESULTS, ResultFile, load, machine

from vidstyle.gallery import shared_network
from vidstyle.models.architecture import Network
from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results/NAME/starts.json")
    parser.add_argument("paintings", nargs="+", type=Path)
    parser.add_argument("--start", nargs="+", default=[], metavar="LABEL=NETWORK", help="other networks to begin with")
    parser.add_argument("--learn-on", type=Path, help="photos to learn on; those that ship if not given")
    words = parser.parse_args()
    starts: dict[str, Network | None] = {"random": None, "shipped": shared_network("fast")}
    for text in words.start:
        label, _, file = text.partition("=")
        starts[label] = Network.load(Path(file))
    photos = Photos.in_folder(words.learn_on) if words.learn_on else None
    results = ResultFile("starts", RESULTS / words.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    results.put("machine", "starts", {**machine(), "load_before": load()})
    for painting in words.paintings:
        for label, network in starts.items():
            mode = "scratch" if network is None else "full"
            options = AdaptOptions(mode=mode, batch=2, compute=Compute(threads=1))  # type: ignore[arg-type]
            card = adapt(painting, network or "fast", options=options, photos=photos).card
            curve = card["curve"]
            assert isinstance(curve, list)
            losses = [Measurement(*point).total(options.loss) for point in curve]
            facts = {"from": network.digest[:12] if network else "random", "steps": options.steps, "losses": losses}
            results.put(painting.stem, label, {**facts, "seconds": card["seconds"]})
            print(f"{painting.stem:20s} {label:10s} {losses[-1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
