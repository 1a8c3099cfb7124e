"""Decodes the pictures that a visitor sends: none before its size is known, and the newest first."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import av.error
from av import CodecContext, Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vidstyle.pipeline import Worker
from vidstyle.video.capture.clock import MICROSECOND

MAX_PIXELS = 1920 * 1080
"""The largest picture that is taken from a camera."""
_MAX_BLOCKS = 120 * 68  # the same in macroblocks, which cover 1920x1088
_MAX_KEPT_BLOCKS = 4 * _MAX_BLOCKS  # of all the pictures that an H.264 decoder may have to keep, as level 4.2 has it
_MAX_WAITING = 30
MAX_WAIT_SECONDS = 0.15
"""Frames that have waited longer are left out, up to the next key frame."""
MAX_PICTURES = 150.0
"""A second, from one visitor; as many may come at once after a pause."""
_ASK_SECONDS = 0.5  # from one request for a key frame to the next
_SHARE = 0.4  # of one core, that decoding for one visitor may take. 1920x1080 at 30 fps takes a tenth or two.
_BURST_SECONDS = 0.5
_CODECS = {"VP8": "libvpx", "H264": "h264"}
_VP8_START = b"\x9d\x01\x2a"
_START_CODE = re.compile(b"\x00\x00\x01")
_ESCAPE = re.compile(b"\x00\x00\x03")
_MAX_NALS = 512
_MAX_PARAMETER_SETS = 8
_SLICE, _IDR, _SPS = 1, 5, 7
_PICTURES = 2  # slices that begin a picture, in one frame: two fields
# Profiles whose parameter sets say more: chroma, depth, scaling lists.
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_GOLOMB_ZEROS = 32


class _Encoded(NamedTuple):
    codec: str
    data: bytes
    came: float


class Decoder:
    """Replaces the queue between aiortc's receiver and its decoder, and decodes on a thread of its own.

    aiortc's queue has no bound, and its decoder takes any size; at the end the event loop would wait for both. Here
    `put` checks each frame first, and waiting frames are dropped for a newer key frame, or when they have waited too
    long. aiortc's thread, which calls `get`, receives nothing but the end.
    """

    def __init__(
        self,
        on_picture: Callable[[VideoFrame, float], None],
        on_gap: Callable[[], None],
        on_refused: Callable[[str], None],
    ) -> None:
        """``on_picture`` is called on the decoder's thread with a picture and its arrival, in seconds of
        `time.monotonic`; `put` calls ``on_gap`` when a key frame is needed, and ``on_refused`` with the reason when
        nothing more is taken from this visitor."""
        self._on_picture, self._on_gap, self._on_refused = on_picture, on_gap, on_refused
        self._changed = threading.Condition()
        self._waiting: deque[_Encoded] = deque()
        self._needs_key = True
        self._asked = 0.0
        self._ended = False
        self._thread: Worker | None = None
        self._free_at = 0.0
        self._counted = 0.0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Frames that wait to be decoded."""
        return len(self._waiting)

    def put(self, item: tuple[Any, Any] | None) -> None:
        """Take a frame, ``(codec, frame)`` as aiortc's receiver has them, or the end, None. Never waits."""
        if item is None:
            self.stop()
            return
        codec, data = item[0].name, bytes(item[1].data)
        if self._ended or not data:  # padding has no data
            return
        now = monotonic()
        self._counted = max(self._counted, now - 1) + 1 / MAX_PICTURES
        if self._counted > now:
            self._refuse(f"it sends more than {MAX_PICTURES:g} pictures a second")
            return
        try:
            is_key, sizes = header_of(codec, data)
        except Damaged:
            self._skip(now)
            return
        for reason in filter(None, map(_refusal, sizes)):
            self._refuse(reason)
            return
        with self._changed:
            if is_key:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self._needs_key = False
            elif self._needs_key or self._is_behind(now):
                self._skip(now)
                return
            self._waiting.append(_Encoded(codec, data, now))
            self._changed.notify_all()
        if self._thread is None:
            self._thread = Worker("decoder", self._run)
            self._thread.start()

    def get(self) -> None:
        """Wait for the end, as aiortc's thread does."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)

    def stop(self) -> None:
        """Take no more frames, and drop those that wait. Twice is fine."""
        with self._changed:
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the frame that is being decoded is done; to be called after `stop`, and not on the loop."""
        if self._thread is not None:
            self._thread.join()

    def _is_behind(self, now: float) -> bool:
        waiting = self._waiting
        return len(waiting) >= _MAX_WAITING or (bool(waiting) and now - waiting[0].came > MAX_WAIT_SECONDS)

    def _refuse(self, reason: str) -> None:
        self.stop()
        self._on_refused(reason)

    def _skip(self, now: float) -> None:
        """Continue with the next key frame, and ask for one."""
        with self._changed:
            self.dropped += 1 + len(self._waiting)
            self._waiting.clear()
            self._needs_key = True
        if now - self._asked >= _ASK_SECONDS:
            self._asked = now
            self._on_gap()

    def _run(self) -> None:
        decoder, name = None, ""
        while (frame := self._next()) is not None:
            if decoder is None or frame.codec != name:
                decoder, name = _open(frame.codec), frame.codec
            began = time.thread_time()
            packet = Packet(frame.data)
            packet.pts, packet.time_base = round(frame.came * 1e6), MICROSECOND
            try:
                pictures = decoder.decode(packet)
            except av.error.FFmpegError:
                pictures = []
                with self._changed:
                    self._needs_key = True
            now = monotonic()
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + (time.thread_time() - began) / _SHARE
            if pictures and not self._ended:
                newest = pictures[-1]
                self._on_picture(newest, frame.came if newest.pts is None else newest.pts / 1e6)

    def _next(self) -> _Encoded | None:
        """The next frame, once there is time to decode it; None at the end."""
        with self._changed:
            while not self._ended:
                rest = self._free_at - monotonic()
                if self._waiting and rest <= 0:
                    return self._waiting.popleft()
                self._changed.wait(rest if self._waiting else None)
        return None


