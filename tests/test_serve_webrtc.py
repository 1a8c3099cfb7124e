"""Whoever comes is painted as asked for, whoever leaves leaves nothing, and whoever means harm is bounded."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.rtp import RtcpRtpfbPacket, RtpPacket
from attacking import Sender, encoded, h264_claiming, packets, vp8_claiming
from live_media import http_server
from media import make_video
from numpy.typing import NDArray
from test_serve_config import TOKEN
from visiting import SIZE, Camera, Guest, answer, difference, photo, small_server, unconnected, until

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style
from vidstyle.options import LookOptions
from vidstyle.serve.decoder import Decoder
from vidstyle.serve.webrtc import BoundedDatagrams, BoundedNacks, Limiter, add_address, host_addresses
from vidstyle.stylizer import Stylizer


def painted(rgb: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    with Stylizer(load_style(style)) as stylizer:
        return stylizer(rgb)


async def until_seen(guest: Guest, wanted: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    """Wait until the guest's picture is much nearer to ``wanted`` than to ``other``."""
    apart = difference(wanted, other)
    for _ in range(100):
        picture = await guest.see()
        if difference(picture, wanted) < 0.3 * apart:
            return
    raise AssertionError(f"{difference(picture, wanted):.1f} from what was wanted, {difference(picture, other):.1f}")


async def test_a_visitor_sees_the_camera_in_the_look_that_is_asked_for(tmp_path: Path) -> None:
    plain = photo()
    night, scream = painted(plain, "starry_night"), painted(plain, "the_scream")
    async with small_server(tmp_path) as server:
        look = {"blend": [{"style": "starry_night"}]}
        async with Guest(server.url, camera=Camera(plain), look=look) as guest:
            await until_seen(guest, night, plain)
            assert (await guest.wish(blend=[{"style": "the_scream", "weight": 1}]))[0] == 200
            await until_seen(guest, scream, night)
            status, found = await guest.wish(strength=0)
            assert (status, found["strength"], found["blend"]) == (200, 0, [{"style": "the_scream", "weight": 1}])
            await until_seen(guest, plain, scream)
            assert (await guest.wish(mirror=True))[0] == 200
            await until_seen(guest, plain[:, ::-1], plain)
            assert (await guest.wish(mirror=False, strength=1, split=True))[0] == 200
            half = SIZE[1] // 2
            split = np.concatenate([plain[:, :half], scream[:, half:]], axis=1)
            await until_seen(guest, split, scream)
            facts = await guest.facts()
            assert (facts["state"], facts["source"], facts["size"]) == ("connected", "camera", [SIZE[1], SIZE[0]])
            assert facts["fps"] > 0 and facts["latency_ms"] > 0 and facts["look"]["split"] is True


