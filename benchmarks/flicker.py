"""Measures of flicker in painted videos, and of what a remedy costs in sharpness.

Pictures are uint8 RGB of shape (H, W, 3), flows float32 (H, W, 2) in pixels (x, y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Motion:
    """From one frame to the next."""

    forward: F32
    """For each pixel of the first where it goes to."""
    visible: Mask
    """Pixels of the first that are in both, away from the edges of motion."""


def judged_motion(first: RGB, second: RGB) -> Motion:
    """By Farneback's method (2003) at full size, with the occlusions of Sundaram and others 2010, as Lai and
    others 2018 take them: what forward and backward flow disagree on, the edges of motion, and what leaves."""
    a, b = (np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) for picture in (first, second))
    forward, backward = _farneback(a, b), _farneback(b, a)
    return Motion(forward, visible_pixels(forward, backward))


def visible_pixels(forward: F32, backward: F32) -> Mask:
    """The mask of `Motion`, from the flows there and back."""
    back = warped(backward, forward)
    apart = ((forward + back) ** 2).sum(-1)
    length = (forward**2).sum(-1) + (back**2).sum(-1)
    edge = (
        sum((cv2.Sobel(forward, cv2.CV_32F, dx, dy, scale=1 / 8) ** 2).sum(-1) for dx, dy in ((1, 0), (0, 1)))
        > 0.01 * (back**2).sum(-1) + 0.002
    )
    return np.asarray(~((apart > 0.01 * length + 0.5) | edge) & inside(forward), np.bool_)


def inside(flow: F32) -> Mask:
    """Pixels that the flow leaves within the picture."""
    height, width = flow.shape[:2]
    x, y = _there(flow)
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1), np.bool_)


def warped(picture: NDArray[np.float32], flow: F32) -> F32:
    """``picture`` read at x + flow, linearly; of its shape."""
    x, y = _there(flow)
    read = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float32).reshape(picture.shape)


def warping_error(first: RGB, second: RGB, motion: Motion) -> float | None:
    """E_warp of two frames (Lai and others 2018): mean square of the second, warped back, less the first, with
    levels of 0-1; None where nothing is visible in both."""
    if not motion.visible.any():
        return None
    a, b = (np.asarray(picture, np.float32) / np.float32(255) for picture in (first, second))
    difference = warped(b, motion.forward) - a
    return float((difference**2).mean(-1)[motion.visible].mean())


def mean_warping_error(frames: Sequence[RGB], motions: Sequence[Motion | None]) -> float:
    """E_warp of a video: the mean over its pairs of frames. A motion of None is a cut, which is left out."""
    errors = [warping_error(a, b, motion) for a, b, motion in zip(frames, frames[1:], motions, strict=False) if motion]
    return float(np.mean([error for error in errors if error is not None]))


def gradient_energy(picture: RGB) -> float:
    """Mean square of the luma's differences to the right and downwards: falls when a picture is blurred."""
    luma = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)
    return float((np.diff(luma, axis=1)[:-1] ** 2 + np.diff(luma, axis=0)[:, :-1] ** 2).mean())


def structural_similarity(first: RGB, second: RGB) -> float:
    """SSIM of the lumas (Wang and others 2004): Gaussian window of 11 pixels and sigma 1.5; 1 for equal pictures."""
    a, b = (np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) for picture in (first, second))

    def mean(x: F32) -> F32:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float32)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(ratio.mean())


def restlessness(frames: Sequence[RGB]) -> float:
    """Standard deviation over time, in levels, of the mean pixel of a scene in which nothing moves."""
    stack = np.stack([frame.astype(np.float32) for frame in frames])
    return float(stack.std(axis=0).mean())


def ghost(shown: RGB, plain: RGB, where: Mask) -> float:
    """Mean difference of a smoothed picture from the unsmoothed one, in levels, in the pixels ``where``.

    Both are blurred first (Gaussian, sigma 2): a ghost is larger than a stroke's grain. NaN without pixels.
    """
    a, b = (cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2) for picture in (shown, plain))
    return float(cv2.absdiff(a, b)[where].mean()) if where.any() else math.nan


def is_cut(first: RGB, second: RGB) -> bool:
    """Whether another scene begins: most of the picture is another one, whatever moves."""
    small = [
        np.asarray(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (64, 36), interpolation=cv2.INTER_AREA))
        for picture in (first, second)
    ]
    return float(cv2.absdiff(*small).mean()) > 30


def _farneback(first: NDArray[np.generic], second: NDArray[np.generic]) -> F32:
    flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 5, 21, 5, 7, 1.5, 0)  # type: ignore[call-overload]
    return np.asarray(flow, np.float32)


def _there(flow: F32) -> tuple[F32, F32]:
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    return x, y