def _open(codec: str) -> VideoCodecContext:
    context = CodecContext.create(_CODECS[codec], "r")
    assert isinstance(context, VideoCodecContext)
    # The headers were checked; this is for what they do not show. FFmpeg rounds widths up to 64 to compare.
    context.options = {"max_pixels": str(_MAX_BLOCKS * 256 * 2)}
    context.thread_count = 1
    return context


def _refusal(size: CodedSize) -> str | None:
    """Why pictures of that size are not taken; None where they are."""
    if size.height * size.width > MAX_PIXELS or size.blocks > _MAX_BLOCKS:
        return f"pictures of {size.width}x{size.height} are too large; send at most 1920x1080"
    if size.blocks * size.kept > _MAX_KEPT_BLOCKS or not size.is_plain:
        return "it is H.264 of a kind that no browser sends; send 8 bits, 4:2:0, with few reference frames"
    return None


# The headers of encoded frames, VP8 and H.264, read before anything is decoded.


class Damaged(ValueError):
    """A frame that no decoder should see."""


class Header(NamedTuple):
    """Of an encoded frame."""

    is_key: bool
    """Whether it can be decoded without those before it."""
    sizes: tuple[CodedSize, ...] = ()
    """Every size that the frame asks a decoder to make room for."""


class CodedSize(NamedTuple):
    """Pictures to come, and what they take."""

    height: int
    width: int
    """As shown."""
    blocks: int
    """Macroblocks, 16x16 pixels, as coded: cropping hides them, and memory is needed for all."""
    kept: int = 1
    """Pictures that the decoder has to keep."""
    is_plain: bool = True
    """Whether it is 8-bit 4:2:0, or gray."""


def header_of(codec: str, data: bytes) -> Header:
    """The header of a whole encoded frame; ``codec`` is ``VP8`` or ``H264``. `Damaged` where there is none."""
    if codec == "VP8":
        return _vp8_header(data)
    if codec == "H264":
        return _h264_header(data)
    raise Damaged(f"frames of {codec[:20]!r} are not known here")


