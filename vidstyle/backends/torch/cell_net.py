"""A network as a GPU likes it: 16-bit convolutions of wide pictures, and nothing else between the pixels.

A convolution with three colors in or out leaves most of a tensor core idle, and so does one after an
upsampling, of which most products are computed several times. So the pixels of a *cell* of 4x4 become
channels of a picture that is four times smaller (see `NormShape`): the first
convolution reads such cells, the last one writes them, and one after an upsampling writes cells of 2x2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.backends.base import StyleTensors
from vidstyle.frame import FrameFormat, rgb_from_yuv, yuv_from_rgb
from vidstyle.models.architecture import NORM_EPSILON, Architecture, Conv, Network

Floats = NDArray[np.float64]

CELL = 4
"""Side of the cells of pixels that go in and come out."""
INPUT_STEP = 1 / 256
"""One level of 0-255 in the first convolution: a power of two keeps whole levels exact in 16 bits."""


Kind = Literal["centered", "plain", "add"]
"""What follows the norm: ``relu(x * scale + shift) - relu(shift)``, the same without the last term, or
``x * scale`` added to another picture. The first and the last are 0 where the frame is flat."""


@dataclass(frozen=True)
class NormShape:
    """The picture that a norm reads and the one that it writes.

    A picture in *cells* of c has c x c of its pixels, row by row, in the place of one: (rows / c, columns / c,
    c * c * channels). Cells of 1 are the picture itself.
    """

    rows: int
    """Of cells that are read, as ``columns``."""
    columns: int
    channels: int
    """Of the picture; each has a mean and a variance."""
    cell: int = 1
    """Side of the cells that are read; ``cell_out`` of those that are written."""
    radius: int = 1
    """Of the reflection padding, in pixels."""
    cell_out: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rows, self.columns, self.cell**2 * self.channels

    @property
    def shape_out(self) -> tuple[int, int, int]:
        rows, columns = (side * self.cell + 2 * self.radius for side in (self.rows, self.columns))
        return rows // self.cell_out, columns // self.cell_out, self.cell_out**2 * self.channels


Norm: TypeAlias = Callable[[Tensor, NormShape, Tensor, Kind, Tensor | None], Tensor]
"""One way to compute a norm, its style, ReLU or skip, and reflection padding in one: ``norm(x, shape, style, kind,
other)``. `torch.nn.functional`'s own norms and paddings copy such a picture into another order and back; with float16
that takes longer than the convolutions.

``x`` is contiguous, of ``shape.shape``, in any float type; ``style`` holds the scales and then the shifts
in float32; ``other`` is what an ``add`` adds to, of ``shape.shape_out``. The result has that shape and the
type of ``x``; statistics and arithmetic are float32."""


def plain_norm(x: Tensor, shape: NormShape, style: Tensor, kind: Kind, other: Tensor | None) -> Tensor:
    """`Norm` in torch's own operations: anywhere, and slowly."""
    values = x.view(-1, shape.channels).float()
    variance, mean = torch.var_mean(values, 0, correction=0)
    scale, shift = torch.split(style, shape.channels)
    values = (values - mean) * (torch.rsqrt(variance + NORM_EPSILON) * scale)
    if kind != "add":
        values = functional.relu(values + shift)
    if kind == "centered":
        values = values - functional.relu(shift)
    picture = pixels_from_cells(values.view(shape.shape), shape.cell)
    # A picture of four dimensions is a volume with (rows, columns, channels) for sides.
    padding = (0, 0, *(shape.radius,) * 4)
    picture = functional.pad(picture[None], padding, mode="reflect")[0]
    result = cells_from_pixels(picture, shape.cell_out)
    if other is not None:
        result = result + other
    return result.to(x.dtype)


