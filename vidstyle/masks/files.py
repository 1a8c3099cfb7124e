"""Masks from files: a gray picture, and a gray video that runs along with the frames."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.imaging.image_io import FORMATS, Still, read_still
from vidstyle.imaging.resample import resize
from vidstyle.options import ClipOptions
from vidstyle.pipeline import Closing
from vidstyle.video.reader import VideoReader

U8 = NDArray[np.uint8]

JUMP_SECONDS = 10
"""A video is read on for so long to get to a later picture; for one that is further away it is opened again there."""
_LAST = Fraction(1, 1000)  # seconds before its end at which a video is opened for its last picture


def is_picture(path: Path) -> bool:
    """Whether ``path`` is named like a picture; all else is a video."""
    return path.suffix.lower() in FORMATS


class PictureMask(Closing):
    """A picture, scaled to the frames: its light is the mask, and where it is transparent nothing is painted."""

    def __init__(self, path: Path, form: FrameFormat) -> None:
        """Raises `ImageError`."""
        still = read_still(path)
        self.size = still.size
        """``(height, width)`` of the file."""
        self._mask = _scaled(_light(still), form)

    def at(self, frame: Frame) -> U8:
        return self._mask

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


class VideoMask(Closing):
    """A video that runs along: a frame gets the picture that is shown at its time. Use it from one thread."""

    def __init__(self, path: Path, form: FrameFormat, begins: Fraction | None = None) -> None:
        """Open ``path``. Its first picture belongs to second ``begins`` of the frames' clock, and its last one stays.

        With None it belongs to the first frame, and the video is played over and over. Raises `VideoError`.
        """
        self._path, self._form, self._begins = path, form, begins
        self._repeats = begins is None
        self._reader = VideoReader(path, pixels="i420")
        self.info = self._reader.info
        self.size = self.info.size
        """``(height, width)`` of the file."""
        self._frames: Generator[Frame, None, None] = self._reader.frames()
        self._now: Frame | None = None
        self._next: Frame | None = None
        self._scaled: tuple[Frame, U8] | None = None
        self._open(Fraction(0))

    def at(self, frame: Frame) -> U8:
        """The mask of ``frame``: uint8 (height, width)."""
        seconds = frame.pts * frame.time_base
        if self._begins is None:
            self._begins = seconds
        picture = self._picture(max(Fraction(0), seconds - self._begins))
        if self._scaled is None or self._scaled[0] is not picture:
            self._scaled = picture, _scaled(_full_range(picture), self._form)
        return self._scaled[1]

    def reset(self) -> None:
        """Nothing: times tell which picture comes next."""

    def close(self) -> None:
        self._reader.close()

    def _picture(self, seconds: Fraction) -> Frame:
        """What the video shows at ``seconds`` after its start."""
        length = None if self.info.duration is None else Fraction(self.info.duration)
        if length is not None and seconds >= length > 0:
            seconds = seconds % length if self._repeats else max(Fraction(0), length - _LAST)
        now = self._time(self._now)
        if now is None or seconds < now or (seconds > now + JUMP_SECONDS and self._next is not None):
            self._open(seconds)
        while (following := self._time(self._next)) is not None and following <= seconds:
            self._now, self._next = self._next, next(self._frames, None)
        assert self._now is not None
        return self._now

    def _open(self, seconds: Fraction) -> None:
        """Have the picture that is shown at ``seconds``, and the one after it."""
        for start in (seconds, Fraction(0)):  # a file may be shorter than it says
            self._reader.close()
            self._reader = VideoReader(self._path, pixels="i420", clip=ClipOptions(start=float(start)), info=self.info)
            self._frames = self._reader.frames()
            self._now, self._next = next(self._frames, None), next(self._frames, None)
            if self._now is not None:
                return
        raise VideoError(f"no picture of the mask {self._path} can be decoded: {'; '.join(self._reader.errors)}")

    def _time(self, picture: Frame | None) -> Fraction | None:
        return None if picture is None else picture.pts * picture.time_base - self.info.start


def _light(still: Still) -> U8:
    light = np.asarray(cv2.cvtColor(np.ascontiguousarray(still.rgb), cv2.COLOR_RGB2GRAY), np.uint8)
    return light if still.alpha is None else np.asarray(cv2.multiply(light, still.alpha, scale=1 / 255), np.uint8)


def _full_range(frame: Frame) -> U8:
    luma = frame.planes[0]
    return luma if frame.form.full_range else np.asarray(cv2.LUT(luma, _FULL_RANGE), np.uint8)


_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def _scaled(mask: U8, form: FrameFormat) -> U8:
    given = np.repeat(mask[..., None], 3, axis=2)
    plane = FrameFormat(height=mask.shape[0], width=mask.shape[1], pixels="rgb")
    return np.ascontiguousarray(resize((given,), plane, form.size)[0][..., 0])
