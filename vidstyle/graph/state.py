"""Instance norms that remember: their mean and variance are mixed with those of an earlier frame.

With ``m`` and ``v`` for the mixed mean and variance, and ``norm`` for the norm by the frame's own ones,

    (x - m) / sqrt(v + eps)  =  a * norm(x) + b
    a = sqrt(own v + eps) / sqrt(v + eps)
    b = (own m - m) / sqrt(v + eps)

so that the norm stays the one operation that libraries know, and the style's scale and shift take up
``a`` and ``b``: nothing more is done to any pixel. And the frame's own statistics need no sums over the
picture. The norm is a line, ``x = own m + sqrt(own v + eps) * norm(x)``, which some of its points give.

``m`` is ``alpha * m of the state + (1 - alpha) * own m``, and so is ``v``; but where the two are so far apart that
they are hardly of one scene, and in flat pictures, ``alpha`` falls to 0 for that channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from vidstyle.frame import FrameForm
from vidstyle.graph.fold import after_linear, rgb_matrix
from vidstyle.graph.writer import Floats, GraphWriter
from vidstyle.networks import NORM_EPSILON, Architecture, Conv, Network

_STEP = 8
"""Of the points, in rows and columns of the norm's picture; less where that leaves fewer than `_POINTS`."""
_POINTS = 6
"""Rows and columns of points at least, where the picture has them."""
_PRIOR = 1e-4
"""Where the points lie in one place they give no line; so much of that of a flat picture decides then."""
_FLAT = 60.0
"""Full weight from a variance of 2 / `_FLAT` on, none below half of that; pictures that are not flat have 0.1 to
1000. A flat frame that turns brighter would be off by hundreds of standard deviations, layer after layer."""
_ALIKE = 8.0
"""Full weight where one variance is at least 2 / `_ALIKE` of the other, none below half of that."""
_NEAR = 0.5
"""Full weight where the means are up to 1 / `_NEAR` standard deviations apart, none from twice that on."""


@dataclass(frozen=True)
class Moved:
    """What the mixed statistics make of the style of one norm: names of tensors of shape (1, channels, 1, 1)."""

    scale: str
    """scale * a"""
    shift: str
    """shift + scale * b"""
    negative_shift: str
    """min(shift, 0) + scale * b"""
    offset: str
    """scale * b"""


