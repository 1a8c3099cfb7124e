"""Figures of a server as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One figure, or one for each value of a label."""

    name: str
    """Without the prefix ``vidstyle_``."""
    kind: str
    """``gauge`` or ``counter``."""
    words: str
    """What it is."""
    values: tuple[tuple[str, float], ...]
    """Labels, like ``state="done"`` or nothing, and figures."""


def text_of(metrics: Iterable[Metric]) -> str:
    """The text that Prometheus fetches."""
    lines = []
    for metric in metrics:
        name = f"vidstyle_{metric.name}"
        lines += [f"# HELP {name} {metric.words}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{{{label}}} {value:g}" if label else f"{name} {value:g}" for label, value in metric.values]
    return "\n".join(lines) + "\n"
