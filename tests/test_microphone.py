"""Sound of a microphone. There is no sound card here: ALSA's null device and a tone stand in."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from live_media import wait_for

from vidstyle.errors import VideoError
from vidstyle.video.audio import AudioChunk
from vidstyle.video.capture.microphone import Microphone


def test_tone_comes_in_real_time_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.video.capture.clock.LATE", 60_000_000)  # however busy this machine is
    pieces: list[AudioChunk] = []
    began = time.monotonic_ns() // 1000
    with Microphone("testsrc", on_sound=pieces.append) as microphone:
        assert "vidstyle-microphone" in {t.name for t in threading.enumerate()}
        assert wait_for(lambda: sum(p.samples.shape[1] for p in pieces) > 0.4 * 48000)
    took = time.monotonic_ns() // 1000 - began
    heard = sum(p.samples.shape[1] for p in pieces) / 48000
    assert heard < took / 1e6 + 0.1
    assert microphone.form.channels == 1
    assert pieces[0].samples.dtype == np.float32
    for one, after in zip(pieces, pieces[1:], strict=False):
        assert abs(after.pts - one.pts - one.samples.shape[1] / 0.048) < 2
    assert 0 <= pieces[0].pts - began < took
    wave = np.concatenate([p.samples[0] for p in pieces])
    crossings = np.count_nonzero(np.diff(np.signbit(wave)))
    assert crossings / 2 / heard == pytest.approx(440, rel=0.02)


def test_missing_microphone_is_refused_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError, match="cannot open the microphone hw:97"):
        Microphone("hw:97", on_sound=lambda _: None)
    assert capfd.readouterr() == ("", "")


def test_listener_that_fails_ends_the_listening_and_is_told() -> None:
    def fail(_: AudioChunk) -> None:
        raise RuntimeError("full")

    with Microphone("testsrc", on_sound=fail) as microphone:
        assert wait_for(lambda: microphone.error)
    assert str(microphone.error) == "full"
