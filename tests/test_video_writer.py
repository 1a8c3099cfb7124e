"""Writing: the file that was asked for, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import Audio, copied, copy, largest_file, make_video, psnr, read_contents, read_rgb

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import ClipOptions, EncodeOptions
from vidstyle.video.reader import VideoReader
from vidstyle.video.stream_copy import StreamCopier
from vidstyle.video.writer import VideoWriter

VFR = (0, 40, 60, 61, 200, 333, 1000)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4")


def worst(before: Path, after: Path) -> float:
    """The PSNR, in dB, of the picture that differs most."""
    return min(psnr(a, b) for a, b in zip(read_rgb(before), read_rgb(after), strict=True))


def writer(output: Path, video: VideoReader, *, form: FrameFormat | None = None, **options: Any) -> VideoWriter:
    return VideoWriter(output, source=video.info, source_path=video.path, form=form or video.form, **options)


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm"])
def test_every_container_keeps_the_pictures_and_their_times(tmp_path: Path, clip: Path, suffix: str) -> None:
    assert copied(clip, f"out{suffix}").pts == [Fraction(i, 25) for i in range(10)]
    assert worst(clip, tmp_path / f"out{suffix}") > 30


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        *((".mp4", "h264"), (".mp4", "hevc"), (".mov", "hevc"), (".mp4", "av1"), (".mp4", "vp9")),
        *((".mkv", "ffv1"), (".mkv", "av1"), (".webm", "av1"), (".webm", "vp9")),
    ],
)
def test_every_codec_keeps_variable_frame_rate(tmp_path: Path, suffix: str, codec: Any) -> None:
    source = make_video(tmp_path / "in.mkv", pts=VFR, time_base=Fraction(1, 1000), size=(64, 96))
    contents = copied(source, f"out{suffix}", encode=EncodeOptions(codec=codec))
    assert (contents.codecs[0], contents.pts) == (codec, [Fraction(t, 1000) for t in VFR])
    assert worst(source, tmp_path / f"out{suffix}") > 28


@pytest.mark.parametrize(
    "time_base", [Fraction(1, 600), Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 1000000)]
)
def test_mp4_keeps_times_in_any_time_base(tmp_path: Path, time_base: Fraction) -> None:
    ticks = [0, 1, 3, 4, 9, 10, 30]
    source = make_video(tmp_path / "in.mp4", pts=ticks, time_base=time_base, options={"bf": "3", "b-pyramid": "normal"})
    assert copied(source, "out.mp4").pts == read_contents(source).pts == [t * time_base for t in ticks]


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", pts=VFR, time_base=Fraction(1, 1000), last_duration=700)
    assert copied(source, "out.mp4").durations[-1] == Fraction(7, 10)
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as file:
            assert file.streams.video[0].duration * file.streams.video[0].time_base == Fraction(1700, 1000)


@pytest.mark.parametrize("first", [7, 250])
def test_a_late_first_frame_stays_late(tmp_path: Path, first: int) -> None:
    times = [first, first + 40, first + 90]
    source = make_video(tmp_path / "in.mkv", pts=times, time_base=Fraction(1, 1000), audio=[Audio()])
    for suffix in (".mp4", ".mkv"):
        assert copied(source, f"out{suffix}").pts == read_contents(source).pts == [Fraction(t, 1000) for t in times]


@pytest.mark.parametrize(
    ("suffix", "times", "expected"),
    [
        (".mp4", [0, 512, 512, 300, 2048], [0, 512, 513, 514, 2048]),
        (".mkv", [0, 512, 512, 512, 2048], [0, 512, 524.8, 537.6, 2048]),  # which counts milliseconds
        (".webm", [0, 512, 512, 512, 2048], [0, 512, 524.8, 537.6, 2048]),
    ],
)
def test_frames_at_one_time_are_moved_by_what_the_container_can_tell_apart_and_said(
    tmp_path: Path, clip: Path, suffix: str, times: list[int], expected: list[float]
) -> None:
    output = tmp_path / f"out{suffix}"
    with VideoReader(clip) as video, writer(output, video) as sink:
        for frame, pts in zip(list(video.frames()), times, strict=False):
            sink.write(Frame(frame.planes, frame.form, pts, frame.time_base, frame.duration))
        assert [note for note in sink.notes if "one tick later" in note] == sink.notes[-1:]
    assert [float(12800 * pts) for pts in read_contents(output).pts] == pytest.approx(expected)


@pytest.mark.parametrize(("start", "end"), [(0.4, None), (0.4, 0.8), (0, 0.5)])
def test_a_clip_starts_at_zero_with_its_sound(tmp_path: Path, start: float, end: float | None) -> None:
    source = make_video(tmp_path / "in.mp4", frames=50, audio=[Audio()])
    before, after = read_contents(source), copied(source, "out.mp4", clip=ClipOptions(start=start, end=end))
    inside = [t for t in before.pts if t >= Fraction(str(start)) and (end is None or t < Fraction(str(end)))]
    assert after.pts == [t - (inside[0] if start else 0) for t in inside]
    kept = [(t, data) for t, data in before.packets[1] if data in {d for _, d in after.packets[1]}]
    assert [data for _, data in kept] == [data for _, data in after.packets[1]]
    shift = {round((old - new) * 48000) for (old, _), (new, _) in zip(kept, after.packets[1], strict=True)}
    assert shift == {round(Fraction(str(start)) * 48000)}


@pytest.mark.parametrize("clip", [ClipOptions(), ClipOptions(start=0.4)])
def test_broadcast_clocks_start_at_zero_with_sound_and_picture_in_step(tmp_path: Path, clip: ClipOptions) -> None:
    started = {"output_ts_offset": "12345"}
    source = make_video(tmp_path / "in.ts", frames=50, audio=[Audio()], container_options=started)
    before, after = read_contents(source), copied(source, "out.mp4", clip=clip)
    assert before.pts[0] > 12000
    assert 0 <= after.pts[0] < Fraction(1, 10)
    steps = [b - a for a, b in zip(after.pts, after.pts[1:], strict=False)]
    assert set(steps[clip.start > 0 :]) == {Fraction(1, 25)}
    shift = before.pts[-1] - after.pts[-1]
    assert abs(before.packets[1][-1][0] - after.packets[1][-1][0] - shift) < Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_index_is_at_the_front(tmp_path: Path, clip: Path, suffix: str) -> None:
    copy(clip, tmp_path / f"out{suffix}")
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("suffix", "encode"),
    [
        (".webm", EncodeOptions()),
        (".mkv", EncodeOptions(codec="av1")),
        (".mkv", EncodeOptions(codec="ffv1")),
        (".mp4", EncodeOptions(pixel_format="yuv444p")),
    ],
)
def test_an_odd_size_is_kept_where_the_codec_can(tmp_path: Path, suffix: str, encode: EncodeOptions) -> None:
    source = make_video(tmp_path / "in.mkv", size=(65, 97), codec="ffv1", frames=3)
    output, pixels = tmp_path / f"out{suffix}", "rgb" if encode.pixel_format == "yuv444p" else "i420"
    assert copy(source, output, encode=encode, pixels=pixels) == []
    assert read_rgb(output)[0].shape == (65, 97, 3)
    assert worst(source, output) > 28


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_odd_size_loses_a_row_and_a_column_and_says_so(tmp_path: Path, codec: Any) -> None:
    source = make_video(tmp_path / "in.mkv", size=(65, 97), codec="ffv1", frames=3)
    output = tmp_path / "out.mp4"
    (note,) = copy(source, output, encode=EncodeOptions(codec=codec))
    assert "last row and the last column of 97x65" in note
    assert read_rgb(output)[0].shape == (64, 96, 3)
    assert psnr(read_rgb(source)[0][:64, :96], read_rgb(output)[0]) > 28


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "ffv1"])
def test_crf_and_preset_reach_the_encoder(tmp_path: Path, codec: Any) -> None:
    source = make_video(tmp_path / "in.mp4", size=(128, 192), frames=6)
    presets = {"h264": "medium", "hevc": "ultrafast", "vp9": "8", "av1": "12", "ffv1": None}
    sizes = []
    for crf in (10, 45):
        output = tmp_path / f"{crf}.mkv"
        copy(source, output, encode=EncodeOptions(codec=codec, crf=crf, preset=presets[codec]))
        sizes.append(output.stat().st_size)
    assert sizes[0] == sizes[1] if codec == "ffv1" else sizes[0] > 1.3 * sizes[1]


def test_rgb_frames_are_written_in_the_sources_colors(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", color={"colorspace": 1}, options={"crf": "1"})
    output = tmp_path / "out.mp4"
    copy(source, output, pixels="rgb", encode=EncodeOptions(crf=1))
    assert worst(source, output) > 36


def test_frames_of_nv12_are_written(tmp_path: Path, clip: Path) -> None:
    form = FrameFormat(height=48, width=64, pixels="nv12", matrix="bt601")
    with VideoReader(clip) as video, writer(tmp_path / "out.mp4", video, form=form) as sink:
        for frame in video.frames():
            y, u, v = frame.planes
            sink.write(frame.with_planes((y, np.stack([u, v], axis=-1)), form))
    assert worst(clip, tmp_path / "out.mp4") > 30


def test_another_size_than_the_sources_is_written(tmp_path: Path, clip: Path) -> None:
    with VideoReader(clip) as video:
        form = video.form.resized((24, 32))
        with writer(tmp_path / "out.mp4", video, form=form) as sink:
            for frame in video.frames():
                sink.write(frame.with_planes(tuple(plane[::2, ::2] for plane in frame.planes), form))
    assert read_rgb(tmp_path / "out.mp4")[0].shape == (24, 32, 3)


# What goes wrong


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(".part"))


def test_nothing_is_under_the_final_name_before_the_end(tmp_path: Path, clip: Path) -> None:
    output = tmp_path / "out.mp4"
    with VideoReader(clip) as video, writer(output, video) as sink:
        for frame in video.frames():
            sink.write(frame)
            assert not output.exists()
            assert len(leftovers(tmp_path)) == 1
    assert output.exists()
    assert leftovers(tmp_path) == []
    sink.abort()
    sink.finish()
    assert output.exists()


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file in the place of the output, which is as it was after the test; and nothing is beside it."""
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    yield output
    assert output.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []


