"""Files appear whole or not at all, and one function says whether they may."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vidstyle.errors import BadOption
from vidstyle.files import (
    check_folder,
    check_output,
    part_path,
    publish,
    publish_beside,
    short_name,
    write_failure,
    write_whole,
)


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


@pytest.mark.parametrize(
    "name", ["x" * 255, "\U0001f3a8" * 60 + ".mp4", "漢" * 85, "\udce9" * 255, "\udce9.\U0001f3a8\n\x1b"]
)
def test_any_name_that_the_file_system_takes_can_be_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    check_output(path, overwrite=False)
    write_whole(path, b"data", overwrite=False)
    assert path.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [path]
    part = part_path(path)
    assert part != part_path(path)
    assert len(os.fsencode(part.name)) <= 255


@pytest.mark.parametrize("links", [True, False])
def test_of_two_at_once_one_wins(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:  # as on FAT

        def refuse(*names: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "race.txt"
    at_once, refused = threading.Barrier(8), []

    def write(number: int) -> None:
        at_once.wait()
        try:
            write_whole(path, str(number).encode(), overwrite=False)
        except BadOption as error:
            refused.append((number, str(error)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(refused) == 7
    assert all("race.txt exists" in words and "--overwrite" in words for _, words in refused)
    assert int(path.read_text()) not in dict(refused)
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_is_cut_between_characters() -> None:
    assert short_name("\U0001f3a8" * 60, 81) == "\U0001f3a8" * 20
    assert short_name("\udce9" * 100, 80) == ""
    assert short_name("a\udce9", 80) == "a\udce9"


def test_work_whose_name_was_taken_gets_another(tmp_path: Path) -> None:
    path, part = tmp_path / "out.mp4", tmp_path / "part"
    part.write_text("work")
    (tmp_path / "out-2.mp4").touch()
    path.touch()
    with pytest.raises(BadOption, match="exists"):
        publish(part, path, overwrite=False)
    assert publish_beside(part, path).read_text() == "work"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out-2.mp4", "out-3.mp4", "out.mp4"]


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_is_followed(dangling: bool, tmp_path: Path) -> None:
    there, link = tmp_path / "large disk" / "real.txt", tmp_path / "link.txt"
    there.parent.mkdir()
    link.symlink_to(there)
    if not dangling:
        there.write_text("old")
        with pytest.raises(BadOption, match="exists"):
            check_output(link, overwrite=False)
    assert part_path(link).parent == there.parent  # a name is changed within one disk
    write_whole(link, b"new", overwrite=not dangling)
    assert link.is_symlink()
    assert there.read_text() == "new"
    assert os.listdir(there.parent) == ["real.txt"]


def test_what_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    there, folder, pipe = tmp_path / "there.txt", tmp_path / "folder", tmp_path / "pipe"
    there.write_text("mine")
    folder.mkdir()
    os.mkfifo(pipe)
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "loop").symlink_to("loop")
    check_output(tmp_path / "new.txt", tmp_path / "newer.txt", overwrite=False)
    check_output(there, overwrite=True)
    for path, overwrite, words in (
        (tmp_path / "no" / "new.txt", True, "no folder .*no; make it first"),
        (there / "new.txt", True, "no folder .*there.txt"),
        (folder, True, "is a folder; name a file"),
        (pipe, True, "device or a pipe"),
        (tmp_path / "device", True, "device or a pipe"),
        (tmp_path / "loop", True, "symbolic links"),
        (tmp_path / ("x" * 256), True, "File name too long"),
        (tmp_path / "nu\0l", True, "null"),
        (there, False, "there.txt exists; .*--overwrite"),
    ):
        with pytest.raises(BadOption, match=words):
            check_output(tmp_path / "new.txt", path, overwrite=overwrite)
    with pytest.raises(BadOption, match="is the input itself"):
        check_output(there, overwrite=True, source=folder / ".." / "there.txt")
    assert there.read_text() == "mine"


def test_a_folder_that_may_not_be_written_to_is_told(no_right_to_write: Path) -> None:
    with pytest.raises(BadOption, match=r"new\.txt: its folder is not writable; name another folder"):
        check_output(no_right_to_write / "new.txt", overwrite=False)
    with pytest.raises(BadOption, match="is not writable; name another folder"):
        check_folder(no_right_to_write / "below")


def test_a_folder_may_be_missing_but_not_a_file(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 256)):
        with pytest.raises(BadOption, match="cannot write to"):
            check_folder(path)


def test_a_failure_says_what_to_do() -> None:
    words = {errno.ENOSPC: "space", errno.EFBIG: "larger", errno.EROFS: "writable", errno.EIO: "output error"}
    for number, word in words.items():
        assert word in write_failure("out.mp4", OSError(number, os.strerror(number)))
