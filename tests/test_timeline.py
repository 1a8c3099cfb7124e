"""Styles keyed to times, and the fades between them."""

from __future__ import annotations

import math
import statistics
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from networks import level_of, level_style, whole_style

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.models.style import Style
from vidstyle.models.timeline import Fade, Timeline, clock

A, B, C = (level_style(name, level) for name, level in (("a", 0.0), ("b", 1.0), ("c", 3.0)))


def level(timeline: Timeline, seconds: float | Fraction) -> float:
    return level_of(timeline.at(seconds))


def test_at_its_time_a_style_is_there_to_the_bit() -> None:
    timeline = Timeline([(0, A), (5, B), (7.5, C)])
    # A decoder may hand out pictures of a time before 0.
    for seconds, style in ((Fraction(-1, 25), A), (0, A), (5, B), (7.5, C), (1e6, C)):
        assert timeline.at(seconds) is style
    assert all(Timeline([(3, B)]).at(seconds) is B for seconds in (0, 3, 100))


def test_a_style_holds_until_the_fade_to_the_next_begins() -> None:
    timeline = Timeline([(1, A), (5, B)], fade=1.0)
    for seconds in (0, 0.5, 1, 3, 4):
        assert timeline.at(seconds) is A
    assert 0 < level(timeline, 4.04) < 0.01
    assert level(timeline, 4.5) == pytest.approx(0.5)
    assert 0.99 < level(timeline, 4.96) < 1
    for seconds in (5, 5.04, 1e6):
        assert timeline.at(seconds) is B


def test_a_fade_has_no_jump_and_no_kink() -> None:
    timeline = Timeline([(0, A), (2, B), (2.5, C), (6, A)], fade=1.5)
    steps = np.diff([level(timeline, t / 1000) for t in range(7000)])
    # The steepest fade is that of 2 in half a second; smoothstep is 1.5 times as steep as a line at most.
    assert np.abs(steps).max() <= 1.51 * 2 / 500
    assert np.abs(np.diff(steps)).max() < 6.1 * 2 / 500**2


@pytest.mark.parametrize("fade", [0.1, 1.0, 2.0, 1e6])
def test_every_style_is_reached_however_long_the_fade(fade: float) -> None:
    timeline = Timeline([(0, A), (1, B), (1.25, C)], fade=fade)
    assert (timeline.at(0), timeline.at(1), timeline.at(1.25)) == (A, B, C)
    levels = [level(timeline, t / 1000) for t in range(1300)]
    assert levels == sorted(levels)
    assert max(np.diff(levels)) < 3.1 / 100


def test_a_fade_of_nothing_cuts_at_the_very_frame() -> None:
    timeline = Timeline([(0, A), (0.04, B), (1.1, C)], fade=0)
    # 0.04 and 1.1 as floats are a little more than 1/25 and 11/10: what was written counts.
    assert timeline.at(Fraction(1, 25) - Fraction(1, 10**9)) is A
    assert timeline.at(Fraction(1, 25)) is B
    assert timeline.at(Fraction(11, 10)) is C
    assert timeline.at(0.04) is B


def test_a_fade_is_a_convex_combination() -> None:
    one, two = whole_style("a", 1), whole_style("b", 2)
    timeline = Timeline([(0, one), (1, two)])
    for t in range(1, 100):
        shares = dict(timeline.at(t / 100).parts)
        share = 3 * (t / 100) ** 2 - 2 * (t / 100) ** 3
        assert shares == pytest.approx({one.network: 1 - share, two.network: share})


def test_the_same_style_twice_holds_between() -> None:
    timeline = Timeline([(0, A), (2, A), (3, B)], fade=9)
    assert all(level(timeline, t / 10) == 0 for t in range(21))
    np.testing.assert_array_equal(Timeline([(0, C), (2, C)]).at(1.3).vector, C.vector)


def test_names_say_what_happens() -> None:
    timeline = Timeline([(0, A), (5, B), (3605.5, C)])
    assert timeline.name == "a, from 0:05 b, from 1:00:05.5 c"
    assert timeline.at(4.5).name == "a to b (50%)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5, "0:05"), (59.9996, "1:00"), (61.25, "1:01.25"), (600, "10:00"), (Fraction(7200, 1), "2:00:00")],
)
def test_clock_reads_like_a_player(seconds: float | Fraction, text: str) -> None:
    assert clock(seconds) == text


def test_styles_are_named_as_everywhere(tmp_path: Path) -> None:
    one, two = style_names()[:2]
    load_style(two).save(tmp_path / "mine.safetensors")
    timeline = Timeline([(0, one), (1, f"{one}:1,{two}:3"), (2, tmp_path / "mine.safetensors")])
    assert [key.style.name for key in timeline.keys] == [one, f"{one}:0.25+{two}:0.75", "mine"]
    with pytest.raises(BadOption, match="there is no style called 'mona_lisa'"):
        Timeline([(0, one), (1, "mona_lisa")])
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadModel, match=r"broken\.safetensors"):
        Timeline([(0, one), (1, tmp_path / "broken.safetensors")])


OTHER = level_style("other", 0, "another theta")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "give at least one"),
        ([(5, A), (3, B)], "'b' at 0:03 stands behind 'a' at 0:05; give the times in rising order"),
        ([(5, A), (5.0, B)], "two styles at 0:05, 'a' and 'b'; give each time once"),
        ([(0, A), (5, OTHER)], "styles 'a' and 'other' cannot be blended: .* `vidstyle adapt PAINTING -o"),
        ([(-1, A)], "time of style 'a' is -1; it must lie between 0 and 1e\\+09"),
        ([(math.nan, A)], "time of style 'a' is nan"),
        ([(math.inf, A)], "time of style 'a' is inf"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(keys: list[tuple[float, Style]], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        Timeline(keys)
    for fade in (-0.1, math.nan, math.inf):
        with pytest.raises(BadOption, match=r"fade is .* must lie between 0"):
            Timeline([(0, A), (1, B)], fade=fade)


def test_what_an_output_is_too_short_for_is_told() -> None:
    timeline = Timeline([(0, A), (5, B), (9, C)], fade=1.0)
    assert timeline.unseen(10) is None
    assert timeline.unseen(8.5) is None  # part of the fade is seen
    assert timeline.unseen(8) == "style 'c' at 0:09 is never seen, as the output ends at 0:08"
    assert timeline.unseen(Fraction(7, 2)) == "style 'b' at 0:05 is never seen, as the output ends at 0:03.5"
    assert Timeline([(5, A)]).unseen(1) is None  # it holds before its time


@pytest.mark.alone
def test_a_style_of_a_moment_takes_under_a_millisecond() -> None:
    one, two = (load_style(name) for name in style_names()[:2])
    timeline = Timeline([(0, one), (10, two)], fade=10)
    seconds = []
    for index in range(300):
        began = time.perf_counter()
        style = timeline.at(Fraction(index + 1, 31))
        seconds.append(time.perf_counter() - began)
        assert style is not one and style is not two
    assert statistics.median(seconds) < 1e-3


def test_live_fade_sets_out_and_arrives_gently_and_ends_at_the_very_style() -> None:
    target, fade = level_style("b", 1), Fade(level_style("a", 0))
    fade.to(target, 1.0, 0.5)
    assert fade.at(1.5) is target
    assert level_of(fade.at(0.0)) == 0  # a clock that stumbles does no harm
    assert fade.at(1.25).name == "b"
    steps = np.diff([level_of(fade.at(at)) for at in np.linspace(1, 1.5, 40)])
    assert (steps >= 0).all()
    assert steps[0] < steps[20] > steps[-1]
