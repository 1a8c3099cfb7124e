"""Engines kept between runs: found again, built once by many processes, made anew when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import repository

from vidstyle.backends.tensorrt import cached
from vidstyle.backends.tensorrt.cached import Recipe, engine_for, path_of
from vidstyle.backends.tensorrt.library import Library, find_library
from vidstyle.backends.tensorrt.lock import file_lock
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import FAST, PAPER, Architecture
from vidstyle.models.engine_file import EngineFile, card_path_of
from vidstyle.options import EnginePrecision
from vidstyle.stylizer import network_program

pytest.importorskip("tensorrt_rtx")
FORM = FrameFormat(height=24, width=32, pixels="i420")
RTX_4090 = GpuFacts("NVIDIA GeForce RTX 4090", "8.9")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "engines"


def recipe(
    form: FrameFormat = FORM,
    shape: Architecture = FAST,
    precision: EnginePrecision = "fp16",
    gpu: GpuFacts = RTX_4090,
    library: Library | None = None,
) -> Recipe:
    return Recipe.of(network_program(shape, form), precision, library or find_library("tensorrt-rtx"), gpu)


def where(wanted: Recipe) -> Path:
    return path_of(wanted, wanted.program.graph(wanted.precision))


def builds(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is built from now on."""
    seen: list[object] = []
    original = cached.build_plan

    def build(*arguments: object, **more: object) -> object:
        seen.append(arguments)
        return original(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cached, "build_plan", build)
    return seen


def test_the_second_run_takes_what_the_first_built(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = builds(monkeypatch)
    first, plan = engine_for(recipe())
    second, again = engine_for(recipe())
    assert len(built) == 1 and plan == again == first.path.read_bytes()
    assert first.path == second.path == where(recipe())
    card = second.card
    assert (card.network, card.styles, card.precision) == ("fast", (), "fp16")
    assert (card.best, card.dynamic, card.pixels, card.targets) == (FORM.size, False, "i420", ("8.9",))
    assert json.loads(card_path_of(first.path).read_text())["build"]["for"] == RTX_4090.name


def test_everything_that_an_engine_is_built_from_and_for_has_a_name_of_its_own() -> None:
    library = find_library("tensorrt-rtx")
    recipes = [
        recipe(),
        recipe(FORM.resized((24, 36))),
        recipe(replace(FORM, pixels="nv12")),
        recipe(replace(FORM, matrix="bt601")),
        recipe(replace(FORM, full_range=True)),
        recipe(shape=PAPER),
        recipe(precision="fp32"),
        recipe(gpu=replace(RTX_4090, name="NVIDIA L4")),
        recipe(gpu=replace(RTX_4090, compute_capability="8.6")),
        recipe(library=Library("tensorrt-rtx", library.module, "1.8.0.1")),
        recipe(library=Library("tensorrt", library.module, library.version)),
    ]
    assert len({where(one) for one in recipes}) == len(recipes)
    assert where(recipe()) == where(recipe())


@pytest.mark.parametrize("damage", ["plan cut", "plan flipped", "plan gone", "card gone", "card damaged"])
def test_a_damaged_engine_is_built_again(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, plan = engine_for(recipe())
    card = card_path_of(engine.path)
    if damage == "plan cut":
        engine.path.write_bytes(plan[: len(plan) // 2])
    elif damage == "plan flipped":
        engine.path.write_bytes(plan[:999] + bytes([plan[999] ^ 1]) + plan[1000:])
    elif damage == "card damaged":
        card.write_text(card.read_text()[:-30])
    else:
        (engine.path if damage == "plan gone" else card).unlink()
    built = builds(monkeypatch)
    mended, _ = engine_for(recipe())
    assert len(built) == 1
    assert EngineFile.open(mended.path).read_plan()


def test_an_engine_that_does_not_load_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engine_for(recipe())
    built = builds(monkeypatch)
    engine_for(recipe(), anew=True)
    assert len(built) == 1


def test_a_home_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "file"))
    engine, plan = engine_for(recipe())
    assert not engine.path.exists()
    assert (engine.card.plan_bytes, len(engine.card.plan_sha256)) == (len(plan), 64)


def test_the_engine_used_longest_ago_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "ENGINES_KEPT", 2)
    recipes = [recipe(FORM.resized((24, width))) for width in (32, 36, 40)]
    first, second, third = (where(one) for one in recipes)
    for one in recipes[:2]:
        engine_for(one)
    os.utime(first, (2, 2))
    os.utime(second, (1, 1))
    engine_for(recipes[0])  # used again
    engine_for(recipes[2])
    assert set(home.glob("*.engine")) == {first, third}
    assert not card_path_of(second).exists() and not second.with_suffix(".lock").exists()


CODE = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
import test_cached
from vidstyle.backends.tensorrt import cached
def build(*arguments, original=cached.build_plan, **more):
    print("built", flush=True)
    return original(*arguments, **more)
cached.build_plan = build
Path(sys.argv[1]).touch()
deadline = time.monotonic() + 90
while not all(map(Path.exists, map(Path, sys.argv[1:]))):
    assert time.monotonic() < deadline, "the other process is not there"
    time.sleep(0.005)
engine, plan = cached.engine_for(test_cached.recipe())
assert engine.read_plan() == plan
"""


def test_two_processes_build_an_engine_once(home: Path, tmp_path: Path) -> None:
    code = CODE.format(paths=[str(repository()), str(repository() / "tests")])
    there = [str(tmp_path / name) for name in ("first", "second")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *names], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
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


def test_building_needs_neither_onnxruntime_nor_torch() -> None:
    code = f"""
import sys
sys.modules.update(onnxruntime=None, torch=None, openvino=None)
from vidstyle.backends.tensorrt.cached import Recipe, engine_for
from vidstyle.backends.tensorrt.library import find_library
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import FAST
from vidstyle.stylizer import network_program
engine_for(Recipe.of(network_program(FAST, {FORM!r}), "fp16", find_library("tensorrt-rtx"), {RTX_4090!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, cwd=repository(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_lock_is_waited_for_and_given_back(tmp_path: Path) -> None:
    path, order = tmp_path / "new" / "a.lock", []

    def other() -> None:
        with file_lock(path):
            order.append("other")

    with file_lock(path):
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "other"]
    with pytest.raises(ZeroDivisionError), file_lock(path):
        raise ZeroDivisionError
    with file_lock(path):
        pass


def test_a_lock_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = (
        "import os; from pathlib import Path; from vidstyle.backends.tensorrt.lock import file_lock;"
        f"file_lock(Path({str(path)!r})).__enter__(); os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, cwd=repository()).returncode == 1
    taken = threading.Event()

    def take() -> None:
        with file_lock(path):
            taken.set()

    threading.Thread(target=take, daemon=True).start()
    assert taken.wait(20)
