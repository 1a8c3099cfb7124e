"""Names and snapshots: PNG, named by style and time, never over another file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import photo

from vidstyle.errors import ImageError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.live.outputs import free_name, save_snapshot

FRAME = Frame((photo(1, (32, 48)),), FrameFormat(height=32, width=48), 0, Fraction(1, 1_000_000))


def test_picture_is_exact_and_nothing_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    paths = [save_snapshot(FRAME, folder, "great_wave 70 % + paper/the_scream 30 %") for _ in range(3)]
    assert len(set(paths)) == 3
    assert sorted(folder.iterdir()) == sorted(paths)
    for path in paths:
        assert path.name.startswith("great_wave-70+paper-the_scream-30-20")
        bgr = cv2.imread(str(path))
        assert bgr is not None
        assert np.array_equal(bgr[..., ::-1], FRAME.planes[0])


@pytest.mark.parametrize("title", ["../../etc", "a:b\\c", "", "ü" * 300, "漢" * 300, "日本"])
def test_no_title_leaves_the_folder(title: str, tmp_path: Path) -> None:
    path = save_snapshot(FRAME, tmp_path, title)
    assert path.parent == tmp_path
    assert [path] == list(tmp_path.iterdir())


def test_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot write"):
        save_snapshot(FRAME, tmp_path / "file", "x")


def test_free_names(tmp_path: Path) -> None:
    for expected in ("out.mp4", "out-2.mp4", "out-3.mp4"):
        path = free_name(tmp_path / "out.mp4")
        assert path.name == expected
        path.touch()
