"""Adaptation: gradient steps on one painting make a style (MetaStyle, Zhang et al. 2019, section on adaptation).

Three modes. ``full`` moves every weight of a shared network, as the paper writes it. ``vector`` moves the
style vector alone: a file of 3 kB, which learns less. ``scratch`` is the baseline of Johnson et al. 2016:
every weight, from random ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidstyle.errors import BadModel, BadOption
from vidstyle.files import as_path
from vidstyle.models.architecture import Network, architecture
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import NetworkName, check_fields, check_kind, within
from vidstyle.training.contrast import PHOTO_SIZE, with_contrast
from vidstyle.training.data import Crops, Photos, painting_tensor, read_painting
from vidstyle.training.device import Compute
from vidstyle.training.loss import Features, LossWeights, Perceptual
from vidstyle.training.trainer import Checkpoint, Progress, Schedule, Trainer

Mode = Literal["vector", "full", "scratch"]
RATES: dict[Mode, tuple[float, float]] = {"vector": (8e-2, 2e-3), "full": (5e-2, 4e-3), "scratch": (1e-2, 3e-3)}
"""Adam's learning rates for the style vector and for the weights, at their highest."""


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """How a painting becomes a style."""

    mode: Mode = "full"
    """What moves: every weight, the style vector, or every weight from random ones."""
    steps: int = within(150, 1, 1_000_000)
    """Gradient steps. 150 make a style; ``scratch`` wants thousands."""
    vector_rate: float | None = within(None, 1e-7, 1)
    """Adam's learning rate for the style vector, at its highest; None is the mode's of `RATES`."""
    weight_rate: float | None = within(None, 1e-7, 1)
    """Adam's learning rate for the convolutions, at its highest; None is the mode's. Unused in mode ``vector``."""
    batch: int = within(4, 1, 64)
    crops: int = within(128, 1, 4096)
    """Different photo crops in all, of which every step shows some: what does not change is computed once for each."""
    size: int = within(192, 32, 2048)
    style_size: int = within(384, 32, 2048)
    """Shorter side of the painting in pixels: the larger, the larger are the strokes learned."""
    loss: LossWeights = LossWeights(contrast=20)
    features: Features = "shipped"
    """Where the VGG-16 of the loss comes from."""
    measure_every: int = within(25, 1, 1_000_000)
    """Steps between two measurements; the start and the end are always measured."""
    seed: int = within(0, 0, 2**31)
    """Photo crops, and the random weights of ``scratch``; the same seed gives the same style."""
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size % 4:
            raise BadOption(f"size is {self.size}; it must be a multiple of 4")

    def facts(self) -> dict[str, object]:
        """Everything that decides the result, the rates as they are; `compute` apart."""
        vector_rate, weight_rate = self.rates
        own = {key: value for key, value in asdict(self).items() if key != "compute"}
        return {**own, "vector_rate": vector_rate, "weight_rate": weight_rate}

    @property
    def rates(self) -> tuple[float, float]:
        """The learning rates for the style vector and for the weights: those given, or the mode's."""
        vector, weight = RATES[self.mode]
        return (
            vector if self.vector_rate is None else self.vector_rate,
            weight if self.weight_rate is None else self.weight_rate,
        )


