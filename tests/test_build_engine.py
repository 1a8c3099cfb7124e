"""``vidstyle build-engine``: words in, an engine and its proof out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import repository
from pictures import painting, save

from engines import names_in
from vidstyle.cli import vidstyle
from vidstyle.engine.build import BuildReport, build_engine
from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.models.architecture import Network
from vidstyle.models.engine_file import EngineCard, EngineFile
from vidstyle.models.style import Style
from vidstyle.options import BuildOptions

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

SMALL = ("--size", "96x64")
EXACT = (*SMALL, "--precision", "fp32")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(vidstyle, ["build-engine", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """The sentence of a wrong usage."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


def card(path: Path) -> EngineCard:
    engine = EngineFile.open(path)
    engine.read_plan()
    return engine.card


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_engine_of_a_style_proves_what_it_is(here: Path) -> None:
    result = run("starry_night", *SMALL)
    assert result.exit_code == 0, result.output
    assert names_in(here) == ["starry_night.engine", "starry_night.engine.json", "starry_night.engine.safetensors"]
    for words in (
        "starry_night.engine: fast with style starry_night, 96x64 i420 fp16, for GPUs of compute capability 8.0, 8.6,",
        "(tensorrt-rtx 1.",
        "convolutions: 14 in half, 1 in float; 12 instance norms with statistics in float",
        "fp16 against fp32: ",
        " MiB, built in ",
    ):
        assert words in result.stdout, result.stdout
    assert card(here / "starry_night.engine").matrix == "bt601"


def test_json_is_only_json(here: Path) -> None:
    result = run("starry_night", *SMALL, "-o", "x.engine", "--json", "--timing-cache", "timings")
    facts = json.loads(result.stdout)
    assert facts["engine"] == "x.engine"
    assert facts["styles"] == ["starry_night"]
    assert facts["build"]["convolutions"] == {"half": 14, "float": 1}
    assert facts["build"]["fidelity"]["worst"] >= 40
    assert facts["targets"] == ["8.0", "8.6", "8.9", "12.0"]
    assert facts["plan_bytes"] == Path("x.engine").stat().st_size
    assert facts["seconds"] > 0
    assert facts["notes"] == ["tensorrt-rtx times nothing when it builds, so --timing-cache has no effect"]
    assert "Note: tensorrt-rtx times nothing" in result.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    output = tmp_path_factory.mktemp("engine") / "x.engine"
    options = BuildOptions(smallest=(64, 64), size=(64, 64), largest=(256, 256), precision="fp32")
    return build_engine([load_style("great_wave"), load_style("starry_night")], output, options)


@pytest.fixture
def ask(here: Path, monkeypatch: pytest.MonkeyPatch, report: BuildReport) -> Callable[..., SimpleNamespace]:
    """Run the command, and see what the library would have been asked to build."""
    asked: list[SimpleNamespace] = []

    def build(styles: list[Style], output: Path, options: BuildOptions, **more: Any) -> BuildReport:
        asked.append(
            SimpleNamespace(styles=[style.name for style in styles], output=str(output), options=options, **more)
        )
        return report

    def run_it(*arguments: object) -> SimpleNamespace:
        result = run(*arguments)
        assert "fast with 2 styles, 64x64 to 256x256" in result.stdout and result.exit_code == 0, result.output
        return asked[-1]

    monkeypatch.setattr("vidstyle.engine.build.build_engine", build)
    return run_it


def test_styles_files_networks_and_engines_name_what_is_built(
    here: Path, ask: Callable[..., SimpleNamespace], report: BuildReport
) -> None:
    load_style("starry_night").save(here / "mine.safetensors")
    fast, paper = ([name for name in style_names() if load_style(name).network_name == n] for n in ("fast", "paper"))
    assert len(fast) > 5 < len(paper)
    for words, styles, output in (
        (["starry_night", "great_wave"], ["starry_night", "great_wave"], "starry_night.engine"),
        (["mine.safetensors"], ["mine"], "mine.engine"),
        (["paper/starry_night"], ["paper/starry_night"], "starry_night.engine"),
        (["fast"], fast, "fast.engine"),
        (["paper"], paper, "paper.engine"),
        ([report.engine.path, "-o", "new.engine"], ["great_wave", "starry_night"], "new.engine"),
    ):
        asked = ask(*words)
        assert (asked.styles, asked.output, asked.overwrite) == (styles, output, False)
    assert ask("starry_night", "--overwrite").overwrite and ask("starry_night", "-y").overwrite


