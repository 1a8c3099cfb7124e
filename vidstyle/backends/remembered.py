"""What the norms of a program remember between two frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def norm_inputs(state: F32 | None, kept: float, size: int) -> tuple[F32, F32]:
    """The inputs ``state`` (1, ``size``) and ``alpha`` (1,) of a graph whose norms remember.

    ``state`` is an earlier ``state_out``; without one, nothing is kept. Nor is anything of a frame
    on which the network overflowed: what is no number would stay for ever.
    """
    if kept == 0 or state is None or not np.isfinite(state).all():
        return np.zeros((1, size), np.float32), np.zeros(1, np.float32)
    return state, np.array([kept], np.float32)
