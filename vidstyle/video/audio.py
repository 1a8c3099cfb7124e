"""Sound: decoded pieces on the capture clock, tracks made of them, and AAC and other tracks encoded anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from vidstyle.video.demux import move_packet

LIVE_RATE = 48_000
"""Samples a second of every live sound."""
LAYOUTS = ("mono", "stereo")
USUAL_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""Layouts that both AAC and Opus take, by the number of channels; the resampler mixes others into them."""
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Samples a second, in the order in which AAC numbers them."""
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "7.1"}
_BIT_RATES = {"aac": 96_000, "libopus": 64_000}  # for each channel
_GAP_SECONDS = 0.04  # how far two pieces may miss each other before the times are believed more than the samples
_JUMP_SECONDS = 0.1  # a piece that is off by more has lost samples before it (or comes twice): silence, or a cut
_SETTLING_SECONDS = 2.0  # over how long the error of the clock is averaged; pieces arrive a little early and late
_TOLERANCE_SECONDS = 0.005  # an average error below this is left alone
_STRETCH = 0.005  # the most by which a piece is made longer or shorter, as a share: a twelfth of a semitone
_SILENCE_SECONDS = 1.0  # silence is made in pieces of this length, so that no gap takes much memory


@dataclass(frozen=True)
class AudioFormat:
    """What every piece of one sound has in common."""

    rate: int
    channels: int

    @property
    def label(self) -> str:
        return "stereo" if self.channels == 2 else "mono"


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """A piece of sound and the time at which it is heard."""

    samples: NDArray[np.float32]
    """Planar, of shape (channels, n), from -1 to 1."""
    form: AudioFormat
    pts: int
    """Of the first sample, in microseconds of the capture clock (`time.monotonic`)."""


def audio_format(stream: AudioStream) -> AudioFormat:
    """The format that sound of ``stream`` is brought to: mono stays mono, everything else becomes stereo."""
    return AudioFormat(LIVE_RATE, 1 if stream.codec_context.layout.nb_channels == 1 else 2)


class Resampler:
    """PyAV's resampler into one form, made anew where frames of another kind come: it would pass those on as they are.

    Broadcasts change between stereo and 5.1.
    """

    def __init__(self, format: object, layout: object, rate: int) -> None:
        self._made = format, layout, rate
        self._resampler: AudioResampler | None = None
        self.kind: tuple[str, str, int] | None = None
        """Sample format, layout and rate of the frames that came last."""

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """What is ready after ``frame``; None is the end, and gives what was held back."""
        kind = self.kind if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        made = []
        if kind != self.kind:
            made = self.resample(None)
            self._resampler, self.kind = AudioResampler(*self._made), kind  # type: ignore[arg-type]
        ready = [] if self._resampler is None else self._resampler.resample(frame)
        return [*made, *(one for one in ready if one is not None)]


class AudioReader:
    """Turns a decoder's frames into samples of ``form``. One reader serves one stream and one thread."""

    def __init__(self, form: AudioFormat) -> None:
        self.form = form
        self._resampler = Resampler("fltp", LAYOUTS[form.channels - 1], form.rate)
        self._next: float | None = None

    def read(self, frame: AudioFrame) -> Iterator[tuple[NDArray[np.float32], float]]:
        """Pieces of float32 of shape (channels, n) and their times in seconds of the stream."""
        for piece in self._resampler.resample(frame):
            if piece.pts is not None and piece.time_base and piece.samples:
                samples = np.clip(np.asarray(piece.to_ndarray(), np.float32), -1.0, 1.0)
                yield samples, float(piece.pts * piece.time_base)

    def join(self, samples: NDArray[np.float32], at: int) -> AudioChunk:
        """The piece that begins ``at``, or where the one before ends, as long as that is true to the clock."""
        begin = float(at)
        if self._next is not None and abs(self._next - at) < _GAP_SECONDS * 1e6:
            begin = self._next
        self._next = begin + samples.shape[1] / self.form.rate * 1e6
        return AudioChunk(samples, self.form, round(begin))


