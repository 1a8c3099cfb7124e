"""Frames that carry their number where it can still be read when they are painted and on a screen.

At the bottom of the picture, which is drawn last, each bit is a pair of blocks: black over white is 1, white over
black is 0. So every number has as much black as any other, a style changes both alike, and a picture that is half
one frame and half the next reads as neither. The last eight bits are a checksum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Pixels: a style's strokes are smaller."""
BITS, CHECK_BITS = 12, 8
COLUMNS = BITS + CHECK_BITS
STRIP = 2 * BLOCK
"""Rows of a picture that the number takes."""
NUMBERS = 1 << BITS
WIDTH, HEIGHT = COLUMNS * BLOCK, 360
_SPREAD = BLOCK // 4
_MIN_DIFFERENCE = 12
"""Values, of 255, by which the two blocks of a bit must differ."""
_LUMA = np.array([0.299, 0.587, 0.114])


def stamp(luma: NDArray[np.uint8], number: int) -> None:
    """Write ``number`` into the last rows of ``luma``, uint8 (HEIGHT, WIDTH), of limited range."""
    upper = np.where(_bits(number), 16, 235).astype(np.uint8)
    strip = np.repeat(np.stack([upper, 251 - upper]), BLOCK, axis=0)
    luma[-STRIP:] = np.repeat(strip, BLOCK, axis=1)


def points(height: int = HEIGHT) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels to look at in a picture of ``height`` rows: 4 x 4 inside each block.

    Both of shape (2 * COLUMNS, 16): the upper blocks from left to right, then the lower ones.
    """
    offsets = np.linspace(-_SPREAD, _SPREAD, 4).round().astype(int)
    dy, dx = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    y = np.repeat([height - STRIP + BLOCK // 2, height - BLOCK // 2], COLUMNS)
    x = np.tile(np.arange(COLUMNS) * BLOCK + BLOCK // 2, 2)
    return (y[:, None] + dy).astype(np.intp), (x[:, None] + dx).astype(np.intp)


def number_in(values: NDArray[np.uint8]) -> int | None:
    """The number, from the pixels at `points`: luma of shape (2 * COLUMNS, 16), or with a last axis of R, G, B.

    None where there is none, or none that is whole.
    """
    luma = values @ _LUMA if values.ndim == 3 else values
    blocks = luma.mean(axis=1)
    difference = blocks[COLUMNS:] - blocks[:COLUMNS]
    if np.abs(difference).min() < _MIN_DIFFERENCE:
        return None
    read = int("".join("1" if bit else "0" for bit in difference > 0), 2)
    number = read >> CHECK_BITS
    return number if read & ((1 << CHECK_BITS) - 1) == _checksum(number) else None


def _bits(number: int) -> NDArray[np.bool_]:
    whole = number << CHECK_BITS | _checksum(number)
    return np.array([whole >> place & 1 for place in reversed(range(COLUMNS))], bool)


def _checksum(number: int) -> int:
    """A CRC of eight bits, x^8 + x^2 + x + 1, of the number's two bytes."""
    value = number
    for place in reversed(range(8, 16)):
        if value >> place & 1:
            value ^= 0x107 << (place - 8)
    value = (value & 0xFF) << 8
    for place in reversed(range(8, 16)):
        if value >> place & 1:
            value ^= 0x107 << (place - 8)
    return value & 0xFF ^ 0x5A  # so that 0 is not a plain edge, of which pictures have many
