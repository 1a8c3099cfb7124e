"""The convolutions of training are torch's, gradients of both orders too, for a quarter of the multiplications."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import seeded_network
from torch import Tensor
from torch.nn import functional

from vidstyle.models import winograd
from vidstyle.models.architecture import FAST
from vidstyle.models.torch_net import TransformNet
from vidstyle.models.winograd import CHANNELS, SUMS, Winograd, conv2d, supports
from vidstyle.system import on_x86
from vidstyle.training.loss import Perceptual

try:
    from vidstyle import _kernels
except ImportError:
    _kernels = None  # type: ignore[assignment]

needs_kernels = pytest.mark.skipif(_kernels is None, reason="installed without a compiler")
needs_x86 = pytest.mark.skipif(
    _kernels is None or not on_x86(), reason="torch's own convolutions are taken without the kernels, and elsewhere"
)
# Smaller than a tile, whole tiles, some over; more tiles than are worked on at a time.
SIZES = pytest.mark.parametrize("size", [(1, 2), (4, 8), (9, 14), (70, 66)])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few tiles are convolved so, too."""
    monkeypatch.setattr(winograd, "LEAST_TILES", 0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel(out: int, into: int) -> Tensor:
    return random(out, into, 3, 3, seed=1) / (9 * into) ** 0.5


@pytest.mark.usefixtures("small")
@needs_x86
def test_it_is_taken_where_it_is_faster() -> None:
    x, weight, bias = random(1, 16, 6, 6), kernel(16, 16).requires_grad_(), random(16)
    assert supports(weight) and Perceptual()._layers["conv3_1"]._fast and not Perceptual()._layers["conv1_1"]._fast
    assert _way(conv2d(x, weight, bias)) == "_TrainedBackward"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "LEAST_TILES", 5)
        assert _way(conv2d(x, weight, bias)).startswith("ConvolutionBackward"), "four tiles"
    with torch.autocast("cpu", torch.bfloat16):
        assert _way(conv2d(x, weight, bias)).startswith("ConvolutionBackward")


def _way(result: Tensor) -> str:
    assert result.grad_fn is not None
    return result.grad_fn.name()


