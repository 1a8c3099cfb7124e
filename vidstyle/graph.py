"""The ONNX graph of a network: 8-bit pixels and a style vector in, 8-bit pixels out.

Everything between the pixels is inside, so that an inference library fuses it: the colour
conversion, the scaling, the padding to the network's multiple (edge pixels repeated at the bottom and
on the right) and the cropping back, the rounding and the clipping.

A picture of full size is never made. Pixels are taken *by cells* of 4x4 (or 2x2): each pixel of a cell
is a channel at a quarter (or half) of the size, the *phases* of the picture.

* Colour: the first convolution is linear and an instance norm follows it, so the colour matrix and
  the 1/255 are folded into its weights and every offset is dropped.
* Nearest upsampling before a convolution: a convolution of the low-size picture that makes the phases
  of the large one (see `_fold`), borders included.

Chroma of 4:2:0 frames: a chroma sample stands for its 2x2 luma pixels (nearest) on the way in; on the
way out it is the mean of the four, that is, centre siting as in JPEG and MPEG-1. Colours outside of
the RGB cube are not clipped on the way in.
"""

from __future__ import annotations

from typing import Literal

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
    style = writer.input("style", TensorProto.FLOAT, (1, network.architecture.style_size))
    graph = _Network(writer, network, form, style)
    graph.write(body)
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

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Append one node; the name of its (first) result."""
        name = f"{op}_{len(self._nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0]

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


class _Network:
    """The parts of one graph: pixels to phases, the convolutions, phases to pixels."""

    def __init__(self, writer: _Writer, network: Network, form: FrameForm, style: str) -> None:
        self.w = writer
        self.network = network
        self.shape = network.architecture
        self.form = form
        self.style = style
        self.padded = self.shape.padded_size(form.size)
        self._channels: dict[tuple[str, str], int] = {}
        self.cell = 4 if self.shape.unshuffle == 4 else 2
        """Side of the cells whose pixels are channels."""

    def write(self, body: Body) -> None:
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
        plane = self.w.input(name, TensorProto.UINT8, shape)
        return self.w.node("Cast", plane, to=self.w.float)

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

    def _convolutions(self, x: str, to_rgb: Floats) -> str:
        w, shape = self.w, self.shape
        affine = self._affine()
        if shape.unshuffle == 4:
            stem = shape.down[0]
            weight = np.einsum("oikl,ij->ojkl", self._weight(stem), to_rgb)
            x = self._norm(w.node("Conv", self._pad(x, 1, "reflect"), w.floats(weight)), affine[stem], relu=True)
        else:
            x = w.node("Conv", x, w.floats(to_rgb[:, :, None, None]))
            x = w.node("DepthToSpace", x, blocksize=2, mode="CRD")
            for conv in shape.down:
                x = self._pad(x, conv.kernel // 2, "reflect")
                x = w.node("Conv", x, w.floats(self._weight(conv)), strides=[conv.stride] * 2)
                x = self._norm(x, affine[conv], relu=True)
        for first, second in shape.residual:
            y = self._norm(
                w.node("Conv", self._pad(x, 1, "reflect"), w.floats(self._weight(first))), affine[first], relu=True
            )
            y = self._norm(
                w.node("Conv", self._pad(y, 1, "reflect"), w.floats(self._weight(second))), affine[second], relu=False
            )
            x = w.node("Add", x, y)
        for conv in shape.up:
            x = w.node("Conv", self._pad(x, 1, "reflect"), w.floats(_fold(self._weight(conv), conv, 1)))
            x = w.node("DepthToSpace", x, blocksize=2, mode="CRD")
            x = self._norm(x, affine[conv], relu=True)
        out = shape.out
        bias = np.asarray(self.network.weights[f"{out.name}.bias"], np.float64)
        if out.upsample == 2:
            x = w.node(
                "Conv",
                self._pad(x, 1, "reflect"),
                w.floats(_fold(self._weight(out), out, 1)),
                w.floats(np.repeat(bias, 4)),
            )
            x = w.node("Sigmoid", x)
            x = w.node("DepthToSpace", x, blocksize=2, mode="CRD")
        else:
            x = w.node("Conv", self._pad(x, out.kernel // 2, "reflect"), w.floats(self._weight(out)), w.floats(bias))
            x = w.node("Sigmoid", x)
        rows, columns = self.padded[0] // self.cell, self.padded[1] // self.cell
        x = w.node("Reshape", x, w.integers(1, 3, rows, self.cell, columns, self.cell))
        x = w.node("Transpose", x, perm=[0, 1, 3, 5, 2, 4])
        return w.node("Reshape", x, w.integers(1, 3 * self.cell**2, rows, columns))

    def _weight(self, conv: Conv) -> Floats:
        return np.asarray(self.network.weights[f"{conv.name}.weight"], np.float64)

    def _affine(self) -> dict[Conv, tuple[str, str]]:
        sizes = [conv.outputs for conv in self.shape.normalised for _ in range(2)]
        first = self.w.node("Split", self.style, self.w.integers(*sizes), outputs=len(sizes), axis=1)
        stem = first.rpartition(".")[0]
        parts = [self.w.node("Reshape", f"{stem}.{i}", self.w.integers(1, size, 1, 1)) for i, size in enumerate(sizes)]
        pairs = list(zip(parts[0::2], parts[1::2], strict=True))
        self._channels = dict(zip(pairs, sizes[::2], strict=True))
        return dict(zip(self.shape.normalised, pairs, strict=True))

    def _norm(self, x: str, affine: tuple[str, str], *, relu: bool) -> str:
        """Instance norm with run-time scale and shift, statistics in float32."""
        w = self.w
        half = w.float != TensorProto.FLOAT
        if half:
            x = w.node("Cast", x, to=TensorProto.FLOAT)
        channels = self._channels[affine]
        x = w.node(
            "InstanceNormalization",
            x,
            w.floats(np.ones(channels), exact=True),
            w.floats(np.zeros(channels), exact=True),
            epsilon=NORM_EPSILON,
        )
        x = w.node("Add", w.node("Mul", x, affine[0]), affine[1])
        if half:
            x = w.node("Cast", x, to=w.float)
        return w.node("Relu", x) if relu else x

    def _pad(self, x: str, radius: int, mode: str) -> str:
        return self.w.node("Pad", x, self.w.integers(0, 0, radius, radius, 0, 0, radius, radius), mode=mode)

    # Phases to pixels

    def _planes_from_rgb(self, x: str) -> None:
        """Write the planes of RGB phases in [0, 1], channel = (colour, row, column)."""
        w, form, cell = self.w, self.form, self.cell
        count = cell * cell
        if form.pixels == "rgb":
            x = self._to_levels(w.node("Mul", x, w.floats(np.float64(255.0))))
            self._interleaved_output("frame_out", x, 3, cell, self.padded, form.size)
            return
        m, offset = yuv_from_rgb(form.matrix, form.full_range)
        mean = _chroma_spread(cell).T / 4
        matrix = np.vstack([np.kron(m[:1], np.eye(count)), np.kron(m[1:2], mean), np.kron(m[2:], mean)]) * 255.0
        bias = np.repeat(offset, [count, count // 4, count // 4])
        x = self._to_levels(w.node("Conv", x, w.floats(matrix[:, :, None, None]), w.floats(bias)))
        if form.pixels == "nv12":
            sizes = w.integers(count, count // 2)
            y = w.node("Split", x, sizes, outputs=2, axis=1)
        else:
            y = w.node("Split", x, w.integers(count, count // 4, count // 4), outputs=3, axis=1)
        stem = y.rpartition(".")[0]
        self._plane_output("y_out", y, cell, form.size)
        half = (self.padded[0] // 2, self.padded[1] // 2)
        if form.pixels == "nv12":
            self._interleaved_output("uv_out", f"{stem}.1", 2, cell // 2, half, form.chroma_size)
        else:
            self._plane_output("u_out", f"{stem}.1", cell // 2, form.chroma_size)
            self._plane_output("v_out", f"{stem}.2", cell // 2, form.chroma_size)

    def _to_levels(self, x: str) -> str:
        w = self.w
        return w.node("Clip", w.node("Round", x), w.floats(np.float64(0.0)), w.floats(np.float64(255.0)))

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


def _fold(weight: Floats, conv: Conv, cells: int) -> Floats:
    """The convolution that makes the 2x2 phases of ``conv`` after a nearest upsampling by two.

    Row a of a phase sees, with tap t, row floor((a + t - radius) / 2) of the picture before the
    upsampling: -1, 0 or 1. Outputs are ordered (channel, phase row, phase column).
    """
    outputs, inputs, kernel, _ = weight.shape
    radius = kernel // 2
    place = np.zeros((2, 3, kernel))
    for phase in range(2):
        for tap in range(kernel):
            place[phase, (phase + tap - radius) // 2 + 1, tap] = 1
    folded = np.einsum("aut,bvs,oits->oabiuv", place, place, weight)
    return folded.reshape(outputs * 4, inputs, 3, 3)
