"""Interlaced frames in, progressive frames out, at the same rate and the same times."""

from __future__ import annotations

from collections.abc import Iterator

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

from vidstyle.video.nvidia import on_host


class Deinterlacer:
    """FFmpeg's bwdif over the frames of one stream, which may be interlaced in parts.

    Frames pass as they are until the first interlaced one; from there on they come one frame late, and
    those that are progressive are still not touched. A change of size or format begins anew.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def frames(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """What is ready after ``frame`` (None: the stream has ended); in all, as many as were given."""
        if self._graph is None and (frame is None or not frame.interlaced_frame):
            if frame is not None:
                yield frame
            return
        frame = None if frame is None else on_host(frame)
        if frame is None or (self._graph is not None and _kind(frame) != self._made_for):
            yield from self._pushed(None)
            self._graph = None
            yield from () if frame is None else self.frames(frame)
            return
        if self._graph is None:
            self._graph, self._made_for = _graph(frame), _kind(frame)
        yield from self._pushed(frame)

    def _pushed(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        assert self._graph is not None
        self._graph.vpush(frame)
        while True:
            try:
                made = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # bwdif counts in half units, so that it could put a second frame between two.
            time_base = self._made_for[0]
            if made.pts is not None and made.time_base != time_base:
                made.pts, made.duration = made.pts // 2, made.duration // 2
                made.time_base = time_base  # type: ignore[assignment]
            yield made


def _kind(frame: VideoFrame) -> tuple[object, ...]:
    """What a graph is made for."""
    return (
        *(frame.time_base, frame.width, frame.height, frame.format.name),
        *(int(frame.colorspace), int(frame.color_range)),
    )


def _graph(frame: VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    bwdif = graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph
