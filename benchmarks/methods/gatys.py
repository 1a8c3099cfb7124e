"""The pixels themselves descend the loss: minutes a picture, and no network.

Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015; it is `vidstyle image --optimize`. With
``start="metastyle"`` the pixels start as an adapted network painted them, as the MetaStyle paper proposes.
"""

from __future__ import annotations

from pathlib import Path

from likeness import RGB

from methods.base import STYLE_SIZE, Method, Timed
from vidstyle.data import VGG_FILE
from vidstyle.options import LookOptions
from vidstyle.training.device import Compute
from vidstyle.training.gatys import Init, Optimized, OptimizeOptions, optimize
from vidstyle.training.loss import LossWeights

ITERATIONS, TIMED = 60, 10


class Gatys(Method):
    name, paper, styles = "Gatys", "Gatys et al., 2015", "any"
    table_parameters = None

    def __init__(
        self,
        compute: Compute | None = None,
        iterations: int = ITERATIONS,
        *,
        init: Init = "content",
        loss: LossWeights | None = None,
    ) -> None:
        self.options = OptimizeOptions(
            init=init,
            iterations=iterations,
            style_size=STYLE_SIZE,
            loss=loss or OptimizeOptions().loss,
            compute=compute or Compute(),
        )

    def prepare(self, painting: Path) -> None:
        self.painting = painting

    def optimized(self, photo: RGB) -> Optimized:
        """The picture and its curve."""
        rows = LookOptions(work_size=photo.shape[0])
        options = OptimizeOptions(**{**vars(self.options), "look": rows})
        return optimize(photo, self.painting, options=options)

    def stylize(self, photo: RGB) -> RGB:
        return self.optimized(photo).rgb

    def timed(self, painting: Path) -> Timed:
        return Timed(Gatys(self.options.compute, TIMED), stylize=self.options.iterations / TIMED)

    def parameters(self) -> None:
        return None

    def note(self) -> str:
        return f"{self.options.iterations} iterations (timed by {TIMED}), the first photo alone"

    def stored(self) -> int:
        return VGG_FILE.stat().st_size
