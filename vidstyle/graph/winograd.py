"""3x3 convolutions of step 1 by Winograd's minimal filtering along one axis (Lavin and Gray 2016, F(4, 3)).

A picture is kept as four *lanes*: lane p holds every fourth column (or row) from column p on. Four neighbors of the
result come from six of the source. What a convolution multiplies is six sums of lanes, each by taps that are sums of
the three along that axis: six products for each of the three taps across it, where four columns take twelve. The
sums cost little, as a library computes them together with the norms between the convolutions.

Linear in the weights, as all of `vidstyle.graph.fold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidstyle.graph.writer import Floats, GraphWriter

LANES = 4
LEAST = 2
"""Columns of a lane: the reflection at the right end reads two."""
FACTORS = 6
"""Kernels that stand in the place of one."""
_SOURCE = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
"""B^T of the paper: from six neighbors to what is multiplied."""
_TAPS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24.0
"""G: from three taps to the six factors."""
_RESULT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
"""A^T: from six products to four neighbors of the result."""


def lane_axis(size: tuple[int, int]) -> int | None:
    """The axis of NCHW along which a picture of ``size`` has four whole lanes; None where neither has."""
    return next((axis for axis in (3, 2) if size[axis - 2] % LANES == 0 and size[axis - 2] >= LANES * LEAST), None)


def factors(weight: Floats, axis: int) -> list[Floats]:
    """The kernels (OIHW, 3x1 or 1x3) with which the six sums of lanes are convolved."""
    taps = np.moveaxis(weight, axis, 0)
    return [np.moveaxis(np.tensordot(row, taps, 1)[None], 0, axis) for row in _TAPS]


@dataclass(frozen=True)
class Lanes:
    """Operations on pictures in lanes. Each lane is padded by one (reflection) across the axis, and not along it."""

    w: GraphWriter
    axis: int
    """Of NCHW, along which lanes are split: 2 or 3."""
    size: tuple[int, int]
    """Of the whole picture, not padded."""

    def split(self, padded: str) -> tuple[str, ...]:
        """The lanes of a picture that is padded by one on all sides."""
        last = self.size[self.axis - 2] + 1
        return tuple(self._slice(padded, 1 + lane, last, LANES) for lane in range(LANES))

    def merge(self, lanes: Sequence[str], channels: int) -> str:
        """The picture whose lanes these are, padded by one on all sides.

        Joined in this way they lie in memory as the picture does where channels come last, as libraries have them.
        """
        w, (height, width) = self.w, self.size
        height, width = (height, width + 2) if self.axis == 2 else (height + 2, width)
        joined = w.node("Concat", *lanes, axis=3 if self.axis == 2 else 1)
        last = w.node("Reshape", w.node("Transpose", joined, perm=[0, 2, 3, 1]), w.integers(1, height, width, channels))
        along = [int(axis == self.axis) for axis in range(4)]
        whole = w.node("Transpose", last, perm=[0, 3, 1, 2])
        return w.node("Pad", whole, w.integers(*along, *along), mode="reflect")

    def convolution(self, lanes: Sequence[str], kernels: Sequence[str]) -> tuple[str, ...]:
        """The convolution whose `factors` are ``kernels``, not padded.

        The pixels that reflect the picture along the axis are added here.
        """
        w, (first, second, third, last) = self.w, lanes
        before = w.node("Concat", self._slice(second, 0, 1), self._slice(last, 0, -1), axis=self.axis)
        behind = w.node("Concat", self._slice(first, 1, None), self._slice(third, -1, None), axis=self.axis)
        neighbors = (before, *lanes, behind)
        products = [w.convolution(self._sum(row, neighbors), k) for row, k in zip(_SOURCE, kernels, strict=True)]
        return tuple(self._sum(row, products) for row in _RESULT)

    def norm(self, lanes: Sequence[str], epsilon: float) -> tuple[str, ...]:
        """Zero mean and unit variance per channel of lanes that are not padded, then padding."""
        w = self.w
        mean = self._mean(lanes)
        centered = [w.node("Sub", lane, mean) for lane in lanes]
        variance = self._mean([w.node("Mul", lane, lane) for lane in centered])
        deviation = w.node("Sqrt", w.node("Add", variance, w.number(epsilon)))
        unit = w.node("Div", w.number(1.0), deviation)
        around = [int(axis == 5 - self.axis) for axis in range(4)]
        padded = [w.node("Pad", lane, w.integers(*around, *around), mode="reflect") for lane in centered]
        return tuple(w.node("Mul", lane, unit) for lane in padded)

    def _mean(self, lanes: Sequence[str]) -> str:
        mean = self.w.node("ReduceMean", self._sum(np.ones(LANES), lanes), self.w.integers(2, 3), keepdims=1)
        return self.w.node("Mul", mean, self.w.number(1 / LANES))

    def _sum(self, factors: Sequence[float] | Floats, terms: Sequence[str]) -> str:
        """The sum of some tensors, each times its factor."""
        w, total = self.w, ""
        for factor, term in zip(factors, terms, strict=True):
            if factor == 0:
                continue
            part = term if abs(factor) == 1 else w.node("Mul", term, w.number(abs(factor)))
            if not total:
                total = part if factor > 0 else w.node("Neg", part)
            else:
                total = w.node("Add" if factor > 0 else "Sub", total, part)
        return total

    def _slice(self, x: str, start: int, end: int | None, step: int = 1) -> str:
        w, end = self.w, np.iinfo(np.int32).max if end is None else end
        return w.node("Slice", x, w.integers(start), w.integers(end), w.integers(self.axis), w.integers(step))
