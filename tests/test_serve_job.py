"""A job on disk is read back as if a stranger had written it; labels are harmless wherever they are shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vidstyle.serve.job import (
    MAX_LABEL,
    PREVIEW,
    STATE,
    STYLE,
    DamagedJob,
    Job,
    Point,
    clean_label,
    download_name,
    new_id,
    owner_of,
)


def a_job(folder: Path) -> dict[str, Any]:
    """What `Job.write` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, owner_of("me"), "adapt", "Blue", state="done", curve=[Point(0, 1.0, 2.0, 3.0)], ended=5.0)
    job.write()
    found = json.loads((folder / STATE).read_text())
    assert isinstance(found, dict)
    return found


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / new_id()
    a_job(folder)
    job = Job.read(folder)
    assert (job.title, job.state, job.curve, job.ended) == ("Blue", "done", [Point(0, 1.0, 2.0, 3.0)], 5.0)
    assert job.id == folder.name and not job.kept


@pytest.mark.parametrize(
    "change",
    [{"owner": "../x"}, {"owner": "0" * 32 + "\n"}, {"owner": None}, {"kind": "shell"}, {"kind": ["adapt"]},
     {"state": "happy"}, {"title": 7}, {"step": -1}, {"step": 1.5}, {"step": True}, {"step": 10**400},
     {"seconds": "long"}, {"progress": float("nan")}, {"progress": float("inf")}, {"created": -1}, {"ended": {}},
     {"curve": 3}, {"curve": [[0, 1]]}, {"curve": [[0, 1, 2, float("nan")]]}, {"curve": [None]}, {"message": []},
     {"kept": "yes"}],
)  # fmt: skip
def test_a_damaged_state_is_no_job(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / new_id()
    (folder / STATE).write_text(json.dumps({**a_job(folder), **change}))
    with pytest.raises(DamagedJob):
        Job.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"' + "x" * 300_000 + '"', "{}", "\xff"])
def test_what_is_not_json_of_a_job_is_no_job(tmp_path: Path, text: str) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    (folder / STATE).write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedJob):
        Job.read(folder)


def test_a_state_cannot_point_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / new_id()
    secret = tmp_path / "secret"
    secret.write_text("s")
    state = {**a_job(folder), "folder": "/etc", "result": "/etc/passwd", "kind": "adapt", "message": "m" * 10_000}
    (folder / STATE).write_text(json.dumps(state))
    os.symlink(secret, folder / STYLE)
    os.symlink(secret, folder / PREVIEW)
    job = Job.read(folder)
    assert job.folder == folder and len(job.message) < 1000
    assert job.result is None and job.file(PREVIEW) is None
    (folder / STATE).rename(tmp_path / "state")
    os.symlink(tmp_path / "state", folder / STATE)
    with pytest.raises(DamagedJob):
        Job.read(folder)


def test_ids_are_random_and_long() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000 and len(new_id()) == 32


def test_labels_are_one_clean_line() -> None:
    assert clean_label("  a\r\n\tb\x00\x1b[31m c ") == "a b [31m c"
    assert clean_label("\u202e\u200b\ud800", "none") == "none"
    assert clean_label("Cafe\u0301") == "Café"
    assert len(clean_label("x" * 10**6)) == MAX_LABEL


def test_download_names_are_safe_in_a_header_and_keep_their_letters() -> None:
    assert download_name('Café "au" lait/..\\x', ".mp4") == (
        "attachment; filename=\"Cafe au lait .. x.mp4\"; filename*=UTF-8''Caf%C3%A9%20au%20lait%20..%20x.mp4"
    )
    assert download_name("//..//", ".mp4").startswith('attachment; filename="vidstyle.mp4"')
    assert download_name("星月夜", ".mp4").startswith(
        "attachment; filename=\"vidstyle.mp4\"; filename*=UTF-8''%E6%98%9F"
    )
