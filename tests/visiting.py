"""A visitor of the server without a browser: aiortc on the other side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
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
PATIENCE = 60.0  # seconds that anything may take on a busy machine


def photo(size: tuple[int, int] = SIZE, *, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of color: uint8 RGB of ``size``."""
    height, width = size
    patches = np.random.default_rng(seed).integers(20, 236, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return np.ascontiguousarray(patches.repeat(16, 0).repeat(16, 1)[:height, :width])


class Camera(MediaStreamTrack):
    """Shows one picture, ``rate`` times a second, until told to stop."""

    kind = "video"

    def __init__(self, rgb: NDArray[np.uint8] | None = None, rate: float = RATE) -> None:
        super().__init__()
        self.rgb, self.rate = photo() if rgb is None else rgb, rate
        self.paused = False
        self._began = time.monotonic()
        self._next = 0.0

    async def recv(self) -> VideoFrame:
        self._next += 1 / self.rate
        await asyncio.sleep(max(0.0, self._began + self._next - time.monotonic()))
        while self.paused:
            await asyncio.sleep(0.05)
        frame = VideoFrame.from_ndarray(self.rgb, format="rgb24").reformat(format="yuv420p")
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
        status, found = await self.ask("POST", "", json=wanted)
        assert status == 201, found
        self.id = found["id"]
        await self.connection.setRemoteDescription(RTCSessionDescription(found["sdp"], "answer"))

    async def send_offer(self, change: Callable[[str], object] = str) -> tuple[int, Any]:
        """Status and JSON of an offer that was changed; the answer is not taken."""
        return await self.ask("POST", "", json={"sdp": change(await self.offer()), "type": "offer"})

    async def ask(self, method: str, id: str | None = None, **how: Any) -> tuple[int, Any]:
        """Status and JSON of a request for this visitor, or another ``id``."""
        path = f"/{self.id}" if id is None else id
        return await answer(self.http, method, f"{self.url}api/visitors{path}", **how)

    async def leave(self, *, politely: bool = True) -> None:
        """Go, having told the server so, or without a word."""
        if politely and self.id:
            await self.ask("DELETE")
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self.camera is not None:
            self.camera.stop()
        await self.connection.close()
        await self.http.close()

    async def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ask("GET"))[1]
        return found

    async def wish(self, **look: Any) -> tuple[int, dict[str, Any]]:
        """Change the look; status and answer."""
        return await self.ask("PATCH", json=look)

    async def see(self, more: int = 1, seconds: float = PATIENCE) -> NDArray[np.uint8]:
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


@contextlib.asynccontextmanager
async def unconnected(server: Server, *, camera: bool = True) -> AsyncIterator[Guest]:
    """A guest who has not come yet."""
    guest = Guest(server.url, camera=Camera() if camera else None)
    try:
        yield guest
    finally:
        await guest.leave(politely=False)


async def answer(http: aiohttp.ClientSession, method: str, url: str, **how: Any) -> tuple[int, Any]:
    """Status and JSON of a response."""
    async with http.request(method, url, timeout=aiohttp.ClientTimeout(PATIENCE), **how) as response:
        return response.status, await response.json()


async def raw(server: Server, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which ``text`` has been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(text)
    return reader, writer


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
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


class Command:
    """``vidstyle serve``, the command itself: a context manager that ends it."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        home: Path | None = None,
        descriptors: int | None = None,
        before: tuple[str, ...] = ("-m", "vidstyle"),
    ) -> None:
        """``home`` is where compiled networks are kept, ``before`` stands before ``serve`` and the ``options``."""
        root, self._log = Path(__file__).parent.parent, folder / "serve.log"
        environment = {**os.environ, "PYTHONPATH": str(root), **({} if home is None else {"VIDSTYLE_HOME": str(home)})}

        def limit() -> None:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors or 0, descriptors or 0))

        words = [sys.executable, *before, "serve", "--port", "0", "--folder", str(folder / "served"), *options]
        how: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        how["preexec_fn"] = None if descriptors is None else limit
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, env=environment, cwd=root, **how)

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str) -> str:
        """The log once ``words`` are in it."""
        end = time.monotonic() + 2 * PATIENCE
        while words not in (said := self.said()):
            assert self.process.poll() is None and time.monotonic() < end, said
            time.sleep(0.02)
        return said

    @property
    def url(self) -> str:
        """The address to open, once visitors are let in."""
        said = self.wait_for("Ctrl-C stops it")
        return next(line for line in said.splitlines() if line.startswith("Open ")).removeprefix("Open ")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
