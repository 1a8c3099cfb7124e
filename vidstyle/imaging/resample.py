"""What happens to the pixels around the network: resize, guided enlarge, mix, keep color.

Every function takes and gives planes as `vidstyle.frame.FrameFormat.plane_shapes` says: uint8, any
strides. All are safe to call from several threads at once.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.frame import FrameFormat, Planes, yuv_from_rgb
from vidstyle.options import check_between

try:
    from vidstyle import _kernels
except ImportError:  # no compiler at installation: the twins below serve
    _kernels = None  # type: ignore[assignment]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
GuideKind = Literal["plain", "half", "rgb"]
Slopes = tuple[float, float]

RADIUS = 2
"""The models of `enlarge` look at boxes of 2 * RADIUS + 1 low-size pixels; the kernel is written for 2."""
EPSILON = 20.0
"""Added to the luma's variance (levels squared): flatter places, and noise, take nothing from the source."""
LIGHT_SLOPES: Slopes = (0.0, 1.5)
"""Bounds of the models' slope for luma, R, G and B. Where a style turns light into dark, source
detail would show inverted, as ringing: a slope below 0 is 0, and the stroke is enlarged as it is."""
CHROMA_SLOPES: Slopes = (-1.0, 1.0)
"""Bounds for Cb and Cr, which rise or fall with luma by nature."""
MASK_SLOPES: Slopes = (-6.0, 6.0)
"""Bounds for masks, which go from nothing to all at an edge of some forty levels."""
_FULL_STRENGTH = 257
"""What `kernels/mix.h` takes for a strength of 1."""

_log = logging.getLogger(__name__)


def resize(planes: Planes, form: FrameFormat, size: tuple[int, int]) -> Planes:
    """The picture at ``size`` (height, width): area means where it shrinks, bicubic where it grows.

    ``planes`` are of ``form``; the result is of ``form.resized(size)``: new arrays, or the given
    ones if the size is the same. Chroma planes are brought to their own size.
    """
    _check("planes", planes, form)
    if size == form.size:
        return planes
    result = []
    for plane, shape in zip(planes, form.resized(size).plane_shapes, strict=True):
        least = min(plane.shape[0], shape[0]), min(plane.shape[1], shape[1])
        result.append(_resized(_resized(plane, least, cv2.INTER_AREA), (shape[0], shape[1]), cv2.INTER_CUBIC))
    return tuple(result)


def enlarge(styled: Planes, small_source: Planes, source: Planes, small_form: FrameFormat, form: FrameFormat) -> Planes:
    """A picture stylized at a small size, at full size, with the edges of the full-size source.

    ``styled`` and ``small_source`` are of ``small_form``: what the network made, and what it was
    given; ``source`` is of ``form``, the same picture at full size. Every styled plane is modelled
    at the small size as ``a * luma + b`` around each pixel (He and Sun 2015, "Fast guided filter",
    but with b exact at every pixel, which keeps brush strokes), and the models are applied to the
    source's full-size luma. The result is of ``form``: new arrays, or ``styled`` itself where the
    sizes are equal.
    """
    _check("styled planes", styled, small_form)
    _check("small source planes", small_source, small_form)
    _check("source planes", source, form)
    if small_form.resized(form.size) != form:
        raise BadOption(f"cannot enlarge {small_form} to {form}; they may differ in size only")
    if small_form.size == form.size:
        return styled
    result = tuple(np.empty(shape, np.uint8) for shape in form.plane_shapes)
    small_luma, luma = _even_rows(small_source[0]), _even_rows(source[0])
    guided = _guided_twin if kernels_in_use() is None else _guided_kernel
    if form.pixels == "rgb":
        guided(_channels(styled), small_luma, luma, _channels(result), "rgb", LIGHT_SLOPES)
    else:
        guided(styled[:1], small_luma, luma, result[:1], "plain", LIGHT_SLOPES)
        guided(_channels(styled[1:]), small_luma, luma, _channels(result[1:]), "half", CHROMA_SLOPES)
    return result


