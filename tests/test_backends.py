"""Every backend paints what the torch network paints, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import builtins
import itertools
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import openvino
import pytest
import torch
from conftest import has_gpu, repository, run_python
from hostdevice import HostDevice, backend_on
from networks import fast_style, hard_frames, noise, photo_planes, planes_from_rgb, styled, whole_style, worst_psnr

import vidstyle.backends as backends
from vidstyle import files
from vidstyle.backends import backend_report, base, open_backend
from vidstyle.backends.base import PACKAGES, Backend, Program, StyleTensors
from vidstyle.errors import BadModel, BadOption, MissingDependency, VidstyleError
from vidstyle.frame import FrameFormat
from vidstyle.graph import style_tensors
from vidstyle.models.architecture import FAST, PAPER, Architecture, shared_network
from vidstyle.models.style import blend
from vidstyle.options import BackendName, BackendOptions, Precision
from vidstyle.stylizer import network_program

SMALL = FrameFormat(height=48, width=64, pixels="i420")
ALL: tuple[BackendName, ...] = tuple(name for name in PACKAGES if name != "tensorrt")  # type: ignore[assignment]
EACH = pytest.mark.parametrize("name", ALL)
EACH_AND_TENSORRT = pytest.mark.parametrize("name", [*ALL, "tensorrt"])  # the latter on a GPU in host memory
# The precision that `auto` takes here, and the exact one.
GRAPH_BACKENDS: tuple[tuple[BackendName, Precision], ...] = (
    ("openvino", "auto"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
)
EACH_GRAPH_BACKEND = pytest.mark.parametrize(("name", "precision"), GRAPH_BACKENDS)
FORMS = [
    FrameFormat(height=1, width=1),
    FrameFormat(height=7, width=13),
    FrameFormat(height=97, width=131),
    FrameFormat(height=1, width=1, pixels="i420", matrix="bt601"),
    FrameFormat(height=7, width=13, pixels="i420", full_range=True),
    FrameFormat(height=97, width=131, pixels="i420", matrix="bt601", full_range=True),
    FrameFormat(height=90, width=120, pixels="i420"),
    FrameFormat(height=13, width=7, pixels="nv12", matrix="bt601"),
    FrameFormat(height=97, width=131, pixels="nv12"),
    FrameFormat(height=62, width=128, pixels="i420"),  # four lanes of columns, see vidstyle.graph.winograd
    FrameFormat(height=125, width=72, pixels="nv12"),  # four lanes of rows
]


def program(form: FrameFormat, shape: Architecture = FAST) -> Program:
    return network_program(shape, form)


def options(name: BackendName, precision: Precision = "auto") -> BackendOptions:
    return BackendOptions(backend=name, precision=precision, threads=2)


def opened(name: BackendName, form: FrameFormat = SMALL, precision: Precision = "auto") -> Backend:
    if name == "tensorrt":
        return backend_on(HostDevice(), form)[0]
    return open_backend(program(form), options(name, precision))


@cache
def reference(form: FrameFormat, shape: Architecture = FAST) -> Backend:
    return open_backend(program(form, shape), BackendOptions(backend="torch", precision="fp32"))


# The same picture


@EACH_GRAPH_BACKEND
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_backend_paints_what_torch_paints(name: BackendName, precision: Precision, form: FrameFormat) -> None:
    with open_backend(program(form), options(name, precision)) as backend:
        for picture in ("astronaut", "china"):
            planes = photo_planes(picture, form)
            expected = reference(form).run(planes, fast_style())
            assert worst_psnr(backend.run(planes, fast_style()), expected) >= (50 if precision == "fp32" else 45)


@EACH_GRAPH_BACKEND
def test_a_backend_paints_hard_frames_as_torch_does(name: BackendName, precision: Precision) -> None:
    form = FrameFormat(height=180, width=320, pixels="i420")
    colors = ("black", "white", "gray", "red", "blue")
    frames = hard_frames(form.size, *colors, "noise", "faint", "dark", "letterbox", "flower")
    with open_backend(program(form), options(name, precision)) as backend:
        for what, rgb in frames.items():
            planes = planes_from_rgb(rgb, form)
            expected = reference(form).run(planes, fast_style())
            found = worst_psnr(backend.run(planes, fast_style()), expected)
            assert found >= 40, f"{what}: {found:.1f} dB"


@EACH_GRAPH_BACKEND
@pytest.mark.parametrize("form", [FORMS[2], FORMS[5], FORMS[7]], ids=str)
def test_a_backend_paints_with_the_paper_network_too(
    name: BackendName, precision: Precision, form: FrameFormat
) -> None:
    style = styled(shared_network("paper"))
    with open_backend(program(form, PAPER), options(name, precision)) as backend:
        planes = photo_planes("chelsea", form)
        expected = reference(form, PAPER).run(planes, style)
        assert worst_psnr(backend.run(planes, style), expected) >= 40


@EACH_AND_TENSORRT
def test_the_style_comes_with_each_frame(name: BackendName) -> None:
    planes, form = photo_planes("coffee", SMALL), SMALL
    one, two = whole_style("one", 1), whole_style("two", 2)
    styles = [fast_style(), one, one, blend([(one, 0.3), (two, 0.7)]), two, fast_style()]
    with opened(name, precision="fp32") as backend:
        painted = [backend.run(planes, style) for style in styles]
    for style, found in zip(styles, painted, strict=True):
        assert worst_psnr(found, reference(form).run(planes, style)) >= 50, style.name
    assert worst_psnr(painted[1], painted[2]) == worst_psnr(painted[0], painted[5]) == 99
    assert all(worst_psnr(a, b) < 40 for a, b in itertools.combinations(painted[1:5:2] + painted[4:], 2))


@EACH
def test_a_program_of_one_style_paints_the_same(name: BackendName) -> None:
    planes, style = photo_planes("coffee", SMALL), blend([(whole_style("one", 1), 1), (fast_style(), 1)])
    single = network_program(FAST, SMALL, only=style.network)
    with opened(name, precision="fp32") as backend, open_backend(single, options(name, "fp32")) as alone:
        assert worst_psnr(alone.run(planes, style), backend.run(planes, style)) >= 50


def test_a_blend_is_mixed_once_and_within_milliseconds() -> None:
    styles = [whole_style(str(seed), seed) for seed in range(4)]
    tensors = StyleTensors(FAST, lambda network: style_tensors(network, SMALL))
    blocks = [tensors.block(style) for style in styles]
    assert all(tensors.block(style) is block for style, block in zip(styles, blocks, strict=True))
    mixed = blend([(style, 1.0) for style in styles])
    began = time.process_time()
    block = tensors.block(mixed)
    assert time.process_time() - began < 0.005
    assert tensors.block(blend([(style, 2.0) for style in styles])) is block
    expected = style_tensors(mixed.network, SMALL)
    for name, found in tensors.views(block).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5)


# Frames in flight


@EACH_AND_TENSORRT
def test_frames_in_flight_come_back_as_themselves_in_their_style_in_any_order(name: BackendName) -> None:
    styles = [whole_style("one", 1), fast_style(), whole_style("two", 2), fast_style()]
    pictures = [photo_planes(name, SMALL) for name in ("astronaut", "china", "coffee", "flower")]
    frames = list(zip(pictures, styles, strict=True))
    with opened(name) as backend:
        alone = [backend.run(*frame) for frame in frames]
        for start in range(len(frames)):
            chosen = [(start + i) % len(frames) for i in range(backend.in_flight)]
            pending = [(i, backend.submit(*frames[i])) for i in chosen]
            assert all(worst_psnr(wait(), alone[i]) >= 60 for i, wait in reversed(pending))


@EACH_AND_TENSORRT
def test_planes_of_the_caller_are_read_as_they_are_and_results_are_his(name: BackendName) -> None:
    planes = photo_planes("china", SMALL)
    padded = tuple(np.pad(plane, ((0, 0), (0, 9)))[:, : plane.shape[1]] for plane in planes)
    for plane in padded:
        plane.flags.writeable = False
    with opened(name) as backend:
        kept = backend.run(planes, fast_style())
        copies = tuple(plane.copy() for plane in kept)
        assert worst_psnr(backend.run(padded, fast_style()), copies) == 99
        for _ in range(backend.in_flight + 1):
            backend.run(planes_from_rgb(noise(SMALL.size), SMALL), fast_style())
        assert worst_psnr(kept, copies) == 99 and all(plane.flags.writeable for plane in kept)
        for _ in range(backend.in_flight):  # nobody waits for these
            backend.submit(planes, fast_style())
    backend.close()


def test_more_frames_than_fit_are_refused() -> None:
    with opened("openvino") as backend:
        pending = [backend.submit(photo_planes("china", SMALL), fast_style()) for _ in range(backend.in_flight)]
        with pytest.raises(VidstyleError, match="frames are under way"):
            backend.submit(photo_planes("china", SMALL), fast_style())
        for wait in pending:
            wait()


@EACH_AND_TENSORRT
def test_wrong_planes_and_styles_are_refused_in_a_sentence(name: BackendName) -> None:
    planes = photo_planes("china", SMALL)
    with opened(name) as backend:
        with pytest.raises(BadOption, match=r"planes have shapes .* this program takes uint8 of \(\(48, 64\)"):
            backend.run(planes[:2], fast_style())
        with pytest.raises(BadOption, match="this program takes uint8"):
            backend.run((planes[0].astype(np.float32), *planes[1:]), fast_style())  # type: ignore[arg-type]
        with pytest.raises(BadOption, match="'style' is for the network 'paper'; this program runs 'fast'"):
            backend.run(planes, styled(shared_network("paper")))


# Choosing


@EACH
def test_the_description_says_library_precision_and_where(name: BackendName) -> None:
    report = {status.name: status for status in backend_report()}
    with opened(name, precision="fp32") as backend:
        assert "fp32" in backend.description
        version = report[name].version
        assert version is not None and version.split("+")[0] in backend.description
    with open_backend(program(SMALL)) as best:
        assert best.name == next(iter(report))


def test_the_report_imports_no_library() -> None:
    code = (
        "import sys, vidstyle.backends.tensorrt.sdk; from vidstyle.backends import backend_report;"
        "assert len(backend_report()) == 4; libraries = {'torch', 'openvino', 'onnxruntime', 'onnx', 'tensorrt_rtx',"
        "'tensorrt', 'cuda', 'numpy.f2py'}; sys.exit(bool(libraries & set(sys.modules)))"
    )
    run_python(code)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Packages named in this set cannot be imported, and backends are loaded anew."""
    hidden: set[str] = set()
    original = builtins.__import__

    def importing(name: str, *rest: object, **more: object) -> object:
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", importing)
    for name in ALL:
        monkeypatch.delitem(sys.modules, f"vidstyle.backends.{name}", raising=False)
    yield hidden


