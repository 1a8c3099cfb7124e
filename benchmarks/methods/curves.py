"""The curves of the paper: pixels that start as MetaStyle painted them, and Johnson's network against MetaStyle's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likeness import RGB

from methods import johnson
from methods.base import WEIGHTS
from methods.gatys import Gatys
from vidstyle.gallery import shared_network
from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute
from vidstyle.training.gatys import Init
from vidstyle.training.loss import LossWeights

STRONG = LossWeights(style=100, detail=0, variation=0.4)
"""At this weight of the style, pixels become strokes; with the 10 of a network they stay a photo of other colors."""
STARTS: tuple[Init, ...] = ("content", "noise", "metastyle")


def starts(photo: RGB, painting: Path, iterations: int, compute: Compute) -> dict[str, Any]:
    """The loss of Gatys by iteration from each of `STARTS`, and what the start took; and the pictures."""
    found: dict[str, Any] = {}
    for init in STARTS:
        method = Gatys(compute, iterations, init=init, loss=STRONG)
        method.prepare(painting)
        reached = method.optimized(photo)
        found[init] = {
            "curve": list(reached.curve),
            "start_seconds": reached.start_seconds,
            "seconds": reached.seconds,
            "losses": reached.losses,
            "picture": reached.rgb,
        }
    return found


def steps(painting: Path, photos: Photos, compute: Compute, every: int = 25) -> dict[str, list[tuple[int, float]]]:
    """The loss of `paper` by step: from random weights, as its committed file says, and from the shared network; on the
    photos that ship, which neither learned on."""
    options = AdaptOptions(
        batch=johnson.BATCH, size=johnson.CROP, crops=johnson.CROPS, measure_every=every, compute=compute
    )
    style = adapt(painting, shared_network("paper"), options=options, photos=photos)
    cards = {
        "MetaStyle": style.card,
        "Johnson": johnson.read(WEIGHTS / f"johnson-{painting.stem}.safetensors").card,
    }
    return {
        name: [(point.step, point.total(options.loss)) for point in (Measurement(*row) for row in card["curve"])]  # type: ignore[attr-defined]
        for name, card in cards.items()
    }
