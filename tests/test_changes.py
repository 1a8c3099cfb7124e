"""What is made for the first frame is made anew when a frame is other, and told once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import join, make_video, picture, psnr

from vidstyle.video.audio import AudioFormat, AudioReader
from vidstyle.video.capture import Capture
from vidstyle.video.reader import VideoReader

INTERLACED = {"codec": "mpeg2video", "interlaced": True, "options": {"flags": "+ildct+ilme", "qmin": "1", "b": "4M"}}
MPEG2 = {"codec": "mpeg2video", "options": {"qmin": "1", "b": "4M"}}
H264 = {"options": {"bf": "2", "crf": "4"}}
H264_FIELDS = {"interlaced": True, "options": {"flags": "+ildct+ilme", "crf": "4"}}
HDR = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}


def joined(folder: Path, *parts: dict[str, Any]) -> Path:
    made = []
    for number, part in enumerate(parts):
        height, width = part.get("size", (48, 64))
        pictures = [cv2.resize(picture((96, 128), i, smooth=True), (width, height)) for i in range(6)]
        made.append(make_video(folder / f"{number}.ts", frames=6, pictures=pictures, **part))
    return join(folder / "joined.ts", *made)


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (INTERLACED, INTERLACED | {"size": (96, 128)}, "changes its size"),
        (INTERLACED, INTERLACED | {"size": (44, 60)}, "changes its size"),
        (INTERLACED, INTERLACED | {"pixel_format": "yuv422p"}, "from yuv420p to yuv422p"),
        (INTERLACED, MPEG2, None),
        (MPEG2, INTERLACED, "interlaced in parts"),
        (MPEG2, MPEG2 | {"size": (96, 128)}, "changes its size"),
        (H264_FIELDS, H264_FIELDS | {"size": (96, 128)}, "changes its size"),
        (H264, H264_FIELDS | {"size": (96, 128), "pixel_format": "yuv422p"}, "interlaced in parts"),
        (H264, H264 | {"color": {"colorspace": 1, "color_range": 2}}, "from yuv420p to yuvj420p"),
        (H264, H264 | {"color": {"colorspace": 1, "color_range": 1}}, "changes its colors"),
        (
            H264 | {"color": {"color_range": 2}},
            H264 | {"color": {"colorspace": 6, "color_range": 1}},
            "from yuvj420p to yuv420p",
        ),
        (H264, {"codec": "libx264", "pixel_format": "yuv420p10le", "options": {"crf": "4"}}, "to yuv420p10le"),
    ],
)
def test_every_part_looks_right_in_the_first_ones_form(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any], told: str | None
) -> None:
    with VideoReader(joined(tmp_path, first, then, first), pixels="i420") as source:
        height, width = source.form.size
        frames = [frame.planes for frame in source.frames()]
        others = ("deinterlaced (bwdif), at", "clock starts anew")
        notes = [note for note in source.notes if not any(words in note for words in others)]
        assert (len(frames), source.lost, source.info.size) == (18, 0, (48, 64))
        assert told is None or (any(told in note for note in notes) and len(set(notes)) == len(notes))
        assert told is not None or notes == []
    with VideoReader(tmp_path / "0.ts") as alone:
        expected = [frame.planes for frame in alone.frames()]
    for index, planes in enumerate(frames):
        assert psnr(planes[0], expected[index % 6][0]) > 28, index
        assert psnr(planes[1], expected[index % 6][1]) > 30, index


def test_hdr_in_parts_is_converted_like_hdr_alone(tmp_path: Path) -> None:
    hdr = {"codec": "libx264", "pixel_format": "yuv420p10le", "color": HDR, "options": {"crf": "4"}}
    path = joined(tmp_path, H264 | {"color": {"colorspace": 1, "color_range": 1}}, hdr)
    with VideoReader(path, pixels="rgb") as source:
        shown = [frame.planes[0] for frame in source.frames()]
        assert any("HDR or in BT.2020 colors in parts" in note for note in source.notes)
    with VideoReader(tmp_path / "1.ts", pixels="rgb") as alone:
        assert psnr(shown[8], [frame.planes[0] for frame in alone.frames()][2]) > 45


@pytest.mark.parametrize(
    ("codec", "aspect", "rows", "columns"),
    [
        (MPEG2, (4, 3), (6, 42), (0, 64)),
        (INTERLACED, (4, 3), (6, 42), (0, 64)),
        (H264 | {"options": {"crf": "4", "bf": "0"}}, (4, 3), (6, 42), (0, 64)),
        (H264 | {"options": {"crf": "4", "bf": "0"}}, (3, 4), (0, 48), (8, 56)),
    ],
)
def test_pixels_that_change_their_shape_look_the_same(
    tmp_path: Path, codec: dict[str, Any], aspect: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    path = joined(tmp_path, *(codec | {"sample_aspect_ratio": Fraction(*ratio)} for ratio in ((1, 1), aspect, (1, 1))))
    with VideoReader(path, pixels="rgb") as source:
        frames = [frame.planes[0] for frame in source.frames()]
        assert [note for note in source.notes if f"from 1:1 to {aspect[0]}:{aspect[1]}" in note]
        assert (len(frames), source.info.sample_aspect_ratio) == (18, 1)
    for index, shown in enumerate(frames):
        expected = cv2.resize(picture((96, 128), index % 6, smooth=True), (64, 48))
        if 6 <= index < 12:
            inside = cv2.resize(expected, (columns[1] - columns[0], rows[1] - rows[0]))
            expected = np.zeros_like(expected)
            expected[slice(*rows), slice(*columns)] = inside
        assert psnr(shown, expected) > 26, index


def test_a_size_and_pixels_that_change_together_can_look_the_same(tmp_path: Path) -> None:
    parts = [
        MPEG2 | {"sample_aspect_ratio": Fraction(4, 3)},
        MPEG2 | {"size": (48, 80), "sample_aspect_ratio": Fraction(16, 15)},
    ]
    with VideoReader(joined(tmp_path, *parts)) as source:
        assert all(frame.planes[0][:, :2].mean() > 30 and frame.planes[0][:2].mean() > 30 for frame in source.frames())


def test_a_live_source_keeps_its_first_form(tmp_path: Path) -> None:
    first = INTERLACED | {"rate": 50}
    path = joined(tmp_path, first, first | {"size": (96, 128), "pixel_format": "yuv422p"})
    with VideoReader(tmp_path / "0.ts") as alone, Capture(str(path)) as capture:
        expected = [frame.planes for frame in alone.frames()]
        shown = [tuple(plane.copy() for plane in frame.planes) for frame in capture.frames()]
    assert len(shown) == 12
    assert min(psnr(planes[i], expected[n % 6][i]) for n, planes in enumerate(shown) for i in range(3)) > 28


def test_live_sound_that_changes_is_converted(tmp_path: Path) -> None:
    """The first form is the wanted one: a resampler has nothing to do until the change."""
    reader, seconds = AudioReader(AudioFormat(48000, 2)), 0.0
    for layout, rate, channels in (("stereo", 48000, 2), ("mono", 44100, 1), ("5.1", 32000, 6), ("stereo", 48000, 2)):
        frame = av.AudioFrame.from_ndarray(np.full((channels, rate // 10), 0.25, np.float32), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(seconds * rate), Fraction(1, rate)
        pieces = list(reader.read(frame))
        assert all(samples.shape[0] == 2 for samples, _ in pieces)
        assert sum(samples.shape[1] for samples, _ in pieces) == pytest.approx(4800, abs=50)
        seconds += 0.1
