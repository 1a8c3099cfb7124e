"""OSC: a receiver that keeps the newest of each address, and a sender of figures.

Open Sound Control 1.0 over UDP, as lighting desks, VJ programs and tablets speak it.
"""

from __future__ import annotations

import logging
import re
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from vidstyle.errors import BadOption, MissingDependency, reason
from vidstyle.pipeline import Closing, Worker
from vidstyle.stage.addresses import BY_ADDRESS, OUTPUTS, PREFIX, Address, Change

try:
    from pythonosc.osc_message import OscMessage
    from pythonosc.udp_client import SimpleUDPClient
except ImportError:
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True

_log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
_MAX_TOLD = 20
"""So many sorts of bad messages are told of; all are counted."""
_MAX_BEATS = 64
_DRAIN_SECONDS, _MAX_DRAINED = 0.01, 100
"""Messages are read in turns, so that a flood of them costs the picture no more than a few do: at most 10,000 a second
are read, and what is above that is lost as UDP loses it. A message that comes alone is read at once."""
_MAX_DEPTH = 4
"""Bundles within bundles."""
_OUT_SECONDS = 0.25
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|[-+.\d]+")
_BUNDLE = b"#bundle\0"
# Type tags beyond these have no use here, and python-osc logs what it does not know for each message.
_SIZES = {"i": 4, "f": 4, "s": 4, "h": 8, "d": 8}
_MESSAGE = re.compile(rb"(/[\x21-\x7e]*)\0+(?:,([ifhdsTF]*)\0.*)?", re.DOTALL)


def read_message(data: bytes) -> tuple[Address, Any]:
    """The row of the table that a message belongs to, and its value; `BadOption` says why there is none."""
    found = _MESSAGE.fullmatch(data)
    if found is None or len(data) % 4 or len(data) < _least_bytes(found):
        raise BadOption("not an OSC message that is known here; send numbers, strings, or T and F")
    name = found[1].decode()
    address = BY_ADDRESS.get(name)
    if address is None:
        raise BadOption(f"there is no address {name[:60]}; there is {', '.join(BY_ADDRESS)}")
    try:
        message = OscMessage(data)
    except Exception as error:  # of several classes, UnicodeDecodeError among them
        raise BadOption(f"{name} came with arguments that cannot be read") from error
    return address, address.read(name, message.params)


def _least_bytes(found: re.Match[bytes]) -> int:
    """The length that its type tags give a message; python-osc takes a float that is cut off for zero."""
    if found[2] is None:
        return 0
    return (found.end(2) // 4 + 1) * 4 + sum(_SIZES.get(tag, 0) for tag in found[2].decode())


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

    def __init__(
        self, address: str, *, check_style: Callable[[str | int], object] | None = None, in_serve: bool = False
    ) -> None:
        """Listen on ``address``, ``[HOST:]PORT``. Raises `BadOption` and `MissingDependency`.

        ``check_style``, called on that thread, raises `BadOption` for a name, or a number, of no style.
        """
        _check_installed("--osc")
        self._in_serve, self._check_style = in_serve, check_style
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
        self._closing, self._closed = socket.socketpair()  # a thread that waits for a socket hears nothing else
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

    def refuse(self, why: str) -> None:
        """Count a bad message, and tell ``why``, but once where only names and numbers differ."""
        key = _VALUES.sub("", why)
        with self._lock:
            self.refused += 1
            if key in self._told or len(self._told) > _MAX_TOLD:
                return
            self._told.add(key)
            is_last = len(self._told) > _MAX_TOLD
            self._problems.append(f"OSC: {'more bad messages came, which are counted only' if is_last else why}")

    def close(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._closing.send(b"x")
        self._thread.join()
        for one in (self._socket, self._closing, self._closed):
            one.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                select.select([self._socket, self._closed], [], [])
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
                self.refuse(str(error))

    def _note(self, message: bytes, now: float) -> None:
        try:
            address, value = read_message(message)
            if self._in_serve and not address.in_serve:
                raise BadOption(f"{address.full} is for `vidstyle webcam`; `vidstyle serve` has none")
            if self._check_style is not None and address.name in ("style", "blend"):
                for style in [value] if address.name == "style" else [style for style, _ in value]:
                    self._check_style(style)
        except BadOption as error:
            self.refuse(str(error))
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
        values: tuple[float | str, ...] = float(fps), float(latency_ms), style
        for (name, *_), value in zip(OUTPUTS, values, strict=True):
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
    # Of a name that has both, as localhost has, the IPv4 address is where most programs are.
    family, *_, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, where


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
