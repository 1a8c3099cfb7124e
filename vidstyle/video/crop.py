"""The part of a picture that its container wants to be shown."""

from __future__ import annotations

import re

from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vidstyle.video.info import VideoInfo


class Cropper:
    """Leaves out what `VideoInfo.crop` names, without a copy where chroma samples allow it."""

    def __init__(self, info: VideoInfo) -> None:
        self._crop = info.crop
        self._coded_size = info.coded_size
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def cropped(self, frame: VideoFrame) -> VideoFrame:
        """The part of ``frame`` to be shown; a frame of another size than the first one as it is."""
        crop = self._crop
        if crop is None or (frame.height, frame.width) != self._coded_size:
            return frame
        step_x, step_y = 2 // frame.format.chroma_width(2), 2 // frame.format.chroma_height(2)
        if crop.left % step_x or crop.top % step_y:
            # The crop would begin inside a chroma sample: without subsampling it does not.
            full = re.sub(r"4\d\dp", "444p", frame.format.name)
            frame = self._reformatter.reformat(frame, format=full if "444p" in full else "yuv444p", threads=1)
        kind = (frame.time_base, frame.format.name, int(frame.colorspace), int(frame.color_range))
        if self._graph is None or kind != self._made_for:
            height, width = crop.shown(self._coded_size)
            self._graph = Graph()
            self._graph.threads = 1
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            part = self._graph.add("crop", f"{width}:{height}:{crop.left}:{crop.top}:exact=1")
            self._graph.link_nodes(source, part, self._graph.add("buffersink")).configure()
            self._made_for = kind
        self._graph.vpush(frame)
        return self._graph.vpull()
