"""Tempo and phase on a simulated clock, and what waits for them."""

from __future__ import annotations

import itertools
import random

import pytest

from vidstyle.stage.tempo import Quantizer, Tempo, pulsed


def beats(tempo: Tempo, *times: float) -> Tempo:
    for at in times:
        tempo.beat(at)
    return tempo


def clocks(tempo: Tempo, began: float, count: int, bpm: float = 120) -> float:
    """``count`` MIDI clocks; the time of the last one."""
    for number in range(count):
        tempo.midi("clock", began + number * 60 / bpm / 24)
    return began + (count - 1) * 60 / bpm / 24


def test_two_beats_are_a_tempo_and_it_goes_on_by_itself() -> None:
    tempo = beats(Tempo(), 10.0)
    assert tempo.bpm is None and tempo.position(10.2) is None
    tempo.beat(10.5)
    assert tempo.bpm == pytest.approx(120)
    assert [tempo.position(at) for at in (10.5, 10.75, 60.5)] == pytest.approx([1, 1.5, 101])


def test_beats_that_come_unevenly_are_a_steady_tempo() -> None:
    chance, tempo = random.Random(1), Tempo()
    found = []
    for number in range(60):
        tempo.beat(number * 0.5 + chance.uniform(-0.02, 0.02))
        found.append(tempo.bpm or 120)
    assert max(abs(bpm - 120) for bpm in found[5:]) < 4
    assert tempo.position(60 * 0.5) == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(("times", "bpm"), [((0, 0.5, 1, 1.5, 1.8, 2.1), 200), ((0, 0.5, 1, 2, 3, 4), 60)])
def test_another_tempo_is_there_with_the_second_beat(times: tuple[float, ...], bpm: float) -> None:
    assert beats(Tempo(), *times).bpm == pytest.approx(bpm)


def test_a_flood_of_beats_is_no_tempo() -> None:
    tempo = beats(Tempo(), *(number / 1000 for number in range(3000)))
    assert tempo.bpm is not None and tempo.bpm <= 300


def test_a_beat_lost_on_the_way_costs_one_beat() -> None:
    tempo = beats(Tempo(), 0, 0.5, 1, 2, 2.5, 3, 3.5)
    assert tempo.bpm == pytest.approx(120)
    assert tempo.position(4) == pytest.approx(8, abs=1)


def test_the_number_of_a_beat_says_where_the_bar_is() -> None:
    tempo = beats(Tempo(), 0, 0.5, 1.0)
    tempo.beat(1.5, 1)
    assert tempo.position(1.5) == 4
    tempo.beat(2.0, 3)  # the second was lost
    assert tempo.position(2.0) == 6


def test_the_first_tap_after_a_pause_begins_a_bar() -> None:
    tempo = Tempo()
    for at in (0, 0.5, 1.0, 10.1, 10.6):
        tempo.tap(at)
    position = tempo.position(10.1)
    assert position is not None and position % 4 == pytest.approx(0)
    assert tempo.bpm == pytest.approx(120)


def test_midi_clock_begins_with_start_and_ends_with_stop() -> None:
    tempo = Tempo()
    tempo.midi("start", 1.0)
    last = clocks(tempo, 1.0, 49)
    assert tempo.bpm == pytest.approx(120)
    assert tempo.position(last) == pytest.approx(2) and tempo.position(last + 0.25) == pytest.approx(2.5)
    tempo.midi("stop", last)
    later = clocks(tempo, last + 60 / 120 / 24, 24, bpm=90)
    assert tempo.position(later) is None, "a sequencer that has stopped has no beat, though its clock goes on"
    tempo.midi("songpos", later, 16)
    tempo.midi("continue", later)
    later = clocks(tempo, later + 60 / 90 / 24, 1, bpm=90)
    assert tempo.position(later) == pytest.approx(4)


def test_midi_clocks_that_are_read_late_are_a_steady_tempo() -> None:
    chance, tempo = random.Random(2), Tempo()
    for number in range(24 * 30):
        tempo.midi("clock", number / 48 + chance.uniform(0, 0.004))  # read in turns of some milliseconds
    assert tempo.bpm == pytest.approx(120, abs=1)
    assert tempo.position(15.0) == pytest.approx(30, abs=0.05)


def test_strength_is_full_on_the_beat_and_lowest_between_two() -> None:
    assert [pulsed(0.8, at, 0.5) for at in (0, 7, 7.5, 7.25)] == pytest.approx([0.8, 0.8, 0.4, 0.6])
    assert pulsed(0.8, None, 0.5) == pulsed(0.8, 3.3, 0) == 0.8
    swing = [pulsed(1, number / 1000, 1) for number in range(2001)]
    assert min(swing) == pytest.approx(0) and max(abs(b - a) for a, b in itertools.pairwise(swing)) < 0.004


@pytest.mark.parametrize(("unit", "due"), [("beat", 1.5), ("bar", 2.0)])
def test_what_waits_is_due_on_the_next_beat_or_bar(unit: str, due: float) -> None:
    tempo = beats(Tempo(), 0, 0.5, 1.0)
    quantizer: Quantizer[str] = Quantizer(tempo, unit)  # type: ignore[arg-type]
    assert (
        quantizer.hold("style", "a", 1.1) and quantizer.hold("mirror", "b", 1.2) and quantizer.hold("style", "c", 1.3)
    )
    tempo.beat(1.5)
    assert quantizer.due(due - 0.01) == []
    assert quantizer.due(due) == ["b", "c"], "in a slot the last one counts"
    assert quantizer.due(due + 9) == []


def test_nothing_waits_without_a_unit_or_a_tempo_or_when_too_much_does() -> None:
    tempo = beats(Tempo(), 0, 0.5)
    assert not Quantizer(tempo, None).hold("style", "a", 0.6)
    assert not Quantizer(Tempo(), "bar").hold("style", "a", 0.6)
    quantizer: Quantizer[int] = Quantizer(tempo, "bar")
    held = [quantizer.hold(number, number, 0.6) for number in range(1000)]
    assert held.count(True) == len(quantizer) == 64


@pytest.mark.parametrize("event", ["stop", "start"])
def test_what_waits_for_a_sequencer_that_stops_or_begins_again_waits_no_longer(event: str) -> None:
    tempo = Tempo()
    tempo.midi("start", 0)
    last = clocks(tempo, 0, 24 * 9)
    quantizer: Quantizer[str] = Quantizer(tempo, "bar")
    assert quantizer.hold("style", "a", last)
    if event == "stop":
        tempo.midi("stop", last)
    else:
        tempo.midi("start", last)
        last = clocks(tempo, last, 2)
    assert quantizer.due(last) == ["a"]
