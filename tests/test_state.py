"""Norms that remember: the graph against networks whose norms are written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import fast_network, flat, noise, photo, planes_from_rgb, psnr, seeded_network, worst_psnr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.backends import open_backend
from vidstyle.backends.base import Pending, Program
from vidstyle.backends.remembered import norm_inputs
from vidstyle.backends.torch.reference import _planes_from_rgb, _rgb_from_planes
from vidstyle.errors import BadOption
from vidstyle.frame import FrameForm, Pixels, Planes
from vidstyle.graph import GraphPrecision, onnx_from_network
from vidstyle.model import TransformNet
from vidstyle.networks import FAST, NORM_EPSILON, PAPER, Architecture, Conv, Network
from vidstyle.options import BackendName, BackendOptions, SmoothOptions
from vidstyle.stylize import Stylizer

BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
SIZE = (48, 68)
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
        self.lowest = 1.0

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
            share = alpha * likeness(mean_before, variance_before, mean, variance)
            self.lowest = min(self.lowest, float(share.min()))
            mean = share * mean_before + (1 - share) * mean
            variance = share * variance_before + (1 - share) * variance
        self.state[conv] = mean, variance
        return (x - mean) / torch.sqrt(variance + NORM_EPSILON) * affine[0] + affine[1]


def likeness(mean_before: Tensor, variance_before: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """1 where a channel shows what it showed before, 0 where it shows something else or nothing."""
    a, b = variance_before + NORM_EPSILON, variance + NORM_EPSILON
    ratio = torch.minimum(a / b, b / a)
    deviations = (mean_before - mean).abs() / b.sqrt()
    factors = (8 * ratio - 1, 2 - deviations / 2, 60 * b - 1)
    return torch.stack([factor.clamp(0, 1) for factor in factors]).prod(0)


class Graph:
    """The graph with its state, fed frame by frame, on the CPU."""

    def __init__(
        self, network: Network, form: FrameForm, precision: GraphPrecision = "fp32", *, dynamic: bool = False
    ) -> None:
        self.model = onnx_from_network(network, form, precision=precision, dynamic=dynamic, state=True)
        self.session = session_of(self.model)
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


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])


def brightening(size: tuple[int, int], frames: int = 4, step: float = 0.2, pan: int = 8) -> list[NDArray[np.uint8]]:
    """A photo that pans, and turns brighter and redder."""
    wide = photo("astronaut", (size[0], size[1] + pan * frames)).astype(np.float32)
    light = [0.4 + step * i * np.array([1.0, 0.6, 0.4]) for i in range(frames)]
    return [np.clip(wide[:, pan * i :][:, : size[1]] * light[i], 0, 255).astype(np.uint8) for i in range(frames)]


@BOTH
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_the_graph_paints_what_a_network_with_mixed_statistics_paints(
    shape: Architecture, pixels: Pixels, alpha: float
) -> None:
    network = seeded_network(shape) if shape is PAPER else fast_network()
    form = FrameForm(height=SIZE[0], width=SIZE[1], pixels=pixels, matrix="bt601")
    graph, reference, alone = (Graph(network, form), Remembering(network, form), Remembering(network, form))
    for i, rgb in enumerate(brightening(SIZE)):
        planes = planes_from_rgb(rgb, form)
        share = alpha if i else 0.0
        painted = graph.paint(planes, share)
        assert worst_psnr(painted, reference.paint(planes, share)) >= 55
        if i:  # and that is something else
            assert worst_psnr(painted, alone.paint(planes, 0.0)) < 45


def test_where_light_changes_gently_every_channel_takes_the_whole_share() -> None:
    form = FrameForm(height=SIZE[0], width=SIZE[1])
    graph, reference = Graph(fast_network(), form), Remembering(fast_network(), form)
    for i, rgb in enumerate(brightening(SIZE, 6, 0.03, 2)):
        assert worst_psnr(graph.paint((rgb,), 0.8 * (i > 0)), reference.paint((rgb,), 0.8 * (i > 0))) >= 55
    assert reference.lowest == 0.8


@BOTH
@pytest.mark.parametrize("dynamic", [False, True])
def test_in_half_precision_and_at_any_size_it_is_the_same_picture(shape: Architecture, dynamic: bool) -> None:
    form = FrameForm(height=SIZE[0], width=SIZE[1], pixels="i420")
    network = seeded_network(shape)
    graph, reference = Graph(network, form, "fp16", dynamic=dynamic), Remembering(network, form)
    onnx.checker.check_model(graph.model, full_check=True)
    for i, rgb in enumerate(brightening(SIZE)):
        planes = planes_from_rgb(rgb, form)
        assert worst_psnr(graph.paint(planes, 0.8 * (i > 0)), reference.paint(planes, 0.8 * (i > 0))) >= 50


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_without_weight_the_state_changes_not_one_bit(shape: Architecture, precision: GraphPrecision) -> None:
    form = FrameForm(height=44, width=61, pixels="i420")
    network = seeded_network(shape)
    graph = Graph(network, form, precision)
    plain = session_of(onnx_from_network(network, form, precision=precision))
    for rgb in (*brightening(form.size, 2), flat((9, 200, 60), form.size), noise(form.size)):
        planes = planes_from_rgb(rgb, form)
        feed = [network.start, *planes]
        ports = {port.name: a.reshape(port.shape) for port, a in zip(plain.get_inputs(), feed, strict=True)}
        for expected, found in zip(plain.run(None, ports), graph.paint(planes, 0.0), strict=True):
            np.testing.assert_array_equal(found, expected.reshape(found.shape))


@BOTH
def test_the_state_holds_mean_and_variance_of_every_norm(shape: Architecture) -> None:
    form = FrameForm(height=SIZE[0], width=SIZE[1])
    network = seeded_network(shape)
    graph, reference = Graph(network, form), Remembering(network, form)
    planes = (photo("coffee", SIZE),)
    graph.paint(planes, 0.0)
    reference.paint(planes, 0.0)
    start = 0
    for conv in shape.normalised:
        variance = graph.state[0, start + conv.outputs : start + 2 * conv.outputs]
        np.testing.assert_allclose(variance, reference.state[conv][1].flatten(), rtol=0.01, atol=1e-4)
        if conv is shape.down[0]:  # the others are less than those by constants of the style
            mean = reference.state[conv][0].flatten() - torch.from_numpy(network.weights[f"{conv.name}.bias"])
            np.testing.assert_allclose(graph.state[0, : conv.outputs], mean, atol=2e-3)
        start += 2 * conv.outputs
    assert start == graph.state.size == shape.style_size


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_flat_frames_that_turn_brighter_are_painted_as_if_alone(shape: Architecture, precision: GraphPrecision) -> None:
    # Their variance is 0: each norm would multiply the change of its mean by 316, and what rounding leaves too.
    form = FrameForm(height=40, width=56)
    network = seeded_network(shape)
    graph, alone = Graph(network, form, precision), Graph(network, form, precision)
    for level in (0, 1, 2, 5, 25, 60, 100, 250, 3):
        frame = (flat((level, level // 2, level), form.size),)
        np.testing.assert_array_equal(graph.paint(frame, 0.9)[0], alone.paint(frame, 0.0)[0])
        assert np.isfinite(graph.state).all()


@BOTH
def test_a_scene_after_a_flat_one_is_painted_as_if_alone(shape: Architecture) -> None:
    form = FrameForm(height=40, width=56)
    network = seeded_network(shape)
    graph, alone = Graph(network, form), Graph(network, form)
    for frame in ((photo("coffee", form.size),), (flat((0, 0, 0), form.size),), (photo("china", form.size),)):
        painted = graph.paint(frame, 0.9)
        assert psnr(painted[0], alone.paint(frame, 0.0)[0]) >= 50


# Backends


def remembering_program(form: FrameForm) -> Program:
    network = fast_network()
    return Program(
        network,
        form,
        lambda precision: onnx_from_network(network, form, precision=precision).SerializeToString(),
        lambda: onnx_from_network(network, form, state=True).SerializeToString(),
    )


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_frame_takes_the_state_of_the_frame_in_flight_before(name: BackendName, threads: int) -> None:
    form = FrameForm(height=SIZE[0], width=SIZE[1], pixels="i420")
    frames = [planes_from_rgb(rgb, form) for rgb in brightening(SIZE, 7)]
    style = fast_network().start
    options = BackendOptions(backend=name, precision="fp32", threads=threads)
    with open_backend(remembering_program(form), options) as backend:
        assert backend.remembers
        lag = backend.in_flight
        chains = [Graph(fast_network(), form) for _ in range(lag)]
        pending: list[Pending] = []
        painted = []
        for planes in frames:
            if len(pending) == lag:
                painted.append(pending.pop(0)())
            pending.append(backend.submit(planes, style, kept=0.8))
        painted += [wait() for wait in pending]
        for i, planes in enumerate(frames):
            expected = chains[i % lag].paint(planes, 0.8 if i >= lag else 0.0)
            assert worst_psnr(painted[i], expected) >= 50


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_how_many_frames_are_under_way_changes_nothing(name: BackendName) -> None:
    form = FrameForm(height=SIZE[0], width=SIZE[1])
    style = fast_network().start
    program, options = remembering_program(form), BackendOptions(backend=name, precision="fp32", threads=2)
    frames = brightening(SIZE, 6)
    with open_backend(program, options) as one, open_backend(program, options) as many:
        alone = [one.submit((rgb,), style, kept=0.6)() for rgb in frames]
        first = [many.submit((rgb,), style, kept=0.6) for rgb in frames[: many.in_flight]]
        together = [wait() for wait in first]
        together += [many.submit((rgb,), style, kept=0.6)() for rgb in frames[many.in_flight :]]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def test_a_program_without_memory_says_so() -> None:
    form = FrameForm(height=16, width=16)
    plain = replace(remembering_program(form), state_graph=None)
    black = (np.zeros((16, 16, 3), np.uint8),)
    style = fast_network().start
    for program, kept, message in ((plain, 0.5, "has to be 0"), (remembering_program(form), 1.0, "less than 1")):
        with (
            open_backend(program, BackendOptions(backend="onnxruntime", threads=1)) as backend,
            pytest.raises(BadOption, match=message),
        ):
            backend.submit(black, style, kept=kept)


def test_what_is_no_number_is_not_remembered() -> None:
    state = np.ones((1, 4), np.float32)
    assert norm_inputs(state, 0.5, 4)[0] is state
    state[0, 2] = np.nan
    for found, alpha in (norm_inputs(state, 0.5, 4), norm_inputs(None, 0.5, 4)):
        np.testing.assert_array_equal(found, np.zeros((1, 4)))
        assert alpha == [0]


# A Stylizer


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_norms_alone_change_a_scene_but_not_its_first_frame(name: BackendName) -> None:
    scene, other = brightening(SIZE, 7, 0.05, 0), photo("flower", SIZE)
    backend = BackendOptions(backend=name, precision="fp32", threads=1)
    only_norms = SmoothOptions(strength=0.7, flow=False, norms=True)
    with (
        Stylizer("starry_night", backend=backend) as plain,
        Stylizer("starry_night", backend=backend, smooth=only_norms) as smooth,
    ):
        errors = [psnr(smooth(rgb), plain(rgb)) for rgb in (*scene, other)]
    assert errors[0] >= 60 and errors[-1] >= 60
    assert max(errors[4:7]) < 50
