"""WebRTC: offers and answers, a visitor's connection with its limits, and the visitors who are here."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import ipaddress
import logging
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any, Literal

import msgspec
from aioice.ice import get_host_addresses
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from aiortc.rtcrtpreceiver import NackGenerator
from aiortc.rtp import RTP_HISTORY_SIZE, RtpPacket
from aiortc.sdp import SessionDescription
from aiortc.utils import uint16_add, uint16_gt
from av.video.frame import VideoFrame

from vidstyle.metrics import FrameStats
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.decoder import Decoder
from vidstyle.serve.http import ApiError
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.painter import FrameMailbox, InferenceScheduler, MediaRelay
from vidstyle.serve.render_settings import RenderSettings, SettingsChange, default_settings

_log = logging.getLogger(__name__)
IDLE_SECONDS = 10.0
"""A visitor who has not connected, or from whom nothing has come, for so long is removed."""
CONNECT_SECONDS = 3.0
"""One who is connecting keeps the place for so long even if others wait for it."""
STATS_SECONDS, MAX_PACKETS = 1.0, 3000.0
"""Packets a second from one visitor, counted over so long: several times what 1920x1080 takes."""
MAX_SDP_BYTES = 64 << 10
"""The longest session description; browsers send about 5 KiB."""
_MAX_SDP_LINES = 512  # some lines make work with each of the others. Browsers write some 150.
_BAD_SDP = "the offer is not a WebRTC session description that can be read; send what RTCPeerConnection made"
_MAX_REASONS = 100  # the last so many visitors who were removed can ask why
_MAX_DATAGRAMS, _MAX_DATAGRAM_BYTES = 512, 2048
_MAX_RESENT = 500.0  # packets a second that are sent again to a visitor who reports them as lost
_MAX_STREAMS = 8
"""Streams (SSRC) that one visitor may have begun within ten seconds: one, its retransmission, and their successors."""
_MAX_CANDIDATES = 64  # addresses that one visitor may come from
_CHECK_SECONDS, _CLOSE_SECONDS = 0.5, 5.0
_LOOPBACK, _VP8 = "127.0.0.1", "video/VP8"
_BITRATES = (400_000, 800_000, 1_500_000, 2_500_000)
"""Bits a second. Paint is full of edges: below the last one, at 640x360, strokes smear where things move."""
_BITRATE_TRUST = 1.5  # receivers estimate the path by what they get, and so no higher than a little below what is sent
_closing: set[asyncio.Future[None]] = set()  # connections that take longer to close than anybody waits for


class Offer(msgspec.Struct, forbid_unknown_fields=True):
    """What a visitor sends first: JSON as RTCPeerConnection made it, and settings."""

    sdp: str
    type: Literal["offer"] = "offer"
    look: SettingsChange = SettingsChange()


class PeerSessions:
    """All visitors who are here. For one event loop."""

    def __init__(self, scheduler: InferenceScheduler, jobs: Jobs, options: ServeOptions) -> None:
        self.scheduler = scheduler
        self._jobs, self._options = jobs, options
        self._peers: dict[str, PeerSession] = {}
        self.leaving: set[asyncio.Task[None]] = set()
        """Removes visitors who have left."""
        self._reasons: dict[str, str] = {}  # the newest last
        self._dropped = 0
        self.source: MediaRelay | None = None
        """The picture for visitors who send none."""
        self.overrides: dict[str, Any] = {}
        """Fields of `RenderSettings` that hold for whoever comes, whatever the page asks for."""
        self.open = False
        self.accepted = 0
        self.refused = 0
        """Visitors for whom there was no room."""

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[PeerSession]:
        return iter(list(self._peers.values()))

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced, of all visitors so far."""
        return self._dropped + sum(peer.dropped for peer in self)

    def get(self, id: str) -> PeerSession:
        """The visitor with that id; `ApiError` 404 where there is none, with the reason if it was removed."""
        peer = self._peers.get(id)
        if peer is not None:
            return peer
        if id in self._reasons:
            raise ApiError(404, f"this visit has ended: {self._reasons[id]}")
        raise ApiError(404, "there is no such visitor here, or not any more; start with POST /api/visitors")

    async def add(self, offer: Offer) -> tuple[PeerSession, str]:
        """A new visitor and the answer. Raises `ApiError` and `BadOption`."""
        if not self.open:
            raise ApiError(503, "the server is just starting, or stopping; try again", retry_after=2)
        if len(self) >= self._options.visitors:
            late = next((peer for peer in self if peer.is_late), None)
            if late is not None:  # asking for a place without taking it keeps nobody out
                self._on_end(late, "it had not connected, and another visitor came")
        if len(self) >= self._options.visitors:
            self.refused += 1
            message = f"{len(self)} visitors are being painted, the most at once; try again when one has left"
            raise ApiError(503, message, retry_after=10)
        settings = default_settings().changed(offer.look, self._jobs.user_styles())
        settings = replace(settings, **self.overrides)
        sdp = check_offer(offer.sdp, has_source=self.source is not None)
        peer = PeerSession(
            secrets.token_hex(16),
            self.scheduler,
            settings,
            addresses=self._addresses(),
            public_address=self._options.public_address,
            on_end=self._on_end,
        )
        self._peers[peer.id] = peer  # before anything is waited for, so that no more come than may
        try:
            answer = await peer.open(sdp)
        except BaseException:
            await self.remove(peer)
            raise
        self.accepted += 1
        if not peer.sends and self.source is not None:
            self.source.add(peer.mailbox)
        return peer, answer

    def refresh_styles(self) -> None:
        """Show everybody the newest version of a style that is being learned."""
        user_styles = self._jobs.user_styles()
        for peer in self:
            peer.mailbox.settings = peer.mailbox.settings.refreshed(user_styles)

    async def remove(self, peer: PeerSession) -> None:
        """Close a visitor's connection, and free all of it. Twice is fine."""
        self._forget(peer)
        if self.source is not None:
            self.source.remove(peer.mailbox)
        await peer.close()
        await asyncio.get_running_loop().run_in_executor(None, trim_heap)

    async def close(self) -> None:
        await asyncio.gather(*(self.remove(peer) for peer in self), return_exceptions=True)
        while self.leaving:
            await asyncio.wait(self.leaving)

    def _on_end(self, peer: PeerSession, reason: str) -> None:
        _log.info("a visitor has left: %s", reason)
        self._forget(peer)
        self._reasons[peer.id] = reason
        if len(self._reasons) > _MAX_REASONS:
            del self._reasons[next(iter(self._reasons))]
        task = asyncio.get_running_loop().create_task(self.remove(peer))
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)

    def _forget(self, peer: PeerSession) -> None:
        if self._peers.pop(peer.id, None) is not None:
            self._dropped += peer.dropped

    @property
    def is_unreachable(self) -> bool:
        """Whether the server is public, and no address is known that can be reached from anywhere."""
        return (
            self._options.is_public
            and self._options.public_address is None
            and all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in host_addresses())
        )

    def _addresses(self) -> list[str]:
        """The addresses where pictures may come in: where the page does, or where a visitor behind a proxy can."""
        public = self._options.public_address
        if public is not None and _is_own_address(public):
            return [public]
        if self._options.is_public or public is not None:
            return host_addresses() or [_LOOPBACK]
        # Elsewhere than on Linux a browser's socket may belong to another address, and not reach this one.
        return [_LOOPBACK] if sys.platform == "linux" else host_addresses()


