"""Connections are bounded in number and patience, every error is JSON, files are not sent for ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from unittest.mock import ANY

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from visiting import PATIENCE, answer, raw, small_server, until

from vidstyle.serve.http import BoundedFileResponse, Connections, errors_as_json, file_response, network_of

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "
TRICKLE = (
    b"POST /api/visitors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
)
ASKED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100])
async def test_what_is_no_http_is_answered_in_json_and_fills_no_log(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with small_server(tmp_path) as server:
        reader, writer = await raw(server, data + b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) and b"application/json" in head
    assert b"frame-ancestors 'none'" in head and json.loads(body) == {"error": ANY}
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_an_odd_expect_is_answered_in_json(tmp_path: Path) -> None:
    async with small_server(tmp_path) as server, aiohttp.ClientSession() as http:
        status, found = await answer(http, "GET", f"{server.url}health", headers={"Expect": "something"})
        assert status == 417 and "Expect" in found["error"]


@pytest.mark.parametrize("text", [b"", HALF, TRICKLE, ASKED])
async def test_connections_without_a_request_shut_out_nobody(tmp_path: Path, text: bytes) -> None:
    async with small_server(tmp_path) as server, aiohttp.ClientSession() as http:
        server.connections.limit, server.connections.young_seconds = 40, 0.0
        opened = [await raw(server, text) for _ in range(100)]
        for _ in range(3):
            async with asyncio.timeout(2):
                assert (await answer(http, "GET", f"{server.url}health"))[0] == 200
        assert len(server.connections) <= 20
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("text", [b"", HALF, ASKED + HALF])
async def test_a_head_that_does_not_come_ends_the_connection(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.http.HEADER_SECONDS", 0.3)
    async with small_server(tmp_path) as server:
        reader, writer = await raw(server, text)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                reading = asyncio.ensure_future(reader.read())
                while not reading.done():
                    writer.write(b"x" if text else b"")
                    await asyncio.sleep(0.05)
                assert (b"200 OK" in await reading) == (ASKED in text)
        writer.close()


async def test_one_that_has_just_come_keeps_its_place_through_a_burst(tmp_path: Path) -> None:
    async with small_server(tmp_path) as server:
        server.connections.limit, server.connections.young_seconds = 80, 30.0
        reader, writer = await raw(server, b"")
        opened = [await raw(server, HALF) for _ in range(150)]
        writer.write(ASKED)
        async with asyncio.timeout(PATIENCE):
            assert b"200 OK" in await reader.readline()
        for _, other in [*opened, (reader, writer)]:
            other.close()


def test_one_address_drops_its_own_connections_first() -> None:
    class Line:
        is_served = False

        def __init__(self, address: str) -> None:
            self.network, self.dropped = network_of(address), False
            connections.add(self)

        def drop(self) -> None:
            self.dropped = True

    connections = Connections(8, young_seconds=0)
    good = Line("192.0.2.1")
    bad = [Line(f"2001:db8::{n}") for n in range(9)]
    assert not good.dropped and [line.dropped for line in bad] == [True] * 5 + [False] * 4
    connections.touch(bad[5])
    others = [Line(f"198.51.100.{n}") for n in range(4)]
    assert good.dropped and len(connections) == 8 and not any(line.dropped for line in others)
    for line in (bad[6], bad[7]):
        line.is_served = True
    Line("2001:db8::a")
    assert bad[8].dropped and not (bad[5].dropped or bad[6].dropped)
    for line in [good, *bad, *others]:
        connections.remove(line)
    assert len(connections) == 1


async def test_files_that_nobody_takes_in_are_not_sent_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.http.SEND_SECONDS", 2.0)
    monkeypatch.setattr("vidstyle.serve.http.MIN_SEND_RATE", 1 << 30)
    large = tmp_path / "large"
    large.write_bytes(bytes(32 << 20))

    async def send(request: web.Request) -> web.StreamResponse:
        return file_response(request, large)

    app = web.Application(middlewares=[errors_as_json])
    app.router.add_get("/", send)
    async with TestServer(app) as server:
        asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        lines = [await asyncio.open_connection("127.0.0.1", server.port, limit=1024) for _ in range(16)]
        for _, writer in lines:
            writer.write(asked)
        await until(lambda: BoundedFileResponse.sending == 16)
        async with aiohttp.ClientSession() as http:
            async with http.get(server.make_url("/")) as response:
                assert response.status == 503 and "being sent" in (await response.json())["error"]
            await until(lambda: BoundedFileResponse.sending == 0)
            for _, writer in lines:
                writer.close()
            monkeypatch.setattr("vidstyle.serve.http.SEND_SECONDS", 60.0)
            async with http.get(server.make_url("/")) as response:
                assert len(await response.read()) == 32 << 20