def test_aborting_an_overwrite_keeps_the_old_file(clip: Path, precious: Path) -> None:
    with VideoReader(clip) as video:
        sink = writer(precious, video, overwrite=True)
        sink.write(next(video.frames()))
        sink.abort()
        sink.abort()


def test_nothing_written_is_no_file(clip: Path, precious: Path) -> None:
    with pytest.raises(VideoError, match=r"out\.mp4.*no picture"):
        copy(clip, precious, clip=ClipOptions(start=100), overwrite=True)


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(clip: Path, precious: Path) -> None:
    with pytest.raises(BadOption, match="out.mp4 exists; .*--overwrite"):
        copy(clip, precious)


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path, clip: Path) -> None:
    copy(clip, tmp_path / "out.mp4")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out.mp4").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_input_is_never_the_output(tmp_path: Path, clip: Path) -> None:
    before = clip.read_bytes()
    os.link(clip, tmp_path / "link.mp4")
    with pytest.raises(BadOption, match="is the input itself"):
        copy(clip, tmp_path / "link.mp4", overwrite=True)
    assert clip.read_bytes() == before


@pytest.mark.parametrize("name", ["out", "out.avi", "out.txt", "out.gif", ".mp4"])
def test_an_unknown_suffix_names_those_there_are(tmp_path: Path, clip: Path, name: str) -> None:
    with pytest.raises(BadOption, match=r"\.mp4, \.m4v, \.mov, \.mkv, \.webm"):
        copy(clip, tmp_path / name)


