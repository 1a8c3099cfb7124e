"""Compiled from ``kernels/``; `vidstyle.ops` is the face to use."""

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
def levels() -> tuple[str, ...]: ...
