"""The bilevel step: its gradient is the derivative of what it says, and the inner step does something."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from pictures import painting_folder, photo_folder
from torch import Tensor
from torch.func import functional_call

from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import Architecture, Conv
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.bilevel import LOOK_BACK, Bilevel, InnerOptions, adapted
from vidstyle.training.compute import Compute
from vidstyle.training.multistyle import MultiStyle
from vidstyle.training.objective import Batch, Objective, Outcome
from vidstyle.training.paintings import Paintings
from vidstyle.training.perceptual import LossWeights, Perceptual
from vidstyle.training.pictures import Photos
from vidstyle.training.team import Team

COMPUTE = Compute(device="cpu", arithmetic="fp32", threads=1)
TINY = Architecture(
    name="fast",
    unshuffle=4,
    down=(Conv("stem", 48, 4, 3),),
    blocks=1,
    channels=4,
    up=(Conv("up", 4, 4, 3, upsample=2),),
    out=Conv("out", 4, 3, 5, upsample=2),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with COMPUTE.limits():
        yield


# The outer gradient, against finite differences


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
        self.start = (
            identity + 0.3 * torch.randn(identity.shape, generator=random, dtype=torch.float64)
        ).requires_grad_()
        self.lessons = [
            Lesson(
                torch.rand(styles, 3, 16, 16, generator=random, dtype=torch.float64),
                torch.rand(styles, 3, 3, generator=random, dtype=torch.float64),
            )
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
            with torch.no_grad():
                for variable, d in zip(self.variables, direction, strict=True):
                    variable.add_(by * d)
            value = self.outer().item()
            with torch.no_grad():
                for variable, d in zip(self.variables, direction, strict=True):
                    variable.sub_(by * d)
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
def test_the_second_order_gradient_is_that_of_finite_differences(moves: Any, steps: int, styles: int) -> None:
    problem = Problem(InnerOptions(steps=steps, rate=0.3, moves=moves), styles)
    for name, direction in problem.directions().items():
        assert problem.slope(direction) == pytest.approx(problem.measured_slope(direction), rel=1e-5, abs=1e-9), name


@pytest.mark.parametrize(("moves", "steps", "styles"), CASES)
def test_the_first_order_gradient_is_another_one(moves: Any, steps: int, styles: int) -> None:
    problem = Problem(InnerOptions(steps=steps, rate=0.3, moves=moves, first_order=True), styles)
    for name, direction in problem.directions().items():
        measured = problem.measured_slope(direction)
        assert problem.slope(direction) != pytest.approx(measured, rel=1e-3), name


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


# The phase, on the shipped network and VGG


@pytest.fixture(scope="module")
def vgg() -> Perceptual:
    return Perceptual()


@pytest.fixture(scope="module")
def paintings(vgg: Perceptual, tmp_path_factory: pytest.TempPathFactory) -> Paintings:
    return Paintings(painting_folder(tmp_path_factory.mktemp("paintings"), 2), 48, vgg)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Photos, Photos]:
    folder = tmp_path_factory.mktemp("photos")
    return (
        Photos.in_folder(photo_folder(folder / "inner", 3)),
        Photos.in_folder(photo_folder(folder / "outer", 2, first=10)),
    )


class Uneven(Objective):
    """One that takes the outer losses of some pictures for larger than they are."""

    factors: Tensor | None = None

    def outcome(self, batch: Batch, vectors: Tensor, weights: Any = None, *, steady: bool = True) -> Outcome:
        outcome = super().outcome(batch, vectors, weights, steady=steady)
        if self.factors is None or not steady:
            return outcome
        return Outcome(outcome.total * self.factors, outcome.figures)


def objective(vgg: Perceptual, stable: float = 10.0) -> Uneven:
    return Uneven(TransformNet.from_network(shared_network("fast")), vgg, LossWeights(), COMPUTE, stable=stable)


def bilevel(
    goal: Objective,
    paintings: Paintings,
    photos: tuple[Photos, Photos],
    inner: InnerOptions | None = None,
    *,
    crops: int = 1,
    size: int = 32,
) -> Bilevel:
    return Bilevel(
        goal,
        paintings,
        photos,
        shared_network("fast").start,
        inner or InnerOptions(),
        count=2,
        crops=crops,
        size=size,
        rates=(1e-3, 1e-2),
        seed=0,
        team=Team(),
    )


def gradients(phase: Bilevel | MultiStyle, step: int = 2) -> dict[str, Tensor]:
    """Those of every tensor that learns; zero for one that the step leaves alone."""
    for parameter, _ in phase.parameters.values():
        parameter.grad = None
    total, _ = phase.loss(step)
    total.backward()  # type: ignore[no-untyped-call]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, (p, _) in phase.parameters.items()
    }


def test_an_inner_step_at_the_default_rate_lowers_the_loss_on_other_photos(
    vgg: Perceptual, photos: tuple[Photos, Photos]
) -> None:
    """The paper's rate, made for a loss of another scale, would leave it as it was."""
    paintings = Paintings(PHOTOS, 48, vgg)  # pictures of something: noise, as elsewhere here, is no style to learn
    with bilevel(objective(vgg), paintings, photos, crops=2, size=48) as phase:
        _, terms = phase.loss(0)
        assert terms["total"] < 0.998 * terms["before"]
        _, terms = phase.loss(1)
        assert "before" not in terms and LOOK_BACK > 1
    with bilevel(objective(vgg), paintings, photos, InnerOptions(rate=1e-5), crops=2, size=48) as phase:
        _, terms = phase.loss(0)
        assert terms["total"] == pytest.approx(terms["before"], rel=1e-5)


