"""Reading: what is in the file comes out, upright, at its own times; and nothing is lost in silence."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import Audio, Subtitle, make_sound, make_video, picture, png_cover, psnr, read, read_contents
from networks import rgb_from_planes

from vidstyle.errors import VideoError
from vidstyle.frame import Matrix, Pixels
from vidstyle.options import ClipOptions
from vidstyle.video.info import probe
from vidstyle.video.reader import TimeRange, VideoReader

VFR = (0, 40, 60, 61, 200, 333, 1000)


def test_every_frame_comes_out_in_order_with_its_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12)
    with VideoReader(path) as source:
        frames = list(source.frames())
        assert source.info.size == (48, 64) == source.form.size
        assert source.info.rate == 25
        assert source.info.frames == 12
        assert source.lost == 0
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 25) for i in range(12)]
    assert all(frame.duration * frame.time_base == Fraction(1, 25) for frame in frames)
    assert all(tuple(p.shape for p in f.planes) == f.form.plane_shapes for f in frames)


def test_variable_frame_rate_keeps_every_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", pts=VFR, time_base=Fraction(1, 1000), options={"bf": "2"})
    assert [round(1000 * frame.seconds) for frame in read(path)] == list(VFR)


def test_frames_can_be_read_again_from_the_beginning(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with VideoReader(path) as source:
        assert [f.pts for f in source.frames()] == [f.pts for f in source.frames()]


def test_yuv_planes_are_views_without_a_copy(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3)
    kept = read(path)
    assert all(plane.base is not None for frame in kept for plane in frame.planes)
    assert all(frame.planes[0].mean() > 0 for frame in kept)  # still readable after the file is closed


@pytest.mark.parametrize("pixels", ["i420", "nv12"])
@pytest.mark.parametrize(
    ("matrix", "full_range", "color"),
    [
        ("bt709", False, {"colorspace": 6, "color_range": 1}),
        ("bt601", False, {"colorspace": 1, "color_range": 1}),
        ("bt601", True, {"colorspace": 6, "color_range": 1}),
        ("bt709", False, {"colorspace": 1, "color_range": 2}),
        ("bt709", True, {"colorspace": 6, "color_range": 1}),
    ],
)
def test_frames_come_in_the_matrix_and_range_asked_for(
    tmp_path: Path, pixels: Pixels, matrix: Matrix, full_range: bool, color: dict[str, int]
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2, color=color, smooth=True)
    with VideoReader(path) as plain, VideoReader(path, pixels=pixels, matrix=matrix, full_range=full_range) as source:
        assert (source.form.matrix, source.form.full_range) == (matrix, full_range)
        assert (plain.form.matrix, plain.form.full_range) != (matrix, full_range)
        for before, after in zip(plain.frames(), source.frames(), strict=True):
            expected = rgb_from_planes(before.planes, before.form)
            assert psnr(rgb_from_planes(after.planes, after.form), expected) > 38


def test_closing_twice_and_in_the_middle_is_fine(tmp_path: Path) -> None:
    source = VideoReader(make_video(tmp_path / "a.mp4"))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    with pytest.raises(VideoError, match="closed"):
        source.frames()


@pytest.mark.parametrize("pixels", ["i420", "rgb"])
@pytest.mark.parametrize("size", [(49, 67), (48, 66), (1, 2), (2, 1)])
def test_odd_and_tiny_sizes_are_read(tmp_path: Path, size: tuple[int, int], pixels: str) -> None:
    path = make_video(tmp_path / "a.mkv", size=size, codec="ffv1", frames=2)
    frames = read(path, pixels=pixels)
    assert [f.form.size for f in frames] == [size] * 2
    assert all(tuple(p.shape for p in f.planes) == f.form.plane_shapes for f in frames)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotated_video_comes_out_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    upright = picture((64, 96), 3)
    # Stored turned counterclockwise, to be shown turned clockwise, and then mirrored.
    stored = np.rot90(upright[:, ::-1] if mirrored else upright, rotation // 90)
    path = make_video(
        tmp_path / "a.mp4",
        size=stored.shape[:2],  # type: ignore[arg-type]
        pictures=[np.ascontiguousarray(stored)] * 2,
        frames=2,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=Fraction(4, 3),
        options={"crf": "4"},
    )
    with VideoReader(path, pixels="rgb") as source:
        assert source.info.size == (64, 96)
        # Turning and then mirroring is mirroring and then turning the other way.
        expected = -rotation % 360 if mirrored else rotation
        assert (source.info.rotation, source.info.mirrored) == (expected, mirrored)
        turned = rotation in (90, 270)
        assert source.info.sample_aspect_ratio == (Fraction(3, 4) if turned else Fraction(4, 3))
        shown = next(source.frames()).planes[0]
    assert psnr(shown, upright) > 32
    assert tuple(p.shape for p in read(path)[0].planes) == ((64, 96), (32, 48), (32, 48))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        *((0, None, range(50)), (0.5, None, range(13, 50)), (1.2, None, range(30, 50)), (1.96, None, range(49, 50))),
        *((0, 0.4, range(10)), (1.2, 1.32, range(30, 33))),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_clip_is_exact_to_the_frame(
    tmp_path: Path, suffix: str, start: float, end: float | None, expected: range
) -> None:
    path = make_video(tmp_path / f"a{suffix}", frames=50, options={"g": "12", "bf": "2"})
    whole = read_contents(path).pts
    frames = read(path, clip=ClipOptions(start=start, end=end))
    times = [whole[i] for i in expected]
    times[0] = max(whole[0], min(times[0], Fraction(str(start)) + whole[0]))  # on from the cut
    assert [frame.pts * frame.time_base for frame in frames] == times


def test_a_clip_behind_the_end_has_no_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    assert read(path, clip=ClipOptions(start=100)) == []


def test_threads_do_not_change_the_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    sums = [[int(f.planes[0].sum()) for f in read(path, threads=threads)] for threads in (None, 1, 2)]
    assert sums[0] == sums[1] == sums[2]


def test_cover_art_is_not_taken_for_the_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", cover=png_cover())
    with av.open(str(path)) as file:
        assert len(file.streams.video) == 2
    with VideoReader(path) as source:
        assert source.info.size == (48, 64)
        assert len(list(source.frames())) == 10
        assert [t.kind for t in source.info.tracks] == ["cover"]


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", "2"), ("mpeg4", "2"), ("mpeg4", "0"), ("mjpeg", "0")])
def test_avi_which_has_no_times_is_read_evenly(tmp_path: Path, codec: str, bframes: str) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {} if codec == "mjpeg" else {"bf": bframes}
    path = make_video(tmp_path / "a.avi", codec=codec, pixel_format=pixel_format, options=options, frames=12)
    assert [f.pts * f.time_base for f in read(path)] == [Fraction(i, 25) for i in range(12)]


@pytest.mark.parametrize("name", ["a.h264", "a.hevc", "a.m2ts", "a.mpg", "a.flv", "a.mxf"])
def test_other_containers_and_raw_streams_are_read(tmp_path: Path, name: str) -> None:
    codec = {"a.hevc": "libx265", "a.mpg": "mpeg2video", "a.mxf": "mpeg2video"}.get(name, "libx264")
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = make_video(tmp_path / name, size=(64, 96), codec=codec, frames=12, options=options)
    times = [f.pts * f.time_base for f in read(path)]
    assert [t - times[0] for t in times] == [Fraction(i, 25) for i in range(12)]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [({}, 50), ({"start": 0.4}, 40), ({"end": 0.4}, 10), ({"start": 0.4, "end": 1.0}, 15), ({"start": 9}, 0)],
)
def test_the_frames_to_expect_are_known_beforehand(tmp_path: Path, clip: dict[str, float], expected: int) -> None:
    path = make_video(tmp_path / "a.mp4", frames=50)
    with VideoReader(path, clip=ClipOptions(**clip)) as source:
        assert source.frames_expected == expected == len(list(source.frames()))


# Files that are no videos, not whole, or hostile


def test_what_is_no_video_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("I am not a video.\n" * 100)
    (tmp_path / "zip.mp4").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 20)
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "picture.png").write_bytes(png_cover())
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (tmp_path / "folder.mp4").mkdir()
    sentences = {
        "missing.mp4": "there is no file .*missing.mp4",
        "folder.mp4": "is a folder",
        "empty.mp4": "is empty",
        **dict.fromkeys(("text.mp4", "zip.mp4", "noise.mkv"), "is not a video that can be read"),
        "picture.png": "is a PNG picture, .* `vidstyle image`",
        "photo.jpg": "is a JPEG picture",
    }
    for name, sentence in sentences.items():
        with pytest.raises(VideoError, match=sentence):
            VideoReader(tmp_path / name)


def test_sound_alone_is_said(tmp_path: Path) -> None:
    for suffix, codec in {"m4a": "aac", "wav": "pcm_s16le", "mp3": "mp3", "flac": "flac", "mka": "aac"}.items():
        path = make_sound(tmp_path / f"a.{suffix}", codec)
        with pytest.raises(VideoError, match="has sound but no picture"):
            VideoReader(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.mp4", "ffconcat version 1.0\nfile 'secret.mp4'\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"),
        ("stream.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("a.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period></Period></MPD>'),
        ("a.idx", "# VobSub index file, v7 (do not modify this line!)\n"),
    ],
)
def test_files_that_point_to_other_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    make_video(tmp_path / "secret.mp4")
    (tmp_path / name).write_text(text)
    with pytest.raises(VideoError, match="is not a video that can be read"):
        VideoReader(tmp_path / name)


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.mp4", "pipe:0", "concat:a.mp4|b.mp4", "file:///etc/hostname"])
def test_only_files_are_opened(name: str) -> None:
    with pytest.raises(VideoError, match="there is no file"):
        VideoReader(Path(name))


@pytest.mark.parametrize("name", ["a:b.mp4", "a%03d.mp4", "pipe:0", "ö ä'\".mp4", "-i.mp4"])
def test_odd_file_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_video(tmp_path / "plain.mp4")
    made.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        assert len(read(path)) == 10


@pytest.mark.parametrize(("width", "height"), [(100000, 16), (16, 100000), (16384, 16384), (70000, 70000)])
def test_a_picture_of_absurd_size_is_refused_before_it_takes_memory(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.y4m"
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 Ip C420\nFRAME\n".encode() + bytes(1000))
    with pytest.raises(VideoError):
        VideoReader(path)


def cut(path: Path, share: float, **options: Any) -> Path:
    """The first ``share`` of a video."""
    data = make_video(path, **options).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


FASTSTART = {"movflags": "faststart"}


def test_a_moov_less_mp4_says_that_it_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is cut off: the index at its end"):
        VideoReader(cut(tmp_path / "cut.mp4", 0.5, frames=50))


@pytest.mark.parametrize("bframes", ["0", "3"])
@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("sound", [False, True])
def test_a_cut_mp4_gives_what_is_there_and_counts_the_rest(
    tmp_path: Path, bframes: str, threads: int | None, sound: bool
) -> None:
    made: dict[str, Any] = {"options": {"bf": bframes, "g": "10"}, "audio": [Audio()] if sound else []}
    path = cut(tmp_path / "cut.mp4", 2 / 3, frames=60, container_options=FASTSTART, **made)
    with VideoReader(path, threads=threads) as source:
        frames = list(source.frames())
        assert 5 < len(frames) < 60
        assert len(frames) + source.lost == 60
        assert any("cut off" in sentence for sentence in source.errors)
    assert [f.pts for f in frames] == [512 * i for i in range(len(frames))]


def test_what_is_cut_off_behind_the_clip_is_no_loss(tmp_path: Path) -> None:
    options = {"g": "10", "bf": "0"}
    path = cut(tmp_path / "cut.mp4", 2 / 3, frames=60, options=options, container_options=FASTSTART)
    assert len(read(path, clip=ClipOptions(end=0.4))) == 10
    with VideoReader(path, clip=ClipOptions(start=0.4, end=2.0)) as source:
        count = len(list(source.frames()))
        assert 5 < count < 40
        assert count + source.lost == 40


def test_a_cut_mkv_counts_what_is_missing(tmp_path: Path) -> None:
    with VideoReader(cut(tmp_path / "cut.mkv", 0.5, frames=150, audio=[Audio()])) as source:
        count = len(list(source.frames()))
        assert 20 < count < 140
        assert count + source.lost == pytest.approx(150, abs=1)


def test_sound_that_goes_on_is_no_loss(tmp_path: Path) -> None:
    for suffix, live in ((".mkv", False), (".mkv", True), (".mp4", False), (".ts", False), (".webm", False)):
        codecs = ("libvpx-vp9", "libopus") if suffix == ".webm" else ("libx264", "aac")
        path = make_video(
            tmp_path / f"a{suffix}", frames=10, codec=codecs[0], audio=[Audio(codec=codecs[1], seconds=4.0)], live=live
        )
        assert len(read(path)) == 10


def packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as file:
        return [(packet.pos or 0, packet.size) for packet in file.demux(video=0) if packet.size]


def damage(path: Path, packets: slice) -> None:
    data = bytearray(path.read_bytes())
    for position, size in packet_places(path)[packets]:
        # From the packet's head on: decoders of arithmetic codes cannot see that the rest is wrong.
        head = min(12, size // 2)
        data[position + head : position + size] = np.random.default_rng(1).bytes(size - head)
    path.write_bytes(data)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9", "libsvtav1", "ffv1", "mjpeg"])
@pytest.mark.parametrize("threads", [1, None])
def test_damage_in_mid_stream_is_counted_and_is_not_the_end(tmp_path: Path, codec: str, threads: int | None) -> None:
    quiet = {"libx265": {"x265-params": "log-level=none"}, "libx264": {"bf": "2"}}.get(codec, {})
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    made: dict[str, Any] = {"codec": codec, "pixel_format": pixel_format, "options": {"g": "10", **quiet}}
    path = make_video(tmp_path / "a.mkv", size=(96, 128), frames=40, **made)
    damage(path, slice(15, 18))
    with VideoReader(path, threads=threads) as source:
        frames = list(source.frames())
        assert source.lost >= 1
        assert 1 <= len(source.errors) <= 5
        assert "frame" in source.errors[0]
    assert len(frames) >= 30
    assert frames[-1].pts * frames[-1].time_base == pytest.approx(Fraction(39, 25), abs=1e-3)


def test_a_video_without_one_good_frame_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", frames=5, codec="ffv1")
    damage(path, slice(None))
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        VideoReader(path)


def test_a_video_with_no_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    with pytest.raises(VideoError, match=r"a\.mkv"):
        VideoReader(path)


def test_garbage_never_raises_anything_but_our_error(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    path = make_video(tmp_path / "a.mp4", audio=[Audio()], rotation=90, container_options=FASTSTART)
    whole = path.read_bytes()
    for trial in range(60):
        data = bytearray(whole)
        for place in random.integers(0, 3000, 12):
            data[place] = random.integers(0, 256)
        path = tmp_path / "fuzzed.mp4"
        path.write_bytes(data)
        try:
            with VideoReader(path) as source:
                for frame in source.frames():
                    assert frame.form == source.form, trial
        except VideoError as error:
            assert "fuzzed.mp4" in str(error)


def test_a_pipe_and_a_device_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    pipe = tmp_path / "pipe.mp4"
    for path, words in ((pipe, "is a pipe"), (Path("-"), "is standard input"), (Path("/dev/null"), "device")):
        with pytest.raises(VideoError, match=words):
            probe(path)


def test_an_animated_webp_is_named(tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames = [np.full((32, 32, 3), 60 * shade, np.uint8) for shade in range(3)]
    animation.durations = np.full(3, 100, np.int32)
    assert cv2.imwriteanimation(str(tmp_path / "in.webp"), animation)
    with pytest.raises(VideoError, match=r"in\.webp is an animated WebP"):
        probe(tmp_path / "in.webp")


def test_ffmpeg_says_why_a_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1\nother.ts\n")
    with pytest.raises(VideoError, match="moov atom not found|Format not on whitelist|Invalid data"):
        probe(tmp_path / "list.mp4")


# What is no loss


def test_pictures_that_go_on_are_no_losses(tmp_path: Path) -> None:
    # AVI has an empty chunk wherever no new picture is shown.
    path = make_video(
        tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", pts=[0, 1, 2, 6, 7, 20], time_base=Fraction(1, 25)
    )
    assert [frame.pts for frame in read(path)] == [0, 1, 2, 6, 7, 20]


@pytest.mark.parametrize("empty", [[3], [2, 3, 8, 9]])
def test_empty_samples_of_quicktime_let_the_last_picture_stand(tmp_path: Path, empty: list[int]) -> None:
    path = make_video(tmp_path / "a.mov", codec="mjpeg", pixel_format="yuvj420p")
    places, data = packet_places(path), bytearray(path.read_bytes())
    sizes, media = data.index(b"stsz") + 16, data.index(b"mdat") - 4
    data[media : media + 4] = (int.from_bytes(data[media : media + 4]) - sum(places[i][1] for i in empty)).to_bytes(4)
    for index in empty:
        data[sizes + 4 * index : sizes + 4 * index + 4] = bytes(4)
    for index in reversed(empty):
        place, size = places[index]
        del data[place : place + size]  # the index comes behind
    path.write_bytes(data)
    frames = read(path)
    assert [round(25 * frame.seconds) for frame in frames] == [i for i in range(10) if i not in empty]
    assert (frames[-1].pts + frames[-1].duration) * frames[-1].time_base == Fraction(10, 25)


def test_a_subtitle_that_outlasts_the_picture_is_no_loss(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", subtitles=[Subtitle(lines=((0.1, 0.2, "a"), (0.3, 8.0, "b")))])
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOX"))  # as muxers that tell no track's length
    assert len(read(path)) == 10


@pytest.mark.parametrize("start", [2.8, 2.88, 2.92, 2.96])
def test_the_end_of_a_whole_mp4_with_b_frames_is_no_loss(tmp_path: Path, start: float) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames=75, options={"bf": "3", "b-pyramid": "normal", "x264-params": "b-adapt=0"}
    )
    assert len(read(path, clip=ClipOptions(start=start))) == round(25 * (3 - start))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.ts", "libx264", {"g": "10", "bf": "2"}),
        ("a.ts", "libx264", {"x264-params": "keyint=10:open-gop=1:bframes=3:b-adapt=0:scenecut=0"}),
        ("a.ts", "libx264", {"x264-params": "keyint=10:intra-refresh=1"}),
        ("a.ts", "libx265", {"x265-params": "keyint=10:open-gop=1:bframes=3:b-adapt=0:log-level=none"}),
        ("a.ts", "mpeg2video", {"g": "10", "bf": "2"}),
        ("a.mpg", "mpeg2video", {"g": "10", "bf": "2"}),
    ],
)
def test_what_precedes_the_first_key_frame_is_told_and_no_loss(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / name, size=(96, 128), frames=60, codec=codec, options=options)
    whole = [frame.planes[0] for frame in read(path)]
    data, block = path.read_bytes(), 2048 if name == "a.mpg" else 188
    path.write_bytes(data[len(data) * 2 // 5 // block * block :])
    with VideoReader(path) as source:
        frames = list(source.frames())
        assert (source.lost, source.errors) == (0, [])
        assert any("before a key frame" in note for note in source.notes)
    assert 20 < len(frames) < 55
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {3600}
    # They are whole: the same as with the pictures before.
    for frame, expected in list(zip(reversed(frames), reversed(whole), strict=False))[: len(frames)]:
        assert np.array_equal(frame.planes[0], expected)


# What is on when a clip begins and ends


def shown(path: Path, **clip: float) -> list[tuple[float, float]]:
    """Begin and length of each picture of a clip, in seconds from the clip's start."""
    with VideoReader(path, clip=ClipOptions(**clip)) as source:
        frames = list(source.frames())
        assert (source.lost, source.errors) == (0, [])
        zero = TimeRange.of(source.info, ClipOptions(**clip)).shift
    return [(float(f.pts * f.time_base - zero), float(f.duration * f.time_base)) for f in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".webm"])