@EACH
def test_a_missing_backend_is_an_error_with_the_command(without: set[str], name: BackendName) -> None:
    without.add(name)
    command = re.escape(PACKAGES[name][0].install)
    with pytest.raises(MissingDependency, match=f"backend '{name}' cannot be loaded: .*; install it with: {command}$"):
        open_backend(program(SMALL), options(name))


def test_auto_goes_on_to_the_next_best(without: set[str]) -> None:
    without.add(backend_report()[0].name)
    with open_backend(program(SMALL)) as backend:
        assert backend.name == backend_report()[1].name


def test_auto_without_any_library_names_them_all(without: set[str]) -> None:
    without.update(ALL)
    with pytest.raises(MissingDependency, match=r"no inference library works here: .*openvino.*onnxruntime.*torch"):
        open_backend(program(SMALL))


def test_auto_takes_first_what_runs_on_a_gpu_or_says_what_it_would_have_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise VidstyleError("the GPU's memory is full")

    monkeypatch.setattr(backends, "gpu_backends", lambda number: ("torch", "onnxruntime"))
    assert [status.name for status in backend_report()][:2] == ["torch", "onnxruntime"]
    with open_backend(program(SMALL)) as backend:
        assert backend.name == "torch"
    monkeypatch.setattr("vidstyle.backends.torch.open_program", refuse)
    with open_backend(program(SMALL)) as backend:
        assert backend.name == "onnxruntime"
        assert backend.description.endswith("(instead of torch: the GPU's memory is full)")
    monkeypatch.setattr(backends, "gpu_backends", lambda number: ("torch",))
    with pytest.raises(BadOption, match="nothing runs on GPU 0: torch: the GPU's memory is full"):
        open_backend(program(SMALL), BackendOptions(gpu=0))


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_and_never_the_processor() -> None:
    with pytest.raises(BadOption, match="gpu is 0, but no NVIDIA GPU answers here .*; leave it out for the CPU"):
        open_backend(program(SMALL), BackendOptions(gpu=0))
    with pytest.raises(BadOption, match="gpu is 0, an NVIDIA GPU, which OpenVINO does not know"):
        open_backend(program(SMALL), BackendOptions(backend="openvino", gpu=0))


