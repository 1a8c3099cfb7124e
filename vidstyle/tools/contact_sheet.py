"""Sheets of labeled pictures: photos in every style, and a photo along an adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.frame import FrameFormat, as_rgb
from vidstyle.gallery import load_blend, style_names
from vidstyle.imaging import resample
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions, check_between
from vidstyle.stylizer import Stylizer

RGB = NDArray[np.uint8]
Label: TypeAlias = tuple[str, tuple[str, ...]]
"""What ``--style`` takes, and what the card says of the painting: the first of several lines that fits is shown."""

_PAPER, _INK, _GRAY = (246, 246, 244), (32, 32, 34), (112, 112, 116)
_MARGIN, _GAP = 40, 20
_LABEL = 52
"""Height of the two lines of text below (one photo) or above (several) the pictures."""
_MAX_WIDTH = 2400
"""Pixels that a sheet is meant to stay within; more columns make smaller cells."""
_PAINT_SIDE = 768
"""Longest side at which the styles paint: strokes look as in a video of that size, not as in a thumbnail."""
_MAX_ASPECT = 1.5
"""A cell is at most this many times as high as wide; higher photos lose top and bottom."""


def contact_sheet(
    photos: RGB | Sequence[RGB],
    styles: Sequence[str | Path | Style] | None = None,
    *,
    cell_width: int | None = None,
    look: LookOptions | None = None,
    backend: BackendOptions | None = None,
) -> RGB:
    """A sheet of every style on every photo: uint8 RGB, at most about 2400 pixels wide.

    ``photos`` are uint8 RGB of shape (height, width, 3). ``styles`` are what `Stylizer` takes; None is
    the whole gallery. One photo makes a grid that begins with the photo itself; several photos
    make one row each, the photo first, a column a style, broken into bands where there are many.
    Labels come from the styles' cards.
    """
    pictures = [as_rgb(photo, "photo") for photo in (photos if isinstance(photos, list | tuple) else [photos])]
    if not pictures:
        raise BadOption("a contact sheet needs at least one photo")
    if cell_width is not None:
        check_between("cell width", cell_width, 16, 2048)
    if isinstance(styles, str | Path | Style):
        styles = [styles]
    chosen = [s if isinstance(s, Style) else load_blend(s) for s in (style_names() if styles is None else styles)]
    pictures = [_for_painting(picture) for picture in pictures]
    painted = _paint(pictures, chosen, look, backend)
    labels = [("photo", ()), *map(_label, chosen)]
    if len(pictures) == 1:
        return _grid(painted[0], labels, cell_width, None)
    return _table(painted, labels, cell_width)


def adaptation_sheet(
    photo: RGB,
    painting: RGB,
    styles: Sequence[Style],
    *,
    cell_width: int | None = None,
    look: LookOptions | None = None,
    backend: BackendOptions | None = None,
) -> RGB:
    """A photo, a painting, and the photo in the styles of an adaptation, in one row: uint8 RGB.

    ``photo`` and ``painting`` are uint8 RGB of shape (height, width, 3). ``styles`` are what the
    adaptation was at some of its steps; their cards say at which, and how far from the painting.
    """
    photo = _for_painting(photo)
    ((_, *painted),) = _paint([photo], list(styles), look, backend)
    title = _label(styles[-1])[1] if styles else ()
    labels = [("photo", ()), ("painting", title), *map(_moment, styles)]
    cells = [photo, _for_painting(painting), *painted]
    return picture_grid(cells, labels, columns=len(cells), cell_width=cell_width)


def picture_grid(
    cells: Sequence[RGB], labels: Sequence[Label], *, columns: int | None = None, cell_width: int | None = None
) -> RGB:
    """Pictures with a label below each: uint8 RGB.

    Every cell has the shape of the first picture; pictures of another shape are shown whole, in the
    middle. Without ``columns`` the sheet is about 3:2.
    """
    if not len(cells) or len(cells) != len(labels):
        raise BadOption(
            f"there are {len(cells)} pictures and {len(labels)} labels; give a label to each, and one or more"
        )
    for label in labels:
        if not (isinstance(label, tuple) and len(label) == 2 and isinstance(label[1], tuple)):
            raise BadOption(f"label is {label!r}; it must be (name, (facts, shorter facts, ...))")
    if columns is not None:
        check_between("columns", columns, 1, 100)
    if cell_width is not None:
        check_between("cell width", cell_width, 16, 2048)
    return _grid([as_rgb(cell) for cell in cells], list(labels), cell_width, columns)


def _moment(style: Style) -> Label:
    """When in its adaptation a style was taken, and what the losses were then."""
    steps, losses = style.card.get("steps"), style.card.get("losses")
    after = losses.get("after", {}) if isinstance(losses, dict) else {}
    facts = ", ".join(f"{term} {after[term]:.2f}" for term in ("style", "content") if term in after)
    return f"after {steps} steps" if steps else "before", ((f"loss: {facts}", facts) if facts else ())


def _label(style: Style) -> Label:
    painting, painter, year = (str(style.card.get(key) or "") for key in ("painting", "painter", "year"))
    whose = ", ".join(filter(None, (painter, year)))
    return style.name, tuple(filter(None, (", ".join(filter(None, (painting, whose))), whose)))


def _for_painting(photo: RGB) -> RGB:
    photo = as_rgb(photo, "photo")
    height, width = photo.shape[:2]
    spare = max(0, height - round(width * _MAX_ASPECT))
    photo = photo[spare // 2 : height - (spare - spare // 2)]
    height = photo.shape[0]
    scale = min(1.0, _PAINT_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    form = FrameFormat(height=height, width=width)
    return resample.resize((np.ascontiguousarray(photo),), form, size)[0]


def _paint(
    photos: list[RGB], styles: list[Style], look: LookOptions | None, backend: BackendOptions | None
) -> list[list[RGB]]:
    """For each photo: the photo, then each style's rendition of it."""
    rows = [[photo] for photo in photos]
    with ExitStack() as stack:
        stylizers: dict[str, Stylizer] = {}  # by network: its styles share compiled programs
        for style in styles:
            name = style.network_name
            if name not in stylizers:
                stylizers[name] = stack.enter_context(Stylizer(style, look=look, backend=backend))
            stylizers[name].style = style
            for row in rows:
                row.append(stylizers[name](row[0]))
    return rows


