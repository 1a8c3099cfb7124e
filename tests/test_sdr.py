"""HDR that cannot be converted is a sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from media import make_video

from vidstyle.errors import VideoError
from vidstyle.video.info import probe
from vidstyle.video.reader import VideoReader

PQ = {"color_primaries": 9, "color_trc": 16}


@pytest.mark.parametrize("matrix", [8, 10, 11, 12, 13, 14])
@pytest.mark.parametrize("hdr", [PQ, {"color_primaries": 9, "color_trc": 18}, {"color_primaries": 1, "color_trc": 1}])
def test_a_matrix_that_cannot_be_read_is_refused_whatever_else(
    matrix: int, hdr: dict[str, int], tmp_path: Path
) -> None:
    source = make_video(tmp_path / "in.mp4", frames=1, codec="libx265", color={**hdr, "colorspace": matrix})
    with pytest.raises(VideoError, match=rf"in\.mp4 .*matrix {matrix} "):
        probe(source)


def test_no_place_for_the_table_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "in.mp4", frames=1, color={**PQ, "colorspace": 9})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with VideoReader(source) as video, pytest.raises(VideoError, match=r"temporary file in .*gone"):
        list(video.frames())