class PeerSession:
    """One visitor's connection, from `open` to `close`; where it ends by itself, ``on_end`` is called."""

    def __init__(
        self,
        id: str,
        scheduler: InferenceScheduler,
        settings: RenderSettings,
        *,
        addresses: list[str],
        public_address: str | None = None,
        on_end: Callable[[PeerSession, str], None],
    ) -> None:
        """``addresses`` are those of this machine that the visitor may use; a ``public_address`` leads to them."""
        self.id = id
        self._scheduler = scheduler
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._stats = FrameStats()
        self._track = PaintedTrack(lambda came, now: self._stats.add(now - came, now))
        self._addresses, self._public_address = addresses, public_address
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.decoder = Decoder(self._on_picture, self._on_gap, self._end)
        self._limiter: Limiter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: list[object] = []
        self._created = self._last_heard = monotonic()
        self._ended = False
        self.sends = False
        """Whether the visitor sends a picture; else the server's source is shown."""
        self.mailbox: FrameMailbox = scheduler.add(
            settings,
            lambda frame, came: self._on_loop(self._track.put, frame, came),
            lambda error: self._on_loop(self._end, str(error)),
        )

    async def open(self, offer: str) -> str:
        """The answer to a checked ``offer``. `ApiError` 400 where there is nothing in common."""
        connection = self.connection
        sender = connection.addTrack(self._track)
        transceiver = connection.getTransceivers()[0]
        # VP8 first: at 640x360 aiortc's H.264 takes five times its processor time.
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences(sorted(codecs, key=lambda codec: codec.mimeType != _VP8))
        self._limiter = Limiter(transceiver.receiver, sender, self.decoder)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
            if transceiver._codecs[0].mimeType == _VP8:
                sender._RTCRtpSender__encoder = PaintedEncoder()  # type: ignore[attr-defined]
            use_addresses(transceiver, self._addresses)
            answer = await connection.createAnswer()
            await connection.setLocalDescription(answer)
        except Exception as error:  # offers fail in as many ways as there are
            _log.debug("an offer was refused", exc_info=True)
            raise ApiError(400, "the offer cannot be answered; offer VP8 or H.264, as browsers do") from error
        self.sends = transceiver.currentDirection == "sendrecv"
        self._run(self._watch(sender, self._limiter))
        return add_address(connection.localDescription.sdp, self._public_address)

    @property
    def is_late(self) -> bool:
        """Whether the visitor should have connected by now, and has not."""
        return self.connection.connectionState != "connected" and monotonic() - self._created > CONNECT_SECONDS

    @property
    def dropped(self) -> int:
        """Pictures that came and were not painted, because newer ones were there."""
        return self.mailbox.dropped + self.decoder.dropped

    def facts(self) -> dict[str, Any]:
        """The state as JSON. Latency is from a picture's arrival to its being handed to the encoder."""
        now = monotonic()
        latency = self._stats.latency(now)
        form = self.mailbox.form
        return {
            "id": self.id,
            "state": self.connection.connectionState,
            "source": "camera" if self.sends else "server",
            "fps": round(self._stats.fps(now), 1),
            "latency_ms": None if latency is None else round(1000 * latency[0], 1),
            "latency_p99_ms": None if latency is None else round(1000 * latency[1], 1),
            "frames": self._stats.shown,
            "dropped": self.dropped,
            "size": None if form is None else [form.width, form.height],
            "look": self.mailbox.settings.facts(),
        }

    async def close(self) -> None:
        """End the connection and free everything. Twice is fine."""
        self._ended = True
        self._scheduler.remove(self.mailbox)
        self.decoder.stop()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._track.stop()
        closing = asyncio.ensure_future(self.connection.close())
        _closing.add(closing)  # closed half-way it would stay for good: whoever cannot wait lets it go on
        closing.add_done_callback(_closing.discard)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(closing)
        except Exception:
            _log.warning("a connection did not close properly", exc_info=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.run_in_executor(None, self.decoder.join)
        self._tasks.clear()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, sender: RTCRtpSender, limiter: Limiter) -> None:
        """End the session when the visitor is gone, or sends what no browser would."""
        while not self._ended:
            await asyncio.sleep(_CHECK_SECONDS)
            reason = await limiter.violation()
            if reason is not None:
                self._end(reason)
            state = self.connection.connectionState
            if state in ("failed", "closed"):
                self._end(f"the connection has {'failed' if state == 'failed' else 'been closed'}")
            elif not self.sends and state == "connected" and await self._has_new_report(sender):
                self._last_heard = monotonic()
            elif monotonic() - self._last_heard > IDLE_SECONDS:
                self._end(f"nothing has come for {IDLE_SECONDS:g} s")

    async def _has_new_report(self, sender: RTCRtpSender) -> bool:
        """Whether the other side has reported again that it receives something."""
        reports = [part.timestamp for part in (await sender.getStats()).values() if part.type == "remote-inbound-rtp"]
        before, self._reports = self._reports, reports
        return reports != before

    def _on_picture(self, picture: VideoFrame, came: float) -> None:
        """Called on the decoder's thread."""
        self._last_heard = monotonic()
        self.mailbox.put(picture, came)

    def _on_gap(self) -> None:
        if self._limiter is not None:
            self._run(self._limiter.request_key_frame())

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there any more
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self, reason)


