"""Measure an NVIDIA GPU: its ceilings, and both networks on it in every way that works here.

    python benchmarks/gpu.py [NAME] [--cases paper-512x512 ...] [--minutes 8]
    python benchmarks/gpu.py [NAME] --hopper-try

Results go to benchmarks/results/NAME.json (the GPU's own name, if none is given) after each measurement; the cases
come in the order of their importance, and none begins when the minutes are over. It needs the torch extra, onnx and
OpenCV, no network and no files but those of the checkout. Without a GPU it measures nothing and exits with 1; so it
does after a picture that is farther than 40 dB from the CPU's float32.

`--device cpu --results FOLDER` is a dry run of the script itself, at an eighth of the sizes: its figures say nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout that is not installed will do

import cv2
import numpy as np
import torch
from measured import RESULTS, ResultFile
from numpy.typing import NDArray
from torch import Tensor

from vidstyle import __version__
from vidstyle.backends import open_backend
from vidstyle.backends.base import Backend, Pending, Program
from vidstyle.backends.torch import TorchBackend
from vidstyle.backends.torch.cell_net import CellNet, Kind, NormShape, plain_norm
from vidstyle.data import PHOTO_PATHS
from vidstyle.frame import FrameFormat, Pixels, Planes, yuv_from_rgb
from vidstyle.gallery import load_style
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST, Network
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import BackendOptions
from vidstyle.pipeline import overlapped
from vidstyle.stylizer import network_program
from vidstyle.system import nvidia_driver

STYLES = {"fast": "starry_night", "paper": "paper/starry_night"}
MIN_DB = 40.0
"""What a picture may differ from the CPU's float32."""
RUNS = 300
MIN_RUNS = 100
SECONDS = 2.0
"""All is timed `RUNS` times after a warm-up; what is slow as often as fits in so many seconds, but `MIN_RUNS`."""
DRY_SCALE = 8
"""A dry run divides the sides by this."""


@dataclass(frozen=True)
class Case:
    """A network at a size."""

    network: str
    width: int
    height: int
    pixels: Pixels
    """rgb for stills, i420 for video."""
    target_ms: float | None = None
    """Network time that is to be reached on a data-centre GPU."""

    @property
    def name(self) -> str:
        return f"{self.network}-{self.width}x{self.height}"


CASES = {
    case.name: case
    for case in (
        Case("paper", 512, 512, "rgb", 0.5),
        Case("paper", 256, 256, "rgb", 0.2),
        Case("fast", 1920, 1080, "i420", 1.0),
        Case("fast", 1280, 720, "i420"),
        Case("fast", 640, 360, "i420"),
        Case("paper", 1280, 720, "i420"),
        Case("paper", 1920, 1080, "i420"),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="name of the result file (default: the GPU's)")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="begin no case later than this (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    parser.add_argument("--note", help="what else there is to say")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a dry run of this script")
    parser.add_argument(
        "--hopper-try", action="store_true", help="only try TensorRT-RTX on this GPU, and keep its words"
    )
    parser.add_argument("--hopper-try-inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hopper_try_inside:
        print(json.dumps(tensorrt_rtx_facts(options.gpu)))
        return
    dry = options.device == "cpu"
    if dry and options.results.resolve() == RESULTS.resolve():
        parser.error("a dry run needs a folder of its own: --results FOLDER")
    if not dry:
        check_gpu(options.gpu)
    device = torch.device("cpu") if dry else torch.device("cuda", options.gpu)
    if not dry:
        torch.cuda.set_device(device)  # events are of the current one
    name = options.name or ("dry-run" if dry else file_name(torch.cuda.get_device_name(device)))
    results = ResultFile(name, options.results)
    results.put("machine", "gpu", {**machine(device, options.gpu), "note": options.note, "dry_run": dry})
    if options.hopper_try:
        results.put("gpu", "tensorrt_rtx", try_tensorrt_rtx(options.gpu))
        print(json.dumps(results.facts["gpu"]["tensorrt_rtx"], indent=1))
        return
    began = time.monotonic()
    ceilings = measure_ceilings(device, dry)
    results.put("gpu", "ceilings", ceilings)
    print(f"{name}: {ceilings['fp16_matmul_tflops']:.0f} TFLOP/s, {ceilings['copy_gb_s']:.0f} GB/s", flush=True)
    wrong = []
    for case_name in options.cases:
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{case_name}: left out, {options.minutes:g} minutes are over", flush=True)
            continue
        facts = measure_case(CASES[case_name], device, dry, options.gpu, ceilings, options.compile)
        results.put("gpu", case_name, facts)
        for way, found in facts["ways"].items():
            print(f"{case_name:18} {way:24} {in_words(found)}", flush=True)
            if found.get("psnr_db", MIN_DB) < MIN_DB:
                wrong.append(f"{case_name} {way} ({found['psnr_db']:.1f} dB)")
            if way == "torch fp16" and "error" in found:
                wrong.append(f"{case_name} {way} ({found['error']})")
    if wrong:
        sys.exit(f"not what the CPU paints: {', '.join(wrong)}")


def check_gpu(number: int) -> None:
    """End here without a GPU that torch can use."""
    try:
        driver = nvidia_driver()
    except OSError as error:
        sys.exit(f"no NVIDIA GPU here; nothing was measured ({error})")
    if driver is None or not driver.gpus:
        sys.exit("no NVIDIA GPU here; nothing was measured")
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} does not find the NVIDIA GPU that is here; nothing was measured")
    if number >= torch.cuda.device_count():
        sys.exit(f"there is no GPU {number}: PyTorch sees {torch.cuda.device_count()}; nothing was measured")