def test_whether_torch_knows_cuda_is_read_without_importing_it() -> None:
    assert backends.torch_has_cuda() == (torch.version.cuda is not None)


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadOption, match="bf16"):
        opened("onnxruntime", precision="bf16")
    monkeypatch.setattr("vidstyle.backends.openvino.cpu_capabilities", lambda core: ["FP32", "INT8"])
    with pytest.raises(
        BadOption, match="precision is bf16, but OpenVINO on this processor computes in fp32, int8; use"
    ):
        opened("openvino", precision="bf16")
    with opened("openvino") as backend:
        assert "fp32" in backend.description


def test_threads_are_those_asked_for() -> None:
    for name in ("openvino", "onnxruntime"):
        with open_backend(program(SMALL), BackendOptions(backend=name, threads=1)) as backend:
            assert "threads: 1" in backend.description
    before = torch.get_num_threads()
    with open_backend(program(SMALL), BackendOptions(backend="torch", threads=1)) as backend:
        backend.run(photo_planes("china", SMALL), fast_style())
    assert torch.get_num_threads() == before


def test_a_quota_of_the_control_group_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = base.find_cpu()
    monkeypatch.setattr(base, "find_cpu", lambda: replace(cpu, usable_cores=8, quota=1.5))
    assert base.usable_cores() == 2
    monkeypatch.setattr(base, "find_cpu", lambda: replace(cpu, usable_cores=8, quota=None))
    assert base.usable_cores() == 8


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_graph_that_is_none_is_a_sentence(name: BackendName) -> None:
    broken = replace(program(SMALL), graph=lambda kind: b"this is no graph", recipe="none", winograd=lambda: None)
    with pytest.raises(BadModel, match="cannot (compile|load) the graph: ") as caught:
        open_backend(broken, options(name))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


