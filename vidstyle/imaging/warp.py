"""The pass over the pixels of temporal smoothing: warp the memory, mix the new picture in, show it sharp.

`kernels/warp.h` holds it for processors and for CUDA; here are its Python face and its twin in NumPy and
OpenCV, which is the reference and serves where there is no compiled kernel.
"""

from __future__ import annotations

import logging
from functools import cache

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

SCALE = 128
"""A level of the memory. In 8 bits a memory that moves by a tenth of the difference would never arrive;
255 times this fits 16 bits with a sign, for which processors have their fastest products."""
MAX_GAIN = 1000.0

_log = logging.getLogger(__name__)


def remembered(plane: U8) -> U16:
    """A memory that holds exactly ``plane``: of its shape, channel after channel, each without gaps."""
    memory = np.empty(plane.shape[2:] + plane.shape[:2], np.uint16)
    memory = memory if plane.ndim == 2 else np.moveaxis(memory, 0, 2)
    return np.multiply(plane, np.uint16(SCALE), out=memory, dtype=np.uint16)


def warp_blend(
    new: U8,
    memory: U16,
    flow: F32,
    weight: F32,
    gain: float,
    shown: U8,
    updated: U16,
    *,
    threads: int = 1,
    level: str | None = None,
) -> None:
    """One plane of one frame.

    ``new`` is uint8 of shape (H, W) or (H, W, C), C at most 4, any strides; ``memory``, of the same shape, is
    uint16 in 1/128 of a level, at most 255 levels, laid out as `remembered` does it. ``flow`` is float32
    (h, w, 2): for each pixel of a smaller picture where it was in the frame before, as a distance (x, y) in
    that picture's own pixels. ``weight`` is float32 (h, w) in [0, 1]: how much of the memory is kept. Both
    are enlarged linearly. Written are::

        updated = (1 - weight) * new + weight * memory(x + flow)          memory read by cubic convolution
        shown   = updated + gain * weight * (updated - its mean over 3 x 3 pixels)

    rounded to the nearest, halves up, clipped, the border repeated. A flow of NaN is no flow, one that leads
    over the whole picture and out of it is cut there; a weight outside of [0, 1] is held to it, NaN is 0.
    ``shown`` has the shape of ``new``, any strides; ``updated`` is laid out like ``memory``; neither shares
    memory with another array.

    ``threads`` and ``level`` (one of ``_kernels.levels()``, the best by default) are how the compiled kernel
    does it. Any number of threads gives the same bytes; levels and the twin differ by 1 at most in ``shown``
    and by 0.1 levels in ``updated``. Raises `BadOption` for
    arrays that do not fit. Safe to call from several threads at once.
    """
    if not _has_kernel():
        _check(new, memory, flow, weight, gain, shown, updated, threads)
        _twin(new, memory, flow, weight, gain, shown, updated)
        return
    flow, weight = _without_gaps(flow), _without_gaps(weight)
    try:
        _kernels.warp_blend(new, memory, flow, weight, gain, shown, updated, threads, level)
    except (TypeError, ValueError, BufferError) as error:
        # It has checked all there is to check in a hundredth of the time; this is for the words.
        _check(new, memory, flow, weight, gain, shown, updated, threads)
        raise BadOption(f"cannot smooth a plane of {new.shape}: {error}") from error


@cache
def _has_kernel() -> bool:
    if _kernels is not None and not hasattr(_kernels, "warp_blend"):
        _log.warning("the compiled kernels are older than vidstyle: smoothing is slower; install vidstyle again")
    return _kernels is not None and hasattr(_kernels, "warp_blend")


def _without_gaps(field: F32) -> F32:
    flags = field.flags
    return field if flags.c_contiguous and flags.aligned else np.require(field, requirements=["C", "A"])


def _twin(new: U8, memory: U16, flow: F32, weight: F32, gain: float, shown: U8, updated: U16) -> None:
    height, width = new.shape[:2]
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    most = np.array(flow.shape[1::-1], np.float32) + 1
    finite = np.nan_to_num(np.clip(flow, -most, most))
    move = _enlarged(finite, (height, width)) * scale
    kept = _enlarged(np.nan_to_num(np.clip(weight, 0, 1)), (height, width))
    kept = kept.reshape(kept.shape + (1,) * (new.ndim - 2))
    there = cv2.remap(
        memory.astype(np.float32, order="C"),
        move[..., 0] + x,
        move[..., 1] + y[:, None],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(memory.shape)
    mixed = new * np.float32(SCALE) * (1 - kept) + np.clip(there, 0, 255 * SCALE) * kept
    np.copyto(updated, mixed + np.float32(0.5), casting="unsafe")
    exact = updated.astype(np.float32, order="C")
    mean = cv2.blur(exact, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(exact.shape)
    sharp = (exact + np.float32(gain) * kept * (exact - mean)) / SCALE
    np.clip(sharp + np.float32(0.5), 0, 255, out=shown, casting="unsafe")


def _enlarged(field: F32, size: tuple[int, int]) -> F32:
    return np.asarray(cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _check(new: U8, memory: U16, flow: F32, weight: F32, gain: float, shown: U8, updated: U16, threads: int) -> None:
    small = weight.shape
    if new.shape != memory.shape or shown.shape != new.shape or updated.shape != new.shape or new.ndim not in (2, 3):
        raise BadOption(
            f"new, memory, shown and updated have shapes {new.shape}, {memory.shape}, {shown.shape} and "
            f"{updated.shape}; they must be one (H, W) or (H, W, C)"
        )
    if new.size == 0 or new.shape[2:] > (4,):
        raise BadOption(f"planes have shape {new.shape}; they must have a pixel, and 1 to 4 channels")
    if len(small) != 2 or flow.shape != (*small, 2) or 0 in small:
        raise BadOption(f"flow has shape {flow.shape} and weight {small}; they must be (h, w, 2) and (h, w)")
    types = [array.dtype for array in (new, memory, flow, weight, shown, updated)]
    if types != [np.uint8, np.uint16, np.float32, np.float32, np.uint8, np.uint16]:
        raise BadOption(
            f"arrays are of {', '.join(map(str, types))}; they must be uint8, uint16, float32, float32, uint8, uint16"
        )
    for name, array in (("memory", memory), ("updated", updated)):
        if not array.flags.aligned or (array.shape[1] > 1 and array.strides[1] != array.itemsize):
            raise BadOption(f"{name} has strides {array.strides}; it must be laid out as remembered() does it")
    for name, out in (("shown", shown), ("updated", updated)):
        if any(np.may_share_memory(out, a) for a in (new, memory, flow, weight, shown, updated) if a is not out):
            raise BadOption(f"{name} shares memory with another array; it must be one of its own")
    if not abs(gain) <= MAX_GAIN:
        raise BadOption(f"gain is {gain}; it must lie between -{MAX_GAIN:g} and {MAX_GAIN:g}")
    if threads < 1:
        raise BadOption(f"threads is {threads}; it must be at least 1")
