"""Tiny paintings and photos for the tests of training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def painting(seed: int, size: tuple[int, int] = (48, 56)) -> NDArray[np.uint8]:
    """Broad strokes of three colors, RGB."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    colors = random.integers(20, 236, (3, 3)).astype(np.uint8)
    return np.asarray(colors[((rows + columns * (seed + 1)) // 7 + rows // 13) % 3])


def photo(seed: int, size: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    """Smooth blobs, RGB."""
    small = np.random.default_rng([seed, 1]).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def save(rgb: NDArray[np.uint8], path: Path) -> Path:
    """``path``, with the picture in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def painting_folder(folder: Path, count: int = 3) -> Path:
    """``folder`` with paintings in it, one of them further down."""
    for seed in range(count):
        save(painting(seed), folder / ("deep" if seed == 1 else "") / f"{seed}.png")
    return folder


def photo_folder(folder: Path, count: int = 5, first: int = 0) -> Path:
    """``folder`` with the photos number ``first`` and following."""
    for seed in range(first, first + count):
        save(photo(seed), folder / f"{seed:02}.png")
    return folder