def mix(source: Planes, styled: Planes, strength: float, mask: U8 | None = None) -> Planes:
    """``source`` and ``styled`` (same shapes) in proportion: 0 is the source, 1 the styled picture.

    ``mask``, uint8 of shape (height, width), says where: 255 is as above, 0 is the source alone. New arrays; without
    a mask strengths of 0 and 1 return the planes given.
    """
    check_between("strength", strength, 0, 1)
    if [plane.shape for plane in source] != [plane.shape for plane in styled]:
        raise BadOption(
            f"cannot mix planes of shapes {[p.shape for p in source]} and {[p.shape for p in styled]}; "
            "both pictures must be of the same form"
        )
    if mask is not None:
        return _mixed_through(source, styled, strength, mask)
    if strength in (0, 1):
        return styled if strength else source
    return tuple(
        np.asarray(cv2.addWeighted(a, 1 - strength, b, strength, 0), np.uint8)
        for a, b in zip(source, styled, strict=True)
    )


def _mixed_through(source: Planes, styled: Planes, strength: float, mask: U8) -> Planes:
    if mask.dtype != np.uint8 or mask.shape != source[0].shape[:2]:
        raise BadOption(f"mask is {mask.dtype} of {mask.shape}; it must be uint8 of {source[0].shape[:2]}")
    mask = _even_rows(mask)
    share = round(strength * _FULL_STRENGTH)
    has_kernel = kernels_in_use() is not None and hasattr(_kernels, "mix")
    result = []
    for a, b in zip(source, styled, strict=True):
        out = np.empty(a.shape, np.uint8)
        half = a.shape[:2] != mask.shape
        (_kernels.mix if has_kernel else _mix_twin)(_even_rows(a), _even_rows(b), mask, out, half, share)
        result.append(out)
    return tuple(result)


def enlarge_mask(mask: U8, small_source: U8, source: U8) -> U8:
    """A mask of the size of ``small_source`` at that of ``source``, with the edges of the latter.

    The sources are the same picture at two sizes, both luma (h, w) or RGB (h, w, 3). The result is uint8 (H, W).
    """
    if any(full < small for full, small in zip(source.shape, mask.shape, strict=False)):
        return _resized(_resized(mask, _least(mask, source), cv2.INTER_AREA), _size(source), cv2.INTER_LINEAR)
    result = np.empty(source.shape[:2], np.uint8)
    kind: GuideKind = "plain" if source.ndim == 2 else "rgb"
    guided = _guided_twin if kernels_in_use() is None else _guided_kernel
    guided((mask,), _even_rows(small_source), _even_rows(source), (result,), kind, MASK_SLOPES)
    return result


def keep_color(source: Planes, styled: Planes, form: FrameFormat) -> Planes:
    """The luma of ``styled`` with the chroma of ``source``, both of ``form``.

    For YCbCr forms the result's planes are those given. For rgb it is a new array: what has no place
    in the cube of colors is clipped.
    """
    _check("source planes", source, form)
    _check("styled planes", styled, form)
    if form.pixels != "rgb":
        return (styled[0], *source[1:])
    # R, G and B are luma plus a function of chroma: new luma with old chroma adds the difference.
    difference = cv2.subtract(styled[0], source[0], dtype=cv2.CV_16S)
    luma = cv2.transform(difference, np.repeat(yuv_from_rgb("bt601", True)[0][:1], 3, axis=0))
    return (np.asarray(cv2.add(source[0], luma, dtype=cv2.CV_8U), np.uint8),)


def _check(what: str, planes: Planes, form: FrameFormat) -> None:
    if not all(isinstance(plane, np.ndarray) for plane in planes):
        raise BadOption(f"{what} are {', '.join(type(p).__name__ for p in planes)}; they must be NumPy arrays of uint8")
    found = tuple(plane.shape for plane in planes)
    if found != form.plane_shapes or any(plane.dtype != np.uint8 for plane in planes):
        raise BadOption(
            f"{what} are {', '.join(f'{p.dtype} of {p.shape}' for p in planes) or 'missing'}; "
            f"a {form.pixels} frame of {form.width}x{form.height} has uint8 of {form.plane_shapes}"
        )


