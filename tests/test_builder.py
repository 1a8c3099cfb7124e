"""Plans of TensorRT-RTX, really built: types, targets, progress, and how a build stops."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

from engines import ADA, tensorrt_as_far_as_rtx
from vidstyle.backends.tensorrt.builder import BuildProgress, Plan, build_plan
from vidstyle.backends.tensorrt.sdk import PORTABLE, GpuFacts, Library, find_library
from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.frame import FrameFormat
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import ARCHITECTURES
from vidstyle.options import BuildOptions, EnginePrecision, Pixels

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

NORMS = {"fast": 12, "paper": 15}


@pytest.fixture(scope="module")
def rtx() -> Library:
    return find_library("tensorrt-rtx")


def graph(network: str, options: BuildOptions) -> bytes:
    height, width = options.size
    form = FrameFormat(height=height, width=width, pixels=options.pixels)
    model = onnx_from_network(ARCHITECTURES[network], form, precision=options.precision, dynamic=options.dynamic)
    return bytes(model.SerializeToString())


def built(rtx: Library, network: str = "fast", on_progress: Any = None, **changes: Any) -> Plan:
    options = BuildOptions(**{"size": (64, 96), **changes})
    return build_plan(graph(network, options), options, rtx, on_progress)


def holds_half(plan: Plan, network: str) -> None:
    assert plan.norms == {"float": NORMS[network]}
    assert plan.convolutions["float"] == 1  # the mean of a color
    assert plan.convolutions["half"] >= len(ARCHITECTURES[network].convs)
    assert plan.layers["half"] > 2 * plan.layers["float"]


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
@pytest.mark.parametrize("size", [(361, 641), (1080, 1920)])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_fp16_plans_of_one_size_compute_in_half(
    rtx: Library, network: str, size: tuple[int, int], pixels: Pixels
) -> None:
    plan = built(rtx, network, size=size, pixels=pixels)
    holds_half(plan, network)
    assert (plan.targets, plan.gpu, plan.inspected, plan.notes) == (PORTABLE, None, None, [])
    assert len(plan.plan) > 500_000


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_dynamic_plans_compute_in_half(rtx: Library, network: str, pixels: Pixels) -> None:
    plan = built(rtx, network, size=(720, 1280), smallest=(64, 64), largest=(1080, 1920), pixels=pixels)
    holds_half(plan, network)


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_fp32_plans_compute_in_float(rtx: Library, network: str) -> None:
    plan = built(rtx, network, precision="fp32")
    assert set(plan.convolutions) == set(plan.layers) == {"float"}


@pytest.mark.parametrize(
    ("targets", "capabilities"),
    [(("turing",), ("7.5",)), (("ampere", "ada"), ("8.0", "8.6", "8.9")), (("turing", "portable"), ("7.5", *PORTABLE))],
)
def test_plans_are_built_for_gpus_that_are_not_here(rtx: Library, targets: Any, capabilities: tuple[str, ...]) -> None:
    plan = built(rtx, targets=targets, optimization_level=0, workspace_mib=1024)
    assert plan.targets == capabilities


def test_too_little_workspace_is_the_librarys_own_sentence(rtx: Library) -> None:
    with pytest.raises(BadModel, match=r"tensorrt-rtx .* cannot build this engine: .*(OutOfMemory|workspace)"):
        built(rtx, size=(720, 1280), workspace_mib=1)


@pytest.mark.parametrize(("asked", "written"), [("fp16", "fp32"), ("fp32", "fp16")])
def test_other_types_than_those_asked_for_are_an_error(
    rtx: Library, asked: EnginePrecision, written: EnginePrecision
) -> None:
    given = graph("fast", BuildOptions(size=(64, 96), precision=written))
    with pytest.raises(BadModel, match=f"an {asked} engine was asked for, and .* came out in {written}"):
        build_plan(given, BuildOptions(size=(64, 96), precision=asked), rtx)


def test_half_statistics_are_an_error(rtx: Library) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        half (float16[1, 3, 8, 8] x, float16[3, 3, 1, 1] w, float16[3] s) => (float16[1, 3, 8, 8] y) {
            c = Conv(x, w)
            y = InstanceNormalization(c, s, s)
        }
    """)
    with pytest.raises(BadModel, match="statistics came out as half, which a flat frame overflows"):
        build_plan(model.SerializeToString(), BuildOptions(size=(8, 8)), rtx)


