"""``vidstyle image --optimize``: one still, its pixels optimized for one painting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from vidstyle.cli.terminal import echo
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import BackendName, LookOptions, Precision

if TYPE_CHECKING:
    from vidstyle.imaging.image_io import Still
    from vidstyle.training.gatys import Optimized, OptimizeOptions

F = TypeVar("F", bound=Callable[..., Any])


def optimize_options(command: F) -> F:
    """``--optimize`` and the options that go with it alone; see `Wishes`."""
    for option in (
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where --optimize computes.  [default: auto]"
        ),
        click.option("--seed", type=click.IntRange(0, 2**31), help="Same seed, same picture.  [default: 0]"),
        click.option("--content-weight", type=click.FloatRange(0, 1e6), help="More photo."),
        click.option("--tone-weight", type=click.FloatRange(0, 1e6), help="Lights stay light, darks dark."),
        click.option("--style-weight", type=click.FloatRange(0, 1e6), help="More painting."),
        click.option(
            "--style-size",
            type=click.IntRange(32, 2048),
            help="Stroke scale: shorter side of the painting.  [default: that of the photo]",
        ),
        click.option("--iterations", type=click.IntRange(1), help="Steps of --optimize.  [default: 300]"),
        click.option(
            "--init",
            type=click.Choice(["metastyle", "content", "noise"]),
            help="Start from a network adapted to the painting, the photo, or noise.  [default: content]",
        ),
        click.option(
            "--optimize",
            is_flag=True,
            help="Optimize the pixels themselves (Gatys et al.): minutes a picture, the best quality. "
            "--style is then the painting, a picture file. The options from here on are for this alone.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was said of `optimize_options`; None is what was not."""

    init: Literal["metastyle", "content", "noise"] | None
    iterations: int | None
    style_size: int | None
    style_weight: float | None
    content_weight: float | None
    tone_weight: float | None
    seed: int | None
    device: Literal["auto", "cpu", "cuda"] | None

    def refuse_without_optimize(self) -> None:
        """Raise `BadOption` if there are any."""
        given = [f"--{field.name.replace('_', '-')}" for field in fields(self) if getattr(self, field.name) is not None]
        if given:
            raise BadOption(f"{' and '.join(given)} need --optimize; give it too, or leave them out")


class Optimizer:
    """Paints a `Still` like the picture file that ``--style`` names.

    After Ctrl-C it returns the best so far, and `interrupted` tells.
    """

    def __init__(
        self,
        style: str | None,
        wishes: Wishes,
        *,
        look: LookOptions,
        backend: BackendName,
        precision: Precision,
        threads: int | None,
    ) -> None:
        self._painting = _painting(style)
        if backend not in ("auto", "torch"):
            raise BadOption(f"--optimize computes with PyTorch, not with {backend}; leave --backend out")
        if precision == "fp16":
            raise BadOption("--optimize computes in fp32 or bf16, not in fp16; leave --precision out")
        self._options = _options(wishes, look, precision, threads)
        self.interrupted = False

    def __call__(self, still: Still) -> Still:
        from vidstyle.cli.bar import Bar
        from vidstyle.training.gatys import Interrupted, optimize

        with Bar() as bar:
            try:
                result = optimize(
                    still.rgb,
                    self._painting,
                    options=self._options,
                    adapting=lambda at: bar.update(at.step, at.steps, "adapting a network for the start"),
                    progress=lambda at: bar.update(at.step, at.steps, f"loss {at.losses['total']:.3f}"),
                )
            except Interrupted as stop:
                result = stop.result
                self.interrupted = True
        self._tell(result)
        return replace(still, rgb=result.rgb, notes=(*still.notes, *result.notes))

    def _tell(self, result: Optimized) -> None:
        done = f"{result.iterations} of {self._options.iterations}" if self.interrupted else f"{result.iterations}"
        start = f", {result.start_seconds:.0f} s for the start" if self._options.init == "metastyle" else ""
        echo(
            f"{done} iterations in {result.seconds:.0f} s{start}: "
            f"loss {result.curve[0]:.3f} -> {result.losses['total']:.3f} (style {result.losses['style']:.3f}, "
            f"content {result.losses['content']:.3f})",
            err=True,
        )


def _painting(style: str | None) -> Path:
    needs = "--optimize needs the painting itself, as --style painting.jpg"
    if style is None:
        raise BadOption(f"{needs}; no --style was given")
    path = Path(style)
    if not path.is_file():
        raise BadOption(f"{needs}; {style!r} is not a file")
    if path.suffix == ".safetensors":
        raise BadOption(f"{needs}; {style} is a style file, which paints without --optimize")
    return path


def _options(wishes: Wishes, look: LookOptions, precision: Precision, threads: int | None) -> OptimizeOptions:
    try:
        from vidstyle.training.device import Compute
        from vidstyle.training.gatys import OptimizeOptions
    except ImportError as error:
        raise MissingDependency(f"--optimize needs PyTorch ({error}); pip install 'vidstyle[train]'") from error

    default = OptimizeOptions()
    weights = {"style": wishes.style_weight, "content": wishes.content_weight, "tone": wishes.tone_weight}
    return OptimizeOptions(
        init=wishes.init or default.init,
        iterations=wishes.iterations or default.iterations,
        style_size=wishes.style_size,
        loss=replace(default.loss, **{term: weight for term, weight in weights.items() if weight is not None}),
        look=look,
        seed=wishes.seed or 0,
        compute=Compute(
            device=wishes.device or "auto",
            arithmetic="auto" if precision == "fp16" else precision,
            threads=threads,
        ),
    )
