"""Many styles on one network: each painting has a vector of its own, and an even share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import painting_folder, photo_folder
from torch import Tensor

from vidstyle.errors import BadOption
from vidstyle.gallery import shared_network
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.compute import Compute
from vidstyle.training.descent import Descent, Schedule
from vidstyle.training.multistyle import MultiStyle
from vidstyle.training.objective import Batch, Objective, Outcome
from vidstyle.training.paintings import Paintings, shown
from vidstyle.training.perceptual import LossWeights, Perceptual
from vidstyle.training.pictures import Photos
from vidstyle.training.team import Team

COMPUTE = Compute(device="cpu", arithmetic="fp32", threads=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with COMPUTE.limits():
        yield


@pytest.fixture(scope="module")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Paintings:
    return Paintings(painting_folder(tmp_path_factory.mktemp("paintings"), 3), 48, Perceptual())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return Photos.in_folder(photo_folder(Path(tmp_path_factory.mktemp("photos")), 3))


class Uneven(Objective):
    """One that takes the losses of some pictures for larger than they are."""

    factors: Tensor | None = None

    def outcome(self, batch: Batch, vectors: Tensor, weights: Any = None, *, steady: bool = True) -> Outcome:
        outcome = super().outcome(batch, vectors, weights, steady=steady)
        return outcome if self.factors is None else Outcome(outcome.total * self.factors, outcome.figures)


def phase(paintings: Paintings, photos: Photos, **changes: Any) -> MultiStyle:
    network = shared_network("fast")
    goal = Uneven(TransformNet.from_network(network), paintings.perceptual, LossWeights(), COMPUTE, stable=1.0)
    settings: dict[str, Any] = {"count": 2, "size": 32, "rates": (1e-3, 1e-2), "seed": 0, "team": Team(), **changes}
    return MultiStyle(goal, paintings, photos, network.start, **settings)


def test_a_step_moves_the_weights_and_the_vectors_of_the_paintings_it_shows(
    paintings: Paintings, photos: Photos
) -> None:
    with phase(paintings, photos) as many:
        before, start = many.network(), shared_network("fast").start
        np.testing.assert_array_equal(many.all_vectors(), np.stack([start] * 3))
        np.testing.assert_allclose(before.start, start, rtol=1e-6)
        Descent(many.parameters, Schedule(steps=1), {}).run(many.loss)
        after = many.network()
        moved = [not np.array_equal(vector, start) for vector in many.all_vectors()]
        assert moved == [index in shown(0, 2, 3, seed=0) for index in range(3)]
        assert after.digest != before.digest
        np.testing.assert_allclose(after.start, many.all_vectors().mean(0), atol=1e-6)


def test_every_painting_has_an_even_share_however_large_its_loss(paintings: Paintings, photos: Photos) -> None:
    found = []
    for factors in (None, torch.tensor([1.0, 50.0])):
        with phase(paintings, photos) as many:
            assert isinstance(many._objective, Uneven)
            many._objective.factors = factors
            many.loss(0)[0].backward()  # type: ignore[no-untyped-call]
            found.append({name: p.grad for name, (p, _) in many.parameters.items() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        if not name.endswith(".bias"):  # before a norm their gradients are nothing but rounding
            assert (gradient - found[1][name]).norm() < 1e-3 * gradient.norm(), name


def test_the_total_that_is_told_is_the_geometric_mean_of_what_is_descended(
    paintings: Paintings, photos: Photos
) -> None:
    with phase(paintings, photos) as many:
        total, terms = many.loss(0)
        assert terms.keys() == {"content", "style", "tone", "variation", "instability", "total"}
        assert terms["total"] == pytest.approx(total.exp().item())


def test_a_sample_is_painted_with_each_painting_s_own_vector(paintings: Paintings, photos: Photos) -> None:
    start = shared_network("fast").start
    vectors = np.stack([start, start * 0.5, start])
    with phase(paintings, photos, vectors=vectors) as many:
        painted = many.paint([0, 1, 2], photos.middles(32, count=1))
    assert painted.shape == (3, 3, 32, 32) and not painted.requires_grad
    torch.testing.assert_close(painted[0], painted[2])
    assert (painted[0] - painted[1]).abs().max() > 0.01


def test_vectors_that_do_not_fit_are_a_sentence(paintings: Paintings, photos: Photos) -> None:
    with pytest.raises(BadOption, match=r"vectors have shape \(2, 1088\); there are 3 paintings"):
        phase(paintings, photos, vectors=np.zeros((2, 1088), np.float32))
