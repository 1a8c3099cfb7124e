"""HDR, interlaced and cropped pictures, through FFmpeg's filters."""

from __future__ import annotations

import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from media import add_box, copied, copy, make_video, picture, psnr, read, read_contents, read_rgb, write_frames
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.options import EncodeOptions
from vidstyle.video.filters import bt709_signal, light_from_pq, lookup_table, pq_from_light
from vidstyle.video.formats import ColorTags
from vidstyle.video.info import probe
from vidstyle.video.reader import VideoReader
from vidstyle.video.writer import VideoWriter

STEP = Fraction(1, 25)
BT601 = {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 1}
BT709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
FULL = {"colorspace": 1, "color_primaries": 1, "color_trc": 13, "color_range": 2}
PQ = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
HLG = {"colorspace": 9, "color_primaries": 9, "color_trc": 18, "color_range": 1}
WIDE = {"colorspace": 9, "color_primaries": 9, "color_trc": 14, "color_range": 1}


@pytest.mark.parametrize("color", [{}, BT601, BT709, FULL, {"color_range": 1}, {"colorspace": 1}])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_color_tags_are_written_back_and_unspecified_stays_unspecified(
    tmp_path: Path, color: dict[str, int], suffix: str
) -> None:
    source, output = make_video(tmp_path / "in.mp4", color=color, options={"crf": "4"}), tmp_path / f"out{suffix}"
    copy(source, output, encode=EncodeOptions(crf=4))
    before, after = probe(source).stored_color, probe(output).stored_color
    if suffix == ".webm" and not color:
        # VP9 has one word for a matrix that nobody named, and says "limited" of every range but "full".
        assert after.matrix == 2
        assert after.range in (0, 1)
    elif suffix == ".webm":
        assert after.range == (before.range or 1)
        assert {after.matrix, before.matrix} in ({before.matrix}, {5, 6})
    else:
        assert after == before
        tags = (color.get("color_primaries", 2), color.get("color_trc", 2), color.get("colorspace", 2))
        assert (before.primaries, before.transfer, before.matrix) == tags
    assert min(psnr(a, b) for a, b in zip(read_rgb(source), read_rgb(output), strict=True)) > 30


