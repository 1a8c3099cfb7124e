"""MIDI clock from an input of this machine, by way of mido and python-rtmidi."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast, get_args

from vidstyle.errors import BadOption, MissingDependency
from vidstyle.imaging.image_io import quiet_libraries
from vidstyle.pipeline import Closing
from vidstyle.stage.tempo import MidiKind

OnMidi = Callable[[MidiKind, float, int], None]
_KINDS = get_args(MidiKind)
AUTO = "auto"
"""The name that stands for the only input."""


class MidiClock(Closing):
    """Passes on what a MIDI input tells of clock and transport."""

    def __init__(self, name: str, on_midi: OnMidi) -> None:
        """Open the input called ``name``, or the only one with that in its name.

        ``on_midi`` is called, on a thread of the system's, with the kind of a message, the time in seconds of
        `time.monotonic`, and the position of a ``songpos``. Raises `BadOption` and `MissingDependency`.
        """
        try:
            import mido

            with quiet_libraries():  # ALSA says on stderr what the error says, too
                inputs = list(dict.fromkeys(mido.get_input_names()))
        except ImportError as error:
            raise MissingDependency(f"--midi-clock needs {error.name}; pip install 'vidstyle[stage]'") from error
        except Exception as error:  # python-rtmidi's own class, where a system has no MIDI at all
            raise BadOption(
                f"this machine has no MIDI ({str(error).rstrip('.')}); send /vidstyle/beat, or tap the beat"
            ) from error
        self.name = _chosen(name, inputs)

        def receive(message: Any) -> None:
            if message.type in _KINDS:
                on_midi(cast(MidiKind, message.type), monotonic(), getattr(message, "pos", 0))

        try:
            self._port = mido.open_input(self.name, callback=receive)
        except Exception as error:
            raise BadOption(f"the MIDI input {self.name!r} cannot be opened: {error}; is it in use?") from error

    def close(self) -> None:
        self._port.close()


def _chosen(name: str, inputs: Sequence[str]) -> str:
    if not inputs:
        raise BadOption("this machine shows no MIDI input; connect one, send /vidstyle/beat, or tap the beat")
    if name in inputs:
        return name
    found = [one for one in inputs if name == AUTO or name.casefold() in one.casefold()]
    if len(found) == 1:
        return found[0]
    what = "is not the name of" if not found else "fits more than"
    raise BadOption(f"--midi-clock is {name!r}, which {what} one MIDI input; there is {', '.join(inputs)}")
