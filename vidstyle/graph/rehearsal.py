"""FP16 graphs for processors that do not compute in FP16.

ONNX Runtime runs an FP16 graph on a CPU, but in float32: it puts casts around its nodes and takes most
of them out again, even with its optimizations off, so that 300 * 300 is 90000 there and on a GPU an
infinity. A rehearsal says the rounding in casts of its own, which stay.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

MAGNITUDES = "magnitudes"
"""Output of a rehearsal: float32 (N,), the largest absolute result of every rounded node, before the rounding."""

_NODES = "vidstyle.rounded"
_EXACT = {
    *("Clip", "Concat", "DepthToSpace", "Identity", "Max", "Min", "Neg", "Pad", "Relu", "Reshape", "Round", "Slice"),
    *("SpaceToDepth", "Split", "Transpose"),
}
"""They give back numbers that they were given, or whole ones: nothing to round."""


def rehearsal(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 graph that computes what the FP16 graph ``model`` of `vidstyle.graph` says.

    Every FP16 result of ``model`` is rounded to FP16 (to infinity above 65504), as by a GPU that
    computes one node exactly and then rounds; one that fuses nodes rounds less often. Inputs and outputs
    are those of ``model``, and one output more: `MAGNITUDES`.
    """
    half: set[str] = set()
    tensors = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            half.add(tensor.name)
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
        tensors.append(tensor)
    nodes: list[onnx.NodeProto] = []
    watched: list[str] = []
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
        if to == TensorProto.FLOAT16 or (to is None and node.input[0] in half):
            half.update(node.output)
            if to is not None:
                node = helper.make_node("Identity", node.input, node.output, name=node.name)
            elif node.op_type in _EXACT:
                nodes.append(node)
                continue
            (name,) = node.output
            node.output[0] = f"{name}_exact"
            watched.append(name)
            nodes += [
                node,
                helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT),
                helper.make_node("Abs", [f"{name}_exact"], [f"{name}_size"]),
                helper.make_node("ReduceMax", [f"{name}_size"], [f"{name}_largest"], keepdims=0),
                helper.make_node("Unsqueeze", [f"{name}_largest", "rehearsal_axis"], [f"{name}_magnitude"]),
            ]
        else:
            nodes.append(node)
    tensors.append(helper.make_tensor("rehearsal_axis", TensorProto.INT64, [1], [0]))
    nodes.append(helper.make_node("Concat", [f"{name}_magnitude" for name in watched], [MAGNITUDES], axis=0))
    outputs = [*model.graph.output, helper.make_tensor_value_info(MAGNITUDES, TensorProto.FLOAT, [len(watched)])]
    graph = helper.make_graph(nodes, model.graph.name, list(model.graph.input), outputs, tensors)
    made = helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version, producer_name=model.producer_name
    )
    helper.set_model_props(made, {e.key: e.value for e in model.metadata_props} | {_NODES: " ".join(watched)})
    return made


def rounded_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes whose `MAGNITUDES` a rehearsal gives out, in their order."""
    facts = {str(entry.key): str(entry.value) for entry in model.metadata_props}
    return facts[_NODES].split()
