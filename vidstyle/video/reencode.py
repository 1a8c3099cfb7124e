"""Sound and subtitles in another codec, for containers that cannot hold the source's."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from vidstyle.video.aac import RATES as AAC_RATES

# FFmpeg's subtitle encoders take ASS events, and want to know the styles that these name.
_ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_MILLISECOND = Fraction(1, 1000)
_BIT_RATE_A_CHANNEL = {"aac": 96_000, "libopus": 64_000}
# Layouts that both AAC and Opus take, by the number of channels; the resampler mixes others into them.
USUAL_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")


class AudioReencoder:
    """Decodes the packets of one sound track and encodes them anew."""

    def __init__(self, source: AudioStream, output: OutputContainer, encoder: str) -> None:
        self._source = source
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self.change: str | None = None
        """What the track changes to in mid-stream, and what becomes of that; None where it does not."""
        rate = source.codec_context.sample_rate
        if encoder == "libopus" or rate not in AAC_RATES:
            rate = 48000
        self.stream = cast(AudioStream, output.add_stream(encoder, rate=rate))
        """The track in the output."""
        channels = min(source.codec_context.channels, len(USUAL_LAYOUTS))
        self.stream.codec_context.layout = USUAL_LAYOUTS[channels - 1]
        self.stream.codec_context.bit_rate = _BIT_RATE_A_CHANNEL[encoder] * channels
        self.stream.codec_context.time_base = Fraction(1, rate)

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, made of one packet of the source shown ``shift`` seconds earlier."""
        made: list[Packet[Stream]] = []
        for frame in self._source.codec_context.decode(packet):
            if frame.pts is not None and frame.time_base:
                # AVI counts packets, of which each may last 24 ms: too coarse to be exact.
                frame.pts = round((frame.pts * frame.time_base - shift) * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            made.extend(self._encoded(frame))
        return made

    def flush(self) -> list[Packet[Stream]]:
        """The last packets."""
        made: list[Packet[Stream]] = []
        for frame in self._source.codec_context.decode(None):
            made.extend(self._encoded(frame))
        made.extend(self._resampled(None))
        return [*made, *self.stream.encode(None)]

    def _encoded(self, frame: AudioFrame) -> list[Packet[Stream]]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        made: list[Packet[Stream]] = []
        if self._resampler is None or kind != self._kind:  # broadcasts change between stereo and 5.1
            made = self._resampled(None)
            context = self.stream.codec_context
            if self._kind is not None and kind[1:] != self._kind[1:] and self.change is None:
                self.change = (
                    f"{frame.layout.name} at {frame.sample_rate} Hz; "
                    f"all of it is converted to {context.layout.name} at {context.sample_rate} Hz"
                )
            self._kind = kind
            self._resampler = AudioResampler(format=context.format, layout=context.layout, rate=context.sample_rate)
        return [*made, *self._resampled(frame)]

    def _resampled(self, frame: AudioFrame | None) -> list[Packet[Stream]]:
        ready = [] if self._resampler is None else self._resampler.resample(frame)
        return [packet for one in ready if one is not None for packet in self.stream.encode(one)]


class SubtitleReencoder:
    """Turns the packets of one text subtitle track into another text format, bold and italics kept."""

    def __init__(self, source: SubtitleStream, output: OutputContainer, encoder: str) -> None:
        self._source = source
        self.change: str | None = None
        self.stream = cast(SubtitleStream, output.add_stream(encoder))
        """The track in the output."""
        self.stream.time_base = _MILLISECOND
        context = self.stream.codec_context
        context.time_base = _MILLISECOND
        # ASS has styles of its own, the others FFmpeg's default.
        header = source.codec_context.extradata if source.codec_context.name in ("ass", "ssa") else None
        context.subtitle_header = header or _ASS_HEADER

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, made of one packet of the source shown ``shift`` seconds earlier."""
        decoded = self._source.codec_context.decode2(packet)
        events = [rect.ass for rect in decoded or () if isinstance(rect, AssSubtitle)]
        stamp = packet.pts if packet.pts is not None else packet.dts
        if not events or stamp is None:
            return []  # MP4 fills pauses with empty packets
        begin = round((stamp * packet.time_base - shift) / _MILLISECOND)
        duration = round((packet.duration or 0) * packet.time_base / _MILLISECOND)
        made: list[Packet[Stream]] = []
        for event in events:
            encoded = self.stream.codec_context.encode_subtitle(SubtitleSet.create(event, 0, duration))
            encoded.stream = self.stream
            encoded.time_base = _MILLISECOND
            encoded.pts = encoded.dts = begin
            encoded.duration = duration
            made.append(encoded)
        return made

    def flush(self) -> list[Packet[Stream]]:
        """Nothing is held back."""
        return []
