"""``vidstyle build-engine``: words in, an engine and its proof out."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import repository
from pictures import painting, photo, save

from vidstyle.backends.tensorrt.fit import command
from vidstyle.cli import vidstyle
from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.models.architecture import Network
from vidstyle.models.engine_file import EngineFile
from vidstyle.models.style import Style

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

SMALL = ("--size", "96x64")
UNUSUAL = ("--pixels", "nv12", "--matrix", "bt709", "--full-range", "--precision", "fp32")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(vidstyle, ["build-engine", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """The sentence of a wrong usage."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


def card(path: Path) -> EngineFile:
    engine = EngineFile.open(path)
    engine.read_plan()
    return engine


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_engine_of_a_style_proves_what_it_is(here: Path) -> None:
    result = run("starry_night", *SMALL)
    assert result.exit_code == 0, result.output
    assert names(here) == ["starry_night.engine", "starry_night.engine.json", "starry_night.engine.safetensors"]
    for words in (
        "starry_night.engine: fast with style starry_night, 96x64 i420 fp16, for GPUs of compute capability 8.0, 8.6,",
        "(tensorrt-rtx 1.",
        "convolutions: 14 in half, 1 in float; 12 instance norms with statistics in float",
        "fp16 against fp32: ",
        " MiB, built in ",
    ):
        assert words in result.stdout, result.stdout
    assert card(here / "starry_night.engine").card.matrix == "bt601"


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


def test_several_styles_ride_along_in_the_order_given(here: Path) -> None:
    result = run("great_wave", "starry_night", *SMALL, "--precision", "fp32")
    assert "fast with 2 styles" in result.stdout, result.output
    assert "fp16 against" not in result.stdout
    assert list(card(here / "great_wave.engine").card.styles) == ["great_wave", "starry_night"]


@pytest.mark.parametrize("network", ["fast", "paper"])
def test_a_network_brings_all_its_styles(here: Path, network: str) -> None:
    result = run(network, *SMALL, "--precision", "fp32")
    assert result.exit_code == 0, result.output
    engine = card(here / f"{network}.engine").card
    assert engine.network == network
    assert list(engine.styles) == [name for name in style_names() if load_style(name).network_name == network]
    assert len(engine.styles) > 5


