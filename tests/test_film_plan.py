"""The plan of a film: where parts are cut, and what tells one film from another."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from media import make_video

from vidstyle import BackendOptions, BadOption, EncodeOptions, SmoothOptions, Timeline
from vidstyle.films.plan import Plan, facts_of, make_plan, packed, style_digest, unpacked
from vidstyle.gallery import style_names
from vidstyle.rendering import VideoPainter
from vidstyle.video.frame_index import FrameIndex, index_frames
from vidstyle.video.info import VideoInfo, probe
from vidstyle.video.stretch import EntryPoint

FIRST, SECOND = style_names()[:2]
MILLISECOND = Fraction(1, 1000)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    return probe(make_video(tmp_path_factory.mktemp("plan") / "in.mp4", time_base=MILLISECOND, frames=5))


def planned(info: VideoInfo, pts: np.ndarray, keys: np.ndarray, seconds: float = 60.0) -> Plan:
    entries = [EntryPoint(int(number), int(pts[number]), int(pts[number])) for number in keys]
    base = info.time_base
    with VideoPainter(FIRST) as painter:
        index = FrameIndex(info, pts, entries)
        plan = make_plan(painter, Path("in.mp4"), index, facts={}, stamp=(1, 2), seconds=seconds)
    for part in plan.parts:
        own = plan.pts_of(part)
        assert (own[0], own[-1], len(own)) == (part.first, part.last, part.frames)
        assert part.entry is not None and part.entry.pts <= part.first
        assert part.number == len(plan.parts) - 1 or part.next == plan.parts[part.number + 1].first
    assert np.array_equal(np.concatenate([plan.pts_of(part) for part in plan.parts]), pts)
    assert sum(plan.seconds_of(part) for part in plan.parts) == pytest.approx(float((pts[-1] - pts[0]) * base))
    return plan


def test_parts_are_about_as_long_as_asked_and_begin_at_key_frames(info: VideoInfo) -> None:
    tick = int(MILLISECOND / info.time_base)
    pts = np.cumsum(np.random.default_rng(1).integers(20, 60, 180_000)) * tick
    keys = np.arange(0, 180_000, 250)
    plan = planned(info, pts, keys)
    assert {part.begin % 250 for part in plan.parts} == {0}
    lengths = [plan.seconds_of(part) for part in plan.parts]
    assert all(30 <= length <= 90 for length in lengths)
    assert np.mean(lengths) == pytest.approx(60, abs=3)
    assert len(msgspec.json.encode(plan)) < 400_000
    again = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    assert again == plan and np.array_equal(again.pts, pts)


def test_without_key_frames_in_reach_parts_begin_anywhere(info: VideoInfo) -> None:
    pts = np.arange(0, 10_000) * int(Fraction(1, 25) / info.time_base)
    plan = planned(info, pts, np.array([0, 9000]))
    assert [part.begin for part in plan.parts] == [0, 1500, 3000, 4500, 6000, 7500, 9000]
    assert [part.entry.number for part in plan.parts if part.entry] == [0, 0, 0, 0, 0, 0, 9000]


def test_a_short_rest_belongs_to_the_part_before(info: VideoInfo) -> None:
    pts = np.arange(0, 1500 + 700) * int(Fraction(1, 25) / info.time_base)
    assert len(planned(info, pts, np.array([0, 1500])).parts) == 1


def test_numbers_are_packed_and_unpacked() -> None:
    numbers = np.array([0, 1, -5, 2**40], np.int64)
    assert unpacked(packed(numbers)).tolist() == numbers.tolist()
    assert len(packed(np.full(180_000, 3003, np.int64))) < 5000
    with pytest.raises(ValueError):
        unpacked(b"damaged")


def facts(suffix: str = ".mp4", **options: Any) -> dict[str, str]:
    with VideoPainter(options.pop("style", FIRST), **options) as painter:
        return {"source": "of 5 bytes (abc)", **facts_of(painter, options.get("size"), suffix)}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"style": SECOND}, "style"),
        ({"style": Timeline([(0, FIRST), (5, SECOND)])}, "style"),
        ({"size": (720, None)}, "size 720"),
        ({"smooth": SmoothOptions()}, "smooth 0.7"),
        ({"encode": EncodeOptions(preset="slow")}, "preset slow"),
        ({"suffix": ".mkv"}, "container .mkv"),
    ],
)
def test_what_differs_is_named(options: dict[str, Any], named: str) -> None:
    plan = Plan(facts=facts(), stamp=(1, 2), time_base=(1, 25), start=0, steps=packed(np.ones(1)), parts=[])
    plan.check(facts(), Path("out.mp4.parts"))
    with pytest.raises(BadOption, match="out.mp4.parts was begun with") as raised:
        plan.check(facts(**options), Path("out.mp4.parts"))
    assert named.split()[0] in str(raised.value)
    assert str(raised.value).count("; ") == 1


def test_threads_make_no_difference() -> None:
    assert facts(backend=BackendOptions(threads=3)) == facts()
    assert facts(backend=BackendOptions(precision="fp32")) != facts()


def test_a_style_is_known_by_what_it_paints() -> None:
    one, other = Timeline([(0, FIRST)]), Timeline([(0, FIRST), (3, SECOND)])
    assert style_digest(one) == style_digest(Timeline([(0, FIRST)]))
    assert len({style_digest(each) for each in (one, other, Timeline([(0, SECOND)]))}) == 3


def test_the_plan_of_a_file_enters_each_part_at_its_key_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", frames=100, options={"g": "20", "bf": "2"})
    with VideoPainter(FIRST) as painter:
        plan = make_plan(painter, path, index_frames(path), facts={}, stamp=(1, 2), seconds=1)
    assert [part.begin for part in plan.parts] == [0, 20, 40, 60, 80]
    assert [part.entry.number for part in plan.parts if part.entry] == [0, 20, 40, 60, 80]
