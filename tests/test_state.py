"""Norms that remember: the graph against networks whose norms are written out."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from networks import fast_network, photo, planes_from_rgb, seeded_network, worst_psnr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.backends.torch.reference import _planes_from_rgb, _rgb_from_planes
from vidstyle.frame import FrameForm, Pixels, Planes
from vidstyle.graph import GraphPrecision, onnx_from_network
from vidstyle.model import TransformNet
from vidstyle.networks import FAST, NORM_EPSILON, PAPER, Architecture, Conv, Network

BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
SIZE = (72, 100)
State = NDArray[np.float32]


class Remembering:
    """The network in float64 with all its biases, on frames as they are, with norms that mix their statistics.

    Nothing of `vidstyle.graph` is in it: neither centered frames nor dropped constants.
    """

    def __init__(self, network: Network, form: FrameForm) -> None:
        self.net = TransformNet.from_network(network).double()
        self.form = form
        self.state: dict[Conv, tuple[Tensor, Tensor]] = {}
        self.vector = torch.from_numpy(network.start).double()

    @torch.no_grad()
    def paint(self, planes: Planes, alpha: float) -> Planes:
        rgb = _rgb_from_planes([torch.from_numpy(plane).double() for plane in planes], self.form)
        net, shape = self.net, self.net.shape
        affine = dict(zip(shape.normalised, net._affine(self.vector[None]), strict=True))
        x = functional.pixel_unshuffle(rgb, shape.unshuffle) if shape.unshuffle > 1 else rgb
        for conv in shape.down:
            x = functional.relu(self.norm(conv, x, affine[conv], alpha))
        for first, second in shape.residual:
            y = functional.relu(self.norm(first, x, affine[first], alpha))
            x = x + self.norm(second, y, affine[second], alpha)
        for conv in shape.up:
            x = functional.relu(self.norm(conv, x, affine[conv], alpha))
        painted = torch.sigmoid(net._conv(shape.out, x)) * 255
        results = _planes_from_rgb(painted, self.form)
        return tuple(plane.round().clamp(0, 255).to(torch.uint8).numpy() for plane in results)

    def norm(self, conv: Conv, x: Tensor, affine: tuple[Tensor, Tensor], alpha: float) -> Tensor:
        x = self.net._conv(conv, x)
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        if conv in self.state:
            mean_before, variance_before = self.state[conv]
            mean = alpha * mean_before + (1 - alpha) * mean
            variance = alpha * variance_before + (1 - alpha) * variance
        self.state[conv] = mean, variance
        return (x - mean) / torch.sqrt(variance + NORM_EPSILON) * affine[0] + affine[1]


class Graph:
    """The graph with its state, fed frame by frame, on the CPU."""

    def __init__(
        self, network: Network, form: FrameForm, precision: GraphPrecision = "fp32", *, dynamic: bool = False
    ) -> None:
        self.model = onnx_from_network(network, form, precision=precision, dynamic=dynamic, state=True)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), settings, ["CPUExecutionProvider"])
        self.form = form
        self.style = network.start[None]
        self.state: State = np.zeros((1, network.architecture.style_size), np.float32)

    def paint(self, planes: Planes, alpha: float) -> Planes:
        ports = self.session.get_inputs()
        last = (self.state, np.array([alpha], np.float32))
        feed = {ports[0].name: self.style}
        for port, plane in zip(ports[1:-2], planes, strict=True):
            interleaved = port.shape[-1] in (2, 3) and plane.ndim == 3
            feed[port.name] = plane[None] if interleaved else plane[None, None]
        feed |= {port.name: value for port, value in zip(ports[-2:], last, strict=True)}
        *results, self.state = self.session.run(None, feed)
        return tuple(result.reshape(shape) for result, shape in zip(results, self.form.plane_shapes, strict=True))


def brightening(size: tuple[int, int], frames: int = 4) -> list[NDArray[np.uint8]]:
    """A photo that pans, and turns brighter and redder."""
    wide = photo("astronaut", (size[0], size[1] + 8 * frames)).astype(np.float32)
    light = [np.array([0.6 + 0.1 * i, 0.6 + 0.06 * i, 0.6 + 0.04 * i]) for i in range(frames)]
    return [(wide[:, 8 * i : 8 * i + size[1]] * light[i]).astype(np.uint8) for i in range(frames)]


@BOTH
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_the_graph_paints_what_a_network_with_mixed_statistics_paints(
    shape: Architecture, pixels: Pixels, alpha: float
) -> None:
    network = seeded_network(shape) if shape is PAPER else fast_network()
    form = FrameForm(height=SIZE[0], width=SIZE[1], pixels=pixels)
    graph, reference = Graph(network, form), Remembering(network, form)
    for i, rgb in enumerate(brightening(SIZE)):
        planes = planes_from_rgb(rgb, form)
        share = alpha if i else 0.0
        assert worst_psnr(graph.paint(planes, share), reference.paint(planes, share)) >= 45
