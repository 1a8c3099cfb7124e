"""Draw docs/temporal.svg: flicker that is left against sharpness, ours and the nearest peer's.

    pip install matplotlib
    python benchmarks/plot_temporal.py NAME [--output docs/temporal.svg]

The points come from benchmarks/results/NAME/temporal.json (`temporal.py` makes it); `vidstyle bench temporal
--plot FILE` draws those of your clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measured import RESULTS

from vidstyle.flicker_plot import flicker_plot

OUTPUT = Path(__file__).parent.parent / "docs" / "temporal.svg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    facts = json.loads((words.results / words.name / "temporal.json").read_text())["temporal"]
    peer = facts["peer"]["summary"] if "peer" in facts else None
    # A name of several words is a way that was tried and cut.
    ours = {way: means for way, means in facts["flicker"]["summary"].items() if " " not in way}
    words.output.write_bytes(flicker_plot(ours, peer=peer))
    print(f"{words.output}: {words.output.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
