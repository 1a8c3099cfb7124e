"""The phases of a training, on the shipped network and VGG: what a step shows, where its gradient points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import seeded_network
from pictures import painting_folder, photo_folder
from torch import Tensor

from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import FAST
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.bilevel import LOOK_BACK, Bilevel, InnerOptions
from vidstyle.training.data import Paintings, Photos, shown
from vidstyle.training.device import Compute, ProcessGroup
from vidstyle.training.loss import Batch, LossWeights, Objective, Outcome, Perceptual
from vidstyle.training.phases import MultiStyle, Phase, PhaseOptions, Reptile, ReptileOptions
from vidstyle.training.trainer import Schedule, Trainer

COMPUTE = Compute(device="cpu", arithmetic="fp32", threads=1)
START = shared_network("fast").start


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with COMPUTE.limits():
        yield


@pytest.fixture(scope="module")
def vgg() -> Perceptual:
    return Perceptual()


@pytest.fixture(scope="module")
def paintings(vgg: Perceptual, tmp_path_factory: pytest.TempPathFactory) -> Paintings:
    return Paintings(painting_folder(tmp_path_factory.mktemp("paintings"), 2), 48, vgg)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Photos, Photos]:
    folder = Path(tmp_path_factory.mktemp("photos"))
    inner, outer = photo_folder(folder / "inner", 3), photo_folder(folder / "outer", 2, first=10)
    return Photos.in_folder(inner), Photos.in_folder(outer)


class Uneven(Objective):
    """An objective that takes the losses of some pictures for larger than they are."""

    factors: Tensor | None = None

    def outcome(self, batch: Batch, vectors: Tensor, weights: Any = None, *, steady: bool = True) -> Outcome:
        outcome = super().outcome(batch, vectors, weights, steady=steady)
        if self.factors is None or not steady:
            return outcome
        return Outcome(outcome.total * self.factors, outcome.figures)


def objective(vgg: Perceptual, stable: float = 10.0) -> Uneven:
    return Uneven(TransformNet.from_network(shared_network("fast")), vgg, LossWeights(), COMPUTE, stable=stable)


def shows(**changes: Any) -> PhaseOptions:
    return PhaseOptions(
        **{"count": 2, "size": 32, "rates": (1e-3, 1e-2), "seed": 0, "group": ProcessGroup(), **changes}
    )


def gradients(phase: Phase[Any], step: int = 2) -> dict[str, Tensor]:
    """Those of every tensor that learns; zero for one that the step leaves alone."""
    for parameter, _ in phase.parameters.values():
        parameter.grad = None
    phase.loss(step)[0].backward()  # type: ignore[no-untyped-call]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, (p, _) in phase.parameters.items()
    }


def assert_alike(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Equal but for the order of the sums in float32, and for a pixel that it takes over the edge of a ReLU."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if not name.endswith(".bias"):  # before a norm their gradients are nothing but rounding
            assert (tensor - second[name]).norm() < 2e-3 * tensor.norm(), name


def test_every_painting_has_an_even_share_however_large_its_loss(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    goal = objective(vgg)
    phases: list[Phase[Any]] = [
        MultiStyle(goal, paintings, photos[0], START, shows()),
        Bilevel(goal, paintings, photos, START, shows(), InnerOptions()),
    ]
    for phase in phases:
        with phase:
            goal.factors = None
            plain = gradients(phase)
            goal.factors = torch.tensor([1.0, 50.0])
            assert_alike(plain, gradients(phase))


# Many styles


def test_a_step_moves_the_weights_and_the_vectors_of_the_paintings_it_shows(
    vgg: Perceptual, photos: tuple[Photos, Photos], tmp_path: Path
) -> None:
    three = Paintings(painting_folder(tmp_path, 3), 48, vgg)
    with MultiStyle(objective(vgg, stable=1), three, photos[0], START, shows()) as many:
        before = many.network()
        np.testing.assert_array_equal(many.all_vectors(), np.stack([START] * 3))
        np.testing.assert_allclose(before.start, START, rtol=1e-6)
        Trainer(many.parameters, Schedule(steps=1), {}).run(many.loss)
        after = many.network()
        moved = [not np.array_equal(vector, START) for vector in many.all_vectors()]
        assert moved == [index in shown(0, 2, 3, seed=0) for index in range(3)]
        assert after.digest != before.digest
        np.testing.assert_allclose(after.start, many.all_vectors().mean(0), atol=1e-6)
        total, terms = many.loss(0)
        assert terms.keys() == {"content", "style", "detail", "contrast", "tone", "variation", "instability", "total"}
        assert terms["total"] == pytest.approx(total.exp().item()), "the geometric mean of what is descended"


def test_a_sample_is_painted_with_each_painting_s_own_vector(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    vectors = np.stack([START, START * 0.5])
    with MultiStyle(objective(vgg), paintings, photos[0], START, shows(), vectors=vectors) as many:
        painted = many.paint([0, 1, 0], photos[0].middles(32, count=1))
    assert painted.shape == (3, 3, 32, 32) and not painted.requires_grad
    torch.testing.assert_close(painted[0], painted[2])
    assert (painted[0] - painted[1]).abs().max() > 0.01
    with pytest.raises(BadOption, match=r"vectors have shape \(1, 1088\); there are 2 paintings"):
        MultiStyle(objective(vgg), paintings, photos[0], START, shows(), vectors=vectors[:1])


# Bilevel


def test_an_inner_step_at_the_default_rate_lowers_the_loss_on_other_photos(
    vgg: Perceptual, photos: tuple[Photos, Photos]
) -> None:
    """The paper's rate, made for a loss of another scale, would leave it as it was."""
    real = Paintings(PHOTOS, 48, vgg)  # pictures of something: noise, as elsewhere here, is no style to learn
    for inner in (InnerOptions(), InnerOptions(rate=1e-6)):
        with Bilevel(objective(vgg), real, photos, START, shows(crops=2, size=48), inner) as phase:
            _, terms = phase.loss(0)
            if inner.rate < 1e-3:
                assert terms["total"] == pytest.approx(terms["before"], rel=1e-5)
                continue
            assert terms["total"] < 0.998 * terms["before"]
            assert "before" not in phase.loss(1)[1] and LOOK_BACK > 1