def _vp8_header(data: bytes) -> Header:
    """RFC 6386, section 9.1: three bytes; in key frames a start code and the size follow."""
    if len(data) < 3:
        raise Damaged("a VP8 frame is cut off")
    if data[0] & 1:
        return Header(is_key=False)
    if len(data) < 10 or data[3:6] != _VP8_START:
        raise Damaged("a VP8 key frame is damaged")
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    if not width or not height:
        raise Damaged("a VP8 key frame has no size")
    return Header(True, (CodedSize(height, width, -(-width // 16) * -(-height // 16)),))


def _h264_header(data: bytes) -> Header:
    """Annex B. Start codes are looked for as decoders do, whatever packets they came in."""
    if not data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):
        raise Damaged("an H.264 frame does not begin with a start code")
    starts: list[int] = []
    for found in _START_CODE.finditer(data):
        starts.append(found.end())
        if len(starts) > _MAX_NALS:
            raise Damaged("an H.264 frame is in too many parts")
    is_key, pictures = False, 0
    sizes: list[CodedSize] = []
    for start, end in zip(starts, [*(at - 3 for at in starts[1:]), len(data)], strict=True):
        if start >= end:
            continue
        kind = data[start] & 0x1F
        if kind == _SPS:
            if len(sizes) >= 2 * _MAX_PARAMETER_SETS:
                raise Damaged("an H.264 frame has too many parameter sets")
            is_key = True
            sizes.append(_size_in(_ESCAPE.sub(b"\x00\x00", data[start + 1 : end])))
            if _ESCAPE.search(data, start, end):
                # FFmpeg reads one that it does not like again as it stands, with the escapes in it.
                with contextlib.suppress(Damaged):
                    sizes.append(_size_in(data[start + 1 : end]))
        elif kind in (_SLICE, _IDR):
            is_key |= kind == _IDR
            # The first number is that of the slice's first block; zero is a single set bit.
            pictures += start + 1 < end and data[start + 1] >> 7
    if pictures > _PICTURES:
        raise Damaged("an H.264 frame holds several pictures")
    return Header(bool(is_key), tuple(sizes))


def _size_in(sps: bytes) -> CodedSize:
    """ITU-T H.264, section 7.3.2.1.1, as far as the cropping; ``sps`` is without the NAL's header."""
    bits = _Bits(sps)
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()  # its id
    chroma, plain = 1, True
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        if chroma == 3:
            bits.take(1)
        depths = bits.golomb(), bits.golomb()
        plain = chroma <= 1 and depths == (0, 0)
        bits.take(1)
        if bits.take(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    bits.golomb()  # bits of a frame's number
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb(), bits.golomb()
        cycle = bits.golomb()
        if cycle > 255:
            raise Damaged("an H.264 parameter set is damaged")
        for _ in range(cycle):
            bits.golomb()
    kept = bits.golomb()
    bits.take(1)
    columns, rows = bits.golomb() + 1, bits.golomb() + 1
    fields = 1 if bits.take(1) else 2
    rows *= fields
    if fields == 2:
        bits.take(1)
    bits.take(1)
    width, height = 16 * columns, 16 * rows
    if bits.take(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1) * fields
    if width <= 0 or height <= 0:
        raise Damaged("an H.264 parameter set crops everything away")
    return CodedSize(height, width, columns * rows, max(1, kept), plain)


def _skip_scaling(bits: _Bits, count: int) -> None:
    last = following = 8
    for _ in range(count):
        if following:
            change = bits.golomb()
            following = (last + ((change + 1) // 2 if change % 2 else -(change // 2))) % 256
        last = following or last


class _Bits:
    """Reads bits, the highest first; `Damaged` behind the end."""

    def __init__(self, data: bytes) -> None:
        data = data[:1024]
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise Damaged("an H.264 parameter set is cut off")
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next unsigned Exp-Golomb code, section 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _MAX_GOLOMB_ZEROS:
                raise Damaged("an H.264 parameter set is damaged")
        return (1 << zeros) - 1 + self.take(zeros)
