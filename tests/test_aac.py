"""Sound whose channels or rate change in mid-stream is heard as it was, and the change is told once."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import Audio, join, make_video
from numpy.typing import NDArray
from test_sink import copy

from vidstyle.options import ClipOptions
from vidstyle.video.audio import AacConfig

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
    if suffix != ".flv":
        return join(folder / f"in{suffix}", *made)
    path = folder / "in.flv"
    # Behind FLV's head of 13 bytes there are only tags.
    path.write_bytes(made[0].read_bytes() + b"".join(part.read_bytes()[13:] for part in made[1:]))
    return path


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
        ("stereo, then 5.1", "out.mp4"),
        ("stereo, then 5.1", "out.webm"),
        ("another rate", "out.mp4"),
        ("another rate", "out.mkv"),
        ("mono, stereo, 5.1, mono", "out.mkv"),
        ("mono, stereo, 5.1, mono", "out.mov"),
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