@pytest.mark.parametrize(
    ("name", "encode", "sentence"),
    [
        ("o.webm", EncodeOptions(codec="h264"), r"\.webm holds vp9, av1 \(write h264 to \.mp4"),
        ("o.mp4", EncodeOptions(codec="ffv1"), r"\.mp4 holds h264, hevc, av1, vp9 \(write ffv1 to \.mkv"),
        ("o.mp4", EncodeOptions(crf=60), "crf is 60; libx264 takes 0 to 51"),
        ("o.mp4", EncodeOptions(preset="warp"), "preset is 'warp'; libx264 has ultrafast"),
        ("o.webm", EncodeOptions(preset="fast"), "preset is 'fast'; libvpx-vp9 has 0, 1"),
        ("o.mkv", EncodeOptions(codec="ffv1", preset="fast"), "preset is 'fast'; ffv1 has none"),
    ],
)
def test_what_an_encoder_cannot_do_is_a_sentence(
    tmp_path: Path, clip: Path, name: str, encode: EncodeOptions, sentence: str
) -> None:
    with pytest.raises(BadOption, match=sentence):
        copy(clip, tmp_path / name, encode=encode)
    assert leftovers(tmp_path) == []


def test_a_read_only_disk_is_told(tmp_path: Path, clip: Path) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk, pytest.raises(BadOption, match="its folder is not writable"):
        copy(clip, disk / "out.mp4")


