"""The same picture a little moved and noisy should be painted the same: what keeps a video from flickering.

A term for stills alone, after the noise-and-warp regularization of Johnson et al.'s successors (Gupta et
al. 2017 name the instability; the term here needs no video).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

NOISE = 0.02
"""Standard deviation of the noise, of values in [0, 1]: that of a decent camera indoors."""
REACH = 3
"""Largest shift in pixels, each way. Less than 4: the networks work at a quarter size, and what falls
between its pixels is what flickers."""

Shift = tuple[int, int]
"""Rows down and columns right."""


def disturb(rgb: Tensor, seed: tuple[int, ...], *, first: int = 0) -> tuple[Tensor, Shift]:
    """``rgb`` (N, 3, H, W) in [0, 1], shifted (mirrored at the border) and with noise; and the shift.

    The noise of a picture depends on ``seed`` and on its number in the whole batch, ``first`` being that of
    the first one here: a part of a batch is disturbed as it is in the whole.
    """
    random = np.random.default_rng(list(seed))
    down, right = (int(s) for s in random.integers(-REACH, REACH + 1, 2))
    height, width = rgb.shape[-2:]
    padded = functional.pad(rgb, (REACH,) * 4, mode="reflect")
    moved = padded[..., REACH - down : REACH - down + height, REACH - right : REACH - right + width]
    noise = np.stack(
        [
            np.random.default_rng([*seed, 1 + first + i]).standard_normal(tuple(rgb.shape[1:]), np.float32)
            for i in range(len(rgb))
        ]
    )
    return (moved + NOISE * torch.from_numpy(noise).to(rgb)).clamp(0, 1), (down, right)


def instability(painted: Tensor, disturbed: Tensor, shift: Shift) -> Tensor:
    """Mean squared difference of the two where both show the same, float (N,)."""
    height, width = painted.shape[-2:]
    rows, columns = (_overlap(moved, side) for moved, side in zip(shift, (height, width), strict=True))
    difference = painted[..., rows[0], columns[0]] - disturbed[..., rows[1], columns[1]]
    return difference.square().mean((1, 2, 3))


def _overlap(moved: int, side: int) -> tuple[slice, slice]:
    """Where what both show lies, before and after a shift by ``moved``."""
    return slice(max(0, -moved), side - max(0, moved)), slice(max(0, moved), side - max(0, -moved))
