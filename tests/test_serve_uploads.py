"""Uploads are streamed, bounded in every respect, and named by nobody but the server."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jobserver import files_in
from visiting import raw, small_server, until

from vidstyle.serve.http import errors_as_json
from vidstyle.serve.job import MAX_LABEL, title_of_file
from vidstyle.serve.uploads import MAX_UPLOADS, Uploads, check_painting

MOST = 200_000


@contextlib.asynccontextmanager
async def uploading(folder: Path, *, pause: float = 5, total: float = 10) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of a server that receives files into ``folder``."""

    uploads = Uploads(pause_seconds=pause, total_seconds=total)

    async def take(request: web.Request) -> web.StreamResponse:
        upload = await uploads.receive(request, folder, field="painting", texts={"title": 100}, max_bytes=MOST)
        return web.json_response({"label": upload.title, "size": upload.size, "texts": upload.texts})

    async def check(request: web.Request) -> web.StreamResponse:
        header = check_painting(await uploads.receive(request, folder, field="painting", texts={}, max_bytes=MOST))
        return web.json_response([header.format, header.height, header.width])

    folder.mkdir(exist_ok=True)
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes([web.post("/", take), web.post("/check", check)])
    async with TestClient(TestServer(app)) as client:
        yield client


async def post(client: Any, path: str = "/", **request: Any) -> tuple[int, Any]:
    async with client.post(path, **request) as response:
        return response.status, await response.json()


def form(**fields: bytes | str) -> aiohttp.FormData:
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        made.add_field(name, value, filename="p.png" if isinstance(value, bytes) else None)
    return made


def body_of(*parts: str, end: str = "--b--\r\n") -> dict[str, Any]:
    """A multipart request by hand, boundary ``b``."""
    data = "".join(f"--b\r\n{part}\r\n" for part in parts) + end
    return {"data": data.encode(), "headers": MULTIPART}


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
FILE = 'Content-Disposition: form-data; name="painting"; filename="x"\r\n\r\nabc'


async def test_an_upload_is_one_file_with_its_fields(tmp_path: Path) -> None:
    async with uploading(tmp_path / "in") as client:
        found = await post(client, data=form(title="Blue", painting=b"x" * 150_000))
        assert found == (200, {"label": "p", "size": 150_000, "texts": {"title": "Blue"}})
    assert files_in(tmp_path) == {"in/input"}
    assert (tmp_path / "in" / "input").read_bytes() == b"x" * 150_000


async def test_the_name_of_a_file_is_a_label_and_no_path(tmp_path: Path) -> None:
    labels = {"../../../../etc/passwd": "passwd", "/absolute/cat.jpg": "cat", "C:\\Windows\\win.ini": "win"}
    labels |= {"%2e%2e%2fx.png": "%2e%2e%2fx", "a\u202egpj.exe": "a gpj", "..": "Untitled", "": "Untitled"}
    labels |= {"<script>.png": "<script>", "n" * 500 + ".png": "n" * MAX_LABEL}
    async with uploading(tmp_path / "in") as client:
        for name, label in labels.items():
            (tmp_path / "in" / "input").unlink(missing_ok=True)
            escaped = name.replace("\\", "\\\\")
            status, found = await post(client, **body_of(FILE.replace('filename="x"', f'filename="{escaped}"')))
            assert (status, found.get("label"), title_of_file(name)) == (200, label, label), found
    assert files_in(tmp_path) == {"in/input"}


def about(words: str) -> str:
    return f"Content-Disposition: form-data; {words}"


