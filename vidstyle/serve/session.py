"""Which browser a request comes from: a random cookie that no script can read."""

from __future__ import annotations

import re
import secrets
from typing import Any

from aiohttp import web

COOKIE = "vidstyle_session"
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits
_YEAR = 365 * 86400
# aiohttp before 3.14 has names where it has keys now.
_KEY: Any = web.RequestKey("session", str) if hasattr(web, "RequestKey") else "vidstyle session"


def session_of(request: web.Request) -> str:
    """The session of ``request``, a new one where it brings none. `remember_session` tells the browser."""
    found: str | None = request.get(_KEY)
    if found is None:
        found = request.cookies.get(COOKIE, "")
        if not _VALUE.fullmatch(found):
            found = secrets.token_urlsafe(32)
        request[_KEY] = found
    return found


def is_https(request: web.BaseRequest) -> bool:
    """Whether the browser came by https, to this server or to a proxy that says so.

    Anybody can say so; all that follows is that this browser sends its own cookies by https alone.
    """
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return (
        request.secure
        or said == "https"
        or any(part.get("proto", "").lower() == "https" for part in request.forwarded[:1])
        or request.headers.get("Origin", "").startswith("https://")
    )


def remember_session(request: web.Request, response: web.StreamResponse) -> None:
    """Have the browser send the session from now on, if it does not."""
    session = session_of(request)
    if request.cookies.get(COOKIE) != session and not response.prepared:
        response.set_cookie(
            COOKIE, session, max_age=_YEAR, path="/", httponly=True, samesite="Strict", secure=is_https(request)
        )
