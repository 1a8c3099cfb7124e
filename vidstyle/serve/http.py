"""HTTP below the routes: bounded connections, every error as JSON, JSON bodies, files."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from vidstyle.errors import ImageError, MissingDependency, VideoError, VidstyleError

T = TypeVar("T")
_log = logging.getLogger(__name__)
HEADER_SECONDS = 10.0
"""Longest wait for the request line and headers, from the connection or the first byte on."""
_MAX_PIPELINED = 64
_MAX_CONNECTIONS, _MIN_CONNECTIONS = 256, 16
_BURST_FACTOR = 2.5
_RESERVED_FILES = 128
"""Descriptors for everything else: visitors, jobs, files, and connections accepted within one turn of the loop."""
_SERVED_SECONDS = 120.0  # a request that is being answered protects its connection this long

_MAX_JSON, _JSON_SECONDS = 1 << 14, 20.0
_SMALL_FILE = 1 << 18  # files up to this many bytes fit into the system's own buffers, and are not counted
_MAX_SENDING = 16
SEND_SECONDS, MIN_SEND_RATE = 30.0, 16 << 10
"""Bytes a second at which a file must be fetched, after the first seconds."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob: mediastream:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
_REASONS = {
    404: "there is nothing at this address; the page is at /, the API is in docs/serve.md",
    405: "this address does not take {method}; it takes {allowed}",
    413: "the request is too large; at most {limit} bytes are taken here",
    417: "the server does not support the Expect header of this request; leave it out",
}
_BUG = "the server failed to handle this request; its log has the details"


