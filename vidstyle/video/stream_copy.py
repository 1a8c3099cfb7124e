"""Everything of the source but its pictures: sound, subtitles, covers, attachments, chapters, metadata."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, cast

import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from vidstyle.video.audio import USUAL_LAYOUTS, AacCopy, AudioEncoder, described_header
from vidstyle.video.demux import FileClock, PacketReader, known, move_packet, open_input, packet_seconds, packets
from vidstyle.video.formats import Container
from vidstyle.video.info import TrackInfo, readable_tags, track_info
from vidstyle.video.reader import TimeRange

_BITMAP_SUBTITLES = ("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub", "dvb_teletext")
_COVER_TYPES = {"png": "image/png", "mjpeg": "image/jpeg"}
_MILLISECOND = Fraction(1, 1000)
_MAX_DENOMINATOR = 2**31 - 1
_PRIMING_SECONDS = 0.1


class PacketCopy:
    """Takes the packets of one track into the output as they are."""

    def __init__(self, stream: Stream, codec: str = "") -> None:
        self.stream = stream
        self.change: str | None = None
        """What the track changes to in mid-stream, and what becomes of that; None where it does not."""
        self._codec = codec
        self._form: str | None = None
        # Some demuxers do not say how long a packet lasts. MP4 must know, or the last one is not played: such a packet
        # waits for the next.
        self._held: Packet[Stream] | None = None
        self._duration = 0

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """Packets for the output, shown ``shift`` seconds earlier than ``packet``."""
        ticks = _exact_ticks(packet, shift)
        if self.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0  # a cover has no time of its own
        elif ticks:
            move_packet(packet, -ticks)
        form = described_header(self._codec, bytes(memoryview(packet)[:8])) if self._codec else None
        if self._form is not None and form not in (None, self._form) and self.change is None:
            self.change = f"{form}; it is copied as it is, and the output as a whole is said to be {self._form}"
        self._form = self._form or form
        ready = self._released(packet)
        packet.stream = self.stream
        if packet.duration or packet.dts is None or self.stream.type != "audio":
            return [*ready, packet]
        self._held = packet
        return ready

    def flush(self) -> list[Packet[Stream]]:
        return self._released(None)

    def _released(self, following: Packet[Stream] | None) -> list[Packet[Stream]]:
        held, self._held = self._held, None
        if held is None:
            return []
        if following is not None and following.dts is not None and held.dts is not None:
            self._duration = max(0, following.dts - held.dts)
        held.duration = self._duration
        return [held]


# FFmpeg's subtitle encoders take ASS events, and want to know the styles that these name.
ASS_HEADER = b"""[Script Info]
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


class SubtitleEncoder:
    """Turns the packets of one text subtitle track into another text format, bold and italics kept."""

    def __init__(self, source: SubtitleStream, output: OutputContainer, encoder: str) -> None:
        self._source = source
        self.change: str | None = None
        self.stream = cast(SubtitleStream, output.add_stream(encoder))
        self.stream.time_base = _MILLISECOND
        context = self.stream.codec_context
        context.time_base = _MILLISECOND
        # ASS has styles of its own, the others FFmpeg's default.
        header = source.codec_context.extradata if source.codec_context.name in ("ass", "ssa") else None
        context.subtitle_header = header or ASS_HEADER

    def feed(self, packet: Packet[Stream], shift: Fraction) -> list[Packet[Stream]]:
        """As `PacketCopy.feed`."""
        decoded = self._source.codec_context.decode2(packet)
        events = [rect.ass for rect in decoded or () if isinstance(rect, AssSubtitle)]
        if packet.pts is None and packet.dts is None:
            return []
        begin = round((packet_seconds(packet) - shift) / _MILLISECOND)
        duration = round((packet.duration or 0) * packet.time_base / _MILLISECOND)
        made: list[Packet[Stream]] = []
        for event in events:  # none where MP4 fills a pause with an empty packet
            encoded = self.stream.codec_context.encode_subtitle(SubtitleSet.create(event, 0, duration))
            encoded.stream = self.stream
            encoded.time_base = _MILLISECOND
            encoded.pts = encoded.dts = begin
            encoded.duration = duration
            made.append(encoded)
        return made

    def flush(self) -> list[Packet[Stream]]:
        return []


