"""One clock for a file: joined, jumping, wrapping and late clocks come out even, and sound stays with its pictures."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from media import Audio, Contents, copied, join, make_video, read, read_contents

from vidstyle.options import ClipOptions
from vidstyle.video.info import probe

STEP = Fraction(1, 25)
WRAP = 2**33 / 90000


def part(path: Path, at: float = 0, *, frames: int = 25, **more: Any) -> Path:
    """A short recording whose clock starts at ``at`` seconds."""
    options = {"output_ts_offset": str(at)}
    codec = {".mpg": "mpeg2video", ".webm": "libvpx", ".ogg": "libvpx"}.get(path.suffix, "libx264")
    sound = {".mpg": "mp2", ".webm": "libopus", ".ogg": "flac"}.get(path.suffix, "aac")
    return make_video(path, frames=frames, codec=codec, audio=[Audio(codec=sound)], container_options=options, **more)


def steps(times: list[Fraction]) -> set[Fraction]:
    return {b - a for a, b in pairwise(times)}


def is_even(made: Contents) -> bool:
    return max(abs(step - STEP) for step in steps(made.pts)) <= Fraction(1, 1000)


def in_step(source: Path, after: Contents, start: float = 0) -> None:
    """Sound and picture of the copy are those of ``source`` from ``start`` on, each at its time, to 2 ms."""
    before = read_contents(source)
    zero = probe(source).start + Fraction(repr(start))
    sound = {(data[-24:], t - zero) for t, data in before.packets[1]}  # MPEG-TS puts a header before each
    kept = 0
    for time, data in after.packets[1]:
        times = [t for known, t in sound if known == data[-24:]]
        kept += any(abs(t - time) <= Fraction(1, 500) for t in times)
    assert kept >= len(after.packets[1]) - 1
    assert kept > 10
    for time in after.pts[1:]:
        assert min(abs(t - zero - time) for t in before.pts) <= Fraction(1, 500)


@pytest.mark.parametrize(
    ("suffix", "first", "second", "output_suffix"),
    [
        *((".ts", 0, 0, ".mp4"), (".ts", 0, 0, ".mkv"), (".ts", 0, 0.9, ".mp4"), (".ts", 0, 0.96, ".mkv")),
        *((".ts", 0, 10000, ".mp4"), (".ts", 5000, 10, ".mp4")),
        *((".ts", WRAP - 1.9, 50, ".mp4"), (".ts", WRAP - 100, 50, ".mp4")),
        *((".mpg", 0, 0, ".mp4"), (".mpg", 0, 7000, ".mp4"), (".webm", 0, 0, ".mkv"), (".mkv", 0, 0, ".mp4")),
        *((".flv", 0, 0, ".mp4"), (".ogg", 0, 0, ".mkv")),
    ],
)
def test_joined_recordings_follow_each_other(
    tmp_path: Path, suffix: str, first: float, second: float, output_suffix: str
) -> None:
    live = suffix == ".webm"
    parts = [part(tmp_path / f"{i}{suffix}", at, live=live) for i, at in enumerate((first, second))]
    if suffix == ".ogg":
        parts[1] = parts[0]  # FFmpeg reads on in streams of the same serial numbers alone
    source = join(tmp_path / f"in{suffix}", *parts)
    assert any("clock starts anew at 1." in note for note in probe(source).notes)
    assert probe(source).duration == pytest.approx(2.0, abs=0.06)
    after = copied(source, f"out{output_suffix}")
    assert len(after.pts) == 50 and is_even(after)
    assert after.pts[0] < Fraction(1, 20)
    # The parts are equal, so each sound is heard twice, as far apart as the pictures are.
    heard: dict[bytes, list[Fraction]] = {}
    for time, data in after.packets[1]:
        heard.setdefault(data, []).append(time)
    twice = [times[1] - times[0] for times in heard.values() if len(times) == 2]
    assert len(twice) > 0.7 * len(heard) > 7
    assert max(abs(gap - 1) for gap in twice) <= Fraction(1, 400)
    sound = [time for time, _ in after.packets[1]]
    if suffix != ".flv":  # there the overlapping packet holds what the decoder needs
        assert min(steps(sound)) >= Fraction(1, 100)


def test_parts_of_other_lengths_and_streams_are_joined(tmp_path: Path) -> None:
    first = part(tmp_path / "0.ts", 3, frames=20, options={"bf": "2", "g": "7"})
    second = part(tmp_path / "1.ts", 1, frames=15, options={"bf": "0"})
    source = join(tmp_path / "in.ts", first, second, part(tmp_path / "2.ts", 900, frames=5))
    times = [frame.pts * frame.time_base for frame in read(source)]
    assert (len(times), steps(times)) == (40, {STEP})
    assert len(read(source, clip=ClipOptions(start=1.02, end=1.5))) == 12


def test_a_pause_of_the_recording_stays(tmp_path: Path) -> None:
    source = join(tmp_path / "in.ts", part(tmp_path / "0.ts"), part(tmp_path / "1.ts", 5))
    after = copied(source, "out.mp4")
    in_step(source, after)
    assert max(steps(after.pts)) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("track", [0, 1])
def test_one_wrong_time_moves_nothing_else(tmp_path: Path, track: int) -> None:
    whole = make_video(tmp_path / "whole.ts", frames=50, audio=[Audio()], options={"bf": "0"})
    with av.open(str(whole)) as file:
        places = [p.pos for p in file.demux(file.streams[track]) if p.pos is not None]
    data = bytearray(whole.read_bytes())
    stamp = data.index(b"\0\0\1", places[len(places) // 2]) + 9
    data[stamp + 1] ^= 0x40  # one bit of the 33: 2982 s
    source = tmp_path / "in.ts"
    source.write_bytes(data)
    after = copied(source, "out.mp4")
    assert is_even(after)
    in_step(whole, after)


def moved(path: Path, seconds: dict[int, float], since: int) -> None:
    """Move the times of pictures (0xE0) and sound (0xC0) in a TS file by ``seconds``, from a ``since``-th of it on."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 188 // since * 188, len(data), 188):
        head = place + 4 + (1 + data[place + 4] if data[place + 3] & 0x20 else 0)
        if not data[place + 1] & 0x40 or data[head : head + 3] != b"\0\0\1":
            continue
        for at in (head + 9, head + 14)[: {2: 1, 3: 2}.get(data[head + 7] >> 6, 0)]:
            bits = data[at : at + 5]
            time = (bits[0] >> 1 & 7) << 30 | bits[1] << 22 | bits[2] >> 1 << 15 | bits[3] << 7 | bits[4] >> 1
            time += round(seconds.get(data[head + 3], 0) * 90000)
            data[at : at + 5] = (
                *(bits[0] & 0xF1 | time >> 29 & 0xE, time >> 22 & 0xFF),
                *(time >> 14 & 0xFE | 1, time >> 7 & 0xFF, time << 1 & 0xFE | 1),
            )
    path.write_bytes(data)