@pytest.mark.parametrize("location", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
def test_the_place_of_chroma_samples_is_kept(tmp_path: Path, location: str) -> None:
    source = make_video(tmp_path / "in.mp4", options={"chroma_sample_location": location})
    assert probe(source).color.chroma_location == location
    for suffix in (".mp4", ".mkv"):
        copy(source, tmp_path / f"out{suffix}")
        assert probe(tmp_path / f"out{suffix}").color.chroma_location == location


def test_the_place_of_chroma_samples_of_turned_pictures_is_not_claimed(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", options={"chroma_sample_location": "topleft"}, rotation=90)
    info = probe(source)
    assert info.stored_color.chroma_location == "topleft"
    assert info.color.chroma_location is None


@pytest.mark.parametrize(
    ("size", "color", "matrix", "full"),
    [
        ((48, 64), {}, "bt601", False),
        ((576, 64), {}, "bt601", False),
        ((720, 64), {}, "bt709", False),
        ((48, 64), {"colorspace": 1}, "bt709", False),
        ((720, 64), {"colorspace": 5}, "bt601", False),
        ((48, 64), {"color_range": 2}, "bt601", True),
    ],
)
def test_frames_say_their_matrix_and_range_as_players_take_them(
    tmp_path: Path, size: tuple[int, int], color: dict[str, int], matrix: str, full: bool
) -> None:
    path = make_video(tmp_path / "a.mp4", size=size, frames=1, color=color)
    with VideoReader(path) as source:
        assert (source.form.matrix, source.form.full_range) == (matrix, full)
        assert next(source.frames()).form == source.form


def test_a_matrix_that_players_would_guess_wrong_is_written(tmp_path: Path) -> None:
    path, output = make_video(tmp_path / "in.mp4", size=(48, 64), frames=2), tmp_path / "out.mp4"
    with VideoReader(path) as video:
        form = video.form.resized((720, 960))
        with VideoWriter(output, source=video.info, source_path=None, form=form) as sink:
            for frame in video.frames():
                sink.write(frame.with_planes(tuple(p.repeat(15, 0).repeat(15, 1) for p in frame.planes), form))
    assert probe(output).color.matrix == 6
    assert psnr(read_rgb(path)[0].repeat(15, 0).repeat(15, 1), read_rgb(output)[0]) > 28


def test_a_turned_video_without_tags_is_read_with_the_matrix_of_its_stored_height(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", size=(64, 800), frames=2, rotation=90, options={"crf": "4"})
    with VideoReader(path) as source:
        assert source.info.size == (800, 64)
        assert source.form.matrix == "bt601"
    copy(path, tmp_path / "out.mp4", encode=EncodeOptions(crf=4))
    assert psnr(np.rot90(picture((64, 800), 0), -1), read_rgb(tmp_path / "out.mp4")[0]) > 28


@pytest.mark.parametrize("rotation", [90, 180])
def test_turned_video_is_written_upright_without_a_rotation(tmp_path: Path, rotation: int) -> None:
    upright = picture((64, 96), 0)
    stored = np.ascontiguousarray(np.rot90(upright, rotation // 90))
    source = make_video(
        tmp_path / "in.mp4",
        size=stored.shape[:2],  # type: ignore[arg-type]
        pictures=[stored] * 3,
        frames=3,
        rotation=rotation,
        sample_aspect_ratio=Fraction(4, 3),
    )
    for suffix in (".mp4", ".mkv"):
        output = tmp_path / f"out{suffix}"
        copy(source, output)
        info = probe(output)
        assert (info.size, info.rotation) == ((64, 96), 0)
        assert info.sample_aspect_ratio == (Fraction(3, 4) if rotation == 90 else Fraction(4, 3))
        assert psnr(upright, read_rgb(output)[0]) > 28


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".mp4", "av1"), (".mov", "h264"), (".mkv", "h264")])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, suffix: str, codec: Any) -> None:
    source = make_video(tmp_path / "in.mp4", size=(64, 96), sample_aspect_ratio=Fraction(16, 11))
    assert copy(source, tmp_path / f"out{suffix}", encode=EncodeOptions(codec=codec)) == []
    info = probe(tmp_path / f"out{suffix}")
    assert (info.sample_aspect_ratio, info.size) == (Fraction(16, 11), (64, 96))


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "vp9"), (".mkv", "av1"), (".mkv", "ffv1")])
@pytest.mark.parametrize(("aspect", "size"), [(Fraction(3, 2), (64, 144)), (Fraction(2, 3), (96, 96))])
def test_pixels_become_square_where_their_shape_cannot_be_written(
    tmp_path: Path, suffix: str, codec: Any, aspect: Fraction, size: tuple[int, int]
) -> None:
    source = make_video(tmp_path / "in.mp4", size=(64, 96), sample_aspect_ratio=aspect)
    (note,) = copy(source, tmp_path / f"out{suffix}", encode=EncodeOptions(codec=codec))
    assert f"is scaled from 96x64 to {size[1]}x{size[0]}" in note
    info = probe(tmp_path / f"out{suffix}")
    assert info.size == size and info.sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize("pixels", ["i420", "rgb"])
@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        *(("libx264", name) for name in ("yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuvj420p", "gray")),
        *(("libx264rgb", "rgb24"), ("libx265", "yuv420p10le"), ("mpeg4", "yuv420p"), ("mjpeg", "yuvj422p")),
        *(("png", "rgb24"), ("png", "rgba"), ("png", "rgb48be")),
    ],
)
def test_every_pixel_format_is_read_in_its_own_colors(
    tmp_path: Path, codec: str, pixel_format: str, pixels: Any
) -> None:
    full = {"color_range": 2} if pixel_format.startswith("yuvj") else {}
    quality = {"libx264": {"crf": "1"}, "libx264rgb": {"crf": "1"}, "libx265": {"x265-params": "log-level=none:crf=2"}}
    options = quality.get(codec, {"qscale": "2"} if codec in ("mpeg4", "mjpeg") else {})
    made: dict[str, Any] = {"codec": codec, "pixel_format": pixel_format, "color": full, "options": options}
    path = make_video(tmp_path / ("in.mov" if codec == "png" else "in.mkv"), frames=2, smooth=True, **made)
    expected = picture((48, 64), 0, smooth=True)
    if pixel_format.startswith("gray"):
        expected = (expected @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None].repeat(3, -1)
    frames, output = read(path, pixels=pixels), tmp_path / "out.mkv"
    assert frames[0].form.pixels == pixels
    copy(path, output, pixels=pixels, encode=EncodeOptions(codec="ffv1"))
    assert psnr(expected, read_rgb(output)[0]) > 30
    assert probe(output).color.matrix in (2, 5, 6)
    if pixels == "rgb":
        assert psnr(expected, frames[0].planes[0]) > 32


def test_444_output_keeps_fine_color(tmp_path: Path) -> None:
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 40, 200)
    source = make_video(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p", pictures=[stripes] * 2, frames=2, color=BT709
    )
    copy(source, tmp_path / "out.mp4", pixels="rgb", encode=EncodeOptions(pixel_format="yuv444p", crf=1))
    assert psnr(stripes, read_rgb(tmp_path / "out.mp4")[0]) > 35
    color = probe(tmp_path / "out.mp4").color
    assert (color.matrix, color.primaries, color.transfer, color.range) == (1, 1, 1, 1)


