"""Who is let in: names by which the server may be called, where requests come from, the token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from vidstyle.errors import VidstyleError
from vidstyle.serve.answers import error_answer
from vidstyle.serve.options import ServeOptions
from vidstyle.serve.refused import Refused
from vidstyle.serve.session import is_https

COOKIE = "vidstyle_token"
_log = logging.getLogger(__name__)
_OPEN = frozenset({"/health", "/page/style.css", "/page/icon.svg", "/page/icons.svg"})
"""Paths that need no token: of the page no more than what the one that asks for it looks like."""
_TOKEN_PAGE = Path(__file__).parent / "page" / "token.html"
_MOST_FORM = 4096
_FORM_SECONDS = 20.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_MONTH = 30 * 86400

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob: mediastream:",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
"""What every answer carries."""
_REASONS = {
    404: "there is nothing at this address; the page is at /, the API is in docs/serve.md",
    405: "this address does not take {method}; it takes {allowed}",
    413: "the request is too large; at most {most} bytes are taken here",
    417: "the server has no use for the header Expect of this request; leave it out",
}


class Guard:
    """Looks at every request before anything else does."""

    def __init__(self, options: ServeOptions) -> None:
        self._token = options.token
        self._names = {"localhost", *(name.lower() for name in options.allowed_hosts)}
        if not _is_address(options.host):
            self._names.add(options.host.lower())
        self._is_loopback = options.is_loopback
        # Cookies do not know ports: what other servers of this machine get to see is not the token itself.
        self._cookie = hashlib.sha256(f"vidstyle cookie {options.token}".encode()).hexdigest()

    def check_page(self, request: web.Request) -> None:
        """`Refused` (400, 403, 421) where the request comes from the page of a stranger."""
        host = request.headers.get("Host", "")
        name = _name_of(host)
        if name is None:
            raise Refused(400, "the request has no Host header that can be read")
        if not self._is_ours(name):
            raise Refused(
                421,
                f"this server does not go by the name {name[:80]!r}; whoever runs it can let it with "
                f"--allow-host {name[:80]}",
            )
        if request.method not in _SAFE:
            self._check_origin(request, host)

    def check_token(self, request: web.Request) -> None:
        """`Refused` (401) where the request must not be served without a token."""
        if self._token is not None and request.path not in _OPEN and not self._has_token(request):
            raise Refused(
                401,
                "the token is missing or wrong; open the address that `vidstyle serve` printed, or send "
                "`Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )

    async def entrance(self, request: web.Request) -> web.Response | None:
        """The answer to ``/?token=...``, or to the form that asks for it: a cookie, and on to the page."""
        if self._token is None or request.path != "/":
            return None
        if request.method == "POST":
            given = await _token_in_form(request)
        elif request.method == "GET":
            given = request.query.get("token")
        else:
            return None
        if given is None or not _equal(given, self._token):
            return None
        answer = web.Response(status=303, headers={"Location": "./", "Cache-Control": "no-store"})
        # Strict would not be sent on with the redirection when the address was clicked in another page. What
        # changes anything asks for the origin besides.
        answer.set_cookie(
            COOKIE, self._cookie, max_age=_MONTH, path="/", httponly=True, samesite="Lax", secure=is_https(request)
        )
        return answer

    def _is_ours(self, name: str) -> bool:
        """Whether a page that calls us ``name`` may be ours.

        A page of a stranger can have its own name lead to this machine, and then read what it likes (DNS
        rebinding). An address is no name, and needs no permission.
        """
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_loopback

    def _check_origin(self, request: web.Request, host: str) -> None:
        origin = request.headers.get("Origin")
        if origin is not None:
            try:
                parts = urlsplit(origin)
                same = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
            except ValueError:
                same = False
        else:
            # Browsers name the origin; what comes without one is no page.
            same = request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        if not same:
            raise Refused(403, "this request comes from a page of another server; only our own page may do that")

    def _has_token(self, request: web.Request) -> bool:
        assert self._token is not None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self._token):
            return True
        return _equal(request.cookies.get(COOKIE, ""), self._cookie)


def middleware(guard: Guard) -> Middleware:
    """What stands before all handlers: the guard, and errors as JSON."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            guard.check_page(request)
            entrance = await guard.entrance(request)
            if entrance is None:
                guard.check_token(request)
            return entrance or await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _answer(request, error)
        except VidstyleError as error:
            if isinstance(error, Refused) and error.status == 401 and _is_page(request):
                return _token_page(request)
            return error_answer(error)
        except ConnectionError:
            return error_answer(Refused(400, "the connection broke off"))
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return error_answer(Refused(500, "the server made a mistake with this request; its log says which"))

    return guarded


def outermost(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Any:
    """``handler``, an application, with an answer in JSON to what it refuses before `middleware`: an odd Expect."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _answer(request, error)

    return answer


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put `HEADERS` on an answer that is about to go out."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store" if request.path.startswith("/api/") else "no-cache")
    response.headers["Server"] = "vidstyle"


def _answer(request: web.Request, error: web.HTTPException) -> web.Response:
    reason = _REASONS.get(error.status, "{reason}").format(
        method=request.method,
        allowed=", ".join(sorted(getattr(error, "allowed_methods", ()))),
        most=request.client_max_size,
        reason=error.reason.lower(),
    )
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_answer(Refused(error.status, reason, headers))


def _is_page(request: web.Request) -> bool:
    """Whether a browser wants something to show."""
    return request.method in ("GET", "POST") and "text/html" in request.headers.get("Accept", "")


def _token_page(request: web.Request) -> web.Response:
    """The page that asks for the token; also that what was given is none."""
    text = _TOKEN_PAGE.read_text(encoding="utf-8")
    wrong = request.method == "POST" or "token" in request.query
    return web.Response(
        text=text.replace("{hidden}", "" if wrong else "hidden"),
        status=401,
        content_type="text/html",
        # Without a referrer browsers send a form's origin as null.
        headers={"Cache-Control": "no-store", "WWW-Authenticate": "Bearer", "Referrer-Policy": "same-origin"},
    )


async def _token_in_form(request: web.Request) -> str | None:
    """What was filled in; None where that is no small form."""
    length = request.content_length
    if request.content_type != "application/x-www-form-urlencoded" or length is None or length > _MOST_FORM:
        return None
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            data = await request.read()
    except TimeoutError:
        return None
    return parse_qs(data.decode(errors="replace")).get("token", [""])[0].strip()


def _name_of(host: str) -> str | None:
    """The name or address in a Host header, without port and brackets; None where there is none."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name and not set(host) & set("/?#@\\ ") else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
