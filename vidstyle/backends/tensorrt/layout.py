"""Where the tensors of an engine lie in one block of memory, and how planes come in and out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidstyle.backends.base import ALIGNMENT, StyleTensors
from vidstyle.frame import FrameFormat, Planes

MULTIPLE_OF = 4
"""A dynamic engine takes sizes that are multiples of this; the edge pixels are repeated up to there."""
_PLANES = {"rgb": ("frame",), "i420": ("y", "u", "v"), "nv12": ("y", "uv")}


@dataclass(frozen=True)
class Port:
    """One tensor of an engine."""

    name: str
    """As the engine calls it."""
    shape: tuple[int, ...]
    """As the engine sees it."""
    offset: int
    """Where it begins in its block."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class PlanePort(Port):
    """A plane: what of it is picture, and what is padding."""

    padded: tuple[int, ...]
    """Shape of the plane with its padding, without the tensor's leading dimensions."""
    plane: tuple[int, ...]
    """Shape of the plane that the caller gives or gets."""

    @property
    def pitch_bytes(self) -> int:
        """From one row to the next."""
        return int(np.prod(self.padded[1:]))

    @property
    def pixel_bytes(self) -> int:
        """From one pixel to the next."""
        return int(np.prod(self.padded[2:]))

    @property
    def row_bytes(self) -> int:
        """Bytes of the picture in one row."""
        return int(np.prod(self.plane[1:]))


@dataclass(frozen=True)
class Layout:
    """The planes of an engine in one block, its outputs in another, and the style in a third: each is one copy."""

    style: tuple[Port, ...]
    """Vector and weights: a block of `StyleTensors`."""
    inputs: tuple[PlanePort, ...]
    """The planes of the input block, in the order of `FrameFormat.plane_shapes`."""
    outputs: tuple[PlanePort, ...]
    """The planes of the output block."""
    style_bytes: int
    """Size of the style block."""
    input_bytes: int
    """Size of the input block."""
    output_bytes: int
    """Size of the output block."""

    @classmethod
    def of(cls, form: FrameFormat, styles: StyleTensors, *, padded: bool) -> Layout:
        """The layout for frames of ``form``; ``padded`` to multiples of 4 for a dynamic engine."""
        whole = form.resized(_padded(form.size)) if padded else form
        style = tuple(
            Port(name, shape, styles.offsets[name], 4 * int(np.prod(shape))) for name, shape in styles.shapes.items()
        )
        inputs, input_bytes = _plane_ports(form, whole, "")
        outputs, output_bytes = _plane_ports(form, whole, "_out")
        return cls(style, inputs, outputs, styles.size, input_bytes, output_bytes)

    @property
    def ports(self) -> dict[str, Port]:
        """Every tensor by name."""
        return {port.name: port for port in (*self.style, *self.inputs, *self.outputs)}

    def write_planes(self, block: NDArray[np.uint8], planes: Planes) -> None:
        """Put planes of any strides into the input block, their edges repeated into the padding."""
        for port, plane in zip(self.inputs, planes, strict=True):
            target = _view(block, port)
            rows, columns = port.plane[:2]
            target[:rows, :columns] = plane
            target[:rows, columns:] = target[:rows, columns - 1 : columns]
            target[rows:] = target[rows - 1 : rows]

    def read_planes(self, block: NDArray[np.uint8]) -> Planes:
        """The pictures in the output block, without padding; new arrays."""
        return tuple(_view(block, port)[: port.plane[0], : port.plane[1]].copy() for port in self.outputs)


def edge_copies(port: PlanePort) -> list[tuple[int, int, int, int]]:
    """The copies that repeat a plane's edge into its padding, in this order.

    Each is (target offset, source offset, bytes of a row, rows), offsets from the plane's first byte;
    both have the plane's pitch.
    """
    rows, columns = port.plane[:2]
    pixel, pitch = port.pixel_bytes, port.pitch_bytes
    right = [(column * pixel, (columns - 1) * pixel, pixel, rows) for column in range(columns, port.padded[1])]
    below = [(row * pitch, (rows - 1) * pitch, pitch, 1) for row in range(rows, port.padded[0])]
    return right + below


def _plane_ports(form: FrameFormat, whole: FrameFormat, suffix: str) -> tuple[tuple[PlanePort, ...], int]:
    ports, offset = [], 0
    for name, plane, padded in zip(_PLANES[form.pixels], form.plane_shapes, whole.plane_shapes, strict=True):
        size = int(np.prod(padded))
        # Interleaved planes have their channels last, the others in front.
        shape = (1, *padded) if len(padded) == 3 else (1, 1, *padded)
        ports.append(PlanePort(name + suffix, shape, offset, size, padded, plane))
        offset += _aligned(size)
    return tuple(ports), offset


def _view(block: NDArray[np.uint8], port: PlanePort) -> NDArray[np.uint8]:
    return block[port.offset : port.offset + port.size].reshape(port.padded)


def _padded(size: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-side // MULTIPLE_OF) * MULTIPLE_OF for side in size)
    return height, width


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
