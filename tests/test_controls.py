"""Controls: every key, the crossfade, the blend."""

from __future__ import annotations

import numpy as np
import pytest
from networks import level_of, level_style

from vidstyle.errors import BadOption
from vidstyle.live.controls import FADE_SECONDS, KEYS, Controls, Fade


def controls(count: int = 4) -> Controls:
    return Controls([level_style(f"s{i}", float(i)) for i in range(count)])


def level(state: Controls, now: float) -> float:
    return level_of(state.style(now))


def test_n_and_p_go_round() -> None:
    state = controls()
    for key, name in (("n", "s1"), ("n", "s2"), ("p", "s1"), ("p", "s0"), ("p", "s3"), ("n", "s0"), ("N", "s1")):
        state.press(key, 0)
        assert state.title == name


def test_digits_name_styles_and_zero_is_the_tenth() -> None:
    state = controls(11)
    for key, name in (("1", "s0"), ("9", "s8"), ("0", "s9")):
        state.press(key, 0)
        assert state.title == name


def test_digit_without_a_style_does_nothing() -> None:
    state = controls(2)
    state.press("7", 0)
    assert state.title == "s0"


def test_change_of_style_takes_half_a_second() -> None:
    state = controls()
    state.press("4", 10.0)
    assert FADE_SECONDS == 0.5
    assert level(state, 10.0) == 0
    assert level(state, 10.25) == pytest.approx(1.5)
    assert level(state, 10.5) == 3
    assert state.style(10.5) is state.styles[3]
    times = np.linspace(10, 10.5, 40)
    steps = np.diff([level(state, t) for t in times])
    assert (steps >= 0).all()
    assert steps[0] < steps[20] > steps[-1]  # sets out and arrives gently


def test_fade_within_a_fade_begins_where_that_one_is() -> None:
    state = controls()
    state.press("4", 0.0)
    before = level(state, 0.2)
    state.press("1", 0.2)
    assert level(state, 0.2) == pytest.approx(before)
    assert level(state, 0.7) == 0


def test_brackets_blend_with_the_next_style() -> None:
    state = controls()
    for number in range(3):
        state.press("]", number)
    assert state.title == "s0 70 % + s1 30 %"
    assert level(state, 9) == pytest.approx(0.3)
    state.press("[", 10)
    assert level(state, 19) == pytest.approx(0.2)
    for _ in range(20):
        state.press("]", 20)
    assert state.title == "s1"
    assert level(state, 30) == 1
    for _ in range(20):
        state.press("[", 40)
    assert state.title == "s0"


def test_new_style_is_pure() -> None:
    state = controls()
    state.press("]", 0)
    state.press("n", 1)
    assert (state.title, state.share) == ("s1", 0)


def test_last_style_blends_with_the_first() -> None:
    state = controls(3)
    state.press("3", 0)
    state.press("]", 1)
    assert level(state, 5) == pytest.approx(1.8)


def test_one_style_alone_has_nothing_to_blend_with() -> None:
    state = controls(1)
    for key in "]n9p[":
        state.press(key, 0)
    assert state.title == "s0"
    assert level(state, 5) == 0


@pytest.mark.parametrize("keys", ["+-", "=_"])
def test_strength_stays_between_nothing_and_all(keys: str) -> None:
    state = controls()
    state.press(keys[0], 0)
    assert state.strength == 1
    for _ in range(3):
        state.press(keys[1], 0)
    assert state.strength == pytest.approx(0.7)
    for _ in range(30):
        state.press(keys[1], 0)
    assert state.strength == 0


def test_view_goes_round() -> None:
    state, seen = controls(), []
    for _ in range(4):
        seen.append(state.view)
        state.press("o", 0)
    assert seen == ["painted", "split", "original", "painted"]


@pytest.mark.parametrize(("key", "name"), [("m", "mirror"), ("f", "full_screen"), (" ", "paused"), ("h", "help")])
def test_switches(key: str, name: str) -> None:
    state = controls()
    for expected in (True, False):
        state.press(key, 0)
        assert getattr(state, name) is expected


def test_actions_are_for_the_caller() -> None:
    state = controls()
    found = {key: state.press(key, 0) for key in ("s", "r", "q", "escape", "n", "x", "\x00")}
    assert found == {
        "s": "snapshot",
        "r": "record",
        "q": "quit",
        "escape": "quit",
        "n": None,
        "x": None,
        "\x00": None,
    }


def test_arrows_choose_style_and_strength() -> None:
    state = controls()
    for key in ("right", "right", "left", "down"):
        state.press(key, 0)
    assert (state.title, state.strength) == ("s1", 0.9)


def test_help_names_every_key() -> None:
    text = " ".join(keys for keys, _ in KEYS)
    for key in ("n", "p", "1", "9", "0", "[", "]", "+", "-", "m", "f", "s", "r", "o", "space", "h", "q", "Esc"):
        assert key in text.split(), key


def test_styles_of_two_networks_are_refused() -> None:
    with pytest.raises(BadOption, match="cannot be blended"):
        Controls([level_style("a", 0), level_style("b", 0, "other")])


def test_no_style_is_refused() -> None:
    with pytest.raises(BadOption, match="there must be a style"):
        Controls([])


def test_fade_returns_the_very_style_at_its_end() -> None:
    target = level_style("b", 1)
    fade = Fade(level_style("a", 0))
    fade.to(target, 1.0, 0.5)
    assert fade.at(1.5) is target
    assert level_of(fade.at(0.0)) == 0  # a clock that stumbles does no harm
    assert fade.at(1.25).name == "b"


def test_hurried_keys_leave_no_more_parts_than_there_are_styles() -> None:
    state = controls()
    for press in range(40):
        state.press("1234"[press % 4], press / 10)
    assert len(state.style(4.0).parts) <= 4
    assert sum(share for _, share in state.style(4.0).parts) == pytest.approx(1)
