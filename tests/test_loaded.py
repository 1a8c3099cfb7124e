"""Engines in TensorRT's hands: the real interface, the refusals of this machine, the kernels kept on disk."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import has_gpu
from networks import fast_style, flat, noise, photo, planes_from_rgb, worst_psnr

from vidstyle.backends import cache as model_cache
from vidstyle.backends import open_backend, open_engine
from vidstyle.backends.base import Program, StyleTensors
from vidstyle.backends.tensorrt import loaded, open_program
from vidstyle.backends.tensorrt.builder import build_plan
from vidstyle.backends.tensorrt.layout import Layout
from vidstyle.backends.tensorrt.library import Library, find_library
from vidstyle.backends.tensorrt.loaded import LoadedEngine, fault_words
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.errors import BadModel, BadOption, EngineMismatch, MissingDependency
from vidstyle.frame import FrameFormat, Planes
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST
from vidstyle.models.engine_file import EngineCard, EngineFile, write_engine
from vidstyle.options import BackendOptions, BuildOptions
from vidstyle.stylizer import network_program

rtx = pytest.importorskip("tensorrt_rtx")
pytest.importorskip("cuda.bindings")
SOURCE = Path(loaded.__file__).read_text()
FORM = FrameFormat(height=48, width=64, pixels="i420")
RTX_4090 = GpuFacts("NVIDIA GeForce RTX 4090", "8.9")
GPU = pytest.mark.needs_cuda
NO_GPU = pytest.mark.skipif(has_gpu(), reason="there is a GPU")

RECEIVERS = {
    "module": rtx,
    "self._runtime": rtx.Runtime,
    "self._engine": rtx.ICudaEngine,
    "engine": rtx.ICudaEngine,
    "config": rtx.IRuntimeConfig,
    "self._config": rtx.IRuntimeConfig,
    "cache": rtx.IRuntimeCache,
    "self._cache": rtx.IRuntimeCache,
    "context": rtx.IExecutionContext,
    "self._context": rtx.IExecutionContext,
}
OURS = {"engine.path", "engine.card"}  # an EngineFile


@cache
def library() -> Library:
    return find_library("tensorrt-rtx")


@cache
def plan() -> bytes:
    graph = onnx_from_network(FAST, FORM, precision="fp16").SerializeToString()
    return build_plan(graph, BuildOptions(size=FORM.size, targets=("ada",)), library()).plan


def program(form: FrameFormat = FORM) -> Program:
    return network_program(FAST, form)


def layout_of(form: FrameFormat) -> Layout:
    return Layout.of(form, StyleTensors(FAST, program(form).style_tensors), padded=False)


def card() -> EngineCard:
    return EngineCard(
        network="fast",
        theta=fast_style().theta,
        pixels="i420",
        matrix="bt709",
        full_range=False,
        smallest=FORM.size,
        best=FORM.size,
        largest=FORM.size,
        precision="fp16",
        library="tensorrt-rtx",
        library_version=library().version,
        targets=("8.9",),
        gpu=None,
        styles=("great_wave",),
    )


@pytest.fixture
def engine(tmp_path: Path) -> EngineFile:
    return write_engine(tmp_path / "wave.engine", plan(), card(), b"styles")


# The interface


def calls() -> Iterator[tuple[str, int]]:
    """``Class.method`` and the number of arguments, for each call of a method of TensorRT's."""
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            receiver = RECEIVERS.get(ast.unparse(node.func.value))
            if receiver is not None and ast.unparse(node.func) not in OURS:
                yield f"{receiver.__name__}.{node.func.attr}", len(node.args)


def members() -> set[str]:
    """``Class.member`` for each member of TensorRT's that is looked at, enumerations too."""
    found = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) not in OURS:
            text = ast.unparse(node.value)
            if text in RECEIVERS:
                found.add(f"{RECEIVERS[text].__name__}.{node.attr}")
            enumeration = re.fullmatch(r"(?:library\.)?module\.(\w+)", text)
            if enumeration and node.attr != "__members__":
                found.add(f"{enumeration[1]}.{node.attr}")
    return found


@pytest.mark.parametrize("member", sorted(members()))
def test_every_member_exists(member: str) -> None:
    owner, name = member.split(".")
    if owner != "tensorrt_rtx":
        getattr(getattr(rtx, owner), name)
    else:
        getattr(rtx, name)