# Compiled models between runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "openvino"


def test_the_second_run_takes_what_the_first_compiled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = photo_planes("china", SMALL)
    with opened("openvino") as backend:
        first = backend.run(planes, fast_style())
    (file,) = home.iterdir()

    def refuse(*arguments: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino.Core, "compile_model", refuse)
    with opened("openvino") as backend:
        assert worst_psnr(backend.run(planes, fast_style()), first) == 99
        backend.run(planes, whole_style("other", 1))
    assert list(home.iterdir()) == [file]
    with pytest.raises(AssertionError, match="compiled again"):  # another size is another model
        opened("openvino", SMALL.resized((48, 68)))


DAMAGE = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "flipped": lambda whole: whole[:999] + bytes([whole[999] ^ 255]) + whole[1000:],
    "empty": lambda whole: b"",
    "foreign": lambda whole: b"another program's file",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_compiled_model_is_made_again(home: Path, damage: str) -> None:
    planes = photo_planes("china", SMALL)
    with opened("openvino") as backend:
        first = backend.run(planes, fast_style())
    (file,) = home.iterdir()
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with opened("openvino") as backend:
        assert worst_psnr(backend.run(planes, fast_style()), first) == 99
    assert files.read_cached("openvino", file.stem) is not None


def test_a_model_of_another_build_is_made_again_and_without_a_home_each_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("openvino").close()
    (file,) = home.iterdir()
    files.write_cached("openvino", file.stem, b"whole, but not for this build")
    for _ in range(2):
        with opened("openvino") as backend:
            backend.run(photo_planes("china", SMALL), fast_style())
        monkeypatch.setenv("VIDSTYLE_HOME", str(file))  # a folder cannot be made there


def test_the_model_used_longest_ago_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CACHED_FILES_KEPT", 3)
    for i in range(3):
        files.write_cached("openvino", f"model{i}", b"data")
        os.utime(home / f"model{i}.model", (i, i))
    assert files.read_cached("openvino", "model0") == b"data"
    files.write_cached("openvino", "model3", b"data")
    assert sorted(path.stem for path in home.iterdir()) == ["model0", "model2", "model3"]


def test_each_library_and_setting_has_its_own_key() -> None:
    keys = {files.cache_key(*parts) for parts in (("a", "bc"), ("ab", "c"), ("abc",), (b"abc", ""))}
    assert len(keys) == 4


def test_the_package_lists_its_backends_once() -> None:
    assert {status.name for status in backend_report()} == set(get_args(BackendName)) - {"auto"} == set(PACKAGES)
    extras = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package in (package for packages in PACKAGES.values() for package in packages):
        extra = re.fullmatch(r"pip install 'vidstyle\[(.+)\]'", package.install)
        assert package.install == f"pip install {package.module}" or (extra and extra[1] in extras)
