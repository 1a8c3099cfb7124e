"""Many videos: what fails is told, and the others are rendered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from media import make_video, read_contents

from vidstyle import BadOption, ClipOptions, RenderReport, VideoError
from vidstyle.films.batch import BatchResult, batch_outputs, render_batch
from vidstyle.films.film import is_long
from vidstyle.gallery import style_names
from vidstyle.video.info import probe


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_folder_is_its_videos(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    touch(*(folder / name for name in ("b.mkv", "a.MP4", "c.avi", ".hidden.mp4", "notes.txt", "sub/d.mp4")))
    jobs = batch_outputs([folder, tmp_path / "e.webm"], out)
    assert [(source.name, output.name) for source, output in jobs] == [
        ("a.MP4", "a.MP4"), ("b.mkv", "b.mkv"), ("c.avi", "c.mp4"), ("e.webm", "e.webm"),
    ]  # fmt: skip
    assert out.is_dir()


def test_what_cannot_be_a_batch_is_told_before_anything_is_painted(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.mp4", tmp_path / "in" / "a.avi", tmp_path / "empty" / "notes.txt")
    with pytest.raises(BadOption, match=r"a\.avi and .*a\.mp4 would both become"):
        batch_outputs([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(BadOption, match="holds no videos"):
        batch_outputs([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(BadOption, match="is a file; name a folder"):
        batch_outputs([tmp_path / "in" / "a.mp4"], tmp_path / "in" / "a.avi")
    with pytest.raises(BadOption, match="both the folder read and the folder written"):
        (tmp_path / "in" / "a.avi").unlink()
        batch_outputs([tmp_path / "in"], tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_errors_of_one_do_not_keep_the_others_from_being_rendered(tmp_path: Path) -> None:
    jobs = [(tmp_path / f"{name}.mp4", tmp_path / "out" / f"{name}.mp4") for name in "abcd"]
    touch(jobs[2][1])
    seen: list[BatchResult] = []

    def render(source: Path, output: Path) -> RenderReport:
        if source.stem == "a":
            raise VideoError(f"{source} is damaged")
        return RenderReport(str(output), "style", "", 1, 1, frames=10, lost=3 if source.stem == "d" else 0)

    results = render_batch(jobs, render, on_result=seen.append)
    assert [result.state for result in results] == ["failed", "done", "skipped", "failed"]
    assert results == seen
    assert results[0].error == f"{jobs[0][0]} is damaged"
    assert results[3].error is not None and "3 frames" in results[3].error
    results = render_batch(jobs, render, overwrite=True, skip_errors=True)
    assert [result.state for result in results] == ["failed", "done", "done", "done"]


def test_the_command_tells_which_failed_and_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "good.mp4", frames=5)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"nonsense")
    words = [sys.executable, "-m", "vidstyle", "render", "-s", style_names()[0], tmp_path / "in", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 of 2 videos rendered, 0 there already, 1 failed" in done.stdout and "bad.mp4" in done.stdout
    assert done.stderr.count("Failed:") == 1 and "Traceback" not in done.stderr
    assert len(read_contents(tmp_path / "out" / "good.mp4").pts) == 5
    again = subprocess.run([*words, "--json"], capture_output=True, text=True)
    assert again.returncode == 1
    assert [one["state"] for one in json.loads(again.stdout)] == ["failed", "skipped"]


def test_ten_minutes_are_rendered_in_parts_by_themselves(tmp_path: Path) -> None:
    film = probe(make_video(tmp_path / "in.mp4", rate=1, frames=620))
    assert is_long(film, ClipOptions())
    assert not is_long(film, ClipOptions(start=30))
    assert not is_long(film, ClipOptions(end=500))
