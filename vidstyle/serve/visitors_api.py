"""The routes of /api/visitors: who is being painted, and how."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
import sys
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from aioice.ice import get_host_addresses

from vidstyle.serve.answers import Handler, answering, json_object
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.look import Look, first_look
from vidstyle.serve.memory import give_back
from vidstyle.serve.offer import MOST_BYTES, checked_offer
from vidstyle.serve.options import ServeOptions
from vidstyle.serve.refused import Refused
from vidstyle.serve.shared_source import SharedSource
from vidstyle.serve.studio import Studio
from vidstyle.serve.visitor import Visitor

_log = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_MOST_REASONS = 100
"""Of visitors who were ended, the last so many can hear why."""


class Visitors:
    """All who are here. For one event loop."""

    def __init__(self, studio: Studio, jobs: Jobs, options: ServeOptions) -> None:
        self._studio, self._jobs, self._options = studio, jobs, options
        self._here: dict[str, Visitor] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._ended_by: dict[str, str] = {}  # the newest last
        self._dropped = 0
        self.source: SharedSource | None = None
        """What those are shown who send nothing."""
        self.open = False
        """Whether anybody may come."""
        self.come = 0
        """How many have come."""
        self.refused = 0
        """For how many there was no room."""

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Visitor]:
        return iter(list(self._here.values()))

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced, of all who have come."""
        return self._dropped + sum(visitor.dropped for visitor in self)

    def get(self, id: str) -> Visitor:
        """The visitor with that id; `Refused` (404) where there is none, with the reason if it was ended."""
        visitor = self._here.get(id)
        if visitor is None and id in self._ended_by:
            raise Refused(404, f"this visit has ended: {self._ended_by[id]}")
        if visitor is None:
            raise Refused(404, "there is no such visitor here, or not any more; come anew with POST /api/visitors")
        return visitor

    async def add(self, offer: object, look: dict[str, Any]) -> tuple[Visitor, str]:
        """A new visitor and the answer to its offer. `Refused` and `BadOption` say why that cannot be."""
        if not self.open:
            raise Refused(503, "the server is just starting, or stopping; try again", {"Retry-After": "2"})
        if len(self._here) >= self._options.visitors:
            self._end_one_who_is_not_there()
        if len(self._here) >= self._options.visitors:
            self.refused += 1
            raise Refused(
                503,
                f"{len(self._here)} visitors are being painted, which is as many as may; try again when one has left",
                {"Retry-After": "10"},
            )
        chosen = first_look().changed(look, self._jobs.own_styles())
        text = checked_offer(offer, has_source=self.source is not None)
        visitor = Visitor(
            secrets.token_hex(16),
            self._studio,
            chosen,
            addresses=self._addresses(),
            public_address=self._options.public_address,
            on_end=self._ended,
        )
        self._here[visitor.id] = visitor  # before anything is waited for, so that no more come than may
        try:
            answer = await visitor.open(text)
        except BaseException:
            await self.remove(visitor)
            raise
        self.come += 1
        if not visitor.sends and self.source is not None:
            self.source.add(visitor.canvas)
        return visitor, answer

    def change(self, visitor: Visitor, wanted: dict[str, Any]) -> Look:
        """Change a visitor's look, and return it. `BadOption` says what is wrong."""
        visitor.look = look = visitor.look.changed(wanted, self._jobs.own_styles())
        return look

    def learned(self) -> None:
        """A style that is being learned has come on: who is painted with it sees so."""
        own = self._jobs.own_styles()
        for visitor in self:
            look = visitor.look
            newer = look.learned(own)
            if newer is not look:
                visitor.look = newer

    async def remove(self, visitor: Visitor) -> None:
        """Have a visitor go, and free everything of it. Twice is fine."""
        if self._here.pop(visitor.id, None) is not None:
            self._dropped += visitor.dropped
        if self.source is not None:
            self.source.remove(visitor.canvas)
        await visitor.close()
        await asyncio.get_running_loop().run_in_executor(None, give_back)

    async def close(self) -> None:
        """Have all go."""
        await asyncio.gather(*(self.remove(visitor) for visitor in self), return_exceptions=True)
        while self._leaving:
            await asyncio.wait(self._leaving)

    def _end_one_who_is_not_there(self) -> None:
        """Free the place of somebody who has asked for it and not taken it, so that asking alone keeps nobody out."""
        late = next((visitor for visitor in self if visitor.is_late), None)
        if late is not None:
            del self._here[late.id]
            self._dropped += late.dropped
            self._ended(late, "it had not connected, and another visitor came")

    def _ended(self, visitor: Visitor, reason: str) -> None:
        _log.info("a visitor has left: %s", reason)
        self._ended_by[visitor.id] = reason
        if len(self._ended_by) > _MOST_REASONS:
            del self._ended_by[next(iter(self._ended_by))]
        task = asyncio.get_running_loop().create_task(self.remove(visitor))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    @property
    def is_unreachable(self) -> bool:
        """Whether others are to come, and no address is known that they can reach from anywhere."""
        own = _own_addresses()
        return (
            self._options.others_come
            and self._options.public_address is None
            and all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in own)
        )

    def _addresses(self) -> list[str]:
        """Those of this machine where pictures may come in: where the page does, or where who comes by a proxy can."""
        public = self._options.public_address
        if public is not None and _is_own(public):
            return [public]
        if self._options.others_come or public is not None:
            return _own_addresses() or [_LOOPBACK]
        # Elsewhere than on Linux a browser's socket may belong to another address, and not reach this one.
        return [_LOOPBACK] if sys.platform == "linux" else _own_addresses()


