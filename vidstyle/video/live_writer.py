"""A live picture and its sound, encoded into one outlet, from its first frame to its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from fractions import Fraction

import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags as CodecFlags
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.video.codecs import ENCODERS
from vidstyle.video.conform import Conformer
from vidstyle.video.info import (
    MATRIX_BT709,
    MATRIX_SMPTE170M,
    PRIMARIES_BT709,
    RANGE_FULL,
    RANGE_LIMITED,
    TRANSFER_BT709,
    UNSPECIFIED,
)
from vidstyle.video.outlet import Outlet
from vidstyle.video.planes import PlaneWriter
from vidstyle.video.sound import Sound, SoundForm
from vidstyle.video.soundtrack import LAYOUTS, Soundtrack, sound_frame
from vidstyle.video.targets import Target

_MICROSECOND = Fraction(1, 1_000_000)
_KEY_MICROSECONDS = 1_000_000
"""A key frame begins a fragment of MP4, a segment of a playlist, and what a new viewer sees."""
_EARLY_MICROSECONDS = 5_000
"""Frames come a little early and late; a key frame may, too."""
_MISSING_MICROSECONDS = 1_000_000
"""Sound that is so far behind the picture is taken for gone, and silence takes its place."""
_LONGEST_MICROSECONDS = 1_000_000
"""A frame after a pause is not taken for the first of many such pauses."""
_PENDING_PIECES = 500
"""Pieces of sound that are kept before the first frame: some seconds."""
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_BIT_RATE = 96_000
"""For each channel."""
_BITS_A_PIXEL = 0.1
"""The most that is sent for each pixel shown: 6 Mbit/s at 1920x1080 and 30 fps."""
_LEAST_BIT_RATE = 500_000
_USUAL_RATE = 30


class LiveWriter:
    """Encodes frames and sound, both on the capture clock; the first frame is at 0. Use it from one thread.

    ``write`` and ``sound`` raise `VideoError` when the target is lost; then call `abandon`.
    """

    def __init__(
        self,
        target: Target,
        *,
        form: FrameFormat,
        fps: float | None,
        sound: SoundForm | None,
        encode: EncodeOptions,
        overwrite: bool = True,
    ) -> None:
        """Open ``target`` for frames of about ``form``.

        Raises `BadOption` for what cannot be asked, `VideoError` for what cannot be written.
        """
        settings = video_settings(target, form, fps, encode)
        self._form = form
        self._encode = encode
        self._size = kept_size(form, encode)
        self._conformer = Conformer(form)
        self._writer = PlaneWriter(form, encode.pixel_format, self._size, self._size)
        self._duration = round(1_000_000 / (fps or _USUAL_RATE))
        self._sound_form = None if sound is None else track_form(sound)
        self._pending: deque[Sound] = deque(maxlen=_PENDING_PIECES)
        self._track: Soundtrack | None = None
        self._origin = 0
        self._last = -1
        self._last_key: int | None = None
        self._arrived = 0.0
        self.frames = 0
        """How many were encoded."""
        self.outlet = Outlet(target, overwrite=overwrite)
        """Where the packets go."""
        try:
            self._video = self._add_video(settings, fps)
            self._audio = None if self._sound_form is None else self._add_audio(self._sound_form)
            if target.kind != "playlist":  # that is made with its first segment
                self.outlet.begin()
        except BaseException:
            self.outlet.abandon()
            self.outlet.remove()
            raise

    def write(self, frame: Frame) -> bool:
        """Encode ``frame``; False, and nothing done, where it is not later than the one before."""
        stamp = int(frame.pts * frame.time_base / _MICROSECOND)
        if self.frames == 0:
            self._origin = stamp
        pts = stamp - self._origin
        if pts <= self._last:
            return False
        made = self._fitted(frame, pts)
        self._last, self._arrived = pts, time.monotonic()
        if self._last_key is None or pts - self._last_key >= _KEY_MICROSECONDS - _EARLY_MICROSECONDS:
            made.pict_type = PictureType.I
            self._last_key = pts
            self.outlet.check()
        for packet in self._video.encode(made):
            self.outlet.write(packet)
        if self._sound_form is not None and self._track is None:
            self._track = Soundtrack(self._sound_form, self._origin)
            while self._pending:
                self._add(self._track.add(self._pending.popleft()))
        self._fill(stamp)
        self.frames += 1
        return True

    def sound(self, sound: Sound) -> None:
        """Encode ``sound``; what was heard before the first frame is left out."""
        if self._track is not None:
            self._add(self._track.add(sound))
        elif self._audio is not None:
            self._pending.append(sound)

    def skip(self) -> None:
        """Know that sound is left out here; silence will take its place."""
        if self._track is not None:
            self._track.skip()

    def idle(self) -> None:
        """Go on with silence while nothing comes; and see whether the far end is still there."""
        self.outlet.check()
        if self.frames:
            self._fill(self._origin + self._last + int((time.monotonic() - self._arrived) * 1_000_000))

    def finish(self) -> None:
        """Encode what is under way, write the index and close; a file without a frame is removed."""
        if self.frames == 0:
            self.outlet.abandon()
            self.outlet.remove()
            return
        try:
            for packet in self._video.encode(None):
                self.outlet.write(packet)
            if self._audio is not None:
                self._mux_audio(None)
        except VideoError:
            self.outlet.abandon()
            raise
        self.outlet.finish()

    def abandon(self) -> None:
        """Close at once, without an index."""
        self.outlet.abandon()

    def _fitted(self, frame: Frame, pts: int) -> VideoFrame:
        made = self._writer.write(self._conformer.conform(frame), pts, _MICROSECOND)
        if self._last >= 0:
            # How long it will be shown is not known yet: most likely as long as the one before.
            self._duration = min(pts - self._last, _LONGEST_MICROSECONDS)
        made.duration = self._duration
        return made

    def _fill(self, stamp: int) -> None:
        if self._track is not None and self._track.end() < stamp - _MISSING_MICROSECONDS:
            self._add(self._track.fill(stamp))

    def _add(self, parts: Iterable[NDArray[np.float32]]) -> None:
        assert self._track is not None and self._sound_form is not None
        for samples in parts:
            self._mux_audio(samples)

    def _mux_audio(self, samples: NDArray[np.float32] | None) -> None:
        assert self._audio is not None and self._sound_form is not None
        frame = None
        if samples is not None:
            assert self._track is not None
            frame = sound_frame(samples, self._sound_form.rate, self._track.length - samples.shape[1])
        for packet in self._audio.encode(frame):
            # The first packet only starts the decoder up and lies before 0, which half of the formats
            # cannot say.
            if packet.pts is not None and packet.pts >= 0:
                self.outlet.write(packet)

    def _add_video(self, settings: dict[str, str], fps: float | None) -> VideoStream:
        rate = Fraction(fps or _USUAL_RATE).limit_denominator(1001)
        stream = self.outlet.container.add_stream("libx264", rate=rate, options=settings)
        stream.time_base = _MICROSECOND
        context = stream.codec_context
        context.time_base = _MICROSECOND
        context.height, context.width = self._size
        context.pix_fmt = self._encode.pixel_format
        context.flags |= CodecFlags.frame_duration
        context.color_range = RANGE_FULL if self._form.full_range else RANGE_LIMITED
        is_709 = self._form.matrix == "bt709"
        context.colorspace = MATRIX_BT709 if is_709 else MATRIX_SMPTE170M
        context.color_primaries = PRIMARIES_BT709 if is_709 else UNSPECIFIED
        context.color_trc = TRANSFER_BT709 if is_709 else UNSPECIFIED
        try:
            context.open()
        except av.error.FFmpegError as error:
            height, width = self._size
            raise VideoError(
                f"libx264 cannot encode {width}x{height} {self._encode.pixel_format}: {error.strerror}; "
                "choose another size or crf"
            ) from error
        return stream

    def _add_audio(self, form: SoundForm) -> AudioStream:
        stream = self.outlet.container.add_stream("aac", rate=form.rate)
        stream.codec_context.layout = LAYOUTS[form.channels - 1]
        stream.codec_context.bit_rate = _AAC_BIT_RATE * form.channels
        stream.codec_context.time_base = Fraction(1, form.rate)
        return stream


def video_settings(target: Target, form: FrameFormat, fps: float | None, encode: EncodeOptions) -> dict[str, str]:
    """FFmpeg's options for the encoder. Raises `BadOption` for what a live output cannot be."""
    if encode.codec not in (None, "h264"):
        raise BadOption(f"codec is {encode.codec}; live output is always H.264: leave the codec out")
    kept_size(form, encode)
    settings = ENCODERS["h264"].settings(encode)
    settings["tune"] = "zerolatency"
    # Key frames come by time, not by count: frames are not evenly spaced. A cut needs none beside them.
    settings |= {"forced-idr": "1", "g": "100000", "sc_threshold": "0"}
    if target.kind != "file":
        # Servers and their viewers have a line of one width, and a second of slack.
        most = max(_LEAST_BIT_RATE, int(form.height * form.width * (fps or _USUAL_RATE) * _BITS_A_PIXEL))
        settings |= {"maxrate": str(most), "bufsize": str(most)}
    return settings


def kept_size(form: FrameFormat, encode: EncodeOptions) -> tuple[int, int]:
    """``(height, width)`` of ``form`` as H.264 has it: 4:2:0 loses an odd last row and column."""
    if encode.pixel_format == "yuv444p":
        return form.size
    height, width = form.height // 2 * 2, form.width // 2 * 2
    if 0 in (height, width):
        raise BadOption(f"picture is {form.width}x{form.height}; live output needs at least 2x2 pixels")
    return height, width


def track_form(sound: SoundForm) -> SoundForm:
    """What ``sound`` is encoded as: AAC has its rates, and more than two channels are rare in live use."""
    rate = sound.rate if sound.rate in _AAC_RATES else 48000
    return SoundForm(rate, min(sound.channels, len(LAYOUTS)))
