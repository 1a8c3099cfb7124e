"""The stability term: what was moved is compared where it came from, and noise is what it says."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vidstyle.training import stable
from vidstyle.training.stable import NOISE, REACH, disturb, instability


def spot(height: int = 24, width: int = 32) -> Tensor:
    """Random colors in the middle of gray: float RGB (2, 3, height, width)."""
    rgb = torch.full((2, 3, height, width), 0.5)
    inner = rgb[..., 2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH]
    inner.copy_(torch.rand(inner.shape, generator=torch.Generator().manual_seed(0)))
    return rgb


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stable, "NOISE", 0.0)


def test_what_only_moves_is_not_unstable(no_noise: None) -> None:
    rgb = spot()
    seen = set()
    for seed in range(60):
        moved, shift = disturb(rgb, (0, seed))
        assert instability(rgb, moved, shift).tolist() == [0, 0], shift
        seen.add(shift)
    assert {part for shift in seen for part in shift} == set(range(-REACH, REACH + 1))  # no shift is left out


def test_a_shift_moves_down_and_right(no_noise: None) -> None:
    rgb = spot()
    moved, (down, right) = next(d for d in (disturb(rgb, (seed,)) for seed in range(99)) if min(d[1]) > 0)
    assert torch.equal(moved[..., down:, right:], rgb[..., :-down, :-right])


def test_every_other_shift_is_unstable(no_noise: None) -> None:
    rgb = spot()
    moved, shift = disturb(rgb, (3,))
    for other in itertools.product(range(-REACH, REACH + 1), repeat=2):
        if other != shift:
            assert instability(rgb, moved, other).min() > 1e-3, (shift, other)


def test_a_painter_that_knows_where_it_is_is_unstable(no_noise: None) -> None:
    """The grid that a network at a quarter of the size may leave stays where it is when the picture moves."""
    rgb = spot()
    grid = 0.1 * (torch.arange(32) % 4 == 0)
    moved, shift = next(d for d in (disturb(rgb, (seed,)) for seed in range(99)) if d[1][1] != 0)
    assert instability(rgb + grid, moved + grid, shift).min() > 1e-3


def test_noise_is_as_strong_as_it_says_and_stays_in_range() -> None:
    gray = torch.full((2, 3, 64, 64), 0.5)
    noisy, shift = disturb(gray, (1,))
    assert (noisy - gray).std().item() == pytest.approx(NOISE, rel=0.03)
    assert abs((noisy - gray).mean().item()) < NOISE / 20
    assert instability(gray, noisy, shift).tolist() == [pytest.approx(NOISE**2, rel=0.05)] * 2
    white, _ = disturb(torch.ones(1, 3, 16, 16), (1,))
    assert white.max() == 1


def test_the_seed_alone_decides() -> None:
    rgb = spot()
    first, again, other = disturb(rgb, (0, 5)), disturb(rgb, (0, 5)), disturb(rgb, (0, 6))
    assert first[1] == again[1] and torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][1])  # each picture has noise of its own


def test_a_share_of_the_pictures_is_disturbed_as_in_the_whole_batch() -> None:
    """Processes that share a step's pictures see what one process would."""
    rgb = spot()
    whole, shift = disturb(rgb, (7,))
    share, same = disturb(rgb[1:], (7,), first=1)
    assert same == shift and torch.equal(share, whole[1:])


def test_the_gradient_reaches_both_pictures() -> None:
    painted, disturbed = spot().requires_grad_(), spot().mul(0.9).requires_grad_()
    instability(painted, disturbed, (1, -2)).sum().backward()
    assert painted.grad is not None and disturbed.grad is not None
    assert painted.grad.any() and disturbed.grad.any()
