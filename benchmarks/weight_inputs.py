"""What it costs that the weights of a style are inputs of the compiled graph, not constants: both ways in turn.

    python benchmarks/weight_inputs.py NAME [--networks fast paper] [--size 640x360] [--rounds 9] [--frames 40]

Frames of noise through OpenVINO and ONNX Runtime, as many under way as the backend takes. ``constants`` is a program of
one style, ``inputs`` one that plays every style, ``blends`` the same where each frame is another blend of two whole
networks. CPU seconds count beside those of the clock: other processes take less from them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from measured import RESULTS, ResultFile, load, machine

from vidstyle.backends import open_backend
from vidstyle.backends.base import Backend, Pending, StyleTensors
from vidstyle.frame import FrameFormat, Planes
from vidstyle.models.architecture import ARCHITECTURES, Network, shared_network
from vidstyle.models.style import Style, blend
from vidstyle.options import BackendOptions
from vidstyle.stylizer import network_program

BACKENDS = (("openvino", "auto"), ("openvino", "fp32"), ("onnxruntime", "fp32"))


def whole_style(name: str, seed: int) -> Style:
    """A style as an adaptation of every weight leaves it: what takes time is that its numbers are others."""
    start, random = shared_network(name), np.random.default_rng(seed)

    def moved(values: np.ndarray) -> np.ndarray:
        return (values + random.normal(0, 0.1 * values.std(), values.shape)).astype(np.float32)

    weights = {key: moved(weight) for key, weight in start.weights.items()}
    return Style.of(f"{name} {seed}", Network(start.architecture, weights, moved(start.start)), theta=start.digest)


def seconds_a_frame(backend: Backend, planes: Planes, styles: Iterator[Style], frames: int) -> tuple[float, float]:
    """By the clock, and of the processor."""
    pending: deque[Pending] = deque()
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(frames):
        if len(pending) == backend.in_flight:
            pending.popleft()()
        pending.append(backend.submit(planes, next(styles)))
    while pending:
        pending.popleft()()
    return (time.perf_counter() - began) / frames, (time.process_time() - busy) / frames


def endless(style: Style) -> Iterator[Style]:
    while True:
        yield style


def fading(first: Style, second: Style) -> Iterator[Style]:
    """Another blend for every frame."""
    random = np.random.default_rng(0)
    while True:
        share = float(random.uniform(0.01, 0.99))
        yield blend([(first, share), (second, 1 - share)])


def measure_backend(name: str, backend: str, precision: str, form: FrameFormat, rounds: int, frames: int) -> Any:
    first, second = whole_style(name, 1), whole_style(name, 2)
    shape, options = first.architecture, BackendOptions(backend=backend, precision=precision)  # type: ignore[arg-type]
    inputs = replace(network_program(shape, form), single=None, winograd=lambda: None)  # the same convolutions
    constants = network_program(shape, form, only=first.network).single
    assert constants is not None
    random = np.random.default_rng(0)
    planes = tuple(random.integers(0, 256, size, np.uint8) for size in form.plane_shapes)
    with open_backend(constants, options) as one, open_backend(inputs, options) as every:
        expected, found = one.run(planes, first), every.run(planes, first)
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "constants": lambda: seconds_a_frame(one, planes, endless(first), frames),
            "inputs": lambda: seconds_a_frame(every, planes, endless(first), frames),
            "blends": lambda: seconds_a_frame(every, planes, fading(first, second), frames),
        }
        for way in ways.values():
            way()
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, measure in ways.items():
                seconds[way].append(measure())
    facts: dict[str, Any] = {
        "backend": every.description,
        "levels_apart": max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(expected, found, strict=True)),
        "load": load(),
    }
    for way, pairs in seconds.items():
        facts[way] = {
            "fps": 1 / statistics.median(wall for wall, _ in pairs),
            "cpu_ms": 1000 * statistics.median(cpu for _, cpu in pairs),
        }
        if way != "constants":
            ratios = [own[1] / base[1] for own, base in zip(pairs, seconds["constants"], strict=True)]
            facts[way] |= {"cpu_ratio": statistics.median(ratios), "cpu_ratios": ratios}
    return facts


def measure_weights(name: str, form: FrameFormat, rounds: int) -> Any:
    """Milliseconds that the tensors of a style take when it is first played, and those of a blend."""
    program = network_program(ARCHITECTURES[name], form)
    tensors = StyleTensors(program.shape, program.style_tensors)
    first, second = whole_style(name, 1), whole_style(name, 2)
    taken: dict[str, list[float]] = {"first_ms": [], "blend_ms": []}
    mixtures = fading(first, second)
    for seed in range(rounds):
        for key, style in (("first_ms", whole_style(name, 10 + seed)), ("blend_ms", next(mixtures))):
            for network, _ in style.parts if key == "blend_ms" else ():
                tensors.block(Style.of("", network))
            began = time.process_time()
            tensors.block(style)
            taken[key].append(1000 * (time.process_time() - began))
    return {key: statistics.median(found) for key, found in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/weight_inputs.json")
    parser.add_argument("--networks", nargs="+", default=["fast", "paper"], choices=list(ARCHITECTURES))
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=40, help="of each run; a tenth of that for paper (%(default)s)")
    words = parser.parse_args()
    width, height = map(int, words.size.split("x"))
    form = FrameFormat(height=height, width=width, pixels="i420")
    folder = RESULTS / words.name
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile("weight_inputs", folder)
    results.put("machine", "weight_inputs", {**machine(), "size": words.size, "rounds": words.rounds})
    for name in words.networks:
        results.put(name, "weights", measure_weights(name, form, words.rounds))
        frames = words.frames if name == "fast" else max(4, words.frames // 10)
        for backend, precision in BACKENDS:
            facts = measure_backend(name, backend, precision, form, words.rounds, frames)
            results.put(name, f"{backend} {precision}", facts)
            print(f"{name} {facts['backend']}: {facts['inputs']['cpu_ratio']:.3f} of the constants' time", flush=True)


if __name__ == "__main__":
    main()
