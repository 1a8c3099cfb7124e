"""OSC: the table of addresses, a receiver that keeps the newest of each, and a sender of figures.

Open Sound Control 1.0 over UDP, as lighting desks, VJ programs and tablets speak it.
"""

from __future__ import annotations

import logging
import math
import re
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from vidstyle.errors import BadOption, MissingDependency, reason
from vidstyle.options import MAX_SIDE, check_between
from vidstyle.pipeline import Closing, Worker

try:
    from pythonosc.osc_message import OscMessage
    from pythonosc.udp_client import SimpleUDPClient
except ImportError:
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True

_log = logging.getLogger(__name__)
PREFIX = "/vidstyle"
LOOPBACK = "127.0.0.1"
MAX_BLEND = 16
"""Styles in one blend."""
_MAX_NAME = 200
_MAX_TOLD = 20
"""So many sorts of bad messages are told of; all are counted."""
_MAX_BEATS = 64
_DRAIN_SECONDS, _MAX_DRAINED = 0.004, 64
"""Messages are read in turns, so that a flood of them costs the picture no more than a few do: at most 16,000 a second
are read, and what is above that is lost as UDP loses it."""
_POLL_SECONDS = 0.1
_MAX_DEPTH = 4
"""Bundles within bundles."""
_OUT_SECONDS = 0.25
_BUNDLE = b"#bundle\0"
# Type tags beyond these have no use here, and python-osc logs what it does not know for each message.
_MESSAGE = re.compile(rb"(/[\x21-\x7e]*)\0+(?:,([ifhdsTF]*)\0.*)?", re.DOTALL)


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
_BY_ADDRESS = {address.full: address for address in ADDRESSES}


