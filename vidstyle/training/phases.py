"""The phases of a training: what is learned, and the loss of each step. The bilevel one is in `bilevel`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.errors import BadOption
from vidstyle.models.architecture import Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import check_between
from vidstyle.training.data import Paintings, Photos, Prefetcher, T, shown
from vidstyle.training.device import ProcessGroup
from vidstyle.training.loss import Objective, Outcome


@dataclass(frozen=True, kw_only=True)
class PhaseOptions:
    """What a step of any phase shows."""

    count: int
    crops: int = 1
    """Photo crops for each of them, in the inner steps and in the outer loss alike."""
    size: int
    rates: tuple[float, float]
    """Learning rates for the weights and for the style vectors."""
    seed: int
    group: ProcessGroup


class Phase(Prefetcher[T]):
    """Called with a step, a phase returns the photo crops of this process's paintings, which it prepares ahead."""

    def __init__(
        self, objective: Objective, paintings: Paintings, photos: Photos, start: NDArray[np.float32], own: PhaseOptions
    ) -> None:
        """``start`` (P,) is the style vector that all paintings begin with."""
        super().__init__(self._crops)
        self._objective, self._paintings, self._photos, self._options = objective, paintings, photos, own
        self._mine = own.group.share(own.count)
        self._start = torch.from_numpy(start.copy()).to(objective.compute.place).requires_grad_()
        self.parameters = self._learned({"style.start": self._start})
        """Tensors by name, each with its learning rate, as `Trainer` wants them."""

    def _learned(self, vectors: dict[str, Tensor]) -> dict[str, tuple[Tensor, float]]:
        weight_rate, vector_rate = self._options.rates
        weights = {name: (weight, weight_rate) for name, weight in self._objective.model.named_weights()}
        return {**weights, **{name: (vector, vector_rate) for name, vector in vectors.items()}}

    def _crops(self, step: int) -> T:
        raise NotImplementedError

    def _shown(self, step: int) -> list[int]:
        """This process's paintings of a step."""
        everyone = shown(step, self._options.count, len(self._paintings), self._options.seed)
        return [everyone[i] for i in self._mine]

    def _batch(self, photos: Photos, *seed: int) -> Tensor:
        """The crops for one painting, (crops, 3, size, size)."""
        return photos.batch(self._options.crops, self._options.size, (self._options.seed, *seed))

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar to descend, and the terms as numbers."""
        raise NotImplementedError

    def paint(self, indices: Sequence[int], photo: Tensor) -> Tensor:
        """``photo`` (1, 3, H, W) like some of the paintings, (len(indices), 3, H, W)."""
        raise NotImplementedError

    def network(self) -> Network:
        """The network as it is now."""
        return self._network(self._start.detach().cpu().numpy().copy())

    def _network(self, start: NDArray[np.float32]) -> Network:
        return Network(self._objective.model.shape, self._objective.model.weights(), start)


class MultiStyle(Phase[Tensor]):
    """Many styles, one network: conditional instance normalization (Dumoulin et al. 2017).

    The convolutions are shared, every painting has its own style vector, and all are learned together. What comes
    out is a network whose vectors reach far, and a start vector (their mean): a warm start for the bilevel phase,
    which would need far longer to get there. Each painting of a step is shown with one photo crop.
    """

    def __init__(
        self,
        objective: Objective,
        paintings: Paintings,
        photos: Photos,
        start: NDArray[np.float32],
        own: PhaseOptions,
        *,
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """``vectors`` (paintings, P) are where the paintings' vectors begin; None is at ``start``."""
        super().__init__(objective, paintings, photos, start, own)
        if vectors is None:
            vectors = np.repeat(start[None], len(paintings), 0)
        if vectors.shape != (len(paintings), len(start)):
            raise BadOption(f"vectors have shape {vectors.shape}; there are {len(paintings)} paintings")
        # One tensor a painting: Adam then leaves those alone that a step does not show.
        place = objective.compute.place
        self._vectors = [torch.from_numpy(v.copy()).to(place).requires_grad_() for v in vectors]
        self.parameters = self._learned({f"style.{i}": vector for i, vector in enumerate(self._vectors)})

    def _crops(self, step: int) -> Tensor:
        return torch.cat([self._batch(self._photos, step, i) for i in self._mine])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar to descend, and the terms as numbers.

        What is descended is the mean of the losses' logarithms, so that each painting has an even share. The
        loss of a photo itself is 1 to 2 for half of all paintings, 20 for some and 200 for a dark few, and a
        plain mean learns these alone: the others' pictures go flat. ``total`` is the geometric mean loss.
        """
        indices = self._shown(step)
        style, seed = self._paintings.targets(indices), (self._options.seed, step)
        batch = self._objective.batch(self(step), style, seed, self._mine.start)
        outcome = self._objective.outcome(batch, self.vectors(indices))
        total = outcome.total.log().mean()
        return total, {**outcome.figures, "total": total.exp().item()}

    def vectors(self, indices: Sequence[int]) -> Tensor:
        """The style vectors of some paintings, (len(indices), P)."""
        return torch.stack([self._vectors[i] for i in indices])

    def paint(self, indices: Sequence[int], photo: Tensor) -> Tensor:
        with torch.no_grad():
            vectors = self.vectors(indices)
            return self._objective.paint(photo.to(vectors.device).expand(len(indices), -1, -1, -1), vectors)

    def all_vectors(self) -> NDArray[np.float32]:
        """Every painting's style vector, (paintings, P)."""
        return self.vectors(range(len(self._vectors))).detach().cpu().numpy()

    def network(self) -> Network:
        """The network as it is now; it starts from the mean vector."""
        return self._network(self.all_vectors().mean(0, dtype=np.float64).astype(np.float32))


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


class Reptile(Phase[list[Tensor]]):
    """A start for adaptations of every weight (Reptile: Nichol, Achiam, Schulman 2018).

    For each painting of a step: from the shared start, K steps of Adam on every weight, as `vidstyle adapt` takes
    them; then the start moves towards where they led. This looks K steps ahead where the bilevel phase looks one, in
    the memory of one step.
    """

    def __init__(
        self,
        objective: Objective,
        paintings: Paintings,
        photos: Photos,
        start: NDArray[np.float32],
        own: PhaseOptions,
        inner: ReptileOptions,
    ) -> None:
        super().__init__(objective, paintings, photos, start, own)
        self._inner = inner

    def _crops(self, step: int) -> list[Tensor]:
        """A batch for each step of Adam on each of this process's paintings, in that order."""
        return [self._batch(self._photos, step, i, inner) for i in self._mine for inner in range(self._inner.steps)]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """A scalar whose gradient points from where the adaptations led to where they began, and terms as numbers.

        The terms are those of the last step of Adam, on photos that it had not seen; ``before`` those of the first.
        """
        photos, steps = self(step), self._inner.steps
        figures: list[dict[str, float]] = []
        ends: list[list[Tensor]] = []
        for number, (i, index) in enumerate(zip(self._mine, self._shown(step), strict=True)):
            mine, seed = photos[number * steps : (number + 1) * steps], (self._options.seed, step, i)
            model, vector, outcomes = self.adapt(self._paintings.targets([index]), mine, seed)
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
        """``photo`` like some of the paintings after the steps of Adam."""
        painted = []
        for index in indices:
            crops = [self._batch(self._photos, index, i) for i in range(self._inner.steps)]
            model, vector, _ = self.adapt(self._paintings.targets([index]), crops, (self._options.seed, index))
            with torch.no_grad(), self._objective.compute.autocast():
                painted.append(model(photo.to(vector.device), vector))
        return torch.cat(painted)
