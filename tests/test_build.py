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
from conftest import repository
from networks import whole_style

from vidstyle.backends.tensorrt.library import installed_versions
from vidstyle.backends.tensorrt.targets import PORTABLE, GpuFacts
from vidstyle.engine import build
from vidstyle.engine.build import build_engine, fitting_engine
from vidstyle.engine.fp16_check import Fidelity
from vidstyle.errors import BadModel, BadOption, EngineMismatch, MissingDependency
from vidstyle.frame import FrameFormat
from vidstyle.gallery import load_style, shared_network
from vidstyle.models.architecture import ARCHITECTURES
from vidstyle.models.engine_file import EngineFile, card_path_of, styles_path_of, write_engine
from vidstyle.models.style import blend, styles_of_engine
from vidstyle.options import BackendOptions, BuildOptions

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

SMALL = BuildOptions(size=(64, 96), pixels="rgb")
ADA = GpuFacts("NVIDIA GeForce RTX 4090", "8.9")
TURING = GpuFacts("NVIDIA GeForce RTX 2080", "7.5")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> EngineFile:
    """A small engine with two styles."""
    output = tmp_path_factory.mktemp("engine") / "two.engine"
    return build_engine([load_style("starry_night"), whole_style("whole", 1)], output, SMALL).engine


@pytest.fixture
def engine(first: EngineFile, tmp_path: Path) -> EngineFile:
    """A copy of it, to be spoiled."""
    return write_engine(tmp_path / "two.engine", first.read_plan(), first.card, first.check_styles().read_bytes())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_a_build_says_what_it_is_and_proves_it(network: str, pixels: Any, tmp_path: Path) -> None:
    style = load_style("starry_night" if network == "fast" else f"{network}/starry_night")
    report = build_engine([style], tmp_path / "x.engine", dataclasses.replace(SMALL, pixels=pixels))
    card = EngineFile.open(tmp_path / "x.engine").card
    assert (card.network, card.theta) == (network, shared_network(network).digest)
    assert (card.smallest, card.best, card.largest, card.dynamic) == ((64, 96), (64, 96), (64, 96), False)
    assert (card.pixels, card.precision, card.library, card.targets, card.gpu) == (
        *(pixels, "fp16", "tensorrt-rtx", PORTABLE, None),
    )
    assert card.styles == (style.name,)
    facts = card.build
    assert facts["convolutions"]["half"] > 10
    assert facts["instance_norms"] == report.plan.norms == {"float": 12 if network == "fast" else 15}
    assert facts["fidelity"]["worst"] is None or facts["fidelity"]["worst"] >= 40
    assert report.fidelity is not None
    assert report.fidelity.worst >= 40
    assert 0 < facts["seconds"] <= report.seconds
    assert files(tmp_path) == ["x.engine", "x.engine.json", "x.engine.safetensors"]
    assert report.engine.read_plan() == (tmp_path / "x.engine").read_bytes()
    assert "Infinity" not in (text := card_path_of(tmp_path / "x.engine").read_text())
    assert "NaN" not in text


def test_several_styles_ride_in_one_engine(first: EngineFile) -> None:
    assert first.card.styles == ("starry_night", "whole")
    for name, style in (("starry_night", load_style("starry_night")), ("whole", whole_style("whole", 1))):
        found = load_style(f"{first.path}#{name}")
        np.testing.assert_array_equal(found.vector, style.vector)
        assert (found.network.digest, found.theta) == (style.network.digest, style.theta)
        assert found.card == style.card
    assert len(blend([(style, 1.0) for style in styles_of_engine(first)]).parts) == 2


def test_a_plan_holds_no_weights(first: EngineFile, tmp_path: Path) -> None:
    other = build_engine([whole_style("other", 2)], tmp_path / "x.engine", SMALL).engine
    assert abs(other.card.plan_bytes - first.card.plan_bytes) < 1000
    assert other.check_styles().stat().st_size > 450_000


def test_a_dynamic_engine_says_its_sizes(tmp_path: Path) -> None:
    options = BuildOptions(smallest=(64, 64), size=(128, 160), largest=(256, 256))
    card = build_engine([load_style("starry_night")], tmp_path / "x.engine", options).engine.card
    assert (card.smallest, card.best, card.largest) == ((64, 64), (128, 160), (256, 256))
    assert card.matrix == "bt601"


@pytest.mark.parametrize(("height", "matrix"), [(64, "bt601"), (716, "bt601"), (720, "bt709")])
def test_without_a_matrix_it_is_that_of_the_height(height: int, matrix: str, tmp_path: Path) -> None:
    options = BuildOptions(size=(height, 64), precision="fp32")
    report = build_engine([load_style("starry_night")], tmp_path / "x.engine", options)
    assert report.engine.card.matrix == matrix
    assert report.fidelity is None
    assert report.engine.card.precision == "fp32"


