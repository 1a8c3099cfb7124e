"""Sound and subtitles in another codec, for containers that cannot hold the source's."""

from __future__ import annotations

from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

_BIT_RATE_A_CHANNEL = {"aac": 96_000, "libopus": 64_000}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_MAX_CHANNELS = 8


class AudioReencoder:
    """Decodes the packets of one sound track and encodes them anew."""

    def __init__(self, source: AudioStream, output: OutputContainer, encoder: str) -> None:
        self._source = source
        rate = source.codec_context.sample_rate
        if encoder == "libopus" or rate not in _AAC_RATES:
            rate = 48000
        self.stream: AudioStream = output.add_stream(encoder, rate=rate)  # type: ignore[assignment]
        """The track in the output."""
        layout = source.codec_context.layout
        channels = layout.nb_channels
        standard = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
        self.stream.codec_context.layout = standard[min(channels, _MAX_CHANNELS)]
        self.stream.codec_context.bit_rate = _BIT_RATE_A_CHANNEL[encoder] * min(channels, _MAX_CHANNELS)
        self.stream.codec_context.time_base = Fraction(1, rate)

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, made of one packet of the source shown ``shift`` seconds earlier."""
        made: list[Packet[Stream]] = []
        for frame in self._source.codec_context.decode(packet):
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(shift / frame.time_base)
            made.extend(self.stream.encode(frame))
        return made

    def flush(self) -> list[Packet[Stream]]:
        """The last packets."""
        made: list[Packet[Stream]] = []
        for frame in self._source.codec_context.decode(None):
            made.extend(self.stream.encode(frame))
        return [*made, *self.stream.encode(None)]