class Measurement(NamedTuple):
    """How far a run is from its two targets, on photos that stay the same: one point of its curve."""

    step: int
    content: float
    """`Losses.content`, the mean over the photos; so are the others."""
    style: float
    variation: float
    tone: float = 0.0
    detail: float = 0.0
    contrast: float = 0.0

    def total(self, weights: LossWeights) -> float:
        """The weighted sum, as it is descended."""
        return sum(
            value * float(getattr(weights, term)) for term, value in zip(self._fields[1:], self[1:], strict=True)
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of `adapt`, with what was reached."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        """The best of the measured states, the last one among them; its card says of which step."""


def adapt(
    painting: Path | str,
    start: Network | NetworkName | Style,
    *,
    name: str | None = None,
    options: AdaptOptions | None = None,
    photos: Photos | None = None,
    measure_on: Photos | None = None,
    card: Mapping[str, object] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[[Measurement, Style], None] | None = None,
) -> Style:
    """The style of ``painting``.

    ``start`` is the network to start from, or a style, to go on from there with every weight; in mode ``scratch``
    only its architecture counts, and its name is enough. ``photos`` are the content to learn on, ``measure_on`` those
    whose middles the run is measured on; None are the shipped ones. ``name`` is the file's stem if not given. The
    style's card is ``card`` (painting, painter, year, licence) and what happened, to the style that it went on from
    too: mode, steps, seconds, the losses before and after, and the curve between them, a `Measurement` every
    ``options.measure_every`` steps.
    ``watch`` gets each one, and the style of that moment. At the end `with_contrast` scales the last convolution
    (card: contrast), which no measurement has seen.

    The same arguments give the same style, whether or not the run was interrupted and resumed from
    ``checkpoint``. A KeyboardInterrupt after the first step leaves as `Interrupted`, with the style of
    the best state measured by this call. Raises `ImageError` for the painting, `BadOption` and `BadModel`.
    """
    check_kind("options", options, AdaptOptions)
    options = options or AdaptOptions()
    earlier: Mapping[str, Any] = {}
    theta = start.digest if isinstance(start, Network) and options.mode != "scratch" else None
    if isinstance(start, Style):
        if options.mode != "full":
            raise BadOption(f"mode {options.mode!r} does not go on from a style; mode 'full' does")
        earlier, theta = start.card, start.theta
        start = start.network
    if isinstance(start, str) and options.mode != "scratch":
        raise BadOption(f"mode {options.mode!r} starts from trained weights; give a network, not the name {start!r}")
    painting = as_path(painting, "painting")
    still = read_painting(painting)
    rgb = still.rgb
    if still.notes:
        card = {**(card or {}), "notes": list(still.notes)}
    check_kind("photos", photos, Photos)
    check_kind("measure_on", measure_on, Photos)
    photos = photos or Photos.shipped()
    measure_on = measure_on or Photos.shipped()
    compute = options.compute
    with compute.limits():
        model, vector = _start(start, options)
        model = model.to(compute.place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        vector = vector.to(compute.place).requires_grad_()
        perceptual = Perceptual(compute.dtype, compute.place, features=options.features)
        style_target = perceptual.style_target(painting_tensor(rgb, options.style_size).to(compute.place))
        crops = Crops(photos, perceptual, size=options.size, count=options.crops, seed=options.seed)

        def paint(photo: Tensor) -> Tensor:
            with compute.autocast():
                painted: Tensor = model(photo, vector)
            return painted

        def loss(step: int) -> tuple[Tensor, dict[str, float]]:
            if step % options.measure_every == 0:
                look()
            photo, content = crops.batch(options.batch, (options.seed, step))
            terms = perceptual.losses(paint(photo), content, style_target)
            return terms.total(options.loss).mean(), terms.figures()

        vector_rate, weight_rate = options.rates
        parameters = {"style.vector": (vector, vector_rate)}
        if options.mode == "vector":
            model.requires_grad_(False)
        else:
            parameters |= {key: (weight, weight_rate) for key, weight in model.named_weights()}
        warm_up = min(100, options.steps // 20) if options.mode == "scratch" else 0
        trainer = Trainer(
            parameters,
            Schedule(steps=options.steps, warm_up=warm_up),
            {
                **options.facts(),
                "arithmetic": compute.arithmetic,
                "painting": hashlib.sha256(rgb.tobytes()).hexdigest()[:16],
                "network": start if isinstance(start, str) else start.digest[:16],
                "photos": photos.digest[:16],
                "measured on": measure_on.digest[:16],
            },
        )
        middles = torch.split(measure_on.middles(options.size).to(compute.place), 1)
        targets = [perceptual.content_target(photo) for photo in middles]
        best: tuple[float, Style] | None = None

        @torch.no_grad()
        def look() -> Style:
            """Measure, note it in the curve if it is not there, and keep the style if it is the best."""
            nonlocal best
            curve = _curve(trainer)
            if not curve or curve[-1].step != trainer.step:
                sums = dict.fromkeys(Measurement._fields[1:], 0.0)
                for photo, target in zip(middles, targets, strict=True):
                    terms = perceptual.losses(paint(photo), target, style_target).figures()
                    sums = {term: sums[term] + terms[term] / len(middles) for term in sums}
                curve.append(Measurement(trainer.step, **{term: round(value, 4) for term, value in sums.items()}))
                trainer.notes["curve"] = curve
            facts = {**(card or {}), **_facts(trainer, curve, options, earlier)}
            style = _style(name or painting.stem, model, vector, options.mode, facts, start, theta)
            total = curve[-1].total(options.loss)
            if best is None or total <= best[0]:
                best = total, style
            if watch:
                watch(curve[-1], style)
            return style

        def finished(style: Style) -> Style:
            """With the contrast of the painting; a vector has no say in it."""
            if options.mode == "vector":
                return style
            photos = measure_on.middles(4 * (min(PHOTO_SIZE, options.style_size) // 4))
            network, gain = with_contrast(style.network, painting_tensor(rgb, options.style_size), photos, compute)
            return Style.of(style.name, network, theta=theta, card={**style.card, "contrast": round(gain, 3)})

        try:
            trainer.run(loss, checkpoint=checkpoint, progress=progress)
            return finished(look())
        except KeyboardInterrupt as stop:
            if trainer.step == 0:
                raise
            look()
            assert best is not None
            raise Interrupted(finished(best[1])) from stop


def _curve(trainer: Trainer) -> list[Measurement]:
    """A copy of what a run has measured so far; from a checkpoint it comes as plain lists."""
    points = trainer.notes.get("curve", [])
    assert isinstance(points, list)
    return [Measurement(*point) for point in points]


def _facts(
    trainer: Trainer, curve: list[Measurement], options: AdaptOptions, earlier: Mapping[str, Any]
) -> dict[str, object]:
    """What happened, for the card; all of it, if the run went on from a style whose card is ``earlier``."""
    done: int = earlier.get("steps", 0)
    told = [Measurement(*point) for point in earlier.get("curve", [])]
    curve = told + [point._replace(step=done + point.step) for point in curve if point.step or not told]
    before, after = ({"content": point.content, "style": point.style} for point in (curve[0], curve[-1]))
    return {
        "mode": options.mode,
        "steps": done + trainer.step,
        "seconds": round(earlier.get("seconds", 0) + trainer.seconds, 1),
        "losses": {"before": before, "after": after},
        "curve": [list(point) for point in curve],
        "style_weight": options.loss.style,
        "style_size": options.style_size,
    }


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
    theta: str | None,
) -> Style:
    numbers = vector.detach().cpu().numpy().copy()
    weights = model.weights()
    if not all(np.isfinite(array).all() for array in (numbers, *weights.values())):
        raise BadModel("the adaptation diverged (numbers are not finite any more); use smaller learning rates")
    if mode == "vector":
        assert isinstance(start, Network)
        weights = start.weights
    return Style.of(name, Network(model.shape, weights, numbers), theta=theta, card=card)
