"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidstyle.wholefile import part_path, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    write_whole(path, b"new and longer")
    assert path.read_bytes() == b"new and longer"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def refuse(*names: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name_still_has_room_for_the_part(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_whole(path, b"data")
    assert path.read_bytes() == b"data"


def test_two_parts_of_one_file_have_different_names(tmp_path: Path) -> None:
    assert part_path(tmp_path / "a") != part_path(tmp_path / "a")
