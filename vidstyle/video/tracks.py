"""Everything of the source but its pictures: sound, subtitles, covers, chapters, metadata."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from vidstyle.video.container import open_input
from vidstyle.video.span import Span

# What the muxer writes by itself, or what was true of the old file only.
_STALE_GLOBAL = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_STALE_STREAM = {"encoder", "rotate", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "BPS"}


class TrackCopier:
    """Reads the source a second time and copies its other tracks into the output, in step with the video."""

    def __init__(self, path: Path, output: OutputContainer, muxer: str, span: Span) -> None:
        self.notes: list[str] = []
        """What is left out or converted; a sentence each."""
        self._output = output
        self._muxer = muxer
        self._span = span
        self._input = open_input(path)
        self._copies: dict[int, Stream] = {}
        self._packets: Iterator[Packet[Stream]] | None = None
        self._next: Packet[Stream] | None = None

    def add_tracks(self, indexes: range) -> None:
        """Make output tracks for those of the source's that have these indexes."""
        for stream in self._input.streams:
            if stream.index in indexes:
                self._add(stream)

    @property
    def count(self) -> int:
        """How many tracks the source has, with the video."""
        return len(self._input.streams)

    def _add(self, stream: Stream) -> None:
        if stream.type != "audio":
            return
        copy = self._output.add_stream_from_template(stream)
        copy.metadata.update(stream_metadata(stream))
        copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    def copy_metadata(self) -> None:
        """Give the output the source's title and so on, and its chapters."""
        tags = {key: value for key, value in self._input.metadata.items() if key not in _STALE_GLOBAL}
        self._output.metadata.update(tags)
        self._output.set_chapters(self._input.chapters())

    def video_tags(self, index: int) -> tuple[dict[str, str], Disposition]:
        """Metadata and dispositions of the video track, for its successor."""
        stream = self._input.streams[index]
        return stream_metadata(stream), stream.disposition

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy what comes before ``seconds`` of the source's clock; None: all that is left."""
        if self._packets is None:
            self._packets = self._wanted()
            self._next = next(self._packets, None)
        while self._next is not None:
            packet = self._next
            if seconds is not None and _seconds(packet) > seconds:
                return
            self._write(packet)
            self._next = next(self._packets, None)

    def _wanted(self) -> Iterator[Packet[Stream]]:
        if not self._copies:
            return
        for packet in self._input.demux([self._input.streams[index] for index in self._copies]):
            if packet.dts is None:
                continue  # the end-of-stream markers
            if self._span.holds(_seconds(packet)):
                yield packet

    def _write(self, packet: Packet[Stream]) -> None:
        copy = self._copies[packet.stream.index]
        shift = round(self._span.shift / packet.time_base)
        if shift:
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = copy
        self._output.mux_one(packet)

    def close(self) -> None:
        """Close the source. Closing twice is fine."""
        with contextlib.suppress(av.error.FFmpegError):
            self._input.close()


def stream_metadata(stream: Stream) -> dict[str, str]:
    """A track's tags, without those that describe the old file."""
    return {k: v for k, v in stream.metadata.items() if k not in _STALE_STREAM and not k.startswith("_STATISTICS")}


def _seconds(packet: Packet[Stream]) -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return (stamp or 0) * packet.time_base
