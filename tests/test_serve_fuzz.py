"""A thousand requests of strangers: none makes the server fail, none gets anywhere it should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from jobserver import files_in
from media import make_video
from pictures import painting, save

from vidstyle.options import BackendOptions
from vidstyle.serve.app import Server
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.job import INPUT, PREVIEW, RENDER_STYLE, SPEC, STATE, STYLE, VIDEO, is_id
from vidstyle.serve.worker import FAILURE

REQUESTS = 1000
TOKEN = "fuzz-token-of-no-worth"
SESSION = "f" * 43
REST_SECONDS = 1.5
UNANSWERED = 0
"""Stands for the status where the connection ended without an answer, as it may for what is no HTTP."""

_WORDS = r"""
    .. ../../etc/passwd ..%2f..%2fetc%2fpasswd %2e%2e/%2e%2e/job.json ....//....// %252e%252e%252f /etc/passwd
    //etc/passwd %2fetc%2fpasswd C:\Windows\win.ini C:%5CWindows%5Cwin.ini ..%5c..%5cx \\host\share a%00b %00
    %c0%ae%c0%ae %ff%fe %F0%9F%8E%A8 %E2%80%AE %0d%0aSet-Cookie:x=1 . ~ ~root * CON nul.txt ;ls $(id) `id` {{7*7}} %
    %zz mine mine/ mine/.. mine/%2e%2e -1 1e999 job.json .server style.safetensors index.html app.js __init__.py ..;/
    ? # '"<>
"""
TRICKS = (*_WORDS.split(), "", "a" * 5000, "%61" * 2000, "0" * 32, "f" * 32, "F" * 32, "mine/" + "0" * 32)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 10**400, 2**63, "", "1", "NaN", "\x00", "\ud800", "x" * 3000),
    *([], {}, [[]], [None], {"": ""}, {"style": {}}, [{"style": "great_wave", "weight": 1}], "great_wave", "../x"),
    *([{"style": "mine/" + "0" * 32}], [{"style": "great_wave", "weight": "1"}], [{"style": "great_wave"}] * 50),
)
KINDS = ("path", "stranger", "method", "json", "multipart", "painting", "video", "size", "header", "garbage")
METHODS = ("PUT", "OPTIONS", "TRACE", "PROPFIND", "FOO", "LINK", "PATCH", "POST", "DELETE", "HEAD")
RANGES = ("bytes=0-", "bytes=-1", "bytes=5-1", "bytes=9999999999999999999-", "bytes=a-b", "x", "bytes=0-1,5-9", "-1")
NAMES = ("blend", "strength", "split", "mirror", "sdp", "type", "look", "title", "x", "__class__", "steps")
PATHS = (
    *("/", "/page/", "/page/app.js", "/health", "/metrics", "/api/state", "/api/styles", "/api/styles/{}"),
    *("/api/styles/{}/thumbnail", "/api/styles/{}/download", "/api/visitors", "/api/visitors/{}", "/api/jobs"),
    *("/api/jobs/adapt", "/api/jobs/render", "/api/jobs/{}", "/api/jobs/{}/result", "/api/jobs/{}/preview"),
    *("/api/jobs/{}/keep", "/page/{}", "/{}", "/api/{}"),
)
SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
    "c=IN IP4 0.0.0.0\r\na=rtpmap:96 VP8/90000\r\na=mid:0\r\na=sendrecv\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=rtcp-mux\r\n"
)


class Shot(NamedTuple):
    """One request, byte for byte."""

    kind: str
    data: bytes
    is_http: bool = True
    """Whether it is whole HTTP, which must be answered."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: str
    body: bytes


