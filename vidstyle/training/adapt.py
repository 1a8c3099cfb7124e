"""Adaptation: gradient steps on one painting make a style (MetaStyle, Zhang et al. 2019, section on adaptation).

Three modes. ``vector`` moves the style vector alone, from the start vector of a shared network: a
small file that blends with its like. ``full`` moves every weight. ``scratch`` is the baseline of
Johnson et al. 2016: every weight, from random ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vidstyle.errors import BadModel, BadOption
from vidstyle.model import TransformNet
from vidstyle.networks import Network, architecture
from vidstyle.options import NetworkName, check_between, check_choice
from vidstyle.style import Style
from vidstyle.training.compute import Compute
from vidstyle.training.descent import Checkpoint, Descent, Progress, Schedule
from vidstyle.training.perceptual import LossWeights, Perceptual
from vidstyle.training.pictures import Photos, painting_tensor, read_picture

Mode = Literal["vector", "full", "scratch"]


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """How a painting becomes a style."""

    mode: Mode = "vector"
    """What moves: the style vector, every weight, or every weight from random ones."""
    steps: int = 150
    """Gradient steps. 150 are enough for a vector; ``scratch`` wants thousands."""
    vector_rate: float = 3e-2
    """Adam's learning rate for the style vector, at its highest."""
    weight_rate: float = 1e-3
    """Adam's learning rate for the convolutions, at its highest; unused in mode ``vector``."""
    batch: int = 4
    """Photo crops a step."""
    size: int = 192
    """Side of a crop in pixels."""
    style_size: int = 384
    """Shorter side of the painting in pixels: the larger, the larger are the strokes learned."""
    loss: LossWeights = LossWeights()
    """What the terms of the loss count."""
    seed: int = 0
    """Photo crops, and the random weights of ``scratch``; the same seed gives the same style."""
    compute: Compute = Compute()
    """Device, arithmetic and threads."""

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_between("steps", self.steps, 1, 1_000_000)
        for what in ("vector_rate", "weight_rate"):
            check_between(what.replace("_", " "), getattr(self, what), 1e-7, 1)
        check_between("batch", self.batch, 1, 64)
        for what in ("size", "style_size"):
            check_between(what.replace("_", " "), getattr(self, what), 32, 2048)
        if self.size % 4:
            raise BadOption(f"size is {self.size}; it must be a multiple of 4")
        check_between("seed", self.seed, 0, 2**31)


def adapt(
    painting: Path,
    start: Network | NetworkName,
    *,
    name: str | None = None,
    options: AdaptOptions | None = None,
    photos: Photos | None = None,
    card: Mapping[str, object] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Style:
    """The style of ``painting``.

    ``start`` is the network to start from; in mode ``scratch`` only its architecture counts, and its
    name is enough. ``photos`` are the content to learn on, None the shipped ones. ``name`` is the
    file's stem if not given. The style's card is ``card`` (painting, painter, year, licence) and what
    happened: mode, steps, seconds, and the losses before and after on the middles of the shipped
    photos. The same arguments give the same style, whether or not the run was interrupted and resumed
    from ``checkpoint``. Raises `ImageError` for the painting, `BadOption` and `BadModel`.
    """
    options = options or AdaptOptions()
    if isinstance(start, str) and options.mode != "scratch":
        raise BadOption(f"mode {options.mode!r} starts from trained weights; give a network, not the name {start!r}")
    rgb = read_picture(painting)
    photos = photos or Photos.shipped()
    compute = options.compute
    with compute.limits():
        model, vector = _start(start, options)
        model = model.to(compute.place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        vector = vector.to(compute.place).requires_grad_()
        perceptual = Perceptual(compute.dtype, compute.place)
        style_target = perceptual.style_target(painting_tensor(rgb, options.style_size).to(compute.place))

        def paint(photo: Tensor) -> Tensor:
            with compute.autocast():
                painted: Tensor = model(photo, vector)
            return painted

        def loss(step: int) -> tuple[Tensor, dict[str, float]]:
            photo = photos.batch(options.batch, options.size, (options.seed, step)).to(compute.place)
            terms = perceptual.losses(paint(photo), perceptual.content_target(photo), style_target)
            return terms.total(options.loss).mean(), terms.figures()

        def measure() -> dict[str, float]:
            sums = {"content": 0.0, "style": 0.0}
            middles = Photos.shipped().middles(options.size).to(compute.place)
            with torch.no_grad():
                for photo in torch.split(middles, 1):
                    terms = perceptual.losses(paint(photo), perceptual.content_target(photo), style_target).figures()
                    sums = {term: sums[term] + terms[term] / len(middles) for term in sums}
            return {term: round(value, 4) for term, value in sums.items()}

        parameters = {"style.vector": (vector, options.vector_rate)}
        if options.mode == "vector":
            model.requires_grad_(False)
        else:
            parameters |= {key: (weight, options.weight_rate) for key, weight in model.named_weights()}
        warm_up = min(100, options.steps // 20) if options.mode == "scratch" else 0
        descent = Descent(
            parameters,
            Schedule(steps=options.steps, warm_up=warm_up),
            {
                **{key: value for key, value in asdict(options).items() if key != "compute"},
                "arithmetic": compute.arithmetic,
                "painting": hashlib.sha256(rgb.tobytes()).hexdigest()[:16],
                "network": start if isinstance(start, str) else start.digest[:16],
                "photos": photos.digest[:16],
            },
        )
        descent.notes["before"] = measure()
        descent.run(loss, checkpoint=checkpoint, progress=progress)
        after = measure()

    facts = {
        **(card or {}),
        "mode": options.mode,
        "steps": descent.step,
        "seconds": round(descent.seconds, 1),
        "losses": {"before": descent.notes["before"], "after": after},
        "style_weight": options.loss.style,
        "style_size": options.style_size,
    }
    return _style(name or painting.stem, model, vector, options.mode, facts, start)


def _start(start: Network | NetworkName, options: AdaptOptions) -> tuple[TransformNet, Tensor]:
    if isinstance(start, Network) and options.mode != "scratch":
        return TransformNet.from_network(start), torch.from_numpy(start.start.copy())
    shape = architecture(start) if isinstance(start, str) else start.architecture
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = TransformNet(shape)
    return model, torch.from_numpy(shape.identity_style())


def _style(
    name: str,
    model: TransformNet,
    vector: Tensor,
    mode: Mode,
    card: dict[str, object],
    start: Network | NetworkName,
) -> Style:
    numbers = vector.detach().cpu().numpy().copy()
    weights = model.weights()
    if not all(np.isfinite(array).all() for array in (numbers, *weights.values())):
        raise BadModel("the adaptation diverged (numbers are not finite any more); use smaller learning rates")
    if mode == "vector":
        assert isinstance(start, Network)
        return Style(name, numbers, start.architecture.name, start.digest, None, card)
    network = Network(model.shape, weights, numbers)
    return Style(name, numbers, model.shape.name, network.digest, network, card)
