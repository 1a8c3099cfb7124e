"""What the window shows of a frame: BGR at the size of the window, mirrored, split, and the overlay over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import Frame, FrameFormat, Matrix, Planes, rgb_from_yuv
from vidstyle.imaging import resample
from vidstyle.live.keys import KEYS
from vidstyle.options import View

U8 = NDArray[np.uint8]
Color = tuple[int, int, int]

_WHITE: Color = (255, 255, 255)
_GRAY: Color = (215, 215, 215)
_AMBER: Color = (80, 190, 255)
_RED: Color = (60, 60, 240)
_KEEP = 0.32  # how much of the picture shines through a panel: white text on it has contrast on white, too
_KEEP_HELP = 0.2
_TEXT_OF_HEIGHT = 0.033
_SMALLEST_TEXT, _LARGEST_TEXT = 12, 30
_PANELS_KEPT = 16


@dataclass(frozen=True)
class Line:
    """A line of text on a panel."""

    text: str
    color: Color = _WHITE
    bold: bool = False
    dot: bool = False
    """Whether a red dot stands before it: recording."""


@dataclass(frozen=True)
class Status:
    """What the overlay says. None and empty texts are left out."""

    fps: float | None = None
    latency: tuple[float, float] | None = None
    """Median and 99th percentile, in seconds."""
    dropped: int = 0
    title: str = ""
    details: str = ""
    """What differs from the usual: strength, work size, pause."""
    recording: float | None = None
    warning: str = ""
    """What is wrong at this moment."""
    message: str = ""
    """What has just happened."""
    help: bool = False


class Overlay:
    """Draws a `Status`; panels are rendered when their text changes and kept. Use it from one thread."""

    def __init__(self) -> None:
        self._font = cv2.FontFace("sans")  # comes with OpenCV
        self._panels: dict[tuple[object, ...], tuple[U8, U8]] = {}

    def draw(self, bgr: U8, status: Status) -> None:
        """Draw into ``bgr``, uint8 of shape (height, width, 3)."""
        height, width = bgr.shape[:2]
        size = min(_LARGEST_TEXT, max(_SMALLEST_TEXT, round(height * _TEXT_OF_HEIGHT)))
        margin = size // 2
        most = max(20, int(width / size * 1.7))
        _lay(bgr, self._panel(_wrapped(_figures(status), most), size), (margin, margin))
        if status.recording is not None:
            clock = f"{int(status.recording) // 60}:{int(status.recording) % 60:02d}"
            panel = self._panel([[Line(clock, bold=True, dot=True)]], size)
            _lay(bgr, panel, (margin, width - panel[0].shape[1] - margin))
        below = [Line(text, color) for text, color in ((status.warning, _AMBER), (status.message, _WHITE)) if text]
        if below:
            panel = self._panel(_wrapped(below, most), size)
            _lay(bgr, panel, (height - panel[0].shape[0] - margin, (width - panel[0].shape[1]) // 2))
        if status.help:
            rows = [(Line(keys.shown, bold=True), Line(keys.help, _GRAY)) for keys in KEYS]
            panel = self._panel(rows, min(size, max(9, height // 26)), step=1.5, room=1.0, kept=_KEEP_HELP)
            _lay(bgr, panel, ((height - panel[0].shape[0]) // 2, (width - panel[0].shape[1]) // 2))

    def _panel(
        self, rows: Sequence[Sequence[Line]], size: int, *, step: float = 1.45, room: float = 0.55, kept: float = _KEEP
    ) -> tuple[U8, U8]:
        """What is kept of the picture, and what is added to it: both (height, width, 3)."""
        key = (tuple(tuple(row) for row in rows), size)
        if key not in self._panels:
            pitch, edge = round(size * step), round(size * room)
            columns, at = [], edge
            for column in zip(*rows, strict=True):
                columns.append(at)
                at += max(self._width(line, size) for line in column) + 2 * size
            ink = np.zeros((pitch * len(rows) + edge, at - 2 * size + edge, 3), np.uint8)
            for number, row in enumerate(rows):
                for x, line in zip(columns, row, strict=True):
                    self._write(ink, line, size, (x, number * pitch + edge // 2 + round(size * 1.08)))
            self._keep(key, ink, edge, kept)
        return self._panels[key]

    def _keep(self, key: tuple[object, ...], ink: U8, radius: int, kept: float) -> None:
        height, width = ink.shape[:2]
        plate = np.zeros((height, width), np.uint8)
        r = min(radius, height // 2, width // 2)
        cv2.rectangle(plate, (r, 0), (width - 1 - r, height - 1), 255, -1)
        cv2.rectangle(plate, (0, r), (width - 1, height - 1 - r), 255, -1)
        for x in (r, width - 1 - r):
            for y in (r, height - 1 - r):
                cv2.circle(plate, (x, y), r, 255, -1, cv2.LINE_AA)
        light = ink.max(axis=2).astype(np.float32)  # where there is text nothing shines through
        keep = (1 - (1 - kept) * (plate / 255.0)) * (255 - light)
        if len(self._panels) >= _PANELS_KEPT:
            self._panels.pop(next(iter(self._panels)))
        self._panels[key] = np.repeat(np.rint(keep)[..., None], 3, axis=2).astype(np.uint8), ink

    def _width(self, line: Line, size: int) -> int:
        box = cv2.getTextSize((0, 0), line.text, (0, 0), self._font, size, 600 if line.bold else 400)
        return int(box[0] + box[2]) + (size if line.dot else 0) + 1

    def _write(self, ink: U8, line: Line, size: int, base: tuple[int, int]) -> None:
        x, y = base
        if line.dot:
            radius = round(size * 0.32)
            cv2.circle(ink, (x + radius, y - round(size * 0.33)), radius, _RED, -1, cv2.LINE_AA)
            x += size
        cv2.putText(ink, line.text, (x, y), line.color, self._font, size, 600 if line.bold else 400)


def _figures(status: Status) -> list[Line]:
    figures = [] if status.fps is None else [f"{status.fps:.1f} fps"]
    if status.latency is not None:
        median, late = (round(1000 * seconds) for seconds in status.latency)
        figures.append(f"{median} ms (p99 {late})")
    figures.append(f"{status.dropped} dropped")
    lines = [Line("  ·  ".join(figures), _GRAY)]
    if status.title:
        lines.insert(0, Line(status.title, bold=True))
    if status.details:
        lines.append(Line(status.details, _GRAY))
    return lines


def _wrapped(lines: Sequence[Line], most: int) -> list[list[Line]]:
    """The lines, broken between words so that none has more than about ``most`` characters, as rows of a panel."""
    result: list[list[Line]] = []
    for line in lines:
        row = ""
        for word in line.text.split():
            if row and len(row) + 1 + len(word) > most:
                result.append([replace(line, text=row)])
                row = ""
            row = f"{row} {word}" if row else word
        result.append([replace(line, text=row)])
    return result


def _lay(bgr: U8, panel: tuple[U8, U8], at: tuple[int, int]) -> None:
    """Lay ``panel`` over ``bgr`` with its corner ``at`` (row, column); what sticks out is cut off."""
    keep, ink = panel
    top, left = max(0, at[0]), max(0, at[1])
    height, width = min(keep.shape[0], bgr.shape[0] - top), min(keep.shape[1], bgr.shape[1] - left)
    if height <= 0 or width <= 0:
        return
    place = bgr[top : top + height, left : left + width]
    faded = cv2.multiply(place, keep[:height, :width], scale=1 / 255)
    place[:] = cv2.add(faded, ink[:height, :width])


def draw(painted: Frame, source: Frame, size: tuple[int, int], *, view: View = "painted", mirror: bool = False) -> U8:
    """The picture for a window of ``size`` (height, width): a new uint8 BGR array of that size.

    ``painted`` and ``source`` are of one form. The picture is as large as fits, in the middle, on black.
    Split, the source is on the left of the screen and the painting on the right, mirrored or not.
    """
    form = painted.form
    planes = source.planes if view == "original" else painted.planes
    if view == "split":
        planes = _split(source.planes, painted.planes, form, source_first=not mirror)
    fitted = _fitted(form.size, size)
    shrunk = min(fitted[0], form.height), min(fitted[1], form.width)
    bgr = bgr_from_planes(resample.resize(planes, form, shrunk), form.resized(shrunk))
    if shrunk != fitted:
        bgr = np.asarray(cv2.resize(bgr, fitted[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    if mirror:
        bgr = np.asarray(cv2.flip(bgr, 1), np.uint8)
    if view == "split":
        middle = bgr.shape[1] // 2
        bgr[:, max(0, middle - 1) : middle + 1] = 255
    if fitted == size:
        return bgr
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2
    canvas[top : top + fitted[0], left : left + fitted[1]] = bgr
    return canvas


def bgr_from_planes(planes: Planes, form: FrameFormat) -> U8:
    """The picture as a new uint8 array (height, width, 3) in the order blue, green, red.

    ``planes`` are of ``form``; its matrix and range are honored. Chroma is that of the nearest pixel.
    """
    if form.pixels == "rgb":
        return np.asarray(cv2.cvtColor(planes[0], cv2.COLOR_RGB2BGR), np.uint8)
    chroma = planes[1:] if form.pixels == "i420" else tuple(cv2.split(planes[1]))
    shape = 2 * form.chroma_size[1], 2 * form.chroma_size[0]  # an odd side has half a chroma pixel left over
    full = [cv2.resize(plane, shape, interpolation=cv2.INTER_NEAREST)[: form.height, : form.width] for plane in chroma]
    # OpenCV's own conversion is faster, and knows BT.601 in the limited range only.
    yuv = cv2.merge([planes[0], *full])
    return np.asarray(cv2.transform(yuv, _bgr_matrix(form.matrix, form.full_range)), np.uint8)


@cache
def _bgr_matrix(matrix: Matrix, full_range: bool) -> NDArray[np.float64]:
    m, offset = rgb_from_yuv(matrix, full_range)
    return np.concatenate([m, offset[:, None]], axis=1)[::-1].copy()


def _split(left: Planes, right: Planes, form: FrameFormat, *, source_first: bool) -> Planes:
    if not source_first:
        left, right = right, left
    half = form.width // 4 * 2
    columns = (half,) if form.pixels == "rgb" else (half, *[half // 2] * (len(left) - 1))
    return tuple(
        np.concatenate([a[:, :middle], b[:, middle:]], axis=1)
        for a, b, middle in zip(left, right, columns, strict=True)
    )


def _fitted(size: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """``size`` scaled to lie within ``bounds``, its aspect kept; at least one pixel."""
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    return (min(bounds[0], max(1, round(size[0] * scale))), min(bounds[1], max(1, round(size[1] * scale))))
