"""How much of an earlier frame's statistics each frame takes."""

from __future__ import annotations

import numpy as np
import pytest
from networks import photo

from vidstyle.frame import Planes
from vidstyle.normshare import NormShare
from vidstyle.options import SmoothOptions

STYLE = np.zeros(8, np.float32)


def scene(name: str, i: int) -> Planes:
    return (np.ascontiguousarray(photo(name, (90, 170))[:, i : i + 160]),)


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_nothing_is_kept_until_there_is_something_and_then_as_much_whatever_the_lag(lag: int) -> None:
    share = NormShare(SmoothOptions(strength=0.7))
    shares = [share.next(scene("china", i), STYLE, lag) for i in range(8)]
    assert shares[:lag] == [0.0] * lag
    # What is kept over so many frames as there are in sixty: 0.8 to the power of 60 for every lag.
    assert all(kept ** (60 / lag) == pytest.approx(0.8**60) for kept in shares[lag:])


def test_a_cut_begins_anew() -> None:
    share = NormShare(SmoothOptions())
    shares = [share.next(scene(name, 0), STYLE, 2) for name in ["china"] * 4 + ["astronaut"] * 4]
    assert [kept > 0 for kept in shares] == [False, False, True, True] * 2


def test_so_does_another_style_or_another_size() -> None:
    share = NormShare(SmoothOptions())
    frame = scene("china", 0)
    smaller = (frame[0][:80],)
    steps = [(frame, STYLE), (frame, STYLE), (frame, STYLE + 1), (frame, STYLE + 1), (smaller, STYLE + 1)]
    assert [share.next(*step, 1) > 0 for step in steps] == [False, True, False, True, False]


def test_strength_says_how_much() -> None:
    kept = []
    for strength in (0.2, 0.7, 1.0):
        share = NormShare(SmoothOptions(strength=strength))
        kept.append([share.next(scene("china", 0), STYLE, 1) for _ in range(2)][1])
    assert kept == pytest.approx([0.8 * 0.2 / 0.7, 0.8, 0.9])
