"""Engines at run time: what fits, the real interface of TensorRT, refusals without a GPU, kernels kept on disk."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import has_gpu
from networks import fast_style, flat, noise, photo, photo_planes, planes_from_rgb, worst_psnr

from engines import ADA, FORM, HOPPER, TURING, engine_card, pretend_gpu, small_plan
from vidstyle.backends import open_backend
from vidstyle.backends.base import StyleTensors
from vidstyle.backends.tensorrt import open_engine, open_program, runtime
from vidstyle.backends.tensorrt.runtime import FAULTS, Layout, LoadedEngine, check_tensors, fault_words, mismatch
from vidstyle.backends.tensorrt.sdk import PORTABLE, Library, find_library
from vidstyle.errors import BadModel, BadOption, EngineMismatch, MissingDependency
from vidstyle.files import read_cached
from vidstyle.frame import FrameFormat
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST
from vidstyle.models.engine_file import EngineFile, write_engine
from vidstyle.options import BackendOptions
from vidstyle.stylizer import network_program

rtx = pytest.importorskip("tensorrt_rtx")
pytest.importorskip("cuda.bindings")
LIBRARY = find_library("tensorrt-rtx")
PLAIN = Library("tensorrt", rtx, "11.4.0.106")
SOURCE = Path(runtime.__file__).read_text()
SOURCE = SOURCE[SOURCE.index("class LoadedEngine") :]
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


def layout_of(form: FrameFormat) -> Layout:
    return Layout.of(form, StyleTensors(FAST, network_program(FAST, form).style_tensors), padded=False)


@pytest.fixture
def engine(tmp_path: Path) -> EngineFile:
    card = engine_card(size=FORM.size, targets=("8.9",), library_version=LIBRARY.version, styles=("great_wave",))
    return write_engine(tmp_path / "wave.engine", small_plan(), card, b"styles")


# Whether one fits


def card_of(**changes: Any) -> EngineFile:
    facts = {"library_version": LIBRARY.version, "targets": PORTABLE, **changes}
    return EngineFile(Path("starry.engine"), engine_card(**facts))


def form(width: int = 1280, height: int = 720, **changes: Any) -> FrameFormat:
    return FrameFormat(height=height, width=width, **{"pixels": "i420", "matrix": "bt709", **changes})


ON_HOPPER = card_of(library="tensorrt", library_version=PLAIN.version, gpu=HOPPER.name, targets=("9.0",))
DYNAMIC = card_of(smallest=(64, 64), largest=(1080, 1920))
SIZES = "starry.engine takes frames of 1280x720, and these are "


@pytest.mark.parametrize(
    ("engine", "frames", "gpu", "library"),
    [
        (card_of(), form(), ADA, LIBRARY),
        (card_of(), None, ADA, LIBRARY),
        (ON_HOPPER, form(), HOPPER, PLAIN),
        (DYNAMIC, form(642, 359), ADA, LIBRARY),
        (card_of(pixels="rgb"), form(pixels="rgb", matrix="bt601"), ADA, LIBRARY),
    ],
)
def test_an_engine_for_this_gpu_version_and_frames_fits(
    engine: EngineFile, frames: Any, gpu: Any, library: Any
) -> None:
    assert mismatch(engine, frames, gpu, library) is None


# What cannot be mended comes first: without a GPU no engine runs, and one of another version has to be built again.
@pytest.mark.parametrize(
    ("engine", "frames", "gpu", "words"),
    [
        (card_of(library_version="1.0", pixels="rgb"), form(), None, "needs an NVIDIA GPU, .*`--style starry_night`"),
        (card_of(styles=("mine",)), form(), None, "with one that `vidstyle styles` lists"),
        (card_of(library_version="1.0", pixels="rgb"), form(), ADA, "by tensorrt-rtx 1.0, .*`pip install tensorrt-rtx"),
        (ON_HOPPER, form(), ADA, "was built by tensorrt 11.4.0.106, .* here is tensorrt-rtx"),
        (card_of(), form(), TURING, r"8.0, 8.6, 8.9, 12.0, and this one is NVIDIA GeForce RTX 2080 \(.* 7.5"),
        (card_of(), form(), HOPPER, r"does not know this one, NVIDIA H200 .*pip install 'vidstyle\[tensorrt\]' and"),
        (card_of(gpu="NVIDIA GeForce RTX 4080"), form(), ADA, "on and for NVIDIA GeForce RTX 4080, .* RTX 4090"),
        (card_of(), form(640, 360), ADA, f"{SIZES}640x360; build it again with `--rebuild`$"),
        (card_of(), form(1920, 1080), ADA, f"{SIZES}1920x1080; .*, or paint at its size with `--work-size 720`$"),
        (card_of(), form(1080, 1920), ADA, f"{SIZES}1080x1920; build it again with `--rebuild`$"),
        (DYNAMIC, form(3840, 2160), ADA, "frames of 64x64 to 1920x1080, .*`--work-size 1080`"),
        (card_of(), form(640, 360, pixels="rgb"), ADA, "takes i420 frames, and these are rgb"),
        (card_of(), form(matrix="bt601"), ADA, "bt709 of limited range, and these are bt601 of limited range"),
        (card_of(), form(full_range=True), ADA, "these are bt709 of full range"),
    ],
)
def test_what_does_not_fit_says_both_and_what_to_do(engine: EngineFile, frames: Any, gpu: Any, words: str) -> None:
    found = mismatch(engine, frames, gpu, LIBRARY)
    assert found is not None and re.search(words, found), found
    assert ("`--rebuild`" in found) == (gpu is not None) and "\n" not in found


def test_a_command_to_paste_does_nothing_else() -> None:
    found = mismatch(card_of(library_version="1; touch x"), form(), ADA, LIBRARY)
    assert found is not None and shlex.split(found.split("`")[-2]) == ["pip", "install", "tensorrt-rtx==1; touch x"]


# The interface


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


def test_every_member_exists() -> None:
    assert {
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeCache.deserialize",
        "Runtime.get_engine_validity",
        "CudaGraphStrategy.DISABLED",
        "EngineValidity.INVALID",
    } <= members()
    for member in sorted(members()):
        owner, name = member.split(".")
        getattr(rtx if owner == "tensorrt_rtx" else getattr(rtx, owner), name)


def test_host_code_in_engines_stays_forbidden() -> None:
    assert rtx.Runtime(LIBRARY.logger).engine_host_code_allowed is False
    assert not re.search(r"engine_host_code_allowed\s*=", SOURCE)


def test_every_fault_has_its_words() -> None:
    known = rtx.EngineInvalidityDiagnostics.__members__
    assert {name: fault_words(LIBRARY, int(value)) for name, value in known.items()} == FAULTS
    both = known["VERSION_MISMATCH"].value | known["OLD_CUDA_DRIVER"].value
    assert fault_words(LIBRARY, both) == f"{FAULTS['VERSION_MISMATCH']}; {FAULTS['OLD_CUDA_DRIVER']}"


# Refusals


def test_a_plan_that_is_none_is_refused_with_the_librarys_own_verdict(engine: EngineFile) -> None:
    words = f"on NVIDIA GeForce RTX 4090 with tensorrt-rtx {LIBRARY.version}: {FAULTS['MALFORMED_ENGINE']}; build it ag"
    with pytest.raises(EngineMismatch, match=f"wave.engine cannot be used {words}"):
        LoadedEngine(engine, b"rubbish" * 100, LIBRARY, ADA)


@NO_GPU
def test_a_good_plan_is_refused_where_cuda_does_not_run(engine: EngineFile) -> None:
    with pytest.raises(EngineMismatch, match="wave.engine cannot be used on .* build it again with `--rebuild`"):
        LoadedEngine(engine, small_plan(), LIBRARY, ADA)


@NO_GPU
def test_without_a_gpu_both_ways_to_one_say_what_to_do(engine: EngineFile) -> None:
    with pytest.raises(EngineMismatch, match=r"wave.engine is an engine, .* machine \(.+\); paint .*`--style great_w"):
        open_engine(engine, network_program(FAST, FORM))
    for options in (BackendOptions(backend="tensorrt"), BackendOptions(backend="tensorrt", gpu=0)):
        with pytest.raises(BadOption, match=r"backend is 'tensorrt', .* machine \(.+\); leave --backend out"):
            open_backend(network_program(FAST, FORM), options)


def test_another_backend_or_precision_for_an_engine_is_refused(engine: EngineFile) -> None:
    program = network_program(FAST, FORM)
    with pytest.raises(BadOption, match="wave.engine is an engine, which TensorRT runs; backend is 'openvino'"):
        open_engine(engine, program, BackendOptions(backend="openvino"))
    with pytest.raises(BadOption, match=r"precision is fp32, and .*wave.engine computes in fp16; leave it out"):
        open_engine(engine, program, BackendOptions(precision="fp32"))
    with pytest.raises(BadOption, match="precision is bf16, but TensorRT computes in fp16, fp32"):
        open_program(program, BackendOptions(precision="bf16"))


def test_a_library_or_a_gpu_that_is_not_there_is_refused(engine: EngineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    with pytest.raises(BadOption, match=r"gpu is 1, but here is 0 \(NVIDIA GeForce RTX 4090\); take one of these"):
        open_engine(engine, network_program(FAST, FORM), BackendOptions(gpu=1))
    try:
        find_library("tensorrt")
    except MissingDependency:
        other = EngineFile(engine.path, replace(engine.card, library="tensorrt"))
        with pytest.raises(MissingDependency, match=r"pip install 'vidstyle\[tensorrt\]'"):
            open_engine(other, network_program(FAST, FORM))


# What is checked of an engine


class Tensors:
    """Names, types and shapes, as an engine tells them."""

    def __init__(self, **changes: tuple[int, ...]) -> None:
        self.shapes = {name: port.shape for name, port in layout_of(FORM).ports.items()} | changes
        self.num_io_tensors = len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return rtx.DataType.UINT8 if name.removesuffix("_out") in ("y", "u", "v") else rtx.DataType.FLOAT

    def get_tensor_mode(self, name: str) -> Any:
        return rtx.TensorIOMode.OUTPUT if name.endswith("_out") else rtx.TensorIOMode.INPUT


class HalfTensors(Tensors):
    def get_tensor_dtype(self, name: str) -> Any:
        return rtx.DataType.HALF


def test_the_tensors_of_an_engine_are_compared_with_those_it_gets() -> None:
    layout, path = layout_of(FORM), Path("wave.engine")
    for fits in (Tensors(), Tensors(y=(1, 1, -1, -1), u=(1, 1, -1, -1))):
        check_tensors(fits, layout, LIBRARY, path)
    for tensors, words in (
        (Tensors(y=(1, 1, 48, 60)), r"wave.engine takes y as \(1, 1, 48, 60\), not \(1, 1, 48, 64\)"),
        (Tensors(y=(1, 48, 64)), r"takes y as \(1, 48, 64\)"),
        (Tensors(more=(1,)), "wave.engine has the tensors .*more.*, not .*out.bias, "),
        (HalfTensors(), "has another kind of tensor"),
    ):
        with pytest.raises(BadModel, match=words):
            check_tensors(tensors, layout, LIBRARY, path)


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_real_plans_have_the_tensors_that_are_bound(pixels: Any) -> None:
    frames = FrameFormat(height=30, width=46, pixels=pixels)
    graph = onnx_from_network(FAST, frames, precision="fp16").SerializeToString()
    builder = rtx.Builder(LIBRARY.logger)
    network = builder.create_network(0)
    assert rtx.OnnxParser(network, LIBRARY.logger).parse(graph)
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    ports = layout_of(frames).ports
    assert {tensor.name: tuple(tensor.shape) for tensor in tensors} == {n: port.shape for n, port in ports.items()}
    sizes = {t.name: np.dtype(rtx.nptype(t.dtype)).itemsize * int(np.prod(t.shape)) for t in tensors}
    assert sizes == {name: port.size for name, port in ports.items()}


# On a GPU


def opened(options: BackendOptions | None = None, form: FrameFormat = FORM) -> Any:
    return open_backend(network_program(FAST, form), options or BackendOptions(backend="tensorrt"))


@GPU
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("size", [(360, 640), (181, 323)], ids=str)
def test_the_gpu_paints_what_the_cpu_paints(pixels: Any, size: tuple[int, int]) -> None:
    frames = FrameFormat(height=size[0], width=size[1], pixels=pixels)
    pictures = [photo(name, size) for name in ("china", "astronaut", "coffee")] + [noise(size), flat((0, 0, 0), size)]
    with opened(form=frames) as gpu, opened(BackendOptions(backend="torch", precision="fp32"), frames) as cpu:
        for rgb in pictures:
            planes = planes_from_rgb(rgb, frames)
            assert worst_psnr(gpu.run(planes, fast_style()), cpu.run(planes, fast_style())) >= 40


@GPU
def test_the_gpu_keeps_the_order_and_repeats_itself() -> None:
    names = ("astronaut", "china", "coffee")
    with opened() as backend:
        assert "as CUDA graphs" in backend.description
        alone = [backend.run(photo_planes(name, FORM), fast_style()) for name in names]
        for _ in range(20):
            pending = [backend.submit(photo_planes(name, FORM), fast_style()) for name in names]
            for i in (2, 0, 1):
                assert worst_psnr(pending[i](), alone[i]) == 99


@GPU
def test_a_thousand_frames_leak_nothing() -> None:
    from cuda.bindings import driver

    from vidstyle.backends.tensorrt.cuda import call, open_gpu

    device, planes = open_gpu(0), photo_planes("china", FORM)
    with opened() as backend, device.current():
        backend.run(planes, fast_style())
        before, _ = call(driver.cuMemGetInfo)
        for _ in range(1000):
            backend.run(planes, fast_style())
        assert before - call(driver.cuMemGetInfo)[0] < 4 << 20
    device.close()


@GPU
def test_two_programs_run_beside_each_other() -> None:
    with opened() as one, opened(form=FORM.resized((96, 128))) as other:
        for _ in range(5):
            first = one.submit(photo_planes("china", FORM), fast_style())
            second = other.submit(photo_planes("china", other.form), fast_style())
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
        expected = backend.run(photo_planes("china", FORM), fast_style())
        inside = tuple(torch.from_numpy(plane).cuda() for plane in photo_planes("china", FORM))
        backend.device_output = True
        found = backend.run(inside, fast_style())
        assert worst_psnr(tuple(torch.from_dlpack(plane).cpu().numpy() for plane in found), expected) == 99


@GPU
def test_compiled_kernels_are_kept_and_damaged_ones_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    with opened() as backend:
        if "RTX" not in backend.description:
            pytest.skip("TensorRT compiles nothing at run time")
    (kept,) = (tmp_path / runtime.RUNTIME_CACHE).iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with opened() as backend:
        backend.run(photo_planes("china", FORM), fast_style())
    assert read_cached(runtime.RUNTIME_CACHE, kept.stem) is not None
