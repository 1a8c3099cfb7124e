"""When every frame of a video is shown, and at which frames decoding may begin, before anything is painted."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import av.error
import numpy as np
from numpy.typing import NDArray

from vidstyle.options import ClipOptions
from vidstyle.video.demux import ends_stream, open_input, packets, video_stream
from vidstyle.video.formats import INDEXED, ONE_FRAME_A_PACKET
from vidstyle.video.info import VideoInfo, probe
from vidstyle.video.reader import GLIMPSE_SECONDS, TimeRange, VideoReader
from vidstyle.video.stretch import EntryPoint

OnFrames: TypeAlias = Callable[[int, float], None]

_CHECKED = 64
"""Frames that are decoded to see whether the packets' times are those of the pictures."""
_TOLD_FRAMES = 256
_SETTLING = 4
"""Frames that a deinterlacer has to have seen, with some to spare."""
# Packets of MPEG-4 may say that the last picture goes on, and give none.
_PACKETS_ARE_FRAMES = frozenset(ONE_FRAME_A_PACKET) - {"mpeg4"}


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """All frames of a clip, as `VideoReader` gives them."""

    info: VideoInfo
    pts: NDArray[np.int64]
    """Of each frame, in the order of showing, in units of ``info.time_base``; shape (frames,)."""
    keys: list[EntryPoint]
    """The key frames, in the order of showing; the first may lie before the clip."""

    def entry(self, frame: int) -> EntryPoint | None:
        """Where to begin decoding for frame number ``frame`` of the clip; None is the beginning of the file."""
        # What a deinterlacer makes of a frame depends on those around it.
        wanted = self.pts[max(0, frame - (_SETTLING if self.info.interlaced else 0))]
        before = [key for key in self.keys if key.pts <= wanted]
        return before[-1] if before and (frame >= _SETTLING or not self.info.interlaced) else None

    def key_frames(self) -> NDArray[np.int64]:
        """The numbers of the frames of the clip that are key frames, rising; int64 of shape (keys,)."""
        return np.flatnonzero(np.isin(self.pts, np.array([key.pts for key in self.keys], np.int64)))


def index_frames(
    path: Path,
    clip: ClipOptions | None = None,
    *,
    info: VideoInfo | None = None,
    on_frames: OnFrames | None = None,
) -> FrameIndex:
    """The frames of ``clip`` of the video ``path``. Raises `VideoError`.

    ``info`` is what `probe` said of the file, if that is known already. ``on_frames`` is told every now and then how
    many frames, and seconds from the first, were looked at.

    Where the container says the time of each picture, its packets are read and not decoded, but for the first few
    pictures, which tell whether the two agree. Elsewhere (interlaced pictures, codecs that hide frames, containers
    without times or whose clock breaks) every picture is decoded once.
    """
    info, clip = info or probe(path), clip or ClipOptions()
    found = _from_packets(path, info, clip, on_frames)
    return found if found is not None else _from_pictures(path, info, clip, on_frames)


def _tell(times: array[int], info: VideoInfo, on_frames: OnFrames | None) -> None:
    if on_frames is not None and len(times) % _TOLD_FRAMES == 0:
        on_frames(len(times), float((times[-1] - times[0]) * info.time_base))


def _from_packets(path: Path, info: VideoInfo, clip: ClipOptions, on_frames: OnFrames | None) -> FrameIndex | None:
    """None where packets do not tell it all."""
    if not info.container.startswith(INDEXED) or info.clock.parts or info.interlaced:
        return None
    if info.codec not in _PACKETS_ARE_FRAMES:
        return None
    times, keys = array("q"), []
    with open_input(path) as container:
        stream = video_stream(container, path)
        try:
            for number, packet in enumerate(packets(container, stream)):
                if ends_stream(packet):
                    continue
                if packet.pts is None or not packet.size:
                    return None
                if packet.is_keyframe:
                    keys.append(EntryPoint(number, packet.pts, packet.pts))
                if not packet.is_discard:
                    times.append(packet.pts)
                    _tell(times, info, on_frames)
        except av.error.FFmpegError:
            return None
    pts = np.sort(np.frombuffer(times, np.int64)) if times else np.zeros(0, np.int64)
    keys.sort(key=lambda key: key.pts)
    if not keys or len(pts) == 0 or pts[0] != keys[0].pts or np.any(np.diff(pts) <= 0):
        return None  # pictures that no decoder can make, or two at one time
    with VideoReader(path, info=info, clip=replace(clip, start=0.0, end=None)) as reader:
        decoded = [time for time, _ in islice(reader.times(), _CHECKED)]
    if decoded != pts[: len(decoded)].tolist() or len(decoded) < min(_CHECKED, len(pts)):
        return None
    shown = _clipped(pts, TimeRange.of(info, clip), info)
    return None if shown is None else FrameIndex(info, shown, keys)


def _clipped(pts: NDArray[np.int64], span: TimeRange, info: VideoInfo) -> NDArray[np.int64] | None:
    """What `VideoReader` makes of ``pts`` in the clip ``span``; None where the last picture is all of it."""
    base = info.time_base
    if span.end is not None:
        pts = pts[pts < math.ceil(span.end / base)]
    if span.begin is None:
        return pts
    first, glimpse = math.floor(span.begin / base), math.ceil(GLIMPSE_SECONDS / base)
    after = int(np.searchsorted(pts, first, "right"))
    if after == len(pts):
        return None
    # The picture that is shown when the clip begins, unless the next one comes at once.
    begins = max(0, after - 1)
    if pts[begins] < first and pts[after] - first < glimpse:
        begins, pts = after, pts.copy()
        pts[after] = first
    return np.maximum(pts[begins:], first)


def _from_pictures(path: Path, info: VideoInfo, clip: ClipOptions, on_frames: OnFrames | None) -> FrameIndex:
    pts, keys = _decoded(path, info, replace(clip, start=0.0, end=None), on_frames)
    shown = _clipped(pts, TimeRange.of(info, clip), info)
    if shown is None:
        shown = _decoded(path, info, clip, on_frames)[0]
    return FrameIndex(info, shown, keys)


def _decoded(
    path: Path, info: VideoInfo, clip: ClipOptions, on_frames: OnFrames | None
) -> tuple[NDArray[np.int64], list[EntryPoint]]:
    times, key_times = array("q"), []
    with VideoReader(path, info=info, clip=clip) as reader:
        for pts, is_key in reader.times():
            times.append(pts)
            _tell(times, info, on_frames)
            if is_key:
                key_times.append(pts)
        entries = reader.entries
    # Key frames come out in the order in which they went in; where one was lost, nothing tells which.
    if len(entries) != len(key_times):
        entries, key_times = [], []
    keys = [replace(entry, pts=pts) for entry, pts in zip(entries, key_times, strict=True)]
    return np.frombuffer(times, np.int64) if times else np.zeros(0, np.int64), keys
