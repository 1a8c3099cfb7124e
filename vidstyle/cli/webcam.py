"""``vidstyle webcam``: a live source, painted, in a window."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.live.keys import KEYS, style_list
from vidstyle.options import BackendOptions, LiveOptions, LookOptions, SmoothOptions, StageOptions

if TYPE_CHECKING:
    from vidstyle.live.session import LiveReport, OnSound, Source

_KEYS = "\b\nKeys:\n" + "\n".join(f"  {line.shown:12}{line.help}" for line in KEYS)


def _live_options(no_window: bool, split: bool, **values: Any) -> LiveOptions:
    return LiveOptions(window=not no_window, view="split" if split else "painted", **values)


@click.command(cls=opt.SmoothCommand, epilog=_KEYS)
@opt.plain(opt.STYLE)
@opt.group(
    "source",
    dict,
    opt.option(
        "--source",
        default="0",
        help="Camera (number, name or device), `screen`, `testsrc`, a video file played in real time, or a URL (RTSP, "
        "HTTP, RTMP, SRT, UDP); whip+http://:PORT/PATH takes what OBS and others send there.",
    ),
    opt.option("--size", type=opt.FULL_SIZE, help="Size to ask the camera for.  [default: the camera's own]"),
    opt.option("--fps", type=click.FloatRange(1, 240), help="Frames a second to ask the camera for."),
    opt.flag("--loop", "Play a file again when it ends."),
)
@opt.look_options
@opt.smooth_options
@opt.group(
    "options",
    _live_options,
    opt.field(
        LiveOptions,
        "target_fps",
        "Hold this many frames a second by painting at fewer rows, down to half, when the machine is too slow.",
    ),
    opt.option(
        "--realtime/--no-realtime",
        default=True,
        help="Where a measurement at the start says that the machine is too slow for every frame, hold the source's "
        "rate as --target-fps does; not with --work-size.  [default: on]",
        show_default=False,
    ),
    opt.field(LiveOptions, "mirror", "Show the window as a mirror; recordings and streams are not mirrored."),
    opt.flag("--split", "Show the source beside the painting."),
    opt.field(LiveOptions, "full_screen", "Cover the whole screen."),
    opt.field(
        LiveOptions,
        "record",
        "Record from the start to .mp4, .mov or .mkv; a crash leaves a file that plays. Key r stops, and goes on in "
        "FILE-2.",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
    ),
    opt.option(
        "--output",
        "outputs",
        multiple=True,
        metavar="TARGET",
        help="Stream to rtmp://..., rtsp://..., whip+https://..., udp://..., a playlist.m3u8 or a file; may be given "
        "several times.",
    ),
    opt.field(LiveOptions, "virtual_camera", "Be a camera for other programs."),
    opt.field(
        LiveOptions,
        "snapshots",
        "Folder for the pictures of key s.  [default: this folder]",
        type=click.Path(path_type=Path, file_okay=False),
        show_default=False,
    ),
    opt.flag("--no-window", "Show nothing; with --record, --output or --virtual-camera."),
    opt.field(LiveOptions, "seconds", "Stop after this time.", type=opt.SECONDS),
    opt.overwrite_option("Replace files of --record and --output that exist."),
)
@opt.stage_options
@opt.gpu_backend_options
@opt.plain(
    opt.option("--microphone", metavar="NAME", help="Take the sound from this microphone instead of the source."),
    opt.json_option("Print the report as JSON on stdout at the end."),
)
@click.pass_context
def webcam(
    ctx: click.Context,
    style: str | None,
    source: dict[str, Any],
    look: LookOptions,
    smooth: SmoothOptions | None,
    options: LiveOptions,
    stage: StageOptions,
    backend: BackendOptions,
    microphone: str | None,
    as_json: bool,
) -> None:
    """Paint a camera, or another live source, as it comes.

    The figures in the window's corner are frames a second, latency and dropped frames. Latency counts from the
    moment a frame came in here to the moment it went out to the display; what the camera takes before that (often 30
    to 100 ms) and the display after it are unknown here and not in it. The newest frame wins: what comes while the
    machine is busy is dropped and counted.

    A style keeps the size of its strokes in the pixels that it is painted at, so --work-size and --target-fps make
    strokes larger where they make the painting faster.

    q, Esc, the window's close button and Ctrl-C all end it properly.
    """
    from vidstyle.gallery import DEFAULT_STYLE
    from vidstyle.live.session import Live
    from vidstyle.video.capture.microphone import Microphone

    styles, index = style_list(style or DEFAULT_STYLE)
    live = Live(
        lambda on_sound: _open(**source, on_sound=on_sound),
        styles,
        index=index,
        look=look,
        smooth=smooth,
        backend=backend,
        options=options,
        stage=stage,
        open_microphone=partial(Microphone, microphone) if microphone else None,
        on_start=_say_what_runs,
    )
    report = live.run()
    if as_json:
        echo_json(dataclasses.asdict(report))
    else:
        echo(_closing_line(report))
    if report.dropped > report.shown and look.work_size is None and options.target_fps is None:
        echo("Most pictures were not painted in time; a smaller --work-size, or --target-fps N, is faster.", err=True)
    for sentence in report.problems:
        echo(f"Problem: {sentence}", err=True)
    broken = [output for output in report.outputs if output.failed is not None]
    for output in broken:
        echo(f"Error: {output.name}: {output.failed}", err=True)
    if broken:
        ctx.exit(1)


def _open(source: str, *, on_sound: OnSound | None, **wishes: Any) -> Source:
    from vidstyle.video.capture import Capture

    if not source.startswith("whip+"):
        return Capture(source, **wishes, on_sound=on_sound)
    if names := [f"--{name}" for name, wish in wishes.items() if wish]:
        raise BadOption(f"{' and '.join(names)} cannot be asked of a sender by WHIP; leave it out")
    try:
        from vidstyle.video.capture.whip import WhipSource
    except ImportError as error:
        raise MissingDependency(f"WHIP needs aiortc and aiohttp ({error}): pip install 'vidstyle[serve]'") from error
    return WhipSource(source, on_sound=on_sound, on_waiting=lambda url: echo(f"Send by WHIP to {url}", err=True))


def _say_what_runs(report: LiveReport) -> None:
    echo(f"Source: {report.source}", err=True)
    echo(f"Painting {report.style} at {report.width}x{report.height} on {report.backend}", err=True)
    if report.realtime:
        echo(f"Real time: {report.realtime}", err=True)
    for output in report.outputs:
        echo(f"To {output.name}", err=True)
    for description in report.stage:
        echo(description, err=True)


def _closing_line(report: LiveReport) -> str:
    parts = [
        f"{report.shown} frames in {report.seconds:.1f} s ({report.fps:.1f} fps)",
        f"latency {report.latency_median_ms:.0f} ms, p99 {report.latency_p99_ms:.0f}",
        f"dropped {report.dropped}",
        f"reconnects {report.reconnects}",
    ]
    if report.osc_messages:
        parts.append(f"OSC messages {report.osc_messages}, bad {report.osc_refused}")
    for what, names in (("recorded", report.recordings), ("saved", report.snapshots)):
        if names:
            parts.append(f"{what} {', '.join(names)}")
    return "; ".join(parts)
