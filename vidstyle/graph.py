"""The ONNX graph of a network: 8-bit pixels and a style vector in, 8-bit pixels out.

Everything between the pixels is inside, so that an inference library fuses it: the colour
conversion, the scaling, the padding to the network's multiple (edge pixels repeated at the bottom and
on the right) and the cropping back, the rounding and the clipping.

A picture of full size is never made. Pixels are taken *by cells* of 4x4 (or 2x2): each pixel of a cell
is a channel at a quarter (or half) of the size, the *phases* of the picture.

* Colour: the first convolution is linear and an instance norm follows it, so the colour matrix and
  the 1/255 are folded into its weights and every offset is dropped.
* Nearest upsampling before a convolution: a convolution of the low-size picture that makes the phases
  of the large one (see `_phases` and `_transposed`), borders included.

Chroma of 4:2:0 frames: a chroma sample stands for its 2x2 luma pixels (nearest) on the way in; on the
way out it is the mean of the four, that is, centre siting as in JPEG and MPEG-1. Colours outside of
the RGB cube are not clipped on the way in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vidstyle.color import rgb_from_yuv, yuv_from_rgb
from vidstyle.frame import FrameForm
from vidstyle.networks import NORM_EPSILON, Conv, Network

GraphPrecision = Literal["fp32", "fp16"]
Body = Literal["network", "identity"]
Floats = NDArray[np.float64]

OPSET = 18
"""Understood by ONNX Runtime 1.14, OpenVINO 2023 and TensorRT 10 and everything later."""
IR_VERSION = 8
"""The file format that belongs to `OPSET`."""


def onnx_from_network(
    network: Network, form: FrameForm, *, precision: GraphPrecision = "fp32", body: Body = "network"
) -> onnx.ModelProto:
    """The graph of ``network`` for frames of ``form``, the same bytes for the same arguments.

    Inputs: ``style``, float32 (1, P), and the planes as uint8: ``frame`` (1, H, W, 3) for rgb; ``y``
    (1, 1, H, W) with ``u`` and ``v`` (1, 1, ceil(H/2), ceil(W/2)) for i420, or with ``uv``
    (1, ceil(H/2), ceil(W/2), 2) for nv12. Outputs: the same planes, called ``frame_out``, ``y_out`` ...
    ``precision`` is that of the arithmetic; the statistics of the instance norms are always float32.
    With an ``identity`` body the network is left out: what remains is the colour conversion.
    """
    writer = _Writer(precision)
    _Network(writer, network, form).write(body)
    facts = {
        "vidstyle.network": network.architecture.name,
        "vidstyle.digest": network.digest,
        "vidstyle.size": f"{form.width}x{form.height}",
        "vidstyle.pixels": form.pixels,
        "vidstyle.matrix": form.matrix,
        "vidstyle.range": "full" if form.full_range else "limited",
        "vidstyle.precision": precision,
        "vidstyle.body": body,
    }
    return writer.model(f"vidstyle-{network.architecture.name}", facts)


class _Writer:
    """Nodes and constants of a graph, in the order in which they are made."""

    def __init__(self, precision: GraphPrecision) -> None:
        self.float = TensorProto.FLOAT if precision == "fp32" else TensorProto.FLOAT16
        self._dtype = np.float32 if precision == "fp32" else np.float16
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, tuple[str, onnx.TensorProto]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: tuple[int, ...]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: int, shape: tuple[int, ...]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        self._nodes.append(helper.make_node("Cast", [value], [name], name=f"Cast_{name}", to=kind))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; the name of its result."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def split(self, x: str, sizes: str, count: int) -> list[str]:
        """Append a split along the channels; the names of the ``count`` parts."""
        name = f"Split_{len(self._nodes)}"
        names = [f"{name}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node("Split", [x, sizes], names, name=name, axis=1))
        return names

    def floats(self, values: Floats | NDArray[np.float32], *, exact: bool = False) -> str:
        """A constant in the precision of the graph, or in float32."""
        return self._constant(np.asarray(values, np.float32 if exact else self._dtype))

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: NDArray[np.generic]) -> str:
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name, numpy_helper.from_array(np.ascontiguousarray(array), name)
        return self._constants[key][0]

    def model(self, name: str, facts: dict[str, str]) -> onnx.ModelProto:
        tensors = [tensor for _, tensor in self._constants.values()]
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, tensors)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="vidstyle",
        )
        helper.set_model_props(model, facts)
        return model


@dataclass(frozen=True)
class _Affine:
    """The style of one norm: values of shape (1, channels, 1, 1)."""

    scale: str
    shift: str
    low: str
    """min(shift, 0)"""
    floor: str
    """-max(shift, 0)"""


class _Network:
    """The parts of one graph: pixels to phases, the convolutions, phases to pixels."""

    def __init__(self, writer: _Writer, network: Network, form: FrameForm) -> None:
        self.w = writer
        self.network = network
        self.shape = network.architecture
        self.form = form
        self.padded = self.shape.padded_size(form.size)
        self.style = writer.input("style", TensorProto.FLOAT, (1, self.shape.style_size))
        self.cell = 4 if self.shape.unshuffle == 4 else 2
        """Side of the cells whose pixels are channels."""

    def write(self, body: Body) -> None:
        self.centered = body == "network"
        phases = self._phases_from_planes()
        to_rgb, offset = self._rgb_from_phases()
        if body == "identity":
            x = self.w.node("Conv", phases, self.w.floats(to_rgb[:, :, None, None]), self.w.floats(offset))
        else:
            x = self._convolutions(phases, to_rgb)
        self._planes_from_rgb(x)

    # Pixels to phases

    def _phases_from_planes(self) -> str:
        """(1, channels, H/cell, W/cell), values 0-255; for 4:2:0: luma phases, u phases, v phases."""
        w, form, cell = self.w, self.form, self.cell
        if form.pixels == "rgb":
            x = self._float_input("frame", (1, *form.size, 3))
            x = self._pad_edge(x, 1, form.size, self.padded)
            return self._cells_of_interleaved(x, 3, cell, self.padded)
        half = (self.padded[0] // 2, self.padded[1] // 2)
        y = self._float_input("y", (1, 1, *form.size))
        y = w.node("SpaceToDepth", self._pad_edge(y, 2, form.size, self.padded), blocksize=cell)
        if form.pixels == "nv12":
            uv = self._float_input("uv", (1, *form.chroma_size, 2))
            uv = self._pad_edge(uv, 1, form.chroma_size, half)
            return w.node("Concat", y, self._cells_of_interleaved(uv, 2, cell // 2, half), axis=1)
        chroma = []
        for name in ("u", "v"):
            plane = self._pad_edge(self._float_input(name, (1, 1, *form.chroma_size)), 2, form.chroma_size, half)
            chroma.append(w.node("SpaceToDepth", plane, blocksize=cell // 2) if cell > 2 else plane)
        return w.node("Concat", y, *chroma, axis=1)

    def _float_input(self, name: str, shape: tuple[int, ...]) -> str:
        w = self.w
        x = w.node("Cast", w.input(name, TensorProto.UINT8, shape), to=w.float)
        if not self.centered:
            return x
        rows = 2 if shape[1] == 1 else 1
        mean = w.node("Round", w.node("ReduceMean", x, w.integers(rows, rows + 1), keepdims=1))
        return w.node("Sub", x, mean)

    def _pad_edge(self, x: str, axis: int, size: tuple[int, int], padded: tuple[int, int]) -> str:
        """Repeat the last row and column; rows are on ``axis`` of four."""
        if size == padded:
            return x
        after = [0, 0, 0, 0]
        after[axis], after[axis + 1] = padded[0] - size[0], padded[1] - size[1]
        return self.w.node("Pad", x, self.w.integers(0, 0, 0, 0, *after), mode="edge")

    def _cells_of_interleaved(self, x: str, colors: int, cell: int, size: tuple[int, int]) -> str:
        """(1, H, W, colors) as (1, colors * cell**2, H/cell, W/cell), channel = (colour, row, column)."""
        rows, columns = size[0] // cell, size[1] // cell
        x = self.w.node("Reshape", x, self.w.integers(1, rows, cell, columns, cell, colors))
        x = self.w.node("Transpose", x, perm=[0, 5, 2, 4, 1, 3])
        return self.w.node("Reshape", x, self.w.integers(1, colors * cell * cell, rows, columns))

    def _rgb_from_phases(self) -> tuple[Floats, Floats]:
        """Matrix and offset from 0-255 phases to RGB phases in [0, 1], channel = (colour, row, column)."""
        cell = self.cell
        count = cell * cell
        if self.form.pixels == "rgb":
            return np.eye(3 * count) / 255.0, np.zeros(3 * count)
        m, offset = rgb_from_yuv(self.form.matrix, self.form.full_range)
        spread = _chroma_spread(cell)
        matrix = np.hstack([np.kron(m[:, :1], np.eye(count)), np.kron(m[:, 1:2], spread), np.kron(m[:, 2:], spread)])
        return matrix / 255.0, np.repeat(offset, count) / 255.0

    # The convolutions

    def _convolutions(self, phases: str, to_rgb: Floats) -> str:
        """RGB phases in [0, 1] from pixel phases.

        A tensor that goes into a normalised convolution may be off by a constant per channel: with
        reflection padding the convolution keeps it a constant, and the norm removes it. Each is made so
        that a flat frame is exactly zero from the first convolution on. Otherwise the norm, which
        multiplies by 316 where the variance is 0, would blow up the rounding errors of flat regions.
        """
        w, shape = self.w, self.shape
        styles = self._styles()
        if shape.unshuffle == self.cell:
            weight = np.einsum("ocuv,cp->opuv", self._weight(shape.down[0]), to_rgb)
            x = self._pad(phases, 1)
        else:
            rgb = w.node("Conv", phases, w.floats(to_rgb[:, :, None, None]))
            x = self._pad(w.node("DepthToSpace", rgb, blocksize=self.cell, mode="CRD"), shape.down[0].kernel // 2)
            weight = self._weight(shape.down[0])
        # The input of a convolution is padded right after the norm, the cheapest place in OpenVINO.
        following = [conv.kernel // 2 for conv in shape.down[1:]] + [1]
        for conv, radius in zip(shape.down, following, strict=True):
            x = w.node(
                "Conv", x, w.floats(weight if conv is shape.down[0] else self._weight(conv)), strides=[conv.stride] * 2
            )
            x = self._centered_relu(self._norm(x, conv.outputs, radius), styles[conv])
        for first, second in shape.residual:
            y = w.node("Conv", x, w.floats(self._weight(first)))
            y = self._centered_relu(self._norm(y, first.outputs, 1), styles[first])
            y = self._norm(w.node("Conv", y, w.floats(self._weight(second))), second.outputs, 1)
            x = w.node("Add", x, w.node("Mul", y, styles[second].scale))
        out = shape.out
        for conv in shape.up:
            x = w.node("ConvTranspose", x, w.floats(_transposed(self._weight(conv))), strides=[2, 2], pads=[3, 3, 3, 3])
            if conv is not shape.up[-1]:
                x = self._centered_relu(self._norm(x, conv.outputs, 1), styles[conv])
        x = self._norm(x, conv.outputs, 1 if out.upsample == 2 else out.kernel // 2)
        x = w.node("Relu", w.node("Add", w.node("Mul", x, styles[conv].scale), styles[conv].shift))
        bias = np.repeat(np.asarray(self.network.weights[f"{out.name}.bias"], np.float64), self.cell**2)
        weight = _phases(self._weight(out), out, self.cell)
        x = w.node("Conv", x, w.floats(weight), w.floats(bias), strides=[self.cell // out.upsample] * 2)
        return w.node("Sigmoid", x)

    def _weight(self, conv: Conv) -> Floats:
        return np.asarray(self.network.weights[f"{conv.name}.weight"], np.float64)

    def _styles(self) -> dict[Conv, _Affine]:
        w = self.w
        sizes = w.integers(*(conv.outputs for conv in self.shape.normalised for _ in range(2)))
        style = w.node("Reshape", self.style, w.integers(1, -1, 1, 1))
        if w.float != TensorProto.FLOAT:
            style = w.node("Cast", style, to=w.float)
        zero = w.floats(np.zeros(()))
        count = 2 * len(self.shape.normalised)
        parts = [
            w.split(vector, sizes, count)
            for vector in (style, w.node("Min", style, zero), w.node("Neg", w.node("Max", style, zero)))
        ]
        return {
            conv: _Affine(parts[0][2 * i], parts[0][2 * i + 1], parts[1][2 * i + 1], parts[2][2 * i + 1])
            for i, conv in enumerate(self.shape.normalised)
        }

    def _norm(self, x: str, channels: int, radius: int) -> str:
        """Zero mean and unit variance per channel, then reflection padding by ``radius``."""
        w = self.w
        half = w.float != TensorProto.FLOAT
        if half:
            x = w.node("Cast", x, to=TensorProto.FLOAT)
        one, zero = (w.floats(np.full(channels, value), exact=True) for value in (1.0, 0.0))
        x = w.node("InstanceNormalization", x, one, zero, epsilon=NORM_EPSILON)
        if half:
            x = w.node("Cast", x, to=w.float)
        return self._pad(x, radius)

    def _centered_relu(self, x: str, style: _Affine) -> str:
        """relu(x * scale + shift) - relu(shift)."""
        w = self.w
        return w.node("Max", w.node("Add", w.node("Mul", x, style.scale), style.low), style.floor)

    def _pad(self, x: str, radius: int) -> str:
        return self.w.node("Pad", x, self.w.integers(0, 0, radius, radius, 0, 0, radius, radius), mode="reflect")

    # Phases to pixels

    def _planes_from_rgb(self, x: str) -> None:
        """Write the planes of RGB phases in [0, 1], channel = (colour, row, column)."""
        w, form, cell = self.w, self.form, self.cell
        count = cell * cell
        if form.pixels == "rgb":
            x = self._to_levels(w.node("Mul", x, w.floats(np.full((), 255.0))))
            self._interleaved_output("frame_out", x, 3, cell, self.padded, form.size)
            return
        m, offset = yuv_from_rgb(form.matrix, form.full_range)
        mean = _chroma_spread(cell).T / 4
        matrix = np.vstack([np.kron(m[:1], np.eye(count)), np.kron(m[1:2], mean), np.kron(m[2:], mean)]) * 255.0
        bias = np.repeat(offset, [count, count // 4, count // 4])
        x = self._to_levels(w.node("Conv", x, w.floats(matrix[:, :, None, None]), w.floats(bias)))
        half = (self.padded[0] // 2, self.padded[1] // 2)
        if form.pixels == "nv12":
            y, uv = w.split(x, w.integers(count, count // 2), 2)
            self._plane_output("y_out", y, cell, form.size)
            self._interleaved_output("uv_out", uv, 2, cell // 2, half, form.chroma_size)
            return
        y, u, v = w.split(x, w.integers(count, count // 4, count // 4), 3)
        self._plane_output("y_out", y, cell, form.size)
        self._plane_output("u_out", u, cell // 2, form.chroma_size)
        self._plane_output("v_out", v, cell // 2, form.chroma_size)

    def _to_levels(self, x: str) -> str:
        w = self.w
        return w.node("Clip", w.node("Round", x), w.floats(np.zeros(())), w.floats(np.full((), 255.0)))

    def _plane_output(self, name: str, x: str, cell: int, size: tuple[int, int]) -> None:
        if cell > 1:
            x = self.w.node("DepthToSpace", x, blocksize=cell, mode="CRD")
        x = self.w.node("Slice", x, self.w.integers(0, 0), self.w.integers(*size), self.w.integers(2, 3))
        self.w.output(x, name, TensorProto.UINT8, (1, 1, *size))

    def _interleaved_output(
        self, name: str, x: str, colors: int, cell: int, padded: tuple[int, int], size: tuple[int, int]
    ) -> None:
        w = self.w
        x = w.node("Reshape", x, w.integers(1, colors, cell, cell, padded[0] // cell, padded[1] // cell))
        x = w.node("Transpose", x, perm=[0, 4, 2, 5, 3, 1])
        x = w.node("Reshape", x, w.integers(1, *padded, colors))
        x = w.node("Slice", x, w.integers(0, 0), w.integers(*size), w.integers(1, 2))
        w.output(x, name, TensorProto.UINT8, (1, *size, colors))


def _chroma_spread(cell: int) -> Floats:
    """(cell**2, (cell/2)**2) matrix that repeats each chroma sample of a cell over its 2x2 pixels."""
    once = np.kron(np.eye(cell // 2), np.ones((2, 1)))
    return np.kron(once, once)


def _transposed(weight: Floats) -> Floats:
    """A 3x3 convolution of a picture upsampled by two (nearest), as a transposed convolution of step two.

    Row 2m of the result sees rows m-1 (tap 0) and m (taps 1, 2), row 2m+1 sees m (taps 0, 1) and m+1
    (tap 2): half the multiplications. The result has three rows and columns too many on each side when
    the picture was padded by one. Weights IOHW.
    """
    place = np.zeros((4, 3))
    for phase in range(2):
        for tap in range(3):
            place[phase + 1 - 2 * ((phase + tap - 1) // 2), tap] = 1
    return np.asarray(np.einsum("ut,vs,oits->iouv", place, place, weight))


def _phases(weight: Floats, conv: Conv, cell: int) -> Floats:
    """``conv`` (after its upsampling, if any) so that it makes the pixels of ``cell`` x ``cell`` as channels.

    Its step is ``cell / upsample``. Tap t of phase row a falls on row (a + t - radius) / upsample, rounded
    down, of the picture before the upsampling. Outputs are ordered (channel, phase row, phase column).
    """
    outputs, inputs, kernel, _ = weight.shape
    radius, up = kernel // 2, conv.upsample
    margin = radius if up == 1 else 1
    place = np.zeros((cell, (cell - 1 + radius) // up + margin + 1, kernel))
    for phase in range(cell):
        for tap in range(kernel):
            place[phase, (phase + tap - radius) // up + margin, tap] = 1
    folded = np.einsum("aut,bvs,oits->oabiuv", place, place, weight, optimize=True)
    return np.asarray(folded).reshape(outputs * cell * cell, inputs, *place.shape[1:2] * 2)
