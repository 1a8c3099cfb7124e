"""Whether a network still paints its picture in FP16: a check to make before an engine is built.

The graph in FP16 runs against the graph in FP32, on ONNX Runtime and on a CPU, on photos and on frames
that are hard for it. `rehearsal` makes a CPU round as a GPU does.

The frames are small. That changes nothing but one thing: where a single speck stands on a flat ground,
an instance norm makes the larger numbers of it the larger the ground is, in proportion to the root of
the number of pixels. The frame with the speck is there for this, and its numbers are scaled up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vidstyle.backends.base import StyleTensors
from vidstyle.data import PHOTO_PATHS
from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.frame import FrameFormat, Planes, yuv_from_rgb
from vidstyle.graph import onnx_from_network, style_tensors
from vidstyle.imaging.image_io import read_still
from vidstyle.models.architecture import MULTIPLE_OF, SMALLEST_SIDE, Architecture
from vidstyle.models.style import Style

MIN_PSNR = 40.0
"""In dB, of the worst plane. The shipped styles have 48 and more: a flat frame that comes out one level
off everywhere has 48.1."""
LARGEST_HALF = 65504.0
"""FP16 knows no larger number."""
FLOPS = 1e9
"""Cost of one run of the network, by which the size of the frames is chosen."""
RUNS = 30
"""Runs that are made in all, about: with more styles each one gets fewer frames, but never less than two."""
SPECK = "speck"
MAGNITUDES = "magnitudes"
"""Output of a rehearsal: float32 (N,), the largest absolute result of every rounded node, before the rounding."""

_NODES = "vidstyle.rounded"
_EXACT = {
    *("Clip", "Concat", "DepthToSpace", "Identity", "Max", "Min", "Neg", "Pad", "Relu", "Reshape", "Round", "Slice"),
    *("SpaceToDepth", "Split", "Transpose"),
}
"""They give back numbers that they were given, or whole ones: nothing to round."""

U8 = NDArray[np.uint8]
Size = tuple[int, int]
Run = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """The measures of a graph that passed."""

    worst: float
    """The least PSNR of all, in dB; infinite where FP16 and FP32 paint the very same pixels."""
    worst_style: str
    worst_frame: str
    psnr: dict[str, dict[str, float]]
    """PSNR in dB by frame and then by style; not every style sees every frame."""
    largest: float
    """The largest number inside of the network at full size; FP16 ends at 65504."""
    size: Size
    """``(height, width)`` of the frames."""
    seconds: float

    @property
    def runs(self) -> int:
        """How many pairs of pictures were compared."""
        return sum(len(styles) for styles in self.psnr.values())


def check_fidelity(styles: Sequence[Style], form: FrameFormat, *, largest: Size | None = None) -> Fidelity:
    """Compare the network of ``styles`` in FP16 with itself in FP32 on frames like ``form``, in every one of them.

    Every style is tried on two frames at least, and few ones on ten. ``largest`` is the ``(height, width)`` of the
    largest frames, if those of ``form`` are not. Raises `BadModel` where FP16 overflows or a frame has less than
    `MIN_PSNR`, and `MissingDependency` without ONNX Runtime.
    """
    began = time.perf_counter()
    if not styles:
        raise BadOption("there is no style to check in FP16; give one at least")
    for style in styles:
        _check_numbers(style)
    shape, by_name = styles[0].architecture, {style.name: style for style in styles}
    full = largest or form.size
    form = form.resized(_small(form.size, shape))
    exact, half, names = _open(shape, form)
    tensors = StyleTensors(shape, lambda network: style_tensors(network, form))
    frames = {name: _planes(picture, form) for name, picture in _pictures(form.size).items()}
    growth = max(1.0, math.sqrt(math.prod(full) / math.prod(form.size)))
    psnr: dict[str, dict[str, float]] = {}
    reached = 0.0
    for name, frame in _plan(list(by_name), list(frames)):
        vector, *weights = tensors.views(tensors.block(by_name[name])).values()
        inputs: list[NDArray[Any]] = [vector, *frames[frame], *weights]
        expected, (*found, magnitudes) = exact(inputs), half(inputs)
        magnitudes = magnitudes * (growth if frame == SPECK else 1.0)
        over = np.flatnonzero(~(magnitudes <= LARGEST_HALF))  # what is not a number is not below anything
        if over.size:
            size = "" if frame != SPECK else f", at {full[1]}x{full[0]}"
            raise BadModel(
                f"style {name!r} overflows in FP16: node {names[over[0]]} reaches {magnitudes[over[0]]:.3g} on frame "
                f"{frame!r}{size}, and FP16 ends at {LARGEST_HALF:.0f}; build the engine with --precision fp32"
            )
        value = min(_psnr(a, b) for a, b in zip(expected, found, strict=True))
        if value < MIN_PSNR:
            raise BadModel(
                f"style {name!r} does not keep its picture in FP16: frame {frame!r} has {value:.1f} dB against FP32, "
                f"and {MIN_PSNR:g} is the least; build the engine with --precision fp32"
            )
        psnr.setdefault(frame, {})[name] = value
        reached = max(reached, float(magnitudes.max()))
    worst, frame, name = min((value, frame, name) for frame, row in psnr.items() for name, value in row.items())
    return Fidelity(
        worst=worst,
        worst_style=name,
        worst_frame=frame,
        psnr=psnr,
        largest=reached,
        size=form.size,
        seconds=time.perf_counter() - began,
    )


def _check_numbers(style: Style) -> None:
    """Refuse what is not finite, or no longer is after it has been written down in FP16."""
    numbers = [(f"style {style.name!r}", style.vector, LARGEST_HALF)]
    for name, weight in style.network.weights.items():
        # Four weights at most are added up.
        numbers.append((f"weight {name!r} of style {style.name!r}", weight, LARGEST_HALF / 4))
    for what, values, most in numbers:
        if not np.isfinite(values).all():
            raise BadModel(f"{what} holds numbers that are not finite: it is damaged; make it again")
        if (largest := float(np.abs(values).max())) > most:
            raise BadModel(
                f"{what} holds {largest:.3g}, and {most:.0f} is the most for FP16; build the engine with "
                "--precision fp32"
            )


def _small(size: Size, shape: Architecture) -> Size:
    """A size of the same shape at which one run costs `FLOPS`, or ``size`` itself if that is smaller."""
    scale = math.sqrt(FLOPS / shape.flops_per_pixel() / math.prod(size))
    if scale >= 1:
        return size
    height, width = (max(SMALLEST_SIDE, round(side * scale / MULTIPLE_OF) * MULTIPLE_OF) for side in size)
    return height, width


def _open(shape: Architecture, form: FrameFormat) -> tuple[Run, Run, list[str]]:
    """The graph in FP32, the one that rounds as FP16 does, and the names of its rounded nodes."""
    try:
        from vidstyle.backends.onnxruntime import open_on_cpu
    except ImportError as error:
        raise MissingDependency(
            f"FP16 is checked with ONNX Runtime before it is built, which cannot be loaded: {error}; install it "
            "with: pip install 'vidstyle[onnxruntime]', or build with --precision fp32"
        ) from error
    rounded = rehearsal(onnx_from_network(shape, form, precision="fp16"))
    exact = open_on_cpu(onnx_from_network(shape, form).SerializeToString())
    return exact, open_on_cpu(rounded.SerializeToString()), rounded_nodes(rounded)


def _plan(styles: Sequence[str], frames: Sequence[str]) -> list[tuple[str, str]]:
    """Which style is tried on which frame: each begins with another photo, and goes on with what is hard."""
    photos = [frame for frame in frames if frame.endswith(".jpg")]
    hard = [frame for frame in frames if frame not in photos]
    most = max(2, RUNS // len(styles))
    pairs = []
    for i, style in enumerate(styles):
        k = i % len(photos) if photos else 0
        own = [*photos[k:], *photos[:k]]
        pairs += [(style, frame) for frame in [*own[:1], *hard, *own[1:]][:most]]
    return pairs


def _pictures(size: Size) -> dict[str, U8]:
    """RGB of ``size`` by name: what is hard, the hardest first, and the photos."""
    rows, columns = np.indices(size)
    speck = np.full(size, 255)
    speck[size[0] // 2, size[1] // 2] = 0
    gray = {
        SPECK: speck,
        "checkerboard": (rows // 8 + columns // 8) % 2 * 255,
        "black": np.zeros(size),
        "white": np.full(size, 255),
    }
    pictures = {name: np.repeat(picture.astype(np.uint8)[..., None], 3, axis=2) for name, picture in gray.items()}
    for path in PHOTO_PATHS:
        pixels = read_still(path).rgb
        pictures[path.name] = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return pictures


def _planes(rgb: U8, form: FrameFormat) -> Planes:
    if form.pixels == "rgb":
        return (rgb,)
    matrix, offset = yuv_from_rgb(form.matrix, form.full_range)
    yuv = rgb @ matrix.T + offset
    small = cv2.resize(yuv[..., 1:], form.chroma_size[::-1], interpolation=cv2.INTER_AREA)
    y, uv = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (yuv[..., 0], small))
    return (y, uv) if form.pixels == "nv12" else (y, uv[..., 0], uv[..., 1])


def _psnr(first: U8, second: U8) -> float:
    error = float(np.mean((first.astype(np.float32) - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def rehearsal(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 graph that computes what the FP16 graph ``model`` of `vidstyle.graph` says.

    Every FP16 result of ``model`` is rounded to FP16 (to infinity above 65504), as by a GPU that
    computes one node exactly and then rounds; one that fuses nodes rounds less often. Inputs and outputs
    are those of ``model``, and one output more: `MAGNITUDES`.

    ONNX Runtime runs an FP16 graph on a CPU, but in float32: it puts casts around its nodes and takes most
    of them out again, even with its optimizations off, so that 300 * 300 is 90000 there and on a GPU an
    infinity. The casts of a rehearsal stay.
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
