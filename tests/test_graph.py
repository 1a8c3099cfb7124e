"""The ONNX graph: what it says of itself, its folded weights, and the colors without the network."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import fast_network, noise, photo, planes_from_rgb, psnr, rgb_from_planes, seeded_network, worst_psnr
from onnx import TensorProto
from torch.nn import functional

from vidstyle.frame import FrameFormat, Matrix, Pixels, Planes
from vidstyle.graph import Body, GraphPrecision, onnx_from_network, style_tensors
from vidstyle.graph.fold import into_phases, upsampled_transposed
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network, mixed

ODD = FrameFormat(height=23, width=37, pixels="i420", matrix="bt601")
BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16")
BODIES: tuple[Body, ...] = ("network", "identity")
DIGESTS = {
    ("fast", "rgb"): "a9a991c5fe4b3ea3",
    ("fast", "i420"): "51c3f396ca7a40c4",
    ("fast", "nv12"): "195609aa6bd25b3a",
    ("paper", "rgb"): "8da4f46b8b20acb2",
    ("paper", "i420"): "6341c1475121e2d7",
    ("paper", "nv12"): "5d74fed094352067",
}
EVERY_LAYOUT = pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])


def load(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])


def run(network: Network, form: FrameFormat, planes: Planes, body: Body, precision: GraphPrecision = "fp32") -> Planes:
    session = load(onnx_from_network(network, form, body=body, precision=precision))
    arrays = [network.start, *planes]
    feed = {port.name: array.reshape(port.shape) for port, array in zip(session.get_inputs(), arrays, strict=True)}
    results = session.run(None, feed)
    return tuple(result.reshape(shape) for result, shape in zip(results, form.plane_shapes, strict=True))


def bare(model: onnx.ModelProto) -> bytes:
    """The bytes of a graph without the values of its weights, whose last bits another processor may round."""
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.INT64 and len(tensor.dims) > 1:
            tensor.ClearField("raw_data")
    return bytes(model.SerializeToString(deterministic=True))


@BOTH
@EVERY_LAYOUT
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graph_is_valid_and_says_what_it_is(shape: Architecture, pixels: Pixels, precision: GraphPrecision) -> None:
    network = seeded_network(shape)
    form = FrameFormat(height=23, width=37, pixels=pixels, matrix="bt601", full_range=True)
    model = onnx_from_network(network, form, precision=precision)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key.removeprefix("vidstyle."): entry.value for entry in model.metadata_props}
    expected = {"network": shape.name, "digest": network.digest, "size": "37x23", "pixels": pixels, "body": "network"}
    assert said == {**expected, "matrix": "bt601", "range": "full", "precision": precision}


PORTS: dict[str, dict[str, tuple[int | str, ...]]] = {
    "rgb": {"frame": (1, "height", "width", 3)},
    "i420": {"y": (1, 1, "height", "width"), **dict.fromkeys("uv", (1, 1, "chroma_height", "chroma_width"))},
    "nv12": {"y": (1, 1, "height", "width"), "uv": (1, "chroma_height", "chroma_width", 2)},
}


@EVERY_LAYOUT
@pytest.mark.parametrize("dynamic", [False, True])
def test_pixels_go_in_and_out_as_bytes_in_the_same_layout(pixels: Pixels, dynamic: bool) -> None:
    form = FrameFormat(height=23, width=37, pixels=pixels)
    graph = onnx_from_network(fast_network(), form, dynamic=dynamic).graph
    known = {} if dynamic else {"height": 23, "width": 37, "chroma_height": 12, "chroma_width": 19}

    def described(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[int, list[int | str]]]:
        types = {value.name: value.type.tensor_type for value in values}
        return {n: (t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim]) for n, t in types.items()}

    planes = {n: (TensorProto.UINT8, [known.get(side, side) for side in size]) for n, size in PORTS[pixels].items()}
    assert described(list(graph.input)) == {"style": (TensorProto.FLOAT, [1, 1088]), **planes}
    assert described(list(graph.output)) == {f"{name}_out": plane for name, plane in planes.items()}


@BOTH
@EVERY_LAYOUT
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_as_inputs_paint_what_constants_paint(
    shape: Architecture, pixels: Pixels, precision: GraphPrecision
) -> None:
    network, form = seeded_network(shape), FrameFormat(height=23, width=37, pixels=pixels, matrix="bt601")
    planes = planes_from_rgb(photo("china", form.size), form)
    session = load(onnx_from_network(shape, form, precision=precision))
    names = [port.name for port in session.get_inputs()]
    tensors = style_tensors(network, form)
    assert [name for name in names if name in tensors] == list(tensors)
    given = {**dict(zip([name for name in names if name not in tensors], planes, strict=True)), **tensors}
    found = session.run(None, {p.name: given[p.name].reshape(p.shape) for p in session.get_inputs()})
    expected = run(network, form, planes, "network", precision)
    shaped = tuple(plane.reshape(shape) for plane, shape in zip(found, form.plane_shapes, strict=True))
    assert worst_psnr(shaped, expected) >= 50
    blended = style_tensors(mixed([(network, 0.25), (Network.blank(shape), 0.75)]), form)
    for name, tensor in style_tensors(Network.blank(shape), form).items():
        np.testing.assert_allclose(blended[name], 0.25 * tensors[name] + 0.75 * tensor, atol=1e-5)


@BOTH
@EVERY_LAYOUT
def test_graphs_of_one_size_stay_what_they_were(shape: Architecture, pixels: Pixels) -> None:
    # Compiled models are kept under the digest of the graph: a change makes everybody compile again.
    digest = hashlib.sha256()
    for precision in PRECISIONS:
        for size in ((23, 37), (24, 40)):
            for body in BODIES:
                form = FrameFormat(height=size[0], width=size[1], pixels=pixels, matrix="bt601")
                for what in (shape, seeded_network(shape)):
                    digest.update(bare(onnx_from_network(what, form, precision=precision, body=body)))
    assert digest.hexdigest()[:16] == DIGESTS[shape.name, pixels]


def test_bytes_become_floats_first_and_bytes_again_last() -> None:
    # TensorRT takes uint8 at the edges of a network only.
    graph = onnx_from_network(fast_network(), ODD, precision="fp16").graph
    inputs, outputs = {"y", "u", "v"}, {"y_out", "u_out", "v_out"}
    for node in graph.node:
        if inputs & set(node.input) or outputs & set(node.output):
            assert node.op_type == "Cast"


def test_half_precision_keeps_the_statistics_of_the_norms_exact() -> None:
    model = onnx.shape_inference.infer_shapes(onnx_from_network(fast_network(), ODD, precision="fp16"))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    by_kind = {
        kind: {types[node.output[0]] for node in model.graph.node if node.op_type == kind}
        for kind in ("InstanceNormalization", "ReduceMean", "Conv", "ConvTranspose", "Sigmoid")
    }
    assert by_kind["InstanceNormalization"] == by_kind["ReduceMean"] == {TensorProto.FLOAT}
    assert by_kind["ConvTranspose"] == by_kind["Sigmoid"] == {TensorProto.FLOAT16}
    assert TensorProto.FLOAT16 in by_kind["Conv"]


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_the_exported_fast_network_costs_at_most_35_kflop_a_pixel(pixels: Pixels) -> None:
    form = FrameFormat(height=64, width=96, pixels=pixels)
    model = onnx.shape_inference.infer_shapes(onnx_from_network(fast_network(), form))
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    sizes = {v.name: [side.dim_value for side in v.type.tensor_type.shape.dim] for v in graph.value_info}
    operations = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            # A transposed convolution multiplies every pixel of its input with every weight.
            grid = sizes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:]
            operations += 2 * int(np.prod(weights[node.input[1]])) * int(np.prod(grid))
    assert 25_000 < operations / (64 * 96) <= 35_000


# Sizes that are known when the graph runs


@BOTH
@EVERY_LAYOUT
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_dynamic_graph_paints_what_a_graph_of_that_size_paints(
    shape: Architecture, pixels: Pixels, precision: GraphPrecision
) -> None:
    network = seeded_network(shape)
    any_size = FrameFormat(height=720, width=1280, pixels=pixels, matrix="bt601")
    model = onnx_from_network(network, any_size, precision=precision, dynamic=True)
    onnx.checker.check_model(model, full_check=True)
    dynamic = load(model)
    for size in ((8, 8), (40, 64), (36, 20)):
        form = any_size.resized(size)
        planes = planes_from_rgb(photo("coffee", size), form)
        fixed = load(onnx_from_network(network, form, precision=precision))
        ports = fixed.get_inputs()
        feed = {port.name: a.reshape(port.shape) for port, a in zip(ports, [network.start, *planes], strict=True)}
        for expected, found in zip(fixed.run(None, feed), dynamic.run(None, feed), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_dynamic_graph_is_one_for_all_sizes() -> None:
    small, large = (onnx_from_network(fast_network(), ODD.resized(s), dynamic=True) for s in ((8, 8), (720, 1280)))
    assert small.SerializeToString() == large.SerializeToString()
    facts = {entry.key: entry.value for entry in small.metadata_props}
    assert facts["vidstyle.size"] == "dynamic"


# Folded weights


def test_a_folded_upsampling_is_the_upsampling_then_the_convolution() -> None:
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    padded = functional.pad(torch.randn(1, 4, 6, 7, dtype=torch.float64), (1,) * 4, mode="reflect")
    plain = functional.conv2d(padded.repeat_interleave(2, 2).repeat_interleave(2, 3), weight)[..., 1:-1, 1:-1]
    folded = torch.from_numpy(upsampled_transposed(weight.numpy()))
    torch.testing.assert_close(functional.conv_transpose2d(padded, folded, stride=2, padding=3), plain)


@pytest.mark.parametrize(("kernel", "upsample", "cell"), [(5, 2, 4), (9, 1, 2), (3, 2, 4), (3, 1, 2)])
def test_a_convolution_into_phases_makes_the_pixels_of_each_cell(kernel: int, upsample: int, cell: int) -> None:
    weight = torch.randn(3, 2, kernel, kernel, dtype=torch.float64)
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    padding = kernel // 2 if upsample == 1 else 1
    padded = functional.pad(x, (padding,) * 4, mode="reflect")
    plain = functional.conv2d(padded.repeat_interleave(upsample, 2).repeat_interleave(upsample, 3), weight)
    extra = (plain.shape[2] - 8 * upsample) // 2
    plain = plain[..., extra : extra + 8 * upsample, extra : extra + 12 * upsample]
    folded = torch.from_numpy(into_phases(weight.numpy(), upsample, cell))
    phases = functional.conv2d(padded, folded, stride=cell // upsample)
    torch.testing.assert_close(functional.pixel_shuffle(phases, cell), plain)


# Colors


@BOTH
@pytest.mark.parametrize("pixels", ["i420", "nv12"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colors_survive_the_way_through_rgb(
    shape: Architecture, pixels: Pixels, full_range: bool, matrix: Matrix
) -> None:
    form = FrameFormat(height=71, width=93, pixels=pixels, matrix=matrix, full_range=full_range)
    network = seeded_network(shape)
    for picture in (photo("astronaut", form.size), noise(form.size)):
        planes = planes_from_rgb(picture, form)
        result = run(network, form, planes, "identity")
        assert psnr(planes[0], result[0]) >= 50
        assert worst_psnr(planes, result) >= 42


@BOTH
def test_rgb_pixels_survive_unchanged(shape: Architecture) -> None:
    form = FrameFormat(height=19, width=22)
    (result,) = run(seeded_network(shape), form, (noise(form.size),), "identity")
    np.testing.assert_array_equal(result, noise(form.size))


@pytest.mark.parametrize("name", ["astronaut", "china", "flower"])
@pytest.mark.parametrize("pixels", ["i420", "nv12"])
def test_the_yuv_path_and_the_rgb_path_paint_the_same_picture(name: str, pixels: Pixels) -> None:
    form = FrameFormat(height=180, width=270, pixels=pixels)
    planes = planes_from_rgb(photo(name, form.size), form)
    rgb_form = FrameFormat(height=180, width=270)
    (rgb,) = run(fast_network(), rgb_form, (rgb_from_planes(planes, form),), "network")
    assert worst_psnr(run(fast_network(), form, planes, "network"), planes_from_rgb(rgb, form)) >= 38
