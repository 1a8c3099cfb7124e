"""One network for one style, trained from random weights.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016. The network
is `paper` of this project (Johnson's, with instance norms and nearest upsampling), the loss is `vidstyle adapt`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from likeness import RGB

from methods import weights
from methods.base import WEIGHTS, Method, Timed
from vidstyle.models.architecture import PAPER, Network
from vidstyle.models.style import Style
from vidstyle.stylizer import Stylizer
from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute
from vidstyle.training.trainer import Checkpoint

BATCH, CROP = 2, 160
"""Crops of a step, and their side: the paper has 4 of 256."""
CROPS = 2048
"""Different crops in all."""
TIMED = 15
"""Steps by which a training is timed."""
VECTOR = "style.vector"
"""Scales and shifts of the instance norms in a file."""


class Johnson(Method):
    """Paints with the committed network of a painting, or trains one for ``steps``, as few as MetaStyle's."""

    name, paper, styles = "Johnson", "Johnson et al., ECCV 2016", "one"
    table_parameters = 1.68
    real_time = True

    def __init__(
        self,
        compute: Compute | None = None,
        *,
        folder: Path = WEIGHTS,
        steps: int = 150,
        photos: Photos | None = None,
    ) -> None:
        self.compute, self.folder, self.steps, self.photos = compute or Compute(), folder, steps, photos
        self.card: dict[str, object] = {}

    def prepare(self, painting: Path) -> None:
        file = self._file(painting)
        if file.exists():
            style = read(file)
        else:
            style = train(painting, self.photos or Photos.shipped(), self.steps, compute=self.compute)
        self.card = style.card
        self.stylizer = Stylizer(style)

    def timed(self, painting: Path) -> Timed:
        """A network that is trained for `TIMED` steps, which count as many as the one that is kept has."""
        file = self._file(painting)
        steps = weights.read(file)[1]["steps"] if file.exists() else self.steps
        fresh = Johnson(self.compute, folder=Path("none"), steps=TIMED, photos=self.photos)
        return Timed(fresh, prepare=int(str(steps)) / TIMED)

    def _file(self, painting: Path) -> Path:
        return self.folder / f"johnson-{painting.stem}.safetensors"

    def stylize(self, photo: RGB) -> RGB:
        return self.stylizer(photo)

    def parameters(self) -> int:
        return PAPER.parameter_count

    def full_size(self) -> dict[str, int]:
        return {"own": PAPER.parameter_count}

    def stored(self) -> int:
        return 2 * PAPER.parameter_count

    def note(self) -> str:
        return f"{self.card.get('steps', 0):,} steps of {BATCH} crops of {CROP} pixels (the paper: 40,000 of 4 of 256)"


def train(
    painting: Path,
    photos: Photos,
    steps: int,
    *,
    compute: Compute,
    checkpoint: Checkpoint | None = None,
    measure_on: Photos | None = None,
    watch: Callable[[Measurement, Style], None] | None = None,
) -> Style:
    """`paper` with random weights after ``steps`` steps; its card holds the curve."""
    options = AdaptOptions(
        mode="scratch", steps=steps, batch=BATCH, size=CROP, crops=CROPS, measure_every=50, compute=compute
    )
    return adapt(
        painting, "paper", options=options, photos=photos, measure_on=measure_on, checkpoint=checkpoint, watch=watch
    )


def write(path: Path, style: Style) -> None:
    """A style of `paper` in a file of `methods.weights`."""
    network = style.network
    tensors = {name: torch.from_numpy(array) for name, array in network.weights.items()}
    weights.write(path, {**tensors, VECTOR: torch.from_numpy(network.start)}, style.card)


def read(path: Path) -> Style:
    """What `write` wrote."""
    tensors, card = weights.read(path)
    arrays = {name: np.asarray(tensor.numpy(), np.float32) for name, tensor in tensors.items()}
    vector = arrays.pop(VECTOR)
    return Style.of(path.stem, Network(PAPER, arrays, vector), card=card)
