"""Draw docs/adaptation.svg: the loss against steps, from the shared network and from random weights.

    pip install matplotlib
    python benchmarks/plots.py [--network fast] [--output docs/adaptation.svg]

The curves come from benchmarks/results/*/adaptation/*.json (`adaptation.py` makes them), a painting a panel.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from measured import RESULTS
from table import longest_scratch, totals

OUTPUT = Path(__file__).parent.parent / "docs" / "adaptation.svg"
# Blue, orange and gray stay apart for the color-blind, and in print.
LOOKS = {
    "scratch": {"color": "#8a8a8a", "label": "every weight, from random ones"},
    "vector": {"color": "#d1701a", "label": "the style vector, from the shared network"},
    "full": {"color": "#1f5fa8", "label": "every weight, from the shared network"},
}
COLUMNS = 4
FIRST = 12
"""Where step 0 stands on the logarithmic axis."""


def draw(axes: Axes, title: str, runs: dict[str, Any]) -> None:
    """One painting."""
    scratch = longest_scratch(runs)
    for mode, name in (("scratch", scratch), ("vector", "vector"), ("full", "full")):
        if name is None or name not in runs:
            continue
        steps, losses = zip(*totals(runs[name]), strict=True)
        axes.plot([max(step, FIRST) for step in steps], losses, linewidth=1.6, **LOOKS[mode])
        axes.plot(steps[-1], losses[-1], "o", markersize=4, color=LOOKS[mode]["color"])
    if scratch is not None:
        axes.axhline(totals(runs[scratch])[-1][1], color="#8a8a8a", linewidth=0.8, linestyle=":")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xscale("log")
    axes.set_xlim(FIRST, 2000)
    axes.set_xticks([FIRST, 25, 150, 1500], ["0", "25", "150", "1500"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="fast")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in sorted(words.results.glob("*/adaptation/*.json"))}
    panels = {name: facts[words.network] for name, facts in found.items() if words.network in facts}
    if not panels:
        raise SystemExit(
            f"there are no adaptations of {words.network} in {words.results}; run benchmarks/adaptation.py"
        )
    order = sorted(panels, key=lambda name: (-steps_of(panels[name]), name))
    rows = -(-len(order) // COLUMNS)
    mpl.rcParams.update({"svg.hashsalt": "vidstyle", "svg.fonttype": "path", "font.family": "sans-serif"})
    columns = min(COLUMNS, len(order))
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.6 * columns + 0.4, 2.1 * rows + 0.7), sharey=True, squeeze=False
    )
    for place, name in zip(axes.flat, order, strict=False):
        draw(place, name.replace("_", " "), panels[name])
    for place in axes.flat[len(order) :]:
        place.set_visible(False)
    for row in axes:
        row[0].set_ylabel("loss on held-out photos", fontsize=8)
    for place in axes[-1]:
        place.set_xlabel("steps", fontsize=8)
    handles = {line.get_label(): line for place in axes.flat for line in place.get_lines()}
    shown = [handles[look["label"]] for look in LOOKS.values() if look["label"] in handles]
    figure.legend(handles=shown, loc="lower center", ncols=len(shown), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1))
    figure.savefig(words.output, metadata={"Date": None})
    print(f"{words.output}: {len(order)} paintings, {words.output.stat().st_size >> 10} KiB")


def steps_of(runs: dict[str, Any]) -> int:
    """How long the longest training was."""
    name = longest_scratch(runs)
    return 0 if name is None else int(runs[name]["conditions"]["steps"])


if __name__ == "__main__":
    main()