def _grid(cells: list[RGB], labels: list[Label], width: int | None, columns: int | None) -> RGB:
    """Cells of the first one's shape, in as many columns as make a sheet of about 3:2 with few empty places."""
    aspect = cells[0].shape[0] / cells[0].shape[1]

    def badness(columns: int) -> float:
        rows = -(-len(cells) // columns)
        shape = columns / (rows * (aspect + _LABEL / 480))
        return abs(float(np.log(shape / 1.5))) + 0.35 * (rows * columns - len(cells)) / columns

    columns = columns or min(range(1, min(len(cells), 6) + 1), key=badness)
    width = width or _cell_width(columns)
    height = max(1, round(width * aspect))
    rows = -(-len(cells) // columns)
    sheet = _blank(rows * (height + _LABEL + _GAP) - _GAP, columns, width)
    for index, (cell, text) in enumerate(zip(cells, labels, strict=True)):
        row, column = divmod(index, columns)
        top, left = _MARGIN + row * (height + _LABEL + _GAP), _MARGIN + column * (width + _GAP)
        _place(sheet, cell, top, left, height, width)
        _write_label(sheet, text, top + height + 10, left, width)
    return sheet


def _table(cells: list[list[RGB]], labels: list[Label], width: int | None) -> RGB:
    """Several photos: bands of columns, each beginning with the photos, a row a photo, labels on top."""
    styles = len(labels) - 1
    bands = max(1, -(-styles // 6))
    per_band = -(-styles // bands)
    columns = 1 + per_band
    width = width or _cell_width(columns)
    heights = [max(1, round(width * row[0].shape[0] / row[0].shape[1])) for row in cells]
    band_height = _LABEL + sum(heights) + _GAP * (len(heights) - 1)
    sheet = _blank(bands * (band_height + 2 * _GAP) - 2 * _GAP, columns, width)
    for band in range(bands):
        top = _MARGIN + band * (band_height + 2 * _GAP)
        shown = [0, *range(1 + band * per_band, min(1 + (band + 1) * per_band, len(labels)))]
        for column, index in enumerate(shown):
            left = _MARGIN + column * (width + _GAP)
            _write_label(sheet, labels[index], top, left, width)
            down = top + _LABEL
            for row, height in zip(cells, heights, strict=True):
                _place(sheet, row[index], down, left, height, width)
                down += height + _GAP
    return sheet


def _cell_width(columns: int) -> int:
    return min(480, (_MAX_WIDTH - 2 * _MARGIN - _GAP * (columns - 1)) // columns)


def _blank(inner_height: int, columns: int, width: int) -> RGB:
    shape = inner_height + 2 * _MARGIN, 2 * _MARGIN + columns * width + (columns - 1) * _GAP, 3
    return np.full(shape, _PAPER, np.uint8)


def _place(sheet: RGB, picture: RGB, top: int, left: int, height: int, width: int) -> None:
    """Put ``picture`` into a cell: whole, in the middle, where its shape is another."""
    form = FrameFormat(height=picture.shape[0], width=picture.shape[1])
    scale = min(height / form.height, width / form.width)
    inner = [
        most if abs(side - most) < 1 else max(1, round(side))  # a rounded pixel is no other shape
        for side, most in ((form.height * scale, height), (form.width * scale, width))
    ]
    top, left = top + (height - inner[0]) // 2, left + (width - inner[1]) // 2
    sheet[top : top + inner[0], left : left + inner[1]] = resample.resize((picture,), form, (inner[0], inner[1]))[0]


def _write_label(sheet: RGB, label: Label, top: int, left: int, width: int) -> None:
    """Two lines in a strip of ``_LABEL`` rows, drawn at twice the size: smoother, and finer spacing."""
    strip = np.full((2 * _LABEL, 2 * width, 3), _PAPER, np.uint8)
    font = cv2.FontFace("sans")
    name, facts = label
    for lines, baseline, size, weight, color in (((name,), 16, 17, 600, _INK), (facts, 37, 13, 400, _GRAY)):
        if text := _fitted(lines, font, 2 * size, weight, 2 * width - _GAP):
            cv2.putText(strip, text, (0, 2 * baseline), color, font, 2 * size, weight)
    rows = min(_LABEL, sheet.shape[0] - top)
    small = cv2.resize(strip, (width, _LABEL), interpolation=cv2.INTER_AREA)
    sheet[top : top + rows, left : left + width] = small[:rows]


def _fitted(lines: tuple[str, ...], font: cv2.FontFace, size: int, weight: int, width: int) -> str:
    """The first of ``lines`` that is at most ``width`` pixels wide; else the last, cut with an ellipsis."""

    def fits(text: str) -> bool:
        return int(cv2.getTextSize((0, 0), text, (0, 0), font, size, weight)[2]) <= width

    text = ""
    for text in lines:
        if fits(text):
            return text
    while text and not fits(text + "…"):
        text = text[:-1].rstrip(" ,")
    return text and text + "…"