class AudioTrack:
    """The samples of one track, counted from the moment ``origin``.

    A sound card has a clock of its own, which goes a little faster or slower than the capture clock that the pictures
    have. The track follows the capture clock: where the average error grows beyond 5 ms pieces are stretched or
    squeezed by at most half a percent, where it jumps silence is put in or what overlaps is cut away.
    """

    def __init__(self, form: AudioFormat, origin: int) -> None:
        """``origin`` is the time of the first sample, in microseconds of the capture clock."""
        self.form = form
        """Of the track; pieces of another form are converted."""
        self.length = 0
        self._origin = origin
        self._drift = 0.0
        self._exact = True
        self._resampler = Resampler("fltp", LAYOUTS[form.channels - 1], form.rate)

    def add(self, sound: AudioChunk) -> Iterator[NDArray[np.float32]]:
        """The samples that ``sound`` continues the track with, float32 of shape (channels, n)."""
        samples = self._converted(sound)
        error = self._place(sound.pts) - self.length
        if self._exact or abs(error) > _JUMP_SECONDS * self.form.rate:
            self._drift = 0.0
            yield from self._silence(error)
            samples = samples[:, max(0, -error) :]
            self._exact = samples.shape[1] == 0  # until a piece reaches beyond the track's end
        else:
            samples = self._drawn(samples, error)
        if samples.shape[1]:
            self.length += samples.shape[1]
            yield samples

    def fill(self, pts: int) -> Iterator[NDArray[np.float32]]:
        """Silence up to the time ``pts``, where the track is not there yet."""
        self._exact = True
        yield from self._silence(self._place(pts) - self.length)

    def skip(self) -> None:
        """Know that pieces were left out: the next one goes to its very place."""
        self._exact = True

    def end(self) -> int:
        """The time, in microseconds of the capture clock, at which the track ends so far."""
        return self._origin + self.length * 1_000_000 // self.form.rate

    def _place(self, pts: int) -> int:
        return round((pts - self._origin) * self.form.rate / 1_000_000)

    def _silence(self, count: int) -> Iterator[NDArray[np.float32]]:
        while count > 0:
            part = min(count, int(_SILENCE_SECONDS * self.form.rate))
            count -= part
            self.length += part
            yield np.zeros((self.form.channels, part), np.float32)

    def _drawn(self, samples: NDArray[np.float32], error: int) -> NDArray[np.float32]:
        count = samples.shape[1]
        share = min(1.0, count / (self.form.rate * _SETTLING_SECONDS))
        self._drift += share * (error - self._drift)
        if abs(self._drift) <= _TOLERANCE_SECONDS * self.form.rate:
            return samples
        most = int(count * _STRETCH)
        change = max(-most, min(most, round(self._drift)))
        if change == 0:
            return samples
        self._drift -= change
        # Linear interpolation: at half a percent what it takes from the highest tones is not heard.
        places = np.linspace(0, count - 1, count + change)
        return np.stack([np.interp(places, np.arange(count), channel) for channel in samples]).astype(np.float32)

    def _converted(self, sound: AudioChunk) -> NDArray[np.float32]:
        if sound.form == self.form:
            return sound.samples
        channels = sound.samples[: len(LAYOUTS)]
        parts = self._resampler.resample(audio_frame(channels, sound.form.rate, None))
        return np.concatenate([np.zeros((self.form.channels, 0), np.float32), *(p.to_ndarray() for p in parts)], axis=1)


def audio_frame(samples: NDArray[np.float32], rate: int, pts: int | None) -> AudioFrame:
    """PyAV's frame of float32 ``samples`` of shape (1 or 2, n); ``pts`` counts samples."""
    made = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", LAYOUTS[samples.shape[0] - 1])
    made.sample_rate = rate
    made.pts = pts
    return made


def add_encoder(output: OutputContainer, encoder: str, rate: int, channels: int) -> AudioStream:
    """A new track of ``output``, with as many ``channels``, at ``rate`` if ``encoder`` takes it."""
    stream = cast(AudioStream, output.add_stream(encoder, rate=encoded_rate(encoder, rate)))
    _set_up(stream.codec_context, encoder, USUAL_LAYOUTS[channels - 1], stream.codec_context.sample_rate)
    return stream


