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
UNANSWERED = 0  # stands for the status where the connection ended without an answer, as it may for what is no HTTP

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
KINDS = {"path": 22, "stranger": 12, "method": 10, "json": 22, "upload": 24, "size": 4, "header": 6, "garbage": 6}
"""How many of a hundred requests are of each kind."""
METHODS = ("PUT", "OPTIONS", "TRACE", "PROPFIND", "FOO", "LINK", "PATCH", "POST", "DELETE", "HEAD")
RANGES = ("bytes=0-", "bytes=-1", "bytes=5-1", "bytes=9999999999999999999-", "bytes=a-b", "x", "bytes=0-1,5-9", "-1")
NAMES = ("blend", "strength", "split", "mirror", "sdp", "type", "look", "title", "x", "__class__", "steps")
PATHS = (
    *("/", "/page/", "/page/app.js", "/health", "/metrics", "/api/state", "/api/styles", "/api/styles/{}"),
    *("/api/styles/{}/thumbnail", "/api/styles/{}/download", "/api/styles/{}/weights"),
    *("/api/visitors", "/api/visitors/{}", "/api/jobs"),
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
    status: int
    headers: str
    body: bytes


class Fuzz:
    """Makes requests from a seed."""

    def __init__(self, seed: int, port: int, media: dict[str, bytes]) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice
        self.port, self.media = port, media

    def next(self) -> Shot:
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        return getattr(self, kind)()

    def http(
        self, kind: str, method: str, target: str, body: bytes = b"", is_http: bool = True, **headers: str | int | None
    ) -> Shot:
        """A request with ``headers``, _ for -; those that are None are left out."""
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {TOKEN}",
            "Cookie": f"vidstyle_session={SESSION}",
            "Connection": "close",
            "Content-Length": len(body) or None,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines])
        return Shot(kind, head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body, is_http)

    def plain(self) -> str:
        """A target that is HTTP."""
        return self.pick(PATHS).replace("{}", quote(self.pick(TRICKS)[:200], safe="%/"))

    def path(self) -> Shot:
        target = self.pick(PATHS).replace("{}", self.pick(TRICKS))
        is_http = not set(target) & set("\\ `{}\"<>^|#'") and "%zz" not in target and target.count("%") != 1
        method = self.pick(("GET", "GET", "GET", "DELETE", "POST", "PATCH", "HEAD"))
        return self.http("path", method, target, is_http=is_http and len(target) < 4000)

    def stranger(self) -> Shot:
        own = f"127.0.0.1:{self.port}"
        wrong: dict[str, str | None] = self.pick(
            [
                {"Authorization": self.pick((None, "Basic " + "A" * 3000, "Bearer " + "é" * 20))},
                {"Authorization": f"Bearer {self.pick((TOKEN + 'x', TOKEN[:-1]))}"},
                {"Authorization": None, "Cookie": f"vidstyle_token={TOKEN}; vidstyle_session=../../x"},
                {"Authorization": None, "Cookie": self.pick((";;;=;\x01", 'a=b; ;=; "="'))},
                {"Host": self.pick(("evil.example", own.replace(":", ".evil.example:"), "[::1", None))},
                {"Origin": self.pick(("null", "http://evil.example", f"http://127.0.0.1:{self.port + 1}", "http://["))},
                {"Sec-Fetch-Site": "cross-site"},
            ]
        )
        is_http = "\x01" not in (wrong.get("Cookie") or "") and wrong.get("Host", own) not in (None, "[::1")
        return self.http("stranger", self.pick(METHODS[-4:]), self.plain(), is_http=is_http, **wrong)

    def method(self) -> Shot:
        return self.http("method", self.pick(METHODS), self.plain(), b"{}", Content_Type="application/json")

    def json(self) -> Shot:
        found: Any = {self.pick(NAMES): self.pick(VALUES) for _ in range(self.random.randrange(4))}
        if self.random.random() < 0.3:
            other = self.pick(("", "m=", "a=mid:" + "x" * 3000, "v=9", "\x00", "c=IN IP4 8.8.8.8"))
            found = {"sdp": SDP.replace(self.pick(SDP.split("\r\n")), other), "type": "offer", **found}
        text = json.dumps(found).encode()
        deep, wide = b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"title": "' + b"x" * 300_000 + b'"}'
        body = self.pick([text] * 3 + [self.damaged(text), deep, wide, json.dumps(self.pick(VALUES)).encode()])
        kinds = ("text/plain", "application/json; charset=utf-99", None)
        target = self.pick(("/api/visitors", "/api/visitors/" + "0" * 32, "/api/styles/great_wave", self.plain()))
        kind = self.pick(("application/json",) * 6 + kinds)
        return self.http("json", self.pick(("POST", "PATCH")), target, body, Content_Type=kind)

    def damaged(self, data: bytes) -> bytes:
        """``data``, cut, or with some bytes changed."""
        draw = self.random.randrange
        if self.random.random() < 0.4:
            return data[: draw(1, len(data))]
        changed = bytearray(data)
        for _ in range(self.pick((1, 5, 50))):
            changed[draw(min(len(changed), self.pick((64, 10**9))))] = draw(256)
        return bytes(changed)

    def part(self, name: str, body: bytes, file: str | None = None) -> bytes:
        about = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
        return f"--b\r\n{about}\r\n\r\n".encode("utf-8", "surrogatepass") + body + b"\r\n"

    def post(self, kind: str, where: str, body: bytes, **how: Any) -> Shot:
        return self.http(kind, "POST", where, body, **{"Content_Type": "multipart/form-data; boundary=b", **how})

    def upload(self) -> Shot:
        """A painting or a video: the file is damaged, or the form."""
        where, file, kinds = self.pick(
            (("/api/jobs/adapt", "painting", ("png", "jpg", "mp4")), ("/api/jobs/render", "video", ("mp4", "png")))
        )
        data = self.damaged(self.media[self.pick(kinds)])
        steps = self.pick((b"0", b"-1", b"2", b"9" * 20, b"x", b"1.5"))
        blend = json.dumps(self.pick(VALUES[-3:] + ([{"style": "great_wave"}],) * 6)).encode()
        text = self.part(self.pick(NAMES), str(self.pick(VALUES)).encode("utf-8", "surrogatepass"))
        known = {"painting": [self.part("steps", steps), self.part("title", self.pick(TRICKS)[:900].encode())]}
        fields = known.get(file, [self.part("blend", blend)])
        parts = self.pick([[], fields[-1:], fields[-1:], fields, [text] * 40])
        body = b"".join([*parts, self.part(file, data, self.pick(TRICKS))]) + self.pick((b"--b--\r\n",) * 4 + (b"",))
        kinds = ("multipart/mixed; boundary=b", "multipart/form-data", f"multipart/form-data; boundary={'b' * 5000}")
        if self.random.random() < 0.2:
            return self.post("upload", where, self.damaged(body), Content_Type=self.pick(kinds))
        return self.post("upload", where, body if self.random.random() < 0.8 else self.damaged(body))

    def size(self) -> Shot:
        where, large = self.pick(("/api/jobs/adapt", "/api/visitors")), self.part("painting", bytes(1_200_000), "x")
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
        lengths = (10**12, 2**63, 10**40, 40 << 20, "-1", "x", "1e3", "+5")
        shots = (
            lambda: self.post("size", where, b"{", is_http=False, Content_Length=self.pick(lengths)),
            lambda: self.post("size", "/api/jobs/adapt", large),
            lambda: self.post("size", "/api/jobs/adapt", chunked, Content_Length=None, Transfer_Encoding="chunked"),
        )
        return self.pick(shots)()

    def header(self) -> Shot:
        headers: dict[str, Any] = self.pick(
            (
                {"Range": self.pick(RANGES)},
                {"If-None-Match": self.pick(('"x"', "*", "W/", "x" * 2000))},
                {"If-Modified-Since": self.pick(("never", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 100))},
                {"Accept-Encoding": "gzip;q=x, br, ***"},
                {"Content-Encoding": "gzip"},
                {"Upgrade": "websocket", "Sec-WebSocket-Key": "x"},
                {"X-Forwarded-Host": "evil.example", "X-HTTP-Method-Override": "DELETE"},
                {"Expect": self.pick(("100-continue", "something"))},
                {f"X-{i}": "y" for i in range(60)},
            )
        )
        target = self.pick(("/", "/page/app.js", "/api/styles/great_wave/thumbnail", self.plain()))
        is_http = "Content-Encoding" not in headers
        return self.http("header", self.pick(("GET", "GET", "POST")), target, is_http=is_http, **headers)

    def garbage(self) -> Shot:
        host = f"Host: 127.0.0.1:{self.port}\r\n".encode()
        data = self.pick(
            (
                self.random.randbytes(500),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
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
                if answer.status == 201 and shot.kind == "upload":
                    await ask("DELETE", f"/api/jobs/{json.loads(answer.body)['id']}")

        await asyncio.gather(*[one(fuzz.next()) for _ in range(REQUESTS)])
        # It still does everything that it should.
        assert (await ask("GET", "/health"))["ok"] is True
        for job in await ask("GET", "/api/jobs"):
            await ask("DELETE", f"/api/jobs/{job['id']}")
        video = fuzz.part("video", media["mp4"], "x.mp4")
        response = await fire(server.port, fuzz.post("after", "/api/jobs/render", video + b"--b--\r\n"))
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
