"""Many styles, one network: conditional instance normalization (Dumoulin et al. 2017).

The convolutions are shared, every painting has its own style vector, and all are learned together.
What comes out is a network whose vectors reach far, and a start vector (their mean): a warm start for
the bilevel phase, which would need far longer to get there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.errors import BadOption
from vidstyle.models.architecture import Network
from vidstyle.training.ahead import Ahead
from vidstyle.training.objective import Objective
from vidstyle.training.paintings import Paintings, shown
from vidstyle.training.pictures import Photos
from vidstyle.training.team import Team


class MultiStyle(Ahead[Tensor]):
    """The phase: what is learned, and the loss of each step. Each painting is shown with one photo crop."""

    def __init__(
        self,
        objective: Objective,
        paintings: Paintings,
        photos: Photos,
        start: NDArray[np.float32],
        *,
        vectors: NDArray[np.float32] | None = None,
        count: int,
        size: int,
        rates: tuple[float, float],
        seed: int,
        team: Team,
    ) -> None:
        """``count`` paintings a step, crops of ``size`` pixels, ``rates`` for the weights and for the vectors.

        ``start`` (P,) is where every vector begins, unless ``vectors`` (paintings, P) says otherwise.
        """
        super().__init__(self._crops)
        if vectors is None:
            vectors = np.repeat(start[None], len(paintings), 0)
        if vectors.shape != (len(paintings), len(start)):
            raise BadOption(f"vectors have shape {vectors.shape}; there are {len(paintings)} paintings")
        self._objective, self._paintings, self._photos = objective, paintings, photos
        self._count, self._size, self._seed = count, size, seed
        self._mine = team.share(count)
        # One tensor a painting: Adam then leaves those alone that a step does not show.
        place = objective.compute.place
        self._vectors = [torch.from_numpy(v.copy()).to(place).requires_grad_() for v in vectors]
        weight_rate, vector_rate = rates
        self.parameters = {
            **{name: (weight, weight_rate) for name, weight in objective.model.named_weights()},
            **{f"style.{i}": (vector, vector_rate) for i, vector in enumerate(self._vectors)},
        }
        """Tensors by name, each with its learning rate, as `Descent` wants them."""

    def _crops(self, step: int) -> Tensor:
        return torch.cat([self._photos.batch(1, self._size, (self._seed, step, i)) for i in self._mine])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar to descend, and the terms as numbers.

        What is descended is the mean of the losses' logarithms, so that each painting has an even share. The
        loss of a photo itself is 1 to 2 for half of all paintings, 20 for some and 200 for a dark few, and a
        plain mean learns these alone: the others' pictures go flat. ``total`` is the geometric mean loss.
        """
        everyone = shown(step, self._count, len(self._paintings), self._seed)
        indices = [everyone[i] for i in self._mine]
        batch = self._objective.batch(
            self(step), self._paintings.targets(indices), (self._seed, step), self._mine.start
        )
        outcome = self._objective.outcome(batch, self.vectors(indices))
        total = outcome.total.log().mean()
        return total, {**outcome.figures, "total": total.exp().item()}

    def vectors(self, indices: Sequence[int]) -> Tensor:
        """The style vectors of some paintings, (len(indices), P)."""
        return torch.stack([self._vectors[i] for i in indices])

    def paint(self, indices: Sequence[int], photo: Tensor) -> Tensor:
        """``photo`` (1, 3, H, W) like some of the paintings, (len(indices), 3, H, W)."""
        with torch.no_grad():
            vectors = self.vectors(indices)
            return self._objective.paint(photo.to(vectors.device).expand(len(indices), -1, -1, -1), vectors)

    def all_vectors(self) -> NDArray[np.float32]:
        """Every painting's style vector, (paintings, P)."""
        return self.vectors(range(len(self._vectors))).detach().cpu().numpy()

    def network(self) -> Network:
        """The network as it is now; it starts from the mean vector."""
        model = self._objective.model
        start = self.all_vectors().mean(0, dtype=np.float64).astype(np.float32)
        return Network(model.shape, model.weights(), start)
