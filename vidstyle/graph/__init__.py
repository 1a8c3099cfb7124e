"""The ONNX graph of a network: 8-bit pixels and a style vector in, 8-bit pixels out.

Everything between the pixels is inside, so that an inference library fuses it: the color conversion,
the scaling, the padding to the network's multiple (edge pixels repeated at the bottom and on the right)
and the cropping back, the rounding and the clipping.

Chroma of 4:2:0 frames: on the way in a chroma sample stands for its 2x2 luma pixels (nearest), on the
way out it is the mean of the four. That is centre siting, as in JPEG and MPEG-1; the two directions
are each other's inverse, so a frame of another siting keeps its own. Colors outside of the RGB cube
are not clipped on the way in.
"""

from __future__ import annotations

from typing import Literal

import onnx

from vidstyle.frame import FrameForm
from vidstyle.graph.layers import rgb_from_phases
from vidstyle.graph.pixels import centered, identity, phases_from_planes, planes_from_rgb
from vidstyle.graph.writer import GraphPrecision, GraphWriter
from vidstyle.networks import Network

Body = Literal["network", "identity"]

__all__ = ["Body", "GraphPrecision", "onnx_from_network"]


def onnx_from_network(
    network: Network,
    form: FrameForm,
    *,
    precision: GraphPrecision = "fp32",
    body: Body = "network",
    dynamic: bool = False,
) -> onnx.ModelProto:
    """The graph of ``network`` for frames of ``form``; the same bytes for the same arguments.

    Inputs: ``style``, float32 (1, P), and the planes as uint8: ``frame`` (1, H, W, 3) for rgb; ``y``
    (1, 1, H, W) with ``u`` and ``v`` (1, 1, ceil(H/2), ceil(W/2)) for i420, or with ``uv``
    (1, ceil(H/2), ceil(W/2), 2) for nv12. Outputs: the same planes, called ``frame_out``, ``y_out`` ...
    ``precision`` is that of the arithmetic; the statistics of the instance norms are always float32.
    With an ``identity`` body the network is left out: what remains is the color conversion.

    A ``dynamic`` graph takes frames of any size whose sides are multiples of 4 and at least 8, whatever
    the size of ``form``: it neither pads nor crops. Its sides are the dimensions called ``height`` and
    ``width``, and of chroma planes ``chroma_height`` and ``chroma_width``, half of those.
    """
    shape = network.architecture
    writer = GraphWriter(precision)
    style = writer.input("style", onnx.TensorProto.FLOAT, (1, shape.style_size))
    size = None if dynamic else shape.padded_size(form.size)
    # Pixels are taken by cells: each pixel of a cell is a channel of a smaller picture, a *phase*.
    cell = 4 if shape.unshuffle == 4 else 2
    phases = phases_from_planes(writer, form, size, cell)
    if body == "network":
        rgb = rgb_from_phases(writer, network, centered(writer, phases, form, cell), style, form, cell)
    else:
        rgb = identity(writer, phases, form, cell)
    planes_from_rgb(writer, rgb, form, size, cell)
    facts = {
        "vidstyle.network": shape.name,
        "vidstyle.digest": network.digest,
        "vidstyle.size": "dynamic" if dynamic else f"{form.width}x{form.height}",
        "vidstyle.pixels": form.pixels,
        "vidstyle.matrix": form.matrix,
        "vidstyle.range": "full" if form.full_range else "limited",
        "vidstyle.precision": precision,
        "vidstyle.body": body,
    }
    return writer.model(f"vidstyle-{shape.name}", facts)