def encoded_rate(encoder: str, rate: int) -> int:
    return rate if encoder == "aac" and rate in AAC_RATES else 48000


def _set_up(context: AudioCodecContext, encoder: str, layout: str, rate: int) -> None:
    context.layout = layout
    context.bit_rate = _BIT_RATES[encoder] * context.channels
    context.time_base = Fraction(1, rate)


class AudioEncoder:
    """Decodes the packets of one sound track and encodes them anew."""

    def __init__(self, source: AudioStream, output: OutputContainer, encoder: str) -> None:
        self._source = source.codec_context
        self.change: str | None = None
        """What the track changes to in mid-stream, and what becomes of that; None where it does not."""
        channels = min(source.codec_context.channels, len(USUAL_LAYOUTS))
        self.stream = add_encoder(output, encoder, source.codec_context.sample_rate, channels)
        context = self.stream.codec_context
        self._resampler = Resampler(context.format, context.layout, context.sample_rate)

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, made of one packet of the source shown ``shift`` seconds earlier."""
        made: list[Packet[Stream]] = []
        for frame in self._source.decode(packet):
            if frame.pts is not None and frame.time_base:
                # AVI counts packets, of which each may last 24 ms: too coarse to be exact.
                frame.pts = round((frame.pts * frame.time_base - shift) * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            made += self._encoded(frame)
        return made

    def flush(self) -> list[Packet[Stream]]:
        frames = [*self._source.decode(None), None]
        return [*(packet for frame in frames for packet in self._encoded(frame)), *self.stream.encode(None)]

    def _encoded(self, frame: AudioFrame | None) -> list[Packet[Stream]]:
        before, context = self._resampler.kind, self.stream.codec_context
        made = [packet for one in self._resampler.resample(frame) for packet in self.stream.encode(one)]
        kind = self._resampler.kind
        if before is not None and kind is not None and before[1:] != kind[1:] and self.change is None:
            self.change = (
                f"{kind[1]} at {kind[2]} Hz; "
                f"all of it is converted to {context.layout.name} at {context.sample_rate} Hz"
            )
        return made


_MPEG_RATES = (44100, 48000, 32000)
_MPEG_DIVISORS = {3: 1, 2: 2, 0: 4}  # by version: MPEG-1, MPEG-2, MPEG-2.5
_AC3_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = ("two mono", "mono", "stereo", "3.0", "3.0(back)", "4.0", "quad", "5.0 or 5.1")


def described_header(codec: str, head: bytes) -> str | None:
    """Channels and rate for people, ``stereo at 48000 Hz``, from a packet's first bytes; None where it is not said.

    Knows ``mp1``, ``mp2``, ``mp3``, ``ac3`` and ``eac3``.
    """
    if codec in ("mp1", "mp2", "mp3"):
        if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
            return None
        divisor, rate = _MPEG_DIVISORS.get(head[1] >> 3 & 3), head[2] >> 2 & 3
        if divisor is None or rate == 3:
            return None
        return f"{'mono' if head[3] >> 6 == 3 else 'stereo'} at {_MPEG_RATES[rate] // divisor} Hz"
    if codec not in ("ac3", "eac3") or len(head) < 7 or head[:2] != b"\x0b\x77" or head[4] >> 6 == 3:
        return None
    enhanced = head[5] >> 3 > 10
    if enhanced and head[2] >> 3:  # not the first substream, which alone has the whole sound
        return None
    channels = head[4] >> 1 & 7 if enhanced else head[6] >> 5
    return f"{_AC3_CHANNELS[channels]} at {_AC3_RATES[head[4] >> 6]} Hz"


_ADTS_BYTES = 7
_AAC_SLACK = 512  # half a packet, in samples
_EXPLICIT_SBR = (5, 29)


@dataclass(frozen=True)
class AacConfig:
    """What a decoder must know before the first packet."""

    profile: int
    """Audio object type; 2 is LC."""
    rate: int
    """Place in `AAC_RATES`."""
    channels: int
    """Channel configuration: 1 to 6 channels, 7 are eight."""

    @property
    def label(self) -> str:
        rate = f"{AAC_RATES[self.rate]} Hz" if self.rate < len(AAC_RATES) else "an unknown rate"
        return f"{_AAC_LAYOUTS.get(self.channels, 'other channels')} at {rate}"

    @classmethod
    def of(cls, packet: Packet[Stream]) -> AacConfig | None:
        """What the packet says of itself: its ADTS header, or a new configuration beside it; None where nothing."""
        if packet.size >= _ADTS_BYTES:
            head = bytes(memoryview(packet)[:4])
            if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
                return cls((head[2] >> 6) + 1, head[2] >> 2 & 15, (head[2] & 1) << 2 | head[3] >> 6)
        if packet.has_sidedata("new_extradata"):
            return cls.parse(bytes(packet.get_sidedata("new_extradata")))
        return None

    @classmethod
    def parse(cls, extradata: bytes | None) -> AacConfig | None:
        """What an AudioSpecificConfig (ISO/IEC 14496-3) says of the core; None where it is none of the usual ones."""
        if extradata is None or len(extradata) < 2:
            return None
        bits = int.from_bytes(extradata[:2], "big")
        profile, rate, channels = bits >> 11, bits >> 7 & 15, bits >> 3 & 15
        return cls(2 if profile in _EXPLICIT_SBR else profile, rate, channels)


class AacCopy:
    """Takes packets over as they are while they are as at the start; what is other is encoded like the start.

    AAC tracks say once for all what they hold, and some sources change in mid-stream.
    """

    def __init__(self, source: AudioStream, copy: Stream) -> None:
        self.stream = copy
        self.change: str | None = None
        """What the track changes to in mid-stream, and what becomes of that; None where it does not."""
        self._source = source.codec_context
        self._first = AacConfig.parse(source.codec_context.extradata)
        self._now = self._first
        self._head: bytes | None = None
        self._fitting: _Fitting | None = None

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, shown ``shift`` seconds earlier than ``packet``."""
        said = AacConfig.of(packet)
        if said is not None:
            self._now = said
        if self._first is None:
            self._first = self._now
        if shift:
            move_packet(packet, -round(shift / packet.time_base))
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
        decoded = self._source.decode(packet)
        return self._sent([made for frame in decoded for made in self._fitting.encoded(frame)])

    def skip(self, packet: Packet[Stream]) -> None:
        """Know of a packet that is left out: what follows may be like it."""
        said = AacConfig.of(packet)
        if said is None or said == self._now:
            return
        self._now = said
        with contextlib.suppress(av.error.FFmpegError):
            self._source.decode(packet)  # the decoder needs what stands beside it, too

    def flush(self) -> list[Packet[Stream]]:
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
        if config.channels not in _AAC_LAYOUTS or config.rate >= len(AAC_RATES):
            raise av.error.InvalidDataError(0, f"nothing can be encoded as AAC of {config.label}")
        encoder = self._encoder = CodecContext.create("aac", "w")
        encoder.rate = AAC_RATES[config.rate]
        encoder.format = "fltp"
        _set_up(encoder, "aac", _AAC_LAYOUTS[config.channels], encoder.rate)
        self._head = head
        # Times are rounded on their way through the resampler.
        self._begin = None if first.pts is None else first.pts * first.time_base - Fraction(_AAC_SLACK, encoder.rate)
        self._resampler = Resampler(encoder.format, encoder.layout, encoder.rate)

    def encoded(self, frame: AudioFrame | None) -> list[Packet[Stream]]:
        """The packets that are ready after ``frame``; None is the end of the frames."""
        made = [packet for one in self._resampler.resample(frame) for packet in self._encoder.encode(one)]
        return self._packed(made)

    def flushed(self) -> list[Packet[Stream]]:
        return self.encoded(None) + self._packed(self._encoder.encode(None))

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
