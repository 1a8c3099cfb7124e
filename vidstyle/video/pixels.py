"""Arrays over the pixels of FFmpeg's frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray


def with_neutral_chroma(gray: VideoFrame) -> VideoFrame:
    """A gray picture, of whatever depth, as 4:2:0; an alpha channel is left out."""
    format = gray.format
    bits, end = format.components[0].bits, "be" if format.is_big_endian else "le"
    made = VideoFrame(gray.width, gray.height, "yuv420p" if bits == 8 else f"yuv420p{bits}{end}")
    luma, *chroma = (samples(plane, made.format) for plane in made.planes)
    np.copyto(luma, samples(gray.planes[0], format)[:, :: len(format.components)])
    for plane in chroma:
        plane.fill(1 << (bits - 1))
    made.color_range = gray.color_range
    return made


def samples(plane: VideoPlane, format: VideoFormat) -> NDArray[Any]:
    """An array over all that a plane has in each of its rows: components that share it lie side by side.

    uint8 of shape (rows, columns * components), or uint16 where a component has more than 8 bits.
    """
    deep = format.components[0].bits > 8
    shared = sum(component.plane == 0 for component in format.components)
    rows = plane_view(plane, (plane.height, plane.width * shared * (2 if deep else 1)))
    return rows.view(">u2" if format.is_big_endian else "<u2") if deep else rows


def plane_view(plane: VideoPlane, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A uint8 array of ``shape`` over FFmpeg's memory, padding left out; it keeps the frame alive."""
    stride = abs(plane.line_size)
    strides = (plane.line_size, *((shape[2], 1) if len(shape) == 3 else (1,)))
    # Rows of a frame stored bottom up have a negative stride and begin at the far end.
    offset = (shape[0] - 1) * stride if plane.line_size < 0 else 0
    return np.ndarray(shape, np.uint8, buffer=memoryview(plane), offset=offset, strides=strides)
