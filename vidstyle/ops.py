"""What happens to the pixels around the network: shrink, guided enlarge, mix, keep color, resize.

Every function takes and gives planes as `vidstyle.frame.FrameForm.plane_shapes` says: uint8, any
strides. All are safe to call from several threads at once.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.color import yuv_from_rgb
from vidstyle.errors import BadOption
from vidstyle.frame import FrameForm, Planes
from vidstyle.options import check_between

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

RADIUS = 2
"""The local models of `enlarge` look at boxes of 2 * RADIUS + 1 low-size pixels."""
EPSILON = 40.0
"""Added to the luma's variance (levels squared): flatter places take nothing from the source."""
MAX_GAIN = 1.0
"""Bound of the models' slope: source detail is never amplified."""


def shrink(planes: Planes, form: FrameForm, size: tuple[int, int]) -> Planes:
    """The picture at ``size`` (height, width), each pixel the mean of the area it covers.

    ``planes`` are of ``form``; the result is of ``form.resized(size)``: new arrays, or the given
    ones if the size is the same. Chroma planes are reduced to their own size.
    """
    _check("planes", planes, form)
    if size == form.size:
        return planes
    shapes = form.resized(size).plane_shapes
    return tuple(
        _resized(plane, (shape[0], shape[1]), cv2.INTER_AREA) for plane, shape in zip(planes, shapes, strict=True)
    )


def resize(planes: Planes, form: FrameForm, size: tuple[int, int]) -> Planes:
    """The picture at ``size`` (height, width): area means where it shrinks, bicubic where it grows.

    ``planes`` are of ``form``; the result is of ``form.resized(size)``: new arrays, or the given
    ones if the size is the same.
    """
    _check("planes", planes, form)
    if size == form.size:
        return planes
    result = []
    for plane, shape in zip(planes, form.resized(size).plane_shapes, strict=True):
        least = min(plane.shape[0], shape[0]), min(plane.shape[1], shape[1])
        result.append(_resized(_resized(plane, least, cv2.INTER_AREA), (shape[0], shape[1]), cv2.INTER_CUBIC))
    return tuple(result)


def enlarge(styled: Planes, small_source: Planes, source: Planes, small_form: FrameForm, form: FrameForm) -> Planes:
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
    if form.pixels == "rgb":
        weights = yuv_from_rgb("bt601", True)[0][:1]
        small_luma, luma = (np.asarray(cv2.transform(p[0], weights), np.uint8) for p in (small_source, source))
        return (_guided(styled[0], small_luma, luma),)
    small_half, half = (
        _resized(p[0], f.chroma_size, cv2.INTER_AREA) for p, f in ((small_source, small_form), (source, form))
    )
    return (
        _guided(styled[0], small_source[0], source[0]),
        *(_guided(plane, small_half, half) for plane in styled[1:]),
    )


def mix(source: Planes, styled: Planes, strength: float) -> Planes:
    """``source`` and ``styled`` (same shapes) in proportion: 0 is the source, 1 the styled picture.

    New arrays, but for strength 0 and 1: those return the planes given.
    """
    check_between("strength", strength, 0, 1)
    if [plane.shape for plane in source] != [plane.shape for plane in styled]:
        raise BadOption(
            f"cannot mix planes of shapes {[p.shape for p in source]} and {[p.shape for p in styled]}; "
            "both pictures must be of the same form"
        )
    if strength in (0, 1):
        return styled if strength else source
    return tuple(
        np.asarray(cv2.addWeighted(a, 1 - strength, b, strength, 0), np.uint8)
        for a, b in zip(source, styled, strict=True)
    )


def keep_color(source: Planes, styled: Planes, form: FrameForm) -> Planes:
    """The luma of ``styled`` with the chroma of ``source``, both of ``form``.

    For YCbCr forms the result's planes are those given. For rgb it is a new array: what has no place
    in the cube of colors is clipped.
    """
    _check("source planes", source, form)
    _check("styled planes", styled, form)
    if form.pixels != "rgb":
        return (styled[0], *source[1:])
    # R, G and B are luma plus a function of chroma: new luma with old chroma adds the difference.
    difference = cv2.subtract(styled[0], source[0], dtype=cv2.CV_32F)
    luma = cv2.transform(difference, np.repeat(yuv_from_rgb("bt601", True)[0][:1], 3, axis=0))
    return (np.asarray(cv2.add(source[0], luma, dtype=cv2.CV_8U), np.uint8),)


def _check(what: str, planes: Planes, form: FrameForm) -> None:
    found = tuple(plane.shape for plane in planes)
    if found != form.plane_shapes or any(plane.dtype != np.uint8 for plane in planes):
        raise BadOption(
            f"{what} are {', '.join(f'{p.dtype} of {p.shape}' for p in planes) or 'missing'}; "
            f"a {form.pixels} frame of {form.width}x{form.height} has uint8 of {form.plane_shapes}"
        )


def _resized(plane: U8, size: tuple[int, int], interpolation: int) -> U8:
    if plane.shape[:2] == size:
        return plane
    return np.asarray(cv2.resize(plane, size[::-1], interpolation=interpolation), np.uint8)


def _guided(styled: U8, small_guide: U8, guide: U8) -> U8:
    small = styled.astype(np.float32)
    luma = small_guide.astype(np.float32)
    mean, variance = _mean(luma), _mean(luma * luma)
    variance -= mean * mean
    if small.ndim == 3:
        luma, mean, variance, guide = luma[..., None], mean[..., None], variance[..., None], guide[..., None]
    a = (_mean(small * luma) - _mean(small) * mean) / (variance + EPSILON)
    np.clip(a, -MAX_GAIN, MAX_GAIN, out=a)
    b = small - a * luma
    size = guide.shape[1::-1]
    full = cv2.resize(a, size).reshape(*guide.shape[:2], *small.shape[2:]) * guide
    full += cv2.resize(b, size).reshape(full.shape)
    return np.asarray(np.clip(np.rint(full), 0, 255), np.uint8)


def _mean(x: F32) -> F32:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(x, (side, side), borderType=cv2.BORDER_REPLICATE), np.float32)
