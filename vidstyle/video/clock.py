"""One clock for a whole file, also where it was joined of parts that count from other times."""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from vidstyle.video.demux import known, open_input, packets

DISCONTINUOUS = ("mpegts", "mpeg")
"""Formats whose clock may jump forwards too, as FFmpeg flags them (AVFMT_TS_DISCONT)."""
_UNINDEXED = (*DISCONTINUOUS, "flv", "ogg", "nut", "asf", "wtv", "rm")
"""Formats that can be joined by `cat`, or by a recorder that starts again: nothing in them lists the whole."""
_JUMP_SECONDS = 10.0
"""A clock that leaps forwards by more than this has jumped, as FFmpeg's own command takes it."""
_BACK_SECONDS = 0.5
"""Decoding times that FFmpeg had to guess go back by less than this without a restart."""
_SOUND_BACK_SECONDS = 0.1
_OVERLAP_SECONDS = 1.0
"""Sound alone that goes back by less overlaps what was before, and keeps its place."""
_SAME_SECONDS = 0.002
_SOUNDS_AHEAD = 100
_STEP_SECONDS = 5.0
"""Streams of one clock are never further apart in the file."""
_ROWS_AHEAD = 10_000
_KEY_WITHIN = 600
"""Pictures among which the first key frame of a part is looked for: broadcasts have one every second or two."""
_READ_ERRORS_ALLOWED = 100


@dataclass(frozen=True)
class Part:
    """A stretch of the file with one clock, as its picture packets are numbered from 0."""

    first: int
    """The first packet."""
    key: int
    """The first that can be decoded without those before; equal to ``first`` where no key frame was found."""
    begin: Fraction
    """Corrected time, in seconds, at which packet ``key`` is shown."""
    fresh: bool
    """Whether decoding begins anew there, as nothing of the part before is needed."""


@dataclass(frozen=True)
class FileClock:
    """What is added to the times of a file's packets, so that they count evenly from its start to its end."""

    moves: dict[int, list[tuple[int, Fraction]]] = field(default_factory=dict, hash=False)
    """By stream: the number of the packet (from 0) from which on times are moved, and by how many seconds."""
    parts: tuple[Part, ...] = ()
    """What the file was joined of: one part if its clock never breaks, none where that was not looked for."""
    start: Fraction | None = None
    """Seconds at which the first picture is shown or the first sound heard; None where that was not looked for."""
    end: Fraction | None = None
    """Seconds at which the last of them ends; None as for ``start``."""

    def move(self, stream: int, number: int) -> Fraction:
        """Seconds to add to the times of packet ``number`` of ``stream``."""
        moves = self.moves.get(stream, [])
        place = bisect_right(moves, number, key=lambda move: move[0])
        return moves[place - 1][1] if place else Fraction(0)


