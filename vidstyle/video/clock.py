"""One clock for a whole file, also where it was joined of parts that count from other times."""

from __future__ import annotations

import math
import os
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream

from vidstyle.video.demux import (
    FARTHEST_SECONDS,
    READ_ERRORS_ALLOWED,
    FileClock,
    Part,
    PtsGuard,
    ends_stream,
    known,
    open_input,
    packets,
)
from vidstyle.video.formats import BROADCAST, UNINDEXED

_JUMP_SECONDS = 10.0  # a clock that leaps forwards by more than this has jumped, as FFmpeg's own command takes it
_BACK_SECONDS = 0.5  # decoding times that FFmpeg had to guess go back by less than this without a restart
_SOUND_BACK_SECONDS = 0.1
_OVERLAP_SECONDS = 1.0  # sound alone that goes back by less overlaps what was before, and keeps its place
_SAME_SECONDS = 0.002
_SOUNDS_AHEAD = 100
_ROWS_AHEAD = 10_000
_KEY_WITHIN = 600
"""Pictures among which the first key frame of a part is looked for: broadcasts have one every second or two."""
_SEGMENT = b"\x18\x53\x80\x67"
_STREAM, _NUMBER, _POS, _DTS, _PTS, _DURATION, _KEY = range(7)


def file_clock(path: Path, container: InputContainer, picture: Stream) -> FileClock:
    """The clock of the file ``path``, open as ``container``, whose pictures are those of stream ``picture``.

    Formats that may hold several clocks are read once, without decoding; others are taken at their word.
    """
    name = container.format.name
    # What a browser records in Matroska does not know its length.
    joined = name.startswith("matroska") and (container.duration is None or _goes_on_behind(path))
    if name not in UNINDEXED and not joined:
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


class _Track:
    """What the scan knows of one stream: its clock so far, in seconds, and exactly where that counts."""

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

    def time(self, row: Any) -> float:
        return float(row[_DTS] * self.base + self.offset)

    def continued(self, time: float) -> Fraction:
        """The offset with which what has the corrected ``time`` now comes right behind what was last."""
        return self.exact_offset + round((self.next - time) / self.base) * self.exact

    def set_offset(self, seconds: Fraction, number: int) -> None:
        if seconds != self.exact_offset:
            self.moves.append((number, seconds))
            self.exact_offset, self.offset = seconds, float(seconds)


