"""What is open together: OSC packets that wait for the beat, MIDI clock in its own bytes, a desk that is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live_media import wait_for

from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import StageOptions
from vidstyle.stage.control import StageControl
from vidstyle.stage.midi import MidiClock

pytest.importorskip("pythonosc", reason="python-osc is not installed")
mido = pytest.importorskip("mido", reason="mido is not installed")
import midi_backend  # noqa: E402
from pythonosc.udp_client import SimpleUDPClient  # noqa: E402


@pytest.fixture
def midi() -> Iterator[list[midi_backend.Input]]:
    """The inputs that are opened, of a machine that has some."""
    before = mido.backend
    mido.set_backend("midi_backend")
    yield midi_backend.opened
    midi_backend.opened.clear()
    mido.set_backend(before)


def send(control: StageControl, *messages: tuple[str, Any]) -> None:
    """Send ``messages`` and wait until they have been read."""
    osc = control.osc
    assert osc is not None
    wanted = osc.received + len(messages)
    with SimpleUDPClient("127.0.0.1", osc.port) as client:
        for address, value in messages:
            client.send_message(f"/vidstyle/{address}", value)
    assert wait_for(lambda: osc.received == wanted)


def names(control: StageControl, now: float) -> list[str]:
    return [f"{change.name} {change.value}" for change in control.take(now)]


def test_changes_of_style_wait_for_the_bar_and_faders_do_not() -> None:
    with StageControl(StageOptions(osc="0", quantize="bar")) as control:
        send(control, ("style", "a"))
        assert names(control, 9.0) == ["style a"], "without a tempo nothing waits"
        for number in range(3):
            control.tempo.beat(10 + number / 2, number + 1)
        send(control, ("style", "b"), ("strength", 0.5), ("mirror", 1), ("blend", ["c", 1.0]))
        assert control.hold_key("n", 11.2) and control.hold_key("n", 11.3)
        assert names(control, 11.4) == ["strength 0.5"] and control.is_waiting
        control.tempo.beat(11.5)
        assert names(control, 11.99) == []
        assert names(control, 12.0) == ["key n", "key n", "mirror True", "blend (('c', 1.0),)"]


def test_the_beat_may_come_by_osc() -> None:
    with StageControl(StageOptions(osc="0", pulse=1.0)) as control:
        for _ in range(3):
            send(control, ("beat", []))
            control.take(time.monotonic())
            time.sleep(0.25)
        assert control.tempo.bpm == pytest.approx(240, rel=0.25)
        swing = {round(control.strength(1.0, time.monotonic() + shift / 40), 3) for shift in range(20)}
        assert min(swing) < 0.1 and max(swing) > 0.9


def test_midi_clock_is_the_beat(midi: list[midi_backend.Input], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("vidstyle.stage.midi.monotonic", lambda: now[0])
    with StageControl(StageOptions(midi_clock="clock", quantize="beat")) as control:
        (port,) = midi
        assert control.descriptions == ["MIDI clock from Clock 1"]
        port.feed(b"\xfa")
        for number in range(60):
            now[0] = 100 + number / 48
            port.feed(b"\x90\x40\x7f\xf8" if number % 5 else b"\xf8")  # notes, too
        assert control.tempo.bpm == pytest.approx(120) and control.tempo.position(now[0]) == pytest.approx(59 / 24)
        assert control.hold_key("n", now[0])
        assert control.take(now[0] + 0.2) == [] and names(control, now[0] + 0.28) == ["key n"]
        port.feed(b"\xfc")
        assert not control.hold_key("n", now[0])
        port.feed(b"\xf2\x08\x00\xfb\xf8")
        assert control.tempo.position(now[0]) == pytest.approx(2)
    assert port.closed


@pytest.mark.parametrize(
    ("name", "said"), [("drum", "is not the name of one"), ("auto", "fits more than one"), ("keys", "busy")]
)
def test_an_input_that_cannot_be_is_one_sentence(name: str, said: str, midi: list[midi_backend.Input]) -> None:
    with pytest.raises(BadOption, match=said):
        MidiClock(name, lambda kind, at, position: None)


def test_a_machine_without_midi_says_what_works_there(
    midi: list[midi_backend.Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(midi_backend, "NAMES", [])
    with pytest.raises(BadOption, match="no MIDI input; connect one"):
        MidiClock("auto", lambda kind, at, position: None)
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(MissingDependency, match=r"mido; pip install 'vidstyle\[stage\]'"):
        MidiClock("auto", lambda kind, at, position: None)


def test_a_machine_whose_midi_cannot_be_asked() -> None:
    try:
        has_inputs = bool(mido.get_input_names())
    except Exception:  # this machine's own MIDI: what there is depends on it
        has_inputs = False
    if has_inputs:
        pytest.skip("there is a MIDI input")
    with pytest.raises((BadOption, MissingDependency), match="MIDI|pip install"):
        MidiClock("auto", lambda kind, at, position: None)


def test_what_cannot_open_leaves_no_port_taken() -> None:
    with StageControl(StageOptions(osc="0")) as control:
        assert control.osc is not None
        port = control.osc.port
    for out, said in (("nowhere", "HOST:PORT"), (f"localhost:{port}", "would send to --osc")):
        with pytest.raises(BadOption, match=said):
            StageControl(StageOptions(osc=f"0.0.0.0:{port}", osc_out=out))
    with StageControl(StageOptions(osc=str(port))) as control:
        assert control.descriptions == [f"OSC on 127.0.0.1, UDP port {port}"]
