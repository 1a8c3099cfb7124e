"""Convolutions in 8-bit integers: of the residual blocks and of the upsamplings, for one network.

What such a convolution reads may be off by a constant per channel, since the norm behind it removes that (see
`vidstyle.graph.layers`). So a channel's lowest value becomes 0 and no zero point is needed. A channel of a small range
gets smaller steps, the square root of what would fill the 8 bits, and its weights get the rest (as Xiao et al. 2023,
SmoothQuant, with alpha 0.5). Weights are symmetric, with one scale per output channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vidstyle.graph.writer import Floats, GraphWriter
from vidstyle.models.architecture import Architecture

Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Lowest and highest value of each channel that a convolution reads, by the convolution's name."""

_SMALLEST = 1e-6


def quantized_names(shape: Architecture) -> tuple[str, ...]:
    """The convolutions that take 8-bit integers. The first and the last one do not: theirs would be seen in skies."""
    return tuple(conv.name for conv in (*(conv for block in shape.residual for conv in block), *shape.up))


@dataclass
class Quantizer:
    """Puts integers in the place of what convolutions multiply; or, without ``ranges``, notes what they read."""

    w: GraphWriter
    weights: Mapping[str, Floats]
    """As `vidstyle.graph.fold.folded_weights` has them."""
    ranges: Ranges | None
    seen: dict[str, str] = field(default_factory=dict)
    """What each convolution of `quantized_names` reads: the tensor, by the convolution's name."""

    def operands(self, x: str, name: str, *, input_axis: int) -> tuple[str, str]:
        """What the convolution ``name`` takes instead of the tensor ``x`` and its weight.

        ``input_axis`` is that of the weight's input channels: 1 in OIHW, 0 in IOHW.
        """
        weight = self.weights[f"{name}.weight"]
        if self.ranges is None:
            self.seen[name] = x
            return x, self.w.floats(weight)
        low, high = (np.asarray(side, np.float64) for side in self.ranges[name])
        extent = np.maximum(high - low, _SMALLEST)
        steps = np.sqrt(extent * extent.max()) / 255.0
        return self._levels(x, low, steps), self._weight(weight * _along(steps, input_axis), 1 - input_axis)

    def _levels(self, x: str, low: Floats, steps: Floats) -> str:
        """``x`` in whole numbers of 0 to 255."""
        w = self.w
        x = w.node("Add", w.node("Mul", x, w.floats(_along(1.0 / steps, 1))), w.floats(_along(-low / steps, 1)))
        one, zero = w.number(1.0), w.constant(np.zeros((), np.uint8))
        return w.node("DequantizeLinear", w.node("QuantizeLinear", x, one, zero), one, zero)

    def _weight(self, weight: Floats, output_axis: int) -> str:
        others = tuple(axis for axis in range(4) if axis != output_axis)
        scales = np.maximum(np.abs(weight).max(others), _SMALLEST) / 127.0
        levels = weight / _along(scales, output_axis)
        levels = _rounded_by_phase(levels) if output_axis == 1 else np.round(levels)
        w = self.w
        zeros = w.constant(np.zeros(scales.shape, np.int8))
        return w.node("DequantizeLinear", w.constant(levels.astype(np.int8)), w.floats(scales), zeros, axis=output_axis)

    def observe(self) -> None:
        """Declare the `Ranges` of this network's run as outputs: ``NAME.low`` and ``NAME.high``."""
        for name, x in self.seen.items():
            for side, reduce in (("low", "ReduceMin"), ("high", "ReduceMax")):
                channels = self.weights[f"{name}.weight"].shape[0 if name.startswith("up") else 1]
                self.w.float_output(
                    self.w.node(reduce, x, self.w.integers(0, 2, 3), keepdims=0), f"{name}.{side}", (channels,)
                )


def _rounded_by_phase(levels: Floats) -> Floats:
    """Whole numbers near the ``levels`` of a transposed convolution of step two, (I, O, 4, 4).

    Every second row and column of its weight makes one phase of the result, and the sum of those is the same for all
    four phases. It stays so: the rounded sum is shared out by the largest remainders. Rounded each by itself, the
    phases of a flat sky differ, which is a grid.
    """
    inputs, outputs = levels.shape[:2]
    phases = levels.reshape(inputs, outputs, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(inputs, outputs, 4, 4)
    whole = np.floor(phases)
    missing = np.round(phases.sum(-1, keepdims=True)) - whole.sum(-1, keepdims=True)
    whole += np.argsort(np.argsort(whole - phases)) < missing
    return whole.reshape(inputs, outputs, 2, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(levels.shape)


def _along(values: Floats, axis: int) -> Floats:
    return values.reshape([-1 if at == axis else 1 for at in range(4)])