def test_the_walk_sees_what_is_used() -> None:
    assert {
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeCache.deserialize",
        "Runtime.get_engine_validity",
        "CudaGraphStrategy.DISABLED",
        "EngineValidity.INVALID",
    } <= members()


@pytest.mark.parametrize(("method", "count"), sorted(set(calls())))
def test_every_method_takes_so_many_arguments(method: str, count: int) -> None:
    owner, name = method.split(".")
    if owner == "tensorrt_rtx":
        owner, name = name, "__init__"
    text = getattr(getattr(rtx, owner), name).__doc__
    takes = set()
    for inside in re.findall(rf"(?m)^(?:\d+\. )?{name}\((self: .*)\) ->", text):
        arguments = re.sub(r"\[[^]]*\]|<[^>]*>", "", inside).split(",")[1:]
        least = sum("=" not in argument for argument in arguments)
        takes |= set(range(least, len(arguments) + 1))
    assert count in takes, text


def test_host_code_in_engines_stays_forbidden() -> None:
    assert rtx.Runtime(library().logger).engine_host_code_allowed is False
    assert not re.search(r"engine_host_code_allowed\s*=", SOURCE)


def test_every_fault_has_its_words() -> None:
    known = rtx.EngineInvalidityDiagnostics.__members__
    assert set(known) == set(loaded._FAULTS)
    for name, value in known.items():
        assert fault_words(library(), int(value)) == loaded._FAULTS[name]
    both = known["VERSION_MISMATCH"].value | known["OLD_CUDA_DRIVER"].value
    assert fault_words(library(), both) == (
        "another version built it; the NVIDIA driver is too old for it: update the driver"
    )


# Refusals


def test_a_plan_that_is_none_is_refused_with_the_librarys_own_verdict(engine: EngineFile) -> None:
    with pytest.raises(EngineMismatch) as caught:
        LoadedEngine(engine, b"rubbish" * 100, library(), RTX_4090)
    assert str(caught.value) == (
        f"{engine.path} cannot be used on NVIDIA GeForce RTX 4090 with tensorrt-rtx {library().version}: it is not an "
        f"engine, or is damaged; build it again with `--rebuild`, or with `vidstyle build-engine great_wave --size "
        f"64x48 --matrix bt709 -o {engine.path} --overwrite`"
    )


@NO_GPU
def test_a_good_plan_is_refused_where_cuda_does_not_run(engine: EngineFile) -> None:
    with pytest.raises(EngineMismatch, match="wave.engine cannot be used on .* build it again with `--rebuild`"):
        LoadedEngine(engine, plan(), library(), RTX_4090)


@NO_GPU
def test_an_engine_needs_a_gpu_and_says_what_to_do_without(engine: EngineFile) -> None:
    with pytest.raises(EngineMismatch) as caught:
        open_engine(engine, program())
    assert re.fullmatch(
        rf"{re.escape(str(engine.path))} is an engine, which needs an NVIDIA GPU, and none answers on this machine "
        r"\(.*\); paint on the CPU with `--style great_wave` instead",
        str(caught.value),
    )


@NO_GPU
def test_tensorrt_by_name_needs_a_gpu() -> None:
    for options in (BackendOptions(backend="tensorrt"), BackendOptions(backend="tensorrt", gpu=0)):
        with pytest.raises(BadOption) as caught:
            open_backend(program(), options)
        assert re.fullmatch(
            r"backend is 'tensorrt', which needs an NVIDIA GPU, and none answers on this machine \(.*\); "
            "leave --backend out to paint on the CPU",
            str(caught.value),
        )


def test_another_backend_or_precision_for_an_engine_is_refused(engine: EngineFile) -> None:
    with pytest.raises(BadOption, match="wave.engine is an engine, which TensorRT runs; backend is 'openvino'"):
        open_engine(engine, program(), BackendOptions(backend="openvino"))
    with pytest.raises(BadOption, match=r"precision is fp32, and .*wave.engine computes in fp16; leave it out"):
        open_engine(engine, program(), BackendOptions(precision="fp32"))
    with pytest.raises(BadOption, match="precision is bf16, and TensorRT engines compute in fp16 or fp32"):
        open_program(program(), BackendOptions(precision="bf16"))