Carrier: TypeAlias = PacketCopy | AacCopy | AudioEncoder | SubtitleEncoder
"""Takes the packets of one track into the output."""


class StreamCopier:
    """Reads the source a second time and takes its other tracks into the output, in step with the video.

    Make the output's tracks with `add_tracks`, in the order of the source, before the first packet is written; then
    call `copy_until` as the video proceeds, and `finish` at its end.
    """

    def __init__(
        self, path: Path, output: OutputContainer, container: Container, span: TimeRange, clock: FileClock
    ) -> None:
        self.notes: list[str] = []
        """What is left out or converted; a sentence each."""
        self._path = path
        self._output = output
        self._container = container
        self._span = span
        self._clock = clock
        self._input = open_input(path)
        self._holds = output.supported_codecs - container.refused
        self._carriers: dict[int, Carrier] = {}
        self._last_dts: dict[int, int] = {}
        self._broken: dict[int, int] = {}
        self._packets: Iterator[Packet[Stream]] | None = None
        self._next: Packet[Stream] | None = None
        self._next_seconds = Fraction(0)

    @property
    def count(self) -> int:
        return len(self._input.streams)

    def add_tracks(self, indexes: range) -> None:
        """Make tracks in the output for those of the source's that have these indexes."""
        for stream in self._input.streams:
            if stream.index in indexes:
                self._add(stream, track_info(stream))

    def take_tags(self, index: int, copy: Stream, label: str) -> None:
        """Give ``copy`` the metadata and dispositions of the source's track ``index``."""
        stream = self._input.streams[index]
        tags = _track_tags(stream, self._container)
        copy.metadata.update(tags)
        copy.disposition = stream.disposition
        lost = sorted(key for key in tags if key.lower() not in _MP4_TRACK) if self._container.is_mp4 else []
        if lost:
            self.notes.append(f"{self._container.name} has no place for the tags {', '.join(lost)} of {label}")

    def add_chapters(self) -> None:
        """Give the output the source's chapters, those of the clip."""
        kept = []
        for chapter in self._input.chapters():
            base = chapter["time_base"] or Fraction(1)
            inside = self._span.cut(chapter["start"] * base, chapter["end"] * base)
            if inside is not None:
                chapter["start"], chapter["end"] = (round((time - self._span.shift) / base) for time in inside)
                chapter["metadata"] = readable_tags(chapter["metadata"])
                kept.append(chapter)
        self._output.set_chapters(kept)

    def copy_until(self, seconds: Fraction) -> None:
        """Copy what comes before ``seconds`` of the output's clock."""
        self._copy(seconds + self._span.shift)

    def finish(self) -> None:
        self._copy(None)
        for index, carrier in self._carriers.items():
            self._mux(carrier.stream, carrier.flush())
            if carrier.change is not None:
                self.notes.append(f"{self._label(index)} changes in mid-stream to {carrier.change}")
        for index, count in self._broken.items():
            self.notes.append(f"{count} packets of {self._label(index)} were damaged and are left out")

    def close(self) -> None:
        with contextlib.suppress(av.error.FFmpegError):
            self._input.close()

    def _label(self, index: int) -> str:
        return track_info(self._input.streams[index]).label

    def _add(self, stream: Stream, info: TrackInfo) -> None:
        carrier: Carrier | None = None
        name = self._container.name
        if info.kind == "audio":
            carrier = self._audio(cast(AudioStream, stream), info)
        elif info.kind == "subtitle":
            carrier = self._subtitle(cast(SubtitleStream, stream), info)
        elif info.kind == "cover":
            carrier = self._cover(stream, info)
        elif info.kind == "attachment":
            self._attachment(cast(AttachmentStream, stream))
        elif info.kind == "video":
            self.notes.append(f"{info.label} is a second picture track: it is left out")
        elif not self._is_written_otherwise(stream):
            self.notes.append(f"{info.label} cannot be written to {name}: it is left out")
        if carrier is not None:
            self._carriers[stream.index] = carrier
            self.take_tags(stream.index, carrier.stream, info.label)

    def _audio(self, stream: AudioStream, info: TrackInfo) -> Carrier | None:
        context = stream.codec_context
        if context is None:
            self.notes.append(f"{info.label} is in a codec that FFmpeg does not know: it is left out")
            return None
        if not context.sample_rate or not context.channels:
            # As broadcasts have it for a language or description that they do not send at the moment.
            self.notes.append(f"{info.label} is empty, at least at its start: it is left out")
            return None
        if context.name in self._holds:
            copy = self._output.add_stream_from_template(stream)
            channels = copy.codec_context.channels
            if copy.codec_context.layout.name == f"{channels} channels" and channels <= len(USUAL_LAYOUTS):
                # Matroska does not say which speakers raw sound is for, MP4 must.
                copy.codec_context.layout = USUAL_LAYOUTS[channels - 1]
            return AacCopy(stream, copy) if info.codec == "aac" else PacketCopy(copy, info.codec)
        encoder = self._container.audio_encoder
        new = encoder.removeprefix("lib")
        self.notes.append(
            f"{info.label} is converted to {new}, because {self._container.name} cannot hold {info.codec}"
        )
        return AudioEncoder(stream, self._output, encoder)

    def _subtitle(self, stream: SubtitleStream, info: TrackInfo) -> Carrier | None:
        name, encoder = self._container.name, self._container.subtitle_encoder
        if stream.codec_context is not None and stream.codec_context.name in self._holds:
            return PacketCopy(self._output.add_stream_from_template(stream))
        if stream.codec_context is None or info.codec in _BITMAP_SUBTITLES:
            self.notes.append(f"{info.label} cannot be written to {name}: it is left out; write to .mkv to keep it")
            return None
        self.notes.append(f"{info.label} is converted to {encoder}, because {name} cannot hold {info.codec}")
        return SubtitleEncoder(stream, self._output, encoder)

    def _cover(self, stream: Stream, info: TrackInfo) -> Carrier | None:
        mime, muxer = _COVER_TYPES.get(info.codec), self._container.muxer
        if muxer == "mp4" and mime is not None:
            return PacketCopy(self._output.add_stream_from_template(stream, opaque=True))
        if muxer == "matroska" and mime is not None:
            # In Matroska a cover is an attached file.
            with open_input(self._path) as file:
                packet = next((p for p in packets(file, file.streams[stream.index]) if p.size), None)
            if packet is not None:
                self._output.add_attachment(f"cover.{mime.removeprefix('image/')}", mime, bytes(packet))
                return None
        self.notes.append(f"{info.label} cannot be written to {self._container.name}: the cover is left out")
        return None

    def _attachment(self, stream: AttachmentStream) -> None:
        tags = readable_tags(stream.metadata)
        name = tags.get("filename")
        if self._container.muxer == "matroska":
            mimetype = tags.get("mimetype") or "application/octet-stream"
            self._output.add_attachment(name or f"attachment{stream.index}", mimetype, stream.data)
        else:
            name = f" {name!r}" if name else ""
            self.notes.append(f"attached file{name} cannot be written to {self._container.name}: it is left out")

    def _is_written_otherwise(self, stream: Stream) -> bool:
        """QuickTime keeps chapter titles and the time code in tracks; the muxer makes them anew."""
        chapter_titles = stream.discard == Discard.all and bool(self._input.chapters())
        return chapter_titles or "timecode" in stream.metadata

    def _copy(self, seconds: Fraction | None) -> None:
        if self._packets is None:
            self._packets = self._wanted()
            self._advance()
        while self._next is not None:
            packet = self._next
            if seconds is not None and self._next_seconds > seconds:
                return
            carrier = self._carriers[packet.stream.index]
            try:
                made = carrier.feed(packet, self._span.shift)
            except av.error.InvalidDataError:
                index = packet.stream.index
                self._broken[index] = self._broken.get(index, 0) + 1
                made = []
            self._mux(carrier.stream, made)
            self._advance()

    def _advance(self) -> None:
        self._next = None if self._packets is None else next(self._packets, None)
        self._next_seconds = Fraction(0) if self._next is None else packet_seconds(self._next)

    def _wanted(self) -> Iterator[Packet[Stream]]:
        """The packets of the clip; subtitles that are on at its begin or end are cut to it."""
        if not self._carriers:
            return
        reader = PacketReader(self._input, self._clock, *(self._input.streams[index] for index in self._carriers))
        standing: dict[int, list[Packet[Stream]]] = {}
        while True:
            try:
                packet = next(reader, None)
            except av.error.FFmpegError:
                return  # the video is cut off at the same place, and says so
            if packet is None:
                break
            if not packet.size:
                continue
            stream, seconds = packet.stream, packet_seconds(packet)
            if stream.disposition & Disposition.attached_pic:
                yield packet
            elif stream.type != "subtitle":
                if self._span.holds(seconds) and not self._is_hidden(packet):
                    yield from self._begun(standing, seconds)
                    yield packet
                elif isinstance(carrier := self._carriers[stream.index], AacCopy):
                    carrier.skip(packet)
            elif packet.duration:
                if self._cut(packet):
                    yield packet
            elif self._span.begin is not None and seconds < self._span.begin:
                before = standing.get(stream.index)
                if before and packet_seconds(before[-1]) != seconds:
                    before.clear()
                standing.setdefault(stream.index, []).append(packet)
            elif not self._span.is_over(seconds):
                yield from self._begun(standing, seconds)
                yield packet
        yield from self._begun(standing, None)

    def _begun(self, standing: dict[int, list[Packet[Stream]]], seconds: Fraction | None) -> Iterator[Packet[Stream]]:
        """What stands on the screen when the clip begins and says nothing of its end: it is shown until the next."""
        begin = self._span.begin
        if begin is None or not standing or (seconds is not None and seconds < begin):
            return
        for packets_ in standing.values():
            for packet in packets_:
                packet.pts = packet.dts = math.ceil(begin / packet.time_base)
                yield packet
        standing.clear()

    def _cut(self, packet: Packet[Stream]) -> bool:
        """Cut the time for which a subtitle is shown to the clip; False if nothing is left."""
        base, begin = packet.time_base, packet_seconds(packet)
        inside = self._span.cut(begin, begin + (packet.duration or 0) * base)
        if inside is None:
            return False
        first, last = math.ceil(inside[0] / base), math.floor(inside[1] / base)
        packet.pts = packet.dts = first
        packet.duration = max(1, last - first)
        return True

    def _is_hidden(self, packet: Packet[Stream]) -> bool:
        # An MP4 can mark its first packets as not to be shown; Matroska cannot, and would play them. The last tenth of
        # a second stays: a decoder needs it to start up, and it lies before time 0.
        return packet.is_discard and not self._container.is_mp4 and packet_seconds(packet) < -_PRIMING_SECONDS

    def _mux(self, stream: Stream, packets: list[Packet[Stream]]) -> None:
        for packet in packets:
            if packet.dts is not None:
                # Muxers refuse a packet that is not later than the one before, counted in the output's ticks; broken
                # files have such packets.
                base = known(stream.time_base) or packet.time_base
                dts, last = _ticks(packet.dts, packet.time_base, base), self._last_dts.get(stream.index)
                if last is not None and dts <= last:
                    pts = dts if packet.pts is None else _ticks(packet.pts, packet.time_base, base)
                    length = _ticks(packet.duration or 0, packet.time_base, base)
                    dts = last + 1
                    packet.time_base, packet.pts, packet.dts, packet.duration = base, max(pts, dts), dts, length
                self._last_dts[stream.index] = dts
            self._output.mux_one(packet)


