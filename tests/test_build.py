"""Engines, really built with TensorRT-RTX: what is written, what is refused, and what is built again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import has_gpu, repository
from networks import whole_style

from engines import ADA, HOPPER, TURING, names_in, pretend_gpu
from vidstyle.backends.tensorrt.sdk import PORTABLE, GpuFacts, installed_versions
from vidstyle.engine import build
from vidstyle.engine.build import build_engine, fitting_engine
from vidstyle.errors import BadOption, EngineMismatch, MissingDependency
from vidstyle.frame import FrameFormat
from vidstyle.gallery import load_style, shared_network
from vidstyle.models.architecture import ARCHITECTURES
from vidstyle.models.engine_file import EngineFile, card_path_of, styles_path_of, write_engine
from vidstyle.models.style import blend, styles_of_engine
from vidstyle.options import BackendOptions, BuildOptions

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

SMALL = BuildOptions(size=(64, 96), pixels="rgb")
EXACT = BuildOptions(size=(64, 64), precision="fp32")
REBUILD = BackendOptions(rebuild=True)
TWO = ["two.engine", "two.engine.json", "two.engine.safetensors"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> EngineFile:
    """A small engine with two styles."""
    output = tmp_path_factory.mktemp("engine") / "two.engine"
    return build_engine([load_style("starry_night"), whole_style("whole", 1)], output, SMALL).engine


@pytest.fixture
def engine(first: EngineFile, tmp_path: Path) -> EngineFile:
    """A copy of it, to be spoiled."""
    return write_engine(tmp_path / "two.engine", first.read_plan(), first.card, first.check_styles().read_bytes())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "x.engine"


def starry(output: Path, options: BuildOptions = SMALL, **more: Any) -> EngineFile:
    return build_engine([load_style("starry_night")], output, options, **more).engine


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_a_build_says_what_it_is_and_proves_it(network: str, pixels: Any, output: Path) -> None:
    style = load_style("starry_night" if network == "fast" else f"{network}/starry_night")
    report = build_engine([style], output, dataclasses.replace(SMALL, pixels=pixels))
    card = EngineFile.open(output).card
    assert (card.network, card.theta) == (network, shared_network(network).digest)
    assert (card.smallest, card.best, card.largest, card.dynamic) == ((64, 96), (64, 96), (64, 96), False)
    assert (card.pixels, card.precision, card.library) == (pixels, "fp16", "tensorrt-rtx")
    assert (card.targets, card.gpu, card.styles) == (PORTABLE, None, (style.name,))
    facts = json.loads(card_path_of(output).read_text(), parse_constant=pytest.fail)["build"]
    assert facts["options"]["size"] == [64, 96]
    assert facts["convolutions"]["half"] > 10
    assert facts["instance_norms"] == report.plan.norms == {"float": 12 if network == "fast" else 15}
    assert facts["fidelity"]["worst"] is None or facts["fidelity"]["worst"] >= 40
    assert report.fidelity is not None and report.fidelity.worst >= 40
    assert 0 < facts["seconds"] <= report.seconds
    assert names_in(output.parent) == ["x.engine", "x.engine.json", "x.engine.safetensors"]
    assert report.engine.read_plan() == output.read_bytes()


def test_several_styles_ride_in_one_engine(first: EngineFile) -> None:
    assert first.card.styles == ("starry_night", "whole")
    for name, style in (("starry_night", load_style("starry_night")), ("whole", whole_style("whole", 1))):
        found = load_style(f"{first.path}#{name}")
        np.testing.assert_array_equal(found.vector, style.vector)
        assert (found.network.digest, found.theta, found.card) == (style.network.digest, style.theta, style.card)
    assert len(blend([(style, 1.0) for style in styles_of_engine(first)]).parts) == 2


def test_a_plan_holds_no_weights(first: EngineFile, output: Path) -> None:
    other = build_engine([whole_style("other", 2)], output, SMALL).engine
    assert abs(other.card.plan_bytes - first.card.plan_bytes) < 1000
    assert other.check_styles().stat().st_size > 450_000


@pytest.mark.parametrize(
    ("changes", "matrix"),
    [({}, "bt601"), ({"size": (716, 64)}, "bt601"), ({"size": (720, 64)}, "bt709"), ({"matrix": "bt709"}, "bt709")],
)
def test_the_matrix_is_that_of_the_height_or_the_one_given(changes: Any, matrix: str, output: Path) -> None:
    report = build_engine([load_style("starry_night")], output, dataclasses.replace(EXACT, **changes, full_range=True))
    card = report.engine.card
    assert (card.matrix, card.full_range, card.precision, report.fidelity) == (matrix, True, "fp32", None)


def test_what_stops_a_build_leaves_what_was_there(engine: EngineFile) -> None:
    before = engine.path.read_bytes(), card_path_of(engine.path).read_bytes()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        starry(engine.path, overwrite=True, on_progress=stop)
    assert (engine.path.read_bytes(), card_path_of(engine.path).read_bytes()) == before
    assert names_in(engine.path.parent) == TWO


def test_an_engine_that_exists_is_kept(engine: EngineFile) -> None:
    with pytest.raises(BadOption, match=r"two\.engine exists; .*--overwrite"):
        starry(engine.path)
    engine.path.unlink()
    with pytest.raises(BadOption, match=r"two\.engine\.json exists"):
        starry(engine.path)


def test_styles_that_cannot_ride_together_are_refused(output: Path) -> None:
    style = load_style("starry_night")
    for styles, words in (
        ([], "needs a style, and none was given"),
        ([style, load_style("paper/starry_night")], "cannot be blended: .*; or build two engines"),
        ([style, style], "'starry_night' was given twice"),
        ([dataclasses.replace(style, name="a\x1b[2J")], r"'a\\x1b\[2J' has a name that cannot be printed"),
    ):
        with pytest.raises(BadOption, match=words):
            build_engine(styles, output, SMALL)
    assert names_in(output.parent) == []


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(targets=("current",)), "target 'current' needs a GPU"),
        (BuildOptions(library="tensorrt"), "tensorrt builds on the GPU .* `--library tensorrt-rtx` builds without one"),
        (BuildOptions(smallest=(4, 4), size=(64, 64), largest=(64, 64)), "at least 8"),
        (None, "gpu is 7, but no GPU answers"),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_work(
    output: Path, monkeypatch: pytest.MonkeyPatch, options: BuildOptions | None, words: str
) -> None:
    monkeypatch.setattr(build, "check_fidelity", None)  # not called
    with pytest.raises(BadOption, match=words):
        starry(output, options or SMALL, gpu=None if options else 7)


def test_a_gpu_that_rtx_does_not_know_says_what_to_do(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, HOPPER)
    if "tensorrt" in installed_versions():
        pytest.skip("tensorrt is installed, which knows it")
    with pytest.raises(MissingDependency, match=r"9\.0, only 7\.5.*vidstyle\[tensorrt\].*with --target portable"):
        starry(output)
    assert starry(output, dataclasses.replace(SMALL, targets=("portable",))).card.targets == PORTABLE


# What an engine does not fit is built again. No GPU is needed to build with TensorRT-RTX, so the tests pretend one.


def form(width: int = 96, height: int = 64, **changes: Any) -> FrameFormat:
    return FrameFormat(height=height, width=width, **{"pixels": "rgb", **changes})


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_built_again(engine: EngineFile) -> None:
    before = engine.path.read_bytes()
    with pytest.raises(EngineMismatch, match="needs an NVIDIA GPU.*`--style starry_night` instead"):
        fitting_engine(engine, form(), REBUILD)
    assert engine.path.read_bytes() == before


@pytest.mark.parametrize(
    ("facts", "frames", "changed"),
    [
        (TURING, form(), {"targets": ("7.5",)}),
        (ADA, form(128, 64), {"best": (64, 128), "smallest": (64, 128), "largest": (64, 128), "targets": PORTABLE}),
        (ADA, form(pixels="i420", matrix="bt709", full_range=True), {"pixels": "i420", "full_range": True}),
    ],
)
def test_an_engine_that_does_not_fit_is_built_in_its_place(
    engine: EngineFile, monkeypatch: pytest.MonkeyPatch, facts: GpuFacts, frames: FrameFormat, changed: dict[str, Any]
) -> None:
    opened = pretend_gpu(monkeypatch, facts)
    before = [style.network.digest for style in styles_of_engine(engine)]
    again = fitting_engine(engine, frames, REBUILD)
    assert again.path == engine.path
    assert EngineFile.open(engine.path).read_plan() == again.read_plan()
    for name, value in {**changed, "library": "tensorrt-rtx"}.items():
        assert getattr(again.card, name) == value, name
    assert (again.card.styles, again.card.theta) == (engine.card.styles, engine.card.theta)
    assert [style.network.digest for style in styles_of_engine(again)] == before
    assert fitting_engine(again, frames, REBUILD) is again
    assert names_in(engine.path.parent) == TWO
    assert [device.closed for device in opened] == [True]


def test_an_engine_of_the_other_library_is_built_again(engine: EngineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    card = dataclasses.replace(engine.card, library="tensorrt", gpu="NVIDIA H200", targets=("9.0",))
    foreign = write_engine(engine.path, b"a plan", card, engine.check_styles().read_bytes())
    again = fitting_engine(foreign, form(), REBUILD)
    assert (again.card.library, again.card.library_version) == ("tensorrt-rtx", engine.card.library_version)
    assert len(again.read_plan()) > 100_000


def test_a_dynamic_engine_grows(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    options = BuildOptions(smallest=(64, 64), size=(64, 64), largest=(128, 128), pixels="rgb", targets=("portable",))
    dynamic = starry(output, options)
    assert fitting_engine(dynamic, form(99, 65), REBUILD) is dynamic
    card = fitting_engine(dynamic, form(161, 33), REBUILD).card
    assert (card.smallest, card.best, card.largest) == ((36, 64), (36, 164), (128, 164))


def test_an_engine_without_its_styles_cannot_be_built_again(
    engine: EngineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch, TURING)
    styles_path_of(engine.path).unlink()
    with pytest.raises(EngineMismatch, match=r"two\.engine cannot be built again: cannot read .*safetensors"):
        fitting_engine(engine, form(), REBUILD)


BUILD_THRICE = """
import sys
from pathlib import Path
from vidstyle.engine.build import build_engine
from vidstyle.gallery import load_style
from vidstyle.options import BuildOptions
for _ in range(3):
    options = BuildOptions(size=(64, int(sys.argv[2])), pixels="rgb", precision="fp32")
    build_engine([load_style("starry_night")], Path(sys.argv[1]), options, overwrite=True)
"""


def test_two_processes_that_build_the_same_engine_do_not_clash(output: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD_THRICE, str(output), width], cwd=repository(), stderr=-1, text=True
        )
        for width in ("64", "96")
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    engine = EngineFile.open(output)
    engine.read_plan()
    engine.check_styles()
    assert engine.card.best in ((64, 64), (64, 96))
    assert names_in(output.parent) == ["x.engine", "x.engine.json", "x.engine.safetensors"]
