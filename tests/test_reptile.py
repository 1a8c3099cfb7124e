"""The Reptile phase: where its step points, and that nothing else moves."""

from __future__ import annotations

import pytest
import torch
from networks import seeded_network
from pictures import painting_folder, photo_folder

from vidstyle.errors import BadOption
from vidstyle.models.architecture import FAST
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.compute import Compute
from vidstyle.training.objective import Objective
from vidstyle.training.paintings import Paintings, shown
from vidstyle.training.perceptual import LossWeights, Perceptual
from vidstyle.training.pictures import Photos
from vidstyle.training.reptile import Reptile, ReptileOptions
from vidstyle.training.team import Team


@pytest.fixture(scope="module")
def phase(tmp_path_factory: pytest.TempPathFactory) -> Reptile:
    folder = tmp_path_factory.mktemp("reptile")
    compute, vgg, network = Compute(device="cpu", arithmetic="fp32", threads=1), Perceptual(), seeded_network(FAST)
    return Reptile(
        Objective(TransformNet.from_network(network), vgg, LossWeights(), compute),
        Paintings(painting_folder(folder / "paintings", 2), 32, vgg),
        Photos.in_folder(photo_folder(folder / "photos", 2)),
        network.start,
        ReptileOptions(steps=3),
        count=2,
        crops=1,
        size=32,
        rates=(1e-3, 1e-2),
        seed=0,
        team=Team(),
    )


def test_the_gradient_points_from_where_adam_led_to_the_start(phase: Reptile) -> None:
    """One step of Adam moves every number by its rate: K of them by K times as much at most."""
    before = {name: tensor.detach().clone() for name, (tensor, _) in phase.parameters.items()}
    with phase:
        total, terms = phase.loss(0)
        total.backward()  # type: ignore[no-untyped-call]
        assert terms["total"] < terms["before"]
        photos = phase(0)
    ends = []
    for number, painting in enumerate(shown(0, 2, 2, 0)):
        style = phase._paintings.targets([painting])
        model, vector, _ = phase.adapt(style, photos[3 * number : 3 * number + 3], (0, 0, number))
        ends.append([*(w.detach() for _, w in model.named_weights()), vector.detach()])
    for (name, (tensor, _)), led in zip(phase.parameters.items(), zip(*ends, strict=True), strict=True):
        assert torch.equal(tensor.detach(), before[name])  # the start itself has not moved
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, before[name] - torch.stack(led).mean(0), rtol=1e-4, atol=1e-6)
        rate = 5e-2 if name == "style.start" else 4e-3
        assert tensor.grad.abs().max() <= 3.2 * rate


def test_options_are_checked() -> None:
    with pytest.raises(BadOption, match="reptile steps"):
        ReptileOptions(steps=0)