class NormMemory:
    """The statistics of all norms of one network: of the frame, and as they came in and go out.

    Inputs ``state``, float32 (1, P), the mean and then the variance of every norm, in the order of
    the style vector, and ``alpha``, float32 (1,), the weight of the state. Output ``state_out``, the
    mixed statistics. Means are those of what the convolution makes of a frame without its biases.
    """

    def __init__(
        self,
        w: GraphWriter,
        network: Network,
        style: str,
        center: str,
        form: FrameForm,
        size: tuple[int, int] | None,
        cell: int,
    ) -> None:
        """``center`` is what the phases are less than the frame, of padded ``size`` or of any (None)."""
        self._w = w
        shape = network.architecture
        normalised = shape.normalised
        sizes = [conv.outputs for conv in normalised for _ in range(2)]
        state = w.split(w.input("state", TensorProto.FLOAT, (1, shape.style_size)), *sizes)
        styles = w.split(style, *sizes)
        self._before = dict(zip(normalised, zip(state[::2], state[1::2], strict=True), strict=True))
        self._style = dict(zip(normalised, zip(styles[::2], styles[1::2], strict=True), strict=True))
        self._alpha = w.node("Reshape", w.input("alpha", TensorProto.FLOAT, (1,)), w.integers(1, 1))
        self._after: list[str] = []
        self._size = shape.style_size
        self._steps = _steps(shape, size)
        self._stem = shape.down[0]
        # Of what norms remove, this alone differs from frame to frame.
        self._left_out = self._constant(center, _sums(network, form, cell))

    def moved(self, x: str, normed: str, conv: Conv) -> Moved:
        """The style that does to ``normed``, which is the norm of ``x``, what the mixed statistics do."""
        w = self._w
        # Small vectors have the shape (1, channels) until the end: OpenVINO would otherwise take them into
        # the operations on pictures, and compute them once for each pixel.
        mean_before, variance_before = self._before[conv]
        power_before = w.node("Add", variance_before, self._exact(NORM_EPSILON))
        mean, power = self._own(x, normed, conv)
        if conv is self._stem:
            mean = w.node("Add", mean, self._left_out)
        alpha = w.node("Mul", self._alpha, self._likeness(mean_before, power_before, mean, power))
        change = w.node("Mul", w.node("Sub", mean_before, mean), alpha)
        mixed = w.node("Add", power, w.node("Mul", w.node("Sub", power_before, power), alpha))
        self._after += [w.node("Add", mean, change), w.node("Sub", mixed, self._exact(NORM_EPSILON))]

        a = w.node("Sqrt", w.node("Div", power, mixed))
        b = w.node("Div", change, w.node("Sqrt", mixed))
        scale, shift = self._style[conv]
        offset = w.node("Neg", w.node("Mul", scale, b))
        vectors = (
            w.node("Mul", scale, a),
            w.node("Add", shift, offset),
            w.node("Add", w.node("Min", shift, self._exact(0.0)), offset),
            offset,
        )
        return Moved(*(w.node("Reshape", w.rounded(vector), w.integers(1, -1, 1, 1)) for vector in vectors))

    def _own(self, x: str, normed: str, conv: Conv) -> tuple[str, str]:
        """Mean, and variance plus epsilon, of ``x``: the line through points of it and of its norm."""
        w = self._w
        # OpenVINO keeps float32 from an output back to the nearest convolution. With these two, that is the
        # few points; without, it would be the whole network.
        steps = [self._steps[conv]] * 2
        once = w.floats(np.ones((conv.outputs, 1, 1, 1)))
        x, y = (w.exact(w.node("Conv", t, once, group=conv.outputs, strides=steps)) for t in (x, normed))
        mean_x, mean_y, mean_xy, mean_yy = map(self._mean, (x, y, w.node("Mul", x, y), w.node("Mul", y, y)))
        covariance = w.node("Sub", mean_xy, w.node("Mul", mean_x, mean_y))
        variance = w.node("Sub", mean_yy, w.node("Mul", mean_y, mean_y))
        slope = w.node(
            "Div",
            w.node("Add", covariance, self._exact(_PRIOR * math.sqrt(NORM_EPSILON))),
            w.node("Add", variance, self._exact(_PRIOR)),
        )
        slope = w.node("Max", slope, self._exact(math.sqrt(NORM_EPSILON)))
        return w.node("Sub", mean_x, w.node("Mul", slope, mean_y)), w.node("Mul", slope, slope)

    def _likeness(self, mean_before: str, power_before: str, mean: str, power: str) -> str:
        """1 where both statistics are those of one scene, 0 where they are not or the picture is flat."""
        w = self._w

        def ramp(x: str, factor: float, start: float) -> str:
            line = w.node("Add", w.node("Mul", x, self._exact(factor)), self._exact(start))
            return w.node("Clip", line, self._exact(0.0), self._exact(1.0))

        ratio = w.node("Div", w.node("Min", power, power_before), w.node("Max", power, power_before))
        apart = w.node("Div", w.node("Abs", w.node("Sub", mean_before, mean)), w.node("Sqrt", power))
        alike = w.node("Mul", ramp(ratio, _ALIKE, -1), ramp(apart, -_NEAR, 2))
        return w.node("Mul", alike, ramp(power, _FLAT, -1))

    def finish(self) -> None:
        """Declare the output."""
        w = self._w
        w.float_output(w.node("Concat", *self._after, axis=1), "state_out", (1, self._size))

    def _constant(self, center: str, sums: Floats) -> str:
        """(1, channels) of what ``sums`` (channels, phases) make of the phases ``center``."""
        w = self._w
        row = w.node("Reshape", center, w.integers(1, 1, -1))
        return w.node("ReduceSum", w.node("Mul", row, w.floats(sums[None], exact=True)), w.integers(2), keepdims=0)

    def _mean(self, x: str) -> str:
        return self._w.node("ReduceMean", x, self._w.integers(2, 3), keepdims=0)

    def _exact(self, value: float) -> str:
        return self._w.floats(np.full((), value), exact=True)


def _steps(shape: Architecture, size: tuple[int, int] | None) -> dict[Conv, int]:
    """How far apart the points of each norm lie, for frames of the padded ``size``, or of any (None)."""
    steps = {}
    side = None if size is None else min(size) // shape.unshuffle
    for conv in shape.normalised:
        if side is not None:
            side = side * conv.upsample // conv.stride
        steps[conv] = _STEP // 2 if side is None else max(1, min(_STEP, side // _POINTS))
    return steps


def _sums(network: Network, form: FrameForm, cell: int) -> Floats:
    """(channels, phases): the first convolution of phases that are the same everywhere."""
    weight = network.weights[f"{network.architecture.down[0].name}.weight"].astype(np.float64)
    sums = weight.sum((2, 3), keepdims=True)
    matrix, _ = rgb_matrix(form, cell)
    if sums.shape[1] < matrix.shape[0]:  # of pixels: every phase of a color is the same one
        matrix = matrix[:: cell**2]
    return after_linear(sums, matrix)[:, :, 0, 0]
