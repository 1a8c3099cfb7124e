"""HTTP connections: bounded in number and patience; what is no HTTP is answered in JSON, too, and fills no log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from vidstyle.serve.answers import error_answer
from vidstyle.serve.connections import Connections
from vidstyle.serve.guard import HEADERS
from vidstyle.serve.refused import Refused

_log = logging.getLogger(__name__)
HEADER_SECONDS = 10.0
"""The longest that the line and the headers of a request may take to come, from the connection on or the first byte."""
_MOST_PIPELINED = 64


class Protocol(RequestHandler):
    """aiohttp's own, but for how long it waits, and how it answers what never reaches a handler."""

    __slots__ = ("_address", "_connections", "_late")

    def __init__(self, *arguments: Any, connections: Connections | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections = Connections() if connections is None else connections
        self._address = ""
        self._late: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """Of the other side; empty where that has none."""
        return self._address

    @property
    def is_served(self) -> bool:
        """Whether a whole request has come, and is being answered."""
        request = self._current_request
        return self._request_in_progress and (request is None or request._payload.is_eof())

    def drop(self) -> None:
        """Close the connection at once."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._connections.add(self)
        self._expect()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.remove(self)
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._connections.heard(self)
        super().data_received(data)
        if self._messages or self._request_in_progress:
            self._relax()
        else:
            self._expect()
        if len(self._messages) > _MOST_PIPELINED:
            self.drop()

    def _expect(self) -> None:
        """Wait for the rest of a request's head, but not for long."""
        if self._late is None:
            self._late = self._loop.call_later(HEADER_SECONDS, self.drop)

    def _relax(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last answer on this connection."""
        if status >= 500:
            _log.error("a request failed outside of its handler", exc_info=exc)
            sentence = "the server made a mistake with this request; its log says which"
        else:
            _log.debug("a request that cannot be read: %s", message)
            sentence = "this is no HTTP request that can be read"
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        answer = error_answer(Refused(status, sentence, {**HEADERS, "Server": "vidstyle"}))
        answer.force_close()
        return answer