@pytest.mark.parametrize("damage", [b"", b"no graph", "cut"])
def test_a_graph_that_cannot_be_read_is_a_sentence(rtx: Library, damage: bytes | str) -> None:
    whole = graph("fast", BuildOptions(size=(64, 96)))
    given = whole[: len(whole) // 2] if isinstance(damage, str) else damage
    with pytest.raises(BadModel, match="cannot read the graph|holds no convolution"):
        build_plan(given, BuildOptions(size=(64, 96)), rtx)


def test_progress_rises_to_its_end_on_the_callers_thread(rtx: Library, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[BuildProgress, int]] = []
    built(rtx, on_progress=lambda at: seen.append((at, threading.get_ident())))
    fractions = [at.fraction for at, _ in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < 0.1
    assert 0.8 < fractions[-1] <= 1
    assert {thread for _, thread in seen} == {threading.get_ident()}
    assert len({at.phase for at, _ in seen}) > 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_the_callback_raises_stops_the_build(
    rtx: Library, error: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[BuildProgress] = []

    def stop(at: BuildProgress) -> None:
        calls.append(at)
        if len(calls) == 5:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        built(rtx, on_progress=stop)
    assert len(calls) == 5
    assert capfd.readouterr() == ("", "")
    holds_half(built(rtx), "fast")  # the next one is none the worse


def test_ctrl_c_stops_the_build_and_the_handlers_are_as_before(rtx: Library, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    calls: list[BuildProgress] = []

    def interrupt(at: BuildProgress) -> None:
        calls.append(at)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        built(rtx, on_progress=interrupt)
    assert len(calls) < 20
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr() == ("", "")


def test_a_build_on_another_thread_leaves_signals_alone(rtx: Library) -> None:
    plans: list[Plan] = []
    thread = threading.Thread(target=lambda: plans.append(built(rtx)), daemon=True)
    thread.start()
    thread.join(100)
    holds_half(plans[0], "fast")


def test_a_timing_cache_has_no_effect_on_rtx(rtx: Library, tmp_path: Path) -> None:
    plan = built(rtx, timing_cache=str(tmp_path / "timings"))
    assert plan.notes == ["tensorrt-rtx times nothing when it builds, so --timing-cache has no effect"]
    assert not list(tmp_path.iterdir())


# TensorRT itself builds only where there is a GPU. Its way through the builder is gone here with the module of
# TensorRT-RTX, whose interface is the same, and with a GPU that is named but not asked.


@pytest.fixture
def tensorrt(rtx: Library) -> Library:
    return tensorrt_as_far_as_rtx(rtx)


def built_here(library: Library, gpu: GpuFacts = ADA, **changes: Any) -> Plan:
    options = BuildOptions(**{"size": (64, 96), **changes})
    return build_plan(graph("fast", options), options, library, gpu=gpu)


def test_tensorrt_builds_for_the_gpu_that_is_here(tensorrt: Library) -> None:
    plan = built_here(tensorrt)
    assert (plan.targets, plan.gpu, plan.inspected) == (("8.9",), ADA.name, None)
    holds_half(plan, "fast")
    plan = built_here(tensorrt, targets=("portable",))
    assert (plan.targets, plan.gpu) == (("8.0+",), None)
    assert plan.notes == ["a portable TensorRT engine is slower than one for the current GPU alone"]


# TensorRT-RTX has the functions, and warns that they do nothing.
no_ops = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")


@no_ops
def test_timings_are_kept_from_build_to_build(tensorrt: Library, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    assert built_here(tensorrt, timing_cache=str(cache)).notes == []
    kept = cache.read_bytes()
    assert built_here(tensorrt, timing_cache=str(cache)).notes == []
    assert [path.name for path in tmp_path.iterdir()] == ["timings"]
    anew = [f"the timing cache {cache} is damaged, or of another GPU or version, and was made anew"]
    for content in (kept[:-1], kept[:40], kept[:-1] + bytes([kept[-1] ^ 1]), kept + b"more"):
        cache.write_bytes(content)
        assert built_here(tensorrt, timing_cache=str(cache)).notes == anew
        assert cache.read_bytes()[:83] == kept[:83]
    assert built_here(tensorrt, GpuFacts("NVIDIA RTX A4000", "8.6"), timing_cache=str(cache)).notes == anew


@no_ops
def test_a_file_that_is_no_timing_cache_is_left_alone(tensorrt: Library, tmp_path: Path) -> None:
    (tmp_path / "mine.engine").write_bytes(b"an engine")
    with pytest.raises(BadOption, match="mine.engine is not a timing cache of vidstyle; name another file"):
        built_here(tensorrt, timing_cache=str(tmp_path / "mine.engine"))
    assert (tmp_path / "mine.engine").read_bytes() == b"an engine"
    with pytest.raises(BadOption, match="cannot read the timing cache"):
        built_here(tensorrt, timing_cache=str(tmp_path))
    plan = built_here(tensorrt, timing_cache=str(tmp_path / "no" / "timings"))
    assert "could not be written: No such file or directory" in plan.notes[0]


@pytest.mark.needs_cuda
def test_an_engine_for_this_gpu_is_inspected() -> None:
    from vidstyle.backends.tensorrt.cuda import find_gpu, open_gpu

    gpu = find_gpu()
    try:
        library = find_library(compute_capability=gpu.compute_capability)
    except MissingDependency as error:
        pytest.skip(str(error))
    with closing(open_gpu(gpu.number)) as device, device.current():
        plan = built_here(library, gpu)
    assert plan.targets == (gpu.compute_capability,)
    assert plan.inspected
