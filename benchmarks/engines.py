"""Measure how long TensorRT-RTX engines take to build without a GPU, how large they are, and what is proved of them.

    python benchmarks/engines.py NAME [--cases fast-1280x720-i420 ...] [--rounds 3]

Each build is `vidstyle build-engine`, a process of its own, start and check of FP16 included, for TensorRT-RTX's
portable targets. Results go to benchmarks/results/NAME/engines.json after each case. Nothing else should run
meanwhile. Exits with 1 where the build that is asked for within five seconds takes longer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measured import RESULTS, ResultFile, load, run

from vidstyle.gallery import load_style
from vidstyle.options import EncodeOptions, Pixels
from vidstyle.tools.bench import describe_run

STYLES = {"fast": "starry_night", "paper": "paper/starry_night"}
SIZES = ((640, 360), (1280, 720), (1920, 1080))
MAX_SECONDS = {"fast-1280x720-i420": 5.0, "fast-1280x720-rgb": 5.0}


@dataclass(frozen=True)
class Case:
    """An engine."""

    network: str
    width: int
    height: int
    """Of its frames; of a dynamic one the size that it is tuned for."""
    pixels: Pixels
    dynamic: bool = False
    """From 64x64 to 1920x1080."""

    @property
    def name(self) -> str:
        size = "any-size" if self.dynamic else f"{self.width}x{self.height}"
        return f"{self.network}-{size}-{self.pixels}"

    @property
    def words(self) -> list[str]:
        """What the command is told of it."""
        size = f"{self.width}x{self.height}"
        sizes = ["--min", "64x64", "--opt", size, "--max", "1920x1080"] if self.dynamic else ["--size", size]
        return [STYLES[self.network], "--pixels", self.pixels, *sizes]


CASES = {
    case.name: case
    for network in STYLES
    for case in (
        *(Case(network, *size, pixels) for size in SIZES for pixels in ("rgb", "i420")),
        Case(network, 1280, 720, "i420", dynamic=True),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the machine's, as a folder of results")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=3, help="builds of each case (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    results = ResultFile("engines", options.results / options.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    results.put("machine", "engines", machine())
    late = []
    for name in options.cases:
        before = load()
        facts = measure(CASES[name], options.rounds)
        results.put("engines", name, {**facts, "load_before": before})
        seconds = facts["seconds"]["median"]
        size = facts["plan_bytes"] / 2**20
        print(f"{name:22} {seconds:.2f} s, {size:.1f} MiB, {facts['worst_db']:.1f} dB", flush=True)
        if seconds > MAX_SECONDS.get(name, seconds):
            late.append(f"{name} ({seconds:.2f} s, {MAX_SECONDS[name]:g} are the most)")
    if late:
        sys.exit(f"too slow: {', '.join(late)}")


def machine() -> dict[str, Any]:
    """What it runs on."""
    facts = asdict(describe_run(load_style(STYLES["fast"]), EncodeOptions()))
    kept = {key: facts[key] for key in ("vidstyle", "commit", "date", "python", "system", "cpu")}
    packages = ("onnx", "onnxruntime", "tensorrt-rtx")
    return {**kept, "packages": {name: importlib.metadata.version(name) for name in packages}}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """One engine, built ``rounds`` times."""
    runs, reports = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VIDSTYLE_HOME"] = folder
        command = [sys.executable, "-m", "vidstyle", "build-engine", *case.words]
        command += ["--library", "tensorrt-rtx", "--target", "portable", "--json"]
        for number in range(rounds):
            runs.append(run([*command, "-o", str(Path(folder) / f"{number}.engine")]))
            reports.append(json.loads(runs[-1].output))
    report = reports[0]
    build, fidelity = report["build"], report["build"]["fidelity"]
    return {
        **asdict(case),
        "rounds": rounds,
        "seconds": spread([one.seconds for one in runs]),
        "cpu_seconds": spread([one.cpu_seconds for one in runs]),
        "build_seconds": spread([one["build"]["seconds"] for one in reports]),
        "peak_mib": max(one.peak_mib for one in runs),
        "plan_bytes": report["plan_bytes"],
        "targets": report["targets"],
        "library": f"{report['library']} {report['library_version']}",
        "layers": build["layers"],
        "convolutions": build["convolutions"],
        "instance_norms": build["instance_norms"],
        # None is infinite: pictures that are equal.
        "worst_db": 99.0 if fidelity["worst"] is None else fidelity["worst"],
        "worst_frame": fidelity["worst_frame"],
        "pictures": sum(len(styles) for styles in fidelity["psnr"].values()),
        "largest_number": fidelity["largest"],
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    main()
