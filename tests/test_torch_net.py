"""The torch network against a plain reading of its description."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import seeded_network
from torch import Tensor
from torch.nn import functional

from vidstyle.models.architecture import FAST, NORM_EPSILON, PAPER, Architecture, Conv, Network
from vidstyle.models.torch_net import TransformNet, _norm

BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))


def plainly(network: Network, rgb: Tensor, style: Tensor) -> Tensor:
    """The network as `vidstyle.models.architecture` words it, in float64, one operation after the other."""
    shape = network.architecture
    values = iter(torch.split(style.double(), [conv.outputs for conv in shape.normalised for _ in range(2)]))
    affine = {conv: (next(values), next(values)) for conv in shape.normalised}

    def convolved(conv: Conv, x: Tensor) -> Tensor:
        weight = torch.from_numpy(network.weights[f"{conv.name}.weight"]).double()
        bias = torch.from_numpy(network.weights[f"{conv.name}.bias"]).double()
        radius = conv.kernel // 2
        if conv.upsample == 1:
            return functional.conv2d(functional.pad(x, (radius,) * 4, mode="reflect"), weight, bias, conv.stride)
        rows, columns = (side * conv.upsample for side in x.shape[2:])
        x = functional.pad(x, (1,) * 4, mode="reflect").repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = functional.conv2d(x, weight, bias)
        extra = (x.shape[2] - rows) // 2
        return x[:, :, extra : extra + rows, extra : extra + columns]

    def normed(conv: Conv, x: Tensor) -> Tensor:
        x = convolved(conv, x)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        scale, shift = (value[:, None, None] for value in affine[conv])
        return (x - mean) / (variance + NORM_EPSILON).sqrt() * scale + shift

    x = functional.pixel_unshuffle(rgb.double(), shape.unshuffle)
    for conv in shape.down:
        x = normed(conv, x).relu()
    for first, second in shape.residual:
        x = x + normed(second, normed(first, x).relu())
    for conv in shape.up:
        x = normed(conv, x).relu()
    return convolved(shape.out, x).sigmoid()


@BOTH
def test_the_network_is_the_one_described(shape: Architecture) -> None:
    network = seeded_network(shape)
    rgb = torch.rand(1, 3, 36, 44, generator=torch.Generator().manual_seed(1))
    style = torch.from_numpy(network.start)
    with torch.no_grad():
        result = TransformNet.from_network(network)(rgb, style)
        torch.testing.assert_close(result, plainly(network, rgb, style).float(), atol=2e-3, rtol=0)


@BOTH
def test_it_has_exactly_the_parameters_of_its_architecture(shape: Architecture) -> None:
    count = sum(parameter.numel() for parameter in TransformNet(shape).parameters())
    assert count + shape.style_size == shape.parameter_count


@BOTH
def test_weights_survive_the_way_there_and_back(shape: Architecture) -> None:
    network = seeded_network(shape)
    weights = TransformNet.from_network(network).weights()
    assert weights.keys() == network.weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, network.weights[name])


def test_every_picture_of_a_batch_may_have_its_own_style() -> None:
    network = seeded_network(FAST)
    net = TransformNet.from_network(network)
    rgb = torch.rand(2, 3, 16, 24)
    styles = torch.from_numpy(network.start) * torch.tensor([[1.0], [0.5]])
    with torch.no_grad():
        together = net(rgb, styles)
        for i in range(2):
            torch.testing.assert_close(together[i : i + 1], net(rgb[i : i + 1], styles[i]), atol=1e-4, rtol=0)
    assert together.shape == rgb.shape
    assert together.min() > 0 and together.max() < 1


def test_the_loss_reaches_every_weight_and_the_style() -> None:
    network = seeded_network(FAST)
    net = TransformNet.from_network(network)
    style = torch.from_numpy(network.start.copy()).requires_grad_()
    (net(torch.rand(2, 3, 32, 32), style) ** 2).mean().backward()
    assert style.grad is not None and style.grad.abs().sum() > 0
    weights = [parameter for name, parameter in net.named_weights() if name.endswith("weight")]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


@pytest.mark.parametrize("level", [0.0, 77 / 255, 1.0])
def test_a_flat_frame_is_painted_flat_whatever_its_size(level: float) -> None:
    net = TransformNet.from_network(seeded_network(FAST))
    style = torch.from_numpy(seeded_network(FAST).start)
    with torch.no_grad():
        small = net(torch.full((1, 3, 8, 8), level), style)
        large = net(torch.full((1, 3, 180, 320), level), style)
    assert large.std((2, 3)).max() < 1e-3
    torch.testing.assert_close(large.mean((2, 3)), small.mean((2, 3)), atol=2e-3, rtol=0)


def test_the_instance_norm_has_its_derivatives_to_the_second_order() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_norm, x)
    assert torch.autograd.gradgradcheck(_norm, x)
