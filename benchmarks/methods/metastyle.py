"""A network that was trained to be adapted: 150 gradient steps on one painting make a style.

Zhang, Zhu, Zhu, "MetaStyle: Three-Way Trade-Off Among Speed, Flexibility, and Quality in Neural Style Transfer", AAAI
2019; this project. `paper` is Johnson's network, `fast` the one for real time on CPUs. The vector form adapts the
scales and shifts of the instance norms alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from likeness import RGB

from methods.base import Method, Timed
from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.models.architecture import ARCHITECTURES
from vidstyle.models.style import Style
from vidstyle.options import NetworkName
from vidstyle.stylizer import Stylizer
from vidstyle.training.adapt import AdaptOptions, Mode, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute

STEPS = 150
TIMED = 5
"""An adaptation is timed by one of so many parts of its steps."""


class MetaStyle(Method):
    paper, styles = "Zhang et al., AAAI 2019", "any"
    real_time = True

    def __init__(
        self,
        network: NetworkName = "fast",
        mode: Mode = "full",
        compute: Compute | None = None,
        *,
        steps: int = STEPS,
        options: AdaptOptions | None = None,
        photos: Photos | None = None,
        gallery: bool = False,
    ) -> None:
        self.options = options or AdaptOptions(mode=mode, steps=steps, compute=compute or Compute())
        self.network, self.photos, self.gallery = network, photos, gallery
        self.name = f"MetaStyle `{network}`" + (", vector" if self.options.mode == "vector" else "")
        self.table_parameters = 1.68 if network == "paper" else None
        self.card: dict[str, object] = {}

    def prepare(self, painting: Path) -> None:
        known = self._known(painting) if self.gallery else None
        style = known or adapt(painting, shared_network(self.network), options=self.options, photos=self.photos)
        self.card = style.card
        self.stylizer = Stylizer(style)

    def timed(self, painting: Path) -> Timed:
        steps = max(1, self.options.steps // TIMED)
        fresh = MetaStyle(self.network, options=replace(self.options, steps=steps), photos=self.photos)
        return Timed(fresh, prepare=self.options.steps / steps)

    def _known(self, painting: Path) -> Style | None:
        """The gallery's style: ``auvers`` is that of ``auvers_panoramic_view.jpg``, too."""
        styles = [load_style(name) for name in style_names() if f"{painting.stem}_".startswith(f"{Path(name).name}_")]
        return next((s for s in styles if (s.network_name, s.card["mode"]) == (self.network, self.options.mode)), None)

    def stylize(self, photo: RGB) -> RGB:
        return self.stylizer(photo)

    def parameters(self) -> int:
        return ARCHITECTURES[self.network].parameter_count

    def full_size(self) -> dict[str, int]:
        return {"own": self.parameters()}

    def stored(self) -> int:
        shape = ARCHITECTURES[self.network]
        return 2 * (shape.style_size if self.options.mode == "vector" else shape.parameter_count)

    def note(self) -> str:
        return f"{self.card.get('steps', self.options.steps)} steps"
