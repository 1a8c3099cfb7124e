"""Engines and GPUs for tests: cards with every field, GPUs that are not here, and plans really built."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hostdevice import HostDevice

from vidstyle.backends.tensorrt.builder import build_plan
from vidstyle.backends.tensorrt.sdk import GpuFacts, Library, find_library
from vidstyle.frame import FrameFormat
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST
from vidstyle.models.engine_file import EngineCard
from vidstyle.options import BuildOptions

ADA = GpuFacts("NVIDIA GeForce RTX 4090", "8.9")
TURING = GpuFacts("NVIDIA GeForce RTX 2080", "7.5")
HOPPER = GpuFacts("NVIDIA H200", "9.0")
FORM = FrameFormat(height=48, width=64, pixels="i420")


def engine_card(**changes: Any) -> EngineCard:
    """A card for frames of 1280x720 with some other facts; ``size`` is all three sizes."""
    size = changes.pop("size", (720, 1280))
    facts: dict[str, Any] = {
        "network": "fast",
        "theta": "0123",
        "pixels": "i420",
        "matrix": "bt709",
        "full_range": False,
        "smallest": size,
        "best": size,
        "largest": size,
        "precision": "fp16",
        "library": "tensorrt-rtx",
        "library_version": "1.7.1.116",
        "targets": ("8.6", "8.9"),
        "gpu": None,
        "styles": ("starry_night",),
    }
    return EngineCard(**{**facts, **changes})


@cache
def small_plan() -> bytes:
    """A plan of `FORM` for `ADA`, really built."""
    graph = onnx_from_network(FAST, FORM, precision="fp16").SerializeToString()
    return build_plan(graph, BuildOptions(size=FORM.size, targets=("ada",)), find_library("tensorrt-rtx")).plan


def tensorrt_as_far_as_rtx(rtx: Library) -> Library:
    """TensorRT with the module of TensorRT-RTX, whose interface is the same."""
    library = Library("tensorrt", rtx.module, "11.4.0.106")
    vars(library).update(logger=rtx.logger, errors=rtx.errors)  # TensorRT keeps the first logger of a process
    return library


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, facts: GpuFacts = ADA) -> list[HostDevice]:
    """Let everything see a GPU that is not here, whose devices are in host memory; those that are opened."""
    cuda = pytest.importorskip("vidstyle.backends.tensorrt.cuda", reason="cuda-python is not installed")
    gpu = cuda.CudaGpu(facts.name, facts.compute_capability, 0)
    opened: list[HostDevice] = []

    def open_gpu(number: int) -> HostDevice:
        opened.append(HostDevice())
        return opened[-1]

    monkeypatch.setattr(cuda, "list_gpus", lambda: (gpu,))
    monkeypatch.setattr(cuda, "open_gpu", open_gpu)
    return opened


def names_in(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
