"""The table of OSC addresses: what each takes, what it does, and how its arguments are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vidstyle.errors import BadOption
from vidstyle.options import BACKGROUND, MAX_SIDE, PERSON, check_between

PREFIX = "/vidstyle"
MAX_BLEND = 16
"""Styles in one blend."""
MASKS = (PERSON, BACKGROUND, "none")
_MAX_NAME = 200


class Change(NamedTuple):
    """What a message asks for."""

    name: str
    """The last part of its address."""
    value: Any
    """As the row of `ADDRESSES` describes."""
    came: float
    """Seconds of `time.monotonic`."""


@dataclass(frozen=True)
class Address:
    """A row of the table of addresses."""

    name: str
    """Without `PREFIX`."""
    arguments: str
    """For people."""
    help: str
    read: Callable[[str, Sequence[Any]], Any]
    """Turns the full address and the arguments into the value of a `Change`. `BadOption` says what is wrong with them;
    None is no change."""
    slot: str = ""
    """What it shares its place with: of several changes in one slot the last one counts."""
    waits: bool = False
    """Whether it waits for the beat, with ``--quantize``."""
    in_serve: bool = True
    """Whether `vidstyle serve` takes it, too."""

    @property
    def full(self) -> str:
        return f"{PREFIX}/{self.name}"


def _one(address: str, arguments: Sequence[Any]) -> Any:
    if len(arguments) != 1:
        raise BadOption(f"{address} has {len(arguments)} arguments; it takes one")
    return arguments[0]


def _number(address: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool):  # T and F of OSC
        raise BadOption(f"{address} is {value}; it must be a number between {low:g} and {high:g}")
    check_between(address, value, low, high)
    return float(value)


def _between(low: float, high: float) -> Callable[[str, Sequence[Any]], float]:
    return lambda address, arguments: _number(address, _one(address, arguments), low, high)


def _whole(low: int, high: int) -> Callable[[str, Sequence[Any]], int]:
    """Faders and buttons of tablets send whole numbers as floats, too."""
    return lambda address, arguments: round(_number(address, _one(address, arguments), low, high))


def _switch(address: str, arguments: Sequence[Any]) -> bool:
    value = _one(address, arguments)
    if isinstance(value, str) or value not in (0, 1):
        raise BadOption(f"{address} is {_shown(value)}; it must be 1 (on) or 0 (off)")
    return bool(value)


def _button(address: str, arguments: Sequence[Any]) -> bool | None:
    """True; None for a button that is let go, which tablets tell, too."""
    return _switch(address, arguments) or None if arguments else True


def _beat(address: str, arguments: Sequence[Any]) -> int:
    """The number of the beat in its bar; 0 where it is not told."""
    return _whole(1, 4)(address, arguments) if arguments else 0


def _mask(address: str, arguments: Sequence[Any]) -> str:
    value = _one(address, arguments)
    if value not in MASKS:
        raise BadOption(f"{address} is {_shown(value)}; it must be {', '.join(MASKS[:-1])} or {MASKS[-1]}")
    return str(value)


def _style(address: str, arguments: Sequence[Any]) -> str | int:
    value = _one(address, arguments)
    if isinstance(value, str):
        return _name(address, value)
    number = _number(address, value, 1, 1000)
    if number != math.floor(number):
        raise BadOption(f"{address} is {number:g}; it must be the name of a style, or its number, from 1")
    return int(number)


def _blend(address: str, arguments: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    if not arguments or len(arguments) % 2 or len(arguments) > 2 * MAX_BLEND:
        raise BadOption(
            f"{address} has {len(arguments)} arguments; it takes pairs of a name and a weight, {MAX_BLEND} at most"
        )
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    blend = tuple((_name(address, name), _number(f"weight in {address}", weight, 0, 1000)) for name, weight in pairs)
    if not any(weight for _, weight in blend):
        raise BadOption(f"all weights in {address} are 0; one must be above")
    return blend


def _name(address: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        raise BadOption(f"{address} names {_shown(value)}; it must be the name of a style")
    return value


def _shown(value: object) -> str:
    return repr(value if not isinstance(value, str) else value[:60])


ADDRESSES = (
    Address("style", "NAME or NUMBER", "Fade to a style; numbers are those of the keys, from 1.", _style, waits=True),
    Address("blend", "NAME WEIGHT ...", "Blend styles of one network.", _blend, slot="style", waits=True),
    Address("strength", "0 to 1", "Mix with the source: 0 is the source.", _between(0, 1)),
    Address("smooth", "0 to 1", "Take the flicker out; 0 is off.", _between(0, 1), in_serve=False),
    Address("mask", "person, background or none", "Paint only that; none is everywhere.", _mask, waits=True),
    Address("mirror", "0 or 1", "Mirror the picture that is looked at.", _switch, waits=True),
    Address("split", "0 or 1", "Show the source beside the painting.", _switch, waits=True),
    Address("record", "0 or 1", "Stop recording, or begin.", _switch, in_serve=False),
    Address("snapshot", "nothing, or 1", "Save a picture.", _button, in_serve=False),
    Address("worksize", "ROWS", "Paint at so many rows.", _whole(16, MAX_SIDE), waits=True, in_serve=False),
    Address("fade", "SECONDS", "How long a style takes to become another, 0 to 60.", _between(0, 60)),
    Address("beat", "nothing, or 1 to 4", "A beat is now; the number is its place in the bar.", _beat),
    Address("tap", "nothing, or 1", "A beat is tapped, as with key t.", _button),
)
"""All addresses; the page of the docs is made from it."""
OUTPUTS = (
    ("fps", "float", "Frames a second, of late; in `serve` of all visitors together."),
    ("latency", "float", "Milliseconds, the median of the last 5 seconds; in `serve` the median of all visitors."),
    ("style", "string", "Style or blend."),
)
"""What is sent: address, type, meaning."""
BY_ADDRESS = {address.full: address for address in ADDRESSES}


def address_table() -> str:
    """`ADDRESSES` as a table of Markdown."""
    rows = [
        (f"`{one.full}`", one.arguments, one.help, "yes" if one.waits else "", "yes" if one.in_serve else "")
        for one in ADDRESSES
    ]
    return _table(("address", "arguments", "", "waits for the beat", "in `serve`"), *rows)


def output_table() -> str:
    """`OUTPUTS` as a table of Markdown."""
    return _table(("address", "type", ""), *((f"`{PREFIX}/{name}`", kind, what) for name, kind, what in OUTPUTS))


def _table(head: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))