# Interlaced video


def interlaced_pictures(count: int) -> list[NDArray[np.uint8]]:
    """A bright bar that moves 4 pixels a field: the two fields of a frame show it at two places."""

    def at(moment: int) -> NDArray[np.uint8]:
        made = np.full((96, 128, 3), 50, np.uint8)
        made[:, 8 + 4 * moment : 28 + 4 * moment] = 220
        return made

    woven = []
    for index in range(count):
        frame = at(2 * index)
        frame[1::2] = at(2 * index + 1)[1::2]
        woven.append(frame)
    return woven


def combing(rgb: NDArray[np.uint8]) -> float:
    """How much neighboring rows differ, against rows two apart."""
    gray = rgb.mean(axis=2)
    return float(np.abs(np.diff(gray, axis=0)).mean() / (np.abs(gray[2:] - gray[:-2]).mean() + 1.0))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_interlaced_video_is_deinterlaced_at_its_own_times_and_said(tmp_path: Path, suffix: str) -> None:
    source = make_video(
        tmp_path / f"in{suffix}",
        size=(96, 128),
        frames=10,
        pictures=interlaced_pictures(10),
        options={"flags": "+ilme+ildct", "x264-params": "tff=1", "crf": "4"},
    )
    assert combing(read_rgb(source)[5]) > 3
    assert probe(source).interlaced and "interlaced" in probe(source).notes[0]
    assert copied(source, "out.mp4").pts == read_contents(source).pts == [Fraction(i, 25) for i in range(10)]
    after = read_rgb(tmp_path / "out.mp4")
    assert len(after) == len(read(source)) == 10
    assert max(combing(rgb) for rgb in after) < 0.5
    assert not probe(tmp_path / "out.mp4").interlaced and probe(tmp_path / "out.mp4").notes == ()


# High dynamic range


def hdr_video(path: Path, color: dict[str, int], signal: NDArray[np.float64], **options: Any) -> Path:
    """Uniform frames of a BT.2020 R'G'B' signal between 0 and 1, 10 bit."""
    red, green, blue = signal
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    codes = [64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746]
    frames = [av.VideoFrame(64, 64, "yuv420p10le") for _ in range(3)]
    for frame in frames:
        for plane, code in zip(frame.planes, codes, strict=True):
            np.frombuffer(memoryview(plane), np.uint16)[:] = round(code)
    params = {"x265-params": "log-level=none:crf=1", **options}
    return write_frames(path, "libx265", frames, options=params, **color)


@pytest.mark.parametrize(("color", "hdr"), [(PQ, "pq"), (HLG, "hlg"), (WIDE, None)])
@pytest.mark.parametrize("signal", [(0.5, 0.5, 0.5), (0.25, 0.3, 0.2), (0.55, 0.4, 0.35), (0.7, 0.68, 0.6)])
@pytest.mark.parametrize("pixels", ["i420", "rgb"])
def test_hdr_and_bt2020_are_shown_as_bt709(
    tmp_path: Path, color: dict[str, int], hdr: Any, signal: tuple[float, float, float], pixels: Any
) -> None:
    source = hdr_video(tmp_path / "in.mkv", color, np.array(signal))
    info = probe(source)
    assert info.hdr == hdr
    assert info.color == ColorTags(primaries=1, transfer=1, matrix=1, range=1)
    assert any("is converted to standard range and BT.709" in note for note in info.notes)
    output = tmp_path / "out.mp4"
    assert copied(source, output.name, pixels=pixels, encode=EncodeOptions(crf=1)).pts == [0, STEP, 2 * STEP]
    assert probe(output).stored_color == ColorTags(primaries=1, transfer=1, matrix=1, range=1, chroma_location="left")
    expected = 255 * bt709_signal(np.array(signal), hdr)
    assert np.abs(read_rgb(output)[1][32, 32] - expected).max() < 8  # interpolation, 8-bit chroma and the codec


def test_pq_is_its_own_inverse() -> None:
    nits = np.array([0.0, 0.01, 1.0, 100.0, 203.0, 1000.0, 10000.0])
    assert light_from_pq(pq_from_light(nits)) == pytest.approx(nits, rel=1e-6, abs=1e-6)
    assert float(pq_from_light(np.array(100.0))) == pytest.approx(0.5081, abs=1e-4)  # ITU-R BT.2408 table 1
    assert float(pq_from_light(np.array(203.0))) == pytest.approx(0.5807, abs=1e-4)