def _own_addresses() -> list[str]:
    """All of this machine but the loopback ones."""
    return get_host_addresses(use_ipv4=True, use_ipv6=True)


def _is_own(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True


def routes(visitors: Visitors) -> list[web.RouteDef]:
    """The handlers, to be added to an application whose visitors these are."""
    api = _VisitorsApi(visitors)
    found: list[tuple[str, str, Handler]] = [
        ("POST", "/api/visitors", api.add),
        ("GET", "/api/visitors/{id}", api.show),
        ("PATCH", "/api/visitors/{id}", api.change),
        ("DELETE", "/api/visitors/{id}", api.remove),
    ]
    return [web.route(method, path, answering(handler)) for method, path, handler in found]


class _VisitorsApi:
    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors

    async def add(self, request: web.Request) -> web.StreamResponse:
        found = await json_object(request, most_bytes=MOST_BYTES + (MOST_BYTES >> 1))
        look = found.get("look", {})
        if set(found) - {"sdp", "type", "look"} or found.get("type", "offer") != "offer" or not isinstance(look, dict):
            raise Refused(400, 'send {"sdp": "...", "type": "offer", "look": {...}}; the look may be left out')
        visitor, answer = await self._visitors.add(found.get("sdp"), look)
        facts = {"id": visitor.id, "type": "answer", "sdp": answer, "look": visitor.look.facts()}
        if request.transport is None:  # the page was left while we were at it
            await self._visitors.remove(visitor)
        return web.json_response(facts, status=201)

    async def show(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._visitors.get(request.match_info["id"]).facts())

    async def change(self, request: web.Request) -> web.StreamResponse:
        self._visitors.get(request.match_info["id"])
        wanted = await json_object(request)
        visitor = self._visitors.get(request.match_info["id"])  # it may have left while the request was read
        return web.json_response(self._visitors.change(visitor, wanted).facts())

    async def remove(self, request: web.Request) -> web.StreamResponse:
        visitor = self._visitors.get(request.match_info["id"])
        with contextlib.suppress(TimeoutError):
            await self._visitors.remove(visitor)
        return web.json_response({"id": visitor.id, "left": True})
