"""Compiled from ``kernels/``; `vidstyle.imaging.resample` and `vidstyle.imaging.warp` are the faces to use."""

import numpy as np
from numpy.typing import NDArray

def enlarge(
    styled: tuple[NDArray[np.uint8], ...],
    small_guide: NDArray[np.uint8],
    guide: NDArray[np.uint8],
    out: tuple[NDArray[np.uint8], ...],
    kind: str,
    epsilon: float,
    low: float,
    high: float,
    level: str | None = None,
) -> None: ...
def warp_blend(
    new: NDArray[np.uint8],
    memory: NDArray[np.uint16],
    flow: NDArray[np.float32],
    weight: NDArray[np.float32],
    gain: float,
    shown: NDArray[np.uint8],
    updated: NDArray[np.uint16],
    threads: int = 1,
    level: str | None = None,
) -> None: ...
def mix(
    source: NDArray[np.uint8],
    painted: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    out: NDArray[np.uint8],
    half: bool,
    strength: int,
    level: str | None = None,
) -> None: ...
def source_tiles(
    pictures: NDArray[np.float32],
    gate: NDArray[np.float32] | None,
    border: int,
    first: int,
    sums: NDArray[np.float32],
    threads: int = 1,
    level: str | None = None,
) -> None: ...
def result_tiles(
    products: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    relu: bool,
    first: int,
    pictures: NDArray[np.float32],
    threads: int = 1,
    level: str | None = None,
) -> None: ...
def spread_tiles(
    pictures: NDArray[np.float32],
    first: int,
    products: NDArray[np.float32],
    threads: int = 1,
    level: str | None = None,
) -> None: ...
def levels() -> tuple[str, ...]: ...