def _size(plane: U8) -> tuple[int, int]:
    return plane.shape[0], plane.shape[1]


def _least(a: U8, b: U8) -> tuple[int, int]:
    return min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])


def _resized(plane: U8, size: tuple[int, int], interpolation: int) -> U8:
    if plane.shape[:2] == size:
        return plane
    return np.asarray(cv2.resize(plane, size[::-1], interpolation=interpolation), np.uint8)


@cache
def kernels_in_use() -> str | None:
    """The instruction set that the compiled kernels use here; None where NumPy and OpenCV serve instead."""
    if _kernels is None:
        _log.warning(
            "vidstyle was installed without its compiled kernels: --work-size and --smooth are slower; "
            "install it again where there is a C++ compiler"
        )
        return None
    return _kernels.levels()[-1]


def _channels(planes: Planes) -> Planes:
    return tuple(p if p.ndim == 2 else p[..., c] for p in planes for c in range(1 if p.ndim == 2 else p.shape[2]))


def _even_rows(plane: U8) -> U8:
    """``plane``, copied unless its pixels lie side by side within a row."""
    side_by_side = plane.strides[1:] == ((1,) if plane.ndim == 2 else (plane.shape[2], 1))
    return plane if side_by_side else np.ascontiguousarray(plane)


def _guided_kernel(
    styled: Planes, small_guide: U8, guide: U8, out: Planes, kind: GuideKind, slopes: Slopes, level: str | None = None
) -> None:
    _kernels.enlarge(styled, small_guide, guide, out, kind, EPSILON, *slopes, level)


def _guided_twin(styled: Planes, small_guide: U8, guide: U8, out: Planes, kind: GuideKind, slopes: Slopes) -> None:
    """What ``kernels/enlarge.h`` does, with NumPy and OpenCV."""
    small, full = _luma(small_guide, kind).astype(np.float32), _luma(guide, kind)
    area = (2 * RADIUS + 1) ** 2
    sum_l = _box_sums(small)
    variance = (area * _box_sums(small * small) - sum_l * sum_l).astype(np.float32) + np.float32(EPSILON * area * area)
    for channel, result in zip(styled, out, strict=True):
        values = channel.astype(np.float32)
        covariance = area * _box_sums(small * values) - sum_l * _box_sums(values)
        a: F32 = np.clip(covariance.astype(np.float32) / variance, *slopes)
        enlarged = _cubic(a, full.shape) * full + _cubic(values - a * small, full.shape)
        np.clip(np.rint(enlarged), 0, 255, out=result, casting="unsafe")


def _mix_twin(source: U8, painted: U8, mask: U8, out: U8, half: bool, strength: int) -> None:
    """What ``kernels/mix.h`` does, with NumPy."""
    weight = _luma(mask, "half" if half else "plain").astype(np.int32) * strength
    weight += weight >> 15
    weight = weight.reshape(weight.shape + (1,) * (source.ndim - 2))
    out[...] = (source * (65536 - weight) + painted * weight + 32768) >> 16


def _luma(guide: U8, kind: GuideKind) -> U8:
    if kind == "plain":
        return guide
    if kind == "rgb":  # BT.601 in 1/256
        weighted = guide.astype(np.int32) @ np.array([77, 150, 29], np.int32)
        return ((weighted + 128) >> 8).astype(np.uint8)
    padded = np.pad(guide, [(0, side % 2) for side in guide.shape], mode="edge").astype(np.uint16)
    sums = padded[::2, ::2] + padded[::2, 1::2] + padded[1::2, ::2] + padded[1::2, 1::2]
    return ((sums + 2) >> 2).astype(np.uint8)


def _box_sums(x: F32) -> NDArray[np.int32]:
    side = 2 * RADIUS + 1  # sums of 25 products of bytes are exact in float32
    return np.asarray(cv2.boxFilter(x, -1, (side, side), normalize=False, borderType=cv2.BORDER_REPLICATE), np.int32)


def _cubic(x: F32, shape: tuple[int, ...]) -> F32:
    return np.asarray(cv2.resize(x, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
