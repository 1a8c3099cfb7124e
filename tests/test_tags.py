"""Tags in whatever encoding a file has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from media import Audio, make_video, read_contents

from vidstyle.cli import vidstyle


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "ts"])
def test_tags_that_are_not_utf8_are_replaced_and_lose_nothing_else(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"in.{suffix}"
    tags = {"title": "caf# noir", "service_name": "caf# noir"}
    make_video(source, audio=[Audio()], chapters=[(0, 0.4, "caf# noir")], metadata=tags, video_metadata=tags)
    source.write_bytes(source.read_bytes().replace(b"caf# noir", "café noir".encode("cp1252")))
    output = tmp_path / "out.mkv"
    arguments = ["render", str(source), str(output), "--work-size", "32", "--strength", "0", "--json"]
    result = CliRunner().invoke(vidstyle, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 10
    contents = read_contents(output)
    assert suffix == "ts" or contents.metadata["title"] == "caf\ufffd noir"
    assert [chapter[2] for chapter in contents.chapters] == (["caf\ufffd noir"] if suffix[0] == "m" else [])
