"""The ONNX graph of a network: 8-bit pixels and a style in, 8-bit pixels out.

A style is a vector and the weights of every convolution. All are inputs of the graph, so that one compiled
graph plays every style of an architecture; or the weights are constants, and it plays one network.

Everything between the pixels is inside, so that an inference library fuses it: the color conversion,
the scaling, the padding to the network's multiple (edge pixels repeated at the bottom and on the right)
and the cropping back, the rounding and the clipping.

Chroma of 4:2:0 frames: on the way in a chroma sample stands for its 2x2 luma pixels (nearest), on the
way out it is the mean of the four. That is centre siting, as in JPEG and MPEG-1; the two directions
are each other's inverse, so a frame of another siting keeps its own. Colors outside of the RGB cube
are not clipped on the way in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from vidstyle.frame import FrameFormat
from vidstyle.graph.fold import cell_of, folded_weights
from vidstyle.graph.layers import rgb_from_phases
from vidstyle.graph.pixels import centered, identity, phases_from_planes, planes_from_rgb
from vidstyle.graph.quantize import Quantizer, Ranges, quantized_names
from vidstyle.graph.winograd import Lanes, lane_axis
from vidstyle.graph.writer import GraphPrecision, GraphWriter
from vidstyle.models.architecture import MULTIPLE_OF, Architecture, Network

Body = Literal["network", "identity"]

__all__ = ["Body", "GraphPrecision", "Ranges", "onnx_from_network", "style_tensors", "winograd_axis"]


def onnx_from_network(
    network: Network | Architecture,
    form: FrameFormat,
    *,
    precision: GraphPrecision = "fp32",
    body: Body = "network",
    dynamic: bool = False,
    winograd: bool = False,
    ranges: Ranges | None = None,
) -> onnx.ModelProto:
    """The graph of ``network`` for frames of ``form``; the same bytes for the same arguments.

    Inputs: ``style``, float32 (1, P), the style vector; the planes as uint8: ``frame`` (1, H, W, 3) for rgb;
    ``y`` (1, 1, H, W) with ``u`` and ``v`` (1, 1, ceil(H/2), ceil(W/2)) for i420, or with ``uv``
    (1, ceil(H/2), ceil(W/2), 2) for nv12. Outputs: the same planes, called ``frame_out``, ``y_out`` ...
    With an `Architecture` in place of a network its weights are float32 inputs too, behind the planes;
    `style_tensors` computes them.
    ``precision`` is that of the arithmetic; the statistics of the instance norms are always float32.
    With an ``identity`` body the network is left out: what remains is the color conversion.

    A ``dynamic`` graph takes frames of any size whose sides are multiples of 4 and at least 8, whatever
    the size of ``form``: it neither pads nor crops. Its sides are the dimensions called ``height`` and
    ``width``, and of chroma planes ``chroma_height`` and ``chroma_width``, half of those.

    With ``winograd`` the residual blocks take half the multiplications, where the size allows (`winograd_axis`). That
    pays in libraries that fuse sums of many tensors and have no such algorithm of their own, and in float32 alone.

    With ``ranges`` the convolutions of ``network`` but the first and the last compute in 8-bit integers, see
    `vidstyle.graph.quantize`; the network is then a `Network`. Without any range in it, the graph is the float one and
    has what measures them as further outputs: ``NAME.low`` and ``NAME.high``, float32 (C,), of this one frame.
    """
    shape = network if isinstance(network, Architecture) else network.architecture
    axis = winograd_axis(shape, form) if winograd and not dynamic else None
    writer = GraphWriter(precision)
    style = writer.input("style", onnx.TensorProto.FLOAT, (1, shape.style_size))
    size = None if dynamic else shape.padded_size(form.size)
    # Pixels are taken by cells: each pixel of a cell is a channel of a smaller picture, a *phase*.
    cell = cell_of(shape)
    phases = phases_from_planes(writer, form, size, cell)
    if body == "network":
        pixels, quantizer = centered(writer, phases, form, cell), None
        if ranges is not None and isinstance(network, Network):
            quantizer = Quantizer(writer, folded_weights(network, form), ranges or None)
        weights = _weights(writer, network, form, axis, () if quantizer is None else quantized_names(shape))
        lanes = None if axis is None else Lanes(writer, axis, _trunk_size(shape, form))
        rgb = rgb_from_phases(writer, shape, pixels, style, weights, form, cell, lanes=lanes, quantizer=quantizer)
        if quantizer is not None:
            quantizer.observe()
    else:
        rgb = identity(writer, phases, form, cell)
    planes_from_rgb(writer, rgb, form, size, cell)
    facts = {
        "vidstyle.network": shape.name,
        "vidstyle.digest": "" if isinstance(network, Architecture) else network.digest,
        "vidstyle.size": "dynamic" if dynamic else f"{form.width}x{form.height}",
        "vidstyle.pixels": form.pixels,
        "vidstyle.matrix": form.matrix,
        "vidstyle.range": "full" if form.full_range else "limited",
        "vidstyle.precision": precision,
        "vidstyle.body": body,
    }
    return writer.model(f"vidstyle-{shape.name}", facts)


def style_tensors(network: Network, form: FrameFormat, *, winograd: bool = False) -> dict[str, NDArray[np.float32]]:
    """What the graph of an `Architecture` takes to paint as ``network`` does, by the names of its inputs.

    Linear in the network: the inputs of a blend are the blend of the inputs.
    """
    axis = winograd_axis(network.architecture, form) if winograd else None
    folded = {name: values.astype(np.float32) for name, values in folded_weights(network, form, axis).items()}
    return {"style": network.start[None], **folded}


def winograd_axis(shape: Architecture, form: FrameFormat) -> int | None:
    """The axis of NCHW along which a graph with ``winograd`` saves multiplications; None where it saves none."""
    return lane_axis(_trunk_size(shape, form))


def _trunk_size(shape: Architecture, form: FrameFormat) -> tuple[int, int]:
    """Size of the pictures in the residual blocks."""
    height, width = shape.padded_size(form.size)
    return height // MULTIPLE_OF, width // MULTIPLE_OF


def _weights(
    w: GraphWriter, network: Network | Architecture, form: FrameFormat, axis: int | None, but: Collection[str]
) -> dict[str, str]:
    """Names of the tensors that the convolutions take, by the names of `folded_weights`; not of those in ``but``."""
    if isinstance(network, Network):
        folded = folded_weights(network, form, axis)
        return {name: w.floats(values) for name, values in folded.items() if name.removesuffix(".weight") not in but}
    folded = folded_weights(Network.blank(network), form, axis)
    return {name: w.rounded(w.input(name, onnx.TensorProto.FLOAT, values.shape)) for name, values in folded.items()}