def test_options_and_profiles_make_the_options_of_the_build(here: Path, ask: Callable[..., SimpleNamespace]) -> None:
    Path("p.toml").write_text('min = "64x64"\nmax = "128x128"\npixels = "nv12"\ntargets = ["ada"]')
    profile = {"pixels": "nv12", "smallest": (64, 64), "size": (128, 128), "largest": (128, 128), "targets": ("ada",)}
    chosen = {"pixels": "nv12", "size": (64, 96), "targets": ("turing", "ampere"), "precision": "fp32"}
    for words, wished in (
        ("", {}),
        ("--size 96x64 --matrix bt709 --full-range", {"size": (64, 96), "matrix": "bt709", "full_range": True}),
        ("--min 64x64 --opt 128x96 --max 256x256", {"smallest": (64, 64), "size": (96, 128), "largest": (256, 256)}),
        ("--min 64x64 --max 256x128", {"smallest": (64, 64), "size": (128, 256), "largest": (128, 256)}),
        ("--workspace 64 --library tensorrt-rtx", {"workspace_mib": 64, "library": "tensorrt-rtx"}),
        ("--profile p.toml", profile),
        ("--profile p.toml --size 96x64 --target turing --target ampere --precision fp32", chosen),
    ):
        assert ask("starry_night", *words.split()).options == BuildOptions(**wished), words


def test_what_fp16_cannot_hold_is_not_built_in_it(here: Path) -> None:
    shared, style = shared_network("fast"), load_style("starry_night")
    weights = {name: w * np.float32(1000 if name.endswith(".weight") else 1) for name, w in shared.weights.items()}
    Style.of("loud", Network(shared.architecture, weights, style.vector)).save(here / "loud.safetensors")
    result = run("loud.safetensors", *SMALL)
    assert result.exit_code == 1
    assert "style 'loud' overflows in FP16" in result.stderr and "--precision fp32" in result.stderr
    assert names_in(here) == ["loud.safetensors"]
    assert run("loud.safetensors", *EXACT).exit_code == 0
    assert load_style(here / "loud.engine").network.digest == load_style(here / "loud.safetensors").network.digest
    assert "loud.engine exists; " in refused("loud.safetensors", *SMALL)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["starry_nigt"], "there is no style called 'starry_nigt'; did you mean 'starry_night'?"),
        (["starry_night", "--size", "720"], "'720' lacks the width"),
        (["starry_night", "--size", "96x64", "--max", "96x64"], "--size is for an engine of one size"),
        (["starry_night", "--min", "96x64"], "needs both its smallest and its largest size"),
        (["starry_night", "--min", "65x64", "--max", "97x64"], "must be multiples of 4"),
        (["starry_night", "--profile", "1080"], "did you mean '1080p'?"),
        (["starry_night", "--target", "hopper"], "'hopper' is not one of"),
        (["starry_night", "--full"], "are for a PAINTING to adapt"),
        (["starry_night", "-o", "x.onnx"], "does not end in .engine"),
        (["starry_night", "-o", "no/x.engine"], "no folder"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_wish_is_a_sentence(here: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in refused(*arguments).replace("\n", " ")
    assert names_in(here) == []


def test_a_file_that_is_damaged_or_not_there_is_told_before_anything_begins(here: Path) -> None:
    Path("old.engine").write_bytes(b"plan")
    result = run("old.engine", "-o", "new.engine")
    assert result.exit_code == 1 and "stands alone" in result.stderr
    result = run("nothere.jpg")
    assert (result.exit_code, result.stderr) == (1, "Error: there is no file nothere.jpg\n")
    assert names_in(here) == ["old.engine"]


@pytest.mark.usefixtures("one_photo")
@pytest.mark.parametrize("way", [["--vector"], ["--network", "fast"]])
def test_a_painting_is_adapted_first_and_kept(here: Path, way: list[str]) -> None:
    save(painting(1, (64, 80)), here / "mine.png")
    result = run("mine.png", *EXACT, "--steps", 1, *way)
    assert result.exit_code == 0, result.output
    engine = ["mine.engine", "mine.engine.json", "mine.engine.safetensors"]
    assert names_in(here) == [*engine, "mine.png", "mine.safetensors"]
    kind = "vector" if way == ["--vector"] else "full"
    assert f"mine.safetensors: {kind} style for fast" in result.stderr
    style, found = load_style(here / "mine.safetensors"), load_style(here / "mine.engine")
    assert (style.card["painting"], found.name) == ("mine", "mine")
    assert found.network.digest == style.network.digest
    assert "give it instead of mine.png" in refused("mine.png", "-o", "other.engine").replace("\n", " ")


INTERRUPTED = """
import os, signal, sys
from vidstyle.cli import main, terminal
number, calls = getattr(signal, sys.argv.pop(1)), []
def update(self, done, total, figures):
    calls.append(done)
    if len(calls) == 5:
        os.kill(os.getpid(), number)
terminal.Bar.update = update
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_ctrl_c_stops_the_build_and_leaves_nothing(here: Path, name: str, code: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED, name, "build-engine", "starry_night", *EXACT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository()), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert names_in(here) == []