class PacketReader:
    """The packets of some streams of an open file, from its beginning, in the file's corrected time.

    A damaged place raises `av.error.FFmpegError`; reading may go on behind it. The markers that end a
    stream are left out: empty the decoder yourself.
    """

    def __init__(self, container: InputContainer, clock: FileClock, *streams: Stream) -> None:
        self._container = container
        self._streams = streams
        self._clock = clock
        self._numbers: dict[int, int] = {}
        self._delays: dict[int, int] = {}
        self._wraps = container.format.name in DISCONTINUOUS
        self._overlaps = bool(clock.moves) or self._wraps
        self._sounds: dict[int, tuple[Fraction, Fraction]] = {}
        self._demuxed: Iterator[Packet[Any]] | None = None

    def __iter__(self) -> Iterator[Packet[Any]]:
        return self

    def __next__(self) -> Packet[Any]:
        while True:
            if self._demuxed is None:
                self._demuxed = packets(self._container, *self._streams)
            try:
                packet = next(self._demuxed)
            except av.error.FFmpegError:
                self._demuxed = None
                raise
            if not packet.size and packet.dts is None and packet.pts is None:
                continue
            if not self._clock.parts or self._corrected(packet):
                return packet

    def number(self, stream: Stream) -> int:
        """The number of the last packet of ``stream``, from 0."""
        return self._numbers.get(stream.index, 0) - 1

    def _corrected(self, packet: Packet[Any]) -> bool:
        """Move the times of ``packet``; False if it is sound of a time that the part before has filled."""
        stream = packet.stream
        number = self._numbers.get(stream.index, 0)
        self._numbers[stream.index] = number + 1
        packet.pts = _credible_pts(packet, self._delays, wraps=self._wraps)
        seconds = self._clock.move(stream.index, number)
        if seconds:
            ticks = round(seconds / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if stream.type != "audio" or packet.pts is None or not self._overlaps:
            return True
        begin, length = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
        before = self._sounds.get(stream.index)
        overlaps = before is not None and (begin <= before[0] or begin + length / 2 < before[1])
        if overlaps and not packet.has_sidedata("new_extradata"):  # without which what follows cannot be decoded
            return False
        self._sounds[stream.index] = begin, begin + length
        return True


def file_clock(path: Path, container: InputContainer, picture: Stream) -> FileClock:
    """The clock of the file ``path``, open as ``container``, whose pictures are those of stream ``picture``.

    Formats that may hold several clocks are read once, without decoding; others are taken at their word.
    """
    name = container.format.name
    # What a browser records in Matroska does not know its length.
    may_break = name in _UNINDEXED or (
        name.startswith("matroska") and (container.duration is None or _goes_on_behind(path))
    )
    if not may_break:
        return FileClock()
    with open_input(path) as file:
        return _Scan(file, picture.index).clock()


def _goes_on_behind(path: Path) -> bool:
    """Whether a Matroska file has more behind its segment, as where files were joined."""
    with path.open("rb") as file:
        file.seek(4)  # the ID of the EBML header
        file.seek(_ebml_size(file) or 0, os.SEEK_CUR)
        if file.read(4) != _SEGMENT:
            return False
        size = _ebml_size(file)
        return size is not None and file.tell() + size < path.stat().st_size


def _ebml_size(file: BinaryIO) -> int | None:
    """The length of what follows in ``file``, None if it is left open."""
    first = (file.read(1) or b"\xff")[0]
    length = 9 - first.bit_length()
    bits = first & ((1 << 8 - length) - 1) if length <= 8 else 0
    value = int.from_bytes(bytes((bits,)) + file.read(max(0, length - 1)))
    return None if value == (1 << 7 * length) - 1 else value


def _credible_pts(packet: Packet[Any], delays: dict[int, int], *, wraps: bool) -> int | None:
    """When ``packet`` is shown, if that is known.

    Where a clock breaks, FFmpeg may take the time from the other side of the break. ``delays`` keeps, by
    stream, how long after its decoding a packet was last shown.
    """
    if packet.pts is None or packet.dts is None:
        return packet.pts
    delay = packet.pts - packet.dts
    if wraps:
        delay %= _WRAP
    if 0 <= delay * packet.time_base <= _STEP_SECONDS:
        delays[packet.stream.index] = delay
        return packet.dts + delay
    return packet.dts + delays.get(packet.stream.index, 0)


class _Track:
    """What the scan knows of one stream."""

    def __init__(self, stream: Stream, *, picture: bool, rate: Fraction | None) -> None:
        self.exact = known(stream.time_base) or Fraction(1, 1000)
        self.base = float(self.exact)
        self.picture = picture
        self.timed = picture or stream.type == "audio"
        self.step = float(1 / rate) if picture and rate else 0.0
        self.offset = 0.0
        self.exact_offset = Fraction(0)
        self.begin: Fraction | None = None
        self.last: float | None = None
        self.next = 0.0
        self.end = -math.inf
        self.moves: list[tuple[int, Fraction]] = []

    def continued(self, time: float) -> Fraction:
        """The offset with which what has the corrected ``time`` now comes right behind what was last."""
        return self.exact_offset + round((self.next - time) / self.base) * self.exact

    def set_offset(self, seconds: Fraction, number: int) -> None:
        """From packet ``number`` on, times are moved by ``seconds``."""
        if seconds != self.exact_offset:
            self.moves.append((number, seconds))
            self.exact_offset, self.offset = seconds, float(seconds)


_WRAP = 2**33
_SEGMENT = b"\x18\x53\x80\x67"
_STREAM, _NUMBER, _POS, _DTS, _PTS, _DURATION, _KEY = range(7)
_NONE = -(1 << 63)


class _Scan:
    """Reads all packets of a file and finds out where its clock breaks."""

    def __init__(self, container: InputContainer, picture: int) -> None:
        self._discontinuous = container.format.name in DISCONTINUOUS
        # FFmpeg knows the clock of sound in a joined Ogg only from the second page on, and moves it for some codecs.
        self._chained = container.format.name == "ogg"
        self._near = _BACK_SECONDS if self._chained else _STEP_SECONDS
        self._picture = picture
        covers = {s.index for s in container.streams.video if s.disposition & Disposition.attached_pic}
        streams = [s for s in container.streams if s.index not in covers]
        video = next(s for s in container.streams.video if s.index == picture)
        rate = known(video.average_rate)
        self._tracks = {s.index: _Track(s, picture=s.index == picture, rate=rate) for s in streams}
        self._rows = self._read(container, streams)
        number, key, pts = self._first_key(0)
        if not video.codec_context or video.codec_context.name != "h264":
            # Pictures that are shown before the key frame they come behind are left out by the decoder, or can
            # be decoded; of H.264 they cannot, and come out broken.
            pts = min(pts, self._earliest(key))
        self._parts = [Part(number, key, pts, fresh=True)]

    @staticmethod
    def _read(container: InputContainer, streams: list[Stream]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A row for each packet with a time, in the order of the file's bytes."""
        rows = array("q")
        numbers = dict.fromkeys((s.index for s in streams), 0)
        places = dict.fromkeys(numbers, 0)
        delays: dict[int, int] = {}
        errors = 0
        while errors <= _READ_ERRORS_ALLOWED:
            try:
                for packet in packets(container, *streams):
                    if not packet.size and packet.dts is None and packet.pts is None:
                        continue
                    index = packet.stream.index
                    number, numbers[index] = numbers[index], numbers[index] + 1
                    place = places[index] = places[index] if packet.pos is None else packet.pos
                    dts = packet.pts if packet.dts is None else packet.dts
                    if dts is not None:
                        pts = _credible_pts(packet, delays, wraps=container.format.name in DISCONTINUOUS)
                        rows.extend(
                            (
                                index,
                                number,
                                place,
                                dts,
                                dts if pts is None else pts,
                                packet.duration or 0,
                                packet.is_keyframe,
                            )
                        )
            except av.error.FFmpegError:
                errors += 1
                continue
            break
        table = np.frombuffer(rows, np.int64).reshape(-1, 7) if rows else np.zeros((0, 7), np.int64)
        # What the demuxer held back of one stream belongs before what it gave of another.
        return table[np.argsort(table[:, _POS], kind="stable")]

    def clock(self) -> FileClock:
        """The clock of the file."""
        for place, row in self._numbered():
            track = self._tracks[row[_STREAM]]
            time = row[_DTS] * track.base + track.offset
            if self._discontinuous and track.last is not None:
                # FFmpeg follows a clock of 33 bits over its first wrap, and not in parts that come later.
                wraps = round((time - track.next) / (_WRAP * track.base))
                track.set_offset(track.exact_offset - wraps * _WRAP * track.exact, row[_NUMBER])
                time = row[_DTS] * track.base + track.offset
            if not track.timed or track.last is None:
                track.set_offset(self._offset(), row[_NUMBER])
            elif self._breaks(track, time, key=bool(row[_KEY])):
                if abs(time - track.next) > _STEP_SECONDS and self._is_glitch(place, track):
                    # The one packet goes between its neighbours.
                    offset = track.continued(time)
                    track.moves += [(row[_NUMBER], offset), (row[_NUMBER] + 1, track.exact_offset)]
                    continue
                self._rejoin(place, row, track)
            # Before the first key frame FFmpeg does not know in what order pictures are decoded.
            if not track.picture or row[_NUMBER] >= self._parts[-1].key:
                self._note(row, track)
        moves = {index: track.moves for index, track in self._tracks.items() if track.moves}
        starts = [part.begin for part in self._parts[:1]]
        sounds = [track for track in self._tracks.values() if track.timed and not track.picture]
        # Where 0 means something, sound before it only primes the decoder.
        begins = [track.begin for track in sounds if track.begin is not None]
        starts += begins if self._discontinuous else [max(Fraction(0), begin) for begin in begins]
        heard = [track for track in self._tracks.values() if track.timed and track.last is not None]
        ends = [round(track.end / track.base) * track.exact for track in heard]
        return FileClock(moves, tuple(self._parts), min(starts, default=None), max(ends, default=None))

    def _numbered(self) -> Iterator[tuple[int, list[int]]]:
        for begin in range(0, len(self._rows), _ROWS_AHEAD):
            yield from enumerate(self._rows[begin : begin + _ROWS_AHEAD].tolist(), begin)

    def _note(self, row: list[int], track: _Track) -> None:
        length = row[_DURATION] * track.base or track.step
        track.last = row[_DTS] * track.base + track.offset
        track.next = track.last + length
        track.end = max(track.end, row[_PTS] * track.base + track.offset + length)
        if track.begin is None:
            track.begin = row[_PTS] * track.exact + track.exact_offset

    def _offset(self) -> Fraction:
        return self._tracks[self._picture].exact_offset

    def _breaks(self, track: _Track, time: float, *, key: bool) -> bool:
        """Whether a packet at ``time`` cannot be the next one of ``track``."""
        last = track.last
        if last is None:
            return False
        if not self._discontinuous:
            return time < last - _BACK_SECONDS
        if time > track.next + _JUMP_SECONDS:
            return True
        if track.picture:
            return time < last or (key and time == last)
        return time < last - _SOUND_BACK_SECONDS

    def _is_glitch(self, place: int, track: _Track) -> bool:
        """Whether the stream goes on as before right behind row ``place``."""
        index = self._rows[place, _STREAM]
        ahead = self._rows[place + 1 : place + 500]
        ahead = ahead[ahead[:, _STREAM] == index][:3]
        return any(not self._breaks(track, row[_DTS] * track.base + track.offset, key=False) for row in ahead)

    def _rejoin(self, place: int, row: list[int], track: _Track) -> None:
        """Find the clock that ``track`` has from row ``place`` on."""
        time = row[_DTS] * track.base + track.offset
        others = [t for t in self._tracks.values() if t.timed and t is not track and t.last is not None]
        if time > track.next and any(abs(time - other.next) < _STEP_SECONDS for other in others):
            return  # a pause in this stream alone
        for other in others:  # the first of them to break has found out by how much
            moved = time - track.offset + other.offset
            if other.offset != track.offset and abs(moved - track.next) < self._near:
                track.set_offset(other.exact_offset, row[_NUMBER])
                return
        ahead = place if track.picture else self._next_picture(place)
        if ahead is not None and self._picture_breaks(ahead):
            self._join(ahead, place)
            if not track.picture:
                self._rejoin_sound(row, track)
        else:
            self._rejoin_sound(row, track)

    def _rejoin_sound(self, row: list[int], track: _Track) -> None:
        """Sound breaks in ``row``: it takes over the clock of the picture if that fits, else it goes on as it was."""
        time = row[_DTS] * track.base + track.offset
        moved = time - track.offset + self._tracks[self._picture].offset
        if abs(moved - track.next) < self._near and self._offset() != track.exact_offset:
            track.set_offset(self._offset(), row[_NUMBER])
        elif (self._chained or abs(time - track.next) >= _OVERLAP_SECONDS) and track.last is not None:
            track.set_offset(track.continued(time), row[_NUMBER])

    def _leap(self, index: int, place: int) -> float | None:
        """By how many seconds the clock of sound leaps where it does so first from row ``place`` on, if it does."""
        track = self._tracks[index]
        rows = self._rows[place : place + _ROWS_AHEAD]
        expected = track.next
        for row in rows[rows[:, _STREAM] == index][:_SOUNDS_AHEAD].tolist():
            time = row[_DTS] * track.base + track.offset
            if abs(time - expected) > _SAME_SECONDS:
                return float(time - expected)
            expected = time + row[_DURATION] * track.base
        return None

    def _next_picture(self, place: int) -> int | None:
        ahead = np.flatnonzero(self._rows[place : place + _ROWS_AHEAD, _STREAM] == self._picture)
        return place + int(ahead[0]) if ahead.size else None

    def _picture_breaks(self, place: int) -> bool:
        picture = self._tracks[self._picture]
        time = self._rows[place, _DTS] * picture.base + picture.offset
        return self._breaks(picture, time, key=bool(self._rows[place, _KEY]))

    def _first_key(self, place: int) -> tuple[int, int, Fraction]:
        """From row ``place`` on: numbers of the first picture packet and the first key frame, and the latter's pts."""
        ahead = self._rows[place : place + _ROWS_AHEAD]
        ahead = ahead[ahead[:, _STREAM] == self._picture][:_KEY_WITHIN]
        if not len(ahead):
            return 0, 0, Fraction(0)
        keys = np.flatnonzero(ahead[:, _KEY])
        key = ahead[keys[0] if keys.size else 0]
        return int(ahead[0, _NUMBER]), int(key[_NUMBER]), int(key[_PTS]) * self._tracks[self._picture].exact

    def _earliest(self, number: int) -> Fraction:
        """When the first of the few picture packets from ``number`` on is shown."""
        ahead = self._rows[(self._rows[:, _STREAM] == self._picture) & (self._rows[:, _NUMBER] >= number)][:16]
        return min((int(row[_PTS]) for row in ahead), default=0) * self._tracks[self._picture].exact

    def _join(self, picture_place: int, place: int) -> None:
        """A part begins whose first picture packet is in row ``picture_place``: it follows what was shown last."""
        picture = self._tracks[self._picture]
        time = self._rows[picture_place, _DTS] * picture.base + picture.offset
        leap = time - picture.next
        sounds = [i for i, t in self._tracks.items() if t.timed and not t.picture and t.last is not None]
        leaps = [self._leap(index, place) for index in sounds]
        alone = bool(leaps) and not any(leaps) and abs(leap) < _STEP_SECONDS
        number, key, pts = self._first_key(picture_place)
        begin = round(picture.end / picture.base) * picture.exact
        # Where the clock alone leaps, for sound by as much to the tick, or for the picture alone, what was recorded
        # goes on, and needs no key frame. Recordings that were joined have ends and beginnings of their own.
        goes_on = alone or any(other is not None and abs(other - leap) < _SAME_SECONDS for other in leaps)
        fresh = bool(self._rows[picture_place, _KEY]) or not (goes_on or key == number)
        old = picture.exact_offset
        picture.set_offset(begin - pts if fresh else picture.continued(time), number)
        picture.last = None
        self._parts.append(Part(number, key if fresh else number, begin, fresh))
        if alone or self._chained or abs(leap) >= _STEP_SECONDS:
            return
        # The parts' clocks differ by so little that the other streams may not show it themselves.
        after = self._rows[place : place + _ROWS_AHEAD]
        for index, track in self._tracks.items():
            numbers = after[after[:, _STREAM] == index][:1, _NUMBER]
            if track is not picture and numbers.size:
                track.set_offset(track.exact_offset + picture.exact_offset - old, int(numbers[0]))
                track.last = None
