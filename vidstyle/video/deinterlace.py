"""Interlaced frames in, progressive frames out, at the same rate and the same times."""

from __future__ import annotations

from collections.abc import Iterator

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


class Deinterlacer:
    """FFmpeg's bwdif over the frames of one stream; frames that are progressive pass as they are."""

    def __init__(self, stream: VideoStream) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(template=stream, time_base=stream.time_base)
        bwdif = self._graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()
        self._time_base = stream.time_base

    def frames(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """What is ready after ``frame`` (None: the stream has ended). One frame late, none lost."""
        self._graph.vpush(frame)
        while True:
            try:
                made = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # bwdif counts in half units, so that it could put a second frame between two.
            if made.pts is not None and made.time_base != self._time_base:
                made.pts, made.duration = made.pts // 2, made.duration // 2
                made.time_base = self._time_base
            yield made
