"""What visitors send who mean harm."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from visiting import Camera, Guest, photo

Payloads = Callable[[int], list[bytes]]


class Sender(Guest):
    """A guest who sends what ``payloads(n)`` says in the place of the n-th picture, after a few good ones."""

    def __init__(self, url: str, payloads: Payloads, codec: str = "VP8", rate: float = 30) -> None:
        super().__init__(url, camera=Camera(photo((16, 16)), rate))
        self.payloads, self.codec, self.sent = payloads, codec, 0
        self.target_bitrate = 500_000

    async def offer(self) -> str:
        sdp = await super().offer()
        other = {"VP8": "H264", "H264": "VP8"}[self.codec]
        sdp = sdp.replace(f" {other}/90000", " unknown/90000")
        self.connection.getSenders()[0]._RTCRtpSender__encoder = self  # type: ignore[attr-defined]
        return sdp

    def encode(self, frame: av.VideoFrame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        self.sent += 1
        return self.payloads(self.sent), frame.pts or 0


def packets(codec: str, data: bytes) -> list[bytes]:
    """``data``, a whole frame, as payloads of RTP."""
    if codec == "VP8":
        return Vp8Encoder._packetize(data, 1)
    return H264Encoder._packetize(H264Encoder._split_bitstream(data))


def encoded(codec: str, size: tuple[int, int], frames: int = 1, pixels: str = "yuv420p", **options: str) -> list[bytes]:
    """Frames of ``size`` (height, width), the first of them a key frame."""
    library = "libvpx" if codec == "VP8" else "libx264"
    context = av.CodecContext.create(library, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = size
    context.pix_fmt, context.time_base = pixels, Fraction(1, 30)
    if codec == "VP8":
        context.options = {"deadline": "realtime", "cpu-used": "8"}
    else:
        context.options = {"preset": "ultrafast", "tune": "zerolatency", **options}
    made: list[bytes] = []
    for index in range(frames):
        frame = av.VideoFrame(size[1], size[0], pixels)
        for plane in frame.planes:
            plane.update(bytes([100 + index]) * plane.buffer_size)
        frame.pts = index
        made += map(bytes, context.encode(frame))
    return made + [bytes(packet) for packet in context.encode(None)]


def vp8_claiming(size: tuple[int, int]) -> bytes:
    """A key frame of a few bytes that says it is of ``size``."""
    data = bytearray(encoded("VP8", (64, 64))[0])
    data[6:10] = size[1].to_bytes(2, "little") + size[0].to_bytes(2, "little")
    return bytes(data)


def golomb(number: int) -> str:
    bits = f"{number + 1:b}"
    return "0" * (len(bits) - 1) + bits


def h264_claiming(size: tuple[int, int], crop: tuple[int, int] = (0, 0), kept: int = 1) -> bytes:
    """A parameter set of Baseline for pictures of ``size``, of which the cropping leaves ``size`` minus ``crop``."""
    numbers = golomb(0) + golomb(0) + golomb(2) + golomb(kept) + "0" + golomb(size[1] // 16 - 1)
    numbers += golomb(size[0] // 16 - 1) + "11" + ("1" if any(crop) else "0")
    if any(crop):
        numbers += golomb(0) + golomb(crop[1] // 2) + golomb(0) + golomb(crop[0] // 2)
    numbers += "01"
    numbers += "0" * (-len(numbers) % 8)
    body = bytes([66, 0, 40]) + int(numbers, 2).to_bytes(len(numbers) // 8, "big")
    return b"\x00\x00\x00\x01\x67" + body.replace(b"\x00\x00\x01", b"\x00\x00\x03\x01")
