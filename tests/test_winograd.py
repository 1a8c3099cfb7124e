"""Convolutions in lanes are the convolutions, along either axis, for half the multiplications."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import seeded_network
from onnx import TensorProto
from torch.nn import functional

from vidstyle.frame import FrameFormat
from vidstyle.graph import onnx_from_network, style_tensors, winograd_axis
from vidstyle.graph.winograd import Lanes, factors, lane_axis
from vidstyle.graph.writer import GraphWriter
from vidstyle.models.architecture import FAST, NORM_EPSILON

AXES = pytest.mark.parametrize("axis", [2, 3])


@AXES
def test_a_convolution_in_lanes_and_its_norm_are_the_plain_ones(axis: int) -> None:
    size, channels = (8, 12), 5
    torch.manual_seed(0)
    x, weight = torch.randn(1, channels, *size), torch.randn(channels, channels, 3, 3)
    padded = functional.pad(x, (1,) * 4, mode="reflect")
    normed = functional.instance_norm(functional.conv2d(padded, weight), eps=NORM_EPSILON)
    w = GraphWriter("fp32")
    lanes = Lanes(w, axis, size)
    parts = lanes.split(w.input("x", TensorProto.FLOAT, tuple(padded.shape)))
    kernels = [w.floats(kernel) for kernel in factors(weight.double().numpy(), axis)]
    merged = lanes.merge(lanes.norm(lanes.convolution(parts, kernels), NORM_EPSILON), channels)
    w.float_output(merged, "out", tuple(padded.shape))
    session = onnxruntime.InferenceSession(w.model("lanes", {}).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": padded.numpy()})
    expected = functional.pad(normed, (1,) * 4, mode="reflect")
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("size", "axis"), [((360, 640), 3), ((640, 360), 2), ((720, 1280), 3), ((480, 854), 2), ((97, 131), None)]
)
def test_lanes_run_along_a_side_of_whole_lanes(size: tuple[int, int], axis: int | None) -> None:
    assert winograd_axis(FAST, FrameFormat(height=size[0], width=size[1])) == axis
    assert lane_axis((4, 4)) is None  # a lane of one column has nothing to reflect


def test_lanes_halve_the_multiplications_of_the_residual_blocks() -> None:
    form = FrameFormat(height=64, width=96)

    def products(winograd: bool) -> int:
        model = onnx.shape_inference.infer_shapes(onnx_from_network(FAST, form, winograd=winograd))
        values = [*model.graph.value_info, *model.graph.input]
        sizes = {v.name: [side.dim_value for side in v.type.tensor_type.shape.dim] for v in values}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv" and ".conv" in node.input[1]]
        return sum(int(np.prod(sizes[n.input[1]]) * np.prod(sizes[n.output[0]][2:])) for n in convolutions)

    assert products(winograd=True) * 2 == products(winograd=False)
    network = seeded_network(FAST)
    names = {port.name for port in onnx_from_network(FAST, form, winograd=True).graph.input}
    assert names == {*style_tensors(network, form, winograd=True), "frame"}
