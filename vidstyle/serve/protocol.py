"""Requests that are no HTTP: they, too, are answered in JSON, and fill no log."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from vidstyle.serve.answers import error_answer
from vidstyle.serve.guard import HEADERS
from vidstyle.serve.refused import Refused

_log = logging.getLogger(__name__)


class Protocol(RequestHandler):
    """aiohttp's own, but for how it answers what never reaches a handler."""

    __slots__ = ()

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
