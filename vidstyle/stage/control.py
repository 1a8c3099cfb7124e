"""What plays a live picture from outside: OSC, the beat, and what waits for it, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from vidstyle.errors import BadOption
from vidstyle.options import StageOptions
from vidstyle.pipeline import Closing
from vidstyle.stage.addresses import ADDRESSES, Change
from vidstyle.stage.midi import MidiClock
from vidstyle.stage.osc import OscReceiver, OscSender
from vidstyle.stage.tempo import Quantizer, Tempo, pulsed

_WAITING = {address.name for address in ADDRESSES if address.waits}
_SLOTS = {address.name: address.slot or address.name for address in ADDRESSES}


class StageControl(Closing):
    """The outside of a live picture. Use it from one thread; `Change` by `Change` it says what is to be done."""

    def __init__(
        self,
        options: StageOptions,
        *,
        check_style: Callable[[str | int], object] | None = None,
        can_tap: bool = False,
        in_serve: bool = False,
    ) -> None:
        """Open what ``options`` ask for. ``can_tap`` says whether somebody can tap the beat on a key.

        ``check_style`` is as `OscReceiver` has it.
        Raises `BadOption`, where a port is taken for instance, and `MissingDependency`.
        """
        self.options = options
        if (options.quantize or options.pulse) and not (options.osc or options.midi_clock or can_tap):
            raise BadOption(
                "--quantize and --pulse need a beat, and nothing would tell it; give --osc for /vidstyle/beat, or "
                "--midi-clock"
            )
        self.tempo = Tempo()
        self._quantizer: Quantizer[Change] = Quantizer(self.tempo, options.quantize)
        self._keys = 0
        self._told_out = False
        self.osc: OscReceiver | None = None
        self.osc_out: OscSender | None = None
        self.midi: MidiClock | None = None
        with ExitStack() as stack:
            if options.osc is not None:
                self.osc = stack.enter_context(OscReceiver(options.osc, check_style=check_style, in_serve=in_serve))
            if options.osc_out is not None:
                self.osc_out = stack.enter_context(OscSender(options.osc_out))
                own = self.osc
                if own is not None and own.port == self.osc_out.port and _is_own(own.host, self.osc_out.host):
                    raise BadOption(f"--osc-out {options.osc_out} would send to --osc here; give another port")
            if options.midi_clock is not None:
                self.midi = stack.enter_context(MidiClock(options.midi_clock, self.tempo.midi))
            self._stack = stack.pop_all()

    @property
    def descriptions(self) -> list[str]:
        """What is open, for people."""
        told = [] if self.osc is None else [f"OSC on {self.osc.host}, UDP port {self.osc.port}"]
        told += [] if self.osc_out is None else [f"OSC to {self.osc_out.host}:{self.osc_out.port}"]
        return told + ([] if self.midi is None else [f"MIDI clock from {self.midi.name}"])

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for the beat."""
        return len(self._quantizer) > 0

    def take(self, now: float) -> list[Change]:
        """What is to be done now: what has come and need not wait, and what has waited long enough."""
        ready = self._quantizer.due(now)
        for change in self.osc.take() if self.osc is not None else ():
            if change.name == "beat":
                self.tempo.beat(change.came, change.value or None)
            elif change.name == "tap":
                self.tempo.tap(change.came)
            elif not (change.name in _WAITING and self._quantizer.hold(_SLOTS[change.name], change, now)):
                ready.append(change)
        return ready

    def hold_key(self, key: str, now: float) -> bool:
        """Whether ``key``, which changes the style, waits for the beat; `take` then returns it as ``Change("key")``."""
        self._keys += 1
        return self._quantizer.hold(("key", self._keys), Change("key", key, now), now)

    def strength(self, strength: float, now: float) -> float:
        """``strength``, swung with the beat."""
        return pulsed(strength, self.tempo.position(now), self.options.pulse)

    def refuse(self, why: str) -> None:
        """Count a message as bad though it could be read: what it asks for cannot be done here."""
        if self.osc is not None:
            self.osc.refuse(why)

    def problems(self) -> list[str]:
        """Sentences on what went wrong, each once."""
        found = [] if self.osc is None else self.osc.problems()
        if self.osc_out is not None and self.osc_out.problem is not None and not self._told_out:
            self._told_out = True
            found.append(self.osc_out.problem)
        return found

    def tell(self, figures: Callable[[], tuple[float, float, str]], now: float) -> None:
        """Send ``figures``, which gives frames a second, latency in milliseconds and style, where it is time to."""
        if self.osc_out is not None and self.osc_out.is_due(now):
            self.osc_out.send(*figures(), now)

    def close(self) -> None:
        self._stack.close()


def _is_own(listening: str, sending: str) -> bool:
    same = {"localhost": "127.0.0.1"}
    listening, sending = same.get(listening, listening), same.get(sending, sending)
    return sending == listening or (listening in ("0.0.0.0", "::") and sending in ("127.0.0.1", "::1"))
