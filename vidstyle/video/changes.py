"""What changes in the middle of a video, told once each."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

from vidstyle.video.info import ColorTags, VideoInfo, frame_tags
from vidstyle.video.nvidia import is_on_gpu

_SQUARE = Fraction(1)


class Changes:
    """Looks at the decoder's frames, all of which are brought to the form of the first one."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._first: tuple[tuple[int, int], str, ColorTags, Fraction] | None = None
        self._last: tuple[object, ...] = ()

    def seen(self, frame: VideoFrame) -> Iterator[str]:
        """Sentences on what is other in ``frame`` than in the first one."""
        format = self._info.pixel_format if is_on_gpu(frame) else frame.format.name
        aspect = frame.opaque if isinstance(frame.opaque, Fraction) else _SQUARE
        look = (
            *(frame.width, frame.height, format, frame.interlaced_frame, aspect),
            *(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc),
        )
        if look == self._last:
            return
        self._last = look
        colors = frame_tags(frame, self._info.stored_color)
        size = (frame.width, frame.height)
        if self._first is None:
            self._first = (size, format, colors, self._info.coded_aspect or _SQUARE)
        first_size, first_format, first_colors, first_aspect = self._first
        if size != first_size:
            yield "the picture changes its size in mid-stream: every frame is scaled to the first one's size"
        if aspect != first_aspect:
            yield (
                f"the pixels change their shape in mid-stream, from {_ratio(first_aspect)} to {_ratio(aspect)}: "
                "frames that would look squeezed are fitted between black bars"
            )
        if format != first_format:
            yield f"the video changes from {first_format} to {format} in mid-stream: every frame is converted"
        if colors != first_colors:
            if colors.wide and not first_colors.wide:
                yield "the video is HDR or in BT.2020 colors in parts: these are converted to standard range and colors"
            else:
                yield "the video changes its colors in mid-stream: every frame is converted to the first one's"
        if frame.interlaced_frame and not self._info.interlaced:
            yield "the video is interlaced in parts: these are deinterlaced (bwdif)"


def _ratio(aspect: Fraction) -> str:
    return f"{aspect.numerator}:{aspect.denominator}"
