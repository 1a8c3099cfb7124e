"""Many styles, one network: conditional instance normalization (Dumoulin et al. 2017).

The convolutions are shared, every painting has its own style vector, and all are learned together.
What comes out is a network whose vectors reach far, and a start vector (their mean) for `adapt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.errors import BadModel, BadOption
from vidstyle.model import TransformNet
from vidstyle.networks import Network
from vidstyle.options import check_between
from vidstyle.training.compute import Compute
from vidstyle.training.descent import Checkpoint, Descent, Progress, Schedule
from vidstyle.training.perceptual import LossWeights, Perceptual
from vidstyle.training.pictures import Photos, painting_tensor, picture_paths, read_picture


@dataclass(frozen=True, kw_only=True)
class MultiStyleOptions:
    """How the shared network is learned."""

    steps: int = 5000
    """Gradient steps."""
    weight_rate: float = 2e-3
    """Adam's learning rate for the convolutions, at its highest."""
    vector_rate: float = 2e-2
    """Adam's learning rate for the style vectors, at its highest."""
    styles: int = 4
    """Paintings a step; each is learned on one photo crop."""
    size: int = 192
    """Side of a crop in pixels."""
    style_size: int = 384
    """Shorter side of the paintings in pixels."""
    loss: LossWeights = LossWeights()
    """What the terms of the loss count."""
    seed: int = 0
    """Order of the paintings, and the photo crops."""
    compute: Compute = Compute()
    """Device, arithmetic and threads."""

    def __post_init__(self) -> None:
        check_between("steps", self.steps, 1, 10_000_000)
        check_between("styles", self.styles, 1, 64)
        for what in ("size", "style_size"):
            check_between(what.replace("_", " "), getattr(self, what), 32, 2048)
        if self.size % 4:
            raise BadOption(f"size is {self.size}; it must be a multiple of 4")


def train_many_styles(
    paintings: Path,
    photos: Photos,
    start: Network,
    *,
    vectors: NDArray[np.float32] | None = None,
    options: MultiStyleOptions | None = None,
    schedule: Schedule | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Network, NDArray[np.float32]]:
    """The network, and the vectors of the pictures in the folder ``paintings``, float32 (pictures, style_size).

    ``start`` gives the weights to begin with, ``vectors`` the style vectors (None: its start vector
    for every picture), ``schedule`` replaces the cosine over ``options.steps``.
    """
    options = options or MultiStyleOptions()
    paths = picture_paths(paintings)
    if not paths:
        raise BadOption(f"{paintings} holds no paintings; put JPEG or PNG files there")
    compute = options.compute
    if vectors is None:
        vectors = np.repeat(start.start[None], len(paths), 0)
    if vectors.shape != (len(paths), start.architecture.style_size):
        raise BadOption(f"vectors have shape {vectors.shape}; there are {len(paths)} paintings")
    with compute.limits():
        model = TransformNet.from_network(start).to(compute.place)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # One tensor a painting: Adam then leaves those alone that a step does not show.
        own = [torch.from_numpy(v.copy()).to(compute.place).requires_grad_() for v in vectors]
        perceptual = Perceptual(compute.dtype, compute.place)
        targets = [
            [
                layer.to(compute.dtype)
                for layer in perceptual.style_target(_painting(path, options.style_size).to(compute.place))
            ]
            for path in paths
        ]

        def loss(step: int) -> tuple[Tensor, dict[str, float]]:
            shown = _shown(step, options.styles, len(paths), options.seed)
            photo = photos.batch(options.styles, options.size, (options.seed, step)).to(compute.place)
            style = torch.stack([own[i] for i in shown])
            with compute.autocast():
                painted = model(photo, style)
            target = [torch.cat([targets[i][layer] for i in shown]).float() for layer in range(4)]
            terms = perceptual.losses(painted, perceptual.content_target(photo), target)
            return terms.total(options.loss).mean(), terms.figures()

        parameters: Mapping[str, tuple[Tensor, float]] = {
            **{name: (weight, options.weight_rate) for name, weight in model.named_weights()},
            **{f"style.{i}": (vector, options.vector_rate) for i, vector in enumerate(own)},
        }
        descent = Descent(
            parameters,
            schedule or Schedule(steps=options.steps, warm_up=min(200, options.steps // 20)),
            {
                **{key: value for key, value in asdict(options).items() if key != "compute"},
                "arithmetic": compute.arithmetic,
                "paintings": len(paths),
                "network": start.digest[:16],
                "photos": photos.digest[:16],
            },
        )
        descent.run(loss, checkpoint=checkpoint, progress=progress)
    found = np.stack([vector.detach().cpu().numpy() for vector in own])
    if not np.isfinite(found).all():
        raise BadModel("the training diverged (numbers are not finite any more); use smaller learning rates")
    return Network(start.architecture, model.weights(), found.mean(0, dtype=np.float64).astype(np.float32)), found


def _painting(path: Path, shorter_side: int) -> Tensor:
    return painting_tensor(read_picture(path), shorter_side)


def _shown(step: int, count: int, paintings: int, seed: int) -> Sequence[int]:
    """The paintings of a step: every one once in each pass, in an order of its own."""
    shown = []
    for position in range(step * count, (step + 1) * count):
        order = np.random.default_rng([seed, position // paintings, 1]).permutation(paintings)
        shown.append(int(order[position % paintings]))
    return shown