class PaintedTrack(MediaStreamTrack):
    """The painted pictures of one visitor: `recv` returns the newest one, once."""

    kind = "video"

    def __init__(self, on_taken: Callable[[float, float], None]) -> None:
        """``on_taken`` is called with the time when a picture came and the time when it was handed over."""
        super().__init__()
        self._on_taken = on_taken
        self._newest: tuple[VideoFrame, float] | None = None
        self._changed = asyncio.Event()
        self._began = monotonic()
        self._last_pts = -1

    def put(self, frame: VideoFrame, came: float) -> None:
        """Make ``frame`` the newest. On the event loop only."""
        self._newest = frame, came
        self._changed.set()

    async def recv(self) -> VideoFrame:
        while self._newest is None:
            if self.readyState != "live":
                raise MediaStreamError
            await self._changed.wait()
            self._changed.clear()
        (frame, came), self._newest = self._newest, None
        now = monotonic()
        # The time of sending: the browser then shows the picture as soon as it is there. By the time at which it was
        # taken it would keep the differences in what painting took, and wait for the slowest.
        self._last_pts = max(self._last_pts + 1, round((now - self._began) * VIDEO_CLOCK_RATE))
        frame.pts, frame.time_base = self._last_pts, VIDEO_TIME_BASE
        self._on_taken(came, now)
        return frame

    def stop(self) -> None:
        super().stop()
        self._newest = None
        self._changed.set()


