"""A backend of mido whose one input is fed by the test: a machine without MIDI has no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mido
from mido.parser import Parser

NAMES = ["Clock 1", "Keys 2"]
opened: list[Input] = []


def get_devices(**_: Any) -> list[dict[str, Any]]:
    return [{"name": name, "is_input": True, "is_output": False} for name in NAMES]


class Input:
    """What `mido.open_input` opens; `feed` is the cable."""

    def __init__(self, name: str, callback: Callable[[mido.Message], None], **_: Any) -> None:
        if name == "Keys 2":
            raise OSError("device or resource busy")
        self.name, self.closed, self._callback = name, False, callback
        self._parser = Parser()
        opened.append(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)
        for message in self._parser:
            self._callback(message)

    def close(self) -> None:
        self.closed = True
