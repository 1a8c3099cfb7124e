"""Bounds for what aiortc and aioice leave to the other side. Whoever that is may send what no browser would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.rtcrtpreceiver import NackGenerator
from aiortc.rtp import RTP_HISTORY_SIZE, RtpPacket
from aiortc.utils import uint16_add, uint16_gt

from vidstyle.serve.decoder import Decoder

_MOST_DATAGRAMS = 512
_MOST_DATAGRAM_BYTES = 2048
_MOST_RESENT = 500.0
"""Packets a second that are sent again for who says that they were lost."""
_MOST_PACKETS = 3000.0
"""A second, from one visitor: several times what 1920x1080 takes."""
_MOST_SOURCES = 8
"""Streams (SSRC) that one visitor may have begun within ten seconds: one, its retransmission, and their successors."""
_MOST_CANDIDATES = 64
"""Addresses that one visitor may come from."""
_WINDOW_SECONDS = 1.0


class Bounded:
    """A connection's receiver, sender and transport, with bounds. To be made before they have begun."""

    def __init__(self, receiver: RTCRtpReceiver, sender: RTCRtpSender, decoder: Decoder) -> None:
        self._receiver = receiver
        self._ice: Any = receiver.transport.transport._connection
        _replace(self._ice, "_queue", _Datagrams())
        _replace(receiver, "_RTCRtpReceiver__decoder_queue", decoder)
        _replace(receiver, "_RTCRtpReceiver__nack_generator", _Nacks())
        _replace(sender, "_retransmit", _sparing(sender._retransmit))
        self._before = monotonic(), 0

    async def why_not(self) -> str | None:
        """Why nothing more should be taken from the visitor; None where all is well. To be asked again and again."""
        if len(self._receiver.getSynchronizationSources()) > _MOST_SOURCES:
            return "it sends more streams than a browser does"
        if len(self._ice.remote_candidates) > _MOST_CANDIDATES:
            return "it sends from more addresses than a browser has"
        now = monotonic()
        then, packets = self._before
        if now - then < _WINDOW_SECONDS:
            return None
        found = (await self._receiver.getStats()).values()
        received = sum(part.packetsReceived for part in found if part.type == "transport")
        self._before = now, received
        if (received - packets) / (now - then) > _MOST_PACKETS:
            return f"it sends more than {_MOST_PACKETS:g} packets a second"
        return None

    async def ask_for_key_frame(self) -> None:
        """Have the visitor's encoder send a picture that needs no other one."""
        for source in self._receiver.getSynchronizationSources()[:_MOST_SOURCES]:
            await self._receiver._send_rtcp_pli(source.source)


def _replace(thing: Any, name: str, value: object) -> None:
    """Put ``value`` in the place of something private: an AttributeError where another version calls it otherwise."""
    getattr(thing, name)
    setattr(thing, name, value)


class _Datagrams(asyncio.Queue[Any]):
    """What has come and is not read yet, from any address until a connection is there: no more than can be meant."""

    def put_nowait(self, item: Any) -> None:
        if item is None or (self.qsize() < _MOST_DATAGRAMS and len(item[0]) <= _MOST_DATAGRAM_BYTES):
            super().put_nowait(item)


class _Nacks(NackGenerator):
    """Without counting up to a number that is far away: nobody could send again what lies between."""

    def add(self, packet: RtpPacket) -> bool:
        before, now = self.max_seq, packet.sequence_number
        if before is not None and uint16_gt(now, before) and uint16_add(now, -before) > RTP_HISTORY_SIZE:
            self.max_seq = now
            self.missing.clear()
            return False
        return super().add(packet)


def _sparing(resend: Callable[[int], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
    """``resend``, at most `_MOST_RESENT` times a second."""
    free_at = 0.0

    async def sparing(sequence_number: int) -> None:
        nonlocal free_at
        now = monotonic()
        if free_at <= now:
            free_at = max(free_at, now - 1) + 1 / _MOST_RESENT
            await resend(sequence_number)

    return sparing
