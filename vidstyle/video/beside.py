"""What rides beside the pixels of a frame: closed captions, and the mark of stereo pictures."""

from __future__ import annotations

import av.error
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vidstyle.video.info import RANGE_UNSPECIFIED, UNSPECIFIED, VideoInfo
from vidstyle.video.nvidia import is_on_gpu

# What encoders would write, too, though it is true of the decoder's pixels only.
_OF_THE_PIXELS = (
    *("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "AMBIENT_VIEWING_ENVIRONMENT", "DYNAMIC_HDR_PLUS"),
    *("DOVI_RPU_BUFFER", "DOVI_METADATA", "DISPLAYMATRIX", "SEI_UNREGISTERED", "ICC_PROFILE"),
)


class BesideReader:
    """Takes from the decoder's frames what has to reach the encoder's beside their pixels.

    PyAV can only pass such data on from frame to frame. It travels on a picture of 2x2 pixels; asking the
    decoder's own frames for it would keep them in memory until Python looks for cycles.
    """

    def __init__(self, info: VideoInfo) -> None:
        # Without a mark on every frame those are passed on that have captions.
        self._chosen = () if info.stereo else ("mode=select:type=A53_CC",)
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def read(self, frame: VideoFrame) -> VideoFrame | None:
        """What rides beside ``frame``, for `Frame.beside`; None where it is nothing."""
        if is_on_gpu(frame) or min(frame.width, frame.height) < 2:
            return None
        kind = (
            *(frame.time_base, frame.width, frame.height, frame.format.name),
            *(int(frame.colorspace), int(frame.color_range)),
        )
        if self._graph is None or kind != self._made_for:
            self._graph, self._made_for = self._made(frame), kind
        self._graph.vpush(frame)
        try:
            return self._graph.vpull()
        except av.error.BlockingIOError:
            return None

    def _made(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            *(graph.add("sidedata", chosen) for chosen in self._chosen),
            *(graph.add("sidedata", f"mode=delete:type={kind}") for kind in _OF_THE_PIXELS),
            graph.add("crop", "2:2:0:0:exact=1"),
            graph.add("format", "gray"),
            graph.add("buffersink"),
        ).configure()
        return graph


class BesideWriter:
    """Makes frames for the encoder that have something beside their pixels."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def frame(self, beside: VideoFrame, size: tuple[int, int], pixel_format: str) -> VideoFrame:
        """A frame of ``size``, (height, width), with what `BesideReader` read; the pixels are still to come."""
        height, width = size
        made = self._reformatter.reformat(
            beside, width, height, pixel_format, interpolation=Interpolation.POINT, threads=1
        )
        made.pict_type = PictureType.NONE  # the encoder would make a key frame of each that was one
        made.colorspace, made.color_range = UNSPECIFIED, RANGE_UNSPECIFIED
        return made


def has_captions(beside: object) -> bool:
    """Whether closed captions (A/53) are among what `BesideReader` read."""
    return isinstance(beside, VideoFrame) and beside.side_data.get("A53_CC") is not None
