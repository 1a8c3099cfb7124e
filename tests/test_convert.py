"""Pixels between FFmpeg's frames and our planes, and what rides beside them."""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from media import add_box, copy, join, make_video, marked_interlaced, picture, png_cover, psnr, read, write_frames
from networks import flat, planes_from_rgb
from numpy.typing import NDArray

from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import ClipOptions, EncodeOptions, LookOptions, Pixels
from vidstyle.rendering import render
from vidstyle.video.audio import AudioFormat, AudioReader
from vidstyle.video.capture import Capture
from vidstyle.video.convert import FrameConverter, cut_out, place_in, plane_view, put_in, size_of
from vidstyle.video.formats import is_gray
from vidstyle.video.reader import VideoReader


def ffv1(path: Path, frame: VideoFrame, color_range: int) -> Path:
    """A Matroska file of that very frame."""
    frame.color_range = color_range
    return write_frames(path, "ffv1", [frame], options={"strict": "-2"}, color_range=color_range)


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


@pytest.mark.parametrize(
    ("size", "bounds", "fitted"),
    [
        ((320, 240), (240, 320), (240, 180)),
        ((1920, 1080), (360, 640), (360, 202)),
        ((90, 160), (480, 480), (270, 480)),
        ((480, 640), (240, 320), None),
        ((48, 64), (47, 63), None),
        ((2, 1000), (48, 64), (2, 64)),
        ((7, 9), (33, 21), (16, 21)),
    ],
)
def test_a_picture_lies_whole_in_the_middle(
    size: tuple[int, int], bounds: tuple[int, int], fitted: tuple[int, int] | None
) -> None:
    place = place_in(size, bounds)
    if place is None or fitted is None:
        assert place is fitted is None
        return
    assert size_of(place) == fitted
    for part, most in zip(place, bounds, strict=True):
        assert part.start % 2 == 0 and abs(part.start - (most - part.stop)) <= 3


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bounds", [(48, 64), (35, 51)])
def test_what_is_around_is_black_and_what_is_inside_is_not_stretched(
    pixels: Pixels, full_range: bool, bounds: tuple[int, int]
) -> None:
    tall = FrameFormat(height=96, width=48, pixels="i420", full_range=full_range)
    wide = FrameFormat(height=bounds[0], width=bounds[1], pixels=pixels, full_range=full_range)
    rgb = flat((200, 60, 60), (96, 48))
    rgb[40:56, 16:32] = 255  # a square
    placed = FrameConverter(wide).convert(Frame(planes_from_rgb(rgb, tall), tall, 5, Fraction(1, 25)))
    place = place_in(tall.size, wide.size)
    assert place is not None and (placed.form, placed.pts) == (wide, 5)
    black = put_in(tuple(np.zeros_like(p) for p in cut_out(placed.planes, place)), place, wide)
    light = placed.planes[0].reshape(*bounds, -1)[..., -1].astype(int)
    assert (light[:, : place[1].start] == (0 if pixels == "rgb" or full_range else 16)).all()
    for plane, dark in zip(placed.planes, black, strict=True):
        inside = cut_out((dark, dark), place)[dark is not black[0]]
        inside[...] = cut_out((plane, plane), place)[dark is not black[0]]
        np.testing.assert_array_equal(plane, dark)
    bright = light[place] > (light[place].max() + light[place].min()) / 2
    height, width = bright.any(1).sum(), bright.any(0).sum()
    assert abs(height - width) <= 1 and height == pytest.approx(bounds[0] / 6, abs=1.5)


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_the_mirror_image_around_keeps_the_mean(pixels: Pixels) -> None:
    form = FrameFormat(height=20, width=200, pixels=pixels)
    place = place_in((20, 10), form.size)
    assert place is not None
    random = np.random.default_rng(0)
    inner = tuple(random.integers(0, 256, shape, np.uint8) for shape in form.resized((20, 10)).plane_shapes)
    filled = put_in(inner, place, form, "mirrored")
    assert [plane.shape for plane in filled] == list(form.plane_shapes)
    for plane, small, again in zip(filled, inner, cut_out(filled, place), strict=True):
        np.testing.assert_array_equal(again, small)
        assert plane.mean() == pytest.approx(small.mean(), abs=8)


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
    picture = av.VideoFrame.from_ndarray(cutout(opaque), "rgba")
    full = 1 if pixel_format.startswith("yuv") else 2
    frames = [picture.reformat(format=pixel_format, src_color_range=2, dst_color_range=full) for _ in range(2)]
    return write_frames(path, codec, frames, options=options)


