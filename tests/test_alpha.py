"""Transparent video is shown on white, like transparent stills, and a note says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import make_video
from numpy.typing import NDArray
from test_sink import copy

from vidstyle.video.capture import Capture
from vidstyle.video.reader import VideoReader

HIDDEN, SHOWN, HALF = (10, 200, 90), (200, 40, 60), (0, 0, 255)


def cutout(opaque: bool = False) -> NDArray[np.uint8]:
    """RGBA (48, 64): a square on nothing (which has a color all the same), and a bar that is half there."""
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[..., :3] = HIDDEN
    rgba[12:36, 16:48] = (*SHOWN, 255)
    rgba[:, :8] = (*HALF, 128)
    if opaque:
        rgba[..., 3] = 255
    return rgba


def transparent(path: Path, codec: str, pixel_format: str, *, opaque: bool = False, **options: str) -> Path:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(cutout(opaque), "rgba")
            full = 1 if pixel_format.startswith("yuv") else 2
            frame = frame.reformat(format=pixel_format, src_color_range=2, dst_color_range=full)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


KINDS = [
    ("a.apng", "apng", "rgba", {}),
    ("a.mov", "png", "rgba", {}),
    ("a.mov", "png", "rgba64be", {}),
    ("a.mov", "qtrle", "argb", {}),
    ("a.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
    ("a.mov", "rawvideo", "argb", {}),
    ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "crf": "4"}),
    ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "crf": "4"}),
    ("a.mkv", "ffv1", "bgra", {}),
    ("a.mkv", "ffv1", "gbrap12le", {"strict": "-2"}),
    ("a.mkv", "ffv1", "yuva422p10le", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), KINDS)
def test_what_is_hidden_stays_hidden(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    path = transparent(tmp_path / name, codec, pixel_format, **options)
    with VideoReader(path, pixels="rgb") as source:
        first, _ = [frame.planes[0].astype(int) for frame in source.frames()]
        assert [note for note in source.notes if "laid on white" in note] == source.notes[-1:]
    assert np.abs(first[:, 12] - 255).max() <= 2
    assert np.abs(first[20, 50:] - 255).max() <= 2
    assert np.abs(first[24, 30] - SHOWN).max() <= 4
    assert np.abs(first[24, 3] - (127, 127, 255)).max() <= 6


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), KINDS)
def test_an_opaque_video_with_alpha_is_an_ordinary_one(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    path = transparent(tmp_path / name, codec, pixel_format, opaque=True, **options)
    with VideoReader(path, pixels="rgb") as source:
        first = next(source.frames()).planes[0].astype(int)
        assert source.notes == []
    assert np.abs(first[24, 30] - SHOWN).max() <= 4
    assert np.abs(first[4, 60] - HIDDEN).max() <= 4


def test_the_fourth_byte_of_raw_avi_is_no_transparency(tmp_path: Path) -> None:
    with VideoReader(transparent(tmp_path / "a.avi", "rawvideo", "bgra"), pixels="rgb") as source:
        assert tuple(next(source.frames()).planes[0][4, 60]) == HIDDEN
        assert source.notes == []


def test_transparency_is_told_and_its_mark_is_not_copied(tmp_path: Path) -> None:
    path = transparent(tmp_path / "a.webm", "libvpx-vp9", "yuva420p", **{"auto-alt-ref": "0"})
    copy(path, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as file:
        assert "alpha_mode" not in file.streams.video[0].metadata


def test_a_live_animation_is_laid_on_white_too(tmp_path: Path) -> None:
    with Capture(str(transparent(tmp_path / "a.apng", "apng", "rgba"))) as capture:
        luma, u, v = next(capture.frames()).planes
        white = 255 if capture.form.full_range else 235
        assert (abs(int(luma[20, 60]) - white), int(u[10, 30]), int(v[10, 30])) <= (1, 128, 128)


def test_a_gif_with_a_transparent_color_is_told(tmp_path: Path) -> None:
    half = np.zeros((48, 64, 3), np.uint8)
    half[:, 32:] = (200, 40, 60)
    path = make_video(tmp_path / "a.gif", codec="gif", pixel_format="rgb8", pictures=[half], frames=1)
    with VideoReader(path, pixels="rgb") as source:
        assert next(source.frames()).planes[0][4, 4].tolist() == [0, 0, 0]
        assert source.notes == []
    data = bytearray(path.read_bytes())
    control = data.index(b"\x21\xf9\x04")
    data[control + 3] |= 1
    data[control + 6] = 0  # the color of that number, black, is transparent
    path.write_bytes(data)
    with VideoReader(path, pixels="rgb") as source:
        assert next(source.frames()).planes[0][4, 4].tolist() == [255, 255, 255]
        assert any("laid on white" in note for note in source.notes)
