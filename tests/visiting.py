"""A visitor of the server without a browser: aiortc on the other side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from av import VideoFrame
from numpy.typing import NDArray

from vidstyle.options import BackendOptions
from vidstyle.serve.app import Server
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.webrtc import use_addresses

SIZE = (96, 160)
"""(height, width) of the pictures in these tests: large enough for the network, small enough to be quick."""
RATE = 30


def photo(size: tuple[int, int] = SIZE, *, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of color: uint8 RGB of ``size``."""
    height, width = size
    patches = np.random.default_rng(seed).integers(20, 236, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return np.ascontiguousarray(patches.repeat(16, 0).repeat(16, 1)[:height, :width])


def video_frame(rgb: NDArray[np.uint8]) -> VideoFrame:
    """``rgb`` as decoders of browsers' pictures give it."""
    return VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")


class Camera(MediaStreamTrack):
    """Shows one picture, ``rate`` times a second, until told to stop."""

    kind = "video"

    def __init__(self, rgb: NDArray[np.uint8], rate: float = RATE) -> None:
        super().__init__()
        self.rgb, self.rate = rgb, rate
        self.paused = False
        self._began = time.monotonic()
        self._next = 0.0

    async def recv(self) -> VideoFrame:
        self._next += 1 / self.rate
        await asyncio.sleep(max(0.0, self._began + self._next - time.monotonic()))
        while self.paused:
            await asyncio.sleep(0.05)
        frame = video_frame(self.rgb)
        frame.pts = int((time.monotonic() - self._began) * VIDEO_CLOCK_RATE)
        frame.time_base = VIDEO_TIME_BASE
        return frame


class Guest:
    """One connection to a server; `come` and `leave`, or ``async with``."""

    def __init__(self, url: str, *, camera: Camera | None = None, look: dict[str, Any] | None = None) -> None:
        self.url, self.camera, self.look = url, camera, look or {}
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.id = ""
        self.pictures = 0
        self.newest: NDArray[np.uint8] | None = None
        self._reading: asyncio.Task[None] | None = None
        self.http = aiohttp.ClientSession()

    async def offer(self) -> str:
        """A session description to send."""
        if self.camera is None:
            transceiver = self.connection.addTransceiver("video", direction="recvonly")
        else:
            self.connection.addTrack(self.camera)
            transceiver = self.connection.getTransceivers()[0]
        use_addresses(transceiver, ["127.0.0.1"])
        self.connection.on("track", self._show)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def come(self) -> None:
        sdp = await self.offer()
        wanted = {"sdp": sdp, "type": "offer", "look": self.look}
        async with self.http.post(f"{self.url}api/visitors", json=wanted) as response:
            answer = await response.json()
            assert response.status == 201, answer
        self.id = answer["id"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    async def leave(self, *, politely: bool = True) -> None:
        """Go, having told the server so, or without a word."""
        if politely and self.id:
            async with self.http.delete(f"{self.url}api/visitors/{self.id}") as response:
                await response.read()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self.camera is not None:
            self.camera.stop()
        await self.connection.close()
        await self.http.close()

    async def facts(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}api/visitors/{self.id}") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def wish(self, **look: Any) -> tuple[int, dict[str, Any]]:
        """Change the look; status and answer."""
        async with self.http.patch(f"{self.url}api/visitors/{self.id}", json=look) as response:
            return response.status, await response.json()

    async def see(self, more: int = 1, seconds: float = 20.0) -> NDArray[np.uint8]:
        """The newest picture once so many ``more`` have come: uint8 RGB."""
        wanted = self.pictures + more
        await until(lambda: self.pictures >= wanted, seconds)
        assert self.newest is not None
        return self.newest

    def _show(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, VideoFrame)
                    self.newest = frame.to_ndarray(format="rgb24")
                    self.pictures += 1

        self._reading = asyncio.ensure_future(read())

    async def __aenter__(self) -> Guest:
        await self.come()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for ``condition``; an AssertionError if it does not come true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def small_server(folder: Path, **options: Any) -> Server:
    """A server of small pictures on a free port."""
    wanted = {"port": 0, "folder": folder / "served", "size": SIZE, **options}
    return Server(ServeOptions(**wanted), backend=BackendOptions(threads=2))


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(a.astype(np.int16) - b).mean())
