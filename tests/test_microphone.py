"""Sound of a microphone. There is no sound card here: ALSA's null device and a tone stand in."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from vidstyle.errors import VideoError
from vidstyle.video.microphone import Microphone
from vidstyle.video.sound import Sound


def test_tone_comes_in_real_time_without_gaps() -> None:
    pieces: list[Sound] = []
    began = time.monotonic_ns() // 1000
    with Microphone("testsrc", on_sound=pieces.append) as microphone:
        assert "vidstyle-microphone" in {t.name for t in threading.enumerate()}
        time.sleep(0.6)
    heard = sum(p.samples.shape[1] for p in pieces) / 48000
    assert 0.4 < heard < 0.8
    assert microphone.form.channels == 1
    assert pieces[0].samples.dtype == np.float32
    for one, after in zip(pieces, pieces[1:], strict=False):
        assert abs(after.pts - one.pts - one.samples.shape[1] / 0.048) < 2
    assert 0 <= pieces[0].pts - began < 300_000
    wave = np.concatenate([p.samples[0] for p in pieces])
    crossings = np.count_nonzero(np.diff(np.signbit(wave)))
    assert crossings / 2 / heard == pytest.approx(440, rel=0.02)


def test_missing_microphone_is_refused_at_once() -> None:
    with pytest.raises(VideoError, match="cannot open the microphone hw:97"):
        Microphone("hw:97", on_sound=lambda _: None)


def test_listener_that_fails_ends_the_listening_and_is_told() -> None:
    def fail(_: Sound) -> None:
        raise RuntimeError("full")

    with Microphone("testsrc", on_sound=fail) as microphone:
        deadline = time.monotonic() + 5
        while microphone.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
    assert str(microphone.error) == "full"