def test_all_that_learns_gets_a_gradient(vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]) -> None:
    for moves in ("norm", "all"):
        with bilevel(objective(vgg), paintings, photos, InnerOptions(rate=1e-3, moves=moves)) as phase:  # type: ignore[arg-type]
            found = gradients(phase)
            assert found.keys() == {*TransformNet(phase.network().architecture).shape.weight_shapes, "style.start"}
            # The bias before a norm is of no consequence: the norm takes it away.
            assert all(g.any() for name, g in found.items() if not name.endswith(".bias")), moves


def test_weights_that_move_are_each_style_s_own(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    """With a rate of nothing it is the same problem as with vectors alone, in one go."""
    found = []
    for moves in ("norm", "all"):
        options = InnerOptions(rate=0, moves=moves, first_order=True)  # type: ignore[arg-type]
        with bilevel(objective(vgg), paintings, photos, options) as phase:
            found.append(gradients(phase))
    assert_alike(*found)


def test_every_style_has_an_even_share_however_large_its_loss(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    goal = objective(vgg)
    with bilevel(goal, paintings, photos) as phase:
        plain = gradients(phase)
        goal.factors = torch.tensor([1.0, 50.0])
        assert_alike(plain, gradients(phase))


def test_without_inner_steps_it_is_plain_training_on_many_styles(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    """The same crops of the same photos, and the start vector's gradient is that of all vectors together."""
    goal = objective(vgg, stable=0)
    with bilevel(goal, paintings, (photos[1], photos[0]), InnerOptions(steps=0)) as phase:
        outer = gradients(phase)
    start = shared_network("fast").start
    many = MultiStyle(goal, paintings, photos[0], start, count=2, size=32, rates=(1e-3, 1e-2), seed=0, team=Team())
    with many:
        # A seed of numbers is the same with a zero behind it, so both phases take the same crops.
        plain = gradients(many)
    vectors = [plain.pop(f"style.{i}") for i in range(2)]
    plain["style.start"] = vectors[0] + vectors[1]
    assert_alike(outer, plain)


def test_a_batch_is_prepared_for_every_inner_step_and_one_for_the_outer_loss(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    with bilevel(objective(vgg), paintings, photos, InnerOptions(steps=2), crops=3) as phase:
        crops = phase(0)
        assert [tuple(c.shape) for c in crops] == [(6, 3, 32, 32)] * 3
        assert not torch.equal(crops[0], crops[1])  # each inner step sees photos of its own
        inner, outer = photos
        assert torch.equal(crops[0][:3], inner.batch(3, 32, (0, 0, 0, 0)))
        assert torch.equal(crops[2][3:], outer.batch(3, 32, (0, 0, 1, 2)))


def test_a_sample_is_painted_after_the_inner_steps(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    photo = photos[1].middles(32, count=1)
    painted = {}
    for rate in (0.0, 0.1):
        with bilevel(objective(vgg), paintings, photos, InnerOptions(rate=rate)) as phase:
            painted[rate] = phase.paint([0, 1], photo)
    assert painted[0.1].shape == (2, 3, 32, 32) and not painted[0.1].requires_grad
    assert torch.equal(painted[0.0][0], painted[0.0][1])  # nothing tells the styles apart but the inner step
    assert not torch.equal(painted[0.1][0], painted[0.1][1])


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


def assert_alike(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Equal but for the order of the sums in float32, and for a pixel that it takes over the edge of a ReLU."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if not name.endswith(".bias"):  # before a norm their gradients are nothing but rounding
            assert (tensor - second[name]).norm() < 2e-3 * tensor.norm(), name
