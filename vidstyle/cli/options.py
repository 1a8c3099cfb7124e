"""Options of the command line: parameter types, and groups of options that reach a command as one built object."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, get_origin

import click

from vidstyle.cli.terminal import echo
from vidstyle.errors import MissingDependency
from vidstyle.options import (
    BackendOptions,
    LookOptions,
    NetworkName,
    SmoothOptions,
    StageOptions,
    kinds_of_fields,
)

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.models.timeline import Timeline

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)


def text_type(name: str, convert: Callable[[str], object]) -> click.ParamType[Any]:
    """The type of an option whose text ``convert`` reads, called ``name`` in the help."""
    # A default may be a number.
    found: click.ParamType[Any] = click.types.FuncParamType(lambda value: convert(str(value)))
    found.name = name
    return found


def _size(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"(?:(\d{1,6})[xX×])?(\d{1,6})", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size; write WIDTHxHEIGHT, like 1280x720, or a height, like 720")
    width, height = match.groups()
    return int(height), int(width) if width else None


def _full_size(text: str) -> tuple[int, int]:
    height, width = _size(text)
    if width is None:
        raise click.BadParameter(f"{text!r} lacks the width; write WIDTHxHEIGHT, like 1280x720")
    return height, width


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time; write seconds, like 12.5, or m:ss or h:mm:ss")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _style_at(text: str) -> tuple[float, str]:
    time, equals, style = text.partition("=")
    if not equals or not style.strip():
        raise click.BadParameter(f"{text!r} is not a time and a style; write TIME=STYLE, like 0:05=the_scream")
    return _seconds(time), style.strip()


SIZE = text_type("WxH|H", _size)
"""``1280x720`` as ``(720, 1280)``, ``720`` as ``(720, None)``: people write the width first."""
FULL_SIZE = text_type("WxH", _full_size)
SECONDS = text_type("TIME", _seconds)
"""``90``, ``1:30`` or ``0:01:30.5`` in seconds."""
STYLE_AT = text_type("TIME=STYLE", _style_at)
"""``0:05=the_scream`` as ``(5.0, "the_scream")``."""


class SmoothCommand(click.Command):
    """A command with `smooth_options`: ``--smooth`` takes the next word only if that is a number.

    Else click would take the file name of ``vidstyle render --smooth IN OUT`` for the strength.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        for index, word in enumerate(options):
            following = options[index + 1] if index + 1 < len(options) else ""
            if word == "--smooth" and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", following):
                args[index] = f"--smooth={SmoothOptions().strength}"
        return super().parse_args(ctx, args)


def option(*names: str, **settings: Any) -> click.Option:
    """An option as click has it; its default is shown if it has one."""
    settings.setdefault("show_default", settings.get("default") is not None)
    return click.Option(names, **settings)


def field(options: type, name: str, help: str, *names: str, **settings: Any) -> click.Option:
    """The option for field ``name`` of the dataclass ``options``: with the field's type, range and default."""
    spec = next(one for one in fields(options) if one.name == name)
    kind = kinds_of_fields(options)[name]
    found: dict[str, Any] = {"help": help, "default": None if spec.default is MISSING else spec.default}
    if get_origin(kind) is Literal:
        found["type"] = click.Choice(get_args(kind))
    elif kind is bool:
        found = {"help": help, "is_flag": True}
    elif "range" in spec.metadata:
        found["type"] = (click.IntRange if kind is int else click.FloatRange)(*spec.metadata["range"])
    return option(*(names or (f"--{name.replace('_', '-')}",)), name, **found | settings)