def test_an_output_that_is_no_file_in_a_folder_is_told(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(BadOption, match="there is no folder .*nowhere"):
        copy(clip, tmp_path / "nowhere" / "out.mp4")
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(BadOption, match="it is a folder"):
        copy(clip, tmp_path / "out.mp4", overwrite=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_cannot_grow_is_a_sentence_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", size=(120, 160), frames=40)
    with largest_file(20_000), pytest.raises(VideoError, match="larger than this system or disk allows"):
        copy(source, tmp_path / f"out{suffix}", encode=EncodeOptions(crf=0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv"]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", size=(120, 160), frames=60)
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        with pytest.raises(VideoError, match="no space is left"):
            copy(source, disk / "out.mp4", encode=EncodeOptions(crf=0))
        assert list(disk.iterdir()) == []


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own on ``folder``; the test is skipped where it cannot be made."""
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    except OSError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip("mounting a disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_encoders_keep_quiet(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", size=(64, 96))
    code = textwrap.dedent("""
        from pathlib import Path
        from media import EncodeOptions, copy
        for codec in ("h264", "hevc", "vp9", "av1", "ffv1"):
            copy(Path("in.mp4"), Path(f"{codec}.mkv"), encode=EncodeOptions(codec=codec))
    """)  # a process of its own: SVT-AV1 asks once in its life whether it may speak
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_was_made_while_another_took_the_name_is_kept_beside_it(tmp_path: Path, clip: Path) -> None:
    with VideoReader(clip) as source:
        sinks = [writer(tmp_path / "out.mp4", source) for _ in "ab"]
        for frame in source.frames():
            for sink in sinks:
                sink.write(frame)
    sinks[0].finish()
    before = (tmp_path / "out.mp4").read_bytes()
    with pytest.raises(BadOption, match=r"out\.mp4 exists; .*out-2\.mp4"):
        sinks[1].finish()
    assert (tmp_path / "out.mp4").read_bytes() == before
    assert leftovers(tmp_path) == []
    assert len(read_contents(tmp_path / "out-2.mp4").pts) == len(read_contents(tmp_path / "out.mp4").pts)


def test_a_link_is_followed_to_its_disk(tmp_path: Path, clip: Path) -> None:
    real = tmp_path / "large" / "real.mp4"
    real.parent.mkdir()
    (tmp_path / "out.mp4").symlink_to(real)
    copy(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["real.mp4"]


def test_what_the_muxer_refuses_is_told_before_the_work_in_its_words(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_a_track_without_a_rate(self: StreamCopier, indexes: range) -> None:
        self._output.add_mux_stream("aac")

    monkeypatch.setattr(StreamCopier, "add_tracks", add_a_track_without_a_rate)
    with VideoReader(clip) as source, pytest.raises(VideoError, match=r"out\.mp4: sample rate not set"):
        writer(tmp_path / "out.mp4", source)
    assert leftovers(tmp_path) == []
