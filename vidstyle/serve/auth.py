"""Who is let in: names by which the server may be called, origins, the token; and the browser's session cookie."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from vidstyle.serve.config import ServeOptions
from vidstyle.serve.http import ApiError

TOKEN_COOKIE, SESSION_COOKIE = "vidstyle_token", "vidstyle_session"
_OPEN_PATHS = frozenset({"/health", "/page/style.css", "/page/icon.svg", "/page/icons.svg"})
"""Paths that need no token: of the page no more than the look of the one that asks for the token."""
_TOKEN_PAGE = Path(__file__).parent / "page" / "token.html"
_MAX_FORM, _FORM_SECONDS = 4096, 20.0
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DAY = 86400
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits
# aiohttp before 3.14 has names where it has keys now.
_SESSION_KEY: Any = web.RequestKey("session", str) if hasattr(web, "RequestKey") else "vidstyle session"


class Guard:
    """Checks every request before anything else does."""

    def __init__(self, options: ServeOptions) -> None:
        self._token = options.token
        self._names = {name.lower() for name in ("localhost", options.host, *options.allowed_hosts)}
        self._is_loopback = options.is_loopback
        # Cookies do not know ports: other servers of this machine get to see them, and must not learn the token.
        self._cookie = hashlib.sha256(f"vidstyle cookie {options.token}".encode()).hexdigest()

    def middleware(self) -> Middleware:
        """Lets a request in, or raises `ApiError`; a browser without the token gets the page that asks for it."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check_host(request)
            login = await self.login(request)
            if login is not None:
                return login
            try:
                self.check_token(request)
            except ApiError:
                if request.method not in ("GET", "POST") or "text/html" not in request.headers.get("Accept", ""):
                    raise
                return _token_page(request)  # a browser wants something to show
            response = await handler(request)
            _remember_session(request, response)
            return response

        return guarded

    def check_host(self, request: web.Request) -> None:
        """`ApiError` 400, 403 or 421 where the request was made by another server's page."""
        host = request.headers.get("Host", "")
        name = _host_name(host)
        if name is None:
            raise ApiError(400, "the request has no Host header that can be read")
        if not self._is_own_name(name):
            shown = name[:80]
            raise ApiError(
                421, f"this server is not called {shown!r}; start it with --allow-host {shown} to allow that"
            )
        if request.method not in _SAFE_METHODS and not _is_same_origin(request, host):
            raise ApiError(403, "this request comes from a page of another server; only our own page may do that")

    def check_token(self, request: web.Request) -> None:
        """`ApiError` 401 where the request needs a token and has none, or a wrong one."""
        if self._token is not None and request.path not in _OPEN_PATHS and not self._has_token(request, self._token):
            raise ApiError(
                401,
                "the token is missing or wrong; open the address that `vidstyle serve` printed, or send "
                "`Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )

    async def login(self, request: web.Request) -> web.Response | None:
        """The cookie for ``/?token=...``, or the form with the token, and a redirection; None without right token."""
        if self._token is None or request.path != "/" or request.method not in ("GET", "POST"):
            return None
        given = await _token_in_form(request) if request.method == "POST" else request.query.get("token")
        if given is None or not _equal(given, self._token):
            return None
        response = web.Response(status=303, headers={"Location": "./", "Cache-Control": "no-store"})
        # Strict would not be sent on with the redirection when the address was clicked in another page. Whatever
        # changes anything checks the origin besides.
        _set_cookie(request, response, TOKEN_COOKIE, self._cookie, days=30, same_site="Lax")
        return response

    def _is_own_name(self, name: str) -> bool:
        """Whether a page that calls the server ``name`` may be its own.

        Another server's page can have its own name lead to this machine, and then read what it likes (DNS
        rebinding). An address is no name, and needs no permission.
        """
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_loopback

    def _has_token(self, request: web.Request, token: str) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), token):
            return True
        return _equal(request.cookies.get(TOKEN_COOKIE, ""), self._cookie)


def session_of(request: web.Request) -> str:
    """The session of the browser that sent ``request``, a new one where it has none; its response sets the cookie."""
    found: str | None = request.get(_SESSION_KEY)
    if found is None:
        found = request.cookies.get(SESSION_COOKIE, "")
        if not _SESSION.fullmatch(found):
            found = secrets.token_urlsafe(32)
        request[_SESSION_KEY] = found
    return found


def _remember_session(request: web.Request, response: web.StreamResponse) -> None:
    session = request.get(_SESSION_KEY)
    if session is not None and request.cookies.get(SESSION_COOKIE) != session and not response.prepared:
        _set_cookie(request, response, SESSION_COOKIE, session, days=365, same_site="Strict")


def _set_cookie(
    request: web.Request, response: web.StreamResponse, name: str, value: str, *, days: int, same_site: str
) -> None:
    """Set a cookie that no script can read, and that is sent by https alone if the browser came by https."""
    response.set_cookie(
        name, value, max_age=days * _DAY, path="/", httponly=True, samesite=same_site, secure=_is_https(request)
    )


def _is_https(request: web.BaseRequest) -> bool:
    """Whether the browser came by https, to this server or to a proxy that says so.

    Any client can say so; all that follows is that this browser sends its own cookies by https alone.
    """
    proto = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return (
        request.secure
        or proto == "https"
        or any(part.get("proto", "").lower() == "https" for part in request.forwarded[:1])
        or request.headers.get("Origin", "").startswith("https://")
    )


def _is_same_origin(request: web.Request, host: str) -> bool:
    origin = request.headers.get("Origin")
    if origin is None:  # browsers name the origin; a request without one comes from no page
        return request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _token_page(request: web.Request) -> web.Response:
    """The page that asks for the token, with a message where a wrong one was given."""
    text = _TOKEN_PAGE.read_text(encoding="utf-8")
    is_wrong = request.method == "POST" or "token" in request.query
    return web.Response(
        text=text.replace("{hidden}", "" if is_wrong else "hidden"),
        status=401,
        content_type="text/html",
        # Without a referrer browsers send a form's origin as null.
        headers={"Cache-Control": "no-store", "WWW-Authenticate": "Bearer", "Referrer-Policy": "same-origin"},
    )


async def _token_in_form(request: web.Request) -> str | None:
    """The token in a small form; None where the body is none."""
    length = request.content_length
    if request.content_type != "application/x-www-form-urlencoded" or length is None or length > _MAX_FORM:
        return None
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            data = await request.read()
    except TimeoutError:
        return None
    return parse_qs(data.decode(errors="replace")).get("token", [""])[0].strip()


def _host_name(host: str) -> str | None:
    """The name or address in a Host header, without port and brackets; None where there is none."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name and not set(host) & set("/?#@\\ ") else None


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
