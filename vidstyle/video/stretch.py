"""Frames in a row of a video, and the key frame at which decoding begins for them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import av.error

from vidstyle.video.demux import open_input, packets, video_stream
from vidstyle.video.formats import INDEXED
from vidstyle.video.info import VideoInfo


@dataclass(frozen=True)
class EntryPoint:
    """A key frame at which decoding may begin, and what the reader has to know of the packets before."""

    number: int
    """Of its packet among those of the picture, from 0."""
    pts: int
    """When its picture is shown, as the reader says it."""
    packet_pts: int | None = None
    """As the packet says it, by which it is found again where the file has an index."""
    delay: int | None = None
    """By how many packets the decoder lags behind, where pictures are timed by counting packets (AVI)."""


@dataclass(frozen=True)
class Stretch:
    """Frames in a row of a video, by their pts, and where to begin decoding for them."""

    first: int
    last: int
    """Both are handed out."""
    entry: EntryPoint | None = None
    """None is the beginning of the file."""
    losses: tuple[float, float] | None = None
    """The pts from and before which lost frames are counted; None for those from ``first`` to ``last``."""

    def counts(self, pts: int) -> bool:
        """Whether a frame that is shown at ``pts`` is counted when it is lost."""
        begin, end = self.losses or (self.first, self.last + 1)
        return begin <= pts < end


def is_indexed(path: Path, info: VideoInfo, entry: EntryPoint) -> bool:
    """Whether the file has an index that leads to the very packet of ``entry``."""
    if entry.packet_pts is None or not info.container.startswith(INDEXED) or info.clock.parts:
        return False
    with open_input(path) as container, contextlib.suppress(av.error.FFmpegError):
        stream = video_stream(container, path)
        container.seek(entry.packet_pts, stream=stream)
        found = next(packets(container, stream), None)
        return found is not None and found.is_keyframe and found.pts == entry.packet_pts
    return False