async def test_everything_but_one_file_with_known_fields_is_refused(tmp_path: Path) -> None:
    multipart, title = "multipart/form-data", about('name="title"\r\n\r\na')
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"data": form(painting=b"a", other="x")}, 400, "'other'"),
        ({"data": form(title="only")}, 400, "missing"),
        ({"data": form(painting=b"")}, 400, "empty"),
        ({"data": form(painting=b"a", title="t" * 101)}, 413, "100 bytes"),
        ({"data": form(painting=b"x" * (MOST + 100_000))}, 413, f"{MOST} bytes"),  # declared
        ({"json": {"painting": "x"}}, 415, "multipart"),
        ({"data": b"", "headers": {"Content-Type": multipart}}, 400, "damaged"),
        ({"data": b"abc", "headers": MULTIPART}, 400, "damaged"),
        ({"data": b"a", "headers": {"Content-Type": f"{multipart}; boundary={'b' * 200}"}}, 400, "damaged"),
        (body_of(FILE, FILE), 400, "two files"),
        (body_of(FILE, end=""), 400, "damaged"),
        (body_of(FILE, title, title), 400, "twice"),
        (body_of(title, end=""), 400, "damaged"),
        (body_of(about("filename=x\r\n\r\nabc")), 400, "without a name"),
        (body_of("Content-Type: text/plain\r\n\r\nabc"), 400, "without a name"),
        (body_of("Content-Disposition: \\\x01;;=;\r\n\r\nabc"), 400, ""),
        (body_of(FILE.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n")), 415, "encoded"),
        (body_of(FILE.replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n")), 400, "fields"),
        (body_of(f"X: {'h' * 20_000}\r\n\r\nabc"), 400, "damaged"),
        (body_of(about('name="_charset_"\r\n\r\n' + "u" * 50)), 400, "damaged"),
    ]
    for number, (request, status, word) in enumerate(wrong):
        async with uploading(tmp_path / str(number)) as client:
            found = await post(client, **request)
            assert found[0] == status and word in found[1]["error"], (request, found)
    assert {Path(path).name for path in files_in(tmp_path)} <= {"input"}


async def test_an_endless_upload_ends_at_the_limit(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield f"--b\r\n{FILE}".encode()
        while sent < 100 << 20:
            sent += 65536
            yield bytes(65536)

    async with uploading(tmp_path / "in") as client:
        with contextlib.suppress(aiohttp.ClientError):  # the server may close the connection while it is written to
            found = await post(client, data=endless(), headers=MULTIPART)
            assert found[0] == 413, found
    assert (tmp_path / "in" / "input").stat().st_size <= MOST
    assert sent < 100 << 20


@pytest.mark.parametrize("times", [{"pause": 0.2}, {"total": 0.5}])
async def test_a_slow_upload_is_ended(tmp_path: Path, times: dict[str, float]) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield f"--b\r\n{FILE}".encode()
        for _ in range(6):
            await asyncio.sleep(0.12 if "total" in times else 0.4)
            yield bytes(66_000) if "total" in times else b"x"

    async with uploading(tmp_path / "in", **times) as client:
        found = await post(client, data=drip(), headers=MULTIPART)
        assert found[0] in (408, 413) and (found[0] == 408 or "total" in times), found


def png(height: int, width: int) -> bytes:
    """A PNG of some 60 bytes that claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def test_a_painting_is_known_by_its_header(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    wrong = {b"GIF89a" + bytes(50): "GIF", b"<svg xmlns='x'/>": "SVG", b"#!/bin/sh\necho": "not a picture"}
    wrong |= {png(60_000, 60_000): "60000x60000", png(40, 40)[:18]: "cut short", b"\xff\xd8\xff\xe0": "cut short"}
    for number, (data, word) in enumerate(wrong.items()):
        async with uploading(tmp_path / str(number)) as client:
            status, found = await post(client, "/check", data=form(painting=data))
            assert status == 415 and word in found["error"] and str(tmp_path) not in found["error"], found
    async with uploading(tmp_path / "in") as client:
        assert await post(client, "/check", data=form(painting=jpeg)) == (200, ["jpeg", 20, 30])


BOUNDARY = b'--b\r\nContent-Disposition: form-data; name="painting"; filename="x.png"\r\n\r\n'
UPLOAD = (
    b"POST /api/jobs/adapt HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 6000000\r\n\r\n" + BOUNDARY + b"x" * 1000
)


async def test_uploads_are_bounded_and_those_that_trickle_shut_out_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_server(tmp_path, queue=1) as server, aiohttp.ClientSession() as http:
        slow = [await raw(server, UPLOAD) for _ in range(MAX_UPLOADS)]
        await until(lambda: len(server.jobs.uploads) == MAX_UPLOADS)  # they take no place among jobs
        status, found = await post(http, f"{server.url}api/jobs/adapt", data=form(painting=b"no picture"))
        assert status == 429 and f"{MAX_UPLOADS} uploads are under way" in found["error"]
        monkeypatch.setattr("vidstyle.serve.uploads.GRACE_SECONDS", 0.1)
        await asyncio.sleep(0.2)
        status, found = await post(http, f"{server.url}api/jobs/adapt", data=form(painting=b"no picture"))
        assert status in (400, 415), found
        response = await slow[0][0].read(2000)
        assert b" 408 " in response and b"too slow" in response
        for _, writer in slow:
            writer.close()
        await until(lambda: not len(server.jobs.uploads))


async def test_an_upload_must_keep_coming(tmp_path: Path) -> None:
    async with small_server(tmp_path) as server:
        server.jobs.uploads.pause_seconds = 0.4
        reader, writer = await raw(server, UPLOAD)
        async with asyncio.timeout(10):
            reading = asyncio.ensure_future(reader.readline())
            while not reading.done():
                writer.write(b"x" * 10)
                await asyncio.sleep(0.05)
            assert b" 408 " in await reading
        writer.close()
