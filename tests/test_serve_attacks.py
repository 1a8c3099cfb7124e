"""Visitors who mean harm: the server lives, and those beside them hardly notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from attacking import Sender, encoded, h264_claiming, packets, vp8_claiming
from test_serve_webrtc import PATIENCE, answer, with_server
from visiting import Camera, Guest, photo, until

from vidstyle.serve.app import Server
from vidstyle.serve.http import BoundedFileResponse, Connections, errors_as_json, file_response
from vidstyle.serve.uploads import MAX_UPLOADS, receive


@pytest.mark.parametrize(
    ("codec", "data", "word"),
    [("VP8", vp8_claiming((16383, 16383)), "16383x16383"), ("VP8", vp8_claiming((1088, 1920)), "too large"),
     ("H264", h264_claiming((16384, 16384)) + encoded("H264", (64, 64))[0], "16384x16384"),
     ("H264", h264_claiming((16384, 16384), crop=(16368, 16368)), "too large")],
    ids=["VP8", "upright", "H264", "cropped"],
)  # fmt: skip
def test_who_sends_pictures_that_are_too_large_is_ended_and_told(
    tmp_path: Path, codec: str, data: bytes, word: str
) -> None:
    good = packets(codec, encoded(codec, (96, 160))[0])

    async def body(server: Server) -> None:
        guest = Sender(server.url, lambda n: good if n < 5 else packets(codec, data), codec)
        await guest.come()
        await until(lambda: not len(server.peers), PATIENCE)
        status, found = await answer(guest.http, "GET", f"{server.url}api/visitors/{guest.id}")
        assert status == 404 and word in found["error"] and "1920x1080" in found["error"]
        status, found = await answer(guest.http, "GET", f"{server.url}api/state")
        assert found["limits"]["camera_pixels"] == 1920 * 1080
        await guest.leave(politely=False)
        await until(lambda: not server.peers.leaving)
        assert not [thread for thread in threading.enumerate() if "decoder" in thread.name]

    with_server(tmp_path, body)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_more_pictures_than_can_be_decoded_hold_up_nobody(tmp_path: Path, codec: str) -> None:
    key = packets(codec, vp8_claiming((1080, 1920)) if codec == "VP8" else encoded(codec, (1080, 1920))[0])

    async def body(server: Server) -> None:
        async with Guest(server.url, camera=Camera(photo())) as other:
            guests = [Sender(server.url, lambda n: key, codec, rate=1000) for _ in range(2)]
            for guest in guests:
                await guest.come()
            await other.see(20, seconds=PATIENCE)
            await until(lambda: all(guest.sent > 100 for guest in guests), PATIENCE)
            waiting = [len(peer.decoder._waiting) for peer in server.peers]
            assert max(waiting) <= 30
            for guest in guests:
                async with asyncio.timeout(5):
                    await answer(guest.http, "DELETE", f"{server.url}api/visitors/{guest.id}")
                await guest.leave(politely=False)
            async with asyncio.timeout(2):
                assert (await answer(other.http, "GET", f"{server.url}health"))[0] == 200
            await other.see(seconds=PATIENCE)

    with_server(tmp_path, body)


SEPARATORS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "hidden.local"])
def test_nothing_is_sent_to_an_address_that_only_stands_in_an_offer(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("aioice.Connection.add_remote_candidate", lambda self, candidate: asked.append(candidate))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as victim:
        try:
            victim.bind((host if host != "hidden.local" else "127.0.0.1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        victim.setblocking(False)
        port = victim.getsockname()[1]

        async def body(server: Server) -> None:
            guest = Guest(server.url, camera=Camera(photo()))
            lines = [line for line in (await guest.offer()).split("\r\n") if not line.startswith("a=candidate")]
            for separator in SEPARATORS:
                smuggled = f"{separator}a=candidate:1 1 udp 2113937151 {host} {port} typ host{separator}"
                sdp = "\r\n".join(line + smuggled if line.startswith("a=mid:") else line for line in lines)
                offer = {"sdp": sdp, "type": "offer"}
                status, found = await answer(guest.http, "POST", f"{server.url}api/visitors", json=offer)
                assert status in (201, 400), found
            await asyncio.sleep(0.3)
            with pytest.raises(BlockingIOError):
                victim.recv(2048)
            assert set(asked) <= {None}
            await guest.leave(politely=False)

        with_server(tmp_path, body, visitors=len(SEPARATORS))


async def raw(server: Server, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which ``text`` has been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(text)
    return reader, writer


HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "
TRICKLE = (
    b"POST /api/visitors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
)
ASKED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("text", [b"", HALF, TRICKLE, ASKED])
def test_connections_without_a_request_shut_out_nobody(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.http._MAX_CONNECTIONS", 40)
    monkeypatch.setattr("vidstyle.serve.http._YOUNG_SECONDS", 0.0)

    async def body(server: Server) -> None:
        async with aiohttp.ClientSession() as http:
            opened = [await raw(server, text) for _ in range(100)]
            for _ in range(3):
                async with asyncio.timeout(2):
                    assert (await answer(http, "GET", f"{server.url}health"))[0] == 200
            assert len(server.connections) <= 20
            for _, writer in opened:
                writer.close()

    with_server(tmp_path, body)


@pytest.mark.parametrize("text", [b"", HALF, ASKED + HALF])
def test_a_head_that_does_not_come_ends_the_connection(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.http.HEADER_SECONDS", 0.3)

    async def body(server: Server) -> None:
        reader, writer = await raw(server, text)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                reading = asyncio.ensure_future(reader.read())
                while not reading.done():
                    writer.write(b"x" if text else b"")
                    await asyncio.sleep(0.05)
                assert (b"200 OK" in await reading) == (ASKED in text)
        writer.close()

    with_server(tmp_path, body)


def test_one_that_has_just_come_keeps_its_place_through_a_burst(tmp_path: Path) -> None:
    async def body(server: Server) -> None:
        server.connections.limit = 80
        reader, writer = await raw(server, b"")
        opened = [await raw(server, HALF) for _ in range(150)]
        writer.write(ASKED)
        async with asyncio.timeout(5):
            assert b"200 OK" in await reader.readline()
        for _, other in [*opened, (reader, writer)]:
            other.close()

    with_server(tmp_path, body)


def test_one_address_drops_its_own_connections_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.http._YOUNG_SECONDS", 0.0)

    class Line:
        is_served = False

        def __init__(self, address: str) -> None:
            self.address, self.dropped = address, False
            connections.add(self)

        def drop(self) -> None:
            self.dropped = True

    connections = Connections(8)
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


BOUNDARY = b'--b\r\nContent-Disposition: form-data; name="painting"; filename="x.png"\r\n\r\n'
UPLOAD = (
    b"POST /api/jobs/adapt HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 6000000\r\n\r\n" + BOUNDARY + b"x" * 1000
)


def test_uploads_that_trickle_shut_out_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.uploads._GRACE_SECONDS", 0.1)

    async def body(server: Server) -> None:
        async with aiohttp.ClientSession() as http:
            slow = [await raw(server, UPLOAD) for _ in range(MAX_UPLOADS)]
            await until(lambda: len(server.jobs.uploads) == MAX_UPLOADS)
            await asyncio.sleep(0.2)
            form = aiohttp.FormData(default_to_multipart=True)
            form.add_field("painting", b"no picture", filename="x.png")
            status, found = await answer(http, "POST", f"{server.url}api/jobs/adapt", data=form)
            assert status in (400, 415), found
            told = [await reader.read(2000) for reader, _ in slow[:1]]
            assert b" 408 " in told[0] and b"too slow" in told[0]
            for _, writer in slow:
                writer.close()
            await until(lambda: not len(server.jobs.uploads))

    with_server(tmp_path, body)


def test_uploads_take_no_place_among_jobs_and_have_bounds_of_their_own(tmp_path: Path) -> None:
    async def body(server: Server) -> None:
        async with aiohttp.ClientSession() as http:
            coming = [await raw(server, UPLOAD) for _ in range(MAX_UPLOADS)]
            await until(lambda: len(server.jobs.uploads) == MAX_UPLOADS)
            form = aiohttp.FormData(default_to_multipart=True)
            form.add_field("painting", b"no picture", filename="x.png")
            status, found = await answer(http, "POST", f"{server.url}api/jobs/adapt", data=form)
            assert status == 429 and f"{MAX_UPLOADS} uploads are under way" in found["error"]
            for _, writer in coming:
                writer.close()

    with_server(tmp_path, body, queue=1)


def test_an_upload_must_keep_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(receive.__kwdefaults__, "pause_seconds", 0.4)

    async def body(server: Server) -> None:
        reader, writer = await raw(server, UPLOAD)
        async with asyncio.timeout(10):
            reading = asyncio.ensure_future(reader.readline())
            while not reading.done():
                writer.write(b"x" * 10)
                await asyncio.sleep(0.05)
            assert b" 408 " in await reading
        writer.close()

    with_server(tmp_path, body)


def test_an_offer_of_lines_that_multiply_is_refused_at_once(tmp_path: Path) -> None:
    async def body(server: Server) -> None:
        guest = Guest(server.url, camera=Camera(photo()))
        lines = ["a=rtpmap:96 V/9"] * 1900 + ["a=rtcp-fb:* x"] * 1900
        sdp = await guest.offer() + "\r\n".join(lines)
        async with asyncio.timeout(2):
            status, found = await answer(guest.http, "POST", f"{server.url}api/visitors", json={"sdp": sdp})
        assert status == 413 and "lines" in found["error"]
        await guest.leave(politely=False)

    with_server(tmp_path, body)


def test_who_asks_for_a_place_and_does_not_take_it_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.CONNECT_SECONDS", 0.2)

    async def body(server: Server) -> None:
        async with Guest(server.url, camera=Camera(photo())) as here:
            absent = Guest(server.url, camera=Camera(photo()))
            offer = {"sdp": await absent.offer(), "type": "offer"}
            assert (await answer(absent.http, "POST", f"{server.url}api/visitors", json=offer))[0] == 201
            await here.see(seconds=PATIENCE)
            await asyncio.sleep(0.3)
            async with Guest(server.url, camera=Camera(photo())) as other:
                await other.see(seconds=PATIENCE)
                await here.see(seconds=PATIENCE)
                third = await answer(absent.http, "POST", f"{server.url}api/visitors", json=offer)
                assert third[0] == 503  # both are there
            await absent.leave(politely=False)

    with_server(tmp_path, body, visitors=2)


def test_files_that_nobody_takes_in_are_not_sent_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.http._SEND_SECONDS", 0.5)
    monkeypatch.setattr("vidstyle.serve.http._MIN_SEND_RATE", 1 << 30)
    large = tmp_path / "large"
    large.write_bytes(bytes(32 << 20))

    async def run() -> None:
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
                monkeypatch.setattr("vidstyle.serve.http._SEND_SECONDS", 60.0)
                async with http.get(server.make_url("/")) as response:
                    assert len(await response.read()) == 32 << 20

    asyncio.run(run())