def _exact_ticks(packet: Packet[Stream], shift: Fraction) -> int:
    """How many units ``shift`` is on the clock of ``packet``, which is made finer for that where it is coarse.

    AVI counts packets: those of MP3 last 24 ms.
    """
    base = Fraction(packet.time_base)
    fine = math.lcm(base.denominator, shift.denominator)
    if base > _MILLISECOND and fine <= _MAX_DENOMINATOR:
        factor = int(base * fine)
        packet.time_base = Fraction(1, fine)
        packet.pts = None if packet.pts is None else packet.pts * factor
        packet.dts = None if packet.dts is None else packet.dts * factor
        packet.duration = (packet.duration or 0) * factor
        base = Fraction(1, fine)
    return round(shift / base)


def _ticks(ticks: int, base: Fraction, new: Fraction) -> int:
    """``ticks`` of ``base`` in ticks of ``new``, rounded as FFmpeg does: halves away from 0."""
    # In whole numbers, as it is asked for every packet of a film.
    above, below = ticks * base.numerator * new.denominator, base.denominator * new.numerator
    return (2 * abs(above) + below) // (2 * below) * (1 if above >= 0 else -1)


# What the muxer writes by itself, or what was true of the old file only.
_STALE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "timecode"}
_STALE_TRACK = re.compile(
    r"(encoder|rotate|vendor_id|bps|alpha_mode|timecode|file_package_umid|number_of_(frames|bytes)|duration"
    r"|_statistics_\w+)(-\w+)?",
    re.IGNORECASE,
)
# Tags for which MP4's usual (iTunes) form has a place.
_MP4_FILE = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort"),
    *("season_number", "media_type", "hd_video", "gapless_playback", "compilation", "track", "disc", "tmpo"),
    "creation_time",
}
_MP4_TRACK = {"language", "title", "handler_name", "creation_time", "stereo_mode"}
# QuickTime numbers its languages; FFmpeg's table of them has these under their other three letters.
_MAC_LANGUAGES = {
    **{"deu": "ger", "nld": "dut", "isl": "ice", "zho": "chi", "sqi": "alb", "hye": "arm", "kat": "geo"},
    **{"mya": "bur", "msa": "may", "mkd": "mac", "cym": "wel", "eus": "baq", "ell": "gre", "fre": "fra"},
    **{"rum": "ron", "cze": "ces", "slo": "slk", "bod": "tib", "fas": "per"},
}