class PaintedEncoder(Vp8Encoder):
    """aiortc's VP8 encoder with few bitrates, far apart: at each change it begins anew, with a key frame."""

    def __init__(self) -> None:
        super().__init__()
        self._bitrate = _BITRATES[-1]

    @property
    def target_bitrate(self) -> int:
        return self._bitrate

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        fitting = [rate for rate in _BITRATES if rate <= _BITRATE_TRUST * bitrate]
        self._bitrate = max(fitting, default=_BITRATES[0])


def check_offer(sdp: str, *, has_source: bool) -> str:
    """The session description ``sdp``, written anew without the addresses in it. `ApiError` 400, 409 and 413.

    The server answers whoever comes to it, knowing the password of the answer, and so needs no address.
    And it sends nothing to one that only stands in an offer, which anybody may have written. The result is
    what was checked: two readers need not agree on where a line of ``sdp`` ends.
    ``has_source`` says whether there is a picture for visitors who send none.
    """
    if len(sdp.encode(errors="replace")) > MAX_SDP_BYTES:
        raise ApiError(413, f"the session description has more than {MAX_SDP_BYTES >> 10} KiB")
    if len(sdp.splitlines()) > _MAX_SDP_LINES:
        raise ApiError(413, f"the session description has more than {_MAX_SDP_LINES} lines")
    try:
        description = SessionDescription.parse(sdp)
    except Exception as error:  # whatever the parser stumbles over
        raise ApiError(400, _BAD_SDP) from error
    kinds = [media.kind for media in description.media]
    if kinds != ["video"]:
        found = ", ".join(kind[:20] for kind in kinds[:8]) or "nothing"
        raise ApiError(400, f"the offer is for {found}; offer one video and nothing else")
    media = description.media[0]
    if media.direction not in ("sendrecv", "recvonly"):
        raise ApiError(400, f"the offered video is {media.direction}; it must be sendrecv, or recvonly for the source")
    if media.direction == "recvonly" and not has_source:
        raise ApiError(409, "the server has no source of its own; send a picture to be painted (sendrecv)")
    ice, dtls = media.ice, media.dtls
    if ice is None or dtls is None or not (ice.usernameFragment and ice.password and dtls.fingerprints):
        raise ApiError(400, _BAD_SDP)
    if not media.rtcp_mux:
        raise ApiError(400, "the offer does without rtcp-mux, which no browser does; offer it")
    media.ice_candidates, media.ice_candidates_complete = [], False
    media.host, media.port = None, 9  # "discard": where nothing is known yet
    media.rtcp_host, media.rtcp_port = None, 9
    return str(description)


