"""MetaStyle's bilevel step (Zhang, Zhu, Zhu 2019, Algorithm 1).

For each style of a batch: from the shared start, T steps of gradient descent on content photos (the
inner problem); then the loss of what that came to, on photos of another set, and its gradient with
respect to everything that the inner steps began with (the outer problem). Of second order: the
gradient goes through the inner steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.options import check_between, check_choice
from vidstyle.training.data import Paintings, Photos
from vidstyle.training.loss import Batch, Content, Objective
from vidstyle.training.phases import Phase, PhaseOptions

LOOK_BACK = 10
"""Every so many steps the loss without the inner steps is computed too."""

Inner = Literal["norm", "all"]
B = TypeVar("B")
Loss = Callable[[B, Tensor, Mapping[str, Tensor] | None], Tensor]
"""The loss of each style, (S,), from a batch, style vectors (S, P) and weights (None: the network's own)."""


@dataclass(frozen=True, kw_only=True)
class InnerOptions:
    """The inner problem."""

    steps: int = 1
    """T, gradient steps on a style, each on photos of its own."""
    rate: float = 1.0
    """delta, their length. It belongs to the loss: the paper's 1e-5 is for a style weight of 1e5 and does
    nothing here. One step of 1 on the vector lowers the loss by a quarter or more, one of 3 not always; of all
    weights, 1e-3 (docs/training.md)."""
    moves: Inner = "norm"
    """``norm``: the style vector (the instance norms' parameters), as the authors train it. ``all``: every
    weight as well, as the paper writes it."""
    first_order: bool = False
    """Take the inner gradient for a constant: cheaper, and nearly as good (Nichol et al. 2018)."""

    def __post_init__(self) -> None:
        check_between("inner steps", self.steps, 0, 1000)
        check_between("inner rate", self.rate, 0, 100)
        check_choice("inner", self.moves, get_args(Inner))


def adapted(
    loss: Loss[B], batches: Sequence[B], vectors: Tensor, weights: Mapping[str, Tensor], options: InnerOptions
) -> tuple[Tensor, Mapping[str, Tensor] | None]:
    """Style vectors (S, P) and weights after one inner step on each of ``batches``.

    Everything keeps its graph back to ``vectors`` and ``weights``. The weights are None (the network's
    own) unless they move; then they belong to one style, and S must be 1.
    """
    own: Mapping[str, Tensor] | None = None
    if options.moves == "all":
        assert len(vectors) == 1, "weights that move belong to one style"
        own = dict(weights)
    for batch in batches:
        total = loss(batch, vectors, own).sum()  # a style's vector sees its own loss alone
        moving = [vectors, *(own or {}).values()]
        gradients = torch.autograd.grad(total, moving, create_graph=not options.first_order)
        vectors, *moved = [m - options.rate * g for m, g in zip(moving, gradients, strict=True)]
        own = own and dict(zip(own, moved, strict=True))
    return vectors, own


class Bilevel(Phase[list[Tensor]]):
    """The phase: what is learned, and the loss of each step."""

    def __init__(
        self,
        objective: Objective,
        paintings: Paintings,
        photos: tuple[Photos, Photos],
        start: NDArray[np.float32],
        own: PhaseOptions,
        inner: InnerOptions,
    ) -> None:
        """The inner steps see crops of the first of ``photos``, the outer loss of the second."""
        super().__init__(objective, paintings, photos[0], start, own)
        self._outer, self._inner = photos[1], inner

    def _crops(self, step: int) -> list[Tensor]:
        """A batch for each inner step and one for the outer loss, each (this process's paintings * crops, 3, S, S)."""
        return [
            torch.cat([self._batch(photos, step, i, round_) for i in self._mine])
            for round_, photos in enumerate([*[self._photos] * self._inner.steps, self._outer])
        ]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar to descend, and the terms as numbers: those of the adapted styles on the second photos.

        What is descended is the mean of the losses' logarithms, so that each style has an even share, see
        `MultiStyle.loss`. ``total`` is the geometric mean loss; every `LOOK_BACK` steps ``before`` is the same
        without the inner steps.
        """
        indices, each = self._shown(step), self._options.crops
        style = [layer.repeat_interleave(each, 0) for layer in self._paintings.targets(indices)]
        batches = [
            self._objective.batch(photo, style, (self._options.seed, step, round_), self._mine.start * each)
            for round_, photo in enumerate(self(step))
        ]
        # Weights that move are each style's own; vectors alone go through the network together.
        groups = [slice(0, len(indices))]
        if self._inner.moves == "all":
            groups = [slice(i, i + 1) for i in range(len(indices))]
        losses, figures = [], []
        for group in groups:
            *inner, outer = (self._part(batch, group) for batch in batches)
            vectors, weights = self.adapt(inner, group.stop - group.start)
            outcome = self._objective.outcome(outer, self._repeated(vectors), weights)
            losses.append(self._per_style(outcome.total))
            figures.append(outcome.figures)
        total = torch.cat(losses)
        terms = {name: sum(f[name] for f in figures) / len(figures) for name in figures[0]}
        terms["total"] = total.log().mean().exp().item()
        if step % LOOK_BACK == 0:
            with torch.no_grad():
                vectors = self._start.expand(len(batches[-1].photo), -1)
                before = self._per_style(self._objective.outcome(batches[-1], vectors).total)
                terms["before"] = before.log().mean().exp().item()
        return total.log().mean(), terms

    def adapt(self, batches: Sequence[Batch], count: int) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        """Vectors and weights of ``count`` styles after an inner step on each of ``batches``."""
        return adapted(
            lambda batch, vectors, weights: self._per_style(
                self._objective.outcome(batch, self._repeated(vectors), weights, steady=False).total
            ),
            batches,
            self._start.expand(count, -1),
            dict(self._objective.model.named_parameters()),
            self._inner,
        )

    def paint(self, indices: Sequence[int], photo: Tensor) -> Tensor:
        """``photo`` like some of the paintings after the inner steps."""
        painted = []
        for index in indices:
            style = self._paintings.targets([index])
            crops = [self._batch(self._photos, index, i) for i in range(self._inner.steps)]
            batches = [self._objective.batch(crop, style, (self._options.seed,)) for crop in crops]
            vectors, weights = self.adapt(batches, 1)
            with torch.no_grad():
                painted.append(self._objective.paint(photo.to(vectors.device), vectors, weights))
        return torch.cat(painted)

    def _repeated(self, vectors: Tensor) -> Tensor:
        return vectors.repeat_interleave(self._options.crops, 0)

    def _per_style(self, losses: Tensor) -> Tensor:
        return losses.reshape(-1, self._options.crops).mean(1)

    def _part(self, batch: Batch, group: slice) -> Batch:
        rows = slice(group.start * self._options.crops, group.stop * self._options.crops)
        style = [layer[rows] for layer in batch.style]
        content = Content(*(part[rows] for part in batch.content))
        return Batch(batch.photo[rows], content, style, batch.seed, batch.first + rows.start)