@pytest.mark.parametrize(
    "seconds", [{0xE0: 1000, 0xC0: 1000}, {0xE0: -0.9, 0xC0: -0.9}, {0xC0: 500}, {0xC0: -1.2}, {0xE0: -0.8}]
)
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}])
def test_a_clock_that_leaps_within_a_recording_costs_no_picture(
    tmp_path: Path, seconds: dict[int, float], options: dict[str, str]
) -> None:
    whole = make_video(tmp_path / "whole.ts", frames=50, audio=[Audio()], options=options)
    source = tmp_path / "in.ts"
    source.write_bytes(whole.read_bytes())
    moved(source, seconds, since=3)
    assert len(read(source)) == 50
    after = copied(source, "out.mp4")
    assert is_even(after)
    in_step(whole, after)


@pytest.mark.parametrize(
    ("clip", "wrap_at"),
    [
        (ClipOptions(), 1.0),
        (ClipOptions(start=0.5), 1.0),
        (ClipOptions(start=1.3, end=1.7), 1.0),
        (ClipOptions(), 70.0),
    ],
)
def test_a_clock_that_wraps_is_even(tmp_path: Path, clip: ClipOptions, wrap_at: float) -> None:
    source = part(tmp_path / "in.ts", WRAP - 1.4 - wrap_at, frames=50)
    after = copied(source, "out.mp4", clip=clip)
    assert len(after.pts) == round(25 * ((clip.end or 2.0) - clip.start) + 0.01)
    assert (steps(after.pts[1:]), after.notes) == ({STEP}, [])
    in_step(source, after, clip.start)


@pytest.mark.parametrize(
    ("suffix", "at"),
    [(".mkv", 3), (".mkv", 5000), (".flv", 3), (".wmv", 5000), (".nut", 3), (".ts", 3), (".mpg", 5000)],
)
def test_a_late_clock_is_no_loss_and_starts_at_zero(tmp_path: Path, suffix: str, at: int) -> None:
    source = tmp_path / f"in{suffix}"
    codec = {".wmv": "wmv2", ".mpg": "mpeg2video"}.get(suffix, "libx264")
    options = {} if codec != "libx264" else {"bf": "0"}
    audio = [Audio(codec={".wmv": "libmp3lame", ".mpg": "mp2"}.get(suffix, "aac"))]
    make_video(source, codec=codec, options=options, audio=audio, container_options={"output_ts_offset": str(at)})
    assert len(read(source)) == 10
    assert probe(source).duration == pytest.approx(0.4, abs=0.1)
    after = copied(source, "out.mp4")
    assert after.pts[0] < Fraction(1, 10)
    in_step(source, after)


@pytest.mark.parametrize(("codec", "output_suffix"), [("libmp3lame", ".mp4"), ("ac3", ".mkv"), ("pcm_s16le", ".mp4")])
def test_sound_whose_clock_counts_packets_is_cut_exactly(tmp_path: Path, codec: str, output_suffix: str) -> None:
    source = make_video(tmp_path / "in.avi", codec="mpeg4", frames=50, audio=[Audio(codec=codec)])
    before, after = read_contents(source), copied(source, f"out{output_suffix}", clip=ClipOptions(start=0.64))
    times = {data[:64]: time for time, data in before.packets[1]}  # MP4 cuts raw sound into other packets
    kept = [(time, times[data[:64]]) for time, data in after.packets[1] if data[:64] in times]
    assert kept
    assert max(abs(old - new - Fraction(16, 25)) for new, old in kept) <= Fraction(1, 1000)