def add_address(answer: str, address: str | None) -> str:
    """``answer`` with ``address``, if there is one, as an alternative to each of its addresses of the same kind."""
    if address is None:
        return answer
    description = SessionDescription.parse(answer)
    for media in description.media:
        same_kind = [candidate for candidate in media.ice_candidates if (":" in candidate.ip) == (":" in address)]
        media.ice_candidates += [
            replace(candidate, ip=address, foundation=f"public{index}")
            for index, candidate in enumerate(same_kind)
            if candidate.ip != address
        ]
    return str(description)


class Limiter:
    """Limits what aiortc and aioice leave to the other side, which may send what no browser would. Make it of a
    connection's receiver and sender before they start."""

    def __init__(self, receiver: RTCRtpReceiver, sender: RTCRtpSender, decoder: Decoder) -> None:
        self._receiver = receiver
        self._ice: Any = receiver.transport.transport._connection
        _replace(self._ice, "_queue", BoundedDatagrams())
        _replace(receiver, "_RTCRtpReceiver__decoder_queue", decoder)
        _replace(receiver, "_RTCRtpReceiver__nack_generator", BoundedNacks())
        _replace(sender, "_retransmit", _limit_rate(sender._retransmit))
        self._counted = monotonic(), 0

    async def violation(self) -> str | None:
        """Why nothing more should be taken from the visitor; None where all is well. To be asked again and again."""
        if len(self._receiver.getSynchronizationSources()) > _MAX_STREAMS:
            return "it sends more streams than a browser does"
        if len(self._ice.remote_candidates) > _MAX_CANDIDATES:
            return "it sends from more addresses than a browser has"
        now = monotonic()
        then, before = self._counted
        if now - then < STATS_SECONDS:
            return None
        stats = (await self._receiver.getStats()).values()
        received = sum(part.packetsReceived for part in stats if part.type == "transport")
        self._counted = now, received
        if (received - before) / (now - then) > MAX_PACKETS:
            return f"it sends more than {MAX_PACKETS:g} packets a second"
        return None

    async def request_key_frame(self) -> None:
        """Ask the visitor's encoder for a picture that needs no other one."""
        for source in self._receiver.getSynchronizationSources()[:_MAX_STREAMS]:
            await self._receiver._send_rtcp_pli(source.source)


def _replace(thing: Any, name: str, value: object) -> None:
    """Replace a private attribute of aiortc: an AttributeError where another version has another name for it."""
    getattr(thing, name)
    setattr(thing, name, value)


class BoundedDatagrams(asyncio.Queue[Any]):
    """Datagrams that have come, from any address until a connection is there, and are not read yet."""

    def put_nowait(self, item: Any) -> None:
        if item is None or (self.qsize() < _MAX_DATAGRAMS and len(item[0]) <= _MAX_DATAGRAM_BYTES):
            super().put_nowait(item)


class BoundedNacks(NackGenerator):
    """Does not count up to a sequence number that is far away: nobody could send again what lies between."""

    def add(self, packet: RtpPacket) -> bool:
        before, now = self.max_seq, packet.sequence_number
        if before is not None and uint16_gt(now, before) and uint16_add(now, -before) > RTP_HISTORY_SIZE:
            self.max_seq = now
            self.missing.clear()
            return False
        return super().add(packet)


def _limit_rate(resend: Callable[[int], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
    """``resend``, at most `_MAX_RESENT` times a second."""
    free_at = 0.0

    async def limited(sequence_number: int) -> None:
        nonlocal free_at
        now = monotonic()
        if free_at <= now:
            free_at = max(free_at, now - 1) + 1 / _MAX_RESENT
            await resend(sequence_number)

    return limited


def use_addresses(transceiver: RTCRtpTransceiver, addresses: list[str]) -> None:
    """Have ICE listen on ``addresses``: left to itself it takes all of the machine but the loopback ones."""
    connection: Any = transceiver.receiver.transport.transport._connection
    gather = connection.get_component_candidates
    connection.get_component_candidates = lambda component, **_: gather(component, addresses)


def host_addresses() -> list[str]:
    """All addresses of this machine but the loopback ones."""
    return get_host_addresses(use_ipv4=True, use_ipv6=True)


def _is_own_address(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True


def trim_heap() -> None:
    """Collect what holds itself, as connections do, and return free memory to the system. Takes some milliseconds.

    glibc keeps what threads have freed, of each thread apart, and codecs free much.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
