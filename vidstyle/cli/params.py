"""What several commands share on the command line: parameter types and groups of options."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from vidstyle.cli.terminal import echo
from vidstyle.options import BackendName, BackendOptions, LookOptions, Precision, SmoothOptions

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.models.timeline import Timeline

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType[tuple[int, int | None]]):
    """``1280x720`` as ``(720, 1280)``, ``720`` as ``(720, None)``: people write the width first."""

    name = "WxH|H"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        match = re.fullmatch(r"(?:(\d{1,6})[xX×])?(\d{1,6})", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write WIDTHxHEIGHT, like 1280x720, or a height, like 720", param, ctx)
        width, height = match.groups()
        return int(height), int(width) if width else None


class FullSize(click.ParamType[tuple[int, int]]):
    """``1280x720`` as ``(720, 1280)``, where both sides are needed."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        height, width = Size().convert(value, param, ctx)
        if width is None:
            self.fail(f"{value!r} lacks the width; write WIDTHxHEIGHT, like 1280x720", param, ctx)
        return height, width


class Seconds(click.ParamType[float]):
    """``90``, ``1:30`` or ``0:01:30.5`` in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a time; write seconds, like 12.5, or m:ss or h:mm:ss", param, ctx)
        hours, minutes, seconds = match.groups()
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


class StyleAt(click.ParamType[tuple[float, str]]):
    """``0:05=the_scream`` as ``(5.0, "the_scream")``."""

    name = "TIME=STYLE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, str]:
        time, equals, style = str(value).partition("=")
        if not equals or not style.strip():
            self.fail(f"{value!r} is not a time and a style; write TIME=STYLE, like 0:05=the_scream", param, ctx)
        return Seconds().convert(time, param, ctx), style.strip()


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


def style_option(command: F) -> F:
    """``--style``, ending up as the text that `vidstyle.gallery.load_blend` reads."""
    return click.option(
        "-s",
        "--style",
        metavar="NAME|FILE[:WEIGHT],...",
        help="Shipped style, style or engine file, or a blend: great_wave:0.7,the_scream:0.3.  [default: starry_night]",
    )(command)


def timeline_options(command: F) -> F:
    """``--style-at`` and ``--fade``; see `chosen_timeline`."""
    for option in (
        click.option(
            "--fade",
            type=Seconds(),
            help="Fade for this long before the time of each --style-at, at most from the one before it; "
            "0 cuts.  [default: 1]",
        ),
        click.option(
            "--style-at",
            type=StyleAt(),
            multiple=True,
            help="Be fully in STYLE at TIME of the output; give it once for each change. Until the first of them the "
            "picture is in --style, or else in the first one's style.",
        ),
    ):
        command = option(command)
    return command


def look_options(command: F) -> F:
    """``--strength``, ``--preserve-color`` and ``--work-size``; see `look_from`."""
    for option in (
        click.option(
            "--work-size",
            type=click.IntRange(16, 16384),
            metavar="ROWS",
            help="Stylize at this height, then upscale guided by the source: larger strokes, more speed.  "
            "[default: every row, or 720 of larger frames]",
        ),
        click.option("--preserve-color", is_flag=True, help="Keep the source's colors, paint only its light."),
        click.option(
            "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Mix with the source."
        ),
    ):
        command = option(command)
    return command


def smooth_options(command: F) -> F:
    """``--smooth``, for a `SmoothCommand`; see `smooth_from`."""
    return click.option(
        "--smooth",
        type=click.FloatRange(0, 1),
        metavar="[S]",
        help="Take the flicker out: bare with strength 0.7, --smooth=0.3 less, --smooth=1 most.  [default: off]",
    )(command)


def backend_options(command: F) -> F:
    """``--backend``, ``--precision`` and ``--threads``; see `backend_from`."""
    for option in (
        click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all cores]"),
        click.option(
            "--precision",
            type=click.Choice(get_args(Precision)),
            default="auto",
            show_default=True,
            help="Arithmetic; auto is bf16 where the CPU has it.",
        ),
        click.option(
            "--backend",
            type=click.Choice(get_args(BackendName)),
            default="auto",
            show_default=True,
            help="Inference library; one that is missing is an error.",
        ),
    ):
        command = option(command)
    return command


def gpu_options(command: F) -> F:
    """``--gpu`` and ``--rebuild``; see `backend_from`."""
    for option in (
        click.option("--rebuild", is_flag=True, help="Build an engine file again where it does not fit this machine."),
        click.option("--gpu", type=click.IntRange(0, 1023), metavar="N", help="Run on NVIDIA GPU number N, from 0."),
    ):
        command = option(command)
    return command


def look_from(strength: float, preserve_color: bool, work_size: int | None) -> LookOptions:
    """The options of `look_options` as the library takes them."""
    return LookOptions(strength=strength, preserve_color=preserve_color, work_size=work_size)


def smooth_from(smooth: float | None) -> SmoothOptions | None:
    """The option of `smooth_options` as the library takes it; None is no smoothing."""
    return SmoothOptions(strength=smooth) if smooth else None


def backend_from(
    backend: BackendName, precision: Precision, threads: int | None, gpu: int | None = None, rebuild: bool = False
) -> BackendOptions:
    """The options of `backend_options` and `gpu_options` as the library takes them."""
    return BackendOptions(backend=backend, precision=precision, threads=threads, gpu=gpu, rebuild=rebuild)


def chosen_style(style: str | None) -> Style:
    """The style asked for, or the default one, which is then named on stderr."""
    from vidstyle.gallery import default_style_name, load_blend

    if style is None:
        style = default_style_name()
        echo(f"Style: {style} (choose another with --style; `vidstyle styles` lists them)", err=True)
    return load_blend(style)


def chosen_timeline(style: str | None, style_at: tuple[tuple[float, str], ...], fade: float | None) -> Style | Timeline:
    """The styles of `timeline_options`, or without any the one of `chosen_style`."""
    from vidstyle.models.timeline import Timeline

    if not style_at:
        if fade is not None:
            raise click.UsageError("--fade is for a style that changes; say when with --style-at TIME=STYLE")
        return chosen_style(style)
    if style is not None and style_at[0][0] == 0:
        raise click.UsageError("--style holds until the first --style-at, which is at 0:00; leave out one of the two")
    first = [] if style is None else [(0.0, style)]
    return Timeline([*first, *style_at], fade=1.0 if fade is None else fade)
