"""Measure flicker, with every part of our smoothing and with the nearest peer's; and what smoothing costs.

    python benchmarks/temporal.py NAME [flicker] [peer] [variants] [cost] [--clips FOLDER] [--peer PYTHON]

Results go to benchmarks/results/NAME/temporal.json, a part at a time. `flicker` and `peer` paint the same
clips: the videos of FOLDER and those that vidstyle makes, at 360 rows, in three styles of each tool. The peer
has other styles, so either tool is measured against itself unsmoothed. `variants` smooths them with one
thing left out or done otherwise. `cost` times the steps and whole renders; nothing else should run
meanwhile. PYTHON is that of the environment with the peer.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from clips import clip_name, make_clip
from flicker import RGB
from flicker_bench import FlickerOptions, FlickerReport, all_clips, measure, measure_styles
from measured import RESULTS, ResultFile, load, run

from vidstyle.frame import FrameFormat, Planes
from vidstyle.gallery import load_style
from vidstyle.imaging import smoothing, warp
from vidstyle.imaging.smoothing import Motion, Smoother
from vidstyle.options import BackendOptions, SmoothOptions
from vidstyle.stylizer import Stylizer
from vidstyle.system import find_cpu
from vidstyle.video.reader import VideoReader

STYLES = ("starry_night", "the_scream", "great_wave")
PEER_STYLES = ("0", "7", "13")
STRENGTHS = (0.3, 0.7, 1.0)
PEER_STRENGTHS = (0.0, 0.3, 0.5, 0.7, 0.9)
PARTS = ("flicker", "peer", "variants", "cost")
VARIANTS: dict[str, dict[str, object]] = {
    "as it is": {},
    "no sharpening of what is shown": {"FIRST_GAIN": 0.0, "MIN_GAIN": 0.0, "MAX_GAIN": 0.0},
    "no look at what finest detail does": {"STAYS": 0.0},
    "no flow back": {"APART": (1e6, 1e6)},
    "no rest": {"STILL_FLOW": 0.0},
    "one tolerance for all textures": {"TOLERANCE": (12.0, 0.0, 12.0)},
    "flow at 68 rows": {"FLOW_ROWS": 68},
    "flow at 128 rows": {"FLOW_ROWS": 128},
    "flow at 360 rows": {"FLOW_ROWS": 360},
    "DIS medium": {"FLOW_PRESET": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM},
}
"""What is set otherwise in `vidstyle.imaging.smoothing`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the machine's, as a folder of results")
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="what to measure (default: all)")
    parser.add_argument("--clips", type=Path, help="folder of videos")
    parser.add_argument("--peer", help="Python of the environment that has styletransfer-lite")
    parser.add_argument("--ours", default=f"{sys.executable} -m vidstyle", help="our command (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=40, help="of each clip")
    parser.add_argument("--rows", type=int, default=360)
    parser.add_argument("--threads", type=int, help="of the networks")
    parser.add_argument("--rounds", type=int, default=5, help="of renders, in turn with and without smoothing")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    folder = RESULTS / options.name
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile("temporal", folder)
    for part in options.parts or PARTS:
        if part == "peer" and options.peer is None:
            print("the peer is left out: say where it is with --peer", flush=True)
            continue
        facts = MEASURES[part](options)
        results.put("temporal", part, facts)
        print(json.dumps(facts.get("summary", facts), indent=1), flush=True)


def what(options: argparse.Namespace) -> FlickerOptions:
    clips = sorted(options.clips.glob("*.mp4")) if options.clips else []
    return FlickerOptions(
        clips=tuple(clips),
        frames=options.frames,
        rows=options.rows,
        smooth=tuple(SmoothOptions(strength=strength) for strength in STRENGTHS),
        backend=BackendOptions(threads=options.threads),
    )


def facts_of(report: FlickerReport, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "cpu": find_cpu().model,
        "versions": {name: version(name) for name in ("openvino", "opencv-python", "numpy")},
        "frames": options.frames,
        "rows": options.rows,
        "source_error": report.source_error(),
        "summary": {way: report.summary(way) for way in report.ways()},
        **asdict(report),
    }


def measure_flicker(options: argparse.Namespace) -> dict[str, Any]:
    report = measure_styles([load_style(name) for name in STYLES], what(options))
    return facts_of(report, options)


def measure_peer(options: argparse.Namespace) -> dict[str, Any]:
    report = FlickerReport()
    wanted = what(options)
    clips = all_clips(wanted)
    for style in PEER_STYLES:

        def paint(frames: Sequence[RGB], style: str = style) -> dict[str, list[RGB]]:
            return peers_frames(frames, style, options)

        measure(report, clips, style, paint, wanted)
    found = run([options.peer, "-c", "from styletransfer_lite import __version__; print(__version__)"]).output.strip()
    report.backend = f"styletransfer-lite {found}"
    return facts_of(report, options)


def peers_frames(frames: Sequence[RGB], style: str, options: argparse.Namespace) -> dict[str, list[RGB]]:
    """By way of smoothing, as `flicker_bench.measure` wants them."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.npy", Path(folder) / "out.npz"
        np.save(source, np.stack(frames))
        script = Path(__file__).with_name("peer_frames.py")
        words = [options.peer, script, source, output, "--style", style, "--smooth", *PEER_STRENGTHS]
        words += [] if options.threads is None else ["--threads", options.threads]
        run([str(word) for word in words])
        with np.load(output) as found:
            painted = {"none" if name == "0" else name: list(found[name]) for name in found.files}
    for way in painted.values():
        if way[0].shape != frames[0].shape:
            raise SystemExit(f"the peer made {way[0].shape} of {frames[0].shape}")
    return painted


def measure_variants(options: argparse.Namespace) -> dict[str, Any]:
    report, wanted = FlickerReport(), what(options)
    clips = all_clips(wanted)
    for style in STYLES:
        with Stylizer(style, backend=wanted.backend) as stylizer:

            def paint(frames: Sequence[RGB], stylizer: Stylizer = stylizer) -> dict[str, list[RGB]]:
                styled = [stylizer(frame) for frame in frames]
                return {"none": styled, **{name: smoothed(frames, styled, name) for name in VARIANTS}}

            measure(report, clips, style, paint, wanted)
    return facts_of(report, options)


def smoothed(frames: Sequence[RGB], styled: Sequence[RGB], variant: str) -> list[RGB]:
    form = FrameFormat(height=frames[0].shape[0], width=frames[0].shape[1], pixels="rgb")
    with ExitStack() as changed:
        for name, value in VARIANTS[variant].items():
            changed.enter_context(mock.patch.object(smoothing, name, value))
        smoother = Smoother(form)
        return [smoother.step((a,), (b,))[0] for a, b in zip(frames, styled, strict=True)]


def measure_cost(options: argparse.Namespace) -> dict[str, Any]:
    facts: dict[str, Any] = {"cpu": find_cpu().model, "load_before": load()}
    with tempfile.TemporaryDirectory() as folder:
        facts["steps"] = {
            name: time_steps(make_clip(Path(folder) / clip_name(*size, 1.0), *size, 1.0))
            for name, size in (("640x360", (640, 360)), ("1280x720", (1280, 720)), ("1920x1080", (1920, 1080)))
        }
        facts["render"] = time_renders(Path(folder), options)
    facts["load_after"] = load()
    return facts


def time_steps(path: Path) -> dict[str, float]:
    """Median milliseconds a frame, on a real film; the source stands for the painting."""
    with VideoReader(path, pixels="i420") as source:
        form = source.form
        frames = [tuple(plane.copy() for plane in frame.planes) for frame in source.frames()]
    threads = cv2.getNumThreads()
    smoother = Smoother(form, threads=threads)
    looks, blends = [], []
    for frame in frames * 4:
        began = time.perf_counter()
        motion = smoother.estimate_motion(frame)
        between = time.perf_counter()
        smoother.blend(frame, motion)
        if motion is not None:
            looks.append(between - began)
            blends.append(time.perf_counter() - between)
    smoother.estimate_motion(frames[0])
    motion = smoother.estimate_motion(frames[1])
    assert motion is not None
    kernel = median_ms(pass_over(form, frames[1], frames[0], motion, partial(warp.warp_blend, threads=threads)), 60)
    twin = median_ms(pass_over(form, frames[1], frames[0], motion, warp._twin), 10)
    return {
        "flow and weights": 1000 * statistics.median(looks),
        "warp, blend and gain": 1000 * statistics.median(blends),
        "all": 1000 * statistics.median(a + b for a, b in zip(looks, blends, strict=True)),
        "kernel alone": kernel,
        "NumPy and OpenCV instead of the kernel": twin,
        "threads": threads,
    }


def pass_over(
    form: FrameFormat, new: Planes, old: Planes, motion: Motion, warp_blend: Callable[..., None]
) -> Callable[[], None]:
    """Every plane of one frame through the kernel or its twin; memory and results are allocated before."""
    memories = [warp.remembered(plane) for plane in old]
    shown, updated = ([np.empty_like(plane) for plane in planes] for planes in (new, memories))

    def step() -> None:
        for index, planes in enumerate(zip(new, memories, shown, updated, strict=True)):
            plane, memory, out, spare = planes
            warp_blend(plane, memory, motion.flow, motion.weight, 0.0 if index else 1.0, out, spare)

    return step


def time_renders(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Whole renders at 640x360, with and without smoothing in turn; the difference of two lengths is the speed."""
    clips = {seconds: make_clip(folder / clip_name(640, 360, seconds), 640, 360, seconds) for seconds in (2.0, 14.0)}
    ways = {"off": [], "on": ["--smooth"]}
    fps: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, words in ways.items():
            seconds = {}
            for length, clip in clips.items():
                command = ["render", str(clip), str(folder / "out.mp4"), "--style", STYLES[0], "-y", "--json", *words]
                seconds[length] = json.loads(run([*shlex.split(options.ours), *command]).output)["seconds"]
            fps[way].append(25 * (14.0 - 2.0) / (seconds[14.0] - seconds[2.0]))
    medians = {way: statistics.median(found) for way, found in fps.items()}
    return {
        "size": "640x360",
        "fps": medians,
        "fps_rounds": fps,
        "cost_percent": {way: 100 * (1 - found / medians["off"]) for way, found in medians.items()},
    }


def median_ms(step: Callable[[], None], times: int) -> float:
    step()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        found.append(time.perf_counter() - began)
    return 1000 * statistics.median(found)


MEASURES = {"flicker": measure_flicker, "peer": measure_peer, "variants": measure_variants, "cost": measure_cost}


if __name__ == "__main__":
    main()
