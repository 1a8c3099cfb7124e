"""What a container wants to be left out is left out, to the pixel."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from media import add_box, make_video, picture, psnr

from vidstyle.errors import VideoError
from vidstyle.video.reader import VideoReader


def clap(left: int, right: int, top: int, bottom: int, size: tuple[int, int]) -> bytes:
    """The content of MP4's clean aperture box: size, and the distance of its center from the picture's."""
    across, down = size[1] - left - right, size[0] - top - bottom
    return struct.pack(">IIIIiIiI", across, 1, down, 1, left - right, 2, top - bottom, 2)


@pytest.mark.parametrize("edges", [(40, 0, 10, 2), (11, 13, 12, 6), (3, 0, 5, 0), (0, 63, 0, 47)])
@pytest.mark.parametrize(("pixel_format", "options"), [("yuv420p", {"crf": "1"}), ("yuv444p10le", {})])
def test_the_clean_aperture_of_mp4_is_what_is_shown(
    tmp_path: Path, edges: tuple[int, int, int, int], pixel_format: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2, pixel_format=pixel_format, options=options, smooth=True)
    add_box(path, "clap", clap(*edges, (48, 64)))
    left, right, top, bottom = edges
    expected = picture((48, 64), 0, smooth=True)[top : 48 - bottom, left : 64 - right]
    with VideoReader(path, pixels="rgb") as source, VideoReader(path) as yuv:
        assert source.info.size == expected.shape[:2]
        assert any(f"asks for {expected.shape[1]}x{expected.shape[0]} of its 64x48" in note for note in source.notes)
        assert psnr(next(source.frames()).planes[0], expected) > 32
        frame = next(yuv.frames())
        assert tuple(plane.shape for plane in frame.planes) == frame.form.plane_shapes


def test_a_cropped_picture_is_turned_after_that(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2, rotation=90, options={"crf": "1"}, smooth=True)
    add_box(path, "clap", clap(4, 8, 2, 6, (48, 64)))
    with VideoReader(path, pixels="rgb") as source:
        assert source.info.size == (52, 40)
        expected = np.rot90(picture((48, 64), 0, smooth=True)[2:42, 4:56], -1)
        assert psnr(next(source.frames()).planes[0], expected) > 32


@pytest.mark.parametrize("edges", [(6, 0, 10, 0), (7, 2, 3, 12)])
def test_pixel_crop_of_matroska_is_what_is_shown(tmp_path: Path, edges: tuple[int, int, int, int]) -> None:
    tagged = {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 1}
    path = make_video(tmp_path / "a.mkv", frames=2, options={"crf": "1"}, color=tagged, smooth=True)
    data = bytearray(path.read_bytes())
    # The element that holds the color tags becomes four crops, and a void behind them.
    place = data.index(b"\x55\xb0")
    length = data[place + 2] & 0x7F
    crops = b"".join(bytes([0x54, id, 0x81, edge]) for id, edge in zip((0xCC, 0xDD, 0xBB, 0xAA), edges, strict=True))
    rest = length + 3 - len(crops)
    data[place : place + 3 + length] = crops + bytes([0xEC, 0x80 | rest - 2, *bytes(rest - 2)])
    path.write_bytes(data)
    left, right, top, bottom = edges
    with VideoReader(path, pixels="rgb") as source:
        expected = picture((48, 64), 0, smooth=True)[top : 48 - bottom, left : 64 - right]
        assert source.info.size == expected.shape[:2]
        assert psnr(next(source.frames()).planes[0], expected) > 32


@pytest.mark.parametrize(("codec", "filter"), [("libx264", "h264_metadata"), ("libx265", "hevc_metadata")])
def test_what_the_codec_crops_is_cropped_in_full(tmp_path: Path, codec: str, filter: str) -> None:
    options = {"crf": "1"} if codec == "libx264" else {"crf": "1", "x265-params": "log-level=none:bframes=0"}
    path = make_video(tmp_path / "a.mp4", size=(64, 96), frames=2, codec=codec, options=options, smooth=True)
    edges = "crop_left=10:crop_right=6:crop_top=4:crop_bottom=2"
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        marked = BitStreamFilterContext(f"{filter}={edges}", source.streams.video[0], copy)
        for packet in source.demux(video=0):
            for new in marked.filter(packet if packet.size else None):
                new.stream = copy
                output.mux(new)
    with VideoReader(tmp_path / "b.mkv", pixels="rgb") as video:
        frames = [frame.planes[0] for frame in video.frames()]
        assert video.info.size == (58, 80)
        assert psnr(frames[0], picture((64, 96), 0, smooth=True)[4:62, 10:90]) > 32


def test_a_crop_of_everything_is_none(tmp_path: Path) -> None:
    path = add_box(make_video(tmp_path / "a.mp4"), "clap", clap(64, 0, 0, 0, (48, 64)))
    with VideoReader(path) as source:
        assert (source.info.size, source.info.crop) == ((48, 64), None)


@pytest.mark.parametrize(
    ("profile", "compatible", "refused"), [(5, 0, True), (10, 0, True), (8, 1, False), (8, 4, False)]
)
def test_dolby_vision_is_read_or_refused_and_told(tmp_path: Path, profile: int, compatible: int, refused: bool) -> None:
    quiet = {"x265-params": "log-level=none:bframes=0"}
    path = make_video(tmp_path / "a.mp4", size=(64, 64), frames=2, codec="libx265", options=quiet)
    add_box(path, "dvcC", bytes([1, 0, profile << 1, 3 << 3 | 0b101, compatible << 4, *bytes(19)]), "hev1")
    if not compatible:
        with pytest.raises(VideoError, match=rf"a\.mp4 is Dolby Vision profile {profile}.*convert it first"):
            VideoReader(path)
    else:
        with VideoReader(path) as source:
            assert len(list(source.frames())) == 2
            assert any("Dolby Vision profile 8" in note for note in source.notes)
