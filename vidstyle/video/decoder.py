"""Packets of a picture track into pictures."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import av.error
from av.codec import CodecContext
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.video.container import MAX_PIXELS, known

_SEQUENCE = b"\0\0\1\xb3"
_SEQUENCE_EXTENSION = b"\0\0\1\xb5"


class PictureDecoder:
    """FFmpeg's decoder of one picture track, or another in its place. Use it from one thread.

    The ``opaque`` of each picture is the width of its pixels over their height, None where nothing says it.
    """

    def __init__(self, stream: VideoStream, context: VideoCodecContext | None = None) -> None:
        """``context`` decodes instead of the stream's own, where one is given."""
        self._context = context or _alpha_decoder(stream) or stream.codec_context
        # Else what H.264 and HEVC say is to be cropped at the left is not, or not in full, for the sake of alignment.
        self._context.flags |= Flags.unaligned
        self._has_sequences = self._context.codec.canonical_name in ("mpeg1video", "mpeg2video")
        self._time_base = stream.time_base or Fraction(1, 90000)
        self._sequence: bytes | None = None

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width of a pixel over its height, of what was decoded last; None where nothing says it."""
        return known(self._context.sample_aspect_ratio)

    def decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """The pictures that are ready. Raises `FFmpegError`."""
        held: list[VideoFrame] = []
        sequence = _sequence(packet) if self._has_sequences and packet.size else None
        if sequence is not None and sequence != self._sequence:
            if self._sequence is not None:
                # FFmpeg's decoder forgets the picture that it holds back where another size begins, or its shape.
                held = self.drain()
            self._sequence = sequence
        return [*held, *self._shaped(self._context.decode(packet))]

    def drain(self) -> list[VideoFrame]:
        """The pictures that are held back; what is decoded next begins anew."""
        end = cast("Packet[VideoStream]", Packet())
        end.time_base = self._time_base
        try:
            return self._shaped(self._context.decode(end))
        except av.error.FFmpegError:
            return []
        finally:
            self._context.flush_buffers()

    def _shaped(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        if frames and (aspect := self.sample_aspect_ratio) is not None:
            for frame in frames:
                frame.opaque = aspect
        return frames


def _alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """What reads the transparency of VP8 and VP9 in WebM, which FFmpeg's own decoders leave out."""
    own = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(own.codec.canonical_name)
    if stream.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
        return None
    decoder = cast(VideoCodecContext, CodecContext.create(name, "r"))
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = own.thread_count
    return decoder


def _sequence(packet: Packet[VideoStream]) -> bytes | None:
    """Size, shape of the pixels and chroma format, where an MPEG-1 or MPEG-2 packet begins with them."""
    head = bytes(memoryview(packet)[:256])
    place = head.find(_SEQUENCE)
    if place < 0 or len(head) < place + 8:
        return None
    extension = head.find(_SEQUENCE_EXTENSION, place)
    # In the extension stand the level, the chroma format and the upper bits of the size.
    rest = b"" if extension < 0 else head[extension + 5 : extension + 7]
    size, shape = head[place + 4 : place + 7], head[place + 7] & 0xF0
    return size + bytes([shape]) + rest