def group(into: str, build: Callable[..., object], *options: click.Option) -> Callable[[F], F]:
    """A decorator that adds ``options`` to a command, which gets what ``build`` makes of them as ``into``.

    ``build`` is called with the values by name.
    """
    names = [str(one.name) for one in options]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def built(*arguments: Any, **values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(*arguments, **values, **{into: build(**own)})

        return cast(F, plain(*options)(built))

    return decorate


def plain(*options: click.Option) -> Callable[[F], F]:
    """A decorator that adds ``options``, in this order, to a command."""

    def decorate(command: F) -> F:
        for one in reversed(options):
            command = click.option(cls=cast(Any, lambda *_, one=one, **__: one))(command)
        return command

    return decorate


def given(values: dict[str, Any]) -> dict[str, Any]:
    """What of ``values`` is not None: what was said on the command line."""
    return {name: value for name, value in values.items() if value is not None}


@contextlib.contextmanager
def needs_torch(what: str, instead: str = "") -> Iterator[None]:
    """The error where PyTorch, which is imported within the block, is missing."""
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{what} needs PyTorch ({error}); pip install 'vidstyle[train]'{instead}") from error


def flag(name: str, help: str = "", *names: str, **settings: Any) -> click.Option:
    return click.Option((name, *names), is_flag=True, help=help, **settings)


def overwrite_option(help: str) -> click.Option:
    return flag("--overwrite", help, "-y")


def json_option(help: str = "Print the report as JSON on stdout.") -> click.Option:
    return flag("--json", help, "as_json")


STYLE = option(
    "-s",
    "--style",
    metavar="NAME|FILE[:WEIGHT],...",
    help="Shipped style, style or engine file, or a blend: great_wave:0.7,the_scream:0.3.  [default: starry_night]",
)
"""The text that `vidstyle.gallery.load_blend` reads."""
THREADS = field(BackendOptions, "threads", "CPU threads.  [default: all cores]")
PRECISION = field(BackendOptions, "precision", "Arithmetic; auto is what the processor is fastest in.")
DEVICE = field(BackendOptions, "device", "What OpenVINO runs on: Intel graphics, an NPU.  [default: CPU]")
BACKEND = field(BackendOptions, "backend", "Inference library; one that is missing is an error.")
GPU = field(BackendOptions, "gpu", "Run on NVIDIA GPU number N, from 0.", metavar="N")
REBUILD = field(BackendOptions, "rebuild", "Build an engine file again where it does not fit this machine.")

backend_options = group("backend", BackendOptions, BACKEND, DEVICE, PRECISION, THREADS)
gpu_backend_options = group("backend", BackendOptions, BACKEND, DEVICE, PRECISION, THREADS, GPU, REBUILD)
still_backend_options = group("backend", BackendOptions, BACKEND, PRECISION, THREADS, GPU, REBUILD)
"""For a command whose ``--device`` is PyTorch's."""
look_options = group(
    "look",
    LookOptions,
    field(LookOptions, "strength", "Mix with the source."),
    field(LookOptions, "preserve_color", "Keep the source's colors, paint only its light."),
    field(
        LookOptions,
        "work_size",
        "Stylize at this height, then upscale guided by the source: larger strokes, more speed.  "
        "[default: every row, or 720 of larger frames]",
        metavar="ROWS",
    ),
    field(
        LookOptions,
        "mask",
        "Paint only people, only what is behind them, or only where a gray picture or video is white.",
        metavar="person|background|FILE",
    ),
    field(
        LookOptions,
        "elsewhere",
        "Outside of the mask paint in this style, of the same network.  [default: the source]",
        "--style-elsewhere",
        metavar="NAME|FILE",
    ),
)
smooth_options = group(
    "smooth",
    lambda smooth: SmoothOptions(strength=smooth) if smooth else None,
    option(
        "--smooth",
        type=click.FloatRange(0, 1),
        metavar="[S]",
        help="Take the flicker out: bare with strength 0.7, --smooth=0.3 less, --smooth=1 most.  [default: off]",
    ),
)
"""For a `SmoothCommand`."""

stage_options = group(
    "stage",
    StageOptions,
    field(
        StageOptions,
        "osc",
        "Take OSC messages on this UDP port; without a host from this machine alone.",
        metavar="[HOST:]PORT",
    ),
    field(StageOptions, "osc_out", "Send frames a second, latency and style as OSC.", metavar="HOST:PORT"),
    field(
        StageOptions,
        "midi_clock",
        "Take the beat from this MIDI input, or one with that in its name; `auto` is the only one.",
        metavar="NAME",
    ),
    field(StageOptions, "quantize", "Let changes of style and view wait for the next beat, or bar of four."),
    field(StageOptions, "pulse", "Let the strength sink by this share between two beats.", metavar="SHARE"),
)


def chosen_style(style: str | None) -> Style:
    """The style asked for, or the default one, which is then named on stderr."""
    from vidstyle.gallery import DEFAULT_STYLE, load_blend

    if style is None:
        style = DEFAULT_STYLE
        echo(f"Style: {style} (choose another with --style; `vidstyle styles` lists them)", err=True)
    return load_blend(style)


def _timeline(style: str | None, style_at: tuple[tuple[float, str], ...], fade: float | None) -> Style | Timeline:
    from vidstyle.models.timeline import Timeline

    if not style_at:
        if fade is not None:
            raise click.UsageError("--fade is for a style that changes; say when with --style-at TIME=STYLE")
        return chosen_style(style)
    if style is not None and style_at[0][0] == 0:
        raise click.UsageError("--style holds until the first --style-at, which is at 0:00; leave out one of the two")
    first = [] if style is None else [(0.0, style)]
    return Timeline([*first, *style_at], fade=1.0 if fade is None else fade)


timeline_options = group(
    "style",
    _timeline,
    STYLE,
    option(
        "--style-at",
        type=STYLE_AT,
        multiple=True,
        help="Be fully in STYLE at TIME of the output; give it once for each change. Until the first of them the "
        "picture is in --style, or else in the first one's style.",
    ),
    option(
        "--fade",
        type=SECONDS,
        help="Fade for this long before the time of each --style-at, at most from the one before it; "
        "0 cuts.  [default: 1]",
    ),
)
"""The style of each moment: a `Style` or a `Timeline`."""

WEIGHTS = click.FloatRange(0, 1e6)
SIDE = click.IntRange(32, 2048)
DEVICES = click.Choice(["auto", "cpu", "cuda"])
SEED = click.IntRange(0, 2**31)


def weight_options(detail: int = 4, contrast: int = 0) -> tuple[click.Option, ...]:
    """The weights of the loss: ``style_weight``, ``content_weight``, and so on, see `weights_of`."""
    return (
        option("--style-weight", type=WEIGHTS, help="More painting.  [default: 10]"),
        option("--content-weight", type=WEIGHTS, help="More photo.  [default: 1]"),
        option("--detail-weight", type=WEIGHTS, help=f"Edges and faces stay whole.  [default: {detail}]"),
        option("--contrast-weight", type=WEIGHTS, help=f"As bold as the painting.  [default: {contrast}]"),
        option("--tone-weight", type=WEIGHTS, help="Lights stay light, darks dark.  [default: 1]"),
    )


def weights_of(values: dict[str, Any]) -> dict[str, float]:
    """What `weight_options` have in ``values``, taken out of it: by term, without those that were not given."""
    return given({term: values.pop(f"{term}_weight") for term in ("style", "content", "detail", "contrast", "tone")})


def network_option(help: str, default: NetworkName | None = "fast") -> click.Option:
    return option("--network", type=click.Choice(get_args(NetworkName)), default=default, help=help)


COMPUTE = (
    option(
        "--perceptual",
        "features",
        type=click.Choice(["shipped", "torchvision"]),
        default="shipped",
        help="Whose copy of VGG-16 the loss takes.",
    ),
    option("--device", type=DEVICES, default="auto"),
    option("--arithmetic", type=click.Choice(["auto", "fp32", "bf16"]), default="auto"),
    option("--threads", type=click.IntRange(1, 1024), help="CPU threads."),
)
"""What a training computes with; see `compute_of`."""


def compute_of(values: dict[str, Any]) -> dict[str, Any]:
    """What `COMPUTE` has in ``values``, taken out of it, but for ``features``: what `Compute` takes."""
    return {name: values.pop(name) for name in ("device", "arithmetic", "threads")}