def test_a_matrix_that_is_given_is_taken(tmp_path: Path) -> None:
    options = BuildOptions(size=(64, 64), precision="fp32", matrix="bt709", full_range=True)
    card = build_engine([load_style("starry_night")], tmp_path / "x.engine", options).engine.card
    assert (card.matrix, card.full_range) == ("bt709", True)


def test_a_graph_that_is_not_true_to_fp32_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate itself is tested where it is; here, that nothing is written behind a closed one."""

    def closed(*_: object, **__: object) -> Fidelity:
        raise BadModel("fp16 is 12.0 dB from fp32")

    monkeypatch.setattr(build, "check_fidelity", closed)
    with pytest.raises(BadModel, match=r"12\.0 dB"):
        build_engine([load_style("starry_night")], tmp_path / "x.engine", SMALL)
    assert files(tmp_path) == []


def test_what_stops_a_build_leaves_what_was_there(engine: EngineFile) -> None:
    before = engine.path.read_bytes(), card_path_of(engine.path).read_bytes()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine([load_style("starry_night")], engine.path, SMALL, overwrite=True, on_progress=stop)
    assert (engine.path.read_bytes(), card_path_of(engine.path).read_bytes()) == before
    assert files(engine.path.parent) == ["two.engine", "two.engine.json", "two.engine.safetensors"]


def test_an_engine_that_exists_is_kept(engine: EngineFile) -> None:
    with pytest.raises(BadOption, match=r"two\.engine exists; .*--overwrite"):
        build_engine([load_style("starry_night")], engine.path, SMALL)
    engine.path.unlink()
    with pytest.raises(BadOption, match=r"two\.engine\.json exists"):
        build_engine([load_style("starry_night")], engine.path, SMALL)


def test_a_place_where_no_engine_can_be_is_a_sentence(tmp_path: Path) -> None:
    style = load_style("starry_night")
    (tmp_path / "folder.engine").mkdir()
    for output, sentence in (
        (tmp_path / "x.trt", r"does not end in \.engine"),
        (tmp_path / "no" / "x.engine", "there is no folder"),
        (tmp_path / "folder.engine", "is a folder"),
    ):
        with pytest.raises(BadOption, match=sentence):
            build_engine([style], output, SMALL, overwrite=True)


def test_styles_that_cannot_ride_together_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    starry = load_style("starry_night")
    with pytest.raises(BadOption, match="needs a style, and none was given"):
        build_engine([], output, SMALL)
    for other in (load_style("paper/starry_night"), dataclasses.replace(starry, theta="0123", name="other")):
        with pytest.raises(BadOption, match="cannot be blended: .*; or build two engines"):
            build_engine([starry, other], output, SMALL)
    with pytest.raises(BadOption, match="'starry_night' was given twice"):
        build_engine([starry, starry], output, SMALL)
    assert files(tmp_path) == []


def test_options_that_cannot_be_are_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "check_fidelity", None)  # not called
    style, output = load_style("starry_night"), tmp_path / "x.engine"
    for options, sentence in (
        (BuildOptions(targets=("current",)), "target 'current' needs a GPU"),
        (BuildOptions(library="tensorrt"), "tensorrt builds on the GPU .* `--library tensorrt-rtx` builds without one"),
        (BuildOptions(smallest=(4, 4), size=(64, 64), largest=(64, 64)), "at least 8"),
    ):
        with pytest.raises(BadOption, match=sentence):
            build_engine([style], output, options)
    with pytest.raises(BadOption, match="gpu is 7, but no GPU answers"):
        build_engine([style], output, SMALL, gpu=7)


def test_a_gpu_that_rtx_does_not_know_says_what_to_do(tmp_path: Path, gpu: Any) -> None:
    gpu(GpuFacts("NVIDIA H200", "9.0"))
    if "tensorrt" in installed_versions():
        pytest.skip("tensorrt is installed, which knows it")
    with pytest.raises(MissingDependency, match=r"9\.0, only 7\.5.*vidstyle\[tensorrt\].*with --target portable"):
        build_engine([load_style("starry_night")], tmp_path / "x.engine", SMALL)
    options = dataclasses.replace(SMALL, targets=("portable",))
    assert build_engine([load_style("starry_night")], tmp_path / "x.engine", options).engine.card.targets == PORTABLE


def test_a_name_that_cannot_be_printed_is_refused(tmp_path: Path) -> None:
    style = dataclasses.replace(load_style("starry_night"), name="a\x1b[2J")
    with pytest.raises(BadOption, match=r"'a\\x1b\[2J' has a name that cannot be printed; rename its file"):
        build_engine([style], tmp_path / "x.engine", SMALL)
    assert files(tmp_path) == []


def test_the_styles_of_an_engine_can_be_built_again(first: EngineFile, tmp_path: Path) -> None:
    styles = styles_of_engine(first)
    assert [style.name for style in styles] == ["starry_night", "whole"]
    again = build_engine(styles, tmp_path / "x.engine", dataclasses.replace(SMALL, size=(96, 64)))
    assert again.engine.card.best == (96, 64)


# What an engine does not fit is built again. No GPU is needed to build with TensorRT-RTX, so the tests name one.


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let builds and checks see a GPU that is not here."""

    def use(facts: GpuFacts) -> None:
        from contextlib import nullcontext

        monkeypatch.setattr(build, "current_gpu", lambda number=None: facts)
        monkeypatch.setattr(build, "_in_use", nullcontext)

    return use


