"""Stills by optimization: the pixels of one picture descend the perceptual loss (Gatys et al. 2015).

Slow, and the best that the loss can give: no network stands between the picture and the loss. The
start may be the photo, noise (Gatys et al.), or what a network painted that was adapted to the
painting for a moment (MetaStyle, Zhang et al. 2019, who propose it as the better start).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.errors import BadOption
from vidstyle.files import as_path
from vidstyle.frame import FrameFormat, as_rgb
from vidstyle.gallery import shared_network
from vidstyle.imaging import resample
from vidstyle.models.architecture import Network
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import LookOptions, check_fields, check_kind, within
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.data import painting_tensor, read_painting
from vidstyle.training.device import Compute
from vidstyle.training.loss import SMALLEST_SIDE, Losses, LossWeights, Perceptual
from vidstyle.training.trainer import Progress

RGB = NDArray[np.uint8]
Init = Literal["metastyle", "content", "noise"]

LONGER_SIDE = 512
"""A larger photo is optimized at this size unless `LookOptions.work_size` says otherwise: VGG's features
reach about 100 pixels far, so that larger pictures get strokes that look small, and take longer."""
MAX_PIXELS = 2_000_000
"""More than this is not optimized at once: it takes about 5 kB of memory a pixel, 10 GB in all."""
CROP = 192
"""Side of the crops of an adaptation, where the photo is not smaller."""
HISTORY = 20
"""Steps that L-BFGS remembers; with 100 it needs five times the memory and is not faster."""


@dataclass(frozen=True, kw_only=True)
class OptimizeOptions:
    """How the pixels of a photo become a painting."""

    init: Init = "content"
    """Where the pixels start: what the adapted network painted, the photo, or uniform noise. From the photo the loss
    ended lowest where it was measured (`benchmarks/optimize.py`), and nothing has to be adapted first."""
    iterations: int = within(300, 1, 100_000)
    """Steps of L-BFGS, each one evaluation of the loss and its gradient."""
    style_size: int | None = within(None, 32, 2048)
    """Shorter side of the painting in pixels: the larger, the larger are the strokes. None is the
    shorter side of the picture that is optimized."""
    loss: LossWeights = LossWeights(detail=0, variation=0.4)
    """What the terms of the loss count, in the adaptation too. Variation counts more than for a network,
    which cannot make speckles of single pixels so easily."""
    look: LookOptions = LookOptions()
    """What is done with the picture at the end, and with `work_size` the height at which it is optimized; no mask."""
    adapt_steps: int = within(100, 1, 100_000)
    """Steps of the adaptation for init ``metastyle``."""
    seed: int = within(0, 0, 2**31)
    """Of the noise and of the adaptation; the same seed gives the same picture."""
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.look.mask is not None:
            raise BadOption("look has a mask; pixels are optimized all together, so leave it out")


@dataclass(frozen=True, eq=False)
class Optimized:
    """A picture and how it was reached."""

    rgb: RGB
    """uint8 RGB of the photo's shape: the best picture met."""
    curve: tuple[float, ...]
    """The total loss of the start, and then after each iteration."""
    losses: dict[str, float]
    """Terms of the best picture's loss, as it was optimized: content, style, variation, total."""
    start_seconds: float
    """Time for the start: the adaptation, if there was one."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What became of the painting when it was read, one sentence each: transparent parts are laid on white."""

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return len(self.curve) - 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of `optimize`, with what was reached."""

    def __init__(self, result: Optimized) -> None:
        super().__init__()
        self.result = result
        """The best picture so far."""


def optimize(
    photo: RGB,
    painting: Path | str,
    *,
    options: OptimizeOptions | None = None,
    network: Network | None = None,
    progress: Callable[[Progress], None] | None = None,
    adapting: Callable[[Progress], None] | None = None,
) -> Optimized:
    """``photo``, uint8 RGB of shape (height, width, 3), as the file ``painting`` is painted.

    ``network`` is what init ``metastyle`` adapts, None the shipped `fast` network; ``adapting`` hears
    of that adaptation, ``progress`` of the iterations. A photo larger than the size of the
    optimization is brought back to its own size along its own edges (`vidstyle.imaging.resample.enlarge`).

    A KeyboardInterrupt after the first iteration leaves as `Interrupted`, with the best picture so
    far. Raises `ImageError` for the painting, and `BadOption` for sizes that cannot be optimized.
    """
    check_kind("options", options, OptimizeOptions)
    options = options or OptimizeOptions()
    photo = as_rgb(photo, "photo")
    form = FrameFormat(height=photo.shape[0], width=photo.shape[1], pixels="rgb")
    small_form = form.resized(work_size(form.size, options.look.work_size))
    (small,) = resample.resize((photo,), form, small_form.size)
    painting = as_path(painting, "painting")
    still = read_painting(painting)
    painted = still.rgb
    style_size = options.style_size or max(32, min(2048, *small_form.size))
    compute = options.compute

    def finished(run: _PixelDescent, start_seconds: float) -> Optimized:
        styled = (run.picture(),)
        full = resample.enlarge(styled, (small,), (photo,), small_form, form)
        if options.look.preserve_color:
            full = resample.keep_color((photo,), full, form)
        (rgb,) = resample.mix((photo,), full, options.look.strength)
        return Optimized(rgb, tuple(run.curve), run.best_losses, start_seconds, run.seconds, still.notes)

    with compute.limits():
        perceptual = Perceptual(compute.dtype, compute.place)
        content = _tensor(small).to(compute.place)
        targets = (
            perceptual.content_target(content),
            perceptual.style_target(painting_tensor(painted, style_size).to(compute.place)),
        )
        started = time.perf_counter()
        if options.init == "metastyle":
            crop = max(32, min(CROP, *small_form.size) // 4 * 4)
            own = AdaptOptions(
                steps=options.adapt_steps,
                size=crop,
                style_size=style_size,
                loss=options.loss,
                seed=options.seed,
                compute=compute,
            )
            style = adapt(painting, network or shared_network("fast"), options=own, progress=adapting)
            start = _painted(style, content)
        elif options.init == "noise":
            random = torch.Generator().manual_seed(options.seed)
            start = torch.rand(content.shape, generator=random).to(compute.place)
        else:
            start = content
        start_seconds = time.perf_counter() - started
        run = _PixelDescent(start, lambda x: perceptual.losses(x, *targets), options.loss)
        try:
            run.descend(options.iterations, progress)
        except KeyboardInterrupt as stop:
            if len(run.curve) < 2:
                raise
            raise Interrupted(finished(run, start_seconds)) from stop
        return finished(run, start_seconds)


def work_size(size: tuple[int, int], rows: int | None) -> tuple[int, int]:
    """The ``(height, width)`` at which a photo of ``size`` is optimized, never larger than the photo.

    ``rows`` is its height, None as much as `LONGER_SIDE` allows. `BadOption` when VGG would see too little of it, or
    the memory too much.
    """
    height, width = size
    if rows is None:
        # A very long picture is not made so small that nothing of its shorter side is left.
        scale = min(1.0, max(LONGER_SIDE / max(size), SMALLEST_SIDE / min(size)))
        small = round(height * scale), round(width * scale)
    else:
        small = min(rows, height), max(1, round(min(rows, height) * width / height))
    said = f"the photo has {width}x{height} pixels and would be optimized at {small[1]}x{small[0]}"
    if min(small) < SMALLEST_SIDE:
        raise BadOption(f"{said}; it needs at least {SMALLEST_SIDE} on each side, so take a larger photo or work size")
    if small[0] * small[1] > MAX_PIXELS:
        raise BadOption(f"{said}; at most {MAX_PIXELS:,} pixels fit, so give a smaller work size")
    return small


class _PixelDescent:
    """L-BFGS on the pixels of one picture, which stay in [0, 1]."""

    def __init__(self, start: Tensor, losses: Callable[[Tensor], Losses], weights: LossWeights) -> None:
        # L-BFGS flattens by `view`, which needs the plain layout.
        self._x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self._losses, self._weights = losses, weights
        self._best = start
        self.best_losses = {"total": math.inf}
        self.curve: list[float] = []
        self.seconds = 0.0

    def picture(self) -> RGB:
        """The best picture met, uint8 (height, width, 3)."""
        rounded = (self._best[0].clamp(0, 1) * 255).round().byte()
        return np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())

    def descend(self, iterations: int, progress: Callable[[Progress], None] | None) -> None:
        started = time.perf_counter()

        def evaluate() -> Tensor:
            self._x.grad = None
            # Clamping here, not at the end, lets the other pixels make up for those at the border of the
            # range: clamping a finished picture loses a tenth of what was gained.
            terms = self._losses(self._x.clamp(0, 1))
            total = terms.total(self._weights).sum()
            total.backward()  # type: ignore[no-untyped-call]
            self.curve.append(total.item())
            if self.curve[-1] < self.best_losses["total"]:
                self._best = self._x.detach().clone()
                self.best_losses = {**terms.figures(), "total": self.curve[-1]}
            self.seconds = time.perf_counter() - started
            if progress and len(self.curve) > 1:
                done = len(self.curve) - 1
                progress(Progress(done, iterations, {**terms.figures(), "total": self.curve[-1]}, self.seconds))
            return total

        while (left := iterations + 1 - len(self.curve)) > 0:
            before = len(self.curve)
            lbfgs = torch.optim.LBFGS(
                [self._x],
                max_iter=left,
                max_eval=left,
                history_size=HISTORY,
                # The gradient of a single pixel is tiny from the start; the number of iterations decides.
                tolerance_grad=0,
                tolerance_change=0,
            )
            lbfgs.step(evaluate)  # type: ignore[no-untyped-call]
            if len(self.curve) <= before + 1:
                break  # not a step could be made: the gradient vanishes


@torch.no_grad()
def _painted(style: Style, rgb: Tensor) -> Tensor:
    """What the network of ``style`` makes of ``rgb``, float (1, 3, H, W) of any size."""
    network = style.network
    height, width = rgb.shape[2:]
    rows, columns = network.architecture.padded_size((height, width))
    padded = functional.pad(rgb, (0, columns - width, 0, rows - height), mode="replicate")
    model = TransformNet.from_network(network).to(rgb.device)
    painted: Tensor = model(padded, torch.from_numpy(style.vector).to(rgb.device))
    return painted[..., :height, :width].clamp(0, 1)


def _tensor(rgb: RGB) -> Tensor:
    return torch.from_numpy(np.require(rgb, requirements=("C", "W"))).permute(2, 0, 1)[None].float() / 255.0
