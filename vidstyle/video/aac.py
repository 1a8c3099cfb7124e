"""AAC tracks, which tell once for all what they hold, copied from sources that change in mid-stream."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction

import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.packet import Packet
from av.stream import Stream

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Samples a second, in the order in which AAC numbers them."""
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "7.1"}
_BIT_RATE_A_CHANNEL = 96_000
_ADTS_BYTES = 7
_SLACK = 512  # half a packet, in samples
_EXPLICIT_SBR = (5, 29)


@dataclass(frozen=True)
class AacConfig:
    """What a decoder must know before the first packet."""

    profile: int
    """Audio object type; 2 is LC."""
    rate: int
    """Place in `RATES`."""
    channels: int
    """Channel configuration: 1 to 6 channels, 7 are eight."""

    @property
    def label(self) -> str:
        """For people: ``stereo at 48000 Hz``."""
        rate = f"{RATES[self.rate]} Hz" if self.rate < len(RATES) else "an unknown rate"
        return f"{_LAYOUTS.get(self.channels, 'other channels')} at {rate}"


def config_of(packet: Packet[Stream]) -> AacConfig | None:
    """What the packet says of itself: its ADTS header, or a new configuration beside it; None where nothing."""
    if packet.size >= _ADTS_BYTES:
        head = bytes(memoryview(packet)[:4])
        if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
            channels = (head[2] & 1) << 2 | head[3] >> 6
            return AacConfig((head[2] >> 6) + 1, head[2] >> 2 & 15, channels)
    if packet.has_sidedata("new_extradata"):
        return config_in(bytes(packet.get_sidedata("new_extradata")))
    return None


def config_in(extradata: bytes | None) -> AacConfig | None:
    """What an AudioSpecificConfig (ISO/IEC 14496-3) says of the core; None where it is none of the usual ones."""
    if extradata is None or len(extradata) < 2:
        return None
    bits = int.from_bytes(extradata[:2], "big")
    profile, rate, channels = bits >> 11, bits >> 7 & 15, bits >> 3 & 15
    return AacConfig(2 if profile in _EXPLICIT_SBR else profile, rate, channels)


class AacCopy:
    """Takes packets over as they are while they are as at the start; what is other is encoded like the start."""

    def __init__(self, source: AudioStream, copy: Stream) -> None:
        self.stream = copy
        """The track in the output."""
        self.change: str | None = None
        """What the track changes to in mid-stream, and what becomes of that; None where it does not."""
        self._source = source.codec_context
        self._first = config_in(source.codec_context.extradata)
        self._now = self._first
        self._head: bytes | None = None
        self._fitting: _Fitting | None = None

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, shown ``shift`` seconds earlier than ``packet``."""
        said = config_of(packet)
        if said is not None:
            self._now = said
        if self._first is None:
            self._first = self._now
        ticks = round(shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks
        if self._now == self._first or self._first is None:
            made = self._ended(packet)
            if said is not None and self._head is None and bytes(memoryview(packet)[:1]) == b"\xff":
                self._head = bytes(memoryview(packet)[:_ADTS_BYTES])
            packet.stream = self.stream
            return [*made, packet]
        if self.change is None and self._now is not None:
            self.change = f"{self._now.label}; what is other is converted to {self._first.label}"
        if self._fitting is None:
            self._source.flush_buffers()
            self._fitting = _Fitting(self._first, self._head, packet)
        return self._sent(self._fitting.encoded(self._source.decode(packet)))

    def skip(self, packet: Packet[Stream]) -> None:
        """Know of a packet that is left out: what follows may be like it."""
        said = config_of(packet)
        if said is None or said == self._now:
            return
        self._now = said
        with contextlib.suppress(av.error.FFmpegError):
            self._source.decode(packet)  # the decoder needs what stands beside it, too

    def flush(self) -> list[Packet[Stream]]:
        """The last packets."""
        return self._ended(None)

    def _ended(self, following: Packet[Stream] | None) -> list[Packet[Stream]]:
        """What the encoder still holds back, up to the packet that is taken over as it is."""
        if self._fitting is None:
            return []
        made = self._fitting.flushed()
        self._fitting = None
        if following is not None and following.pts is not None:
            end = following.pts * following.time_base
            made = [packet for packet in made if packet.pts is not None and packet.pts * packet.time_base < end]
        return self._sent(made)

    def _sent(self, packets: list[Packet[Stream]]) -> list[Packet[Stream]]:
        for packet in packets:
            packet.stream = self.stream
        return packets


class _Fitting:
    """Encodes frames of any form as AAC of one configuration."""

    def __init__(self, config: AacConfig, head: bytes | None, first: Packet[Stream]) -> None:
        if config.channels not in _LAYOUTS or config.rate >= len(RATES):
            raise av.error.InvalidDataError(0, f"nothing can be encoded as AAC of {config.label}")
        encoder = CodecContext.create("aac", "w")
        encoder.rate = RATES[config.rate]
        encoder.layout = _LAYOUTS[config.channels]
        encoder.format = "fltp"
        encoder.bit_rate = _BIT_RATE_A_CHANNEL * encoder.channels
        encoder.time_base = Fraction(1, encoder.rate)
        self._encoder = encoder
        self._head = head
        # Times are rounded on their way through the resampler.
        self._begin = None if first.pts is None else first.pts * first.time_base - Fraction(_SLACK, encoder.rate)
        self._resampler: AudioResampler | None = None
        self._made_for: tuple[object, ...] = ()

    def encoded(self, frames: list[AudioFrame]) -> list[Packet[Stream]]:
        made: list[Packet[Stream]] = []
        for frame in frames:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._resampler is None or kind != self._made_for:
                made += self._resampled(None)
                encoder = self._encoder
                self._resampler = AudioResampler(encoder.format, encoder.layout, encoder.sample_rate)
                self._made_for = kind
            made += self._resampled(frame)
        return made

    def flushed(self) -> list[Packet[Stream]]:
        return self._resampled(None) + self._packed(self._encoder.encode(None))

    def _resampled(self, frame: AudioFrame | None) -> list[Packet[Stream]]:
        ready = [] if self._resampler is None else self._resampler.resample(frame)
        return [packet for one in ready if one is not None for packet in self._packed(self._encoder.encode(one))]

    def _packed(self, packets: list[Packet[Stream]]) -> list[Packet[Stream]]:
        """Without what the encoder makes to start up, and with the header that the packets of the source have."""
        made = []
        for packet in packets:
            if self._begin is not None and packet.pts is not None and packet.pts * packet.time_base < self._begin:
                continue
            made.append(packet if self._head is None else self._headed(self._head, packet))
        return made

    def _headed(self, head: bytes, packet: Packet[Stream]) -> Packet[Stream]:
        size = packet.size + _ADTS_BYTES
        # The fields from the length on: 13 bits of it, 11 that say that the bit rate varies, 2 for one block.
        tail = (size << 13 | 0x7FF << 2).to_bytes(4, "big")
        head = bytes([head[0], head[1] | 1, head[2], head[3] & 0xFC | tail[0], *tail[1:]])
        made: Packet[Stream] = Packet(head + bytes(packet))
        made.pts, made.dts, made.time_base, made.duration = packet.pts, packet.dts, packet.time_base, packet.duration
        made.is_keyframe = True
        return made
