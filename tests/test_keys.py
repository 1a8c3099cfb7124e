"""The keys of the window: every key, the blend, the styles that keys go through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import level_of, level_style, whole_style

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.live.keys import KEYS, Controls, style_list

FAST = [name for name in style_names() if "/" not in name]


def controls(count: int = 4) -> Controls:
    return Controls([level_style(f"s{i}", float(i)) for i in range(count)])


def level(state: Controls, now: float) -> float:
    return level_of(state.style(now))


@pytest.mark.parametrize(
    ("count", "keys", "titles"),
    [
        (4, ["n", "n", "p", "p", "p", "n", "N"], ["s1", "s2", "s1", "s0", "s3", "s0", "s1"]),
        (4, ["right", "right", "left"], ["s1", "s2", "s1"]),
        (11, ["1", "9", "0"], ["s0", "s8", "s9"]),
        (2, ["7"], ["s0"]),
        (1, ["]", "n", "9", "p", "["], ["s0"] * 5),
        (2, ["]", "n"], ["s0 90 % + s1 10 %", "s1"]),
    ],
)
def test_keys_choose_the_style(count: int, keys: list[str], titles: list[str]) -> None:
    state, found = controls(count), []
    for key in keys:
        state.press(key, 0)
        found.append(state.title)
    assert found == titles
    assert level(state, 5) == pytest.approx(int(titles[-1][1:]))


def test_change_of_style_takes_half_a_second_from_wherever_it_is() -> None:
    state = controls()
    state.press("4", 10.0)
    assert [level(state, at) for at in (10.0, 10.25, 10.5)] == pytest.approx([0, 1.5, 3])
    assert state.style(10.5) is state.styles[3]
    state.press("1", 11.0)
    before = level(state, 11.2)
    state.press("4", 11.2)
    assert level(state, 11.2) == pytest.approx(before)
    assert level(state, 11.7) == 3


def test_brackets_blend_with_the_next_style() -> None:
    state = controls()
    for number in range(3):
        state.press("]", number)
    assert state.title == "s0 70 % + s1 30 %"
    assert level(state, 9) == pytest.approx(0.3)
    state.press("[", 10)
    assert level(state, 19) == pytest.approx(0.2)
    for key, title in (("]", "s1"), ("[", "s0")):
        for _ in range(20):
            state.press(key, 20)
        assert state.title == title
    state.press("4", 30)
    state.press("]", 31)
    assert level(state, 40) == pytest.approx(2.7), "the last style does not blend with the first"


@pytest.mark.parametrize("keys", [("+", "-"), ("=", "_"), ("up", "down")])
def test_strength_stays_between_nothing_and_all(keys: tuple[str, str]) -> None:
    state = controls()
    state.press(keys[0], 0)
    assert state.strength == 1
    for count, strength in ((3, 0.7), (30, 0.0)):
        for _ in range(count):
            state.press(keys[1], 0)
        assert state.strength == pytest.approx(strength)


@pytest.mark.parametrize(
    ("key", "name", "values"),
    [
        ("o", "view", ["painted", "split", "original", "painted"]),
        *((name[0], name, [False, True, False]) for name in ("mirror", "full_screen", "help")),
        (" ", "paused", [False, True, False]),
    ],
)
def test_switches_go_round(key: str, name: str, values: list[object]) -> None:
    state, seen = controls(), []
    for _ in values:
        seen.append(getattr(state, name))
        state.press(key, 0)
    assert seen == values


@pytest.mark.parametrize(
    ("key", "action"),
    [("s", "snapshot"), ("r", "record"), ("q", "quit"), ("escape", "quit"), ("n", None), ("x", None), ("\x00", None)],
)
def test_actions_are_for_the_caller(key: str, action: str | None) -> None:
    assert controls().press(key, 0) == action


def test_help_shows_every_key() -> None:
    names = {"space": "space", "escape": "Esc"}
    hidden = {"right", "left", "up", "down", "=", "_", *"2345678"}
    shown = [key for line in KEYS for key in line.shown.split() if key != "..."]
    keys = [key for line in KEYS for keys in line.effects for key in keys.split() if key not in hidden]
    assert sorted(shown) == sorted(names.get(key, key) for key in keys)
    assert all(line.help for line in KEYS)


def test_styles_that_do_not_go_together_are_refused() -> None:
    for styles, words in (([level_style("a", 0), level_style("b", 0, "other")], "blended"), ([], "must be a style")):
        with pytest.raises(BadOption, match=words):
            Controls(styles)


def test_hurried_keys_leave_no_more_parts_than_there_are_styles() -> None:
    state = controls()
    for press in range(40):
        state.press("1234"[press % 4], press / 10)
    assert len(state.style(4.0).parts) <= 4
    assert sum(share for _, share in state.style(4.0).parts) == pytest.approx(1)


@pytest.mark.parametrize("name", ["great_wave", "paper/great_wave"])
def test_shipped_style_stands_in_its_place_among_its_kind(name: str) -> None:
    styles, index = style_list(name)
    assert [style.name for style in styles] == style_names(styles[0].network_name)
    assert len(styles) > 1
    assert styles[index].name == name


def test_file_and_parts_of_a_blend_stand_before_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    load_style("great_wave").save(file)
    styles, index = style_list(str(file))
    assert ([style.name for style in styles], index) == (["mine", *FAST], 0)
    styles, index = style_list(f"{file}:0.5,the_scream:0.5")
    names = [style.name for style in styles]
    assert (names[1:3], index) == (["mine", "the_scream"], 0)
    assert sorted(names[1:]) == sorted(["mine", *FAST])
    assert np.allclose(styles[0].vector, (styles[1].vector + styles[2].vector) / 2)


def test_a_whole_network_goes_with_the_shipped_styles_and_one_from_scratch_is_alone(tmp_path: Path) -> None:
    whole = whole_style("whole", 1)
    for style, names in ((whole, ["mine", *FAST]), (replace(whole, theta=whole.network.digest), ["mine"])):
        style.save(tmp_path / "mine.safetensors")
        styles, index = style_list(str(tmp_path / "mine.safetensors"))
        assert ([style.name for style in styles], index) == (names, 0)


def test_unknown_style_is_a_sentence() -> None:
    with pytest.raises(BadOption, match="did you mean 'starry_night'"):
        style_list("stary_night")
