"""The program that `vidstyle.video.output.push_process` starts for WHIP: a stream from standard input on, by WebRTC.

WHIP (RFC 9725) is one HTTP request: an offer with a bearer token, answered by the server's; a DELETE ends the session.
The packets are sent as they come: H.264 and Opus are what servers take. Input and output are push_child's own, and
like it this imports nothing of vidstyle.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import runpy
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import av
import av.error
from aioice.ice import get_host_addresses
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av.packet import Packet

_CODECS = {"video": "video/H264", "audio": "audio/opus"}
_END_SECONDS = 0.7  # for the DELETE; whoever started this ends it soon after
_REASONS = {
    401: "the server wants a bearer token, or another one (401); put it into VIDSTYLE_WHIP_TOKEN",
    403: "the server forbids it (403); another bearer token in VIDSTYLE_WHIP_TOKEN may help",
    404: "there is no WHIP endpoint at that address (404)",
    405: "there is no WHIP endpoint at that address (405)",
}


class Lost(Exception):
    """The stream cannot go on; the message says why."""


class PacketTrack(MediaStreamTrack):
    """Packets that are encoded already, as they come. Put them in on the event loop."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._packets: asyncio.Queue[Packet[Any] | None] = asyncio.Queue()

    def put(self, packet: Packet[Any] | None) -> None:
        """Send ``packet``; None is the end."""
        self._packets.put_nowait(packet)

    async def recv(self) -> Any:
        packet = await self._packets.get()
        if packet is None:
            raise MediaStreamError
        return packet


class Session:
    """One WHIP session with a server."""

    def __init__(self, url: str, token: str, patience: float) -> None:
        self._url, self._patience = url, patience
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._resource: str | None = None
        self._changed = asyncio.Event()
        # No STUN server is asked: the server sees where packets come from.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on("connectionstatechange", self._changed.set)

    def add(self, track: PacketTrack) -> None:
        transceiver = self.connection.addTransceiver(track, direction="sendonly")
        codecs = RTCRtpSender.getCapabilities(track.kind).codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == _CODECS[track.kind]])
        if _is_loopback(urlsplit(self._url).hostname or ""):
            use_loopback(transceiver)

    async def connect(self, http: aiohttp.ClientSession) -> None:
        """Offer, take the answer and wait for the connection. Raises `Lost`."""
        connection = self.connection
        await connection.setLocalDescription(await connection.createOffer())
        headers = {**self._headers, "Content-Type": "application/sdp"}
        async with http.post(self._url, data=connection.localDescription.sdp, headers=headers) as response:
            if response.status != 201:
                raise Lost(_REASONS.get(response.status, f"the server refuses the stream ({response.status})"))
            if "Location" in response.headers:
                self._resource = urljoin(str(response.url), response.headers["Location"])
            answer = await response.text()
        try:
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:  # answers fail in as many ways as there are
            raise Lost(f"the server's answer cannot be read: {error}") from error
        if any(sender.transport is None for sender in connection.getSenders()):
            raise Lost("the server takes no H.264")
        while connection.connectionState != "connected":
            self.check()
            await self._changed.wait()
            self._changed.clear()

    def check(self) -> None:
        """`Lost` where the connection is."""
        if self.connection.connectionState in ("failed", "closed"):
            raise Lost("the connection ended")

    async def lost(self) -> None:
        """Wait until the connection is lost. Raises `Lost`."""
        while True:
            self.check()
            await self._changed.wait()
            self._changed.clear()

    async def end(self, http: aiohttp.ClientSession) -> None:
        """Tell the server that this was all."""
        if self._resource is not None:
            same_host = urlsplit(self._resource).netloc == urlsplit(self._url).netloc
            async with http.delete(self._resource, headers=self._headers if same_host else {}):
                pass


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except (OSError, ValueError):
        return False


def use_loopback(transceiver: RTCRtpTransceiver) -> None:
    """Have ICE offer 127.0.0.1, too: left to itself it takes all addresses but loopback ones."""
    connection: Any = transceiver.sender.transport.transport._connection
    gather = connection.get_component_candidates
    addresses = ["127.0.0.1", *get_host_addresses(use_ipv4=True, use_ipv6=False)]
    connection.get_component_candidates = lambda component, **_: gather(component=component, addresses=addresses)


async def carry(order: dict[str, Any], say: Callable[[str], None]) -> None:
    """Carry one stream until it ends, or the connection does. Raises `Lost`."""
    loop, patience = asyncio.get_running_loop(), float(order["patience"])
    quick = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
    source = await loop.run_in_executor(None, lambda: av.open("pipe:0", format="nut", container_options=quick))
    session = Session(order["url"], order["options"].get("token", ""), patience)
    tracks = {stream.index: PacketTrack(stream.type) for stream in source.streams if stream.type in _CODECS}
    for track in tracks.values():
        session.add(track)
    over = asyncio.Event()

    def read() -> None:
        try:
            for packet in source.demux():
                if packet.pts is not None and packet.stream.index in tracks:
                    loop.call_soon_threadsafe(tracks[packet.stream.index].put, _complete(packet))
        except (av.error.FFmpegError, OSError, RuntimeError):
            pass  # the stream ends, however
        loop.call_soon_threadsafe(over.set)

    timeout = aiohttp.ClientTimeout(total=patience)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        try:
            threading.Thread(target=read, daemon=True).start()
            try:
                async with asyncio.timeout(patience):
                    await session.connect(http)
            except TimeoutError:
                raise Lost(f"no connection within {patience:g} s") from None
            say("open")
            lost, ended = asyncio.ensure_future(session.lost()), asyncio.ensure_future(over.wait())
            await asyncio.wait([ended, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                lost.result()
            lost.cancel()
            await asyncio.sleep(0.05)  # what was read last is sent
        finally:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await session.end(http)
            except (TimeoutError, aiohttp.ClientError):
                pass
            await session.connection.close()


def _complete(packet: Packet[Any]) -> Packet[Any]:
    """``packet``, a key frame with the parameter sets before it, which NUT keeps apart."""
    extra = packet.stream.codec_context.extradata
    if packet.stream.type != "video" or not packet.is_keyframe or not extra:
        return packet
    made: Packet[Any] = Packet(bytes(extra) + bytes(packet))
    made.pts, made.time_base = packet.pts, packet.time_base
    return made


def main(order: dict[str, Any], say: Callable[[str], None]) -> None:
    """Carry one stream until it ends, or the connection does. Raises `Lost`, and what aiohttp and FFmpeg raise."""
    try:
        asyncio.run(carry(order, say))
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        raise Lost(os.strerror(number) if number and number > 0 else error) from error


if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("push_child.py")))["main"](main)
    os._exit(0)  # the thread that reads may be waiting
