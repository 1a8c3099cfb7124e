"""The convolutions and norms between the pixels.

A tensor that goes into a normalised convolution may be off by a constant per channel: with reflection
padding the convolution keeps it a constant, and the norm removes it. That drops the biases and the
offsets of the color conversion. And it lets every such tensor be zero where the frame is flat; otherwise
the norm, which multiplies by 316 where the variance is 0, would blow up the rounding errors of flat frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidstyle.frame import FrameForm
from vidstyle.graph.fold import after_linear, into_phases, rgb_matrix, upsampled_transposed
from vidstyle.graph.writer import Floats, GraphWriter
from vidstyle.networks import NORM_EPSILON, Conv, Network


@dataclass(frozen=True)
class _Affine:
    """The style of one norm: names of tensors of shape (1, channels, 1, 1)."""

    scale: str
    shift: str
    negative_shift: str
    """min(shift, 0)"""
    floor: str
    """-max(shift, 0)"""


def rgb_from_phases(w: GraphWriter, network: Network, phases: str, style: str, form: FrameForm, cell: int) -> str:
    """RGB phases in [0, 1] of the stylized picture, from centered phases of ``form``."""
    shape = network.architecture
    layers = _Layers(w, network, style)
    x, weights = _first_input(w, network, phases, form, cell)
    # What a convolution wants as padding is added right after the norm before it, where it costs least.
    for i, conv in enumerate(shape.down):
        radius = shape.down[i + 1].kernel // 2 if i + 1 < len(shape.down) else 1
        x = w.convolution(x, weights if i == 0 else layers.weight(conv), step=conv.stride)
        x = layers.centered_relu(layers.norm(x, conv, radius), conv)
    for first, second in shape.residual:
        y = layers.norm(w.convolution(x, layers.weight(first)), first, 1)
        y = layers.norm(w.convolution(layers.centered_relu(y, first), layers.weight(second)), second, 1)
        x = layers.centered_add(x, y, second)
    for conv in shape.up[:-1]:
        x = layers.centered_relu(layers.norm(layers.upsampled(x, conv), conv, 1), conv)
    last, out = shape.up[-1], shape.out
    x = layers.norm(layers.upsampled(x, last), last, 1 if out.upsample > 1 else out.kernel // 2)
    x = layers.relu(x, last)
    bias = np.repeat(network.weights[f"{out.name}.bias"].astype(np.float64), cell**2)
    x = w.convolution(x, into_phases(layers.weight(out), out.upsample, cell), bias, step=cell // out.upsample)
    return w.node("Sigmoid", x)


def _first_input(w: GraphWriter, network: Network, phases: str, form: FrameForm, cell: int) -> tuple[str, Floats]:
    """What the first convolution reads, padded, and its weights."""
    stem = network.architecture.down[0]
    weight = network.weights[f"{stem.name}.weight"].astype(np.float64)
    matrix, _ = rgb_matrix(form, cell)
    if network.architecture.unshuffle == cell:
        return reflected(w, phases, stem.kernel // 2), after_linear(weight, matrix)
    rgb = w.node("DepthToSpace", w.convolution(phases, matrix[:, :, None, None]), blocksize=cell, mode="CRD")
    return reflected(w, rgb, stem.kernel // 2), weight


class _Layers:
    """The layers of one network, driven by one style input."""

    def __init__(self, w: GraphWriter, network: Network, style: str) -> None:
        self._w = w
        self._network = network
        normalised = network.architecture.normalised
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

    def weight(self, conv: Conv) -> Floats:
        """OIHW."""
        return self._network.weights[f"{conv.name}.weight"].astype(np.float64)

    def upsampled(self, x: str, conv: Conv) -> str:
        """``conv`` after nearest upsampling by two; ``x`` is padded by one."""
        weight = self._w.floats(upsampled_transposed(self.weight(conv)))
        return self._w.node("ConvTranspose", x, weight, strides=[2, 2], pads=[3, 3, 3, 3])

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