def file_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags of a file, without those that describe the old one or say the same twice."""
    kept = {key: value for key, value in tags.items() if key.lower() not in _STALE_FILE}
    # MP4 tags are read twice if they have a language: "copyright" and "copyright-eng".
    return {key: value for key, value in kept.items() if kept.get(_without_language(key)) != value}


def _without_language(key: str) -> str:
    base, _, language = key.rpartition("-")
    return base if len(language) == 3 else ""


def unusual_tags(tags: dict[str, str]) -> list[str]:
    """File tags that MP4 can store only in QuickTime's free form, which fewer players show."""
    return sorted(key for key in tags if key.lower() not in _MP4_FILE)


def _track_tags(stream: Stream, container: Container) -> dict[str, str]:
    """The tags of a track, without those that describe the old file, in words that the muxer knows."""
    tags = {key: value for key, value in readable_tags(stream.metadata).items() if not _STALE_TRACK.fullmatch(key)}
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")  # MP4 files are read with the one and written with the other
    if stream.disposition & Disposition.attached_pic:
        tags = {key: value for key, value in tags.items() if key not in ("filename", "mimetype")}
    if container.muxer == "mov" and "language" in tags:
        tags["language"] = _MAC_LANGUAGES.get(tags["language"], tags["language"])
    return tags


