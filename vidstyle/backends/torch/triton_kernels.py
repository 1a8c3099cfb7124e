"""All but the convolutions in Triton kernels: one for the pixels that come in, one for those that go out, two a norm.

A norm's first kernel reads a picture and leaves its moments, the second reads both and writes the result, padded
and in the order in which the next convolution reads it: a pixel is read twice and written once, and nothing is
copied in between.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vidstyle.backends.torch.cell_net import CELL, INPUT_STEP, CellNet, Kind, NormShape
from vidstyle.frame import FrameFormat, yuv_from_rgb
from vidstyle.models.architecture import NORM_EPSILON, Architecture

VERSION = str(triton.__version__)

_CHANNELS = 64
"""Channels of one program at most: 128 bytes in a row."""
_PARTS = 64
"""Most parts of which moments are taken; every program of the second kernel reads them all."""
_PROGRAMS = 512
"""About so many of the second kernel: four for each multiprocessor of a large GPU."""
_SAMPLES = 1024
"""Pixels whose mean stands for that of the frame: any number will do that is exact where the frame is flat."""
_KINDS = {"centered": 0, "plain": 1, "add": 2}


class FusedNet(CellNet):
    """`CellNet` with everything between the convolutions in kernels of its own."""

    def __init__(self, shape: Architecture, form: FrameFormat, dtype: torch.dtype, device: torch.device | str) -> None:
        super().__init__(shape, form, dtype, device, fused_norm)
        matrix, offset = yuv_from_rgb(form.matrix, form.full_range)
        self._constants = tuple(float(value) for value in (*matrix.ravel(), *offset))

    def _input(self, planes: list[Tensor]) -> Tensor:
        rows, columns = (side // CELL + 2 for side in self._size)
        out = torch.empty((rows, columns, 3 * CELL**2), dtype=self._dtype, device=self._device)
        pixels = out.numel() // 3
        colors, strides = _three(planes)
        apart = max(1, pixels // _SAMPLES)
        options = {"first_stride": strides[0], "stride": strides[1], "samples": _SAMPLES, "tile": 512}
        _cells[(triton.cdiv(pixels, 512),)](
            *colors, self._sources[0], self._sources[-1], out, pixels, apart, INPUT_STEP, **options
        )
        return out

    def _output(self, x: Tensor, bias: Tensor, results: list[Tensor]) -> None:
        rows, columns = self.form.size
        if self.form.pixels == "rgb":
            _rgb[(triton.cdiv(rows * columns, 256),)](x, bias, results[0], rows, columns, x.shape[1], CELL, 256)
            return
        colors, strides = _three(results)
        chroma = self.form.chroma_size
        _yuv[(triton.cdiv(chroma[0] * chroma[1], 128),)](
            x, bias, *colors, *self._constants, rows, columns, *chroma, x.shape[1], strides[1], CELL, 128
        )


def _three(planes: list[Tensor]) -> tuple[list[Tensor], tuple[int, int]]:
    """Each color's first sample, and the samples from one to the next: of the first color, and of the others."""
    flat = [plane.view(-1) for plane in planes]
    if len(flat) == 3:
        return flat, (1, 1)
    if len(flat) == 2:
        return [*flat, flat[1][1:]], (1, 2)
    return [flat[0], flat[0][1:], flat[0][2:]], (3, 3)


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
    cells = {"cell": shape.cell, "radius": shape.radius, "cell_out": shape.cell_out}
    blocks = {"block": block, "tile": tile, "parts_block": triton.next_power_of_2(parts), "num_warps": 4}
    tensors = (x, moments, style, out if other is None else other, out)
    numbers = (parts, pixels, part, share, channels, shape.rows * shape.cell, shape.columns * shape.cell, NORM_EPSILON)
    _normed[(triton.cdiv(padded, share), groups)](*tensors, *numbers, kind=_KINDS[kind], **cells, **blocks)
    return out


