"""A clip made from nothing but numbers, to measure with where there is no film."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.options import MAX_SIDE, check_between

RATE = 25
CRF, PRESET = 20, "veryfast"
_MARGIN = 64  # how far, in pixels, the layers pan to each side
_GRAIN = 1.5  # levels


def generate_clip(path: Path, size: tuple[int, int], frames: int, *, seed: int = 0) -> str:
    """Write a clip that costs about what a film of that size costs, and say its parameters.

    Two layers of 1/f texture pan in different directions, the nearer one behind a mask, under a little grain: edges,
    gradients and detail, none of them still. ``size`` is ``(height, width)``, both even; H.264, 25 frames a second,
    without sound. The same arguments give the same pictures.
    """
    height, width = size
    for side in size:
        check_between("side of a generated clip", side, 16, MAX_SIDE)
        if side % 2:
            raise BadOption(f"generated clip is {width}x{height}; H.264 takes even sides, like 640x360")
    random = np.random.default_rng(seed)
    large = height + 2 * _MARGIN, width + 2 * _MARGIN
    far, near = _texture(random, large), _texture(random, large)
    mask = np.asarray(np.clip((_texture(random, large)[..., :1] - 128) / 8 + 0.5, 0, 1), np.float32)
    grain = random.standard_normal((*large, 1), np.float32) * np.float32(_GRAIN)
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", RATE, options={"crf": str(CRF), "preset": PRESET})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            angle = index / 20
            near_corner = _MARGIN * (1 + 0.9 * np.cos(1.5 * angle)), _MARGIN * (1 + 0.9 * np.cos(2 * angle))
            back = _panned(far, size, (_MARGIN * (1 + 0.9 * np.cos(angle)), _MARGIN * (1 + 0.9 * np.sin(angle))))
            part = _panned(mask, size, near_corner)[..., None]
            picture = back + part * (_panned(near, size, near_corner) - back)
            top, left = random.integers(0, 2 * _MARGIN, 2)
            picture += grain[top : top + height, left : left + width]
            rgb = np.clip(picture, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return f"generated, {width}x{height}, {RATE} fps, seed {seed}, H.264 ({PRESET}, crf {CRF})"


def _texture(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Levels of shape (rows, columns, 3): noise in octaves, each of half the detail and 1.6 times the contrast."""
    rows, columns = size
    total = np.zeros((rows, columns, 3), np.float32)
    contrast, cell = 1.0, 1
    while cell < min(rows, columns) // 2:
        cells = -(-rows // cell) + 1, -(-columns // cell) + 1
        noise = random.standard_normal((*cells, 1), np.float32) + 0.4 * random.standard_normal((*cells, 3), np.float32)
        enlarged = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
        total += np.float32(contrast) * np.asarray(enlarged, np.float32)
        contrast, cell = contrast * 1.6, cell * 2
    return np.asarray(128 + 50 * (total - total.mean()) / total.std(), np.float32)


def _panned(picture: NDArray[np.float32], size: tuple[int, int], corner: tuple[float, float]) -> NDArray[np.float32]:
    """The part of ``picture`` that begins at ``corner``, (row, column), between pixels."""
    shift = np.array([[1, 0, -corner[1]], [0, 1, -corner[0]]], np.float32)
    return np.asarray(cv2.warpAffine(picture, shift, size[::-1], flags=cv2.INTER_LINEAR), np.float32)
