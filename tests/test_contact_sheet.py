"""The contact sheet: its size, its cells, its labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import Network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.tools.contact_sheet import adaptation_sheet, contact_sheet, picture_grid

PAPER = (246, 246, 244)
FAST = BackendOptions(threads=2)


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    return (np.stack([np.sin(9 * x + 5 * y * y + p) for p in phase], -1) * 100 + 127).astype(np.uint8)


def styles(count: int, card: dict[str, object] | None = None) -> list[Style]:
    """Different colors on the shipped network, without any training."""
    network = shared_network("fast")
    made = []
    for seed in range(count):
        vector = np.random.default_rng(seed).normal(0, 0.4, network.architecture.style_size).astype(np.float32)
        changed = Network(network.architecture, network.weights, vector + 0.5)
        made.append(Style.of(f"style_{seed}", changed, theta=network.digest, card=card or {"painter": "N. N."}))
    return made


def cells(sheet: NDArray[np.uint8], width: int, columns: int) -> Iterator[NDArray[np.uint8]]:
    """Columns of the sheet without the margins."""
    for column in range(columns):
        left = 40 + column * (width + 20)
        yield sheet[:, left : left + width]


def ink(region: NDArray[np.uint8]) -> int:
    return int((region != PAPER).any(axis=-1).sum())


def test_one_photo_makes_a_grid_that_begins_with_it() -> None:
    picture = photo(90, 160)
    sheet = contact_sheet(picture, styles(5), cell_width=160, backend=FAST)
    # 3 columns by 2 rows: margins of 40, gaps of 20, 52 rows of label below each cell.
    assert sheet.shape == (2 * (90 + 52) + 20 + 80, 3 * 160 + 2 * 20 + 80, 3)
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet[40:130, 40:200], picture)
    pictures = [column[top : top + 90] for top in (40, 40 + 90 + 52 + 20) for column in cells(sheet, 160, 3)]
    for index, first in enumerate(pictures):
        assert all(np.abs(first.astype(int) - other).mean() > 3 for other in pictures[index + 1 :])
    labels = [column[top : top + 52] for top in (130, 130 + 90 + 52 + 20) for column in cells(sheet, 160, 3)]
    assert all(ink(strip) > 200 for strip in labels)
    assert [ink(edge) for edge in (sheet[:40], sheet[-40:], sheet[:, :40], sheet[:, -40:])] == [0] * 4


def test_several_photos_make_rows_of_their_own_height() -> None:
    photos = [photo(90, 160, 1), photo(160, 160, 2)]
    sheet = contact_sheet(photos, styles(2), cell_width=160, backend=FAST)
    assert sheet.shape == (40 + 52 + 90 + 20 + 160 + 40, 3 * 160 + 2 * 20 + 80, 3)
    assert np.array_equal(sheet[92:182, 40:200], photos[0])
    assert np.array_equal(sheet[202:362, 40:200], photos[1])
    columns = list(cells(sheet, 160, 3))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(columns[first][92:182].astype(int) - columns[second][92:182]).mean() > 3


def test_many_styles_are_broken_into_bands_that_repeat_the_photos() -> None:
    photos = [photo(40, 64, 1), photo(40, 64, 2)]
    sheet = contact_sheet(photos, styles(8), cell_width=64, backend=FAST)
    band = 52 + 40 + 20 + 40
    assert sheet.shape == (80 + 2 * band + 40, 5 * 64 + 4 * 20 + 80, 3)
    second = 40 + band + 40 + 52
    assert np.array_equal(sheet[92:132, 40:104], sheet[second : second + 40, 40:104])


def test_a_sheet_stays_within_a_screenful_whatever_the_photo() -> None:
    sheet = contact_sheet([photo(600, 900), photo(900, 600)], styles(6), backend=FAST)
    assert sheet.shape[1] <= 2400
    tall = contact_sheet(photo(900, 90), styles(1), cell_width=90, backend=FAST)
    assert tall.shape[0] == 80 + 135 + 52  # cropped to one and a half times its width


def test_the_look_is_honored() -> None:
    picture = photo(90, 160)
    sheet = contact_sheet(picture, styles(1), cell_width=160, look=LookOptions(strength=0), backend=FAST)
    first, second = cells(sheet, 160, 2)
    assert np.array_equal(first[40:130], second[40:130])


def test_a_label_too_long_for_its_cell_keeps_the_painter() -> None:
    short = {"painter": "Seurat", "year": 1884}
    long = {**short, "painting": "A Sunday Afternoon on the Island of La Grande Jatte, a study of it"}
    arguments = {"cell_width": 120, "backend": FAST}
    sheets = [contact_sheet(photo(60, 80), styles(1, card), **arguments) for card in (short, long)]  # type: ignore[arg-type]
    assert np.array_equal(*sheets)
    endless = contact_sheet(photo(60, 80), styles(1, {"painter": "x" * 500}), **arguments)  # type: ignore[arg-type]
    assert ink(endless[:, -40:]) == 0


def test_the_name_is_the_style_s_whatever_letters_it_has() -> None:
    plain, other = styles(2, {"painter": "Toyen"})
    renamed = replace(plain, name="Žluťoučký 北斎")
    sheets = [contact_sheet(photo(60, 80), [s], cell_width=120, backend=FAST) for s in (plain, renamed)]
    assert sheets[0].shape == sheets[1].shape and not np.array_equal(*sheets)


def test_an_adaptation_is_drawn_in_a_row_from_photo_to_end() -> None:
    picture, painting = photo(60, 90, 1), photo(90, 60, 2)
    before, after = styles(2)
    cards: list[dict[str, object]] = [{"steps": 0}, {"steps": 7, "losses": {"after": {"content": 0.7, "style": 0.2}}}]
    moments = [replace(s, name="mine", card=c) for s, c in zip((before, after), cards, strict=True)]
    sheet = adaptation_sheet(picture, painting, moments, cell_width=90, backend=FAST)
    assert sheet.shape == (40 + 60 + 52 + 40, 4 * 90 + 3 * 20 + 80, 3)
    first, second, third, fourth = (column[40:100] for column in cells(sheet, 90, 4))
    assert np.array_equal(first, picture)
    assert ink(second[:, :25]) == ink(second[:, -25:]) == 0 and ink(second) == 40 * 60  # a portrait, whole
    assert np.abs(third.astype(int) - fourth).mean() > 3
    labels = [column[100:152] for column in cells(sheet, 90, 4)]
    assert all(ink(strip[:26]) > 100 for strip in labels)
    assert ink(labels[2][32:]) == 0 < ink(labels[3][32:]), "the losses, where they are known"


def test_a_grid_has_the_columns_asked_for_and_cells_of_one_shape() -> None:
    pictures = [photo(40, 60, 1), photo(80, 120, 2), photo(40, 20, 3)]
    sheet = picture_grid(pictures, [(name, ()) for name in "abc"], columns=2, cell_width=60)
    assert sheet.shape == (2 * (40 + 52) + 20 + 80, 2 * 60 + 20 + 80, 3)
    assert np.array_equal(sheet[40:80, 40:100], pictures[0])
    assert np.array_equal(sheet[152:192, 60:80], pictures[2])
    with pytest.raises(BadOption, match="3 pictures and 1 labels"):
        picture_grid(pictures, [("a", ())])
    with pytest.raises(BadOption, match="columns is 0"):
        picture_grid(pictures, [("a", ())] * 3, columns=0)


def test_what_cannot_be_drawn_is_a_sentence() -> None:
    with pytest.raises(BadOption, match="needs at least one photo"):
        contact_sheet([], styles(1))
    with pytest.raises(BadOption, match="must be a uint8 RGB"):
        contact_sheet(np.zeros((4, 4), np.uint8), styles(1))
    with pytest.raises(BadOption, match="cell width is 3"):
        contact_sheet(photo(8, 8), styles(1), cell_width=3)
