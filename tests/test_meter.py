"""Meter: rates and latencies, of late and over all."""

from __future__ import annotations

import numpy as np
import pytest

from vidstyle.live.meter import Meter


def test_rate_and_latency_of_late() -> None:
    meter = Meter()
    for number in range(300):
        meter.add(0.040 if number < 200 else 0.060, 100 + number / 30)
    now = 100 + 299 / 30
    assert meter.fps(now) == pytest.approx(30, rel=0.05)
    latency = meter.latency(now)
    assert latency is not None
    assert latency[0] == pytest.approx(0.060)
    assert meter.latency(now + 60) is None
    assert meter.fps(now + 60) == 0


def test_first_second_is_not_understated() -> None:
    meter = Meter()
    for number in range(16):
        meter.add(0.02, number / 30)
    assert meter.fps(0.5) == pytest.approx(30, rel=0.1)


def test_overall_percentiles_are_those_of_numpy() -> None:
    meter, rng = Meter(), np.random.default_rng(1)
    latencies = rng.gamma(4, 0.01, 5000)
    for number, latency in enumerate(latencies):
        meter.add(float(latency), number / 30)
    for percent in (50, 99):
        assert meter.overall(percent) == pytest.approx(np.percentile(latencies, percent), abs=0.001)
    assert meter.longest == pytest.approx(latencies.max())
    assert meter.average_fps == pytest.approx(30)


def test_longer_than_ten_seconds_is_not_lost() -> None:
    meter = Meter()
    meter.add(25.0, 1.0)
    assert meter.longest == 25
    assert meter.overall(50) >= 9.99


def test_pause_is_no_slow_rate() -> None:
    meter = Meter()
    for number in range(60):
        meter.add(0.02, number / 30)
    meter.rest()
    for number in range(60):
        meter.add(0.02, 100 + number / 30)
    assert meter.fps(102) == pytest.approx(30, rel=0.05)
    assert meter.average_fps == pytest.approx(30, rel=0.05)


def test_memory_does_not_grow() -> None:
    meter = Meter()
    for number in range(20_000):
        meter.add(0.02, number / 30)
    assert len(meter._recent) < 200


def test_nothing_shown_is_zero() -> None:
    meter = Meter()
    assert (meter.fps(5), meter.latency(5), meter.overall(99), meter.average_fps) == (0, None, 0, 0)
