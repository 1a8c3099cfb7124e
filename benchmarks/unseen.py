"""How far an adaptation carries on paintings that the shared network was not trained on.

    python benchmarks/unseen.py NAME PAINTING [PAINTING ...] [--steps N]

Each painting becomes a style vector as `vidstyle adapt` makes it. The losses before and after, on the
middles of the shipped photos, and the seconds go into benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measured import RESULTS, ResultFile, load

from vidstyle.gallery import shared_network
from vidstyle.training.adapt import AdaptOptions, adapt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result file, such as the machine's")
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args()
    results = ResultFile(options.name, options.results)
    network = shared_network("fast")
    for painting in options.paintings:
        facts: dict[str, object] = {"network": network.digest[:12], "load_before": load()}
        card = adapt(painting, network, options=AdaptOptions(steps=options.steps)).card
        facts |= {key: card[key] for key in ("steps", "seconds", "style_weight", "style_size", "losses")}
        results.put("unseen", painting.stem, facts)
        print(painting.stem, facts, flush=True)


if __name__ == "__main__":
    main()
