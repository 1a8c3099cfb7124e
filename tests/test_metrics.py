"""FrameStats: rates and latencies, of late and over all."""

from __future__ import annotations

import numpy as np
import pytest

from vidstyle.metrics import FrameStats


def test_rate_and_latency_of_late() -> None:
    stats = FrameStats()
    for number in range(300):
        stats.add(0.040 if number < 200 else 0.060, 100 + number / 30)
        if number > 14:
            assert stats.fps(100 + number / 30) == pytest.approx(30, rel=0.11)  # from the first half second on
    now = 100 + 299 / 30
    latency = stats.latency(now)
    assert latency is not None
    assert latency[0] == pytest.approx(0.060)
    assert stats.latency(now + 60) is None
    assert stats.fps(now + 60) == 0
    stats.add(25.0, now + 61)  # longer than what is kept apart
    assert stats.longest == 25
    assert stats.overall(100) >= 9.99


def test_overall_percentiles_are_those_of_numpy() -> None:
    stats, rng = FrameStats(), np.random.default_rng(1)
    latencies = rng.gamma(4, 0.01, 5000)
    for number, latency in enumerate(latencies):
        stats.add(float(latency), number / 30)
    assert len(stats._recent) < 200, "the memory grows"
    for percent in (50, 99):
        assert stats.overall(percent) == pytest.approx(np.percentile(latencies, percent), abs=0.001)
    assert stats.longest == pytest.approx(latencies.max())
    assert stats.average_fps == pytest.approx(30)


def test_pause_is_no_slow_rate() -> None:
    stats = FrameStats()
    for number in range(60):
        stats.add(0.02, number / 30)
    stats.rest()
    for number in range(60):
        stats.add(0.02, 100 + number / 30)
    assert stats.fps(102) == pytest.approx(30, rel=0.05)
    assert stats.average_fps == pytest.approx(30, rel=0.05)


def test_nothing_shown_is_zero() -> None:
    stats = FrameStats()
    assert (stats.fps(5), stats.latency(5), stats.overall(99), stats.average_fps) == (0, None, 0, 0)
