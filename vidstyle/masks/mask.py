"""Which mask `LookOptions.mask` names, and what is to be said of it."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.frame import Frame, FrameFormat
from vidstyle.masks.files import PictureMask, VideoMask, is_picture
from vidstyle.masks.person import PersonMask
from vidstyle.options import BACKGROUND, PERSON, BackendOptions

_STRETCHED = 1.03
"""Shapes that differ by less look alike."""


class Mask(Protocol):
    """The masks of the frames of one stream. Use it from one thread, on one frame after the other."""

    def at(self, frame: Frame) -> NDArray[np.uint8]:
        """Where ``frame`` is painted: uint8 (height, width), 0 is the source, 255 the painting; not to be changed."""

    def reset(self) -> None:
        """A scene begins with the next frame."""

    def close(self) -> None: ...


class Inverted:
    """Another mask, painted where that one is not."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def at(self, frame: Frame) -> NDArray[np.uint8]:
        return np.bitwise_not(self._mask.at(frame))

    def reset(self) -> None:
        self._mask.reset()

    def close(self) -> None:
        self._mask.close()


def open_mask(
    name: str, form: FrameFormat, backend: BackendOptions | None = None, begins: Fraction | None = None
) -> Mask:
    """The mask ``name``, as `LookOptions.mask` has it, for frames of ``form``; ``begins`` is as for `VideoMask`.

    Raises `BadOption`, `ImageError` or `VideoError`, and what compiling a network raises.
    """
    check_mask(name)
    if name == PERSON:
        return PersonMask(form, backend)
    if name == BACKGROUND:
        return Inverted(PersonMask(form, backend))
    path = Path(name)
    return PictureMask(path, form) if is_picture(path) else VideoMask(path, form, begins)


def check_mask(name: str) -> None:
    """`BadOption` where ``name`` is neither a file nor a word that stands for a mask."""
    if name not in (PERSON, BACKGROUND) and not Path(name).is_file():
        what = "a folder" if Path(name).is_dir() else "no file that is here"
        raise BadOption(f"mask {name!r} is {what}; it must be {PERSON}, {BACKGROUND}, or a gray picture or video file")


def mask_fact(name: str) -> str:
    """``name``, for a file with its size and time of change: what changes when the mask does."""
    if name in (PERSON, BACKGROUND):
        return name
    found = os.stat(name)
    return f"{name} ({found.st_size} bytes, changed at {found.st_mtime_ns})"


def mask_notes(
    name: str, size: tuple[int, int], *, rate: Fraction | None = None, end: Fraction | None = None
) -> list[str]:
    """What is to be said of the mask ``name`` on frames of ``size``, ``rate`` a second, that end at second ``end``."""
    if name in (PERSON, BACKGROUND):
        return []
    path, form, notes = Path(name), FrameFormat(height=size[0], width=size[1]), []
    if is_picture(path):
        own = PictureMask(path, form).size
    else:
        with VideoMask(path, form, Fraction(0)) as video:
            own, info = video.size, video.info
        if rate and info.rate and abs(info.rate / rate - 1) > Fraction(1, 100):
            notes.append(
                f"{path.name} has {float(info.rate):g} pictures a second, and the video {float(rate):g}: each frame is "
                "painted under the one of its time"
            )
        if end is not None and info.duration is not None and end > Fraction(info.duration) + Fraction(1, 10):
            notes.append(f"{path.name} ends after {info.duration:.1f} s; its last picture is the mask of the rest")
    stretch = own[1] * size[0] / (own[0] * size[1])
    if max(stretch, 1 / stretch) > _STRETCHED:
        notes.append(f"{path.name} is {own[1]}x{own[0]}, and the picture {size[1]}x{size[0]}: the mask is stretched")
    return notes
