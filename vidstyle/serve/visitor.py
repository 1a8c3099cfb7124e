"""One visitor: a WebRTC connection, pictures in, painted pictures out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from av.video.frame import VideoFrame

from vidstyle.errors import VidstyleError
from vidstyle.metrics import FrameStats
from vidstyle.serve.bounded import Bounded
from vidstyle.serve.canvas import Canvas
from vidstyle.serve.decoder import Decoder
from vidstyle.serve.encoder import PaintedEncoder
from vidstyle.serve.look import Look
from vidstyle.serve.offer import with_address
from vidstyle.serve.refused import Refused
from vidstyle.serve.studio import Studio

_log = logging.getLogger(__name__)
PATIENCE_SECONDS = 10.0
"""A visitor goes who has not connected, or from whom nothing has come, for so long."""
_VP8 = "video/VP8"
_CONNECT_SECONDS = 3.0
"""So long one who is connecting keeps the place even if others wait for it."""
_LOOK_SECONDS = 0.5
_CLOSE_SECONDS = 5.0
_closing: set[asyncio.Future[None]] = set()
"""Connections that take longer to close than anybody waits for."""


class PaintedTrack(MediaStreamTrack):
    """The painted pictures of one visitor: who asks gets the newest, once."""

    kind = "video"

    def __init__(self, on_taken: Callable[[float, float], None]) -> None:
        """``on_taken`` is called with the time when a picture came and the time when it was handed over."""
        super().__init__()
        self._on_taken = on_taken
        self._newest: tuple[VideoFrame, float] | None = None
        self._came = asyncio.Event()
        self._began = monotonic()
        self._last = -1

    def offer(self, frame: VideoFrame, came: float) -> None:
        """Make ``frame`` the newest. On the event loop only."""
        self._newest = frame, came
        self._came.set()

    async def recv(self) -> VideoFrame:
        """Wait for a picture that nobody has had yet."""
        while self._newest is None:
            if self.readyState != "live":
                raise MediaStreamError
            await self._came.wait()
            self._came.clear()
        (frame, came), self._newest = self._newest, None
        now = monotonic()
        # The time of going out: the browser then shows it as soon as it is there. By the time at which it was
        # taken it would keep the differences in what painting took, and wait for the slowest.
        self._last = max(self._last + 1, round((now - self._began) * VIDEO_CLOCK_RATE))
        frame.pts, frame.time_base = self._last, VIDEO_TIME_BASE
        self._on_taken(came, now)
        return frame

    def stop(self) -> None:
        """End it: who waits for a picture is told that none comes."""
        super().stop()
        self._newest = None
        self._came.set()


class Visitor:
    """Comes with `open`, goes with `close`; in between it may end by itself, which ``on_end`` is told."""

    def __init__(
        self,
        id: str,
        studio: Studio,
        look: Look,
        *,
        addresses: list[str],
        public_address: str | None = None,
        on_end: Callable[[Visitor, str], None],
    ) -> None:
        """``addresses`` are those of this machine that the visitor may use; a ``public_address`` leads to them."""
        self.id = id
        self._studio = studio
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._meter = FrameStats()
        self._track = PaintedTrack(lambda came, now: self._meter.add(now - came, now))
        self._addresses, self._public_address = addresses, public_address
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._decoder = Decoder(self._arrived, self._lost, self._end)
        self._bounded: Bounded | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: list[object] = []
        self._came = self._heard = monotonic()
        self._ended = False
        self.sends = False
        """Whether it brings a picture of its own; else it is shown the server's source."""
        self.canvas: Canvas = studio.add(look, self._painted, self._failed)

    async def open(self, offer: str) -> str:
        """The answer to a checked ``offer``. `Refused` (400) where there is nothing in common."""
        connection = self._connection
        sender = connection.addTrack(self._track)
        transceiver = connection.getTransceivers()[0]
        transceiver.setCodecPreferences(_codecs())
        self._bounded = Bounded(transceiver.receiver, sender, self._decoder)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
            if transceiver._codecs[0].mimeType == _VP8:
                sender._RTCRtpSender__encoder = PaintedEncoder()  # type: ignore[attr-defined]
            _use_addresses(transceiver, self._addresses)
            answer = await connection.createAnswer()
            await connection.setLocalDescription(answer)
        except Exception as error:  # offers fail in as many ways as there are
            _log.debug("an offer was refused", exc_info=True)
            raise Refused(
                400, "the offer cannot be answered; it must have VP8 or H.264 in it, as browsers' offers have"
            ) from error
        self.sends = transceiver.currentDirection == "sendrecv"
        self._do(self._watch(sender, self._bounded))
        return with_address(connection.localDescription.sdp, self._public_address)

    @property
    def look(self) -> Look:
        """What is asked for; may be set."""
        return self.canvas.look

    @look.setter
    def look(self, look: Look) -> None:
        self.canvas.look = look

    @property
    def is_late(self) -> bool:
        """Whether it should have connected by now, and has not."""
        return self._connection.connectionState != "connected" and monotonic() - self._came > _CONNECT_SECONDS

    @property
    def dropped(self) -> int:
        """Pictures that came and were not painted, as newer ones were there."""
        return self.canvas.dropped + self._decoder.dropped

    def facts(self) -> dict[str, Any]:
        """How it does, as JSON has it. Latency is from a picture's arrival to its being handed to the encoder."""
        now = monotonic()
        latency = self._meter.latency(now)
        form = self.canvas.form
        return {
            "id": self.id,
            "state": self._connection.connectionState,
            "source": "server" if not self.sends else "camera",
            "fps": round(self._meter.fps(now), 1),
            "latency_ms": None if latency is None else round(1000 * latency[0], 1),
            "latency_p99_ms": None if latency is None else round(1000 * latency[1], 1),
            "frames": self._meter.shown,
            "dropped": self.dropped,
            "size": None if form is None else [form.width, form.height],
            "look": self.look.facts(),
        }

    async def close(self) -> None:
        """End it and free everything. Twice is fine."""
        self._ended = True
        self._studio.remove(self.canvas)
        self._decoder.stop()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._track.stop()
        closing = asyncio.ensure_future(self._connection.close())
        _closing.add(closing)  # closed half-way it would stay for good: whoever cannot wait lets it go on
        closing.add_done_callback(_closing.discard)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(closing)
        except Exception:
            _log.warning("a connection did not close properly", exc_info=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.run_in_executor(None, self._decoder.join)
        self._tasks.clear()

    def _arrived(self, picture: VideoFrame, came: float) -> None:
        """Called on the decoder's thread; the canvas keeps the newest."""
        self._heard = monotonic()
        self.canvas.put(picture, came)

    def _lost(self) -> None:
        if self._bounded is not None:
            self._do(self._bounded.ask_for_key_frame())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, sender: RTCRtpSender, bounded: Bounded) -> None:
        """Notice when nobody is there any more, or somebody who sends what no browser would."""
        while not self._ended:
            await asyncio.sleep(_LOOK_SECONDS)
            reason = await bounded.why_not()
            if reason is not None:
                self._end(reason)
            state = self._connection.connectionState
            if state in ("failed", "closed"):
                self._end(f"the connection has {'failed' if state == 'failed' else 'been closed'}")
            elif not self.sends and state == "connected" and await self._is_read(sender):
                self._heard = monotonic()
            elif monotonic() - self._heard > PATIENCE_SECONDS:
                self._end(f"nothing has come for {PATIENCE_SECONDS:g} s")

    async def _is_read(self, sender: RTCRtpSender) -> bool:
        """Whether the other side has told anew that it gets something."""
        told = [part.timestamp for part in (await sender.getStats()).values() if part.type == "remote-inbound-rtp"]
        before, self._told = self._told, told
        return told != before

    def _painted(self, frame: VideoFrame, came: float) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there any more
            self._loop.call_soon_threadsafe(self._track.offer, frame, came)

    def _failed(self, error: VidstyleError) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, str(error))

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self, reason)


def _codecs() -> list[RTCRtpCodecCapability]:
    """All that there are, VP8 first: at 640x360 aiortc's H.264 takes five times its processor time."""
    return sorted(RTCRtpSender.getCapabilities("video").codecs, key=lambda codec: codec.mimeType != _VP8)


def _use_addresses(transceiver: RTCRtpTransceiver, addresses: list[str]) -> None:
    """Have ICE listen on ``addresses``: left to itself it takes all of the machine but the loopback ones."""
    connection: Any = transceiver.receiver.transport.transport._connection
    gather = connection.get_component_candidates
    connection.get_component_candidates = lambda component, **_: gather(component, addresses)
