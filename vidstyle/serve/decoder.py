"""The pictures that a visitor sends, decoded: nothing before its size is known, and the newest first."""

from __future__ import annotations

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

from vidstyle.serve.bitstream import CodedSize, Damaged, header_of
from vidstyle.video.capture.clock import MICROSECOND

MOST_PIXELS = 1920 * 1080
"""The largest picture that is taken from a camera."""
_MOST_BLOCKS = 120 * 68
"""The same in macroblocks, which cover 1920x1088."""
_MOST_KEPT_BLOCKS = 4 * _MOST_BLOCKS
"""Of all the pictures that an H.264 decoder may have to keep, as level 4.2 has it."""
_MOST_WAITING = 30
_MOST_WAIT_SECONDS = 0.15
"""Frames that have waited longer are left out, up to the next key frame."""
_MOST_A_SECOND = 150.0
"""Pictures from one visitor; as many may come at once after a pause."""
_ASK_SECONDS = 0.5
"""From one request for a key frame to the next."""
_SHARE = 0.4
"""Of one core, that decoding for one visitor may take. 1920x1080 at 30 fps takes a tenth or two."""
_BURST_SECONDS = 0.5
_CODECS = {"VP8": "libvpx", "H264": "h264"}


class _Encoded(NamedTuple):
    codec: str
    data: bytes
    came: float


class Decoder:
    """Takes the place of the queue between aiortc's receiver and its decoder, and decodes on a thread of its own.

    aiortc's queue has no bound, and its decoder takes whatever size comes; at the end the event loop would wait
    for both. Here `put` looks at each frame first, and what waits is dropped for a newer key frame, or when it has
    waited too long. aiortc's thread, which calls `get`, sees nothing but the end.
    """

    def __init__(
        self,
        on_picture: Callable[[VideoFrame, float], None],
        on_gap: Callable[[], None],
        on_refused: Callable[[str], None],
    ) -> None:
        """``on_picture`` is called on the decoder's thread with each picture and the time when it came, in seconds
        of `time.monotonic`; the others by `put`: ``on_gap`` when a key frame is needed, ``on_refused`` with the
        reason when nothing more is taken from this visitor.
        """
        self._on_picture, self._on_gap, self._on_refused = on_picture, on_gap, on_refused
        self._changed = threading.Condition()
        self._waiting: deque[_Encoded] = deque()
        self._needs_key = True
        self._asked = 0.0
        self._ended = False
        self._thread: threading.Thread | None = None
        self._free_at = 0.0
        self._counted = 0.0
        self.dropped = 0
        """Frames that were not decoded."""

    def put(self, item: tuple[Any, Any] | None) -> None:
        """Take a frame, ``(codec, frame)`` as aiortc's receiver has them, or the end, None. Never waits."""
        if item is None:
            self.stop()
            return
        codec, data = item[0].name, bytes(item[1].data)
        if self._ended or not data:  # padding has no data
            return
        now = monotonic()
        self._counted = max(self._counted, now - 1) + 1 / _MOST_A_SECOND
        if self._counted > now:
            self._refuse(f"it sends more than {_MOST_A_SECOND:g} pictures a second")
            return
        try:
            is_key, sizes = header_of(codec, data)
        except Damaged:
            self._skip(now)
            return
        reason = next((reason for reason in map(_why_not, sizes) if reason is not None), None)
        if reason is not None:
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
            self._thread = threading.Thread(target=self._run, name="vidstyle-decoder")
            self._thread.start()

    def get(self) -> None:
        """Wait for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)

    def stop(self) -> None:
        """Take no more, and forget what waits. Twice is fine."""
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
        return len(waiting) >= _MOST_WAITING or (bool(waiting) and now - waiting[0].came > _MOST_WAIT_SECONDS)

    def _refuse(self, reason: str) -> None:
        self.stop()
        self._on_refused(reason)

    def _skip(self, now: float) -> None:
        """Go on with the next key frame, and ask for one."""
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
        """The frame to decode, once there is one and time for it; None at the end."""
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
    # The headers were looked at; this is for what they do not tell. FFmpeg rounds widths up to 64 to compare.
    context.options = {"max_pixels": str(_MOST_BLOCKS * 256 * 2)}
    context.thread_count = 1
    return context


def _why_not(size: CodedSize) -> str | None:
    """Why pictures of that size are not taken; None where they are."""
    if size.height * size.width > MOST_PIXELS or size.blocks > _MOST_BLOCKS:
        return f"pictures of {size.width}x{size.height} are too large; send at most 1920x1080"
    if size.blocks * size.kept > _MOST_KEPT_BLOCKS or not size.is_plain:
        return "it is H.264 of a kind that no browser sends; send 8 bits, 4:2:0, with few reference frames"
    return None
