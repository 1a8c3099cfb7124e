"""Captions and marks reach the output, or a note names them."""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from media import add_box, make_video, picture, png_cover
from test_sink import copy

from vidstyle.options import ClipOptions, EncodeOptions, LookOptions
from vidstyle.rendering import render
from vidstyle.video.reader import VideoReader

FRAMES = 8


def captioned(path: Path) -> Path:
    """H.264 whose every picture but the first has one pair of caption bytes, other ones each time."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"bf": "2", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        made = []
        for index in range(FRAMES):
            frame = VideoFrame.from_ndarray(picture((64, 64), index), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            made += stream.encode(frame)
        for packet in made + stream.encode(None):
            data = bytes(packet)
            if packet.pts:
                data = _caption_sei(packet.pts) + data
            new = av.Packet(data)
            new.stream, new.time_base, new.pts, new.dts = stream, packet.time_base, packet.pts, packet.dts
            new.is_keyframe = packet.is_keyframe
            output.mux(new)
    return path


def _caption_sei(number: int) -> bytes:
    captions = bytes([0xB5, 0, 0x31, *b"GA94", 3, 0x41, 0xFF, 0xFC, 0x40 + number, 0x40 + number, 0xFF])
    return b"\0\0\0\1\x06\x04" + bytes([len(captions)]) + captions + b"\x80"


def captions(path: Path) -> list[bytes | None]:
    """The caption bytes of every picture, in the order of showing."""
    with av.open(str(path)) as file:
        found = [frame.side_data.get("A53_CC") for frame in file.decode(video=0)]
        return [None if data is None else bytes(data) for data in found]


EXPECTED = [None, *(bytes([0xFC, 0x40 + n, 0x40 + n]) for n in range(1, FRAMES))]


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("out.mp4", EncodeOptions()),
        ("out.mkv", EncodeOptions(codec="hevc")),
        ("out.mov", EncodeOptions(pixel_format="yuv444p")),
    ],
)
def test_closed_captions_stay_with_their_pictures(tmp_path: Path, name: str, encode: EncodeOptions) -> None:
    source = captioned(tmp_path / "in.ts")
    assert captions(source) == EXPECTED
    assert copy(source, tmp_path / name, encode=encode) == []
    assert captions(tmp_path / name) == EXPECTED
    copy(source, tmp_path / name, encode=encode, clip=ClipOptions(start=0.12), overwrite=True)
    assert captions(tmp_path / name) == EXPECTED[3:]


def test_closed_captions_pass_through_the_whole_of_render(tmp_path: Path) -> None:
    source, output = captioned(tmp_path / "in.ts"), tmp_path / "out.mp4"
    render(source, output, look=LookOptions(work_size=32), size=(96, 128))
    assert captions(output) == EXPECTED


@pytest.mark.parametrize("interlaced", [False, True])
def test_captions_of_mpeg2_are_kept(tmp_path: Path, interlaced: bool) -> None:
    graph = av.filter.Graph()
    buffer = graph.add_buffer(width=64, height=64, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 90000))
    mark = graph.add("setfield", "tff" if interlaced else "prog")
    graph.link_nodes(buffer, mark, graph.add("buffersink")).configure()
    with av.open(str(captioned(tmp_path / "in.ts"))) as file, av.open(str(tmp_path / "in.mpg"), "w") as output:
        stream: Any = output.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"} if interlaced else {})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in file.decode(video=0):
            graph.vpush(frame)
            marked = graph.vpull()
            marked.pict_type = 0
            output.mux(stream.encode(marked))
        output.mux(stream.encode(None))
    expected = captions(tmp_path / "in.mpg")
    assert sum(data is not None for data in expected) == FRAMES - 1
    copy(tmp_path / "in.mpg", tmp_path / "out.mp4")
    assert captions(tmp_path / "out.mp4") == expected


@pytest.mark.parametrize(("name", "codec"), [("out.webm", "vp9"), ("out.mkv", "ffv1"), ("out.mkv", "av1")])
def test_captions_that_a_codec_cannot_hold_are_told_once(tmp_path: Path, name: str, codec: Any) -> None:
    notes = copy(captioned(tmp_path / "in.ts"), tmp_path / name, encode=EncodeOptions(codec=codec))
    assert len([note for note in notes if "no closed captions" in note]) == 1


def stereo_of(path: Path) -> int | None:
    with av.open(str(path)) as file:
        data = next(file.decode(video=0)).side_data.get("STEREO3D")
        return None if data is None else int(np.frombuffer(memoryview(data), np.int32)[0])


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [("out.mp4", "h264", True), ("out.mkv", "ffv1", True), ("out.webm", "vp9", True), ("out.mp4", "vp9", False)],
)
def test_stereo_stays_marked_or_is_told(tmp_path: Path, name: str, codec: Any, kept: bool) -> None:
    source = add_box(make_video(tmp_path / "in.mp4", frames=2), "st3d", bytes([0, 0, 0, 0, 2]))
    notes = copy(source, tmp_path / name, encode=EncodeOptions(codec=codec))
    assert stereo_of(tmp_path / name) == (1 if kept else None)
    assert any("is stereo (left_right)" in note for note in notes) != kept


def test_a_360_degree_video_is_told(tmp_path: Path) -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    head, projection = box(b"svhd", bytes(4) + b"test\0"), box(b"prhd", bytes(16)) + box(b"equi", bytes(20))
    source = add_box(make_video(tmp_path / "in.mp4", frames=2), "sv3d", head + box(b"proj", projection))
    assert any("360-degree" in note for note in copy(source, tmp_path / "out.mp4"))


def test_what_was_true_of_hdr_pixels_is_not_written(tmp_path: Path) -> None:
    """The picture becomes BT.709: a mastering display of the source would be a lie."""
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    hdr = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
    params = f"log-level=none:bframes=0:frame-packing=3:master-display={display}:max-cll=1000,400"
    source = make_video(
        tmp_path / "in.mkv",
        size=(64, 64),
        frames=2,
        codec="libx265",
        pixel_format="yuv420p10le",
        color=hdr,
        options={"x265-params": params},
        video_metadata={"stereo_mode": "left_right"},
    )
    copy(source, tmp_path / "out.mkv", encode=EncodeOptions(codec="hevc"))
    with av.open(str(tmp_path / "out.mkv")) as file:
        frame = next(file.decode(video=0))
        assert frame.side_data.get("STEREO3D") is not None
        assert frame.side_data.get("MASTERING_DISPLAY_METADATA") is None
        assert int(frame.color_trc) == 1


def test_a_color_profile_is_told(tmp_path: Path) -> None:
    data = png_cover()
    chunk = b"iCCP" + b"wide\0\0" + zlib.compress(bytes(200))
    whole = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    with av.open(str(tmp_path / "in.mov"), "w") as output:
        stream: Any = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        packet = av.Packet(data[:33] + whole + data[33:])  # behind the header of 8 bytes and the first chunk
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        packet.is_keyframe = True
        output.mux(packet)
    with VideoReader(tmp_path / "in.mov") as source:
        assert len(list(source.frames())) == 1
        assert [note for note in source.notes if "color profile" in note]
