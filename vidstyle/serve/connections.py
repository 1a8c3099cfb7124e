"""How many connections a server holds, before anybody is known: so many in all, and from each address."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from time import monotonic
from typing import Protocol

_MOST = 256
_LEAST = 16
_BURST = 2.5
_OTHER_FILES = 128
"""Descriptors for everything else: visitors, jobs, files, and the connections that come within one turn of the loop."""
_YOUNG_SECONDS = 1.0
"""So long one keeps its place in a burst, up to `_BURST` times as many as usual: its request may be on the way."""
_SERVED_SECONDS = 120.0
"""So long a request that is being answered keeps its connection."""


class Connection(Protocol):
    """One of them."""

    @property
    def address(self) -> str:
        """Of the other side."""

    @property
    def is_served(self) -> bool:
        """Whether a whole request has come, and is being answered."""

    def drop(self) -> None:
        """Close it at once."""


class Connections:
    """The connections that are open. Where there would be too many, the one goes that has been silent for longest.

    So those who open many and send nothing, or send it slowly, are in the way of each other alone: who sends a whole
    request at once is answered.
    """

    def __init__(self, most: int | None = None) -> None:
        """``most`` in all, and half as many from one address; None takes what the process may have."""
        self.most = _allowed() if most is None else most
        self._heard: dict[Connection, float] = {}  # the longest silent first
        self._of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, new: Connection) -> None:
        """Count it in; another one, or itself, is dropped for it where there are too many."""
        network = _network_of(new.address)
        self._heard[new] = monotonic()
        self._of[network] = self._of.get(network, 0) + 1
        if self._of[network] > max(1, self.most // 2):
            self._drop_one(network, new)
        elif len(self._heard) > self.most:
            self._drop_one(None, new)

    def heard(self, connection: Connection) -> None:
        """Something has come on it."""
        if self._heard.pop(connection, None) is not None:
            self._heard[connection] = monotonic()

    def remove(self, connection: Connection) -> None:
        """It is closed. Twice is fine."""
        if self._heard.pop(connection, None) is not None:
            network = _network_of(connection.address)
            self._of[network] -= 1
            if not self._of[network]:
                del self._of[network]

    def _drop_one(self, network: str | None, new: Connection) -> None:
        now, connection = monotonic(), new
        for other, heard in self._heard.items():
            ours = network is None or _network_of(other.address) == network
            if ours and (not other.is_served or now - heard > _SERVED_SECONDS):
                if now - heard < _YOUNG_SECONDS and len(self._heard) <= _BURST * self.most:
                    return
                connection = other
                break
        self.remove(connection)
        connection.drop()


def _network_of(address: str) -> str:
    """What is taken for one place: an IPv4 address, or the 64 bits of IPv6 that one customer has."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).version == 6:
            return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    return address


def _allowed() -> int:
    if sys.platform == "win32":
        return _MOST
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(_MOST, max(_LEAST, (soft - _OTHER_FILES) // 3))
