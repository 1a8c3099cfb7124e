"""What a window shows of a frame: BGR at the size of the window, mirrored, split."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import Frame, FrameFormat, Matrix, Planes, rgb_from_yuv
from vidstyle.imaging import resample
from vidstyle.live.controls import View

U8 = NDArray[np.uint8]


def draw(painted: Frame, source: Frame, size: tuple[int, int], *, view: View = "painted", mirror: bool = False) -> U8:
    """The picture for a window of ``size`` (height, width): a new uint8 BGR array of that size.

    ``painted`` and ``source`` are of one form. The picture is as large as fits, in the middle, on black.
    Split, the source is on the left of the screen and the painting on the right, mirrored or not.
    """
    form = painted.form
    planes = source.planes if view == "original" else painted.planes
    if view == "split":
        planes = _split(source.planes, painted.planes, form, source_first=not mirror)
    fitted = _fitted(form.size, size)
    shrunk = min(fitted[0], form.height), min(fitted[1], form.width)
    bgr = bgr_from_planes(resample.shrink(planes, form, shrunk), form.resized(shrunk))
    if shrunk != fitted:
        bgr = np.asarray(cv2.resize(bgr, fitted[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    if mirror:
        bgr = np.asarray(cv2.flip(bgr, 1), np.uint8)
    if view == "split":
        middle = bgr.shape[1] // 2
        bgr[:, max(0, middle - 1) : middle + 1] = 255
    if fitted == size:
        return bgr
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2
    canvas[top : top + fitted[0], left : left + fitted[1]] = bgr
    return canvas


def bgr_from_planes(planes: Planes, form: FrameFormat) -> U8:
    """The picture as a new uint8 array (height, width, 3) in the order blue, green, red.

    ``planes`` are of ``form``; its matrix and range are honored. Chroma is that of the nearest pixel.
    """
    if form.pixels == "rgb":
        return np.asarray(cv2.cvtColor(planes[0], cv2.COLOR_RGB2BGR), np.uint8)
    chroma = planes[1:] if form.pixels == "i420" else tuple(cv2.split(planes[1]))
    shape = 2 * form.chroma_size[1], 2 * form.chroma_size[0]  # an odd side has half a chroma pixel left over
    full = [cv2.resize(plane, shape, interpolation=cv2.INTER_NEAREST)[: form.height, : form.width] for plane in chroma]
    # OpenCV's own conversion is faster, and knows BT.601 in the limited range only.
    yuv = cv2.merge([planes[0], *full])
    return np.asarray(cv2.transform(yuv, _bgr_matrix(form.matrix, form.full_range)), np.uint8)


@cache
def _bgr_matrix(matrix: Matrix, full_range: bool) -> NDArray[np.float64]:
    m, offset = rgb_from_yuv(matrix, full_range)
    return np.concatenate([m, offset[:, None]], axis=1)[::-1].copy()


def _split(left: Planes, right: Planes, form: FrameFormat, *, source_first: bool) -> Planes:
    if not source_first:
        left, right = right, left
    half = form.width // 4 * 2
    columns = (half,) if form.pixels == "rgb" else (half, *[half // 2] * (len(left) - 1))
    return tuple(
        np.concatenate([a[:, :middle], b[:, middle:]], axis=1)
        for a, b, middle in zip(left, right, columns, strict=True)
    )


def _fitted(size: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """``size`` scaled to lie within ``bounds``, its aspect kept; at least one pixel."""
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    return (
        min(bounds[0], max(1, round(size[0] * scale))),
        min(bounds[1], max(1, round(size[1] * scale))),
    )
