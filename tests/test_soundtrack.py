"""Live sound in step with the picture: gaps, overlaps and a sound card that goes too fast."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidstyle.video.audio import AudioChunk, AudioFormat, AudioTrack

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
    early = AudioChunk(tone(0, PIECE), AudioFormat(RATE, 2), ORIGIN - 10_000)
    made = joined(track, early)
    assert np.array_equal(made, tone(480, PIECE - 480))


def test_sound_that_begins_late_begins_with_silence(track: AudioTrack) -> None:
    made = joined(track, *(piece(i) for i in range(20, 30)))
    assert not made[:, : 20 * PIECE].any()
    assert np.array_equal(made[:, 20 * PIECE :], tone(20 * PIECE, 10 * PIECE))


@pytest.mark.parametrize("error", [-1e-3, -1e-4, 1e-4, 1e-3])
def test_a_sound_card_with_a_wrong_clock_is_kept_in_step(error: float) -> None:
    track = AudioTrack(AudioFormat(RATE, 1), ORIGIN)
    worst = 0.0
    for i in range(50 * 120):
        pts = ORIGIN + i * 20_000 * (1 + error)
        samples = tone(i * PIECE, PIECE, 1)
        made = sum(part.shape[1] for part in track.add(AudioChunk(samples, AudioFormat(RATE, 1), round(pts))))
        assert abs(made - PIECE) <= 0.005 * PIECE  # nobody hears that
        worst = max(worst, abs(track.end() - (pts + 20_000 * (1 + error))) / 1e6)
    assert worst < 0.02


def test_a_stretched_tone_is_still_a_tone() -> None:
    track = AudioTrack(AudioFormat(RATE, 1), ORIGIN)
    sounds = [
        AudioChunk(tone(i * PIECE, PIECE, 1), AudioFormat(RATE, 1), ORIGIN + round(i * 20_040)) for i in range(500)
    ]
    made = joined(track, *sounds)[0]
    assert len(made) > 500 * PIECE
    assert np.abs(np.diff(made)).max() < 2 / 30  # its own steepness is 1/30: no click


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


def test_a_late_beginning_is_not_taken_for_drift(track: AudioTrack) -> None:
    assert joined(track, piece(3)).shape == (2, 4 * PIECE)


@pytest.mark.parametrize("form", [AudioFormat(16000, 1), AudioFormat(44100, 2), AudioFormat(48000, 6)])
def test_sound_of_another_form_is_converted(track: AudioTrack, form: AudioFormat) -> None:
    count = form.rate // 50
    made = joined(track, *(piece(i, form=form, count=count) for i in range(100)))
    assert made.shape[0] == 2
    assert abs(made.shape[1] - 2 * RATE) < 0.02 * RATE
    assert 0.5 < np.abs(made[:, RATE:]).max() < 1.2