def form(width: int = 96, height: int = 64, **changes: Any) -> FrameFormat:
    return FrameFormat(height=height, width=width, **{"pixels": "rgb", **changes})


REBUILD = BackendOptions(rebuild=True)


def test_an_engine_that_fits_is_left_alone(engine: EngineFile, gpu: Any) -> None:
    gpu(ADA)
    before = engine.path.stat().st_mtime_ns
    assert fitting_engine(engine, form(), REBUILD) is engine
    assert engine.path.stat().st_mtime_ns == before


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
    engine: EngineFile, gpu: Any, facts: GpuFacts, frames: FrameFormat, changed: dict[str, Any]
) -> None:
    gpu(facts)
    before = [style.network.digest for style in styles_of_engine(engine)]
    again = fitting_engine(engine, frames, REBUILD)
    assert again.path == engine.path
    assert EngineFile.open(engine.path).read_plan() == again.read_plan()
    for name, value in changed.items():
        assert getattr(again.card, name) == value, name
    assert again.card.library == "tensorrt-rtx"
    assert (again.card.styles, again.card.theta) == (engine.card.styles, engine.card.theta)
    assert [style.network.digest for style in styles_of_engine(again)] == before
    assert fitting_engine(again, frames, REBUILD) is again
    assert files(engine.path.parent) == ["two.engine", "two.engine.json", "two.engine.safetensors"]


def test_an_engine_of_another_version_is_built_again(engine: EngineFile, gpu: Any) -> None:
    gpu(ADA)
    styles = engine.check_styles().read_bytes()
    for changes in ({"library_version": "1.0"}, {"library": "tensorrt", "gpu": "NVIDIA H200", "targets": ("9.0",)}):
        other = write_engine(engine.path, b"a plan", dataclasses.replace(engine.card, **changes), styles)
        again = fitting_engine(other, form(), REBUILD)
        assert again.card.library_version == engine.card.library_version
        assert len(again.read_plan()) > 100_000


def test_a_damaged_plan_is_built_again(engine: EngineFile, gpu: Any) -> None:
    gpu(ADA)
    engine.path.write_bytes(b"damaged")
    again = fitting_engine(engine, form(), REBUILD)
    assert len(again.read_plan()) > 100_000


def test_a_dynamic_engine_grows(tmp_path: Path, gpu: Any) -> None:
    gpu(ADA)
    options = BuildOptions(smallest=(64, 64), size=(64, 64), largest=(128, 128), pixels="rgb")
    dynamic = build_engine([load_style("starry_night")], tmp_path / "x.engine", options).engine
    assert fitting_engine(dynamic, form(99, 65), REBUILD) is dynamic
    card = fitting_engine(dynamic, form(161, 33), REBUILD).card
    assert (card.smallest, card.best, card.largest) == ((36, 64), (36, 164), (128, 164))


def test_an_engine_without_its_styles_cannot_be_built_again(engine: EngineFile, gpu: Any) -> None:
    gpu(TURING)
    styles_path_of(engine.path).unlink()
    with pytest.raises(EngineMismatch, match=r"two\.engine cannot be built again: cannot read .*safetensors"):
        fitting_engine(engine, form(), REBUILD)


BUILD_TWICE = """
import sys
from pathlib import Path
from vidstyle.engine.build import build_engine
from vidstyle.gallery import load_style
from vidstyle.options import BuildOptions
for _ in range(3):
    options = BuildOptions(size=(64, int(sys.argv[2])), pixels="rgb", precision="fp32")
    build_engine([load_style("starry_night")], Path(sys.argv[1]), options, overwrite=True)
"""


def test_two_processes_that_build_the_same_engine_do_not_clash(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD_TWICE, str(output), width], cwd=repository(), stderr=-1, text=True
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
    assert files(tmp_path) == ["x.engine", "x.engine.json", "x.engine.safetensors"]


def test_the_card_is_plain_json(first: EngineFile) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    facts = json.loads(card_path_of(first.path).read_text(), parse_constant=refuse)
    assert facts["build"]["options"]["size"] == [64, 96]