class Fuzz:
    """Makes requests from a seed."""

    def __init__(self, seed: int, port: int, media: dict[str, bytes]) -> None:
        self.random = random.Random(seed)
        self.port, self.media = port, media

    def next(self) -> Shot:
        shot: Shot = getattr(self, self.random.choices(KINDS, (20, 12, 10, 20, 12, 8, 2, 6, 6, 6))[0])()
        return shot

    def http(
        self,
        kind: str,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        type: str | None = None,
        headers: dict[str, str] | None = None,
        length: int | str | None = None,
        is_http: bool = True,
    ) -> Shot:
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {TOKEN}",
            "Cookie": f"vidstyle_session={SESSION}",
            "Connection": "close",
            **({"Content-Type": type} if type else {}),
            **({"Content-Length": str(len(body) if length is None else length)} if body or length is not None else {}),
            **(headers or {}),
        }
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value != "-")]
        return Shot(kind, "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body, is_http)

    def target(self) -> str:
        return self.random.choice(PATHS).replace("{}", self.random.choice(TRICKS))

    def plain(self) -> str:
        """A target that is HTTP."""
        return self.random.choice(PATHS).replace("{}", quote(self.random.choice(TRICKS)[:200], safe="%/"))

    def path(self) -> Shot:
        target = self.target()
        method = self.random.choice(("GET", "GET", "GET", "DELETE", "POST", "PATCH", "HEAD"))
        is_http = not set(target) & set("\\ `{}\"<>^|#'") and "%zz" not in target and target.count("%") != 1
        return self.http("path", method, target, is_http=is_http and len(target) < 4000)

    def stranger(self) -> Shot:
        own, pick = f"127.0.0.1:{self.port}", self.random.choice
        wrong: dict[str, str] = pick(
            [
                {"Authorization": pick(("-", "Basic " + "A" * 3000, "Bearer " + "é" * 20))},
                {"Authorization": f"Bearer {pick((TOKEN + 'x', TOKEN[:-1]))}"},
                {"Authorization": "-", "Cookie": f"vidstyle_token={TOKEN}; vidstyle_session=../../x"},
                {"Authorization": "-", "Cookie": ";;;=;\x01" if self.random.random() < 0.2 else 'a=b; ;=; "="'},
                {"Host": pick(("evil.example", own.replace(":", ".evil.example:"), "[::1", "-"))},
                {"Origin": pick(("null", "http://evil.example", f"http://127.0.0.1:{self.port + 1}", "http://[::1"))},
                {"Sec-Fetch-Site": "cross-site"},
            ]
        )
        method = self.random.choice(("GET", "POST", "PATCH", "DELETE"))
        is_http = "\x01" not in wrong.get("Cookie", "") and wrong.get("Host") not in ("-", "[::1")
        return self.http("stranger", method, self.plain(), headers=wrong, is_http=is_http)

    def method(self) -> Shot:
        method = self.random.choice(METHODS)
        return self.http("method", method, self.plain(), b"{}", type="application/json")

    def json(self) -> Shot:
        pick = self.random.choice
        kind = pick(("object", "object", "object", "deep", "cut", "wide", "bytes", "value"))
        found: Any = {pick(NAMES): pick(VALUES) for _ in range(self.random.randrange(4))}
        if kind == "object" and self.random.random() < 0.3:
            other = pick(("", "m=", "a=mid:" + "x" * 3000, "v=9", "\x00", "c=IN IP4 8.8.8.8"))
            found = {"sdp": SDP.replace(pick(SDP.split("\r\n")), other), "type": "offer", **found}
        text = json.dumps(pick(VALUES) if kind == "value" else found)
        body = {
            "deep": (b"[" * 5000, b'{"a":' * 3000 + b"1" + b"}" * 3000)[self.random.randrange(2)],
            "cut": text.encode()[: len(text) // 2],
            "wide": b'{"title": "' + b"x" * 300_000 + b'"}',
            "bytes": self.random.randbytes(200),
        }.get(kind, text.encode())
        others = ("text/plain", "application/json; charset=utf-99", "", "application/x-json")
        type = pick(("application/json",) * 6 + others)
        target = pick(("/api/visitors", "/api/visitors/" + "0" * 32, "/api/styles/great_wave", self.plain()))
        return self.http("json", pick(("POST", "PATCH")), target, body, type=type or None)

    def part(self, name: str, body: bytes, file: str | None = None, more: str = "") -> bytes:
        about = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
        return f"{about}\r\n{more}\r\n".encode("utf-8", "surrogatepass") + body + b"\r\n"

    def upload(self, kind: str, where: str, *parts: bytes, end: bytes = b"--b--\r\n", **how: Any) -> Shot:
        body = b"".join(b"--b\r\n" + part for part in parts) + end
        return self.http(kind, "POST", where, body, **{"type": "multipart/form-data; boundary=b", **how})

    def multipart(self) -> Shot:
        pick = self.random.choice
        where, file = pick((("/api/jobs/adapt", "painting"), ("/api/jobs/render", "video")))
        good = self.part(file, b"GIF89a" + bytes(20) if file == "painting" else b"no video", pick(TRICKS))
        text = self.part(pick(NAMES), str(pick(VALUES)).encode("utf-8", "surrogatepass"))
        type = pick(("multipart/form-data", "multipart/mixed; boundary=b", "x"))
        long = f"multipart/form-data; boundary={'b' * pick((0, 71, 5000))}"
        more = pick(("Content-Transfer-Encoding: base64\r\n", "Content-Encoding: gzip\r\n", "Content-Length: -5\r\n"))
        nested = self.part(file, b"--c\r\n\r\nx\r\n--c--", None, "Content-Type: multipart/mixed; boundary=c\r\n")
        parts, how = pick(
            [
                *(([text, text, good], {}), ([text] * 40, {}), ([good], {"end": b""}), ([good], {"type": type})),
                *(([good], {"type": long}), ([nested], {}), ([self.random.randbytes(300), good], {})),
                ([self.part(file, b"x", "x", f"X: {'h' * 30_000}\r\n")], {}),
                ([self.part(file, b"x" * 100, "x", more)], {}),
                ([self.part(pick(TRICKS).replace('"', ""), b"x", pick(TRICKS))], {}),
            ]
        )
        return self.upload("multipart", where, *parts, **how)

    def damaged(self, data: bytes) -> bytes:
        """``data``, cut, or with some bytes changed."""
        draw = self.random.randrange
        if self.random.random() < 0.4:
            return data[: draw(1, len(data))]
        changed = bytearray(data)
        for _ in range(self.random.choice((1, 5, 50))):
            changed[draw(min(len(changed), self.random.choice((64, 10**9))))] = draw(256)
        return bytes(changed)

    def painting(self) -> Shot:
        pick = self.random.choice
        steps = self.part("steps", pick((b"0", b"-1", b"2", b"9" * 20, b"x", b"1.5")))
        title = self.part("title", pick(TRICKS)[:900].encode())
        picture = self.part("painting", self.damaged(self.media[pick(("png", "jpg", "mp4"))]), pick(TRICKS))
        parts = [steps, title, picture] if self.random.random() < 0.3 else [title, picture]
        return self.upload("painting", "/api/jobs/adapt", *parts)

    def video(self) -> Shot:
        blend = json.dumps(self.random.choice(VALUES[-3:] + ([{"style": "great_wave"}],) * 6)).encode()
        data = self.damaged(self.media[self.random.choice(("mp4", "mp4", "png"))])
        name = self.random.choice(TRICKS)
        return self.upload("video", "/api/jobs/render", self.part("blend", blend), self.part("video", data, name))

    def size(self) -> Shot:
        pick = self.random.choice
        form = "multipart/form-data; boundary=b"
        where, type = pick((("/api/jobs/adapt", form), ("/api/visitors", "application/json")))
        kind = self.random.randrange(4)
        if kind == 0:  # declared
            length = pick((10**12, 2**63, 10**40, 40 << 20))
            return self.http("size", "POST", where, b"{", type=type, length=length, is_http=False)
        if kind == 1:  # real
            return self.upload("size", "/api/jobs/adapt", self.part("painting", bytes(1_200_000), "x"))
        if kind == 2:  # real, and declared nowhere
            chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
            head = b"--b\r\n" + self.part("painting", b"", "x")[:-2]
            body = f"{len(head):x}\r\n".encode() + head + b"\r\n" + chunk * 20 + b"0\r\n\r\n"
            chunked = {"Transfer-Encoding": "chunked", "Content-Length": "-"}
            return self.http("size", "POST", "/api/jobs/adapt", body, type=form, headers=chunked)
        return self.http("size", "POST", where, b"{", type=type, length=pick(("-1", "x", "1e3", "+5")), is_http=False)

    def header(self) -> Shot:
        pick = self.random.choice
        headers = pick(
            (
                {"Range": pick(RANGES)},
                {"If-None-Match": pick(('"x"', "*", "W/", "x" * 2000))},
                {"If-Modified-Since": pick(("never", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 100))},
                {"Accept-Encoding": "gzip;q=x, br, ***"},
                {"Content-Encoding": "gzip"},
                {"Upgrade": "websocket", "Sec-WebSocket-Key": "x"},
                {"X-Forwarded-Host": "evil.example", "X-HTTP-Method-Override": "DELETE"},
                {"Expect": pick(("100-continue", "something"))},
                {f"X-{i}": "y" for i in range(60)},
            )
        )
        target = pick(("/", "/page/app.js", "/api/styles/great_wave/thumbnail", self.plain()))
        is_http = "Content-Encoding" not in headers
        return self.http("header", pick(("GET", "GET", "POST")), target, headers=headers, is_http=is_http)

    def garbage(self) -> Shot:
        host = f"Host: 127.0.0.1:{self.port}\r\n".encode()
        data = self.random.choice(
            (
                self.random.randbytes(500),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
                b"GET\r\n\r\n",
                b"GET / HTTP/9.9\r\n" + host + b"\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"A: b\r\n" * 3000 + b"\r\n",
                b"GET / HTTP/1.1\r\n" + host * 2 + b"\r\n",
                b"POST /api/visitors HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                b"GET http://evil.example/ HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
                b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
                b"\r\n" * 50,
            )
        )
        return Shot("garbage", data, False)


async def fire(port: int, shot: Shot) -> Answer:
    """Send it, read what comes until the server closes. For the rest of what is no HTTP it may wait for long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = b""
    try:
        # The server may answer, and close, before it has all.
        with contextlib.suppress(OSError):
            writer.write(shot.data)
            async with asyncio.timeout(60):
                await writer.drain()
        with contextlib.suppress(OSError if shot.is_http else TimeoutError, ConnectionError):
            async with asyncio.timeout(60 if shot.is_http else REST_SECONDS):
                while chunk := await reader.read(1 << 16):
                    data += chunk
    finally:
        writer.close()
    if data.startswith(b"HTTP/1.1 100"):
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return Answer(int(status[1]) if status else UNANSWERED, head.decode("latin-1"), body)


def check(shot: Shot, answer: Answer, secret: str) -> None:
    """Fail where an answer is not what a stranger should get."""
    said = f"{shot.kind}: {shot.data[:300]!r}\n-> {answer.status} {answer.body[:300]!r}"
    assert answer.status < 500, said
    assert answer.status != UNANSWERED or not shot.is_http or shot.kind == "size", said
    text = answer.body.decode("latin-1")
    assert "Traceback" not in text and secret not in text and TOKEN not in text, said
    is_head = shot.data.startswith(b"HEAD ")
    if answer.status >= 400 and not is_head and (shot.is_http or "application/json" in answer.headers):
        found = json.loads(answer.body)
        assert set(found) == {"error"} and isinstance(found["error"], str) and "\n" not in found["error"], said
    if "Server: vidstyle" in answer.headers:  # else it was no HTTP, and never got further than the parser
        assert "X-Content-Type-Options: nosniff" in answer.headers, said
        assert "frame-ancestors 'none'" in answer.headers, said
    assert answer.headers.count("evil") == 0 and "\r\nSet-Cookie:x=1" not in answer.headers, said


@pytest.mark.slow
async def test_a_thousand_bad_requests_do_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "outer" / "serve"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret of the machine")
    picture, made = painting(3, (64, 80)), tmp_path / "media"
    media = {
        **{name: save(picture, made / f"x.{name}").read_bytes() for name in ("png", "jpg")},
        "mp4": make_video(made / "x.mp4", size=(32, 48), frames=10).read_bytes(),
    }
    before, here = files_in(tmp_path), {path.name for path in Path.cwd().iterdir()}
    counts: Counter[int] = Counter()
    options = ServeOptions(port=0, token=TOKEN, folder=folder, upload_mib=1, queue=3, max_seconds=5, size=(48, 64))
    async with Server(options, backend=BackendOptions(threads=1)) as server:
        fuzz, gate = Fuzz(7, server.port, media), asyncio.Semaphore(6)

        async def ask(method: str, path: str) -> Any:
            return json.loads((await fire(server.port, fuzz.http("after", method, path))).body)

        async def one(shot: Shot) -> None:
            async with gate:
                answer = await fire(server.port, shot)
                check(shot, answer, str(tmp_path))
                counts[answer.status] += 1
                if answer.status == 201 and shot.kind in ("painting", "video", "multipart"):
                    await ask("DELETE", f"/api/jobs/{json.loads(answer.body)['id']}")

        await asyncio.gather(*[one(fuzz.next()) for _ in range(REQUESTS)])
        # It still does everything that it should.
        assert (await ask("GET", "/health"))["ok"] is True
        for job in await ask("GET", "/api/jobs"):
            await ask("DELETE", f"/api/jobs/{job['id']}")
        video = fuzz.part("video", media["mp4"], "x.mp4")
        response = await fire(server.port, fuzz.upload("after", "/api/jobs/render", video))
        assert response.status == 201, response
        state = json.loads(response.body)
        while state["state"] in ("queued", "running"):
            await asyncio.sleep(0.1)
            state = await ask("GET", f"/api/jobs/{state['id']}")
        assert state["state"] == "done", state
    complaints = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not complaints, "\n".join(complaints[:5])
    assert sum(counts.values()) == REQUESTS
    # It has come far enough to be refused for every reason that there is.
    assert {200, 201, 400, 401, 403, 404, 405, 413, 415, 421} <= set(counts), counts
    assert counts[UNANSWERED] < REQUESTS / 20, counts
    names = {INPUT, STATE, STYLE, VIDEO, PREVIEW, RENDER_STYLE, SPEC, FAILURE}
    for path in files_in(tmp_path) - before - {"outer/serve/.server"}:
        outer, serve, id, name = path.split("/")
        assert (outer, serve) == ("outer", "serve") and is_id(id) and name in names, path
    assert before <= files_in(tmp_path) and (tmp_path / "secret").read_text() == "secret of the machine"
    assert {path.name for path in Path.cwd().iterdir()} == here
