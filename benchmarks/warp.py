"""How long the pass of temporal smoothing takes: one frame, the twin and every instruction set, one and two threads.

    python benchmarks/warp.py [VIDEO] [--size 1280x720] [--rounds 60] [--json FILE]

The motion is that between frames of VIDEO, as smoothing finds it; the pixels are a frame of it. All variants
take turns, so that a disturbance does not fall on one of them; the least time is the one to compare on a
machine that does something else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.imaging import warp

BUNNY = Path(__file__).parent.parent / "examples" / "bunny.mp4"
FLOW_ROWS = 180
GAIN = 1.5


def frame_and_motion(video: Path, size: tuple[int, int], at: int) -> tuple[NDArray[np.uint8], warp.F32]:
    """Luma of a frame, and the flow of a smaller picture of it to the frame before."""
    with av.open(str(video)) as file:
        frames = list(islice(file.decode(video=0), at, at + 2))
    before, now = (frame.reformat(size[1], size[0], "gray").to_ndarray() for frame in frames)
    small = round(size[1] * FLOW_ROWS / size[0]), FLOW_ROWS
    lumas = [cv2.resize(luma, small, interpolation=cv2.INTER_AREA) for luma in (now, before)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(*lumas, None)
    return np.ascontiguousarray(now), np.asarray(flow, np.float32)


def variants(luma: NDArray[np.uint8], flow: warp.F32) -> dict[str, Callable[[], None]]:
    """One I420 frame each: luma is sharpened, chroma is not."""
    half = np.ascontiguousarray(luma[::2, ::2])
    weight = np.full(flow.shape[:2], 0.75, np.float32)
    planes = []
    for new, gain in ((luma, GAIN), (half, 0.0), (half, 0.0)):
        memory = warp.remembered(new)
        planes.append((new, memory, flow, weight, gain, np.empty_like(new), np.empty_like(memory)))

    def twin() -> None:
        for plane in planes:
            warp._twin(*plane)

    def kernel(level: str, threads: int) -> Callable[[], None]:
        def run() -> None:
            for plane in planes:
                warp.warp_blend(*plane, threads=threads, level=level)

        return run

    runs: dict[str, Callable[[], None]] = {"twin": twin}
    for level in warp._kernels.levels():
        for threads in (1, 2):
            runs[f"{level}, {threads} thread{'s' if threads > 1 else ''}"] = kernel(level, threads)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, default=BUNNY)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frame", type=int, default=20, help="which one (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write the milliseconds to this file")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    luma, flow = frame_and_motion(options.video, (height, width), options.frame)
    runs = variants(luma, flow)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(options.rounds):
        for name, run in runs.items():
            if turn >= 5 and (name == "twin" or name.startswith("baseline")):
                continue  # thirty times as long as the others
            for _ in range(5):  # the first finds its memory in nobody's cache
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
    speed = np.hypot(*np.moveaxis(flow, 2, 0)).mean() * height / FLOW_ROWS
    print(f"{width}x{height} I420, motion of {speed:.1f} pixels on average, load {os.getloadavg()[0]:.1f}")
    print(f"{'':22} {'least':>7} {'median':>7} ms")
    for name, found in times.items():
        print(f"{name:22} {min(found):7.2f} {statistics.median(found):7.2f}")
    if options.json:
        facts = {name: {"least": min(found), "median": statistics.median(found)} for name, found in times.items()}
        options.json.write_text(json.dumps({"size": options.size, "milliseconds": facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
