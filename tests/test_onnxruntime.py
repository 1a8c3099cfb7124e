"""ONNX Runtime on a GPU: its memory and its refusals, which need none, and what only one can show."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort
import pytest
from networks import fast_style, photo_planes, whole_style, worst_psnr

from vidstyle.backends import onnxruntime as module
from vidstyle.backends import open_backend
from vidstyle.backends.base import Program
from vidstyle.backends.onnxruntime import BoundSession, OnnxRuntimeBackend, OnnxRuntimeCudaBackend
from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.frame import FrameFormat
from vidstyle.graph import style_tensors
from vidstyle.models.architecture import FAST
from vidstyle.options import BackendOptions
from vidstyle.stylizer import network_program
from vidstyle.system import Gpu

FORM = FrameFormat(height=48, width=64, pixels="i420")
BUILT_FOR_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def program(form: FrameFormat = FORM) -> Program:
    return network_program(FAST, form)


def options(**more: Any) -> BackendOptions:
    return BackendOptions(backend="onnxruntime", **more)


@pytest.fixture
def cuda_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where onnxruntime-gpu is installed: its CUDA is listed whether it can be loaded or not."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_a_bound_session_gives_each_frame_its_own_result() -> None:
    graph = program().graph("fp32")
    bound = BoundSession(ort.InferenceSession(graph, None, ["CPUExecutionProvider"]), "cpu", 0)
    bound.blank()
    with OnnxRuntimeBackend(program(), options()) as backend:
        results = []
        for name in ("china", "coffee"):
            planes = photo_planes(name, FORM)
            # The tensors of the style are given once.
            found = bound.run(planes, style_tensors(fast_style().network, FORM) if name == "china" else None)
            results.append([plane.reshape(shape) for plane, shape in zip(found, FORM.plane_shapes, strict=True)])
            assert worst_psnr(tuple(results[-1]), backend.run(planes, fast_style())) >= 60
        assert worst_psnr(tuple(results[0]), tuple(results[1])) < 40


@pytest.mark.skipif(BUILT_FOR_CUDA, reason="ONNX Runtime is built for CUDA")
def test_a_gpu_without_cuda_in_onnx_runtime_is_refused_in_a_sentence() -> None:
    with pytest.raises(MissingDependency, match="gpu is 0, but ONNX Runtime .* was built without CUDA"):
        open_backend(program(), options(gpu=0))


def test_cuda_that_cannot_be_loaded_is_an_error_where_there_is_a_gpu(
    cuda_listed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_cpu(graph: bytes, provider: dict[str, str]) -> ort.InferenceSession:
        return ort.InferenceSession(graph, None, ["CPUExecutionProvider"])

    monkeypatch.setattr(module, "nvidia_gpus", lambda: (Gpu("NVIDIA Some", 1 << 33, "9.0"),))
    monkeypatch.setattr(module, "cuda_session", on_cpu)
    with pytest.raises(VidstyleError, match="cannot use GPU 0: its CUDA libraries cannot be loaded"):
        module.open_program(program(), options())


def test_a_session_that_fails_on_the_gpu_is_an_error_with_its_reason(
    cuda_listed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def failing(graph: bytes, provider: dict[str, str]) -> ort.InferenceSession:
        asked.append(provider["enable_cuda_graph"])
        raise RuntimeError("CUDA failure 100: no device\nfile: somewhere.cc")

    monkeypatch.setattr(module, "cuda_session", failing)
    with pytest.raises(VidstyleError, match="cannot use GPU 3: CUDA failure 100: no device; it needs"):
        module.open_program(program(), options(gpu=3))
    assert asked == ["1", "0"]
    with pytest.raises(BadOption, match="ONNX Runtime on a GPU computes in fp16, fp32"):
        module.open_program(program(), options(gpu=0, precision="bf16"))


def test_without_a_gpu_a_cuda_build_paints_on_the_cpu(cuda_listed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvidia_gpus", tuple)
    with module.open_program(program(), options()) as backend:
        assert "fp32 on CPU" in backend.description


@pytest.mark.needs_cuda
@pytest.mark.skipif(not BUILT_FOR_CUDA, reason="ONNX Runtime is built without CUDA")
@pytest.mark.parametrize("nhwc", [False, True])
def test_a_gpu_paints_what_the_cpu_paints(nhwc: bool) -> None:
    planes = photo_planes("china", FORM)
    with OnnxRuntimeBackend(program(), options()) as reference:
        expected = reference.run(planes, fast_style())
    with OnnxRuntimeCudaBackend(program(), options(), 0, nhwc=nhwc) as backend:
        assert "fp16 on CUDA GPU 0" in backend.description
        assert worst_psnr(backend.run(planes, fast_style()), expected) >= 40
        pending = [backend.submit(planes, style) for style in (fast_style(), whole_style("other", 1))]
        assert worst_psnr(pending[0](), expected) >= 40
        assert worst_psnr(pending[1](), expected) < 40
        assert len(backend.network_seconds(3)) == 3
