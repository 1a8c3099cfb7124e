"""Pixels of every format become the same picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from media import picture, psnr
from numpy.typing import NDArray

from vidstyle.video.convert import plane_view
from vidstyle.video.formats import is_gray
from vidstyle.video.reader import VideoReader


def ffv1(path: Path, frame: VideoFrame, color_range: int) -> Path:
    """A Matroska file of that very frame."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=25, options={"strict": "-2"})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        stream.codec_context.color_range = frame.color_range = color_range
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def gray_frame(levels: NDArray[np.float64], pixel_format: str, color_range: int) -> VideoFrame:
    """``levels`` on the 8-bit scale in a gray format of whatever depth."""
    height, width = levels.shape
    frame = VideoFrame(width, height, pixel_format)
    count, bits = len(frame.format.components), frame.format.components[0].bits
    rows = plane_view(frame.planes[0], (height, width * count * (2 if bits > 8 else 1)))
    samples = rows.view("<u2") if bits > 8 else rows
    scale = 2 ** (bits - 8) if color_range == 1 else (2**bits - 1) / 255
    samples[:, ::count] = np.round(levels * scale)
    samples[:, count - 1 :: count] = (1 << bits) - 1 if count == 2 else samples[:, ::count]
    return frame


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pixel_format", ["gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le", "ya8"])
def test_gray_of_any_depth_keeps_its_levels(tmp_path: Path, pixel_format: str, color_range: int) -> None:
    low, high = (16, 235) if color_range == 1 else (0, 255)
    levels = np.repeat(np.linspace(low, high, 64)[None], 48, 0)
    path = ffv1(tmp_path / "a.mkv", gray_frame(levels, pixel_format, color_range), color_range)
    with VideoReader(path) as source, VideoReader(path, pixels="rgb") as rgb:
        luma, u, v = next(source.frames()).planes
        assert source.form.full_range == (color_range == 2)
        shown = next(rgb.frames()).planes[0].astype(float)
    assert np.abs(luma - levels).max() < 1.5  # dithered
    assert (np.abs(np.stack([u, v]).astype(int) - 128) <= 1).all()
    assert np.abs(shown - (levels - low)[..., None] * 255 / (high - low)).max() <= 2


def test_gray_without_a_range_is_full_in_ffv1(tmp_path: Path) -> None:
    levels = np.repeat(np.linspace(0, 255, 64)[None], 48, 0)
    with VideoReader(ffv1(tmp_path / "a.mkv", gray_frame(levels, "gray16le", 2), 0)) as source:
        assert source.form.full_range
        assert np.abs(next(source.frames()).planes[0] - levels).max() < 1.5


# The scaler cannot write these, and grays have no colors to compare.
UNWRITABLE = ("f16", "bayer")
FORMATS = [f.name for f in av.Codec("ffv1", "w").video_formats or () if not is_gray(f)]
FORMATS = [name for name in FORMATS if not any(word in name for word in UNWRITABLE)]


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_format_and_range_gives_the_same_picture(tmp_path: Path, pixel_format: str) -> None:
    expected = picture((48, 64), 1, smooth=True)
    rgb = VideoFrame.from_ndarray(expected, "rgb24")
    is_rgb = av.VideoFormat(pixel_format).is_rgb
    for color_range in (2,) if is_rgb else (1, 2):
        made = rgb.reformat(
            format=pixel_format, dst_colorspace="ITU601", src_color_range=2, dst_color_range=color_range, threads=1
        )
        path = ffv1(tmp_path / f"{color_range}.mkv", made, color_range)
        with VideoReader(path, pixels="rgb") as source:
            assert psnr(next(source.frames()).planes[0], expected) > 36, color_range