class _Scan:
    """Reads all packets of a file and finds out where its clock breaks."""

    def __init__(self, container: InputContainer, picture: int) -> None:
        self._discontinuous = container.format.name in BROADCAST
        # FFmpeg knows the clock of sound in a joined Ogg only from the second page on, and moves it for some codecs.
        self._chained = container.format.name == "ogg"
        self._near = _BACK_SECONDS if self._chained else FARTHEST_SECONDS
        self._picture = picture
        covers = {s.index for s in container.streams.video if s.disposition & Disposition.attached_pic}
        streams = [s for s in container.streams if s.index not in covers]
        video = next(s for s in container.streams.video if s.index == picture)
        rate = known(video.average_rate)
        self._tracks = {s.index: _Track(s, picture=s.index == picture, rate=rate) for s in streams}
        self._rows = self._read(container, streams)
        number, key, pts = self._first_key(0)
        if not video.codec_context or video.codec_context.name != "h264":
            # Pictures that are shown before the key frame they come behind are left out by the decoder, or can be
            # decoded; of H.264 they cannot, and come out broken.
            pts = min(pts, self._earliest(key))
        self._parts = [Part(number, key, pts, fresh=True)]

    @staticmethod
    def _read(container: InputContainer, streams: list[Stream]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A row for each packet with a time, in the order of the file's bytes."""
        rows = array("q")
        numbers = dict.fromkeys((s.index for s in streams), 0)
        places = dict.fromkeys(numbers, 0)
        guard = PtsGuard(container)
        for _ in range(READ_ERRORS_ALLOWED + 1):
            try:
                for packet in packets(container, *streams):
                    if ends_stream(packet):
                        continue
                    index = packet.stream.index
                    number, numbers[index] = numbers[index], numbers[index] + 1
                    place = places[index] = places[index] if packet.pos is None else packet.pos
                    dts = packet.pts if packet.dts is None else packet.dts
                    if dts is not None:
                        pts = guard.pts(packet)
                        pts = dts if pts is None else pts
                        rows.extend((index, number, place, dts, pts, packet.duration or 0, packet.is_keyframe))
            except av.error.FFmpegError:
                continue
            break
        table = np.frombuffer(rows, np.int64).reshape(-1, 7) if rows else np.zeros((0, 7), np.int64)
        # What the demuxer held back of one stream belongs before what it gave of another.
        return table[np.argsort(table[:, _POS], kind="stable")]

    def clock(self) -> FileClock:
        rows = (
            numbered
            for begin in range(0, len(self._rows), _ROWS_AHEAD)
            for numbered in enumerate(self._rows[begin : begin + _ROWS_AHEAD].tolist(), begin)
        )
        for place, row in rows:
            track = self._tracks[row[_STREAM]]
            time = track.time(row)
            if self._discontinuous and track.last is not None:
                # FFmpeg follows a clock of 33 bits over its first wrap, and not in parts that come later.
                wraps = round((time - track.next) / (PtsGuard.WRAP * track.base))
                track.set_offset(track.exact_offset - wraps * PtsGuard.WRAP * track.exact, row[_NUMBER])
                time = track.time(row)
            if not track.timed or track.last is None:
                track.set_offset(self._offset(), row[_NUMBER])
            elif self._breaks(track, time, key=bool(row[_KEY])):
                if abs(time - track.next) > FARTHEST_SECONDS and self._is_glitch(place, track):
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

    def _note(self, row: list[int], track: _Track) -> None:
        length = row[_DURATION] * track.base or track.step
        track.last = track.time(row)
        track.next = track.last + length
        track.end = max(track.end, row[_PTS] * track.base + track.offset + length)
        if track.begin is None:
            track.begin = row[_PTS] * track.exact + track.exact_offset

    def _offset(self) -> Fraction:
        return self._tracks[self._picture].exact_offset

    def _ahead(self, place: int, stream: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows of ``stream`` among the many from ``place`` on."""
        ahead = self._rows[place : place + _ROWS_AHEAD]
        found: np.ndarray[Any, np.dtype[np.int64]] = ahead[ahead[:, _STREAM] == stream]
        return found

    def _breaks(self, track: _Track, time: float, *, key: bool) -> bool:
        """Whether a packet at ``time`` cannot be the next one of ``track``."""
        last = track.last
        if last is None or not self._discontinuous:
            return last is not None and time < last - _BACK_SECONDS
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
        return any(not self._breaks(track, track.time(row), key=False) for row in ahead)

    def _rejoin(self, place: int, row: list[int], track: _Track) -> None:
        """Find the clock that ``track`` has from row ``place`` on."""
        time = track.time(row)
        others = [t for t in self._tracks.values() if t.timed and t is not track and t.last is not None]
        if time > track.next and any(abs(time - other.next) < FARTHEST_SECONDS for other in others):
            return  # a pause in this stream alone
        for other in others:  # the first of them to break has found out by how much
            moved = time - track.offset + other.offset
            if other.offset != track.offset and abs(moved - track.next) < self._near:
                track.set_offset(other.exact_offset, row[_NUMBER])
                return
        broken = self._breaking_picture(place)
        if broken is not None:
            self._join(broken, place)
        if broken is None or not track.picture:
            self._rejoin_sound(row, track)

    def _rejoin_sound(self, row: list[int], track: _Track) -> None:
        """Sound breaks in ``row``: it takes over the clock of the picture if that fits, else it goes on as it was."""
        time = track.time(row)
        moved = time - track.offset + self._tracks[self._picture].offset
        if abs(moved - track.next) < self._near and self._offset() != track.exact_offset:
            track.set_offset(self._offset(), row[_NUMBER])
        elif (self._chained or abs(time - track.next) >= _OVERLAP_SECONDS) and track.last is not None:
            track.set_offset(track.continued(time), row[_NUMBER])

    def _leap(self, index: int, place: int) -> float | None:
        """By how many seconds the clock of sound leaps where it does so first from row ``place`` on, if it does."""
        track = self._tracks[index]
        expected = track.next
        for row in self._ahead(place, index)[:_SOUNDS_AHEAD].tolist():
            time = track.time(row)
            if abs(time - expected) > _SAME_SECONDS:
                return float(time - expected)
            expected = time + row[_DURATION] * track.base
        return None

    def _breaking_picture(self, place: int) -> int | None:
        """The row of the first picture from ``place`` on, where it cannot be the next one."""
        ahead = np.flatnonzero(self._rows[place : place + _ROWS_AHEAD, _STREAM] == self._picture)
        if not ahead.size:
            return None
        place += int(ahead[0])
        picture, row = self._tracks[self._picture], self._rows[place]
        return place if self._breaks(picture, picture.time(row), key=bool(row[_KEY])) else None

    def _first_key(self, place: int) -> tuple[int, int, Fraction]:
        """From row ``place`` on: numbers of the first picture packet and the first key frame, and the latter's pts."""
        ahead = self._ahead(place, self._picture)[:_KEY_WITHIN]
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
        time = picture.time(self._rows[picture_place])
        leap = time - picture.next
        sounds = [i for i, t in self._tracks.items() if t.timed and not t.picture and t.last is not None]
        leaps = [self._leap(index, place) for index in sounds]
        alone = bool(leaps) and not any(leaps) and abs(leap) < FARTHEST_SECONDS
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
        if alone or self._chained or abs(leap) >= FARTHEST_SECONDS:
            return
        # The parts' clocks differ by so little that the other streams may not show it themselves.
        for index, track in self._tracks.items():
            numbers = self._ahead(place, index)[:1, _NUMBER]
            if track is not picture and numbers.size:
                track.set_offset(track.exact_offset + picture.exact_offset - old, int(numbers[0]))
                track.last = None
