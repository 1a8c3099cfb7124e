"""The mask of the people in a picture, found by a small network, steady over time, with the edges of the picture.

The network (MediaPipe's selfie segmentation) sees every frame at a quarter of a megapixel or less. What it says wavers
from frame to frame, so the mask is an exponential mean over time whose memory follows the motion of the picture
(optical flow as in `vidstyle.imaging.smoothing`) and counts the less the worse it fits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.data import PERSON_FILE, PERSON_WIDE_FILE
from vidstyle.frame import Frame, FrameFormat, rgb_from_yuv
from vidstyle.imaging import resample
from vidstyle.options import BackendOptions
from vidstyle.pipeline import Closing

if TYPE_CHECKING:
    from vidstyle.backends.base import PictureNetwork

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

WIDE = 4 / 3
"""Frames at least so many times as wide as high go through the network for wide ones."""
KEPT = 0.8
"""Weight of the memory where it fits."""
TOLERANCE = 16.0
"""Levels of luma by which the picture may differ from the one before, moved; there the memory counts 1/e of that."""
CUT_FIT = 0.25
"""A cut: less than this share of the picture fits the one before."""
SURE = 0.15, 0.85
"""Probabilities below the first are 0 in the mask, above the second all; what lies between is the soft edge."""


class PersonMask(Closing):
    """Finds people in the frames of one stream, in order. Use it from one thread."""

    def __init__(self, form: FrameFormat, backend: BackendOptions | None = None) -> None:
        """``form`` is that of every frame. Raises what compiling the network raises."""
        from vidstyle.backends import open_picture_network

        self.form = form
        path = PERSON_WIDE_FILE if form.width >= WIDE * form.height else PERSON_FILE
        self._network: PictureNetwork = open_picture_network(_graph(path), backend or BackendOptions())
        self._size = self._network.size
        rows, columns = np.mgrid[: self._size[0], : self._size[1]].astype(np.float32)
        self._place = np.dstack([columns, rows])
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._luma: U8 | None = None
        self._memory: F32 | None = None
        self._colors: F32 | None = None
        if form.pixels != "rgb":
            matrix, offset = rgb_from_yuv(form.matrix, form.full_range)
            self._colors = np.hstack([matrix, offset[:, None]]).astype(np.float32)

    def at(self, frame: Frame) -> U8:
        """The mask of ``frame``: uint8 (height, width), 255 on a person. The next frame is taken to follow it."""
        small, guide = self._small(frame)
        probability = self._steadied(self._network.run(small), guide)
        low, high = SURE
        share = np.clip((probability - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
        levels = cv2.convertScaleAbs(share, alpha=255)
        return resample.enlarge_mask(np.asarray(levels, np.uint8), guide, frame.planes[0])

    def reset(self) -> None:
        """Forget what was: the next frame begins a scene."""
        self._memory = None

    def close(self) -> None:
        self._network.close()

    def _small(self, frame: Frame) -> tuple[U8, U8]:
        """The frame at the size of the network: in RGB, and as the guide that `resample.enlarge_mask` takes."""
        planes = [_shrunk(plane, self._size) for plane in frame.planes]
        if self._colors is None:
            return planes[0], planes[0]
        merged = cv2.merge(planes)
        return np.asarray(cv2.transform(merged, self._colors), np.uint8), planes[0]

    def _steadied(self, probability: F32, guide: U8) -> F32:
        luma = guide if guide.ndim == 2 else np.asarray(cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY), np.uint8)
        before, self._luma = self._luma, luma
        kept = None if before is None or self._memory is None else self._kept(luma, before)
        if kept is None or self._memory is None:
            self._memory = np.array(probability)
            return self._memory
        weight, there = kept
        memory = _read(self._memory, there)
        self._memory = np.asarray(probability + weight * (memory - probability), np.float32)
        return self._memory

    def _kept(self, luma: U8, before: U8) -> tuple[F32, F32] | None:
        """How much of the memory is kept, and where each pixel was in it; None at a cut."""
        there = np.asarray(self._flow.calc(luma, before, None), np.float32)  # type: ignore[call-overload]
        there += self._place
        apart = cv2.blur(cv2.absdiff(luma, _read(before, there)), (5, 5)).astype(np.float32)
        fit = cv2.exp(-((apart * np.float32(1 / TOLERANCE)) ** 2))
        return None if float(fit.mean()) < CUT_FIT else (np.asarray(fit * np.float32(KEPT), np.float32), there)


def _read(picture: NDArray[Any], there: F32) -> NDArray[Any]:
    no_map: Any = None  # both coordinates are in the first one
    return cv2.remap(picture, there, no_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shrunk(plane: U8, size: tuple[int, int]) -> U8:
    """``plane`` at ``size``: means over whole pixels first, which is ten times as fast as means over parts of them."""
    times = min(plane.shape[0] // size[0], plane.shape[1] // size[1])
    if times > 1:
        near = plane.shape[1] // times, plane.shape[0] // times
        plane = np.asarray(cv2.resize(plane, near, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


@cache
def _graph(path: Path) -> bytes:
    return path.read_bytes()
