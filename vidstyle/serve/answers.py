"""From what a handler returns or raises to an HTTP answer in JSON."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from vidstyle.errors import BadModel, BadOption, ImageError, MissingDependency, VideoError, VidstyleError
from vidstyle.serve.refused import Refused
from vidstyle.serve.session import remember_session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_MOST_JSON = 1 << 14
_JSON_SECONDS = 20.0
_SMALL = 1 << 18
"""Bytes of a file that is sent without being counted."""
_MOST_SENT = 16
"""Larger files that are sent at once."""
_SEND_SECONDS = 30.0
_LEAST_RATE = 16 << 10
"""Bytes a second that whoever fetches a file must take in, after the first `_SEND_SECONDS`."""
_STATUS: tuple[tuple[type[VidstyleError], int], ...] = (
    (MissingDependency, 501),
    (ImageError, 415),
    (VideoError, 415),
    (BadOption, 400),
    (BadModel, 400),
)


def error_answer(error: VidstyleError) -> web.Response:
    """``{"error": "sentence"}`` with the status that fits."""
    headers = error.headers if isinstance(error, Refused) else {}
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    if isinstance(error, Refused):
        status = error.status
    return web.json_response({"error": str(error)}, status=status, headers=headers)


def answering(handler: Handler) -> Handler:
    """``handler`` with its errors as answers, and the session's cookie in all of them."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            response = await handler(request)
        except VidstyleError as error:
            response = error_answer(error)
        except FileNotFoundError:  # gone since it was looked up
            response = error_answer(Refused(404, "it is not there any more"))
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if isinstance(response, web.FileResponse):  # a preview is asked for again and again, and seldom another one
            response.headers.setdefault("Cache-Control", "no-cache")
        remember_session(request, response)
        return response

    return answer


class _Sent(web.FileResponse):
    """A file on its way, to those who take it in."""

    under_way = 0

    def __init__(self, path: Path, size: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(path, headers=headers)
        self._seconds = _SEND_SECONDS + size / _LEAST_RATE
        self._is_large = size > _SMALL

    async def prepare(self, request: web.BaseRequest) -> Any:
        if not self._is_large:  # goes into the system's own buffers
            return await super().prepare(request)
        _Sent.under_way += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await super().prepare(request)
        except TimeoutError as error:
            raise ConnectionResetError("the file was not taken in") from error
        finally:
            _Sent.under_way -= 1


def file_answer(request: web.Request, path: Path, headers: Mapping[str, str] | None = None) -> web.FileResponse:
    """The file at ``path``, or the range of it that is asked for. `Refused` (404, 416) where that is not there, 503
    where too many are being sent.

    aiohttp would find out that it is not there, too, and say so with an empty answer.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Refused(404, "it is not there any more") from error
    try:
        start = request.http_range.start or 0
    except ValueError:
        start = size
    if start >= size and "Range" in request.headers:
        raise Refused(
            416,
            f"this range is not in the file, which has {size} bytes; ask for one that is, or leave it out",
            {"Content-Range": f"bytes */{size}"},
        )
    if size > _SMALL and _Sent.under_way >= _MOST_SENT:
        raise Refused(503, f"{_MOST_SENT} files are being sent, which is as many as may", {"Retry-After": "10"})
    return _Sent(path, size, headers)


async def json_object(request: web.Request, *, most_bytes: int = _MOST_JSON) -> dict[str, Any]:
    """The JSON object that ``request`` brings. `Refused` (400, 408, 413, 415) where it brings none."""
    if request.content_type != "application/json":
        raise Refused(415, "send a JSON object, with Content-Type: application/json")
    too_long = Refused(413, f"the JSON has more than {most_bytes} bytes; make it shorter")
    if (request.content_length or 0) > most_bytes:
        raise too_long
    data = b""
    try:
        async with asyncio.timeout(_JSON_SECONDS):
            while chunk := await request.content.read(most_bytes + 1):
                data += chunk
                if len(data) > most_bytes:
                    raise too_long
    except TimeoutError as error:
        raise Refused(408, f"the JSON has not come within {_JSON_SECONDS:g} s; send it again") from error
    return object_in(data)


def object_in(data: bytes | str) -> dict[str, Any]:
    """The JSON object in ``data``; `Refused` (400) where it is none."""
    found = json_in(data)
    if not isinstance(found, dict):
        raise Refused(400, "the JSON is no object; send {...}")
    return found


def json_in(data: bytes | str) -> Any:
    """What the JSON in ``data`` says; `Refused` (400) where it is none."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "this is not JSON that can be read") from error


def _no_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are Python's own
