"""Sound on the capture clock, and AAC and other tracks on their way into another file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import Audio, copy, join, make_video
from numpy.typing import NDArray

from vidstyle.options import ClipOptions
from vidstyle.video.audio import AacConfig, AudioChunk, AudioFormat, AudioTrack, described_header

RATE = 48000
PIECE = 960
ORIGIN = 7_000_000


def tone(start: int, count: int, channels: int = 2) -> NDArray[np.float32]:
    wave = np.sin(np.arange(start, start + count) / 30).astype(np.float32)
    return np.repeat(wave[None], channels, axis=0)


def piece(index: int, *, late: float = 0.0, form: AudioFormat | None = None, count: int = PIECE) -> AudioChunk:
    form = form or AudioFormat(RATE, 2)
    pts = ORIGIN + round(index * count * 1e6 / form.rate + late * 1e6)
    return AudioChunk(tone(index * count, count, form.channels), form, pts)


def joined(track: AudioTrack, *sounds: AudioChunk) -> NDArray[np.float32]:
    parts = [part for sound in sounds for part in track.add(sound)]
    return np.concatenate([np.zeros((track.form.channels, 0), np.float32), *parts], axis=1)


@pytest.fixture
def track() -> AudioTrack:
    return AudioTrack(AudioFormat(RATE, 2), ORIGIN)


def test_pieces_in_step_are_passed_on_unchanged(track: AudioTrack) -> None:
    made = joined(track, *(piece(i) for i in range(50)))
    assert np.array_equal(made, tone(0, 50 * PIECE))
    assert track.length == 50 * PIECE
    assert track.end() == ORIGIN + 1_000_000


def test_pieces_that_arrive_a_little_early_and_late_are_passed_on_unchanged(track: AudioTrack) -> None:
    random = np.random.default_rng(0)
    made = joined(track, piece(0), *(piece(i, late=0.01 * random.uniform(-1, 1)) for i in range(1, 500)))
    assert np.array_equal(made, tone(0, 500 * PIECE))


def test_a_gap_is_filled_with_silence(track: AudioTrack) -> None:
    made = joined(track, piece(0), piece(100))
    assert made.shape == (2, 101 * PIECE)
    assert not made[:, PIECE : 100 * PIECE].any()
    assert np.array_equal(made[:, 100 * PIECE :], tone(100 * PIECE, PIECE))


def test_a_long_gap_is_filled_in_parts(track: AudioTrack) -> None:
    parts = list(track.add(piece(50 * 600)))
    assert max(part.shape[1] for part in parts) == RATE
    assert track.length == (50 * 600 + 1) * PIECE


def test_what_comes_twice_is_cut_away(track: AudioTrack) -> None:
    made = joined(track, *(piece(i) for i in range(50)), *(piece(i) for i in range(30, 60)))
    assert np.array_equal(made, tone(0, 60 * PIECE))


def test_what_was_heard_before_the_origin_is_cut_away(track: AudioTrack) -> None:
    assert np.array_equal(joined(track, piece(0, late=-0.01)), tone(480, PIECE - 480))


def test_sound_that_begins_late_begins_with_silence(track: AudioTrack) -> None:
    made = joined(track, *(piece(i) for i in range(20, 30)))
    assert not made[:, : 20 * PIECE].any()
    assert np.array_equal(made[:, 20 * PIECE :], tone(20 * PIECE, 10 * PIECE))


@pytest.mark.parametrize("error", [-1e-3, -1e-4, 1e-4, 1e-3])
def test_a_sound_card_with_a_wrong_clock_is_kept_in_step_without_a_click(error: float) -> None:
    mono = AudioFormat(RATE, 1)
    track = AudioTrack(mono, ORIGIN)
    worst, last = 0.0, np.zeros((1, 1), np.float32)
    for i in range(50 * 120):
        (made,) = track.add(piece(i, late=0.02 * i * error, form=mono))
        assert abs(made.shape[1] - PIECE) <= 0.005 * PIECE  # nobody hears that
        worst = max(worst, abs(track.end() - (ORIGIN + (i + 1) * 20_000 * (1 + error))) / 1e6)
        assert np.abs(np.diff(made, prepend=last)).max() < 2 / 30  # the tone's own steepness is 1/30
        last = made[:, -1:]
    assert worst < 0.02


def test_silence_goes_on_up_to_a_time(track: AudioTrack) -> None:
    joined(track, piece(0))
    assert sum(part.shape[1] for part in track.fill(ORIGIN + 500_000)) == RATE // 2 - PIECE
    assert track.length == RATE // 2
    assert list(track.fill(ORIGIN)) == []


def test_sound_that_comes_back_after_silence_is_in_step(track: AudioTrack) -> None:
    joined(track, piece(0))
    list(track.fill(ORIGIN + 1_000_000))
    made = joined(track, *(piece(i) for i in range(40, 70)))
    assert np.array_equal(made, tone(50 * PIECE, 20 * PIECE))


def test_sound_behind_pieces_that_were_left_out_is_in_step(track: AudioTrack) -> None:
    joined(track, *(piece(i) for i in range(10)))
    track.skip()
    made = joined(track, piece(12))  # a gap so short that it could be a late piece
    assert not made[:, : 2 * PIECE].any()
    assert np.array_equal(made[:, 2 * PIECE :], tone(12 * PIECE, PIECE))


@pytest.mark.parametrize("form", [AudioFormat(16000, 1), AudioFormat(44100, 2), AudioFormat(48000, 6)])
def test_sound_of_another_form_is_converted(track: AudioTrack, form: AudioFormat) -> None:
    count = form.rate // 50
    made = joined(track, *(piece(i, form=form, count=count) for i in range(100)))
    assert made.shape[0] == 2
    assert abs(made.shape[1] - 2 * RATE) < 0.02 * RATE
    assert 0.5 < np.abs(made[:, RATE:]).max() < 1.2


PARTS = {
    "stereo, then 5.1": (("stereo", 48000), ("5.1", 48000)),
    "another rate": (("stereo", 48000), ("stereo", 44100)),
    "mono, stereo, 5.1, mono": (("mono", 32000), ("stereo", 48000), ("5.1", 44100), ("mono", 32000)),
}


def recording(folder: Path, suffix: str, codec: str, *parts: tuple[str, int], frames: int = 12) -> Path:
    made = [
        make_video(folder / f"{n}{suffix}", frames=frames, audio=[Audio(codec=codec, layout=layout, rate=rate)])
        for n, (layout, rate) in enumerate(parts)
    ]
    return join(folder / f"in{suffix}", *made)


def heard(path: Path) -> NDArray[np.float32]:
    """The first channel as a player would play it, at 48 kHz; what cannot be decoded is an error."""
    pieces, resamplers = [], {}
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            resampler = resamplers.setdefault(kind, av.AudioResampler("fltp", frame.layout.name, 48000))
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    return np.concatenate(pieces)


def pitch(sound: NDArray[np.float32]) -> float:
    levels = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 17))
    return float(np.argmax(levels) * 48000 / (1 << 17))


@pytest.mark.parametrize(
    ("parts", "output"),
    [
        *(("stereo, then 5.1", "out.mp4"), ("stereo, then 5.1", "out.webm")),
        *(("another rate", "out.mp4"), ("another rate", "out.mkv")),
        *(("mono, stereo, 5.1, mono", "out.mkv"), ("mono, stereo, 5.1, mono", "out.mov")),
    ],
)
def test_aac_is_heard_whole_and_at_the_right_pitch(tmp_path: Path, parts: str, output: str) -> None:
    notes = copy(recording(tmp_path, ".ts", "aac", *PARTS[parts]), tmp_path / output)
    sound = heard(tmp_path / output)
    assert len(sound) / 48000 == pytest.approx(0.48 * len(PARTS[parts]), abs=0.1)
    for number in range(len(PARTS[parts])):
        middle = round((0.48 * number + 0.24) * 48000)
        # Channels are 100 Hz apart, from 300 on; which of them is the loudest may change as they are mixed.
        tone = pitch(sound[middle - 7200 : middle + 7200])
        assert tone == pytest.approx(round(tone, -2), abs=3), number
    assert len([note for note in notes if "changes in mid-stream to" in note]) == 1


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_a_new_configuration_in_flv_is_followed(tmp_path: Path, output: str) -> None:
    notes = copy(recording(tmp_path, ".flv", "aac", ("mono", 48000), ("stereo", 44100)), tmp_path / output)
    sound = heard(tmp_path / output)
    assert len(sound) / 48000 == pytest.approx(0.96, abs=0.1)
    assert pitch(sound[4800:19200]) == pytest.approx(300, abs=2)
    assert min(abs(pitch(sound[28800:43200]) - tone) for tone in (300, 400)) < 2  # both channels, mixed
    assert any("to stereo at 44100 Hz" in note for note in notes)


def test_what_is_as_at_the_start_is_copied_bit_for_bit(tmp_path: Path) -> None:
    path = recording(tmp_path, ".ts", "aac", ("stereo", 48000), ("mono", 48000), ("stereo", 48000))
    copy(path, tmp_path / "out.mkv")
    with av.open(str(path)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        # The packets of the source have headers of 7 bytes.
        source = [bytes(packet)[7:] for packet in before.demux(audio=0) if packet.size]
        packets = [packet for packet in after.demux(audio=0) if packet.size]
    kept = [bytes(packet) for packet in packets]
    same = sum(data in set(source) for data in kept)
    assert same == pytest.approx(2 * len(source) / 3, abs=3)
    times = [packet.pts for packet in packets]
    assert times == sorted(set(times))


@pytest.mark.parametrize("suffix", [".ts", ".flv"])
def test_a_cut_behind_the_change_is_right_too(tmp_path: Path, suffix: str) -> None:
    path = recording(tmp_path, suffix, "aac", ("stereo", 48000), ("mono", 44100), frames=16)
    copy(path, tmp_path / "out.mp4", clip=ClipOptions(start=0.8))
    assert pitch(heard(tmp_path / "out.mp4")[1200:15600]) == pytest.approx(300, abs=2)


@pytest.mark.parametrize("codec", ["ac3", "eac3", "mp2", "libmp3lame"])
def test_codecs_that_tell_of_themselves_are_copied_and_told(tmp_path: Path, codec: str) -> None:
    path = recording(tmp_path, ".ts", codec, ("stereo", 48000), ("stereo", 48000), ("mono", 44100))
    notes = copy(path, tmp_path / "out.mkv")
    assert [note for note in notes if "to mono at 44100 Hz; it is copied as it is" in note]
    assert len(notes) == 1
    sound = heard(tmp_path / "out.mkv")
    assert pitch(sound[-16800:-2400]) == pytest.approx(300, abs=2)


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp2", "libmp3lame"])
def test_sound_that_does_not_change_is_not_told(tmp_path: Path, codec: str) -> None:
    path = recording(tmp_path, ".ts", codec, ("stereo", 48000), ("stereo", 48000))
    assert copy(path, tmp_path / "out.mkv") == []


def test_configurations_are_read() -> None:
    assert AacConfig.parse(bytes.fromhex("1190")) == AacConfig(2, 3, 2)
    assert AacConfig.parse(bytes.fromhex("1210")) == AacConfig(2, 4, 2)
    assert AacConfig.parse(bytes.fromhex("2b11880000")) == AacConfig(2, 6, 2)  # HE-AAC, spelled out
    assert AacConfig.parse(b"\x11") is AacConfig.parse(None) is None


@pytest.mark.parametrize(
    ("codec", "head", "form"),
    [
        ("mp3", "fffb9064", "stereo at 44100 Hz"),
        ("mp3", "fffb90c4", "mono at 44100 Hz"),
        ("mp3", "fff354c4", "mono at 24000 Hz"),
        ("mp2", "fffda404", "stereo at 48000 Hz"),
        ("mp2", "fffdac04", None),  # a reserved rate
        ("ac3", "0b770000144043", "stereo at 48000 Hz"),
        ("ac3", "0b7700005440e3", "5.0 or 5.1 at 44100 Hz"),
        ("eac3", "0b7701ff3484", "stereo at 48000 Hz"),
        ("eac3", "0b7741ff3f84", None),  # channels that are added to the first substream's
        ("ac3", "0b77", None),
        ("mp3", "49443304", None),
        ("opus", "fc00000000000000", None),
    ],
)
def test_channels_and_rate_are_read(codec: str, head: str, form: str | None) -> None:
    assert described_header(codec, bytes.fromhex(head).ljust(8 if len(head) > 4 else 0, b"\0")) == form