class ApiError(VidstyleError):
    """An error of the HTTP API: the message goes into the response."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {}) | ({} if retry_after is None else {"Retry-After": str(retry_after)})


def error_response(error: Exception, request: web.BaseRequest | None = None) -> web.Response:
    """``{"error": message}`` with the status that fits ``error``, whatever that is."""
    status, message, headers = 500, _BUG, {}
    if isinstance(error, ApiError):
        status, message, headers = error.status, str(error), error.headers
    elif isinstance(error, VidstyleError):
        unreadable, missing = isinstance(error, (ImageError, VideoError)), isinstance(error, MissingDependency)
        status, message = 415 if unreadable else 501 if missing else 400, str(error)
    elif isinstance(error, web.HTTPException):
        status = error.status
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        message = error.reason.lower()
        if status in _REASONS and isinstance(request, web.Request):
            allowed = ", ".join(sorted(getattr(error, "allowed_methods", ())))
            limit = request.client_max_size
            message = _REASONS[status].format(method=request.method, allowed=allowed, limit=limit)
    elif isinstance(error, FileNotFoundError):  # removed since it was looked up
        status, message = 404, "this file does not exist any more"
    elif isinstance(error, ConnectionError):
        status, message = 400, "the connection broke off"
    else:
        _log.error("%s failed", f"{request.method} {request.path}" if request else "a request", exc_info=error)
    return web.json_response({"error": message}, status=status, headers=headers)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: turns every exception into an `error_response`."""
    try:
        return await handler(request)
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        return error_response(error, request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add `HEADERS` to a response that is about to be sent (an ``on_response_prepare`` signal)."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    # A preview is asked for again and again, and is seldom another one.
    is_data = request.path.startswith("/api/") and not isinstance(response, web.FileResponse)
    response.headers.setdefault("Cache-Control", "no-store" if is_data else "no-cache")
    response.headers["Server"] = "vidstyle"


class Protocol(RequestHandler):
    """aiohttp's connection handler with bounded patience, and with JSON for what never reaches a route.

    TCPSite takes no handler class, and aiohttp bounds neither the connections nor the time that a head takes.
    """

    __slots__ = ("network", "_connections", "_deadline")

    def __init__(self, *arguments: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections
        self.network = ""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_served(self) -> bool:
        """Whether a whole request has come and is being answered."""
        request = self._current_request
        return self._request_in_progress and (request is None or request._payload.is_eof())

    def drop(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.network = network_of(str(peer[0])) if isinstance(peer, tuple) else ""
        self._connections.add(self)
        self._set_deadline(True)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.remove(self)
        self._set_deadline(False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._connections.touch(self)
        super().data_received(data)
        self._set_deadline(not (self._messages or self._request_in_progress))
        if len(self._messages) > _MAX_PIPELINED:
            self.drop()

    def _set_deadline(self, wanted: bool) -> None:
        """Start the deadline of a request's head unless it runs already, or stop it."""
        if wanted and self._deadline is None:
            self._deadline = self._loop.call_later(HEADER_SECONDS, self.drop)
        elif not wanted and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPError):  # raised before the middlewares, by an odd Expect header
            resp = error_response(resp, request)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("a request failed outside of its handler", exc_info=exc)
        else:
            _log.debug("a request that cannot be read: %s", message)
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("a response is under way already")
        text = _BUG if status >= 500 else "this is not an HTTP request that can be read"
        response = error_response(ApiError(status, text, {**HEADERS, "Server": "vidstyle"}))
        response.force_close()
        return response


class Connections:
    """The open connections. Above the limit the one that has been silent for longest is dropped.

    So clients that open many and send nothing, or send slowly, get in the way of each other alone: a client that
    sends a whole request at once is answered.
    """

    def __init__(self, limit: int | None = None, *, young_seconds: float = 1.0) -> None:
        """``limit`` in all, and half as many from one address; None takes what the process's descriptors allow.

        In a burst, up to `_BURST_FACTOR` times the limit, a connection is safe for ``young_seconds``: its request may
        be on the way.
        """
        self.limit = _descriptor_limit() if limit is None else limit
        self.young_seconds = young_seconds
        self._last_heard: dict[Protocol, float] = {}  # the longest silent first

    def __len__(self) -> int:
        return len(self._last_heard)

    def add(self, new: Protocol) -> None:
        """Count ``new``; above the limit another one, or itself, is dropped."""
        self._last_heard[new] = monotonic()
        if sum(one.network == new.network for one in self._last_heard) > max(1, self.limit // 2):
            self._drop_one(new.network, new)
        elif len(self._last_heard) > self.limit:
            self._drop_one(None, new)

    def touch(self, connection: Protocol) -> None:
        if self._last_heard.pop(connection, None) is not None:
            self._last_heard[connection] = monotonic()

    def remove(self, connection: Protocol) -> None:
        self._last_heard.pop(connection, None)

    def _drop_one(self, network: str | None, new: Protocol) -> None:
        now, connection = monotonic(), new
        for other, heard in self._last_heard.items():
            counts = network in (None, other.network)
            if counts and (not other.is_served or now - heard > _SERVED_SECONDS):
                if now - heard < self.young_seconds and len(self) <= _BURST_FACTOR * self.limit:
                    return
                connection = other
                break
        self.remove(connection)
        connection.drop()


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of IPv6 that one customer has."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).version == 6:
            return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    return address


def _descriptor_limit() -> int:
    if sys.platform == "win32":
        return _MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return min(_MAX_CONNECTIONS, max(_MIN_CONNECTIONS, (soft - _RESERVED_FILES) // 3))


class BoundedFileResponse(web.FileResponse):
    """A file response that ends when the client takes it in too slowly."""

    sending = 0

    def __init__(self, path: Path, size: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(path, headers=headers)
        self._seconds = SEND_SECONDS + size / MIN_SEND_RATE
        self._is_large = size > _SMALL_FILE

    async def prepare(self, request: web.BaseRequest) -> Any:
        if not self._is_large:
            return await super().prepare(request)
        BoundedFileResponse.sending += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await super().prepare(request)
        except TimeoutError as error:
            raise ConnectionResetError("the file was not taken in") from error
        finally:
            BoundedFileResponse.sending -= 1


def file_response(request: web.Request, path: Path, headers: Mapping[str, str] | None = None) -> web.FileResponse:
    """The file at ``path``, or the range of it that is asked for. `ApiError` 404 and 416, and 503 where too many files
    are being sent.

    aiohttp would find a missing file, too, and answer with an empty body.
    """
    size = path.stat().st_size
    try:
        start = request.http_range.start or 0
    except ValueError:
        start = size
    if start >= size and "Range" in request.headers:
        raise ApiError(
            416,
            f"this range is not in the file, which has {size} bytes; ask for one that is, or leave it out",
            {"Content-Range": f"bytes */{size}"},
        )
    if size > _SMALL_FILE and BoundedFileResponse.sending >= _MAX_SENDING:
        raise ApiError(503, f"{_MAX_SENDING} files are being sent, the most at once; try again", retry_after=10)
    return BoundedFileResponse(path, size, headers)


async def read_json(request: web.Request, kind: type[T], *, max_bytes: int = _MAX_JSON) -> T:
    """The body of ``request``, JSON of that ``kind``. `ApiError` 400, 408, 413 and 415."""
    if request.content_type != "application/json":
        raise ApiError(415, "send a JSON object, with Content-Type: application/json")
    too_long = ApiError(413, f"the JSON has more than {max_bytes} bytes; make it shorter")
    if (request.content_length or 0) > max_bytes:
        raise too_long
    data = b""
    try:
        async with asyncio.timeout(_JSON_SECONDS):
            while chunk := await request.content.read(max_bytes + 1):
                data += chunk
                if len(data) > max_bytes:
                    raise too_long
    except TimeoutError as error:
        raise ApiError(408, f"the JSON has not come within {_JSON_SECONDS:g} s; send it again") from error
    return parse_json(data, kind)


def parse_json(data: bytes | str, kind: type[T]) -> T:
    """The value of that ``kind`` in ``data``; `ApiError` 400 where there is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        words = "".join(c if c.isprintable() else " " for c in str(error)[:200])
        raise ApiError(400, f"the JSON is not as docs/serve.md has it: {words}") from error