@pytest.fixture
def a_4090(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts of a GPU that is not here: what is refused because of them is refused before it is used."""
    from vidstyle.backends.tensorrt import cuda

    gpu = cuda.CudaGpu("NVIDIA GeForce RTX 4090", "8.9", 0, 24 << 30, "13.0")
    monkeypatch.setattr(cuda, "list_gpus", lambda: (gpu,))


@pytest.mark.parametrize(
    ("change", "form", "words"),
    [
        ({"library_version": "1.2.0.54"}, FORM, "an engine runs on the version that built it"),
        ({"targets": ("12.0",)}, FORM, "was built for GPUs of compute capability 12.0, and this one is NVIDIA GeFo"),
        ({"gpu": "NVIDIA H200"}, FORM, "was built on and for NVIDIA H200, and this GPU is NVIDIA GeForce RTX 4090"),
        ({}, FORM.resized((48, 60)), "takes frames of 64x48, and these are 60x48"),
        ({}, FrameFormat(height=48, width=64), "takes i420 frames, and these are rgb"),
        ({}, replace(FORM, matrix="bt601"), "takes colors as bt709 of limited range, and these are bt601 of limited"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    tmp_path: Path, a_4090: None, change: dict[str, Any], form: FrameFormat, words: str
) -> None:
    engine = write_engine(tmp_path / "wave.engine", b"never read", replace(card(), **change), b"styles")
    engine.path.unlink()
    with pytest.raises(EngineMismatch, match=words):
        open_engine(engine, program(form))


def test_a_damaged_plan_is_never_given_to_tensorrt(engine: EngineFile, a_4090: None) -> None:
    damaged = bytearray(plan())
    damaged[len(damaged) // 2] ^= 1
    engine.path.write_bytes(damaged)
    with pytest.raises(BadModel, match="wave.engine is damaged, or is not the file that wave.engine.json describes"):
        open_engine(engine, program())


def test_a_library_that_is_not_installed_is_named_with_its_command(tmp_path: Path, a_4090: None) -> None:
    engine = write_engine(tmp_path / "wave.engine", plan(), replace(card(), library="tensorrt"), b"styles")
    try:
        find_library("tensorrt")
    except MissingDependency:
        with pytest.raises(MissingDependency, match=r"pip install 'vidstyle\[tensorrt\]'"):
            open_engine(engine, program())


def test_a_gpu_that_is_not_there_is_refused(engine: EngineFile, a_4090: None) -> None:
    with pytest.raises(BadOption, match=r"gpu is 1, but here is 0 \(NVIDIA GeForce RTX 4090\); take one of these"):
        open_engine(engine, program(), BackendOptions(gpu=1))


# On a GPU


def opened(options: BackendOptions | None = None, form: FrameFormat = FORM) -> Any:
    return open_backend(program(form), options or BackendOptions(backend="tensorrt"))


def planes_of(name: str, form: FrameFormat = FORM) -> Planes:
    return planes_from_rgb(photo(name, form.size), form)


@GPU
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("size", [(360, 640), (181, 323)], ids=str)
def test_the_gpu_paints_what_the_cpu_paints(pixels: Any, size: tuple[int, int]) -> None:
    form = FrameFormat(height=size[0], width=size[1], pixels=pixels)
    with opened(form=form) as gpu, opened(BackendOptions(backend="torch", precision="fp32"), form) as cpu:
        frames = [
            photo("china", size),
            photo("astronaut", size),
            noise(size),
            flat((0, 0, 0), size),
            photo("coffee", size),
        ]
        for rgb in frames:
            planes = planes_from_rgb(rgb, form)
            assert worst_psnr(gpu.run(planes, fast_style()), cpu.run(planes, fast_style())) >= 40


@GPU
def test_the_gpu_keeps_the_order_and_repeats_itself() -> None:
    names = ("astronaut", "china", "coffee")
    with opened() as backend:
        assert "as CUDA graphs" in backend.description
        alone = [backend.run(planes_of(name), fast_style()) for name in names]
        for _ in range(20):
            pending = [backend.submit(planes_of(name), fast_style()) for name in names]
            for i in (2, 0, 1):
                assert worst_psnr(pending[i](), alone[i]) == 99


@GPU
def test_a_thousand_frames_leak_nothing() -> None:
    from vidstyle.backends.tensorrt import cuda

    device = cuda.open_gpu(0)
    planes = planes_of("china")
    with opened() as backend:
        backend.run(planes, fast_style())
        with device.current():
            before = device.free_memory()
        for _ in range(1000):
            backend.run(planes, fast_style())
        with device.current():
            assert before - device.free_memory() < 4 << 20
    device.close()


@GPU
def test_two_programs_run_beside_each_other() -> None:
    with opened() as one, opened(form=FORM.resized((96, 128))) as other:
        for _ in range(5):
            first = one.submit(planes_of("china"), fast_style())
            second = other.submit(planes_of("china", other.form), fast_style())
            assert first()[0].shape == (48, 64) and second()[0].shape == (96, 128)


@GPU
def test_the_gpu_may_be_named() -> None:
    with opened(BackendOptions(backend="tensorrt", gpu=0)) as backend:
        assert backend.name == "tensorrt"
    with pytest.raises(BadOption, match="gpu is 900, but here"):
        opened(BackendOptions(backend="tensorrt", gpu=900))


@GPU
def test_a_result_on_the_gpu_is_the_result() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch is built without CUDA")
    with opened() as backend:
        expected = backend.run(planes_of("china"), fast_style())
        inside = tuple(torch.from_numpy(plane).cuda() for plane in planes_of("china"))
        backend.device_output = True
        found = backend.run(inside, fast_style())
        assert worst_psnr(tuple(torch.from_dlpack(plane).cpu().numpy() for plane in found), expected) == 99


@GPU
def test_compiled_kernels_are_kept_and_damaged_ones_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    with opened() as backend:
        if "RTX" not in backend.description:
            pytest.skip("TensorRT compiles nothing at run time")
    (kept,) = (tmp_path / loaded.RUNTIME_CACHE).iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with opened() as backend:
        backend.run(planes_of("china"), fast_style())
    assert model_cache.read_cached(loaded.RUNTIME_CACHE, kept.stem) is not None


# What is checked of an engine


class Tensors:
    """Names, types and shapes, as an engine tells them."""

    def __init__(self, form: FrameFormat, **changes: tuple[int, ...]) -> None:
        layout = layout_of(form)
        self.shapes = {name: port.shape for name, port in layout.ports.items()} | changes

    @property
    def num_io_tensors(self) -> int:
        return len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return rtx.DataType.UINT8 if name.removesuffix("_out") in ("frame", "y", "u", "v", "uv") else rtx.DataType.FLOAT

    def get_tensor_mode(self, name: str) -> Any:
        return rtx.TensorIOMode.OUTPUT if name.endswith("_out") else rtx.TensorIOMode.INPUT


def checked(tensors: Tensors, form: FrameFormat = FORM) -> None:
    bare = object.__new__(LoadedEngine)
    bare._path, bare._library, bare._engine = Path("wave.engine"), library(), tensors
    bare.check(layout_of(form))


def test_the_tensors_of_an_engine_are_compared_with_those_it_gets() -> None:
    checked(Tensors(FORM))
    checked(Tensors(FORM, y=(1, 1, -1, -1), u=(1, 1, -1, -1)))
    with pytest.raises(BadModel, match=r"wave.engine takes y as \(1, 1, 48, 60\), not \(1, 1, 48, 64\); it is not the"):
        checked(Tensors(FORM, y=(1, 1, 48, 60)))
    with pytest.raises(BadModel, match="wave.engine has the tensors .*, not frame, frame_out, out.bias, "):
        checked(Tensors(FORM), FrameFormat(height=48, width=64))
    with pytest.raises(BadModel, match="has another kind of tensor"):
        wrong = Tensors(FORM)
        wrong.get_tensor_dtype = lambda name: rtx.DataType.HALF  # type: ignore[method-assign]
        checked(wrong)


def test_real_plans_have_the_tensors_that_the_runner_binds() -> None:
    for pixels in ("rgb", "i420", "nv12"):
        form = FrameFormat(height=30, width=46, pixels=pixels)  # type: ignore[arg-type]
        graph = onnx_from_network(FAST, form, precision="fp16").SerializeToString()
        builder = rtx.Builder(library().logger)
        network = builder.create_network(0)
        assert rtx.OnnxParser(network, library().logger).parse(graph)
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        found = {tensor.name: tuple(tensor.shape) for tensor in tensors}
        ports = layout_of(form).ports
        assert found == {name: port.shape for name, port in ports.items()}
        assert {np.dtype(rtx.nptype(t.dtype)).itemsize * int(np.prod(t.shape)) for t in tensors} == {
            port.size for port in ports.values()
        }