async def test_only_what_the_mask_leaves_is_painted(tmp_path: Path) -> None:
    rgb = np.ascontiguousarray(cv2.imread(str(PHOTOS / "astronaut.jpg"))[..., ::-1])
    rgb = np.asarray(cv2.resize(rgb, SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    made = {}
    for mask in ("person", "background"):
        with Stylizer(load_style("starry_night"), look=LookOptions(mask=mask)) as stylizer:
            made[mask] = stylizer(rgb)
    look = {"blend": [{"style": "starry_night"}], "mask": "person"}
    async with small_server(tmp_path) as server, Guest(server.url, camera=Camera(rgb), look=look) as guest:
        await until_seen(guest, made["person"], made["background"])
        assert (await guest.wish(mask="background"))[1]["mask"] == "background"
        await until_seen(guest, made["background"], made["person"])
        assert (await guest.wish(mask="cat"))[0] == 400


async def test_a_look_that_cannot_be_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    async with small_server(tmp_path) as server, Guest(server.url, camera=Camera()) as guest:
        before = (await guest.facts())["look"]
        for look, word in (({"blend": [{"style": "../../etc/passwd"}]}, "no style"), ({"colour": "red"}, "colour")):
            status, found = await guest.wish(mirror=True, **look)
            assert status == 400 and word in found["error"] and (await guest.facts())["look"] == before


async def test_each_visitor_has_a_look_of_their_own_and_one_may_leave(tmp_path: Path) -> None:
    night, scream = painted(photo(), "starry_night"), painted(photo(), "the_scream")
    async with small_server(tmp_path) as server:
        one = Guest(server.url, camera=Camera(), look={"blend": [{"style": "starry_night"}]})
        async with Guest(server.url, camera=Camera(), look={"blend": [{"style": "the_scream"}]}) as other:
            async with one:
                await until_seen(one, night, scream)
                await until_seen(other, scream, night)
                assert len(server.peers) == 2
            assert len(server.peers) == 1
            await until_seen(other, scream, night)


async def test_who_sends_no_picture_is_shown_the_servers_own(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", size=SIZE, frames=30)
    async with small_server(tmp_path, source=str(film)) as server, Guest(server.url) as guest:
        picture = await guest.see(5)
        assert picture.shape == (*SIZE, 3) and picture.std() > 5
        assert (await guest.facts())["source"] == "server"


async def test_the_address_of_the_source_reaches_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    camera = http_server(make_video(tmp_path / "film.mp4", size=SIZE, frames=10)).start()
    source = f"http://user:se@cret@127.0.0.1:{camera.port}/film.mp4?token=secret"
    async with small_server(tmp_path, source=source) as server, Guest(server.url) as guest:
        await guest.see(2)
        _, state = await answer(guest.http, "GET", f"{server.url}api/state")
        assert state["source_description"].startswith(f"a video stream, {SIZE[1]}x{SIZE[0]} at ")
        camera.stop()  # it is played over and over, and so is missed soon
        await until(lambda: len(server.peers) == 0)
        _, ended = await guest.ask("GET")
        assert "http://127.0.0.1" in ended["error"] and server.peers.source is not None
        for text in (str(state), str(ended), caplog.text, server.peers.source.description):
            assert not re.search("secret|user|film", text)


async def test_without_a_source_who_sends_no_picture_is_told(tmp_path: Path) -> None:
    async with small_server(tmp_path) as server, unconnected(server, camera=False) as guest:
        status, found = await guest.send_offer()
        assert status == 409 and "no source" in found["error"]
        assert len(server.peers) == 0


async def test_no_more_come_than_may_and_a_place_that_is_left_is_free(tmp_path: Path) -> None:
    async with small_server(tmp_path, visitors=1) as server:
        async with unconnected(server) as second, Guest(server.url, camera=Camera()):
            wanted = {"sdp": await second.offer(), "type": "offer"}
            async with second.http.post(f"{server.url}api/visitors", json=wanted) as response:
                assert response.status == 503 and int(response.headers["Retry-After"]) > 0
                assert "1 visitors are being painted" in (await response.json())["error"]
            async with second.http.get(f"{server.url}metrics") as response:
                lines = (await response.text()).splitlines()
            assert {"vidstyle_visitors 1", "vidstyle_visitors_refused_total 1"} <= set(lines)
        async with Guest(server.url, camera=Camera()) as third:
            await third.see()


async def test_an_offer_that_cannot_be_answered_leaves_nobody(tmp_path: Path) -> None:
    changes: list[Callable[[str], object]] = [
        *(lambda sdp: "", lambda sdp: "v=0", lambda sdp: sdp[: len(sdp) // 2], lambda sdp: 5),
        lambda sdp: sdp.replace("m=video", "m=audio"),
        lambda sdp: sdp.replace("a=sendrecv", "a=sendonly"),
        lambda sdp: sdp.replace("VP8/90000", "X/90000").replace("H264/90000", "Y/90000"),
    ]
    async with small_server(tmp_path) as server:
        for change in changes:
            async with unconnected(server) as guest:
                status, found = await guest.send_offer(change)
                assert status == 400 and found["error"]
            assert len(server.peers) == 0 and server.scheduler.is_idle


@pytest.mark.parametrize("politely", [True, False])
async def test_of_a_visitor_who_leaves_nothing_stays(tmp_path: Path, politely: bool) -> None:
    async with small_server(tmp_path) as server:
        tasks, threads = asyncio.all_tasks(), threading.active_count()
        guest = Guest(server.url, camera=Camera())
        await guest.come()
        await guest.see(3)
        gone = [weakref.ref(thing) for one in server.peers for thing in (one, one.mailbox, one.connection)]
        assert len(gone) == 3
        await guest.leave(politely=politely)
        await until(lambda: len(server.peers) == 0)
        del guest
        await until(lambda: server.scheduler.is_idle)
        # Threads of the pool that encodes stay, ready for the next.
        await until(lambda: not decoder_threads())
        await until(lambda: asyncio.all_tasks() <= tasks)
        await until(lambda: gc.collect() >= 0 and not any(ref() for ref in gone), 20)
        assert threading.active_count() <= threads + 8
        async with aiohttp.ClientSession() as http:
            assert (await answer(http, "GET", f"{server.url}health"))[1]["ok"]


def decoder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "decoder" in thread.name]


async def test_a_visitor_from_whom_nothing_comes_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.IDLE_SECONDS", 2.0)
    async with small_server(tmp_path) as server, Guest(server.url, camera=Camera()) as guest:
        await guest.see()
        assert guest.camera is not None
        guest.camera.paused = True
        await until(lambda: len(server.peers) == 0)
        assert (await guest.ask("GET"))[0] == 404


@pytest.mark.parametrize(
    ("codec", "data", "word"),
    [("VP8", vp8_claiming((16383, 16383)), "16383x16383"), ("VP8", vp8_claiming((1088, 1920)), "too large"),
     ("H264", h264_claiming((16384, 16384)) + encoded("H264", (64, 64))[0], "16384x16384"),
     ("H264", h264_claiming((16384, 16384), crop=(16368, 16368)), "too large")],
    ids=["VP8", "upright", "H264", "cropped"],
)  # fmt: skip
async def test_who_sends_pictures_that_are_too_large_is_ended_and_told(
    tmp_path: Path, codec: str, data: bytes, word: str
) -> None:
    good = packets(codec, encoded(codec, (96, 160))[0])
    async with small_server(tmp_path) as server:
        guest = Sender(server.url, lambda n: good if n < 5 else packets(codec, data), codec)
        await guest.come()
        await until(lambda: not len(server.peers))
        status, found = await guest.ask("GET")
        assert status == 404 and word in found["error"] and "1920x1080" in found["error"]
        status, found = await answer(guest.http, "GET", f"{server.url}api/state")
        assert found["limits"]["camera_pixels"] == 1920 * 1080
        await guest.leave(politely=False)
        await until(lambda: not server.peers.leaving)
        assert not decoder_threads()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_more_pictures_than_can_be_decoded_hold_up_nobody(tmp_path: Path, codec: str) -> None:
    key = packets(codec, vp8_claiming((1080, 1920)) if codec == "VP8" else encoded(codec, (1080, 1920))[0])
    async with small_server(tmp_path) as server, Guest(server.url, camera=Camera()) as other:
        guests = [Sender(server.url, lambda n: key, codec, rate=1000) for _ in range(2)]
        for guest in guests:
            await guest.come()
        await other.see(20)
        await until(lambda: all(guest.sent > 100 for guest in guests))
        assert max(peer.decoder.waiting for peer in server.peers) <= 30
        for guest in guests:
            async with asyncio.timeout(5):
                await guest.ask("DELETE")
            await guest.leave(politely=False)
        async with asyncio.timeout(2):
            assert (await answer(other.http, "GET", f"{server.url}health"))[0] == 200
        await other.see()


SEPARATORS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "hidden.local"])
async def test_nothing_is_sent_to_an_address_that_only_stands_in_an_offer(
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
        candidate = f"a=candidate:1 1 udp 2113937151 {host} {victim.getsockname()[1]} typ host"
        async with small_server(tmp_path, visitors=len(SEPARATORS)) as server, unconnected(server) as guest:
            lines = [line for line in (await guest.offer()).split("\r\n") if not line.startswith("a=candidate")]
            for separator in SEPARATORS:
                smuggled = f"{separator}{candidate}{separator}"
                sdp = "\r\n".join(line + smuggled if line.startswith("a=mid:") else line for line in lines)
                status, found = await guest.ask("POST", "", json={"sdp": sdp, "type": "offer"})
                assert status in (201, 400), found
            await asyncio.sleep(0.3)
            with pytest.raises(BlockingIOError):
                victim.recv(2048)
            assert set(asked) <= {None}


async def test_an_offer_of_lines_that_multiply_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a=rtpmap:96 V/9"] * 1900 + ["a=rtcp-fb:* x"] * 1900
    async with small_server(tmp_path) as server, unconnected(server) as guest:
        async with asyncio.timeout(2):
            status, found = await guest.send_offer(lambda sdp: sdp + "\r\n".join(lines))
        assert status == 413 and "lines" in found["error"]


async def test_who_asks_for_a_place_and_does_not_take_it_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.CONNECT_SECONDS", 0.2)
    async with (
        small_server(tmp_path, visitors=2) as server,
        Guest(server.url, camera=Camera()) as here,
        unconnected(server) as absent,
    ):
        assert (await absent.send_offer())[0] == 201
        await here.see()
        await asyncio.sleep(0.3)
        async with Guest(server.url, camera=Camera()) as other:
            await other.see()
            await here.see()
            async with unconnected(server) as third:
                assert (await third.send_offer())[0] == 503  # both are there


GOOD = packets("VP8", encoded("VP8", (96, 160))[0])
IDLE = Decoder(lambda *_: None, lambda: None, lambda _: None)


def test_datagrams_that_nobody_reads_do_not_pile_up() -> None:
    queue = BoundedDatagrams()
    for _ in range(2000):
        queue.put_nowait((b"x" * 1200, 1))
    queue.put_nowait((b"x" * 60_000, 1))
    assert queue.qsize() == 512
    queue.put_nowait(None)  # the end is always heard
    assert queue.qsize() == 513


def test_a_sequence_number_far_away_is_not_counted_up_to() -> None:
    nacks = BoundedNacks()
    began = time.monotonic()
    for turn in range(1000):
        assert not nacks.add(RtpPacket(sequence_number=turn * 30_000 % 65536))
    assert time.monotonic() - began < 1 and not nacks.missing
    last = 999 * 30_000 % 65536
    assert nacks.add(RtpPacket(sequence_number=(last + 3) % 65536)) and len(nacks.missing) == 2


async def test_who_says_that_everything_was_lost_is_not_sent_it_all() -> None:
    connection = RTCPeerConnection()
    transceiver = connection.addTransceiver("video")
    resent = []

    async def resend(number: int) -> None:
        resent.append(number)

    sender = transceiver.sender
    sender._retransmit = resend  # type: ignore[method-assign]
    Limiter(transceiver.receiver, sender, IDLE)
    lost = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=sender._ssrc, lost=list(range(5000)))
    for _ in range(20):
        await sender._handle_rtcp_packet(lost)
    await connection.close()
    assert 1 < len(resent) < 3000


async def test_a_decoder_that_aiortc_no_longer_asks_is_an_error() -> None:
    connection = RTCPeerConnection()
    transceiver = connection.addTransceiver("video")
    del transceiver.receiver._RTCRtpReceiver__decoder_queue  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Limiter(transceiver.receiver, transceiver.sender, IDLE)
    await connection.close()


@pytest.mark.parametrize("way", ["pictures", "packets", "streams"])
async def test_who_sends_what_no_browser_sends_is_ended_and_told(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.STATS_SECONDS", 0.4)
    if way == "packets":
        monkeypatch.setattr("vidstyle.serve.webrtc.MAX_PACKETS", 20.0)
    elif way == "pictures":
        monkeypatch.setattr("vidstyle.serve.decoder.MAX_PICTURES", 20.0)
    async with small_server(tmp_path) as server:

        def payloads(n: int) -> list[bytes]:
            if way == "streams":
                sender = guest.connection.getSenders()[0]
                sender._ssrc = random.getrandbits(32)
            return GOOD

        guest = Sender(server.url, payloads, rate=100)
        async with Guest(server.url, camera=Camera(photo(), 10)) as other:
            await guest.come()
            await until(lambda: len(server.peers) == 1)
            _, found = await guest.ask("GET")
            assert way in found["error"]
            await guest.leave(politely=False)
            await other.see()


NAME = "paint.example.org"


@pytest.mark.parametrize("public", [None, "127.0.0.1", "203.0.113.7"])
async def test_a_browser_elsewhere_gets_in_by_token_and_sees_itself_painted(tmp_path: Path, public: str | None) -> None:
    by_proxy = {"Host": NAME, "Origin": f"https://{NAME}", "X-Forwarded-Proto": "https"}
    async with small_server(tmp_path, allowed_hosts=(NAME,), token=TOKEN, public_address=public) as server:
        guest = Guest(server.url.partition("?")[0], camera=Camera())
        guest.http.headers.update(by_proxy)
        assert (await guest.ask("GET", ""))[0] == 401
        guest.http.headers["Authorization"] = f"Bearer {TOKEN}"
        async with guest.http.get(f"{guest.url}api/jobs") as response:
            assert response.status == 200 and "Secure" in response.headers["Set-Cookie"]
        await guest.come()
        candidates = guest.connection.remoteDescription.sdp
        addresses = set(re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) \d+ typ host", candidates))
        assert public in addresses if public else addresses - {"127.0.0.1", "::1"} or not host_addresses()
        if public == "127.0.0.1":
            assert addresses == {"127.0.0.1"}
            await guest.see(3)
        await guest.leave()


def test_a_public_address_is_added_to_those_of_its_kind() -> None:
    head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97\r\n"
    own = "a=candidate:1 1 udp 99 10.0.0.5 4000 typ host\r\na=candidate:2 1 udp 99 fd00::5 5000 typ host\r\n"
    sdp = f"{head}{own}a=rtpmap:97 VP8/90000\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n"
    found = add_address(sdp, "203.0.113.7")
    assert " 203.0.113.7 4000 typ host" in found and " 10.0.0.5 4000 " in found and "203.0.113.7 5000" not in found
    assert " 2001:db8::7 5000 " in add_address(sdp, "2001:db8::7")
    assert add_address(sdp, None) == sdp
