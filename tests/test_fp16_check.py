"""FP16: that a rehearsal rounds as a GPU does, that the shipped styles keep their pictures, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from networks import hard_frames, planes_from_rgb, worst_psnr
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from vidstyle.backends.onnxruntime import open_on_cpu
from vidstyle.engine import fp16_check
from vidstyle.engine.fp16_check import LARGEST_HALF, check_fidelity, rehearsal, rounded_nodes
from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.frame import FrameFormat, Pixels, Planes
from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network
from vidstyle.models.style import Style

BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
HD = FrameFormat(height=720, width=1280, pixels="i420")
SMALL = FrameFormat(height=36, width=64, pixels="i420", matrix="bt601")


def first_style(network: str) -> Style:
    """A shipped style of a network."""
    return load_style(style_names(network)[0])


def other(style: Style, name: str, vector: object = None, **weights: NDArray[np.float32]) -> Style:
    """``style`` with another vector, or other weights."""
    network = style.network
    start = network.start if vector is None else np.asarray(vector, np.float32)
    return Style.of(name, Network(network.architecture, {**network.weights, **weights}, start), theta="theta")


# Rehearsals


def half_model(nodes: str, **constants: NDArray[np.float16]) -> onnx.ModelProto:
    """A graph from ``x`` to ``y`` (1, 3, 8, 8), with ``nodes`` in FP16 from ``h`` to ``r``."""
    picture = "float[1, 3, 8, 8]"
    body = f"{{ h = Cast<to = 10>(x) {nodes} y = Cast<to = 1>(r) }}"
    versions = '<ir_version: 8, opset_import: ["": 18]>'
    model = onnx.parser.parse_model(f"{versions} test ({picture} x) => ({picture} y) {body}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def rehearse(model: onnx.ModelProto, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, float]]:
    """What comes out, and the magnitudes by node."""
    rehearsed = rehearsal(model)
    onnx.checker.check_model(rehearsed, full_check=True)
    y, magnitudes = open_on_cpu(rehearsed.SerializeToString())([x])
    return y, dict(zip(rounded_nodes(rehearsed), magnitudes.tolist(), strict=True))


def test_a_rehearsal_overflows_where_half_precision_does() -> None:
    # What comes after would bring it back, if the product were kept as a float.
    model = half_model("p = Mul(h, h) r = Mul(p, s)", s=np.array(2**-10, np.float16))
    y, magnitudes = rehearse(model, np.full((1, 3, 8, 8), 300, np.float32))
    assert np.isposinf(y).all()
    assert magnitudes["p"] == 90000 > LARGEST_HALF
    assert np.isfinite(rehearse(model, np.full((1, 3, 8, 8), 255, np.float32))[0]).all()


def test_a_rehearsal_rounds_every_result_as_numpy_does() -> None:
    random = np.random.default_rng(1)
    x = random.normal(0, 3, (1, 3, 8, 8)).astype(np.float32)
    weight = random.normal(0, 1, (3, 3, 1, 1)).astype(np.float16)
    scale, shift = (random.normal(0, 1, (1, 3, 1, 1)).astype(np.float16) for _ in range(2))
    nodes = "c = Conv(h, w) m = Mul(c, scale) p = Relu(m) r = Add(p, shift)"
    model = half_model(nodes, w=weight, scale=scale, shift=shift)
    y, magnitudes = rehearse(model, x)
    half = x.astype(np.float16).astype(np.float64)
    conv = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0].astype(np.float64), half).astype(np.float16)
    expected = np.maximum(conv * scale, np.float16(0)) + shift
    np.testing.assert_array_equal(y, expected.astype(np.float32))
    assert list(magnitudes) == ["h", "c", "m", "r"]
    assert magnitudes["h"] == np.abs(x).max()


@BOTH
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_nothing_that_computes_in_half_precision_goes_unrounded(
    shape: Architecture, pixels: Pixels, tmp_path: Path
) -> None:
    network = shared_network(shape.name)
    form = FrameFormat(height=23, width=37, pixels=pixels)
    half = onnx_from_network(network, form, precision="fp16")
    rehearsed = rehearsal(half)
    onnx.checker.check_model(rehearsed, full_check=True)
    assert list(rehearsed.graph.input) == list(half.graph.input)
    assert list(rehearsed.graph.output)[:-1] == list(half.graph.output)
    typed = onnx.shape_inference.infer_shapes(half).graph.value_info
    halves = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    computing = ("Conv", "ConvTranspose", "Mul", "Add", "Sub", "Sigmoid", "Cast")
    wanted = {n.output[0] for n in half.graph.node if n.op_type in computing and n.output[0] in halves}
    assert wanted <= set(rounded_nodes(rehearsed))
    # ONNX Runtime takes away casts that it thinks are for nothing; these it keeps.
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    settings.log_severity_level = 3  # it warns that the file is for this machine
    onnxruntime.InferenceSession(rehearsed.SerializeToString(), settings, ["CPUExecutionProvider"])
    kept = onnx.load(tmp_path / "optimized.onnx").graph.node
    to_half = [n for n in kept if n.op_type == "Cast" and n.attribute[0].i == TensorProto.FLOAT16]
    assert len(to_half) == len(rounded_nodes(rehearsed))


class Pair:
    """A style in FP32 and its rehearsal in FP16."""

    def __init__(self, style: Style, form: FrameFormat) -> None:
        self._vector, self.largest = style.vector, 0.0
        self.works_on_four = style.network.architecture.unshuffle == 4
        graphs = (
            onnx_from_network(style.network, form),
            rehearsal(onnx_from_network(style.network, form, precision="fp16")),
        )
        self._exact, self._half = (open_on_cpu(graph.SerializeToString()) for graph in graphs)

    def paint(self, planes: Planes) -> tuple[Planes, Planes]:
        *half, magnitudes = self._half([self._vector, *planes])
        self.largest = float(magnitudes.max())
        assert np.isfinite(magnitudes).all()
        return tuple(self._exact([self._vector, *planes])), tuple(half)


# Shipped styles


def check_gallery(form: FrameFormat, styles: list[str], *frames: str) -> None:
    pairs = {style: Pair(load_style(style), form) for style in styles}
    for frame, rgb in hard_frames(form.size, *frames).items():
        planes = planes_from_rgb(rgb, form)
        for style in styles:
            pair = pairs[style]
            exact, half = pair.paint(planes)
            # Squares of four pixels are what `fast` works on: its features are the same everywhere, and a norm enlarges
            # what rounding leaves of them. What then comes is chance, and another processor's is another.
            chance = pair.works_on_four and frame == "checkerboard of 4"
            # A flat frame may come out one level off everywhere, which is 48.1 dB.
            assert chance or worst_psnr(exact, half) >= 48, (style, frame)
            # At 3840x2160 the larger numbers of a dot are as many times larger as the root of the pixels.
            growth = (3840 * 2160 / (form.height * form.width)) ** 0.5 if "dot" in frame or frame == "corner" else 1
            assert pair.largest * growth < LARGEST_HALF / 2, (style, frame)


@BOTH
def test_a_shipped_style_keeps_its_picture_in_half_precision(shape: Architecture) -> None:
    frames = ("china", "dark", "red", "checkerboard of 8", "text", "black dot", "corner")
    check_gallery(SMALL, [first_style(shape.name).name], *frames)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_every_shipped_style_keeps_every_picture_in_half_precision(shape: Architecture, pixels: Pixels) -> None:
    side = 4 if shape == FAST else 2
    form = FrameFormat(height=18 * side, width=30 * side, pixels=pixels)
    # Behind its first convolution a network is the same for both; `paper` takes ten times as long a pixel.
    step = {("fast", "i420"): 1, ("fast", "rgb"): 4, ("paper", "i420"): 4, ("paper", "rgb"): 8}[shape.name, pixels]
    check_gallery(form, style_names(shape.name)[::step])


def test_the_larger_numbers_of_a_speck_grow_with_the_root_of_the_pixels() -> None:
    # This is why the gate may look at small frames.
    largest = {}
    for side in (1, 2, 4):
        form = FrameFormat(height=48 * side, width=80 * side, pixels="rgb")
        for name, rgb in hard_frames(form.size, "black dot", "china").items():
            pair = Pair(first_style("fast"), form)
            pair.paint((rgb,))
            largest[name, side] = pair.largest
    assert largest["china", 4] < 1.5 * largest["china", 1]
    for side in (2, 4):
        assert 0.5 * side < largest["black dot", side] / largest["black dot", 1] < 1.2 * side


# The check


@BOTH
def test_a_shipped_style_passes_the_check(shape: Architecture) -> None:
    result = check_fidelity([first_style(shape.name)], HD)
    assert result.worst >= 48
    assert result.worst == min(value for row in result.psnr.values() for value in row.values())
    assert result.psnr[result.worst_frame] == {result.worst_style: result.worst}
    assert {"black", "white", "checkerboard", "speck"} < set(result.psnr)
    assert sum(frame.endswith(".jpg") for frame in result.psnr) == 6
    assert result.runs == 10
    assert 0 < result.largest < LARGEST_HALF / 4
    assert result.size[0] < 200 and abs(result.size[1] / result.size[0] - 16 / 9) < 0.1
    assert result.seconds > 0
    json.dumps(asdict(result))


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_frames_have_the_layout_of_the_engine_and_are_not_made_larger(pixels: Pixels) -> None:
    form = FrameFormat(height=21, width=50, pixels=pixels, matrix="bt601", full_range=True)
    result = check_fidelity([first_style("fast")], form)
    assert result.size == form.size
    assert result.worst >= 48


def test_many_styles_see_two_frames_each() -> None:
    result = check_fidelity([replace(first_style("fast"), name=f"style {i}") for i in range(40)], SMALL)
    assert result.runs == 80
    assert len(result.psnr["speck"]) == 40
    assert sum(len(row) for frame, row in result.psnr.items() if frame.endswith(".jpg")) == 40
    assert len(result.psnr) == 7  # the photos take turns


@BOTH
@pytest.mark.parametrize("factor", [100, 10000])
def test_absurd_numbers_are_stopped(shape: Architecture, factor: float, tmp_path: Path) -> None:
    good, path = first_style(shape.name), tmp_path / "absurd.safetensors"
    weights = {n: w * np.float32(factor) for n, w in good.network.weights.items() if n.endswith(".weight")}
    other(good, "absurd", **weights).save(path)
    for absurd in (Style.load(path), other(good, "absurd", good.vector * factor)):
        with pytest.raises(BadModel, match="style 'absurd' .*65504.*--precision fp32"):
            check_fidelity([good, absurd], HD)


def test_numbers_that_are_none_are_stopped() -> None:
    good = first_style("fast")
    nan = np.where(np.arange(good.vector.size) == 7, np.nan, good.vector)
    large = good.network.weights["stem.weight"] * np.float32(1e6)
    for odd, words in (
        (other(good, "odd", nan), "style 'odd' holds numbers that are not finite"),
        (other(good, "odd", **{"out.bias": np.full(3, np.inf, np.float32)}), "'out.bias' of style 'odd' .* not finite"),
        (other(good, "odd", **{"stem.weight": large}), "'stem.weight' of .*16376 is the most .*--precision fp32"),
    ):
        with pytest.raises(BadModel, match=words):
            check_fidelity([good, odd], SMALL)
    with pytest.raises(BadOption, match="there is no style to check"):
        check_fidelity([], SMALL)


def test_a_picture_that_is_lost_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp16_check, "MIN_PSNR", 80.0)
    style = first_style("fast")
    with pytest.raises(
        BadModel, match=rf"style '{style.name}' .*frame '.*' has \d\d\.\d dB.*80 is the least.*--precision fp32"
    ):
        check_fidelity([style], SMALL)


def test_the_largest_size_counts_where_there_are_several() -> None:
    styles = [first_style("fast")]
    small, large = check_fidelity(styles, SMALL), check_fidelity(styles, SMALL, largest=(4320, 7680))
    assert large.psnr == small.psnr
    assert small.largest < large.largest < LARGEST_HALF


def test_without_onnx_runtime_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "vidstyle.backends.onnxruntime")
    with pytest.raises(MissingDependency, match=r"pip install 'vidstyle\[onnxruntime\]'.*--precision fp32"):
        check_fidelity([first_style("fast")], SMALL)
