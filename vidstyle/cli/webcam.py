"""``vidstyle webcam``: a live source, painted, in a window."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidstyle.cli.params import (
    FullSize,
    Seconds,
    SmoothCommand,
    backend_from,
    backend_options,
    gpu_options,
    look_from,
    look_options,
    smooth_from,
    smooth_options,
    style_option,
)
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.options import BackendName, Precision

if TYPE_CHECKING:
    from vidstyle.live.report import LiveReport

_KEYS = """\b
Keys:
  n p           next, previous style        1 ... 9 0  style by number
  [ ]           blend with the next style   + -        strength
  o             painted, split, original    m          mirror
  s             snapshot                    r          record on, off
  space         pause                       f          full screen
  h             help                        q Esc      quit
"""


@click.command(cls=SmoothCommand, epilog=_KEYS)
@style_option
@click.option(
    "--source",
    default="0",
    show_default=True,
    help="Camera (number, name or device), `screen`, `testsrc`, a video file played in real time, or a URL (RTSP, "
    "HTTP, RTMP, SRT, UDP).",
)
@click.option("--size", type=FullSize(), help="Size to ask the camera for.  [default: the camera's own]")
@click.option("--fps", type=click.FloatRange(1, 240), help="Frames a second to ask the camera for.")
@click.option("--loop", is_flag=True, help="Play a file again when it ends.")
@look_options
@smooth_options
@click.option(
    "--target-fps",
    type=click.FloatRange(1, 240),
    help="Hold this many frames a second by painting at fewer rows, down to half, when the machine is too slow.",
)
@click.option("--mirror", is_flag=True, help="Show the window as a mirror; recordings and streams are not mirrored.")
@click.option("--split", is_flag=True, help="Show the source beside the painting.")
@click.option("--full-screen", is_flag=True, help="Cover the whole screen.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Record from the start to .mp4, .mov or .mkv; a crash leaves a file that plays. Key r stops, and goes on in "
    "FILE-2.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="TARGET",
    help="Stream to rtmp://..., rtsp://..., udp://..., a playlist.m3u8 or a file; may be given several times.",
)
@click.option("--virtual-camera", is_flag=True, help="Be a camera for other programs.")
@click.option("--microphone", metavar="NAME", help="Take the sound from this microphone instead of the source.")
@click.option(
    "--snapshots",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the pictures of key s.  [default: this folder]",
)
@click.option("--no-window", is_flag=True, help="Show nothing; with --record, --output or --virtual-camera.")
@click.option("--seconds", type=Seconds(), help="Stop after this time.")
@backend_options
@gpu_options
@click.option("--overwrite", "-y", is_flag=True, help="Replace files of --record and --output that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout at the end.")
@click.pass_context
def webcam(
    ctx: click.Context,
    style: str | None,
    source: str,
    size: tuple[int, int] | None,
    fps: float | None,
    loop: bool,
    strength: float,
    preserve_color: bool,
    work_size: int | None,
    smooth: float | None,
    target_fps: float | None,
    mirror: bool,
    split: bool,
    full_screen: bool,
    record: Path | None,
    outputs: tuple[str, ...],
    virtual_camera: bool,
    microphone: str | None,
    snapshots: Path,
    no_window: bool,
    seconds: float | None,
    backend: BackendName,
    precision: Precision,
    threads: int | None,
    gpu: int | None,
    rebuild: bool,
    overwrite: bool,
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
    if no_window and not (record or outputs or virtual_camera):
        raise click.UsageError("--no-window shows nothing: give --record, --output or --virtual-camera, too")

    from vidstyle.gallery import default_style_name
    from vidstyle.live.live import Live
    from vidstyle.live.options import LiveOptions
    from vidstyle.live.repertoire import repertoire
    from vidstyle.live.source import Microphone as OpenMicrophone
    from vidstyle.live.source import OnSound, Source
    from vidstyle.video.capture.capture import Capture

    def open_source(on_sound: OnSound | None) -> Source:
        return Capture(source, size=size, fps=fps, loop=loop, on_sound=on_sound)

    def open_microphone(on_sound: OnSound) -> OpenMicrophone:
        from vidstyle.video.capture.microphone import Microphone

        assert microphone is not None
        return Microphone(microphone, on_sound=on_sound)

    styles, index = repertoire(style or default_style_name())
    live = Live(
        open_source,
        styles,
        index=index,
        look=look_from(strength, preserve_color, work_size),
        smooth=smooth_from(smooth),
        backend=backend_from(backend, precision, threads, gpu, rebuild),
        options=LiveOptions(
            target_fps=target_fps,
            window=not no_window,
            mirror=mirror,
            view="split" if split else "painted",
            full_screen=full_screen,
            record=record,
            outputs=outputs,
            virtual_camera=virtual_camera,
            snapshots=snapshots,
            seconds=seconds,
            overwrite=overwrite,
        ),
        open_microphone=None if microphone is None else open_microphone,
        on_start=_say_what_runs,
    )
    report = live.run()
    if as_json:
        echo_json(dataclasses.asdict(report))
    else:
        echo(_closing_line(report))
    if report.dropped > report.shown and work_size is None and target_fps is None:
        echo("Most pictures were not painted in time; a smaller --work-size, or --target-fps N, is faster.", err=True)
    for sentence in report.problems:
        echo(f"Problem: {sentence}", err=True)
    broken = [output for output in report.outputs if output.failed is not None]
    for output in broken:
        echo(f"Error: {output.name}: {output.failed}", err=True)
    if broken:
        ctx.exit(1)


def _say_what_runs(report: LiveReport) -> None:
    echo(f"Source: {report.source}", err=True)
    echo(f"Painting {report.style} at {report.width}x{report.height} on {report.backend}", err=True)
    for output in report.outputs:
        echo(f"To {output.name}", err=True)


def _closing_line(report: LiveReport) -> str:
    parts = [
        f"{report.shown} frames in {report.seconds:.1f} s ({report.fps:.1f} fps)",
        f"latency {report.latency_median_ms:.0f} ms, p99 {report.latency_p99_ms:.0f}",
        f"dropped {report.dropped}",
        f"reconnects {report.reconnects}",
    ]
    for what, names in (("recorded", report.recordings), ("saved", report.snapshots)):
        if names:
            parts.append(f"{what} {', '.join(names)}")
    return "; ".join(parts)
