"""A WHIP endpoint as a live source: what OBS, a browser or GStreamer sends here by WebRTC is what comes in.

WHIP (RFC 9725): a POST with an offer, answered with 201 and the address of the session, which a DELETE ends. One sender
at a time; when it is gone, the next one is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from vidstyle.errors import BadOption, VideoError, reason
from vidstyle.frame import Frame, FrameFormat, untagged_matrix
from vidstyle.pipeline import Closing, Worker
from vidstyle.system import is_loopback
from vidstyle.video.audio import AudioChunk, AudioFormat, AudioReader
from vidstyle.video.capture.clock import MICROSECOND, ArrivalClock
from vidstyle.video.convert import planes_of
from vidstyle.video.output.muxer import whip_token
from vidstyle.video.output.whip_child import use_loopback

SCHEME = "whip+http"
_SOUND = AudioFormat(48000, 2)
_MAX_SDP = 64 << 10
_MAX_WAITING = 4  # frames that nobody has taken yet; then the oldest goes
_CONNECT_SECONDS = 10.0  # a sender who has not connected by then makes room for another one


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int
    path: str
    token: str

    @classmethod
    def of(cls, text: str) -> Address:
        """``whip+http://[TOKEN@][HOST]:PORT/PATH``; without a host this machine alone. Raises `BadOption`."""
        parts = urlsplit(text)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme != SCHEME or port is None or parts.path in ("", "/"):
            raise BadOption(f"source {parts.scheme}://... is no address to take WHIP on; write {SCHEME}://:8889/live")
        host, token = parts.hostname or "127.0.0.1", whip_token(parts.username)
        if not token and not is_loopback(host):
            raise BadOption(
                f"anybody who can reach {host} could send here; put a bearer token into VIDSTYLE_WHIP_TOKEN, or leave "
                "out the host"
            )
        return cls(host, port, parts.path, token)

    @property
    def url(self) -> str:
        """What the sender is to be told."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


class WhipSource(Closing):
    """A `vidstyle.live.session.Source` that waits for a sender.

    One thread reads; `close` may be called from any.
    """

    def __init__(
        self,
        address: str,
        *,
        on_sound: Callable[[AudioChunk], None] | None = None,
        on_waiting: Callable[[str], None] = lambda url: None,
    ) -> None:
        """Listen on ``address`` (see `Address.of`), and wait for the first picture.

        ``on_waiting`` is told the address for the sender. Raises `BadOption`, and `VideoError` where nothing can listen
        there.
        """
        self._address = Address.of(address)
        self._on_sound = on_sound
        self._state = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._stop = False
        self._failed: str | None = None
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._sender: RTCPeerConnection | None = None
        self._senders = 0
        self.dropped = 0
        """Pictures that came faster than they were taken."""
        self.state: Literal["open", "lost"] = "lost"
        self.reconnects = 0
        """How many senders have come after the first one."""
        self.fps: float | None = None
        self.sound_form: AudioFormat | None = None
        self._worker = Worker("whip", lambda: asyncio.run(self._serve()))
        self._worker.start()
        try:
            self._listening.wait()
            if self._failed is not None:
                raise VideoError(self._failed)
            on_waiting(self._address.url)
            first = self._next()
            if first is None:
                raise VideoError(f"nobody has sent anything to {self._address.url}")
        except BaseException:
            self.close()
            raise
        with self._state:
            self._frames.appendleft(first)
        self.form: FrameFormat = first.form
        self.description = f"WHIP at {self._address.url}, {first.form.width}x{first.form.height}"

    def frames(self) -> Generator[Frame, None, None]:
        """Every frame, as it comes, until `close` is called; ``pts`` is as for `Capture.frames`."""
        while (frame := self._next()) is not None:
            yield frame

    def close(self) -> None:
        """Hang up and free the port. Closing twice is fine."""
        with self._state:
            self._stop = True
            self._state.notify_all()
        self._listening.wait()
        if self._loop is not None and self._over is not None:
            with contextlib.suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._over.set)
        self._worker.join()

    def _next(self) -> Frame | None:
        with self._state:
            while not (self._frames or self._stop):
                self._state.wait(0.2)  # so that Ctrl-C comes through
            return self._frames.popleft() if self._frames and not self._stop else None

    async def _serve(self) -> None:
        address = self._address
        app = web.Application(client_max_size=_MAX_SDP)
        app.router.add_post(address.path, self._take)
        app.router.add_delete(f"{address.path}/session", self._end)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            self._failed = f"cannot listen on {address.host}:{address.port}: {reason(error)}"
            return
        finally:
            if self._failed is None:
                self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
            self._listening.set()
            if self._failed is not None:
                await runner.cleanup()
        assert self._over is not None
        await self._over.wait()
        await self._hang_up()
        await runner.cleanup()

    def _is_allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return not self._address.token or hmac.compare_digest(given, self._address.token.encode())

    async def _take(self, request: web.Request) -> web.Response:
        """POST: an offer, which is answered."""
        if not self._is_allowed(request):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if request.content_type != "application/sdp":  # which no page of another site can send unasked
            return web.Response(status=415, text="send application/sdp")
        if self._sender is not None:
            return web.Response(status=409, text="somebody is sending already")
        connection = self._sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            await connection.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
            kinds = [transceiver.kind for transceiver in connection.getTransceivers()]
            if "video" not in kinds:
                raise ValueError("no video is offered")
            for transceiver in connection.getTransceivers():
                use_loopback(transceiver)
                track = transceiver.receiver.track
                asyncio.ensure_future(self._read(connection, track))
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception as error:  # offers fail in as many ways as there are
            await self._hang_up()
            return web.Response(status=400, text=f"the offer cannot be answered: {error}")
        if self._on_sound is not None and "audio" in kinds and not self._senders:
            self.sound_form = _SOUND
        connection.on("connectionstatechange", lambda: self._look_at(connection))
        asyncio.get_running_loop().call_later(_CONNECT_SECONDS, self._look_at, connection, True)
        headers = {"Location": f"{self._address.path}/session"}
        sdp = connection.localDescription.sdp
        return web.Response(status=201, text=sdp, content_type="application/sdp", headers=headers)

    async def _end(self, request: web.Request) -> web.Response:
        """DELETE: the sender has finished."""
        if not self._is_allowed(request):
            return web.Response(status=401)
        await self._hang_up()
        return web.Response()

    def _look_at(self, connection: RTCPeerConnection, late: bool = False) -> None:
        """Make room for another sender where this one is gone, or is ``late`` and has not come."""
        state = connection.connectionState
        if connection is self._sender and (state in ("failed", "closed") or (late and state != "connected")):
            asyncio.ensure_future(self._hang_up())

    async def _hang_up(self) -> None:
        sender, self._sender = self._sender, None
        self.state = "lost"
        if sender is not None:
            await sender.close()

    async def _read(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        clock, sound = ArrivalClock(), AudioReader(_SOUND)
        has_come = False
        with contextlib.suppress(MediaStreamError):
            while connection is self._sender:
                item: Any = await track.recv()
                if isinstance(item, VideoFrame):
                    if not has_come:
                        has_come, self.state = True, "open"
                        self._senders += 1
                        self.reconnects = self._senders - 1
                    self._put(item, clock)
                elif isinstance(item, AudioFrame) and self._on_sound is not None:
                    for samples, seconds in sound.read(item):
                        self._on_sound(sound.join(samples, clock.picture(seconds)))

    def _put(self, picture: VideoFrame, clock: ArrivalClock) -> None:
        if picture.format.name != "yuv420p":
            picture = picture.reformat(format="yuv420p")
        form = FrameFormat(
            height=picture.height, width=picture.width, pixels="i420", matrix=untagged_matrix(picture.height)
        )
        frame = Frame(planes_of(picture, form), form, clock.picture(picture.time), MICROSECOND)
        with self._state:
            self._frames.append(frame)
            if len(self._frames) > _MAX_WAITING:
                self._frames.popleft()
                self.dropped += 1
            self._state.notify_all()
