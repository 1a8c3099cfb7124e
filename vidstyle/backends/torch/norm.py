"""Instance norm, style, ReLU or skip, and reflection padding in one, on pictures of (rows, columns, channels).

`torch.nn.functional`'s own norms and paddings copy such a picture into another order and back; with float16
that takes longer than the convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vidstyle.models.architecture import NORM_EPSILON

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
    """Of cells that are read."""
    columns: int
    """Of cells that are read."""
    channels: int
    """Of the picture; each has a mean and a variance."""
    cell: int = 1
    """Side of the cells that are read."""
    radius: int = 1
    """Of the reflection padding, in pixels."""
    cell_out: int = 1
    """Side of the cells that are written."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what is read."""
        return self.rows, self.columns, self.cell**2 * self.channels

    @property
    def shape_out(self) -> tuple[int, int, int]:
        """Shape of what is written."""
        rows, columns = (side * self.cell + 2 * self.radius for side in (self.rows, self.columns))
        return rows // self.cell_out, columns // self.cell_out, self.cell_out**2 * self.channels


class Norm(Protocol):
    """One way to compute it.

    ``x`` is contiguous, of ``shape.shape``, in any float type; ``style`` holds the scales and then the shifts
    in float32; ``other`` is what an ``add`` adds to, of ``shape.shape_out``. The result has that shape and the
    type of ``x``; statistics and arithmetic are float32.
    """

    def __call__(self, x: Tensor, shape: NormShape, style: Tensor, kind: Kind, other: Tensor | None) -> Tensor: ...


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
