"""3x3 convolutions of step 1 in a quarter of the multiplications, for training in float32 on CPUs.

Winograd's minimal filtering F(4 x 4, 3 x 3), Lavin and Gray 2016: a tile of 4 x 4 results comes from 36 sums of 6 x 6
pixels, each multiplied once for a pair of channels, where 144 products were. The kernels compute sums and results,
torch the products of matrices between them, some tiles at a time, so that they stay in the cache.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vidstyle.system import on_x86

try:
    from vidstyle import _kernels
except ImportError:
    _kernels = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

TILE = 4
SUMS = 36
CHANNELS = 16
"""The kernels take so many channels at a time."""
_TAPS = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
"""G of the paper: from three taps of one axis to six factors."""
_KERNEL = torch.kron(_TAPS, _TAPS)
"""From the nine taps of a kernel to its 36 factors, (36, 9)."""
LEAST_TILES = 32
"""With fewer, what is done for the weights takes longer than is saved."""
_WORKING_SET = 1 << 19
"""Numbers in the sums and products of the tiles that are worked on at a time; more where there are many factors, which
are read again each time."""


def supports(weight: Tensor) -> bool:
    """Whether convolutions with ``weight`` (O, I, 3, 3) can be had this way, and are faster than torch's own.

    They are for float32 on x86: on Arm nothing has been measured, and in bfloat16 sums of 36 pixels would lose what
    they are of. O and I must be multiples of `CHANNELS`.
    """
    return (
        _has_kernels()
        and on_x86()
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and not any(channels % CHANNELS for channels in weight.shape[:2])
    )


def pays(x: Tensor) -> bool:
    """Whether ``x`` (N, C, H, W) has so many tiles that a convolution of it is worth its factors."""
    return x.dim() == 4 and min(x.shape[2:]) >= 3 and _tiles(x.shape[0], *x.shape[2:]) >= LEAST_TILES


@cache
def _has_kernels() -> bool:
    if _kernels is not None and not hasattr(_kernels, "spread_tiles"):
        _log.warning("the compiled kernels are older than vidstyle: training is slower; install vidstyle again")
    return _kernels is not None and hasattr(_kernels, "spread_tiles")


class Winograd:
    """Convolutions with a constant ``weight`` (O, I, 3, 3) that this module `supports`; they carry no gradient."""

    def __init__(self, weight: Tensor) -> None:
        self._factors = _factors(weight)

    def __call__(
        self, x: Tensor, bias: Tensor | None = None, *, gate: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """Float32 ``x`` (N, I, H, W) convolved with a border of zeros: (N, O, H, W), in channels-last memory.

        With ``gate``, of the shape of ``x``, what lies where it is at most 0 counts as 0; with ``relu`` no result is
        below 0.
        """
        return _convolved(x, self._factors, 1, bias, gate, relu)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`torch.nn.functional.conv2d` of step 1 without a border, twice differentiable with respect to everything."""
    quick = (
        torch.is_grad_enabled()
        and supports(weight)
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and pays(x)
    )
    result: Tensor = _Trained.apply(x, weight, bias) if quick else functional.conv2d(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _Trained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolved(x, _factors(weight), 0, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        if torch.is_grad_enabled():  # it will be differentiated itself
            found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
                gradient, x, weight, weight.shape[:1], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, ctx.needs_input_grad
            )
            return found[0], found[1], found[2]
        turned = weight.flip(2, 3).transpose(0, 1)
        with torch.autocast("cpu", enabled=False):
            return (
                _convolved(gradient, _factors(turned), 2) if for_x else None,
                _weight_gradient(x, gradient) if for_weight else None,
                gradient.sum((0, 2, 3)) if for_bias else None,
            )


def _factors(weight: Tensor) -> Tensor:
    """The matrices that sums are multiplied by, float32 (36, I, O)."""
    kernels = weight.detach().permute(2, 3, 1, 0).flatten(2).flatten(0, 1)  # (9, I * O)
    return (_KERNEL @ kernels).view(SUMS, *weight.shape[1::-1])


def _convolved(
    x: Tensor, factors: Tensor, border: int, bias: Tensor | None = None, gate: Tensor | None = None, relu: bool = False
) -> Tensor:
    _, into, out = factors.shape
    pixels, gates = _pixels(x), None if gate is None else _pixels(gate).numpy()
    count, height, width = pixels.shape[0], *(side + 2 * border - 2 for side in pixels.shape[1:3])
    result = x.new_empty((count, height, width, out))
    shift, threads = None if bias is None else bias.detach().contiguous().numpy(), torch.get_num_threads()
    for first, tiles in _parts(count, height, width, factors):
        sums, products = x.new_empty(SUMS, tiles, into), x.new_empty(SUMS, tiles, out)
        _kernels.source_tiles(pixels.numpy(), gates, border, first, sums.numpy(), threads)
        torch.bmm(sums, factors, out=products)
        _kernels.result_tiles(products.numpy(), shift, relu, first, result.numpy(), threads)
    return result.permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """That of a convolution of ``x`` (N, I, H + 2, W + 2) without a border, from ``gradient`` (N, O, H, W)."""
    pixels, gradients = _pixels(x), _pixels(gradient)
    total = x.new_zeros(SUMS, pixels.shape[3], gradients.shape[3])
    threads = torch.get_num_threads()
    count, height, width, _ = gradients.shape
    for first, tiles in _parts(count, height, width, total):
        sums, products = (x.new_empty(SUMS, tiles, channels) for channels in total.shape[1:])
        _kernels.source_tiles(pixels.numpy(), None, 0, first, sums.numpy(), threads)
        _kernels.spread_tiles(gradients.numpy(), first, products.numpy(), threads)
        total.baddbmm_(sums.transpose(1, 2), products)
    return (_KERNEL.T @ total.flatten(1)).view(3, 3, *total.shape[1:]).permute(3, 2, 0, 1)


def _parts(count: int, height: int, width: int, factors: Tensor) -> list[tuple[int, int]]:
    """The tiles of the results, some at a time: the first one's number and how many."""
    tiles = _tiles(count, height, width)
    some = max(_WORKING_SET, 2 * factors.numel()) // (SUMS * sum(factors.shape[1:])) + 1
    return [(first, min(some, tiles - first)) for first in range(0, tiles, some)]


def _tiles(count: int, height: int, width: int) -> int:
    return count * -(-height // TILE) * -(-width // TILE)


def _pixels(x: Tensor) -> Tensor:
    """(N, H, W, C) of (N, C, H, W), a view where the memory is channels-last."""
    return x.detach().permute(0, 2, 3, 1).contiguous()