_TIMECODE = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)([:;.,])(\d\d+)")


def timecode_behind(code: str, rate: Fraction, frames: int) -> str | None:
    """The time code ``frames`` pictures behind ``code``; None where ``code`` is none at ``rate`` pictures a second.

    With another mark than a colon before its last number the code is a drop-frame one (SMPTE ST 12-1): in each minute
    but every tenth the first two numbers of 30 are left out, the first four of 60.
    """
    match = _TIMECODE.fullmatch(code.strip())
    base = round(rate)
    if match is None or base < 1:
        return None
    hours, minutes, seconds, frame = (int(match[i]) for i in (1, 2, 3, 5))
    drops = match[4] != ":"
    if frame >= base or (drops and base % 30):
        return None
    dropped = base // 15 if drops else 0
    minute = 60 * hours + minutes
    number = (60 * minute + seconds) * base + frame - dropped * (minute - minute // 10) + frames
    ten_minutes = 600 * base - 9 * dropped
    number %= 24 * 6 * ten_minutes
    tens, rest = divmod(number, ten_minutes)
    number += 9 * dropped * tens
    if rest >= 60 * base:  # behind the first of ten minutes, which drops nothing
        number += dropped * ((rest - dropped) // (60 * base - dropped))
    frame, seconds = number % base, number // base
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{match[4]}{frame:02}"