def test_a_slide_that_is_on_at_a_cut_is_shown_from_there_to_the_end(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == ".webm" else "libx264"
    audio = [Audio(codec="libopus" if suffix == ".webm" else "aac", seconds=10)]
    made: dict[str, Any] = {"audio": audio, "codec": codec, "options": {"bf": "0"}}
    path = make_video(tmp_path / f"a{suffix}", pts=[0, 4000, 8000], time_base=Fraction(1, 1000), **made)
    assert shown(path, start=1, end=3) == [(0, 2)]
    two = pytest.approx(2, abs=0.03)
    assert shown(path, start=2, end=6) == [(0, two), (two, two)]
    assert shown(path, end=3)[0] == pytest.approx((0, 3), abs=0.03)
    assert shown(path, start=9, end=9.5) == [(0, 0.5)]
    assert shown(path, start=9) == [(0, pytest.approx(1, abs=0.1))]


def test_a_clip_shows_no_glimpse_of_the_picture_before(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=50, options={"bf": "2"})
    assert shown(path, start=0.5, end=0.6) == [pytest.approx((0, 0.06)), pytest.approx((0.06, 0.04))]
    slow = make_video(tmp_path / "b.mp4", frames=10, rate=5)
    parts = [(0, 0.1), (0.1, 0.2), (0.3, 0.1)]
    assert shown(slow, start=0.5, end=0.9) == [pytest.approx(part) for part in parts]
