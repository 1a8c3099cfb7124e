"""What is in the file: every frame at its time, the sound in step, the colors told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from broadcasting import CLOCK, DARK, FORM, STEREO, Received, beep, frame, play

from vidstyle.errors import BadOption
from vidstyle.frame import FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.video.audio import AudioFormat
from vidstyle.video.output.muxer import StreamEncoder, output_spec

SUFFIXES = [".mp4", ".m4v", ".mov", ".mkv", ".m3u8"]


def writer(
    path: Path, *, form: FrameFormat = FORM, sound: AudioFormat | None = None, encode: EncodeOptions | None = None
) -> StreamEncoder:
    return StreamEncoder(output_spec(path), form=form, fps=30, sound=sound, encode=encode or EncodeOptions())


def record(
    path: Path,
    times: Iterable[int],
    *,
    sound: AudioFormat | None = None,
    form: FrameFormat = FORM,
    encode: EncodeOptions | None = None,
    heard: Callable[[float], bool] = lambda second: True,
) -> Received:
    """Frames at ``times`` (microseconds after the clock's begin), and sound for as long, a little ahead."""
    made = writer(path, form=form, sound=sound, encode=encode)
    samples = 0
    for time in times:
        while sound is not None and samples / sound.rate < time / 1e6 + 0.1:
            if heard(samples / sound.rate):
                made.sound(beep(CLOCK + samples * 1_000_000 // sound.rate, samples, 960, sound))
            samples += 960
        assert made.write(frame(CLOCK + time, seconds=time / 1e6, form=form))
    made.finish()
    return play(path)


def steady(seconds: float, fps: float = 30) -> list[int]:
    return [round(i * 1e6 / fps) for i in range(int(seconds * fps))]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_uneven_times_are_kept_and_begin_at_zero(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(3)
    times = [0, *np.cumsum(random.integers(5_000, 120_000, 80)).tolist()]
    played = record(tmp_path / f"out{suffix}", times)
    assert played.times[0] == 0
    exact = {".mkv": 1e-3, ".m3u8": 2e-5}.get(suffix, 1e-6)
    assert np.abs(np.array(played.times) - np.array(times) / 1e6).max() <= exact


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sound_is_in_step_with_the_picture_and_the_length_told(tmp_path: Path, suffix: str) -> None:
    played = record(tmp_path / f"out{suffix}", steady(4), sound=STEREO)
    assert played.flashes() == pytest.approx([1, 2, 3], abs=0.034)
    assert [t for t in played.beeps() if 0.5 < t < 3.5] == pytest.approx([1, 2, 3], abs=0.005)
    assert (len(played.times), played.duration) == (120, pytest.approx(4, abs=0.12))  # sound is a little ahead
    if suffix in (".mp4", ".mov"):  # no longer in fragments
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert [stream.frames for stream in container.streams.video] == [120]
            assert all(stream.duration for stream in container.streams)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_never_closed_plays_up_to_its_last_second(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    made = writer(path, sound=STEREO)
    for index, time in enumerate(steady(5.5)):
        made.sound(beep(CLOCK + index * 33_333, index * 1600, 1600))
        made.write(frame(CLOCK + time, seconds=time / 1e6))
    played = play(path)
    made.muxer.abandon()
    assert len(played.times) >= 30 * 4.5
    assert played.times[0] == 0
    assert played.sound_seconds > 4.4
    assert play(path).times == played.times  # abandoning it wrote nothing more


@pytest.mark.parametrize(("matrix", "number"), [("bt601", 6), ("bt709", 1)])
@pytest.mark.parametrize(("full", "range_number"), [(False, 1), (True, 2)])
def test_matrix_and_range_are_told(tmp_path: Path, matrix: str, number: int, full: bool, range_number: int) -> None:
    played = record(tmp_path / "out.mp4", steady(0.3), form=replace(FORM, matrix=matrix, full_range=full))
    assert played.color == (number, range_number)


@pytest.mark.parametrize("pixels", ["rgb", "nv12"])
def test_other_layouts_are_written_too(tmp_path: Path, pixels: str) -> None:
    played = record(tmp_path / "out.mp4", steady(1.5), form=replace(FORM, pixels=pixels))
    assert (len(played.times), played.size) == (45, FORM.size)


def test_an_odd_last_row_and_column_are_left_out(tmp_path: Path) -> None:
    assert record(tmp_path / "out.mp4", steady(0.3), form=FORM.resized((91, 161))).size == (90, 160)


def test_an_odd_size_is_kept_in_444(tmp_path: Path) -> None:
    encode = EncodeOptions(pixel_format="yuv444p")
    assert record(tmp_path / "out.mkv", [0], form=FORM.resized((91, 161)), encode=encode).size == (91, 161)


def test_frames_of_another_size_or_color_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    made = writer(path)
    full = replace(FORM, matrix="bt709", full_range=True)
    forms = [FORM, FORM.resized((45, 81)), FORM.resized((360, 640)), full, replace(FORM, pixels="rgb"), FORM]
    for index, form in enumerate(forms):
        made.write(frame(CLOCK + index * 40_000, form=form))
    made.finish()
    played = play(path)
    assert played.size == FORM.size
    limited = 16 + DARK * 219 / 255  # of full range and of RGB, which here is gray
    assert played.luma == pytest.approx([DARK, DARK, DARK, limited, limited, DARK], abs=2)


def test_a_key_frame_comes_each_second_whatever_the_rate(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    times = [0, *np.cumsum(random.integers(10_000, 90_000, 100)).tolist()]
    played = record(tmp_path / "out.mp4", times)
    gaps = np.diff(played.key_times)
    assert 0.99 <= gaps.min() <= gaps.max() < 1.1


def test_no_frame_waits_in_the_encoder(tmp_path: Path) -> None:
    made = writer(tmp_path / "out.mkv")
    packets: list[object] = []
    made.muxer.write = packets.append  # type: ignore[method-assign,assignment]
    for index in range(40):
        made.write(frame(CLOCK + index * 33_333))
        assert len(packets) == index + 1
    made.muxer.abandon()


def test_a_frame_that_is_not_later_than_the_last_is_refused(tmp_path: Path) -> None:
    made = writer(tmp_path / "out.mp4")
    written = [made.write(frame(CLOCK + t)) for t in (0, 40_000, 40_000, 30_000, 50_000)]
    assert written == [True, True, False, False, True]
    made.finish()
    assert play(tmp_path / "out.mp4").times == pytest.approx([0, 0.04, 0.05])


def test_times_of_another_unit_are_understood(tmp_path: Path) -> None:
    made = writer(tmp_path / "out.mp4")
    for index in range(3):
        made.write(replace(frame(0), pts=900_000 + 3003 * index, time_base=Fraction(1, 90_000)))
    made.finish()
    assert play(tmp_path / "out.mp4").times == pytest.approx([0, 3003 / 90_000, 6006 / 90_000], abs=2e-6)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".m3u8"])
def test_where_there_was_no_frame_no_file_stays(tmp_path: Path, suffix: str) -> None:
    made = writer(tmp_path / f"out{suffix}", sound=STEREO)
    made.sound(beep(CLOCK, 0, 960))
    made.finish()
    assert list(tmp_path.iterdir()) == []


def test_sound_that_stops_becomes_silence_and_comes_back_in_step(tmp_path: Path) -> None:
    played = record(tmp_path / "out.mp4", steady(6.8), sound=STEREO, heard=lambda second: not 1.5 < second < 4.5)
    assert played.flashes() == pytest.approx([1, 2, 3, 4, 5, 6], abs=0.034)
    assert [round(t, 2) for t in played.beeps()[-3:]] == pytest.approx([1, 5, 6], abs=0.01)
    ends = np.array([begin + samples.shape[1] / 48000 for begin, samples in played.sound])
    begins = np.array([begin for begin, _ in played.sound])
    assert np.abs(begins[1:] - ends[:-1]).max() < 1e-4  # without a hole


def test_sound_that_never_comes_is_silence(tmp_path: Path) -> None:
    played = record(tmp_path / "out.mkv", steady(3), sound=STEREO, heard=lambda _: False)
    assert played.sound_seconds > 1.9 and played.beeps() == []


def test_sound_from_before_the_first_frame_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    made = writer(path, sound=STEREO)
    for index in range(4 * 50):
        made.sound(beep(CLOCK - 1_500_000 + index * 20_000, index * 960, 960))
    for time in steady(2.5):
        made.write(frame(CLOCK + time))
    made.finish()
    assert play(path).beeps() == pytest.approx([0.5, 1.5], abs=0.005)


@pytest.mark.parametrize(
    "form", [AudioFormat(16000, 1), AudioFormat(44100, 2), AudioFormat(50000, 1), AudioFormat(48000, 6)]
)
def test_sound_of_any_form_is_written(tmp_path: Path, form: AudioFormat) -> None:
    record(tmp_path / "out.mp4", steady(2), sound=form)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.channels == min(form.channels, 2)
        assert stream.duration is not None and stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(2.1, abs=0.1)  # a little ahead


def test_old_segments_of_a_playlist_go(tmp_path: Path) -> None:
    path = tmp_path / "my show #1.m3u8"
    most: int = 0
    made = writer(path)
    for time in steady(14, fps=10):
        made.write(frame(CLOCK + time))
        most = max(most, len(list(tmp_path.iterdir())))
    made.finish()
    text = path.read_text()
    named = [line for line in text.splitlines() if not line.startswith("#")]
    present = {entry.name for entry in tmp_path.iterdir()} - {path.name}
    assert len(named) == 6
    # In the playlist's own folder, and without a letter that a URL would need to escape.
    assert all(re.fullmatch(r"my_show__1-[0-9a-f]{8}-\d+\.ts", name) for name in named)
    assert set(named) <= present
    assert len(present) <= 8  # and those that a player may still be reading
    assert most <= 10
    assert re.findall(r"#EXTINF:([\d.]+)", text)[:-1] == ["1.000000"] * 5
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in text
    assert [round(gap, 3) for gap in np.diff(play(path, options={"allowed_extensions": "ALL"}).times)] == [0.1] * 59


def test_what_a_live_output_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"codec is hevc; live output is always H\.264"):
        writer(tmp_path / "out.mp4", encode=EncodeOptions(codec="hevc"))
    with pytest.raises(BadOption, match="picture is 1x90; libx264 needs at least 2x2"):
        writer(tmp_path / "out.mp4", form=FORM.resized((90, 1)))
    assert list(tmp_path.iterdir()) == []
