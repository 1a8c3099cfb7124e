"""Which frames of a video are missing, so that none is lost in silence."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.video.container import open_input, packets

_ERRORS_KEPT = 5
# Containers differ by a frame or two, and by rounding, between the length they declare and what they hold.
_SLACK_SECONDS = 1.0
_UNCODED_BYTES = 16
"""A packet of MPEG-4 that is no larger says that the last picture goes on; players show nothing new."""
_ONE_FRAME_A_PACKET = ("h264", "hevc", "libdav1d", "av1", "mpeg4", "ffv1", "mjpeg", "prores")


class LossLedger:
    """Books packets against frames."""

    def __init__(self, stream: VideoStream, *, interlaced: bool) -> None:
        self._stream = stream
        # A packet may hold one field of two, or a picture that is never shown.
        self._balances = stream.codec_context.name in _ONE_FRAME_A_PACKET and not interlaced
        self._open: list[int | None] = []
        self._uncoded: set[int | None] = set()
        self._first_key: int | None = None
        self._shown = False
        self._damaged = False
        self.end = Fraction(0)
        """Seconds at which the last picture ends that came out, or that a packet without data asked to go on."""
        self._last_dts: int | None = None
        self._read_failed = False
        self.lost = 0
        """Frames that could not be decoded, or not in full."""
        self.skipped = 0
        """Frames before the first key frame, of which no decoder can make a picture; they are no losses."""
        self.errors: list[str] = []
        """Sentences on the first few."""

    def entered(self) -> None:
        """What comes now is of another part of the file, and leans on nothing that came before."""
        self._first_key, self._shown, self._damaged = None, False, False

    def came(self, packet: Packet[VideoStream]) -> None:
        """A packet was read."""
        if packet.dts is not None:
            self._last_dts = packet.dts
        if packet.is_keyframe and self._first_key is None:
            self._first_key = packet.pts
        if not packet.size and packet.pts is not None:
            self.end = max(self.end, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def sent(self, packet: Packet[VideoStream]) -> None:
        """A packet of the clip goes to the decoder."""
        if not packet.is_discard:
            self._open.append(packet.pts)
            if self._stream.codec_context.name == "mpeg4" and packet.size <= _UNCODED_BYTES:
                self._uncoded.add(packet.pts)

    def failed(self, packet: Packet[VideoStream]) -> None:
        """The decoder refused a packet."""
        self._settle(packet.pts)
        if self._first_key is None and not self._shown:
            self.skipped += 1
        else:
            self._damaged = True
            self._lose(1, f"a frame{_at(packet.pts, self._stream)} could not be decoded")

    def unreadable(self, reason: str) -> None:
        """The file could not be read on."""
        self._read_failed = True
        self._tell(f"the file could not be read on: {reason}")

    def decoded(self, frame: VideoFrame, *, wanted: bool) -> None:
        """A frame came out, ``wanted`` if it begins within the clip."""
        if frame.pts is not None:
            self.end = max(self.end, (frame.pts + frame.duration) * (self._stream.time_base or Fraction(0)))
        if not self._shown and frame.pts is not None:
            self._shown = True
            # Nobody could show what precedes the first picture, unless it was damage that kept it from being shown.
            first = self._first_key if self._damaged else frame.pts
            before = [pts for pts in self._open if pts is not None and first is not None and pts < first]
            self._open = [pts for pts in self._open if pts not in before]
            self.skipped += len(before)
        if not wanted:
            return
        self._settle(frame.pts)
        if frame.is_corrupt:
            self._lose(1, f"the frame{_at(frame.pts, self._stream)} is damaged and was repaired by guessing")

    def ended(self, path: Path, declared_end: Fraction | None, rate: Fraction | None) -> None:
        """Nothing more comes: book what was never seen."""
        open_ = [pts for pts in self._open if pts not in self._uncoded]
        if self._balances and open_:
            self._lose(len(open_), f"{len(open_)} frames gave no picture")
        missing = self._missing(path, declared_end, rate)
        if missing:
            self._lose(missing, f"the file ends {missing} frames early: it is cut off")
        elif self._read_failed:
            self.lost += 1

    def _settle(self, pts: int | None) -> None:
        if pts in self._open:
            self._open.remove(pts)
        elif self._open:
            del self._open[0]

    def _missing(self, path: Path, declared_end: Fraction | None, rate: Fraction | None) -> int:
        stream = self._stream
        if stream.container.format.name.startswith("mov,") and self._last_dts is not None:
            # The index of an MP4 lists every frame, whether or not it is there.
            index = stream.index_entries
            missing = 0
            for place in range(len(index) - 1, -1, -1):
                stamp = index[place].timestamp
                if stamp <= self._last_dts:
                    break
                if declared_end is None or stamp * (stream.time_base or 0) < declared_end:
                    missing += 1
            return missing
        if declared_end is None or rate is None or declared_end - self.end <= _SLACK_SECONDS:
            return 0
        # Sound or subtitles that go on are no sign of damage.
        own = stream.duration is not None and not stream.container.format.name.startswith("matroska")
        says_own_length = own or "DURATION" in stream.metadata
        if not says_own_length and _others_end(path, stream.index) > self.end:
            return 0
        return round((declared_end - self.end) * rate)

    def _lose(self, count: int, sentence: str) -> None:
        self.lost += count
        self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        if len(self.errors) < _ERRORS_KEPT and sentence not in self.errors:
            self.errors.append(sentence)


def _at(pts: int | None, stream: VideoStream) -> str:
    return "" if pts is None or not stream.time_base else f" at {float(pts * stream.time_base):.3f} s"


def _others_end(path: Path, index: int) -> Fraction:
    """Seconds at which the last packet of any other track ends, less half a second for what overlaps."""
    end = Fraction(0)
    with open_input(path) as container, contextlib.suppress(av.error.FFmpegError):
        others = [s for s in container.streams if s.index != index and s.type in ("audio", "video", "subtitle")]
        for packet in packets(container, *others) if others else ():
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return end - Fraction(1, 2)
