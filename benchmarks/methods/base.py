"""The contract of every method: a painting is prepared once, then photos are stylized like it.

Photos and results are uint8 RGB of shape (H, W, 3), values 0-255, H and W at least 32; a result has its photo's shape.
A painting is a picture file, read at a shorter side of `STYLE_SIZE` pixels: that is how large its strokes are.
Times are those of the two calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from likeness import RGB, tensor
from quality import pixels
from torch import Tensor, nn
from torch.nn import functional

from methods import weights
from methods.decoder import Decoder
from methods.vgg import Encoder
from vidstyle.training.data import painting_tensor, read_picture
from vidstyle.training.device import Compute

STYLE_SIZE = 384
"""Pixels of a painting's shorter side, as `vidstyle adapt` has it."""
WEIGHTS = Path(__file__).parent / "weights"
"""Trained weights that are committed."""


class Method(ABC):
    """One row of the table."""

    name: str
    """In the table and on the command line."""
    paper: str
    """Authors, year, and where it was published."""
    styles: Literal["one", "any"]
    """How many paintings one set of weights serves."""
    table_parameters: float | None
    """Millions of parameters that the table of the MetaStyle paper gives."""
    real_time: bool = False
    """Whether it is meant for the frames of a video."""

    @abstractmethod
    def prepare(self, painting: Path) -> None:
        """Everything that depends on the painting alone; `stylize` then paints like it, until the next call."""

    @abstractmethod
    def stylize(self, photo: RGB) -> RGB:
        """The photo, painted."""

    @abstractmethod
    def parameters(self) -> int | None:
        """Parameters of the networks that `stylize` runs here; None where there is none but the loss's."""

    def full_size(self) -> dict[str, int]:
        """Parameters of the paper's networks, counted on their shapes: ``vgg19`` as published, ``vgg16`` where that
        differs, or ``own`` where no VGG is counted. Empty where the table counts nothing."""
        return {}

    @abstractmethod
    def stored(self) -> int:
        """Bytes of the weights on disk that it needs to paint, VGG-16's (FP16) included where it runs."""

    def timed(self, painting: Path) -> Timed:
        """What is timed in its place, not yet prepared: another method where the pictures are by a smaller network
        than the paper's, or where a part of the iterations or steps tells the whole."""
        return Timed(self)

    def note(self) -> str:
        """What differs from the paper."""
        return ""


class FeatureMethod(Method):
    """A method on VGG-16's features and float tensors: RGB in [0, 1] of shape (1, 3, H, W), sides multiples of
    `MULTIPLE_OF`. ``file`` holds another decoder than the committed one."""

    styles = "any"
    MULTIPLE_OF = 8
    TRAINED = WEIGHTS / "decoder.safetensors"

    def __init__(self, compute: Compute | None = None, file: Path | None = None) -> None:
        self.file, self.compute = file or self.TRAINED, compute or Compute()
        self.encoder = Encoder(self.compute.dtype)
        self.decoder = Decoder.trained(self.file, self.compute.dtype)

    def note(self) -> str:
        steps = weights.read(self.file)[1]["steps"]
        return f"VGG-16 up to relu4_1 (the paper: VGG-19); decoder of 1.5 M, {steps:,} steps"

    @torch.no_grad()
    def prepare(self, painting: Path) -> None:
        self.see(painting_tensor(read_picture(painting), STYLE_SIZE))

    @torch.no_grad()
    def stylize(self, photo: RGB) -> RGB:
        height, width = photo.shape[:2]
        rows, columns = (-side % self.MULTIPLE_OF for side in (height, width))
        padded = functional.pad(tensor(photo), (0, columns, 0, rows), mode="replicate")
        painted = self.paint(padded.to(memory_format=torch.channels_last)).float()
        return pixels(painted[..., :height, :width].clamp(0, 1))

    @abstractmethod
    def see(self, painting: Tensor) -> None:
        """Keep what `paint` needs of a painting of any size."""

    @abstractmethod
    def paint(self, photo: Tensor) -> Tensor:
        """Of the photo's shape; values may leave [0, 1]."""


class Timed(NamedTuple):
    """What is timed, and how many times its two calls count."""

    method: Method
    prepare: float = 1.0
    stylize: float = 1.0


def parameter_count(*modules: nn.Module | Iterable[Tensor]) -> int:
    """Numbers in all parameters of the modules, or in the tensors given."""
    lists = [module.parameters() if isinstance(module, nn.Module) else module for module in modules]
    return sum(tensor.numel() for tensors in lists for tensor in tensors)
