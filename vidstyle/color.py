"""YCbCr and RGB as 3x3 matrices (ITU-R BT.601-7 and BT.709-6, 8 bit).

The matrices work on the 0-255 scale, so that they can be folded into the first and the last
convolution of a graph that takes and returns 8-bit pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import Matrix

_LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def yuv_from_rgb(matrix: Matrix, full_range: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(m, offset)`` such that ``yuv = m @ rgb + offset``; m is 3x3, everything on the 0-255 scale."""
    kr, kb = _LUMA_WEIGHTS[matrix]
    kg = 1.0 - kr - kb
    luma = np.array([kr, kg, kb])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - kb))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - kr))
    m = np.stack([luma, cb, cr])
    if full_range:
        return m, np.array([0.0, 128.0, 128.0])
    scale = np.array([219.0, 224.0, 224.0]) / 255.0
    return m * scale[:, None], np.array([16.0, 128.0, 128.0])


def rgb_from_yuv(matrix: Matrix, full_range: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(m, offset)`` such that ``rgb = m @ yuv + offset``: the inverse of `yuv_from_rgb`."""
    forward, offset = yuv_from_rgb(matrix, full_range)
    inverse = np.linalg.inv(forward).astype(np.float64)
    return inverse, -inverse @ offset


def untagged_matrix(height: int) -> Matrix:
    """The YCbCr matrix that players take for a picture of ``height`` rows that names none."""
    return "bt709" if height >= 720 else "bt601"