@needs_x86
@SIZES
@pytest.mark.parametrize(("into", "out"), [(16, 48), (64, 16)])
def test_a_constant_convolution_is_torch_s(size: tuple[int, int], into: int, out: int) -> None:
    x, gate, weight, bias = random(2, into, *size), random(2, into, *size, seed=2), kernel(out, into), random(out)
    convolve = Winograd(weight)
    exact = functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    gated = functional.conv2d((x * (gate > 0)).double(), weight.double(), padding=1)
    for found, expected in (
        (convolve(x, bias), exact),
        (convolve(x, bias, relu=True), exact.relu()),
        (convolve(x, gate=gate), gated),
    ):
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("small")
@needs_x86
@SIZES
def test_a_trained_convolution_and_its_gradients_are_torch_s(size: tuple[int, int]) -> None:
    height, width = size
    inputs = [random(2, 32, height + 2, width + 2), kernel(16, 32), random(16)]
    down = random(2, 16, height, width, seed=3)

    def results(convolve: Any, dtype: torch.dtype) -> list[Tensor]:
        arguments = [t.to(dtype).requires_grad_() for t in inputs]
        y = convolve(*arguments)
        return [y.detach(), *torch.autograd.grad(y, arguments, down.to(dtype))]

    for found, expected in zip(results(conv2d, torch.float32), results(functional.conv2d, torch.float64), strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.usefixtures("small")
@needs_x86
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 2), (1, 2)])
def test_any_part_of_its_gradient_can_be_had_of_any_memory(wanted: tuple[int, ...]) -> None:
    """Of a gradient without memory of its own, within autocast, as `backward` may be called there."""
    inputs = [random(2, 24, 16, 14)[:, :16], kernel(32, 16), random(1).expand(32)]
    for number in wanted:
        inputs[number].requires_grad_()
    found, expected = (
        torch.autograd.grad(convolve(*inputs).sum(), [inputs[number] for number in wanted])
        for convolve in (conv2d, functional.conv2d)
    )
    result = conv2d(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        within = torch.autograd.grad(result.sum(), [inputs[number] for number in wanted])
    for a, b, c in zip(found, within, expected, strict=True):
        torch.testing.assert_close(a, c, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(b, c, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("small")
def test_nothing_is_convolved_as_torch_does_it() -> None:
    empty = conv2d(torch.zeros(0, 16, 8, 8), kernel(16, 16).requires_grad_(), random(16))
    assert empty.shape == (0, 16, 6, 6)
    meta = conv2d(*(t.to("meta") for t in (random(1, 16, 8, 8), kernel(16, 16), random(16))))
    assert meta.shape == (1, 16, 6, 6)


@pytest.mark.usefixtures("small")
@needs_x86
def test_its_gradient_can_be_differentiated() -> None:
    def second(convolve: Any) -> list[Tensor]:
        x, weight, bias = (
            random(1, 16, 9, 8).requires_grad_(),
            kernel(32, 16).requires_grad_(),
            random(32).requires_grad_(),
        )
        first = torch.autograd.grad(convolve(x, weight, bias).sin().sum(), (x, weight, bias), create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, bias)))

    for found, expected in zip(second(conv2d), second(functional.conv2d), strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()


@needs_x86
@pytest.mark.parametrize("level", _kernels.levels() if _kernels else ())
@pytest.mark.parametrize("threads", [1, 3])
def test_every_instruction_set_and_any_threads_give_the_same(level: str, threads: int) -> None:
    pictures, gate = (random(2, 9, 14, 32, seed=seed).numpy() for seed in (0, 1))
    products = random(SUMS, 24, 32).numpy()

    def results(*how: Any) -> list[np.ndarray[Any, Any]]:
        sums, spread, back = np.empty_like(products), np.empty_like(products), np.empty_like(pictures)
        _kernels.source_tiles(pictures, gate, 1, 0, sums, *how)
        _kernels.spread_tiles(pictures, 0, spread, *how)
        _kernels.result_tiles(products, None, False, 0, back, *how)
        return [sums, spread, back]

    for found, expected in zip(results(threads, level), results(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_x86
def test_what_is_no_number_stays_none() -> None:
    """A loss that has become NaN must be seen as one: a ReLU does not make 0 of it."""
    x, convolve = random(1, 16, 8, 8), Winograd(kernel(16, 16))
    x[0, 3, 2, 2] = torch.nan
    assert convolve(x, relu=True).isnan().any()
    assert not convolve(torch.ones_like(x), gate=x.abs() * 0).equal(torch.zeros_like(x))  # as torch's ReLU lets it pass


@pytest.mark.usefixtures("small")
@needs_x86
def test_the_loss_has_the_gradient_that_it_has_in_float64() -> None:
    """Of a squared distance between the features of two pictures, one of odd sides."""
    painted, photo = (torch.rand(2, 3, 50, 39, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        perceptual, rgb = Perceptual(dtype), painted.to(dtype).requires_grad_()
        pairs = zip(perceptual.features(rgb), perceptual.features(photo.to(dtype)), strict=True)
        loss = sum((a - b).square().mean() / b.square().mean() for a, b in pairs)
        gradients.append(torch.autograd.grad(loss, rgb)[0].double().flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9999


@pytest.mark.usefixtures("small")
@needs_x86
def test_a_network_paints_the_same_while_it_learns() -> None:
    network = seeded_network(FAST)
    net, style = TransformNet.from_network(network), torch.from_numpy(network.start)
    rgb = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    learning = net(rgb, style)
    with torch.no_grad():
        torch.testing.assert_close(learning, net(rgb, style), atol=2e-4, rtol=0)


def test_without_the_kernels_torch_convolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_has_kernels", lambda: False)
    x, weight, bias = random(1, 16, 6, 6), kernel(16, 16).requires_grad_(), random(16)
    assert not supports(weight)
    assert _way(conv2d(x, weight, bias)).startswith("ConvolutionBackward")


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(16, 16, 5, 5),
        torch.ones(16, 24, 3, 3),
        torch.ones(8, 16, 3, 3),
        torch.ones(16, 16, 3, 3).double(),
        torch.ones(16, 16, 3, 3).bfloat16(),
    ],
    ids=["5x5", "24 inputs", "8 outputs", "float64", "bfloat16"],
)
def test_other_weights_are_left_to_torch(weight: Tensor) -> None:
    assert not supports(weight)
    x = torch.ones(1, weight.shape[1], 8, 8, dtype=weight.dtype)
    assert conv2d(x, weight.requires_grad_(), weight.new_zeros(weight.shape[0])).shape[1] == weight.shape[0]


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


PICTURE, MATRICES = pixels(1, 8, 8, CHANNELS), pixels(SUMS, 4, CHANNELS)


@needs_kernels
@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: _kernels.source_tiles(PICTURE[0], None, 1, 0, MATRICES), "pictures must be of 4 dimensions"),
        (lambda: _kernels.source_tiles(PICTURE.astype(float), None, 1, 0, MATRICES), "must be aligned float32"),
        (lambda: _kernels.source_tiles(PICTURE, pixels(1, 8, 7, CHANNELS), 1, 0, MATRICES), "gate must be of shape"),
        (lambda: _kernels.source_tiles(PICTURE, None, 3, 0, MATRICES), "border must be 0, 1 or 2"),
        (lambda: _kernels.source_tiles(PICTURE[:, :2], None, 0, 0, MATRICES), "as large as the kernel"),
        (lambda: _kernels.source_tiles(PICTURE, None, 1, 1, MATRICES), "first and the number of tiles"),
        (lambda: _kernels.source_tiles(PICTURE, None, 1, -1, MATRICES), "first and the number of tiles"),
        (lambda: _kernels.source_tiles(PICTURE, None, 1, 0, MATRICES[1:]), "sums must be of shape"),
        (lambda: _kernels.source_tiles(PICTURE, None, 1, 0, MATRICES, 0), "threads must be at least 1"),
        (lambda: _kernels.source_tiles(pixels(1, 8, 8, 8), None, 1, 0, pixels(SUMS, 4, 8)), "a multiple of 16"),
        (lambda: _kernels.result_tiles(MATRICES, pixels(8), True, 0, PICTURE), "bias must be of shape"),
        (lambda: _kernels.result_tiles(MATRICES, None, True, 1, PICTURE), "first and the number of tiles"),
        (lambda: _kernels.spread_tiles(PICTURE, 0, pixels(SUMS, 5, CHANNELS)), "first and the number of tiles"),
        (lambda: _kernels.spread_tiles(PICTURE, 0, MATRICES, 1, "sse9"), "level must be one that levels"),
    ],
)  # fmt: skip
def test_no_call_reaches_outside_a_buffer(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


@needs_kernels
@pytest.mark.parametrize(
    "call",
    [
        lambda: _kernels.source_tiles(None, None, 1, 0, MATRICES),
        lambda: _kernels.source_tiles(PICTURE, None, 1, 0, None),
        lambda: _kernels.result_tiles(None, None, True, 0, PICTURE),
        lambda: _kernels.result_tiles(MATRICES, None, True, 0, None),
        lambda: _kernels.spread_tiles(None, 0, MATRICES),
        lambda: _kernels.spread_tiles(PICTURE, 0, None),
    ],
)
def test_arrays_that_must_be_there_are_asked_for(call: Any) -> None:
    with pytest.raises(TypeError, match="NoneType"):
        call()


@needs_kernels
def test_arrays_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="not C-contiguous"):
        _kernels.source_tiles(PICTURE[..., ::-1], None, 1, 0, MATRICES)