def test_all_that_learns_gets_a_gradient_and_weights_that_move_are_each_style_s_own(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    for rate in (1e-3, 0.0):
        found = []
        for moves in ("norm", "all"):
            inner = InnerOptions(rate=rate, moves=moves, first_order=not rate)  # type: ignore[arg-type]
            with Bilevel(objective(vgg), paintings, photos, START, shows(), inner) as phase:
                found.append(gradients(phase))
            assert found[-1].keys() == {*FAST.weight_shapes, "style.start"}
            # The bias before a norm is of no consequence: the norm takes it away.
            assert all(g.any() for name, g in found[-1].items() if not name.endswith(".bias")), moves
    assert_alike(*found)  # at a rate of nothing it is the same problem as with vectors alone, in one go


def test_without_inner_steps_it_is_plain_training_on_many_styles(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    """The same crops of the same photos, and the start vector's gradient is that of all vectors together."""
    goal = objective(vgg, stable=0)
    with Bilevel(goal, paintings, (photos[1], photos[0]), START, shows(), InnerOptions(steps=0)) as phase:
        outer = gradients(phase)
    with MultiStyle(goal, paintings, photos[0], START, shows()) as many:
        # A seed of numbers is the same with a zero behind it, so both phases take the same crops.
        plain = gradients(many)
    plain["style.start"] = plain.pop("style.0") + plain.pop("style.1")
    assert_alike(outer, plain)


def test_a_batch_is_prepared_for_every_inner_step_and_one_for_the_outer_loss(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    with Bilevel(objective(vgg), paintings, photos, START, shows(crops=3), InnerOptions(steps=2)) as phase:
        crops = phase(0)
    assert [tuple(c.shape) for c in crops] == [(6, 3, 32, 32)] * 3
    assert not torch.equal(crops[0], crops[1])  # each inner step sees photos of its own
    assert torch.equal(crops[0][:3], photos[0].batch(3, 32, (0, 0, 0, 0)))
    assert torch.equal(crops[2][3:], photos[1].batch(3, 32, (0, 0, 1, 2)))


def test_a_sample_is_painted_after_the_inner_steps(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    photo, painted = photos[1].middles(32, count=1), {}
    for rate in (0.0, 0.1):
        with Bilevel(objective(vgg), paintings, photos, START, shows(), InnerOptions(rate=rate)) as phase:
            painted[rate] = phase.paint([0, 1], photo)
    assert painted[0.1].shape == (2, 3, 32, 32) and not painted[0.1].requires_grad
    assert torch.equal(painted[0.0][0], painted[0.0][1])  # nothing tells the styles apart but the inner step
    assert not torch.equal(painted[0.1][0], painted[0.1][1])


# Reptile


def test_the_gradient_points_from_where_adam_led_to_the_start(
    vgg: Perceptual, paintings: Paintings, photos: tuple[Photos, Photos]
) -> None:
    """One step of Adam moves every number by its rate: K of them by K times as much at most."""
    network = seeded_network(FAST)
    goal = Objective(TransformNet.from_network(network), vgg, LossWeights(), COMPUTE)
    phase = Reptile(goal, paintings, photos[0], network.start, shows(), ReptileOptions(steps=3))
    before = {name: tensor.detach().clone() for name, (tensor, _) in phase.parameters.items()}
    with phase:
        total, terms = phase.loss(0)
        total.backward()  # type: ignore[no-untyped-call]
        assert terms["total"] < terms["before"]
        crops = phase(0)
        painted = phase.paint([0, 1], photos[1].middles(32, count=1))
    assert painted.shape == (2, 3, 32, 32) and not torch.equal(painted[0], painted[1])
    ends = []
    for number, index in enumerate(shown(0, 2, 2, 0)):
        model, vector, _ = phase.adapt(paintings.targets([index]), crops[3 * number : 3 * number + 3], (0, 0, number))
        ends.append([*(w.detach() for _, w in model.named_weights()), vector.detach()])
    for (name, (tensor, _)), led in zip(phase.parameters.items(), zip(*ends, strict=True), strict=True):
        assert torch.equal(tensor.detach(), before[name])  # the start itself has not moved
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, before[name] - torch.stack(led).mean(0), rtol=1e-4, atol=1e-6)
        assert tensor.grad.abs().max() <= 3.2 * (5e-2 if name == "style.start" else 4e-3)
    assert phase.network().digest == network.digest


def test_options_of_reptile_are_checked() -> None:
    with pytest.raises(BadOption, match="reptile steps"):
        ReptileOptions(steps=0)
