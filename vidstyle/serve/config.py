"""The options of the server."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from vidstyle.errors import BadOption
from vidstyle.files import cache_folder
from vidstyle.options import MAX_SIDE, check_between, check_fields, within
from vidstyle.system import is_loopback

MIN_TOKEN = 12
"""Characters of the shortest token: it must not be guessed by trying."""
_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


def new_token() -> str:
    """A token that nobody guesses: 128 random bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Address, access and limits of a server."""

    host: str = "127.0.0.1"
    """Address, or name of one, to listen on; where others can reach it, a ``token`` is needed."""
    port: int = within(8360, 0, 65535)
    """TCP port of the page; 0 takes a free one. Pictures go by UDP, on ports that the system chooses."""
    token: str | None = None
    """Secret that a browser or program must send; None lets in everybody who can reach ``host``."""
    open_to_all: bool = False
    """Whether others may connect without a ``token``."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, beside the usual ones, by which browsers may call the server, such as that of a proxy. The server is
    public then, and needs a ``token``, too."""
    public_address: str | None = None
    """IP address at which browsers elsewhere reach this machine with their pictures, where the machine does not have
    it itself: behind a NAT that forwards UDP."""
    source: str | None = None
    """A picture for visitors without a camera: an input of `vidstyle.video.capture.Capture`."""
    visitors: int = within(4, 1, 64)
    """Visitors painted at once."""
    size: tuple[int, int] = (360, 640)
    """The largest live picture, ``(height, width)``; larger ones are scaled down. Upright pictures may be as tall as
    this is wide."""
    upload_mib: int = within(64, 1, 1 << 14)
    """The largest upload; of paintings 32 at most."""
    max_pixels: int = within(3840 * 2160, 256, MAX_SIDE * MAX_SIDE)
    """The largest picture of an uploaded video."""
    max_seconds: float = within(600.0, 1, 86400)
    queue: int = within(4, 1, 1000)
    folder: Path = field(default_factory=lambda: cache_folder("serve"))
    """Where jobs and the visitors' styles are kept."""

    def __post_init__(self) -> None:
        if not self.host:
            raise BadOption("host is empty; give an address, such as 127.0.0.1, or 0.0.0.0 for all of this machine")
        check_fields(self)
        check_between("height of the live picture", self.size[0], 16, MAX_SIDE)
        check_between("width of the live picture", self.size[1], 16, MAX_SIDE)
        for name in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(name):
                raise BadOption(f"allowed host is {name!r}; give a name alone, like kiosk.local, without port or path")
        if self.token is not None and (len(self.token) < MIN_TOKEN or not _TOKEN.fullmatch(self.token)):
            raise BadOption(
                f"the token has {len(self.token)} characters; it must have at least {MIN_TOKEN}, all of them "
                "letters, digits or - . _ ~ (`--token auto` makes one up)"
            )
        if self.public_address is not None:
            _check_address(self.public_address)
        if self.token is not None and self.open_to_all:
            raise BadOption("there is a token, and everybody is to be let in; give one of the two")
        if self.token is None and self.is_public and not self.open_to_all:
            way = f"on {self.host}"
            if self.is_loopback:
                way = f"as {next(name for name in self.allowed_hosts if not is_loopback(name))}"
            raise BadOption(
                f"{way} others can reach the server, so that it needs a token; give one with --token, or "
                "`--token auto` to have one made up (`--token none` lets everybody in)"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the server: by its own address, or by the name of a proxy."""
        return not self.is_loopback or not all(is_loopback(name) for name in self.allowed_hosts)


def _check_address(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast:
        raise BadOption(f"the public address is {text!r}; give an IP address, like 203.0.113.7, without port or name")