def test_an_engine_brings_its_styles(here: Path) -> None:
    run("great_wave", "starry_night", *SMALL, "-o", "old.engine", "--precision", "fp32")
    result = run("old.engine", "-o", "new.engine", "--size", "64x96", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert list(card(here / "new.engine").card.styles) == ["great_wave", "starry_night"]


def test_a_style_file_gives_the_engine_its_name(here: Path) -> None:
    load_style("starry_night").save(here / "mine.safetensors")
    assert run("mine.safetensors", *SMALL, "--precision", "fp32").exit_code == 0
    assert list(card(here / "mine.engine").card.styles) == ["mine"]
    assert run("paper/starry_night", *SMALL, "--precision", "fp32").exit_code == 0
    assert (here / "starry_night.engine").exists()


def test_a_dynamic_engine_is_asked_for_by_its_sizes(here: Path) -> None:
    result = run("starry_night", "--min", "64x64", "--opt", "128x96", "--max", "256x256", "--precision", "fp32")
    assert "64x64 to 256x256" in result.stdout, result.output
    assert card(here / "starry_night.engine").card.best == (96, 128)
    result = run("starry_night", "-y", "--min", "64x64", "--max", "256x128", "--precision", "fp32")
    assert card(here / "starry_night.engine").card.best == (128, 256), result.output


def test_an_option_wins_over_the_profile(here: Path) -> None:
    Path("p.toml").write_text('min = "64x64"\nmax = "128x128"\npixels = "nv12"\nprecision = "fp32"\ntargets = ["ada"]')
    assert run("starry_night", "--profile", "p.toml").exit_code == 0
    engine = card(here / "starry_night.engine").card
    assert (engine.dynamic, engine.pixels, engine.targets) == (True, "nv12", ("8.9",))
    run("starry_night", "-y", "--profile", "p.toml", *SMALL, "--target", "turing", "--target", "ampere")
    engine = card(here / "starry_night.engine").card
    assert (engine.dynamic, engine.pixels, engine.targets) == (False, "nv12", ("7.5", "8.0", "8.6"))
    assert (engine.precision, engine.best) == ("fp32", (64, 96))


def test_colors_are_as_asked_for(here: Path) -> None:
    run("starry_night", *SMALL, "--matrix", "bt709", "--full-range", "--precision", "fp32")
    engine = card(here / "starry_night.engine").card
    assert (engine.matrix, engine.full_range) == ("bt709", True)


def test_what_fp16_cannot_hold_is_not_built_in_it(here: Path) -> None:
    shared, style = shared_network("fast"), load_style("starry_night")
    weights = {name: w * np.float32(1000 if name.endswith(".weight") else 1) for name, w in shared.weights.items()}
    Style.of("loud", Network(shared.architecture, weights, style.vector)).save(here / "loud.safetensors")
    result = run("loud.safetensors", *SMALL)
    assert result.exit_code == 1
    assert "style 'loud' overflows in FP16" in result.stderr
    assert "--precision fp32" in result.stderr
    assert names(here) == ["loud.safetensors"]
    assert run("loud.safetensors", *SMALL, "--precision", "fp32").exit_code == 0
    assert load_style(here / "loud.engine").network.digest == load_style(here / "loud.safetensors").network.digest


def test_an_engine_that_exists_is_kept_unless_asked(here: Path) -> None:
    assert run("starry_night", *SMALL, "--precision", "fp32").exit_code == 0
    assert "starry_night.engine exists; " in refused("starry_night", *SMALL)
    assert run("starry_night", *SMALL, "--precision", "fp32", "--overwrite").exit_code == 0


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
        (["starry_night", "--target", "current"], "target 'current' needs a GPU"),
        (["starry_night", "--gpu", "3"], "gpu is 3, but no GPU answers"),
        (["starry_night", "--library", "tensorrt"], "`--library tensorrt-rtx` builds without one"),
        (["starry_night", "--full"], "are for a PAINTING to adapt"),
        (["starry_night", "-o", "x.onnx"], "does not end in .engine"),
        (["starry_night", "-o", "no/x.engine"], "no folder"),
        (["starry_night", "paper/starry_night"], "cannot be blended"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_wish_is_a_sentence(here: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in refused(*arguments).replace("\n", " ")
    assert names(here) == []


def test_the_command_of_a_refusal_builds_the_same_engine_again(here: Path) -> None:
    run("great_wave", "starry_night", "--min", "64x48", "--opt", "96x64", "--max", "128x96", *UNUSUAL)
    before = card(here / "great_wave.engine")
    line = shlex.split(command(before))
    assert line[:2] == ["vidstyle", "build-engine"]
    result = run(*line[2:])
    assert result.exit_code == 0, result.output
    after = card(here / "great_wave.engine").card
    for name in before.card.__dataclass_fields__:
        if name not in ("build", "plan_sha256", "plan_bytes", "styles_sha256"):
            assert getattr(after, name) == getattr(before.card, name), name
    assert list(after.styles) == list(before.card.styles)


def test_an_engine_file_that_is_damaged_is_a_sentence(here: Path) -> None:
    Path("old.engine").write_bytes(b"plan")
    result = run("old.engine", "-o", "new.engine")
    assert result.exit_code == 1
    assert "stands alone" in result.stderr


def test_a_painting_that_is_not_there_is_told_before_anything_begins(here: Path) -> None:
    result = run("nothere.jpg")
    assert (result.exit_code, result.stderr) == (1, "Error: there is no file nothere.jpg\n")
    assert names(here) == []


@pytest.fixture
def one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paintings are adapted on one small photo: it is quick, and the style is of no account here."""
    pictures = pytest.importorskip("vidstyle.training.data", reason="torch is not installed")
    from vidstyle.training import adapt

    monkeypatch.setattr(pictures.Photos, "shipped", classmethod(lambda photos: photos([photo(0)])))

    @dataclass(frozen=True, kw_only=True)
    class Small(adapt.AdaptOptions):
        size: int = 32
        style_size: int = 32
        batch: int = 1

    monkeypatch.setattr(adapt, "AdaptOptions", Small)


@pytest.mark.usefixtures("one_photo")
def test_a_painting_is_adapted_first_and_kept(here: Path) -> None:
    save(painting(1, (64, 80)), here / "mine.png")
    result = run("mine.png", *SMALL, "--steps", 1, "--vector", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    engine = ["mine.engine", "mine.engine.json", "mine.engine.safetensors"]
    assert names(here) == [*engine, "mine.png", "mine.safetensors"]
    assert "mine.safetensors: vector style for fast" in result.stderr
    style = load_style(here / "mine.safetensors")
    assert style.card["painting"] == "mine"
    found = load_style(here / "mine.engine")
    assert (found.name, found.vector.tolist()) == ("mine", style.vector.tolist())
    assert "give it instead of mine.png" in refused("mine.png", "-o", "other.engine").replace("\n", " ")


@pytest.mark.usefixtures("one_photo")
def test_a_painting_adapted_in_full_is_built_with_its_weights(here: Path) -> None:
    save(painting(1, (64, 80)), here / "mine.jpg")
    result = run("mine.jpg", *SMALL, "--steps", 1, "--network", "fast")
    assert result.exit_code == 0, result.output
    assert load_style(here / "mine.engine").network.digest == load_style(here / "mine.safetensors").network.digest


def environment() -> dict[str, str]:
    """For a process that starts elsewhere than in the repository."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository()), os.environ.get("PYTHONPATH", "")])}


INTERRUPTED = """
import os, signal, sys
from vidstyle.cli import main, progress
number, calls = getattr(signal, sys.argv.pop(1)), []
def update(self, done, total, figures):
    calls.append(done)
    if len(calls) == 5:
        os.kill(os.getpid(), number)
progress.Bar.update = update
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_ctrl_c_stops_the_build_and_leaves_nothing(here: Path, name: str, code: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED, name, "build-engine", "starry_night", *SMALL, "--precision", "fp32"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert names(here) == []
