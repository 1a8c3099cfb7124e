"""Draw docs/training.svg: what the phases of the shared networks' training did.

    pip install matplotlib
    python benchmarks/plot_training.py [--results benchmarks/results/xeon-2cores/training]

The CSV files are the ``log.csv`` of `vidstyle train`, means over 20 steps (geometric ones of ``total``);
reach.json has curves of `adapt` from the network before and after a phase.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from measured import RESULTS

OUTPUT = Path(__file__).parent.parent / "docs" / "training.svg"
BLUE, ORANGE, GRAY = "#1f5fa8", "#d1701a", "#8a8a8a"


def columns(path: Path, *names: str) -> list[list[float]]:
    """Columns of a CSV file as numbers; lines in which one is empty are left out."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] for name in names)]
    return [[float(row[name]) for row in rows] for name in names]


def warm_start(axes: Axes, folder: Path) -> None:
    for name, color, label in (
        ("fast-3-warm", GRAY, "fast 3, plain mean"),
        ("fast-4-warm", ORANGE, "fast 4, even shares"),
        ("paper-2-warm", BLUE, "paper 2"),
    ):
        axes.plot(*columns(folder / f"{name}.csv", "step", "style"), color=color, linewidth=1.4, label=label)
    axes.set_title("warm start: style loss", fontsize=9, loc="left")
    axes.set_ylim(0.2, 0.9)


def bilevel(axes: Axes, folder: Path) -> None:
    for name, column, color, label in (
        ("fast-bilevel-trial", "before", GRAY, "before the inner step"),
        ("fast-bilevel-trial", "total", BLUE, "after it"),
    ):
        axes.plot(*columns(folder / f"{name}.csv", "step", column), color=color, linewidth=1.4, label=label)
    axes.set_title("bilevel phase, long trial on fast: loss", fontsize=9, loc="left")


def reach(axes: Axes, folder: Path) -> None:
    facts = json.loads((folder / "reach.json").read_text())
    for key, color, label in (
        ("before the long trial (fast 3)", GRAY, "before the long trial"),
        ("600 of 765 steps into it", BLUE, "600 steps into it"),
    ):
        curve = facts[key]["la_muse.vector"]
        totals = [content + 8 * style + 0.02 * variation for _, content, style, variation in curve]
        axes.plot(
            [point[0] for point in curve], totals, color=color, linewidth=1.4, marker="o", markersize=3, label=label
        )
    axes.set_title("adapting to la_muse (held out): loss", fontsize=9, loc="left")
    axes.set_ylim(3, 7.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "xeon-2cores" / "training")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "vidstyle"
    figure, panels = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    for axes, draw in zip(panels, (warm_start, bilevel, reach), strict=True):
        draw(axes, words.results)
        axes.legend(fontsize=8, frameon=False)
        axes.set_xlabel("steps", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    figure.savefig(words.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
