"""What FFmpeg's frames have beside their pixels, read without harm."""

from __future__ import annotations

from fractions import Fraction

import av.error
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame


class SideDataReader:
    """Reads the side data of one frame.

    PyAV frees the name of a color profile that it has shown once more than FFmpeg does, and Python crashes at some
    time after that. So PyAV never gets to see one.
    """

    def __init__(self, frame: VideoFrame) -> None:
        self.has_profile = _filtered(frame, "mode=select:type=ICC_PROFILE") is not None
        """Whether there is a color profile (ICC)."""
        self._rest = _filtered(frame, "mode=delete:type=ICC_PROFILE")

    def get(self, kind: str) -> SideData | None:
        """The data of ``kind``, by FFmpeg's name; None where there is none. Its memory lives as long as it."""
        found = None if self._rest is None else self._rest.side_data.get(kind)
        return found if isinstance(found, SideData) else None


def _filtered(frame: VideoFrame, mode: str) -> VideoFrame | None:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 90000),
    )
    graph.link_nodes(source, graph.add("sidedata", mode), graph.add("buffersink")).configure()
    graph.vpush(frame)
    try:
        return graph.vpull()
    except av.error.BlockingIOError:
        return None
