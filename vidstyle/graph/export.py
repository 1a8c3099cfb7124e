"""A network as an ONNX graph for other programs: float RGB in, float RGB out, the style inside."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from vidstyle.frame import FrameFormat
from vidstyle.graph.fold import cell_of, folded_weights
from vidstyle.graph.layers import rgb_from_phases
from vidstyle.graph.pixels import SIDES, Sides, Size, centered
from vidstyle.graph.writer import GraphWriter
from vidstyle.models.architecture import MULTIPLE_OF, SMALLEST_SIDE, Network

INPUT, OUTPUT = "image", "painted"


def float_onnx_from_network(network: Network, size: Size | None = None) -> onnx.ModelProto:
    """The graph of ``network`` with its start vector; the same bytes for the same arguments.

    Input ``image`` and output ``painted``: float32 RGB in [0, 1], (1, 3, H, W). ``size`` is (H, W); with None the
    graph takes pictures of every size from 8x8 on. Sides that are no multiples of 4 are padded inside, edge pixels
    repeated, and cropped back.
    """
    shape = network.architecture
    w, cell = GraphWriter("fp32"), cell_of(shape)
    sides: Sides = SIDES if size is None else size
    height, width = size or (SMALLEST_SIDE, SMALLEST_SIDE)
    form = FrameFormat(height=height, width=width)
    image = w.input(INPUT, TensorProto.FLOAT, (1, 3, *sides))
    if size is None:
        given = w.node("Slice", w.node("Shape", image), w.integers(2), w.integers(4))
        missing = w.node("Mod", w.node("Neg", given), w.integers(MULTIPLE_OF))
    else:
        given = w.integers(*size)
        missing = w.integers(*(to - side for to, side in zip(shape.padded_size(size), size, strict=True)))
    pads = w.node("Concat", w.integers(0, 0, 0, 0, 0, 0), missing, axis=0)
    padded = w.node("Pad", w.node("Mul", image, w.number(255.0)), pads, mode="edge")
    colors = w.node("SpaceToDepth", w.node("Transpose", padded, perm=[1, 0, 2, 3]), blocksize=cell)
    phases = centered(w, w.node("Reshape", colors, w.integers(1, 3 * cell**2, 0, 0)), form, cell)
    weights = {name: w.floats(values) for name, values in folded_weights(network, form).items()}
    style = w.floats(network.start[None].astype("float64"))
    rgb = rgb_from_phases(w, shape, phases, style, weights, form, cell)
    painted = w.node("DepthToSpace", rgb, blocksize=cell, mode="CRD")
    cropped = w.node("Slice", painted, w.integers(0, 0), given, w.integers(2, 3))
    w.float_output(cropped, OUTPUT, (1, 3, *sides))
    facts = {
        "vidstyle.network": shape.name,
        "vidstyle.digest": network.digest,
        "vidstyle.size": "dynamic" if size is None else f"{size[1]}x{size[0]}",
    }
    return w.model(f"vidstyle-{shape.name}", facts)