def _multiple(value: int, step: int) -> int:
    return -(-value // step) * step


# Here a parameter a line would hide the kernels.
# fmt: off


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
    x, moments, style, other, out, parts, pixels, part, share, channels, rows, columns, epsilon, cell: tl.constexpr,
    radius: tl.constexpr, cell_out: tl.constexpr, kind: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
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


@triton.jit  # type: ignore[untyped-decorator]
def _around_zero(plane, index, step, stride: tl.constexpr, pixel, there, sample, sampled):  # type: ignore[no-untyped-def]
    source = tl.load(index + sample, mask=sampled, other=0)
    levels = tl.load(plane + source * stride, mask=sampled, other=0).to(tl.float32)
    middle = tl.floor(tl.sum(levels, 0) / tl.sum(sampled.to(tl.float32), 0) + 0.5)
    source = tl.load(index + pixel, mask=there, other=0)
    return (tl.load(plane + source * stride, mask=there, other=0).to(tl.float32) - middle) * step


@triton.jit  # type: ignore[untyped-decorator]
def _cells(  # type: ignore[no-untyped-def]
    first, second, third, first_index, index, out, pixels, apart, step, first_stride: tl.constexpr,
    stride: tl.constexpr, samples: tl.constexpr, tile: tl.constexpr,
):
    """Pixels of the padded frame, cell by cell, around 0; each program takes the same samples for the mean."""
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)
    there = pixel < pixels
    sample = tl.arange(0, samples) * apart
    sampled = sample < pixels
    kind = out.dtype.element_ty
    place = out + pixel.to(tl.int64) * 3
    value = _around_zero(first, first_index, step, first_stride, pixel, there, sample, sampled)
    tl.store(place, value.to(kind), mask=there)
    value = _around_zero(second, index, step, stride, pixel, there, sample, sampled)
    tl.store(place + 1, value.to(kind), mask=there)
    value = _around_zero(third, index, step, stride, pixel, there, sample, sampled)
    tl.store(place + 2, value.to(kind), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _level(x, bias, color: tl.constexpr, row, column, columns, there, cell: tl.constexpr):  # type: ignore[no-untyped-def]
    """The level, 0-255 and not rounded, of pixels of one color; ``columns`` counts cells."""
    place = ((row // cell) * columns + column // cell).to(tl.int64) * (3 * cell * cell)
    place += ((row % cell) * cell + column % cell) * 3 + color
    value = tl.load(x + place, mask=there, other=0.0).to(tl.float32) + tl.load(bias + color)
    return 255.0 / (1.0 + tl.exp(-value))


@triton.jit
def _put(place, level, there):  # type: ignore[no-untyped-def]
    level = tl.minimum(tl.maximum(tl.floor(level + 0.5), 0.0), 255.0)
    tl.store(place, level.to(tl.int32).to(tl.uint8), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _rgb(x, bias, out, rows, columns, wide, cell: tl.constexpr, tile: tl.constexpr):  # type: ignore[no-untyped-def]
    """Interleaved RGB of ``rows`` x ``columns`` pixels from cells in lines of ``wide``."""
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)
    there = pixel < rows * columns
    row, column = pixel // columns, pixel % columns
    place = out + pixel.to(tl.int64) * 3
    _put(place, _level(x, bias, 0, row, column, wide, there, cell), there)
    _put(place + 1, _level(x, bias, 1, row, column, wide, there, cell), there)
    _put(place + 2, _level(x, bias, 2, row, column, wide, there, cell), there)


@triton.jit  # type: ignore[untyped-decorator]
def _yuv(  # type: ignore[no-untyped-def]
    x, bias, first, second, third, y_red, y_green, y_blue, u_red, u_green, u_blue, v_red, v_green, v_blue, y_offset,
    u_offset, v_offset, rows, columns, chroma_rows, chroma_columns, wide, stride: tl.constexpr, cell: tl.constexpr,
    tile: tl.constexpr,
):
    """Four luma samples and one of each chroma from each 2x2 pixels."""
    sample = tl.program_id(0) * tile + tl.arange(0, tile)
    there = sample < chroma_rows * chroma_columns
    top, left = (sample // chroma_columns) * 2, (sample % chroma_columns) * 2
    u = tl.zeros((tile,), tl.float32)
    v = tl.zeros((tile,), tl.float32)
    for corner in tl.static_range(4):
        row, column = top + corner // 2, left + corner % 2
        red = _level(x, bias, 0, row, column, wide, there, cell)
        green = _level(x, bias, 1, row, column, wide, there, cell)
        blue = _level(x, bias, 2, row, column, wide, there, cell)
        u += u_red * red + u_green * green + u_blue * blue
        v += v_red * red + v_green * green + v_blue * blue
        shown = there & (row < rows) & (column < columns)
        luma = y_red * red + y_green * green + y_blue * blue + y_offset
        _put(first + row.to(tl.int64) * columns + column, luma, shown)
    _put(second + sample.to(tl.int64) * stride, u * 0.25 + u_offset, there)
    _put(third + sample.to(tl.int64) * stride, v * 0.25 + v_offset, there)
