"""Nodes and constants of an ONNX graph, in the order in which they are made."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

GraphPrecision = Literal["fp32", "fp16"]
Floats = NDArray[np.float64]
Shape = tuple[int | str, ...]
"""Sides of a tensor; one that is known when the graph runs has a name."""

OPSET = 18
"""Read by ONNX Runtime 1.14, OpenVINO 2023 and TensorRT 10, and by everything later."""
IR_VERSION = 8
"""The file format that belongs to `OPSET`."""


class GraphWriter:
    """Collects a graph; a value is known by its name. Every tensor is float unless it says otherwise.

    ``half`` graphs compute in float16, except for what is marked ``exact``, which is float32.
    """

    def __init__(self, precision: GraphPrecision) -> None:
        self.half = precision == "fp16"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: Shape) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def pixel_input(self, name: str, shape: Shape) -> str:
        """Declare a uint8 input; gives its levels as exact floats.

        The cast comes first, as TensorRT wants it.
        """
        return self.node("Cast", self.input(name, TensorProto.UINT8, shape), to=TensorProto.FLOAT)

    def pixel_output(self, levels: str, name: str, shape: Shape) -> None:
        """Declare a uint8 output from whole numbers of 0-255. The cast comes last, as TensorRT wants it."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        self._nodes.append(helper.make_node("Cast", [levels], [name], name=f"Cast_{name}", to=TensorProto.UINT8))

    def float_output(self, x: str, name: str, shape: Shape) -> None:
        """Declare a float32 output."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self._nodes.append(helper.make_node("Identity", [x], [name], name=f"Identity_{name}"))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; the name of its result."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def split(self, x: str, *channels: int) -> list[str]:
        """Append a split into parts of so many channels; their names."""
        name = f"Split_{len(self._nodes)}"
        names = [f"{name}_{i}" for i in range(len(channels))]
        self._nodes.append(helper.make_node("Split", [x, self.integers(*channels)], names, name=name, axis=1))
        return names

    def rounded(self, exact: str) -> str:
        """An exact tensor in the precision of the graph."""
        return self.node("Cast", exact, to=TensorProto.FLOAT16) if self.half else exact

    def exact(self, x: str) -> str:
        """A tensor in the precision of the graph as float32."""
        return self.node("Cast", x, to=TensorProto.FLOAT) if self.half else x

    def floats(self, values: Floats, *, exact: bool = False) -> str:
        """A constant in the precision of the graph, or exact."""
        return self.constant(np.asarray(values, np.float16 if self.half and not exact else np.float32))

    def number(self, value: float) -> str:
        """A constant without dimensions, in the precision of the graph."""
        return self.floats(np.full((), value))

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(np.array(values, np.int64))

    def convolution(self, x: str, weight: str, bias: str | None = None, *, step: int = 1) -> str:
        """Append a convolution without padding; ``weight`` is OIHW."""
        return self.node("Conv", x, weight, *([] if bias is None else [bias]), strides=[step, step])

    def constant(self, array: NDArray[np.generic]) -> str:
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return str(self._constants[key].name)

    def model(self, name: str, facts: dict[str, str]) -> onnx.ModelProto:
        """The graph as a model, with ``facts`` as metadata."""
        tensors = list(self._constants.values())
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, tensors)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vidstyle")
        helper.set_model_props(model, facts)
        return model
