"""Visitors who mean harm: the server lives, and those beside them hardly notice."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from test_serve_decoder import encoded, h264_claiming, vp8_claiming
from test_serve_visitors import PATIENCE, answer, with_server
from visiting import Camera, Guest, photo, until

from vidstyle.serve.app import Server

Payloads = Callable[[int], list[bytes]]


class Sender(Guest):
    """A guest who sends what ``payloads(n)`` says in the place of the n-th picture, after a few good ones."""

    def __init__(self, url: str, payloads: Payloads, codec: str = "VP8", rate: float = 30) -> None:
        super().__init__(url, camera=Camera(photo((16, 16)), rate))
        self.payloads, self.codec, self.sent = payloads, codec, 0
        self.target_bitrate = 500_000

    async def offer(self) -> str:
        sdp = await super().offer()
        other = {"VP8": "H264", "H264": "VP8"}[self.codec]
        sdp = sdp.replace(f" {other}/90000", " unknown/90000")
        self.connection.getSenders()[0]._RTCRtpSender__encoder = self  # type: ignore[attr-defined]
        return sdp

    def encode(self, frame: av.VideoFrame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        self.sent += 1
        return self.payloads(self.sent), frame.pts or 0


def packets(codec: str, data: bytes) -> list[bytes]:
    """``data``, a whole frame, as payloads of RTP."""
    if codec == "VP8":
        return Vp8Encoder._packetize(data, 1)
    return H264Encoder._packetize(H264Encoder._split_bitstream(data))


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
        await until(lambda: not len(server.visitors), PATIENCE)
        status, found = await answer(guest.http, "GET", f"{server.url}api/visitors/{guest.id}")
        assert status == 404 and word in found["error"] and "1920x1080" in found["error"]
        status, found = await answer(guest.http, "GET", f"{server.url}api/state")
        assert found["limits"]["camera_pixels"] == 1920 * 1080
        await guest.leave(politely=False)
        await until(lambda: not server.visitors._leaving)
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
            waiting = [len(visitor._decoder._waiting) for visitor in server.visitors]
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
