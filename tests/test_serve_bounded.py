"""What aiortc and aioice would do without end for whoever asks is bounded."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from pathlib import Path

import pytest
from aiortc import RTCPeerConnection
from aiortc.rtp import RtcpRtpfbPacket, RtpPacket
from attacking import Sender, encoded, packets
from av import VideoFrame
from test_serve_webrtc import PATIENCE, answer, with_server
from visiting import Camera, Guest, photo, until

from vidstyle.serve.app import Server
from vidstyle.serve.decoder import Decoder
from vidstyle.serve.painter import FrameMailbox, Waiting
from vidstyle.serve.render_settings import default_settings
from vidstyle.serve.webrtc import BoundedDatagrams, BoundedNacks, Limiter

GOOD = packets("VP8", encoded("VP8", (96, 160))[0])


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


def test_who_says_that_everything_was_lost_is_not_sent_it_all() -> None:
    async def run() -> int:
        connection = RTCPeerConnection()
        transceiver = connection.addTransceiver("video")
        resent = []

        async def resend(number: int) -> None:
            resent.append(number)

        sender = transceiver.sender
        sender._retransmit = resend  # type: ignore[method-assign]
        decoder = Decoder(lambda *_: None, lambda: None, lambda _: None)
        Limiter(transceiver.receiver, sender, decoder)
        lost = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=sender._ssrc, lost=list(range(5000)))
        for _ in range(20):
            await sender._handle_rtcp_packet(lost)
        await connection.close()
        return len(resent)

    assert 1 < asyncio.run(run()) < 3000


def test_a_decoder_that_aiortc_no_longer_asks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        connection = RTCPeerConnection()
        transceiver = connection.addTransceiver("video")
        decoder = Decoder(lambda *_: None, lambda: None, lambda _: None)
        del transceiver.receiver._RTCRtpReceiver__decoder_queue  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            Limiter(transceiver.receiver, transceiver.sender, decoder)
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("way", ["pictures", "packets", "streams"])
def test_who_sends_what_no_browser_sends_is_ended_and_told(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.STATS_SECONDS", 0.4)
    if way == "packets":
        monkeypatch.setattr("vidstyle.serve.webrtc.MAX_PACKETS", 20.0)
    elif way == "pictures":
        monkeypatch.setattr("vidstyle.serve.decoder.MAX_PICTURES", 20.0)

    async def body(server: Server) -> None:
        def payloads(n: int) -> list[bytes]:
            if way == "streams":
                sender = guest.connection.getSenders()[0]
                sender._ssrc = random.getrandbits(32)
            return GOOD

        guest = Sender(server.url, payloads, rate=100)
        async with Guest(server.url, camera=Camera(photo(), 10)) as other:
            await guest.come()
            await until(lambda: len(server.peers) == 1, PATIENCE)
            _, found = await answer(guest.http, "GET", f"{server.url}api/visitors/{guest.id}")
            assert way in found["error"]
            await guest.leave(politely=False)
            await other.see(seconds=PATIENCE)

    with_server(tmp_path, body)


def test_pictures_that_turn_all_the_time_are_not_compiled_for_all_the_time() -> None:
    canvas = FrameMailbox(default_settings(), (360, 640), lambda *_: None, lambda _: None, lambda: None)
    forms = []
    for step in range(6000):  # a minute at 100 a second, turned each half second
        size = (90, 160) if step // 50 % 2 else (160, 90)
        forms.append(canvas.choose_format(Waiting(VideoFrame(size[1], size[0], "yuv420p"), step / 100)).size)
    changes = sum(before != after for before, after in pairwise(forms))
    assert 3 <= changes <= 6
