"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidstyle.errors import BadOption
from vidstyle.wholefile import check_free, part_path, write_whole


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


def test_a_name_that_cannot_be_had_is_told_before(tmp_path: Path) -> None:
    there, folder = tmp_path / "there.txt", tmp_path / "folder"
    there.write_text("mine")
    folder.mkdir()
    check_free(tmp_path / "new.txt", tmp_path / "newer.txt", overwrite=False)
    check_free(there, overwrite=True)
    for paths, overwrite, words in (
        ((tmp_path / "no" / "new.txt",), True, "does not exist; make it first"),
        ((tmp_path / "new.txt", folder), True, "folder is a folder; choose another name"),
        ((tmp_path / "new.txt", there), False, "there.txt exists; choose another name or give --overwrite"),
    ):
        with pytest.raises(BadOption, match=words):
            check_free(*paths, overwrite=overwrite)
    assert there.read_text() == "mine"