def file_name(gpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def machine(device: torch.device, number: int) -> dict[str, Any]:
    """What it runs on."""
    packages = {}
    for package in ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "triton"):
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts: dict[str, Any] = {
        "vidstyle": __version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "packages": packages,
    }
    if device.type == "cpu":
        return facts
    properties = torch.cuda.get_device_properties(device)
    driver = nvidia_driver()
    return {
        **facts,
        "gpu": properties.name,
        "number": number,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
        "l2_mib": getattr(properties, "L2_cache_size", 0) / 2**20,
        "driver": driver.version if driver else None,
    }


def commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# Time


def seconds_of(work: Callable[[], object], device: torch.device, runs: int) -> list[float]:
    """How long each of ``runs`` calls takes, by the GPU's clock."""
    if device.type == "cpu":
        return [seconds_by_the_clock(work) for _ in range(runs)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
    for mark in marks[:-1]:
        mark.record()
        work()
    marks[-1].record()
    torch.cuda.synchronize(device)
    return [begin.elapsed_time(end) / 1000 for begin, end in zip(marks[:-1], marks[1:], strict=True)]


def seconds_by_the_clock(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def timed(measure: Callable[[int], list[float]], dry: bool) -> list[float]:
    """What ``measure`` gives for as many runs as `RUNS` and `SECONDS` say, after a warm-up."""
    few = 2 if dry else 10
    once = statistics.median(measure(few))
    if dry:
        return measure(few)
    measure(max(1, min(RUNS, int(SECONDS / 4 / once))))  # clocks rise
    return measure(max(MIN_RUNS, min(RUNS, int(SECONDS / once))))


def in_ms(seconds: list[float]) -> dict[str, Any]:
    ms = sorted(1000 * value for value in seconds)
    return {
        "median": statistics.median(ms),
        "mean": statistics.mean(ms),
        "low": ms[0],
        "p90": ms[min(len(ms) - 1, int(0.9 * len(ms)))],
        "high": ms[-1],
        "runs": len(ms),
    }


def measure_ceilings(device: torch.device, dry: bool) -> dict[str, Any]:
    """The best that this chip does: products of half matrices, and copies within its memory."""
    side = 256 if dry else 8192
    length = 1 << (20 if dry else 31)
    # Random numbers: products of zeros take less power, and with it less time.
    a, b = (torch.randn(side, side, device=device, dtype=torch.float16) for _ in range(2))
    product = torch.empty_like(a)
    matmul = timed(partial(seconds_of, partial(torch.mm, a, b, out=product), device), dry)
    del a, b, product
    source, target = (torch.zeros(length, dtype=torch.uint8, device=device) for _ in range(2))
    copy = timed(partial(seconds_of, partial(target.copy_, source), device), dry)
    return {
        "fp16_matmul_tflops": 2 * side**3 / statistics.median(matmul) / 1e12,
        "fp16_matmul": f"{side}x{side}x{side}, random numbers, median of {len(matmul)}",
        "copy_gb_s": 2 * length / statistics.median(copy) / 1e9,
        "copy": f"{length / 2**20:g} MiB read and as much written, median of {len(copy)}",
    }


# Cases


def measure_case(
    case: Case, device: torch.device, dry: bool, gpu: int, ceilings: dict[str, Any], compile_too: bool
) -> dict[str, Any]:
    """One network at one size, in every way."""
    scale = DRY_SCALE if dry else 1
    form = FrameFormat(height=case.height // scale, width=case.width // scale, pixels=case.pixels)
    style = load_style(STYLES[case.network])
    network = style.network
    program = network_program(style.architecture, form)
    frames = [planes_from_rgb(photo(path, form), form) for path in PHOTO_PATHS[:4]]
    print(f"{case.name}: the CPU paints what to compare with", flush=True)
    with TorchBackend(program, BackendOptions(precision="fp32")) as reference:
        expected = reference.run(frames[0], style)
    rows, columns = network.architecture.padded_size(form.size)
    work = {"flops": network.architecture.flops_per_pixel() * rows * columns, "bytes": activation_bytes(network, form)}
    ways: dict[str, Any] = {}
    for tf32 in (False, True):
        name = f"eager fp32{' tf32' if tf32 else ''}"
        ways[name] = guarded(partial(measure_eager, network, form, style.vector, device, dry, tf32))
    for name, opened in openers(program, device, gpu).items():
        ways[name] = guarded(partial(measure_backend, opened, frames, style, expected, dry))
    if compile_too:
        ways["torch.compile fp16"] = guarded(partial(measure_compiled, network, form, style.vector, device, dry))
    eager = ways["eager fp32"].get("network_ms", {}).get("median")
    for found in ways.values():
        ms = found.get("network_ms", {}).get("median")
        if ms:
            found["fps"] = 1000 / ms
            found["of_matmul_ceiling"] = work["flops"] / ms / 1e9 / ceilings["fp16_matmul_tflops"]
            found["of_copy_ceiling"] = work["bytes"] / ms / 1e6 / ceilings["copy_gb_s"]
            if eager:
                found["times_eager_fp32"] = eager / ms
    return {**asdict(case), "scale": 1 / scale, "style": STYLES[case.network], "work": work, "ways": ways}


def guarded(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` gives, or the sentence with which it failed: the other ways are still to be measured."""
    try:
        return measure()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__}: {lines[0]}"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def openers(program: Program, device: torch.device, gpu: int) -> dict[str, Callable[[], Backend]]:
    """The ways through a backend, the one that is to be reached first."""
    if device.type == "cpu":
        return {
            "torch fp16": lambda: CellsOnCpu(program),
            "onnxruntime": lambda: open_backend(program, BackendOptions(backend="onnxruntime")),
            "tensorrt": lambda: open_backend(program, BackendOptions(backend="tensorrt", gpu=0)),
        }

    def onnxruntime(nhwc: bool) -> Backend:
        from vidstyle.backends.onnxruntime import OnnxRuntimeCudaBackend, open_program

        options = BackendOptions(backend="onnxruntime", gpu=gpu)
        return OnnxRuntimeCudaBackend(program, options, gpu, nhwc=True) if nhwc else open_program(program, options)

    return {
        "torch fp16": lambda: open_backend(program, BackendOptions(backend="torch", gpu=gpu)),
        "torch fp32": lambda: open_backend(program, BackendOptions(backend="torch", gpu=gpu, precision="fp32")),
        "tensorrt": lambda: open_backend(program, BackendOptions(backend="tensorrt", gpu=gpu)),
        "onnxruntime fp16": lambda: onnxruntime(False),
        "onnxruntime fp16 nhwc": lambda: onnxruntime(True),
    }


def measure_backend(
    opened: Callable[[], Backend], frames: list[Planes], style: Style, expected: Planes, dry: bool
) -> dict[str, Any]:
    """A backend: what it paints, whole frames from the processor and back, and the network alone."""
    began = time.perf_counter()
    with opened() as backend:
        facts: dict[str, Any] = {"description": backend.description, "open_seconds": time.perf_counter() - began}
        facts["psnr_db"] = worst_psnr(backend.run(frames[0], style), expected)
        facts["frame_ms"] = in_ms(timed(partial(frame_seconds, backend, frames, style), dry))
        facts["frame_ms"]["in_flight"] = backend.in_flight
        if hasattr(backend, "network_seconds"):
            facts["network_ms"] = in_ms(timed(backend.network_seconds, dry))
    return facts


def frame_seconds(backend: Backend, frames: list[Planes], style: Style, runs: int) -> list[float]:
    """Seconds from one result to the next, with as many frames under way as the backend takes."""
    started = (backend.submit(frames[number % len(frames)], style) for number in range(runs + backend.in_flight))
    results = [time.perf_counter() for _ in overlapped(started, backend.in_flight)]
    # The results after these came with fewer frames under way.
    return [after - before for before, after in pairwise(results[: runs + 1])]


def measure_eager(
    network: Network, form: FrameFormat, style: NDArray[np.float32], device: torch.device, dry: bool, tf32: bool
) -> dict[str, Any]:
    """The network as one would write it down: float32, operation by operation, from RGB to RGB."""
    net = TransformNet.from_network(network).to(device).requires_grad_(False)
    rgb = torch.rand(1, 3, *network.architecture.padded_size(form.size), device=device)
    vector = torch.from_numpy(style.copy()).to(device)
    # cuDNN may choose its fastest algorithms here too.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        return {"network_ms": in_ms(timed(partial(seconds_of, lambda: net(rgb, vector), device), dry))}


def measure_compiled(
    network: Network, form: FrameFormat, style: NDArray[np.float32], device: torch.device, dry: bool
) -> dict[str, Any]:
    """The same network compiled by torch, in half where autocast says so."""
    net = TransformNet.from_network(network).to(device).requires_grad_(False)
    net.to(memory_format=torch.channels_last)
    rgb = torch.rand(1, 3, *network.architecture.padded_size(form.size), device=device)
    rgb = rgb.contiguous(memory_format=torch.channels_last)
    vector = torch.from_numpy(style.copy()).to(device)
    compiled = torch.compile(net, mode="max-autotune", dynamic=False)
    with torch.no_grad(), torch.autocast(device.type, torch.float16):
        began = time.perf_counter()
        compiled(rgb, vector)
        facts: dict[str, Any] = {"open_seconds": time.perf_counter() - began}
        facts["network_ms"] = in_ms(timed(partial(seconds_of, lambda: compiled(rgb, vector), device), dry))
        return facts


def activation_bytes(network: Network, form: FrameFormat) -> int:
    """What the torch backend's float16 activations are read and written, if no cache held any of them.

    A norm's input is written by the convolution and read twice, its result is written and read by the next one.
    """
    count = 0

    def counting(x: Tensor, shape: NormShape, style: Tensor, kind: Kind, other: Tensor | None) -> Tensor:
        nonlocal count
        out = plain_norm(x, shape, style, kind, other)
        count += 3 * x.numel() + 2 * out.numel() + (0 if other is None else other.numel())
        return out

    net = CellNet(network.architecture, form, torch.float16, "meta", counting)
    planes = [torch.empty(shape, dtype=torch.uint8, device="meta") for shape in form.plane_shapes]
    net.paint(planes, net.new_style(), planes)
    return 2 * count


class CellsOnCpu(Backend):
    """What the GPU computes, on the CPU: for a dry run."""

    name = "torch"
    description = "float16 on the CPU, for a dry run"

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._net = CellNet(program.shape, program.form, torch.float16, "cpu")
        self._style = self._net.new_style()

    def _submit(self, planes: Planes, style: Style) -> Pending:
        self._style.load(torch.from_numpy(self._net.styles.block(style)))
        return self._painted(planes)

    def _painted(self, planes: Planes) -> Pending:
        tensors = [torch.from_numpy(np.ascontiguousarray(plane)) for plane in planes]
        results = [torch.empty_like(tensor) for tensor in tensors]
        self._net.paint(tensors, self._style, results)
        return lambda: tuple(plane.numpy() for plane in results)

    def network_seconds(self, runs: int) -> list[float]:
        planes = tuple(np.zeros(shape, np.uint8) for shape in self.form.plane_shapes)
        return [seconds_by_the_clock(lambda: self._painted(planes)) for _ in range(runs)]

    def close(self) -> None:
        pass


# TensorRT-RTX


def try_tensorrt_rtx(gpu: int) -> dict[str, Any]:
    """Whether TensorRT-RTX builds for this GPU and loads what it builds, and its words; in a process of its own."""
    command = [sys.executable, __file__, "--hopper-try-inside", "--gpu", str(gpu)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return {"error": "it did not end in 300 s"}
    if child.returncode:
        said = child.stderr.strip().splitlines()[-5:]
        return {"error": f"the process ended with {child.returncode}", "said": said}
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def tensorrt_rtx_facts(gpu: int) -> dict[str, Any]:
    """The same, in this process."""
    try:
        import tensorrt_rtx
    except ImportError as error:
        return {"error": f"not installed: {error}"}
    said: list[str] = []

    class Log(tensorrt_rtx.ILogger):  # type: ignore[misc, name-defined]  # untyped
        def __init__(self) -> None:
            tensorrt_rtx.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (self.INTERNAL_ERROR, self.ERROR, self.WARNING):
                said.append(text)

    log = Log()
    facts: dict[str, Any] = {
        "version": tensorrt_rtx.__version__,
        "compute_capabilities": sorted(tensorrt_rtx.ComputeCapability.__members__),
    }
    graph = onnx_from_network(FAST, FrameFormat(height=360, width=640), precision="fp16").SerializeToString()
    for what, capability in (("portable", None), ("current", "CURRENT")):
        said.clear()
        facts[what] = found = {}
        try:
            builder = tensorrt_rtx.Builder(log)
            parsed = builder.create_network(1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            parser = tensorrt_rtx.OnnxParser(parsed, log)
            found["parsed"] = bool(parser.parse(graph))
            config = builder.create_builder_config()
            if capability is not None:
                config.num_compute_capabilities = 1
                config.set_compute_capability(getattr(tensorrt_rtx.ComputeCapability, capability), 0)
            plan = builder.build_serialized_network(parsed, config)
            found["built"] = plan is not None
            if plan is not None:
                runtime = tensorrt_rtx.Runtime(log)
                data = bytes(plan)
                try:
                    found["validity"] = str(runtime.get_engine_validity(data))
                except Exception as error:
                    found["validity"] = f"{type(error).__name__}: {error}"
                engine = runtime.deserialize_cuda_engine(data)
                found["loaded"] = engine is not None
                found["context"] = engine is not None and engine.create_execution_context() is not None
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"
        found["said"] = list(dict.fromkeys(said))[:20]
    return facts


# Pictures


def photo(path: Path, form: FrameFormat) -> NDArray[np.uint8]:
    """RGB at the size of ``form``."""
    picture = cv2.imread(str(path))
    assert picture is not None
    sized = cv2.resize(picture, (form.width, form.height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(sized[..., ::-1], dtype=np.uint8)


def planes_from_rgb(rgb: NDArray[np.uint8], form: FrameFormat) -> Planes:
    if form.pixels == "rgb":
        return (rgb,)
    matrix, offset = yuv_from_rgb(form.matrix, form.full_range)
    yuv = rgb @ matrix.T + offset
    rows, columns = form.chroma_size
    even = np.pad(yuv[..., 1:], ((0, 2 * rows - form.height), (0, 2 * columns - form.width), (0, 0)), mode="edge")
    chroma = even.reshape(rows, 2, columns, 2, 2).mean((1, 3))
    levels = [np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in (yuv[..., 0], *chroma.transpose(2, 0, 1))]
    return tuple(np.ascontiguousarray(plane) for plane in levels)


def worst_psnr(found: Planes, expected: Planes) -> float:
    """That of the plane that differs most, in dB; 99 for equal ones."""
    errors = [float(np.mean((a.astype(np.float64) - b) ** 2)) for a, b in zip(found, expected, strict=True)]
    return 99.0 if max(errors) == 0 else 10 * math.log10(255**2 / max(errors))


def in_words(found: dict[str, Any]) -> str:
    if "error" in found:
        return str(found["error"])
    words = []
    if "network_ms" in found:
        words.append(f"network {found['network_ms']['median']:.3f} ms")
    if "times_eager_fp32" in found:
        words.append(f"{found['times_eager_fp32']:.1f} x eager fp32")
    if "of_matmul_ceiling" in found:
        ceilings = found["of_matmul_ceiling"], found["of_copy_ceiling"]
        words.append("{:.0%} of the products, {:.0%} of the copies".format(*ceilings))
    if "frame_ms" in found:
        words.append(f"frame {found['frame_ms']['mean']:.3f} ms")
    if "psnr_db" in found:
        words.append(f"{found['psnr_db']:.1f} dB")
    return ", ".join(words)


if __name__ == "__main__":
    main()
