"""A start for adaptations of every weight (Reptile: Nichol, Achiam, Schulman 2018).

For each painting of a step: from the shared start, K steps of Adam on every weight, as `vidstyle adapt` takes
them; then the start moves towards where they led. This looks K steps ahead where `vidstyle.training.bilevel` looks one,
in the memory of one step.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.models.architecture import Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import check_between
from vidstyle.training.ahead import Ahead
from vidstyle.training.objective import Objective, Outcome
from vidstyle.training.paintings import Paintings, shown
from vidstyle.training.pictures import Photos
from vidstyle.training.team import Team


@dataclass(frozen=True, kw_only=True)
class ReptileOptions:
    """The adaptation of which every outer step makes the beginning."""

    steps: int = 20
    """K, steps of Adam on a painting."""
    vector_rate: float = 5e-2
    """Adam's learning rate for the style vector: that of `vidstyle adapt`."""
    weight_rate: float = 4e-3
    """Adam's learning rate for the weights."""

    def __post_init__(self) -> None:
        check_between("reptile steps", self.steps, 1, 1000)
        for what in ("vector_rate", "weight_rate"):
            check_between(what.replace("_", " "), getattr(self, what), 1e-7, 1)


class Reptile(Ahead[list[Tensor]]):
    """The phase: what is learned, and the direction of each step as the gradient of a scalar."""

    def __init__(
        self,
        objective: Objective,
        paintings: Paintings,
        photos: Photos,
        start: NDArray[np.float32],
        inner: ReptileOptions,
        *,
        count: int,
        crops: int,
        size: int,
        rates: tuple[float, float],
        seed: int,
        team: Team,
    ) -> None:
        """``count`` paintings a step, each with ``crops`` photo crops of ``size`` pixels for every step of Adam.

        ``start`` (P,) is the style vector that all begin with; ``rates`` for the weights and for it.
        """
        super().__init__(self._crops)
        self._objective, self._paintings, self._photos, self._inner = objective, paintings, photos, inner
        self._count, self._each, self._size, self._seed = count, crops, size, seed
        self._mine = team.share(count)
        self._start = torch.from_numpy(start.copy()).to(objective.compute.place).requires_grad_()
        weight_rate, vector_rate = rates
        self.parameters = {
            **{name: (weight, weight_rate) for name, weight in objective.model.named_weights()},
            "style.start": (self._start, vector_rate),
        }
        """Tensors by name, each with its learning rate, as `Descent` wants them."""

    def _crops(self, step: int) -> list[Tensor]:
        """A batch for each step of Adam on each of this process's paintings, in that order."""
        return [
            self._photos.batch(self._each, self._size, (self._seed, step, i, inner))
            for i in self._mine
            for inner in range(self._inner.steps)
        ]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """A scalar whose gradient points from where the adaptations led to where they began, and terms as numbers.

        The terms are those of the last step of Adam, on photos that it had not seen; ``before`` those of the first.
        """
        everyone, photos = shown(step, self._count, len(self._paintings), self._seed), self(step)
        figures: list[dict[str, float]] = []
        ends: list[list[Tensor]] = []
        for number, i in enumerate(self._mine):
            mine = photos[number * self._inner.steps : (number + 1) * self._inner.steps]
            model, vector, outcomes = self.adapt(self._paintings.targets([everyone[i]]), mine, (self._seed, step, i))
            ends.append([*(weight.detach() for _, weight in model.named_weights()), vector.detach()])
            before, after = (outcomes[at].total.mean().item() for at in (0, -1))
            figures.append({**outcomes[-1].figures, "total": after, "before": before})
        terms = {name: sum(f[name] for f in figures) / len(figures) for name in figures[0]}
        total = sum(
            (tensor * (tensor.detach() - torch.stack(led).mean(0))).sum()
            for (tensor, _), led in zip(self.parameters.values(), zip(*ends, strict=True), strict=True)
        )
        assert isinstance(total, Tensor)
        return total, terms

    def adapt(
        self, style: list[Tensor], photos: Sequence[Tensor], seed: tuple[int, ...]
    ) -> tuple[TransformNet, Tensor, list[Outcome]]:
        """The network and the style vector that a step of Adam on each of ``photos`` makes, and what each step saw."""
        goal = copy.copy(self._objective)
        goal.model = copy.deepcopy(goal.model)
        vector = self._start.detach().clone().requires_grad_()
        rates = (goal.model.parameters(), self._inner.weight_rate), ([vector], self._inner.vector_rate)
        adam = torch.optim.Adam([{"params": list(moved), "lr": rate} for moved, rate in rates])
        outcomes = []
        for number, photo in enumerate(photos):
            adam.zero_grad()
            outcome = goal.outcome(goal.batch(photo, style, (*seed, number)), vector.expand(len(photo), -1))
            outcome.total.mean().backward()  # type: ignore[no-untyped-call]
            adam.step()
            outcomes.append(Outcome(outcome.total.detach(), outcome.figures))
        return goal.model, vector, outcomes

    def paint(self, indices: Sequence[int], photo: Tensor) -> Tensor:
        """``photo`` (1, 3, H, W) like some of the paintings after the steps of Adam, (len(indices), 3, H, W)."""
        painted = []
        for index in indices:
            crops = [
                self._photos.batch(self._each, self._size, (self._seed, index, i)) for i in range(self._inner.steps)
            ]
            model, vector, _ = self.adapt(self._paintings.targets([index]), crops, (self._seed, index))
            with torch.no_grad(), self._objective.compute.autocast():
                painted.append(model(photo.to(vector.device), vector))
        return torch.cat(painted)

    def network(self) -> Network:
        """The network as it is now."""
        model = self._objective.model
        return Network(model.shape, model.weights(), self._start.detach().cpu().numpy().copy())