KINDS = pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
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
    ],
)


@KINDS
def test_what_is_hidden_stays_hidden_and_what_is_opaque_is_an_ordinary_picture(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    path = transparent(tmp_path / name, codec, pixel_format, **options)
    with VideoReader(path, pixels="rgb") as source:
        first, _ = [frame.planes[0].astype(int) for frame in source.frames()]
        assert [note for note in source.notes if "laid on white" in note] == source.notes[-1:]
    assert np.abs(first[:, 12] - 255).max() <= 2 and np.abs(first[20, 50:] - 255).max() <= 2
    assert np.abs(first[24, 30] - SHOWN).max() <= 4
    assert np.abs(first[24, 3] - (127, 127, 255)).max() <= 6
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


def test_the_mark_of_transparency_is_not_copied(tmp_path: Path) -> None:
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


FRAMES = 8


def captioned(path: Path) -> Path:
    """H.264 whose every picture but the first has one pair of caption bytes, other ones each time."""
    plain = make_video(path.with_suffix(".plain.ts"), size=(64, 64), frames=FRAMES, options={"bf": "2"})
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        plain_stream: Any = source.streams.video[0]
        stream = output.add_stream_from_template(plain_stream)
        for packet in source.demux():
            if packet.pts is not None:
                number = round(25 * (packet.pts - plain_stream.start_time) * packet.time_base)
                new = av.Packet((_caption_sei(number) if number else b"") + bytes(packet))
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
    options = {"flags": "+ildct+ilme"} if interlaced else {}
    with av.open(str(captioned(tmp_path / "in.ts"))) as file:
        frames = (marked_interlaced(frame) if interlaced else frame for frame in file.decode(video=0))
        write_frames(tmp_path / "in.mpg", "mpeg2video", frames, options=options)
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


# What changes in mid-stream: what is made for the first frame is made anew


INTERLACED = {"codec": "mpeg2video", "interlaced": True, "options": {"flags": "+ildct+ilme", "qmin": "1", "b": "4M"}}
MPEG2 = {"codec": "mpeg2video", "options": {"qmin": "1", "b": "4M"}}
H264 = {"options": {"bf": "2", "crf": "4"}}
H264_FIELDS = {"interlaced": True, "options": {"flags": "+ildct+ilme", "crf": "4"}}
FULL = H264 | {"color": {"color_range": 2}}
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
        (FULL, H264 | {"color": {"colorspace": 6, "color_range": 1}}, "from yuvj420p to yuv420p"),
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
    expected = [frame.planes for frame in read(tmp_path / "0.ts")]
    for index, planes in enumerate(frames):
        assert psnr(planes[0], expected[index % 6][0]) > 28, index
        assert psnr(planes[1], expected[index % 6][1]) > 30, index


def test_hdr_in_parts_is_converted_like_hdr_alone(tmp_path: Path) -> None:
    hdr = {"codec": "libx264", "pixel_format": "yuv420p10le", "color": HDR, "options": {"crf": "4"}}
    path = joined(tmp_path, H264 | {"color": {"colorspace": 1, "color_range": 1}}, hdr)
    with VideoReader(path, pixels="rgb") as source:
        shown = [frame.planes[0] for frame in source.frames()]
        assert any("HDR or in BT.2020 colors in parts" in note for note in source.notes)
    assert psnr(shown[8], read(tmp_path / "1.ts", pixels="rgb")[2].planes[0]) > 45


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
    ratios = {(48, 64): Fraction(4, 3), (48, 80): Fraction(16, 15)}
    parts = [MPEG2 | {"size": size, "sample_aspect_ratio": ratio} for size, ratio in ratios.items()]
    for frame in read(joined(tmp_path, *parts)):
        assert min(frame.planes[0][:, :2].mean(), frame.planes[0][:2].mean()) > 30


def test_a_live_source_keeps_its_first_form(tmp_path: Path) -> None:
    first = INTERLACED | {"rate": 50}
    path = joined(tmp_path, first, first | {"size": (96, 128), "pixel_format": "yuv422p"})
    expected = [frame.planes for frame in read(tmp_path / "0.ts")]
    with Capture(str(path)) as capture:
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
