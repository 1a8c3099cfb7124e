"""Uploads are streamed, bounded in every respect, and named by nobody but the server."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jobserver import files_in

from vidstyle.serve.http import errors_as_json
from vidstyle.serve.job import MAX_LABEL, clean_label, download_name, title_of_file
from vidstyle.serve.uploads import check_painting, receive

MOST = 200_000


def uploading(
    folder: Path, body: Callable[[TestClient[Any, Any]], Awaitable[None]], *, pause: float = 5, total: float = 10
) -> None:
    """Run ``body`` with a client of a server that receives files into ``folder``."""

    async def take(request: web.Request) -> web.StreamResponse:
        upload = await receive(
            request,
            folder,
            field="painting",
            texts={"title": 100},
            max_bytes=MOST,
            pause_seconds=pause,
            total_seconds=total,
        )
        return web.json_response({"label": upload.title, "size": upload.size, "texts": upload.texts})

    async def check(request: web.Request) -> web.StreamResponse:
        upload = await receive(request, folder, field="painting", texts={}, max_bytes=MOST)
        header = check_painting(upload)
        return web.json_response([header.format, header.height, header.width])

    async def run() -> None:
        app = web.Application(middlewares=[errors_as_json])
        app.add_routes([web.post("/", take), web.post("/check", check)])
        async with TestClient(TestServer(app)) as client:
            await body(client)

    folder.mkdir(exist_ok=True)
    asyncio.run(run())


async def answer(client: TestClient[Any, Any], path: str = "/", **request: Any) -> tuple[int, Any]:
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
    return {"data": data.encode(), "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


FILE = 'Content-Disposition: form-data; name="painting"; filename="x"\r\n\r\nabc'


def test_an_upload_is_one_file_with_its_fields(tmp_path: Path) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        found = await answer(client, data=form(title="Blue", painting=b"x" * 150_000))
        assert found == (200, {"label": "p", "size": 150_000, "texts": {"title": "Blue"}})

    uploading(tmp_path / "in", body)
    assert files_in(tmp_path) == {"in/input"}
    assert (tmp_path / "in" / "input").read_bytes() == b"x" * 150_000


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../../../etc/passwd", "passwd"),
        ("/absolute/cat.jpg", "cat"),
        ("C:\\Windows\\win.ini", "win"),
        ("%2e%2e%2fx.png", "%2e%2e%2fx"),
        ("a\u202egpj.exe", "a gpj"),
        ("..", "Untitled"),
        ("", "Untitled"),
        ("<script>.png", "<script>"),
        ("n" * 500 + ".png", "n" * MAX_LABEL),
    ],
)
def test_the_name_of_a_file_is_a_label_and_no_path(tmp_path: Path, name: str, label: str) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        escaped = name.replace("\\", "\\\\")
        status, found = await answer(client, **body_of(FILE.replace('filename="x"', f'filename="{escaped}"')))
        assert (status, found.get("label")) == (200, label), found
        assert title_of_file(name) == label

    uploading(tmp_path / "in", body)
    assert files_in(tmp_path) == {"in/input"}


@pytest.mark.parametrize(
    ("request_", "status", "word"),
    [
        ({"data": form(painting=b"a", other="x")}, 400, "'other'"),
        ({"data": form(title="only")}, 400, "missing"),
        ({"data": form(painting=b"")}, 400, "empty"),
        ({"data": form(painting=b"a", title="t" * 101)}, 413, "100 bytes"),
        ({"json": {"painting": "x"}}, 415, "multipart"),
        ({"data": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "damaged"),
        ({"data": b"abc", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "damaged"),
        ({"data": b"a", "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 200}"}}, 400, "damaged"),
        (body_of(FILE, FILE), 400, "two files"),
        (body_of(FILE, end=""), 400, "damaged"),
        (body_of(FILE, *['Content-Disposition: form-data; name="title"\r\n\r\na'] * 2), 400, "twice"),
        (body_of('Content-Disposition: form-data; name="title"\r\n\r\na', end=""), 400, "damaged"),
        (body_of("Content-Disposition: form-data; filename=x\r\n\r\nabc"), 400, "without a name"),
        (body_of("Content-Type: text/plain\r\n\r\nabc"), 400, "without a name"),
        (body_of("Content-Disposition: \\\x01;;=;\r\n\r\nabc"), 400, ""),
        (body_of(FILE.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n")), 415, "encoded"),
        (
            body_of(FILE.replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n")),
            400,
            "fields of its",
        ),
        (body_of(f"X: {'h' * 20_000}\r\n\r\nabc"), 400, "damaged"),
        (body_of(*['Content-Disposition: form-data; name="_charset_"\r\n\r\n' + "u" * 50]), 400, "damaged"),
    ],
)
def test_everything_but_one_file_with_known_fields_is_refused(
    tmp_path: Path, request_: dict[str, Any], status: int, word: str
) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        found = await answer(client, **request_)
        assert found[0] == status, found
        assert word in found[1]["error"]

    uploading(tmp_path / "in", body)
    assert files_in(tmp_path) <= {"in/input"}


def test_a_declared_size_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        found = await answer(client, data=form(painting=b"x" * (MOST + 100_000)))
        assert found == (
            413,
            {"error": f"the painting is too large: at most {MOST} bytes are taken; make it smaller first"},
        )

    uploading(tmp_path / "in", body)
    assert files_in(tmp_path) == set()


def test_an_endless_upload_ends_at_the_limit(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield f"--b\r\n{FILE}".encode()
        while sent < 100 << 20:
            sent += 65536
            yield bytes(65536)

    async def body(client: TestClient[Any, Any]) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        try:
            found = await answer(client, data=endless(), headers=headers)
            assert found[0] == 413, found
        except aiohttp.ClientError:
            pass  # the server has closed the connection while it was written to

    uploading(tmp_path / "in", body)
    assert (tmp_path / "in" / "input").stat().st_size <= MOST
    assert sent < 100 << 20


@pytest.mark.parametrize("times", [{"pause": 0.2}, {"total": 0.5}])
def test_a_slow_upload_is_ended(tmp_path: Path, times: dict[str, float]) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield f"--b\r\n{FILE}".encode()
        for _ in range(6):
            await asyncio.sleep(0.12 if "total" in times else 0.4)
            yield bytes(66_000) if "total" in times else b"x"

    async def body(client: TestClient[Any, Any]) -> None:
        found = await answer(client, data=drip(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert found[0] in (408, 413) and (found[0] == 408 or "total" in times), found

    uploading(tmp_path / "in", body, **times)


def png(height: int, width: int) -> bytes:
    """A PNG of some 60 bytes that claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"GIF89a" + bytes(50), "GIF"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"#!/bin/sh\necho", "not a picture"),
        (png(60_000, 60_000), "60000x60000"),
        (png(40, 40)[:18], "cut short"),
        (b"\xff\xd8\xff\xe0", "cut short"),
    ],
)
def test_what_is_no_sane_picture_is_refused_by_its_header(tmp_path: Path, data: bytes, word: str) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        status, found = await answer(client, "/check", data=form(painting=data))
        assert status == 415, found
        assert word in found["error"] and str(tmp_path) not in found["error"]

    uploading(tmp_path / "in", body)


def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()

    async def body(client: TestClient[Any, Any]) -> None:
        assert await answer(client, "/check", data=form(painting=jpeg)) == (200, ["jpeg", 20, 30])

    uploading(tmp_path / "in", body)


def test_labels_are_one_clean_line() -> None:
    assert clean_label("  a\r\n\tb\x00\x1b[31m c ") == "a b [31m c"
    assert clean_label("\u202e\u200b\ud800", "none") == "none"
    assert clean_label("Cafe\u0301") == "Café"
    assert len(clean_label("x" * 10**6)) == MAX_LABEL


def test_download_names_are_safe_in_a_header_and_keep_their_letters() -> None:
    assert download_name('Café "au" lait/..\\x', ".mp4") == (
        "attachment; filename=\"Cafe au lait .. x.mp4\"; filename*=UTF-8''Caf%C3%A9%20au%20lait%20..%20x.mp4"
    )
    assert download_name("//..//", ".mp4").startswith('attachment; filename="vidstyle.mp4"')
    assert download_name("星月夜", ".mp4").startswith(
        "attachment; filename=\"vidstyle.mp4\"; filename*=UTF-8''%E6%98%9F"
    )
