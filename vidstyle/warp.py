"""The pass over the pixels of temporal smoothing: warp the memory, mix the new picture in, show it sharp.

`kernels/warp.h` holds it for processors and for CUDA; here are its Python face and its twin in NumPy and
OpenCV, which is the reference and serves where there is no compiled kernel.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption

try:
    from vidstyle import _kernels
except ImportError:  # no compiler at installation: the twin below serves
    _kernels = None  # type: ignore[assignment]

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
F32 = NDArray[np.float32]

SCALE = 256
"""A level of the memory. In 8 bits a memory that moves by a tenth of the difference would never arrive."""


def remembered(plane: U8) -> U16:
    """A memory that holds exactly ``plane``."""
    return plane.astype(np.uint16) * np.uint16(SCALE)


def warp_blend(
    new: U8, memory: U16, flow: F32, weight: F32, gain: float, shown: U8, updated: U16, *, threads: int = 1
) -> None:
    """One plane of one frame.

    ``new`` is uint8 of shape (H, W) or (H, W, C), any strides; ``memory``, of the same shape, is uint16 in
    1/256 of a level. ``flow`` is float32 (h, w, 2): for each pixel of a smaller picture where it was in
    the frame before, as a distance (x, y) in that picture's own pixels. ``weight`` is float32 (h, w) in
    [0, 1]: how much of the memory is kept. Both are enlarged linearly. Written are::

        updated = (1 - weight) * new + weight * memory(x + flow)          memory read by cubic convolution
        shown   = updated + gain * weight * (updated - its mean over 3 x 3 pixels)

    rounded to the nearest, clipped, the border repeated. ``shown`` and ``updated`` are of the shapes of
    ``new`` and ``memory`` and are none of the other arrays. Raises `BadOption` for shapes that do not fit.
    """
    _check(new, memory, flow, weight, shown, updated)
    if _kernels is None or not hasattr(_kernels, "warp_blend"):
        _twin(new, memory, flow, weight, gain, shown, updated)
    else:
        _kernels.warp_blend(new, memory, flow, weight, gain, shown, updated, threads)


def _twin(new: U8, memory: U16, flow: F32, weight: F32, gain: float, shown: U8, updated: U16) -> None:
    height, width = new.shape[:2]
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    move = _enlarged(flow, (height, width)) * scale
    kept = _enlarged(weight, (height, width))
    kept = kept.reshape(kept.shape + (1,) * (new.ndim - 2))
    there = cv2.remap(
        memory.astype(np.float32),
        move[..., 0] + x,
        move[..., 1] + y[:, None],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(memory.shape)
    mixed = new * np.float32(SCALE) * (1 - kept) + np.clip(there, 0, 255 * SCALE) * kept
    np.copyto(updated, np.rint(mixed), casting="unsafe")
    exact = updated.astype(np.float32)
    mean = cv2.blur(exact, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(exact.shape)
    sharp = (exact + np.float32(gain) * kept * (exact - mean)) / SCALE
    np.clip(np.rint(sharp), 0, 255, out=shown, casting="unsafe")


def _enlarged(field: F32, size: tuple[int, int]) -> F32:
    return np.asarray(cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _check(new: U8, memory: U16, flow: F32, weight: F32, shown: U8, updated: U16) -> None:
    small = weight.shape
    if new.shape != memory.shape or shown.shape != new.shape or updated.shape != new.shape or new.ndim not in (2, 3):
        raise BadOption(
            f"new, memory, shown and updated have shapes {new.shape}, {memory.shape}, {shown.shape} and "
            f"{updated.shape}; they must be one (H, W) or (H, W, C)"
        )
    if len(small) != 2 or flow.shape != (*small, 2):
        raise BadOption(f"flow has shape {flow.shape} and weight {small}; they must be (h, w, 2) and (h, w)")
    types = [array.dtype for array in (new, memory, flow, weight, shown, updated)]
    if types != [np.uint8, np.uint16, np.float32, np.float32, np.uint8, np.uint16]:
        raise BadOption(
            f"arrays are of {', '.join(map(str, types))}; they must be uint8, uint16, float32, float32, uint8, uint16"
        )
