"""What training descends: paint photos in given styles, and weigh what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.func import functional_call

from vidstyle.models.torch_net import TransformNet
from vidstyle.training.compute import Compute
from vidstyle.training.perceptual import Content, LossWeights, Perceptual
from vidstyle.training.stable import disturb, instability


@dataclass(frozen=True)
class Batch:
    """Photos, each with the painting that it is to look like."""

    photo: Tensor
    """Float RGB in [0, 1] of shape (N, 3, H, W)."""
    content: Content
    """`Perceptual.content_target` of the photos."""
    style: list[Tensor]
    """`Perceptual.style_target` of the paintings, one for each photo or one for all."""
    seed: tuple[int, ...]
    """Of the disturbance."""
    first: int = 0
    """Number of the first photo here in the step's whole batch, of which other processes may have parts."""


@dataclass(frozen=True)
class Outcome:
    """What a batch came to."""

    total: Tensor
    """What is descended, float32 (N,)."""
    figures: dict[str, float]
    """The terms as numbers, means over the batch."""


class Objective:
    """The loss of a network's output under `LossWeights`, plus ``stable`` times its instability."""

    def __init__(
        self, model: TransformNet, perceptual: Perceptual, weights: LossWeights, compute: Compute, *, stable: float = 0
    ) -> None:
        self.model, self.perceptual, self.weights, self.compute = model, perceptual, weights, compute
        self.stable = stable

    def paint(self, photo: Tensor, vectors: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """``photo`` (N, 3, H, W) painted in ``vectors`` (N, P), with ``weights`` instead of the model's own.

        ``weights`` have the names of the module's parameters.
        """
        with self.compute.autocast():
            painted: Tensor = (
                self.model(photo, vectors)
                if weights is None
                else functional_call(self.model, dict(weights), (photo, vectors))
            )
        return painted

    def batch(self, photo: Tensor, style: list[Tensor], seed: tuple[int, ...], first: int = 0) -> Batch:
        """``photo`` and ``style`` on the device, with the photos' content."""
        photo = photo.to(self.compute.place)
        return Batch(photo, self.perceptual.content_target(photo), style, seed, first)

    def outcome(
        self, batch: Batch, vectors: Tensor, weights: Mapping[str, Tensor] | None = None, *, steady: bool = True
    ) -> Outcome:
        """What ``vectors`` (N, P) and ``weights`` make of a batch; ``steady`` False leaves out the instability."""
        painted = self.paint(batch.photo, vectors, weights)
        losses = self.perceptual.losses(painted, batch.content, batch.style)
        total, figures = losses.total(self.weights), losses.figures()
        if steady and self.stable:
            photo, shift = disturb(batch.photo, batch.seed, first=batch.first)
            wavering = instability(painted, self.paint(photo, vectors, weights), shift)
            total, figures = total + self.stable * wavering, {**figures, "instability": wavering.mean().item()}
        return Outcome(total, figures)
