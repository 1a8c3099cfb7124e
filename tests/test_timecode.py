"""Time codes go on counting where a clip begins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from media import make_video, read_contents
from test_sink import copy

from vidstyle.options import ClipOptions
from vidstyle.video.stream_copy import timecode_behind

NTSC = Fraction(30000, 1001)


def codes(base: int, dropped: int) -> list[str]:
    """The time codes of 22 minutes, one by one."""
    return [
        f"00:{minute:02}:{second:02}{';' if dropped else ':'}{frame:02}"
        for minute in range(22)
        for second in range(60)
        for frame in range(base)
        if not (minute % 10 and second == 0 and frame < dropped)
    ]


@pytest.mark.parametrize(
    ("rate", "base", "dropped"),
    [(NTSC, 30, 2), (2 * NTSC, 60, 4), (NTSC, 30, 0), (Fraction(25), 25, 0), (Fraction(24000, 1001), 24, 0)],
)
def test_every_number_is_followed_by_the_next(rate: Fraction, base: int, dropped: int) -> None:
    all_codes = codes(base, dropped)
    for first in (0, 1, 30 * base, 60 * base - 1, 60 * base, 600 * base):
        for further in (0, 1, 2, base, 60 * base - 1, 60 * base, 599 * base, 600 * base):
            assert timecode_behind(all_codes[first], rate, further) == all_codes[first + further]


def test_a_day_is_over_at_midnight_and_nonsense_is_none() -> None:
    assert timecode_behind("23:59:59;29", NTSC, 1) == "00:00:00;00"
    for code, rate in (("23:59:59:25", Fraction(25)), ("01:00:00;00", Fraction(25)), ("soon", NTSC), ("1:2:3:4", NTSC)):
        assert timecode_behind(code, rate, 0) is None


@pytest.mark.parametrize("output", ["out.mov", "out.mp4", "out.mkv"])
@pytest.mark.parametrize(("source", "codec"), [("in.mov", "libx264"), ("in.mkv", "libx264"), ("in.mxf", "mpeg2video")])
def test_the_time_code_is_that_of_the_first_picture(tmp_path: Path, source: str, codec: str, output: str) -> None:
    path = make_video(tmp_path / source, frames=40, rate=NTSC, codec=codec, video_metadata={"timecode": "00:00:58;29"})
    for clip, expected in ((ClipOptions(), "00:00:58;29"), (ClipOptions(start=1.001), "00:00:59;29")):
        assert copy(path, tmp_path / output, clip=clip, overwrite=True) == []
        contents = read_contents(tmp_path / output)
        tags = {key.lower(): value for key, value in contents.tags[0].items()}
        assert tags["timecode"] == expected
        assert contents.kinds == (["video"] if output == "out.mkv" else ["video", "data"])


def test_the_numbers_that_are_dropped_are_dropped_in_a_clip_too(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mov", frames=40, rate=NTSC, video_metadata={"timecode": "00:00:59;00"})
    copy(path, tmp_path / "out.mov", clip=ClipOptions(start=1.0))
    with av.open(str(tmp_path / "out.mov")) as file:
        assert file.streams.video[0].metadata["timecode"] == "00:01:00;02"


def test_a_time_code_that_no_muxer_takes_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", video_metadata={"timecode": "01:00:00;00"})
    assert any("'01:00:00;00' is no time code at 25" in note for note in copy(path, tmp_path / "out.mp4"))