def address_table() -> str:
    """`ADDRESSES` as a table of Markdown."""
    rows = [("address", "arguments", "", "waits for the beat", "in `serve`"), ("---",) * 5]
    for one in ADDRESSES:
        rows.append((f"`{one.full}`", one.arguments, one.help, *("yes" if on else "" for on in (one.waits, one.in_serve))))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def output_table() -> str:
    """`OUTPUTS` as a table of Markdown."""
    rows = [("address", "type", ""), ("---",) * 3, *((f"`{PREFIX}/{name}`", kind, what) for name, kind, what in OUTPUTS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read_message(data: bytes) -> tuple[Address, Any]:
    """The row of the table that a message belongs to, and its value; `BadOption` says why there is none."""
    found = _MESSAGE.fullmatch(data)
    if found is None:
        raise BadOption("not an OSC message that is known here; send numbers, strings, or T and F")
    name = found[1].decode()
    address = _BY_ADDRESS.get(name)
    if address is None:
        raise BadOption(f"there is no address {name[:60]}; there is {', '.join(_BY_ADDRESS)}")
    try:
        message = OscMessage(data)
    except Exception as error:  # of several classes, UnicodeDecodeError among them
        raise BadOption(f"{name} came with arguments that cannot be read") from error
    return address, address.read(name, message.params)


def messages_of(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The messages of a datagram: itself, or those of a bundle. `BadOption` where a bundle is damaged.

    Their time tags are not heeded: what comes is done. (`OscBundle` of python-osc 1.10 never ends on a bundle with a
    negative length.)
    """
    if not data.startswith(_BUNDLE):
        yield data
        return
    at = len(_BUNDLE) + 8
    if depth > _MAX_DEPTH or len(data) < at:
        raise BadOption("a bundle is cut off, or nested too deeply")
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at) if at + 4 <= len(data) else (-1,)
        if length < 0 or at + 4 + length > len(data):
            raise BadOption("a bundle is cut off")
        yield from messages_of(data[at + 4 : at + 4 + length], depth + 1)
        at += 4 + length


class OscReceiver(Closing):
    """Receives on a thread of its own; whoever acts takes what has changed, as often as they like.

    Of each slot only the newest change is kept, so that a thousand messages a second are no more work to act on
    than one a frame, and take no more memory.
    """

    def __init__(self, address: str, *, in_serve: bool = False) -> None:
        """Listen on ``address``, ``[HOST:]PORT``. Raises `BadOption` and `MissingDependency`."""
        _check_installed("--osc")
        self._in_serve = in_serve
        self._lock = threading.Lock()
        self._changes: dict[str, Change] = {}
        self._beats: deque[Change] = deque(maxlen=_MAX_BEATS)
        self._told: set[str] = set()
        self._problems: deque[str] = deque(maxlen=_MAX_TOLD + 1)
        self._stopping = False
        self.received = 0
        """Messages, those of bundles one by one."""
        self.refused = 0
        """Messages, and datagrams, that ask for nothing that is known here."""
        self._socket, self.host, self.port = _listening(address)
        self._thread = Worker("osc", self._run)
        self._thread.start()

    def take(self) -> list[Change]:
        """What has changed since the last call, in the order of arrival."""
        with self._lock:
            changes = [*self._changes.values(), *self._beats]
            self._changes.clear()
            self._beats.clear()
        return sorted(changes, key=lambda change: change.came)

    def problems(self) -> list[str]:
        """Sentences on bad messages, of each sort once."""
        with self._lock:
            problems = list(self._problems)
            self._problems.clear()
        return problems

    def refuse(self, address: str, why: str, sort: str = "") -> None:
        """Count a message as bad, and tell of it unless one of that address and ``sort`` was told of."""
        with self._lock:
            self.refused += 1
            key = f"{address} {sort}"
            if key in self._told or len(self._told) > _MAX_TOLD:
                return
            self._told.add(key)
            more = len(self._told) > _MAX_TOLD
            self._problems.append("more bad OSC messages came; they are counted, and not told" if more else f"OSC: {why}")

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                if select.select([self._socket], [], [], _POLL_SECONDS)[0]:
                    self._drain()
                    time.sleep(_DRAIN_SECONDS)
            except Exception:  # nothing that is sent may end it
                _log.exception("an OSC message could not be dealt with")

    def _drain(self) -> None:
        for _ in range(_MAX_DRAINED):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # Windows tells here that something sent from this port has not arrived
                continue
            now = monotonic()
            try:
                for message in messages_of(data):
                    self.received += 1
                    self._note(message, now)
            except BadOption as error:
                self.refuse("", str(error), "bundle")

    def _note(self, message: bytes, now: float) -> None:
        name = message.partition(b"\0")[0][:60].decode("ascii", "replace")
        try:
            address, value = read_message(message)
            if self._in_serve and not address.in_serve:
                raise BadOption(f"{address.full} is for `vidstyle webcam`; `vidstyle serve` has none")
        except BadOption as error:
            self.refuse(name, str(error))
            return
        if value is None:
            return
        change = Change(address.name, value, now)
        with self._lock:
            if address.name in ("beat", "tap"):
                self._beats.append(change)
                return
            slot = address.slot or address.name
            self._changes.pop(slot, None)
            self._changes[slot] = change


class OscSender(Closing):
    """Sends figures to one address, a few times a second. Use it from one thread."""

    def __init__(self, address: str) -> None:
        """Send to ``address``, ``HOST:PORT``. Raises `BadOption` and `MissingDependency`."""
        _check_installed("--osc-out")
        host, port = split_address(address, "--osc-out", default=None)
        if port == 0:
            raise BadOption(f"--osc-out is {address!r}; a port to send to lies between 1 and 65535")
        where = _resolved(host, port, "--osc-out")[1]
        self.host, self.port = str(where[0]), port
        self._client = SimpleUDPClient(self.host, port)  # by number: a name would be looked up at each message
        self._next = float("-inf")
        self.problem: str | None = None
        """Why something could not be sent, the first time."""

    def is_due(self, now: float) -> bool:
        """Whether it is time to send again."""
        return now >= self._next

    def send(self, fps: float, latency_ms: float, style: str, now: float) -> None:
        """Send the figures of this moment. Never waits, and raises nothing: who is not there misses them."""
        self._next = now + _OUT_SECONDS
        for name, value in zip((name for name, *_ in OUTPUTS), (float(fps), float(latency_ms), style), strict=True):
            try:
                self._client.send_message(f"{PREFIX}/{name}", value)
            except OSError as error:
                self.problem = self.problem or f"cannot send OSC to {self.host}:{self.port}: {reason(error)}"

    def close(self) -> None:
        self._client.close()


def split_address(text: str, option: str, *, default: str | None = LOOPBACK) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``; without a ``default`` there must be a host. `BadOption` names ``option``."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # IPv6 without brackets: which colon is the port's nobody can tell
        colon = ":"
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or not (host or (default and not colon)):
        way = "HOST:PORT, like 192.168.1.20:9000" if default is None else "PORT or HOST:PORT, like 9000 or 0.0.0.0:9000"
        raise BadOption(f"{option} is {text!r}; write {way}, with a port up to 65535 and IPv6 in brackets")
    return host or str(default), int(port)


def _resolved(host: str, port: int, option: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise BadOption(f"{option}: there is no host {host!r} ({reason(error)}); give an IP address") from error
    return found[0][0], found[0][4]


def _listening(address: str) -> tuple[socket.socket, str, int]:
    host, port = split_address(address, "--osc")
    family, where = _resolved(host, port, "--osc")
    receiving = socket.socket(family, socket.SOCK_DGRAM)
    receiving.setblocking(False)
    try:
        receiving.bind(where)
    except OSError as error:
        receiving.close()
        raise BadOption(
            f"--osc cannot listen on {host}, UDP port {port}: {reason(error)}; give another port, or an address of "
            "this machine (0 takes a free port, 0.0.0.0 is all addresses)"
        ) from error
    return receiving, host, int(receiving.getsockname()[1])


def _check_installed(option: str) -> None:
    if not _IS_INSTALLED:
        raise MissingDependency(f"{option} needs python-osc; pip install 'vidstyle[stage]'")
