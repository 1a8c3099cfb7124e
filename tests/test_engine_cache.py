"""Engines kept between runs: found again, built once by many processes, built again when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import repository

from engines import ADA
from vidstyle.backends.tensorrt import engine_cache
from vidstyle.backends.tensorrt.builder import build_plan
from vidstyle.backends.tensorrt.engine_cache import cached_engine
from vidstyle.backends.tensorrt.sdk import Library, find_library
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import FAST, PAPER, Architecture
from vidstyle.models.engine_file import EngineFile, card_path_of
from vidstyle.options import BuildOptions
from vidstyle.stylizer import network_program

pytest.importorskip("tensorrt_rtx")
FORM = FrameFormat(height=24, width=32, pixels="i420")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "engines"


def kept(form: FrameFormat = FORM, shape: Architecture = FAST, **changes: Any) -> tuple[EngineFile, bytes]:
    chosen = {"precision": "fp16", "library": find_library("tensorrt-rtx"), "gpu": ADA, **changes}
    return cached_engine(network_program(shape, form), **chosen)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is built in the test."""
    seen: list[object] = []
    original = engine_cache.build_plan

    def build(*arguments: Any, **more: Any) -> object:
        seen.append(arguments)
        return original(*arguments, **more)

    monkeypatch.setattr(engine_cache, "build_plan", build)
    return seen


def test_the_second_run_takes_what_the_first_built(built: list[object]) -> None:
    first, plan = kept()
    second, again = kept()
    assert len(built) == 1 and plan == again == first.path.read_bytes()
    assert first.path == second.path
    card = second.card
    assert (card.network, card.styles, card.precision) == ("fast", (), "fp16")
    assert (card.best, card.dynamic, card.pixels, card.targets) == (FORM.size, False, "i420", ("8.9",))
    assert json.loads(card_path_of(first.path).read_text())["build"]["for"] == ADA.name
    kept(rebuild=True)
    assert len(built) == 2


def test_everything_that_an_engine_is_built_from_and_for_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    library = find_library("tensorrt-rtx")
    plan = build_plan(network_program(FAST, FORM).graph("fp16"), BuildOptions(size=FORM.size), library)
    monkeypatch.setattr(engine_cache, "build_plan", lambda *arguments, **more: plan)
    wishes: list[dict[str, Any]] = [
        {},
        {"form": FORM.resized((24, 36))},
        {"form": replace(FORM, pixels="nv12")},
        {"form": replace(FORM, matrix="bt601")},
        {"form": replace(FORM, full_range=True)},
        {"shape": PAPER},
        {"precision": "fp32"},
        {"gpu": replace(ADA, name="NVIDIA L4")},
        {"gpu": replace(ADA, compute_capability="8.6")},
        {"library": Library("tensorrt-rtx", library.module, "1.8.0.1")},
        {"library": Library("tensorrt", library.module, library.version)},
    ]
    assert len({kept(**wish)[0].path for wish in wishes}) == len(wishes)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "plan cut": lambda engine: os.truncate(engine, 999),
    "plan flipped": lambda engine: engine.write_bytes(b"\0" * engine.stat().st_size),
    "plan gone": Path.unlink,
    "card cut": lambda engine: os.truncate(card_path_of(engine), 99),
    "card gone": lambda engine: card_path_of(engine).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_engine_is_built_again(damage: str, built: list[object]) -> None:
    DAMAGE[damage](kept()[0].path)
    mended, _ = kept()
    assert len(built) == 2
    assert EngineFile.open(mended.path).read_plan()


def test_a_home_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "file"))
    engine, plan = kept()
    assert not engine.path.exists()
    assert (engine.card.plan_bytes, len(engine.card.plan_sha256)) == (len(plan), 64)


def test_the_engine_used_longest_ago_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "ENGINES_KEPT", 2)
    forms = [FORM.resized((24, width)) for width in (32, 36, 40)]
    first, second = (kept(form)[0].path for form in forms[:2])
    os.utime(first, (2, 2))
    os.utime(second, (1, 1))
    kept(forms[0])  # used again
    third = kept(forms[2])[0].path
    assert set(home.glob("*.engine")) == {first, third}
    assert not card_path_of(second).exists() and not second.with_suffix(".lock").exists()


CODE = f"""
import sys, time
sys.modules.update(onnxruntime=None, torch=None, openvino=None)  # building needs none
from pathlib import Path
from vidstyle.backends.tensorrt import engine_cache, sdk
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import FAST
from vidstyle.stylizer import network_program
def build(*arguments, original=engine_cache.build_plan, **more):
    print("built", flush=True)
    return original(*arguments, **more)
engine_cache.build_plan = build
Path(sys.argv[1]).touch()
deadline = time.monotonic() + 90
while not all(map(Path.exists, map(Path, sys.argv[1:]))):
    assert time.monotonic() < deadline, "the other process is not there"
    time.sleep(0.005)
library, gpu = sdk.find_library("tensorrt-rtx"), sdk.GpuFacts({ADA.name!r}, {ADA.compute_capability!r})
engine, plan = engine_cache.cached_engine(network_program(FAST, {FORM!r}), "fp16", library, gpu)
assert engine.read_plan() == plan
"""


def test_two_processes_build_an_engine_once(home: Path, tmp_path: Path) -> None:
    there = [str(tmp_path / name) for name in ("first", "second")]
    processes = [
        subprocess.Popen([sys.executable, "-c", CODE, *names], stdout=-1, stderr=-1, text=True, cwd=repository())
        for names in (there, there[::-1])
    ]
    try:
        printed, errors = zip(*(process.communicate(timeout=110) for process in processes), strict=True)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted(printed) == ["", "built\n"]
    assert len(list(home.glob("*.engine"))) == 1
    assert not list(home.glob("*.part"))
