"""The norm as two Triton kernels: one reads a picture and leaves its moments, one reads both and writes the result.

What the second one writes is padded and in the order in which the next convolution reads it, so nothing is
copied in between. Both are bounded by memory: a pixel is read twice and written once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vidstyle.backends.torch.norm import Kind, NormShape
from vidstyle.networks import NORM_EPSILON

VERSION = str(triton.__version__)
"""Of Triton."""

_CHANNELS = 64
"""Channels of one program at most: 128 bytes in a row."""
_PARTS = 64
"""Most parts of which moments are taken; every program of the second kernel reads them all."""
_PROGRAMS = 512
"""About so many of the second kernel: four for each multiprocessor of a large GPU."""
_KINDS = {"centered": 0, "plain": 1, "add": 2}


def fused_norm(x: Tensor, shape: NormShape, style: Tensor, kind: Kind, other: Tensor | None) -> Tensor:
    """`Norm` in two kernels."""
    channels = shape.channels
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    groups = triton.cdiv(channels, block)

    pixels = x.numel() // channels
    tile = 256 if pixels > 1 << 14 else 64
    part = _multiple(triton.cdiv(pixels, _PARTS), tile)
    parts = triton.cdiv(pixels, part)
    moments = torch.empty((parts, 2, channels), dtype=torch.float32, device=x.device)
    _moments[(parts, groups)](
        x, moments, pixels, part, channels, block=block, tile=tile, num_warps=max(4, tile * block // 1024)
    )

    out = torch.empty(shape.shape_out, dtype=x.dtype, device=x.device)
    padded = out.numel() // channels
    tile = 64
    share = _multiple(triton.cdiv(padded * groups, _PROGRAMS), tile)
    _normed[(triton.cdiv(padded, share), groups)](
        x,
        moments,
        style,
        out if other is None else other,
        out,
        parts,
        pixels,
        part,
        share,
        channels,
        shape.rows * shape.cell,
        shape.columns * shape.cell,
        NORM_EPSILON,
        cell=shape.cell,
        radius=shape.radius,
        cell_out=shape.cell_out,
        kind=_KINDS[kind],
        block=block,
        tile=tile,
        parts_block=triton.next_power_of_2(parts),
        num_warps=4,
    )
    return out


def _multiple(value: int, step: int) -> int:
    return -(-value // step) * step


@triton.jit  # type: ignore[untyped-decorator]
def _moments(x, moments, pixels, part, channels, block: tl.constexpr, tile: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mean and sum of squared differences of each channel over ``part`` pixels: moments[program] is (2, channels)."""
    begin = tl.program_id(0).to(tl.int64) * part
    end = tl.minimum(begin + part, pixels)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    inside = channel < channels
    # Sums of differences from some pixel: squares of the values themselves would cancel where the variance is small.
    base = tl.load(x + begin * channels + channel, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((tile, block), tl.float32)
    squares = tl.zeros((tile, block), tl.float32)
    for first in range(begin, end, tile):
        pixel = first + tl.arange(0, tile)
        there = (pixel < end)[:, None] & inside[None, :]
        value = tl.load(x + pixel[:, None] * channels + channel[None, :], mask=there, other=0.0).to(tl.float32)
        difference = tl.where(there, value - base[None, :], 0.0)
        total += difference
        squares += difference * difference
    count = (end - begin).to(tl.float32)
    shift = tl.sum(total, 0) / count
    result = moments + tl.program_id(0) * 2 * channels + channel
    tl.store(result, base + shift, mask=inside)
    tl.store(result + channels, tl.sum(squares, 0) - shift * shift * count, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _normed(  # type: ignore[no-untyped-def]
    x,
    moments,
    style,
    other,
    out,
    parts,
    pixels,
    part,
    share,
    channels,
    rows,
    columns,
    epsilon,
    cell: tl.constexpr,
    radius: tl.constexpr,
    cell_out: tl.constexpr,
    kind: tl.constexpr,
    block: tl.constexpr,
    tile: tl.constexpr,
    parts_block: tl.constexpr,
):
    """``share`` pixels of the padded result; ``rows`` and ``columns`` are in pixels, without the padding."""
    channel = tl.program_id(1) * block + tl.arange(0, block)
    inside = channel < channels
    # The parts' means and variances together (Chan et al. 1979).
    number = tl.arange(0, parts_block)
    known = (number < parts)[:, None] & inside[None, :]
    count = tl.where(number < parts, tl.minimum(part, pixels - number * part), 0).to(tl.float32)[:, None]
    partial = moments + number[:, None] * 2 * channels + channel[None, :]
    means = tl.load(partial, mask=known, other=0.0)
    mean = tl.sum(means * count, 0) / pixels
    apart = means - mean[None, :]
    squares = tl.load(partial + channels, mask=known, other=0.0) + apart * apart * count
    variance = tl.sum(squares, 0) / pixels
    shift = tl.load(style + channels + channel, mask=inside, other=0.0)
    factor = tl.load(style + channel, mask=inside, other=0.0) / tl.sqrt(variance + epsilon)

    wide = columns + 2 * radius
    size = (rows + 2 * radius) * wide
    begin = tl.program_id(0) * share
    for first in range(begin, tl.minimum(begin + share, size), tile):
        pixel = first + tl.arange(0, tile)
        there = (pixel < size)[:, None] & inside[None, :]
        row, column = pixel // wide, pixel % wide
        from_row, from_column = tl.abs(row - radius), tl.abs(column - radius)
        from_row = rows - 1 - tl.abs(rows - 1 - from_row)
        from_column = columns - 1 - tl.abs(columns - 1 - from_column)
        source = ((from_row // cell) * (columns // cell) + from_column // cell).to(tl.int64) * (cell * cell)
        source += (from_row % cell) * cell + from_column % cell
        value = tl.load(x + source[:, None] * channels + channel[None, :], mask=there, other=0.0).to(tl.float32)
        value = (value - mean[None, :]) * factor[None, :]
        target = ((row // cell_out) * (wide // cell_out) + column // cell_out).to(tl.int64) * (cell_out * cell_out)
        target += (row % cell_out) * cell_out + column % cell_out
        place = target[:, None] * channels + channel[None, :]
        if kind == 2:
            value += tl.load(other + place, mask=there, other=0.0).to(tl.float32)
        else:
            value = tl.maximum(value + shift[None, :], 0.0)
            if kind == 0:
                value -= tl.maximum(shift, 0.0)[None, :]
        tl.store(out + place, value.to(out.dtype.element_ty), mask=there)