@pytest.mark.parametrize("hdr", ["pq", "hlg", None])
def test_tone_mapping_is_monotonous_neutral_and_in_range(hdr: Any) -> None:
    grays = np.linspace(0, 1, 101)
    shown = bt709_signal(np.stack([grays] * 3, axis=-1), hdr)
    assert np.all(np.diff(shown[:, 0]) >= -1e-9)
    assert np.allclose(shown, shown[:, :1], atol=0.004)
    assert shown[0].max() == 0 and shown[-1].min() > 0.995
    table = lookup_table(hdr, size=9)
    assert table.shape == (9, 9, 9, 3) and 0 <= table.min() <= table.max() <= 1


def test_shadows_and_mid_tones_keep_their_light_and_highlights_are_not_clipped() -> None:
    nits = np.array([1.0, 10.0, 50.0, 203.0, 400.0, 800.0])
    signal = pq_from_light(nits)[:, None].repeat(3, axis=1)
    light = 203.0 * bt709_signal(signal, "pq")[:, 1] ** 2.4
    assert light[:3] == pytest.approx(nits[:3], rel=0.02)
    assert 130 < light[3] < 203
    assert np.all(np.diff(light) > 1)
    assert light[-1] < 203


def test_a_brighter_peak_is_compressed_more() -> None:
    white = pq_from_light(np.array([[600.0] * 3]))
    assert bt709_signal(white, "pq", 4000.0).max() < bt709_signal(white, "pq", 1000.0).max()


def test_the_peak_is_taken_from_the_file(tmp_path: Path) -> None:
    signal = pq_from_light(np.array([600.0] * 3))
    shown = []
    for number, light in enumerate(["", ":max-cll=4000,400"]):
        params = {"x265-params": f"log-level=none:crf=1{light}"}
        frames = read(hdr_video(tmp_path / f"{number}.mkv", PQ, signal, **params))
        shown.append(int(frames[0].planes[0][32, 32]))
    assert shown[1] < shown[0] - 4


@pytest.mark.parametrize("matrix", [8, 10, 11, 12, 13, 14])
@pytest.mark.parametrize("color", [PQ, HLG, BT709])
def test_a_matrix_that_cannot_be_read_is_refused_with_a_command(
    matrix: int, color: dict[str, int], tmp_path: Path
) -> None:
    source = make_video(tmp_path / "in.mp4", frames=1, codec="libx265", color=color | {"colorspace": matrix})
    with pytest.raises(VideoError, match=rf"in\.mp4 .*matrix {matrix} .*ffmpeg -i"):
        probe(source)


def test_no_place_for_the_table_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "in.mp4", frames=1, color=PQ)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with VideoReader(source) as video, pytest.raises(VideoError, match=r"temporary file in .*gone"):
        list(video.frames())


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
    path = make_video(tmp_path / "a.mkv", frames=2, options={"crf": "1"}, color=BT601, smooth=True)
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
    path = make_video(tmp_path / "a.mp4", size=(64, 96), frames=2, codec=codec, options={"crf": "1"}, smooth=True)
    edges = "crop_left=10:crop_right=6:crop_top=4:crop_bottom=2"
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        marked = BitStreamFilterContext(f"{filter}={edges}", source.streams.video[0], copy)
        for packet in source.demux(video=0):
            for new in marked.filter(packet if packet.size else None):
                new.stream = copy
                output.mux(new)
    assert (
        psnr(read(tmp_path / "b.mkv", pixels="rgb")[0].planes[0], picture((64, 96), 0, smooth=True)[4:62, 10:90]) > 32
    )


def test_a_crop_of_everything_is_none(tmp_path: Path) -> None:
    path = add_box(make_video(tmp_path / "a.mp4"), "clap", clap(64, 0, 0, 0, (48, 64)))
    with VideoReader(path) as source:
        assert (source.info.size, source.info.crop) == ((48, 64), None)


@pytest.mark.parametrize(
    ("profile", "compatible", "refused"), [(5, 0, True), (10, 0, True), (8, 1, False), (8, 4, False)]
)
def test_dolby_vision_is_read_or_refused_and_told(tmp_path: Path, profile: int, compatible: int, refused: bool) -> None:
    path = make_video(tmp_path / "a.mp4", size=(64, 64), frames=2, codec="libx265")
    add_box(path, "dvcC", bytes([1, 0, profile << 1, 3 << 3 | 0b101, compatible << 4, *bytes(19)]), "hev1")
    if not compatible:
        with pytest.raises(VideoError, match=rf"a\.mp4 is Dolby Vision profile {profile}.*convert it first"):
            VideoReader(path)
    else:
        with VideoReader(path) as source:
            assert len(list(source.frames())) == 2
            assert any("Dolby Vision profile 8" in note for note in source.notes)
