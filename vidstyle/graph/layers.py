"""The convolutions and norms between the pixels.

A tensor that goes into a normalised convolution may be off by a constant per channel: with reflection
padding the convolution keeps it a constant, and the norm removes it. That drops the biases and the
offsets of the color conversion. And it lets every such tensor be zero where the frame is flat; otherwise
the norm, which multiplies by 316 where the variance is 0, would blow up the rounding errors of flat frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vidstyle.frame import FrameFormat
from vidstyle.graph.fold import rgb_matrix
from vidstyle.graph.quantize import Quantizer
from vidstyle.graph.winograd import FACTORS, Lanes
from vidstyle.graph.writer import GraphWriter
from vidstyle.models.architecture import NORM_EPSILON, Architecture, Conv


@dataclass(frozen=True)
class _Affine:
    """The style of one norm: names of tensors of shape (1, channels, 1, 1)."""

    scale: str
    shift: str
    negative_shift: str
    """min(shift, 0)"""
    floor: str
    """-max(shift, 0)"""


def rgb_from_phases(
    w: GraphWriter,
    shape: Architecture,
    phases: str,
    style: str,
    weights: Mapping[str, str],
    form: FrameFormat,
    cell: int,
    *,
    lanes: Lanes | None = None,
    quantizer: Quantizer | None = None,
) -> str:
    """RGB phases in [0, 1] of the stylized picture, from centered phases of ``form``.

    ``style`` and ``weights`` are names of tensors; the latter are those of `vidstyle.graph.fold.folded_weights`. With
    ``lanes`` the residual blocks work on these; a ``quantizer`` is asked for what its convolutions take.
    """
    layers = _Layers(w, shape, style, weights, quantizer)
    x = _first_input(w, shape, phases, form, cell)
    # What a convolution wants as padding is added right after the norm before it, where it costs least.
    for i, conv in enumerate(shape.down):
        radius = shape.down[i + 1].kernel // 2 if i + 1 < len(shape.down) else 1
        x = w.convolution(x, layers.weight(conv), step=conv.stride)
        x = layers.centered_relu(layers.norm(x, conv, radius), conv)
    x = _residual(layers, shape, x) if lanes is None else _residual_in_lanes(layers, shape, x, lanes)
    for conv in shape.up[:-1]:
        x = layers.centered_relu(layers.norm(layers.upsampled(x, conv), conv, 1), conv)
    last, out = shape.up[-1], shape.out
    x = layers.norm(layers.upsampled(x, last), last, 1 if out.upsample > 1 else out.kernel // 2)
    x = layers.relu(x, last)
    x = w.convolution(x, layers.weight(out), weights[f"{out.name}.bias"], step=cell // out.upsample)
    return w.node("Sigmoid", x)


def _residual(layers: _Layers, shape: Architecture, x: str) -> str:
    """The residual blocks, from what is padded by one to what is."""
    for first, second in shape.residual:
        y = layers.norm(layers.convolution(x, first), first, 1)
        y = layers.norm(layers.convolution(layers.centered_relu(y, first), second), second, 1)
        x = layers.centered_add(x, y, second)
    return x


def _residual_in_lanes(layers: _Layers, shape: Architecture, x: str, lanes: Lanes) -> str:
    parts = lanes.split(x)
    for first, second in shape.residual:
        inner = lanes.norm(lanes.convolution(parts, layers.factors(first)), NORM_EPSILON)
        inner = tuple(layers.centered_relu(part, first) for part in inner)
        inner = lanes.norm(lanes.convolution(inner, layers.factors(second)), NORM_EPSILON)
        parts = tuple(layers.centered_add(x, y, second) for x, y in zip(parts, inner, strict=True))
    return lanes.merge(parts, shape.channels)


def _first_input(w: GraphWriter, shape: Architecture, phases: str, form: FrameFormat, cell: int) -> str:
    """What the first convolution reads, padded: the phases themselves, if it works on cells, else RGB pixels."""
    x = phases
    if shape.unshuffle != cell:
        matrix, _ = rgb_matrix(form, cell)
        x = w.convolution(phases, w.floats(matrix[:, :, None, None]))
        x = w.node("DepthToSpace", x, blocksize=cell, mode="CRD")
    return reflected(w, x, shape.down[0].kernel // 2)


class _Layers:
    """The layers of one network, driven by one style."""

    def __init__(
        self,
        w: GraphWriter,
        shape: Architecture,
        style: str,
        weights: Mapping[str, str],
        quantizer: Quantizer | None,
    ) -> None:
        self._w = w
        self._weights = weights
        self._quantizer = quantizer
        normalised = shape.normalised
        sizes = [conv.outputs for conv in normalised for _ in range(2)]
        style = w.rounded(w.node("Reshape", style, w.integers(1, -1, 1, 1)))
        zero = w.number(0.0)
        values = w.split(style, *sizes)
        negative = w.split(w.node("Min", style, zero), *sizes)
        floors = w.split(w.node("Neg", w.node("Max", style, zero)), *sizes)
        self._affine = {
            conv: _Affine(values[i], values[i + 1], negative[i + 1], floors[i + 1])
            for conv, i in zip(normalised, range(0, len(sizes), 2), strict=True)
        }

    def weight(self, conv: Conv) -> str:
        return self._weights[f"{conv.name}.weight"]

    def convolution(self, x: str, conv: Conv) -> str:
        """A residual convolution; ``x`` is padded by one."""
        return self._w.convolution(*self._operands(x, conv, 1))

    def _operands(self, x: str, conv: Conv, input_axis: int) -> tuple[str, str]:
        if self._quantizer is None:
            return x, self.weight(conv)
        return self._quantizer.operands(x, conv.name, input_axis=input_axis)

    def factors(self, conv: Conv) -> list[str]:
        return [self._weights[f"{conv.name}.weight.{index}"] for index in range(FACTORS)]

    def upsampled(self, x: str, conv: Conv) -> str:
        """``conv`` after nearest upsampling by two; ``x`` is padded by one."""
        return self._w.node("ConvTranspose", *self._operands(x, conv, 0), strides=[2, 2], pads=[3, 3, 3, 3])

    def norm(self, x: str, conv: Conv, radius: int) -> str:
        """Zero mean and unit variance per channel, then reflection padding by ``radius``."""
        w = self._w
        one, zero = (w.floats(np.full(conv.outputs, value), exact=True) for value in (1.0, 0.0))
        y = w.rounded(w.node("InstanceNormalization", w.exact(x), one, zero, epsilon=NORM_EPSILON))
        return reflected(w, y, radius)

    def relu(self, x: str, conv: Conv) -> str:
        """relu(x * scale + shift)"""
        affine = self._affine[conv]
        return self._w.node("Relu", self._w.node("Add", self._w.node("Mul", x, affine.scale), affine.shift))

    def centered_relu(self, x: str, conv: Conv) -> str:
        """relu(x * scale + shift) - relu(shift), which is 0 where x is 0."""
        w, affine = self._w, self._affine[conv]
        x = w.node("Add", w.node("Mul", x, affine.scale), affine.negative_shift)
        return w.node("Max", x, affine.floor)

    def centered_add(self, x: str, y: str, conv: Conv) -> str:
        """x + y * scale; the shift is a constant that the next norm would remove."""
        return self._w.node("Add", x, self._w.node("Mul", y, self._affine[conv].scale))


def reflected(w: GraphWriter, x: str, radius: int) -> str:
    """Reflection padding by ``radius`` on all four sides."""
    return w.node("Pad", x, w.integers(0, 0, radius, radius, 0, 0, radius, radius), mode="reflect")
