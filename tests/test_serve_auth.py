"""Who is let in, and how everybody else is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar, web
from aiohttp.test_utils import TestServer

from vidstyle.errors import BadOption, VideoError
from vidstyle.serve.auth import Guard
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.http import add_headers, errors_as_json

TOKEN = "correct-horse-battery"


ERRORS = {
    "option": BadOption("strength is 2; it must lie between 0 and 1"),
    "video": VideoError("clip cannot be read"),
    "bug": RuntimeError("secret detail"),
}


async def _ok(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"ok": True})


async def _fail(request: web.Request) -> web.Response:
    raise ERRORS[request.match_info["error"]]


@contextlib.asynccontextmanager
async def guarded(**options: Any) -> AsyncIterator[tuple[ClientSession, str]]:
    """A client, and the address of a small application behind the guard."""
    guard = Guard(ServeOptions(**options)).middleware()
    app = web.Application(middlewares=[errors_as_json, guard], client_max_size=1000)
    app.on_response_prepare.append(add_headers)
    app.add_routes([web.get(path, _ok) for path in ("/", "/health", "/api/state")])
    app.add_routes([web.get("/api/{error:option|video|bug}", _fail), web.post("/api/post", _ok)])
    # Cookies for plain http on an address, as browsers keep them, too.
    async with TestServer(app) as server, ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        yield client, str(server.make_url("/"))


async def told(client: ClientSession, method: str, url: str, **how: Any) -> tuple[int, dict[str, Any]]:
    async with client.request(method, url, allow_redirects=False, **how) as response:
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        if response.status >= 400:
            assert set(found) == {"error"} and len(found["error"]) > 10
        return response.status, found


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("localhost:8360", 200), ("LOCALHOST", 200), ("127.0.0.1:9", 200), ("[::1]:8360", 200),
     ("kiosk.example", 200), ("kiosk.example:443", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421),
     ("localhost.evil.example:8360", 421), ("192.168.1.5", 421), ("", 400), ("a b", 400), ("[::1", 400),
     ("user@localhost", 400), ("localhost/x", 400)],
)  # fmt: skip
async def test_names_of_strangers_are_refused(host: str, status: int) -> None:
    async with guarded(allowed_hosts=("kiosk.example",), open_to_all=True) as (client, url):
        assert (await told(client, "GET", f"{url}api/state", headers={"Host": host}))[0] == status


async def test_addresses_are_no_names_where_others_may_come() -> None:
    async with guarded(host="0.0.0.0", token=TOKEN) as (client, url):
        key = {"Authorization": f"Bearer {TOKEN}"}
        assert (await told(client, "GET", url, headers={"Host": "192.168.1.5:8360", **key}))[0] == 200
        assert (await told(client, "GET", url, headers={"Host": "evil.example", **key}))[0] == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"Origin": "SELF"}, 200), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
     ({"Origin": "http://localhost:1"}, 403), ({"Origin": "SELF.evil.example"}, 403), ({"Origin": "http://[::"}, 403),
     ({"Sec-Fetch-Site": "same-origin"}, 200), ({"Sec-Fetch-Site": "cross-site"}, 403),
     ({"Sec-Fetch-Site": "same-site"}, 403)],
)  # fmt: skip
async def test_pages_of_strangers_change_nothing(headers: dict[str, str], status: int) -> None:
    async with guarded() as (client, url):
        own = {name: value.replace("SELF", url.rstrip("/")) for name, value in headers.items()}
        assert (await told(client, "POST", f"{url}api/post", headers=own))[0] == status


async def test_page_behind_a_proxy_with_https_is_our_own() -> None:
    async with guarded(allowed_hosts=("kiosk.example",), open_to_all=True) as (client, url):
        headers = {"Host": "kiosk.example", "Origin": "https://kiosk.example"}
        assert (await told(client, "POST", f"{url}api/post", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer tökén"],
)
async def test_wrong_tokens_are_refused(authorization: str | None) -> None:
    async with guarded(token=TOKEN) as (client, url):
        headers = {} if authorization is None else {"Authorization": authorization}
        for path in ("", "api/state", "nothing/here"):
            assert (await told(client, "GET", url + path, headers=headers))[0] == 401
        assert (await told(client, "POST", f"{url}api/post", headers=headers))[0] == 401
        assert (await told(client, "GET", f"{url}health", headers=headers))[0] == 200


async def test_token_opens_as_a_header_or_by_the_address_that_was_printed() -> None:
    async with guarded(token=TOKEN) as (client, url):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await told(client, "GET", f"{url}api/state", headers=headers))[0] == 200
        assert (await told(client, "GET", f"{url}?token=wrong-token-wrong"))[0] == 401
        async with client.get(f"{url}?token={TOKEN}", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "./")
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and TOKEN not in cookie
        assert (await told(client, "GET", f"{url}api/state"))[0] == 200  # by the cookie
        client.cookie_jar.clear()
        assert (await told(client, "GET", f"{url}api/state", cookies={"vidstyle_token": TOKEN}))[0] == 401


async def test_every_error_is_json() -> None:
    async with guarded() as (client, url):
        for method, path, status in (
            *(("GET", "nothing", 404), ("GET", "../../etc/passwd", 404), ("DELETE", "api/state", 405)),
            *(("PROPFIND", "api/state", 405), ("GET", "api/option", 400), ("GET", "api/video", 415)),
            *(("GET", "api/bug", 500), ("POST", "api/post", 413)),
        ):
            found, answer = await told(client, method, url + path, data=b"x" * 2000)
            assert found == status and "secret" not in answer["error"], (method, path)


async def test_every_answer_tells_browsers_to_be_careful() -> None:
    async with guarded() as (client, url):
        for path in ("", "api/state", "nothing"):
            async with client.get(url + path) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Referrer-Policy"] == "no-referrer"
                assert "aiohttp" not in response.headers["Server"]


@pytest.mark.parametrize(
    ("headers", "secure"),
    [({}, False), ({"X-Forwarded-Proto": "https"}, True), ({"X-Forwarded-Proto": "HTTPS, http"}, True),
     ({"X-Forwarded-Proto": "http"}, False), ({"Forwarded": "for=192.0.2.9;proto=https"}, True),
     ({"Forwarded": "for=192.0.2.9;proto=http"}, False), ({"Forwarded": ";;="}, False)],
)  # fmt: skip
async def test_cookies_are_secure_where_the_browser_came_by_https(headers: dict[str, str], secure: bool) -> None:
    async with (
        guarded(token=TOKEN) as (client, url),
        client.get(f"{url}?token={TOKEN}", headers=headers, allow_redirects=False) as response,
    ):
        assert response.status == 303 and ("; Secure" in response.headers["Set-Cookie"]) == secure


async def test_browser_without_the_token_is_shown_a_page_that_takes_it() -> None:
    async with guarded(token=TOKEN) as (client, url):
        browser = {"Accept": "text/html,*/*"}
        for path, how, is_wrong in (("", "GET", False), ("?token=wrong", "GET", True), ("", "POST", True)):
            form = {"data": {"token": "wrong"}} if how == "POST" else {}
            async with client.request(how, url + path, headers=browser, allow_redirects=False, **form) as response:
                text = await response.text()
                assert response.status == 401 and response.content_type == "text/html"
                assert 'name="token"' in text and ('role="alert" hidden' not in text) == is_wrong
                assert response.headers["Referrer-Policy"] == "same-origin"  # else a form's origin is null
                assert "form-action 'self'" in response.headers["Content-Security-Policy"]
        strange = {**browser, "Origin": "http://evil.example"}
        assert (await told(client, "POST", url, headers=strange, data={"token": TOKEN}))[0] == 403
        async with client.post(url, headers=browser, data={"token": f" {TOKEN} "}) as response:
            assert response.status == 200 and (await response.json()) == {"ok": True}  # by the cookie