def pixels_from_cells(x: Tensor, cell: int) -> Tensor:
    """(rows / cell, columns / cell, cell * cell * channels) as (rows, columns, channels)."""
    rows, columns, channels = x.shape
    x = x.reshape(rows, columns, cell, cell, channels // cell**2).permute(0, 2, 1, 3, 4)
    return x.reshape(rows * cell, columns * cell, channels // cell**2)


def cells_from_pixels(x: Tensor, cell: int) -> Tensor:
    """(rows, columns, channels) as (rows / cell, columns / cell, cell * cell * channels)."""
    rows, columns, channels = x.shape
    x = x.reshape(rows // cell, cell, columns // cell, cell, channels).permute(0, 2, 1, 3, 4)
    return x.reshape(rows // cell, columns // cell, cell**2 * channels)


class CellNet:
    """A network for frames of one form: 8-bit planes and a style in, 8-bit planes out.

    ``dtype`` is that of weights and activations; statistics of the norms and colors are float32. It makes
    the same operations for every frame and waits for none of them, so that a CUDA graph can hold them.
    """

    def __init__(
        self,
        shape: Architecture,
        form: FrameFormat,
        dtype: torch.dtype,
        device: torch.device | str,
        norm: Norm = plain_norm,
    ) -> None:
        self.form = form
        self.shape = shape
        self.norm = norm
        self._dtype = dtype
        self._device = torch.device(device)
        self._size = self.shape.padded_size(form.size)
        self._sources = _sources(self._size, form, by_cells=self.shape.unshuffle > 1, device=self._device)
        self.styles = StyleTensors(shape, self._folded)
        """How a style lies in memory."""
        self._colors = None
        if form.pixels != "rgb":
            matrix, offset = _planes_matrix(form)
            self._colors = tuple(torch.from_numpy(a).to(self._device, torch.float32) for a in (matrix.T.copy(), offset))

    def _folded(self, network: Network) -> dict[str, NDArray[np.float32]]:
        """The style vector, and what the convolutions take; weights as (outputs, rows, columns, inputs)."""
        shape, out = self.shape, self.shape.out
        tensors = {"style": network.start}
        for conv in shape.convs:
            weight = network.weights[f"{conv.name}.weight"].astype(np.float64)
            if conv is shape.down[0]:
                weight = _stem(weight, self.form, shape.unshuffle)
            else:
                weight = in_cells(weight, conv.upsample, CELL if conv is out else conv.upsample)
            tensors[f"{conv.name}.weight"] = weight.transpose(0, 2, 3, 1).astype(np.float32)
        return {**tensors, f"{out.name}.bias": network.weights[f"{out.name}.bias"]}

    def new_style(self) -> CellStyle:
        """Memory of the device for one style."""
        return CellStyle(self.styles, self.shape, self._dtype, self._device)

    @torch.no_grad()
    def paint(self, planes: list[Tensor], style: CellStyle, results: list[Tensor]) -> None:
        """Write the stylized planes into ``results``.

        ``planes`` and ``results`` are contiguous uint8 of ``form.plane_shapes`` on the device.
        """
        shape = self.shape

        def normed(
            x: Tensor, conv: Conv, kind: Kind, radius: int, cell_out: int = 1, to: Tensor | None = None
        ) -> Tensor:
            cell = CELL // shape.unshuffle if conv is shape.down[0] else conv.upsample
            rows, columns, _ = x.shape
            return self.norm(
                x, NormShape(rows, columns, conv.outputs, cell, radius, cell_out), style.affine[conv], kind, to
            )

        # Tensors are (rows, columns, channels), and each comes padded for the convolution that reads it.
        x = self._input(planes)
        for conv in shape.down:
            x = normed(style.conv(x, conv), conv, "centered", 1)
        for first, second in shape.residual:
            y = normed(style.conv(x, first), first, "centered", 1)
            x = normed(style.conv(y, second), second, "add", 1, to=x)
        for conv in shape.up[:-1]:
            x = normed(style.conv(x, conv), conv, "centered", 1)
        last, out = shape.up[-1], shape.out
        radius = 1 if out.upsample > 1 else out.kernel // 2
        x = normed(style.conv(x, last), last, "plain", radius, CELL // out.upsample)
        self._output(style.conv(x, out), style.bias, results)

    def _input(self, planes: list[Tensor]) -> Tensor:
        """Cells (H/4 + 2, W/4 + 2, 48) of the padded frame, in its own colors, around 0.

        The constants that are left out here the first norm would remove. It must be 0 where the frame is flat,
        or the norm would blow up what rounding leaves (see `vidstyle.graph.layers`).
        """
        colors = [plane.reshape(self.form.height, self.form.width, -1) for plane in planes[:1]]
        colors += [plane.reshape(*self.form.chroma_size, -1) for plane in planes[1:]]
        middles = [color[::8, ::8].float().mean((0, 1)).round() for color in colors]
        pixels = [
            color.flatten(0, 1).index_select(0, source) for color, source in zip(colors, self._sources, strict=True)
        ]
        cells = torch.cat(pixels, 1) if len(pixels) > 1 else pixels[0]
        rows, columns = (side // CELL + 2 for side in self._size)
        centered = cells - torch.cat(middles).to(self._dtype)  # whole numbers, exact in 16 bits
        return (centered * INPUT_STEP).view(rows, columns, 3 * CELL**2)

    def _output(self, x: Tensor, bias: Tensor, results: list[Tensor]) -> None:
        """Write the planes of cells (H/4, W/4, 48) of RGB before bias and sigmoid."""
        form = self.form
        rgb = torch.sigmoid(x.float() + bias.repeat(CELL**2)) * 255
        if self._colors is None:
            results[0].copy_(pixels_from_cells(_levels(rgb), CELL)[: form.height, : form.width])
            return
        matrix, offset = self._colors
        levels = _levels(torch.addmm(offset, rgb.flatten(0, 1), matrix).view(*x.shape[:2], -1))
        y, *chroma = torch.split(levels, [CELL**2, *_chroma_channels(form)], 2)
        rows, columns = form.chroma_size
        planes = [pixels_from_cells(y, CELL)[: form.height, : form.width, 0]]
        planes += [pixels_from_cells(plane, CELL // 2)[:rows, :columns] for plane in chroma]
        for result, plane in zip(results, planes, strict=True):
            result.copy_(plane.view_as(result) if plane.is_contiguous() else plane.reshape(result.shape))


class CellStyle:
    """A style in memory of the device, always at the same place."""

    def __init__(self, styles: StyleTensors, shape: Architecture, dtype: torch.dtype, device: torch.device) -> None:
        self._exact = torch.zeros(styles.size // 4, device=device)
        self._rounded = self._exact if dtype == torch.float32 else torch.zeros_like(self._exact, dtype=dtype)

        def tensor(block: Tensor, name: str) -> Tensor:
            size = styles.shapes[name]
            return block[styles.offsets[name] // 4 :][: math.prod(size)].view(size)

        sizes = [2 * conv.outputs for conv in shape.normalised]
        self.affine = dict(zip(shape.normalised, torch.split(tensor(self._exact, "style"), sizes), strict=True))
        """Scales and then shifts of each norm, float32."""
        self.bias = tensor(self._exact, f"{shape.out.name}.bias")
        """Of the last convolution, float32."""
        # Seen as (outputs, inputs, rows, columns) this is what torch calls channels_last.
        self._weights = {conv: tensor(self._rounded, f"{conv.name}.weight").permute(0, 3, 1, 2) for conv in shape.convs}

    def load(self, block: Tensor) -> None:
        """Take the style of a block of `StyleTensors`; does not wait for it where the block is page-locked."""
        self._exact.copy_(block, non_blocking=True)
        if self._rounded is not self._exact:
            self._rounded.copy_(self._exact)

    def conv(self, x: Tensor, conv: Conv) -> Tensor:
        """The convolution of (rows, columns, channels), without its bias."""
        # Seen as (1, channels, rows, columns) this is channels_last, and the result is too.
        y = functional.conv2d(x[None].permute(0, 3, 1, 2), self._weights[conv], stride=conv.stride)
        return y[0].permute(1, 2, 0).contiguous()


def in_cells(weight: Floats, upsample: int, cell: int) -> Floats:
    """The convolution (OIHW) of a picture upsampled by ``upsample`` (nearest) that writes cells of ``cell``.

    It has a step of 1 and reads cells of ``cell / upsample``, of a picture that is padded by the radius of
    ``weight``, or by one pixel where it is to be upsampled. Channels are ordered (row, column, channel).
    """
    outputs, inputs, kernel, _ = weight.shape
    radius = kernel // 2
    padding = radius if upsample == 1 else 1
    cell_in = cell // upsample
    reach = (cell - 1 + radius) // upsample + padding
    place = np.zeros((cell, cell_in, reach // cell_in + 1, kernel))
    for pixel in range(cell):
        for tap in range(kernel):
            source = (pixel + tap - radius) // upsample + padding
            place[pixel, source % cell_in, source // cell_in, tap] = 1
    folded = np.einsum("aput,bqvs,oits->abopqiuv", place, place, weight, optimize=True)
    side = place.shape[2]
    return np.asarray(folded).reshape(cell**2 * outputs, cell_in**2 * inputs, side, side)


def _stem(weight: Floats, form: FrameFormat, unshuffle: int) -> Floats:
    """The first convolution, from cells of levels in the colors of ``form``."""
    outputs, _, kernel, _ = weight.shape
    if unshuffle == 1:
        cells = in_cells(weight, 1, CELL)
    else:
        by_color = weight.reshape(outputs, 3, unshuffle**2, kernel, kernel)
        cells = by_color.transpose(0, 2, 1, 3, 4).reshape(outputs, -1, kernel, kernel)
    if form.pixels != "rgb":
        matrix, _ = rgb_from_yuv(form.matrix, form.full_range)
        split = cells.reshape(cells.shape[0], CELL**2, 3, *cells.shape[2:])
        cells = np.einsum("opcuv,cd->opduv", split, matrix).reshape(cells.shape)
    return np.asarray(cells / 255 / INPUT_STEP)


def _planes_matrix(form: FrameFormat) -> tuple[Floats, Floats]:
    """``(m, offset)`` from cells of RGB, 0-255, to cells of luma and half-size cells of chroma, one after the other."""
    matrix, offset = yuv_from_rgb(form.matrix, form.full_range)
    half = CELL // 2
    mean = np.zeros((half, CELL))
    mean[np.arange(CELL) // 2, np.arange(CELL)] = 0.5
    luma = np.einsum("pq,c->pqc", np.eye(CELL**2), matrix[0])
    chroma = np.einsum("ar,bs,dc->dabrsc", mean, mean, matrix[1:]).reshape(2, half**2, CELL**2, 3)
    offsets = np.repeat(offset[1:, None], half**2, 1)
    if form.pixels == "nv12":
        chroma, offsets = chroma.swapaxes(0, 1), offsets.swapaxes(0, 1)
    m = np.concatenate([luma.reshape(CELL**2, -1), chroma.reshape(2 * half**2, -1)])
    return m, np.concatenate([np.full(CELL**2, offset[0]), offsets.ravel()])


def _chroma_channels(form: FrameFormat) -> list[int]:
    count = (CELL // 2) ** 2
    return [2 * count] if form.pixels == "nv12" else [count, count]


def _sources(size: tuple[int, int], form: FrameFormat, *, by_cells: bool, device: torch.device) -> list[Tensor]:
    """For each plane the index of the sample that each pixel of the padded frame shows, cell by cell.

    The frame is padded to ``size`` by repeating its edges, and then by a cell on each side by reflection, of
    pixels or (``by_cells``) of whole cells. A chroma sample covers its 2x2 pixels.
    """
    rows, columns = (
        np.minimum(_reflected(side, by_cells), most - 1) for side, most in zip(size, form.size, strict=True)
    )
    planes = [(rows, columns, form.width)]
    planes += [(rows // 2, columns // 2, form.chroma_size[1])] * (len(form.plane_shapes) - 1)
    sources = []
    for plane_rows, plane_columns, width in planes:
        index = torch.from_numpy(plane_rows[:, None] * width + plane_columns)[..., None]
        # int32 halves what is read for each frame.
        sources.append(cells_from_pixels(index, CELL).flatten().to(device, torch.int32))
    return sources


def _reflected(side: int, by_cells: bool) -> NDArray[np.int64]:
    """Which of ``side`` pixels each one of a line shows that is padded by a cell at both ends."""
    if by_cells:
        cells = np.pad(np.arange(side).reshape(-1, CELL), ((1, 1), (0, 0)), mode="reflect")
        return cells.ravel()
    return np.pad(np.arange(side), CELL, mode="reflect")


def _levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
