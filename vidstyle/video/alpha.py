"""Transparent parts of a picture, which are shown on white."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidstyle.video.info import VideoInfo
from vidstyle.video.pixels import samples

_OPAQUE = 250
"""Alpha from which on nobody sees through; lossy codecs do not hold 255."""


class AlphaReader:
    """Reads how transparent the decoder's frames are. One reader serves one thread."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info

    def read(self, frame: VideoFrame) -> NDArray[np.uint8] | None:
        """uint8 of shape (height, width), 0 is transparent; None where the picture is opaque."""
        format = frame.format
        if not _has_alpha(format.name) or self._is_padding(format):
            return None
        if format.is_planar and format.components[-1].plane == 3:
            plane, bits = samples(frame.planes[3], format), format.components[-1].bits
            if plane.min() >> (bits - 8) >= _OPAQUE:
                return None
            alpha = np.asarray(plane >> (bits - 8), np.uint8)
        else:
            rgba = frame.reformat(format="rgba", threads=1)
            alpha = np.ascontiguousarray(samples(rgba.planes[0], rgba.format)[:, 3::4])
        return None if alpha.min() >= _OPAQUE else alpha

    def _is_padding(self, format: VideoFormat) -> bool:
        """Whether the fourth byte of a pixel is there to fill it up: in AVI, and on screens, it says nothing."""
        if format.has_palette:
            return self._info.codec not in ("png", "apng")
        doubtful = format.is_rgb and self._info.codec in ("rawvideo", "huffyuv")
        return doubtful and not self._info.container.startswith(("mov,", "nut"))


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``rgb``, (height, width, 3), seen through ``alpha``, (height, width), on a white ground."""
    dark = cv2.multiply(cv2.bitwise_not(rgb), cv2.merge([alpha, alpha, alpha]), scale=1 / 255)
    return np.asarray(cv2.bitwise_not(dark), np.uint8)


@lru_cache
def _has_alpha(name: str) -> bool:
    format = VideoFormat(name)
    return format.has_palette or any(component.is_alpha for component in format.components)
