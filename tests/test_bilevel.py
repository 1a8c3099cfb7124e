"""The bilevel step: its gradient is the derivative of what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from networks import TINY
from torch import Tensor
from torch.func import functional_call

from vidstyle.errors import BadOption
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.bilevel import InnerOptions, adapted
from vidstyle.training.device import Compute


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with Compute(device="cpu", threads=1).limits():
        yield


class Lesson(NamedTuple):
    """A batch of the stand-in loss: photos, and the colors' inner products to reach."""

    photo: Tensor
    gram: Tensor


class Problem:
    """A bilevel problem on a tiny network, in float64."""

    def __init__(self, inner: InnerOptions, styles: int) -> None:
        random = torch.Generator().manual_seed(3)
        self.inner = inner
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.model = TransformNet(TINY).double()
        identity = torch.from_numpy(TINY.identity_style()).double()
        exact: dict[str, Any] = {"generator": random, "dtype": torch.float64}
        self.start = (identity + 0.3 * torch.randn(identity.shape, **exact)).requires_grad_()
        self.lessons = [
            Lesson(torch.rand(styles, 3, 16, 16, **exact), torch.rand(styles, 3, 3, **exact))
            for _ in range(inner.steps + 1)
        ]
        self.variables = [self.start, *self.model.parameters()]

    def loss(self, lesson: Lesson, vectors: Tensor, weights: Mapping[str, Tensor] | None) -> Tensor:
        own = dict(self.model.named_parameters()) if weights is None else dict(weights)
        painted = functional_call(self.model, own, (lesson.photo, vectors))
        flat = painted.flatten(2)
        gram = flat @ flat.transpose(1, 2) / flat.shape[2]
        content = (painted - lesson.photo).square().mean((1, 2, 3))
        return content + 8 * (gram - lesson.gram).square().mean((1, 2))

    def outer(self) -> Tensor:
        """The scalar of the outer problem."""
        *inner, last = self.lessons
        vectors = self.start.expand(len(last.photo), -1)
        vectors, weights = adapted(self.loss, inner, vectors, dict(self.model.named_parameters()), self.inner)
        return self.loss(last, vectors, weights).log().mean()

    def slope(self, direction: list[Tensor]) -> float:
        """That of `outer` along ``direction``, by its gradient."""
        gradients = torch.autograd.grad(self.outer(), self.variables)
        return sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))

    def measured_slope(self, direction: list[Tensor], step: float = 1e-5) -> float:
        """The same by central differences."""

        def moved(by: float) -> float:
            before = [variable.detach().clone() for variable in self.variables]
            with torch.no_grad():
                for variable, d in zip(self.variables, direction, strict=True):
                    variable.add_(by * d)
            value = self.outer().item()
            with torch.no_grad():
                for variable, old in zip(self.variables, before, strict=True):
                    variable.copy_(old)
            return value

        return (moved(step) - moved(-step)) / (2 * step)

    def directions(self) -> dict[str, list[Tensor]]:
        """Random ones of length 1: among the weights, among the start vector, in both."""
        random = torch.Generator().manual_seed(5)
        found = {}
        for name, (start, weights) in {"start": (1, 0), "weights": (0, 1), "both": (1, 1), "other": (1, 1)}.items():
            parts = [
                torch.randn(v.shape, generator=random, dtype=torch.float64) * (start if v is self.start else weights)
                for v in self.variables
            ]
            length = sum(p.square().sum() for p in parts) ** 0.5
            found[name] = [p / length for p in parts]
        return found


CASES = [("norm", 1, 2), ("norm", 2, 2), ("all", 1, 1), ("all", 2, 1)]


@pytest.mark.parametrize(("moves", "steps", "styles"), CASES)
def test_the_second_order_gradient_is_that_of_finite_differences_and_the_first_is_not(
    moves: Any, steps: int, styles: int
) -> None:
    second, first = (
        Problem(InnerOptions(steps=steps, rate=0.3, moves=moves, first_order=order), styles) for order in (False, True)
    )
    for name, direction in second.directions().items():
        measured = second.measured_slope(direction)
        assert second.slope(direction) == pytest.approx(measured, rel=1e-5, abs=1e-9), name
        assert first.slope(direction) != pytest.approx(measured, rel=1e-3), name


def test_both_orders_take_the_same_inner_steps() -> None:
    values = [Problem(InnerOptions(steps=2, rate=0.3, first_order=first), 2).outer().item() for first in (False, True)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)  # in float64; one adds up in another order


def test_a_style_s_inner_step_knows_nothing_of_the_others() -> None:
    problem = Problem(InnerOptions(steps=1, rate=0.3), 2)
    lesson = problem.lessons[0]
    vectors, _ = adapted(problem.loss, [lesson], problem.start.expand(2, -1), {}, problem.inner)
    for row in (0, 1):
        part = Lesson(lesson.photo[row : row + 1], lesson.gram[row : row + 1])
        alone, _ = adapted(problem.loss, [part], problem.start.expand(1, -1), {}, problem.inner)
        torch.testing.assert_close(vectors[row : row + 1], alone)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": -1}, "inner steps is -1; it must lie between 0"),
        ({"rate": float("nan")}, "inner rate is nan"),
        ({"moves": "some"}, "inner is 'some'; it must be one of norm, all"),
    ],
)
def test_the_inner_problem_is_checked_when_made(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        dataclasses.replace(InnerOptions(), **changes)
