"""The two TensorRT libraries, what they build for, and whether an engine fits."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vidstyle.backends.tensorrt import library as libraries
from vidstyle.backends.tensorrt.fit import GpuFacts, command, mismatch
from vidstyle.backends.tensorrt.library import Library, Messages, as_pair, find_library, installed_versions
from vidstyle.backends.tensorrt.targets import AMPERE_AND_LATER, PORTABLE, chosen_targets, compute_capabilities, covers
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.frame import FrameFormat
from vidstyle.models.engine_file import EngineCard, EngineFile

ADA = GpuFacts("NVIDIA GeForce RTX 4090", "8.9")
TURING = GpuFacts("NVIDIA GeForce RTX 2080", "7.5")
HOPPER = GpuFacts("NVIDIA H200", "9.0")


@pytest.fixture(scope="module")
def rtx() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return find_library("tensorrt-rtx")


def plain(version: str = "11.4.0.106") -> Library:
    """TensorRT as far as these questions go: they do not reach its module."""
    return Library("tensorrt", SimpleNamespace(), version)


def test_what_is_installed_is_told_without_importing_it() -> None:
    before = set(sys.modules)
    versions = installed_versions()
    assert not {"tensorrt", "tensorrt_rtx"} & (set(sys.modules) - before)
    assert set(versions) <= {"tensorrt-rtx", "tensorrt"}


def test_the_version_told_is_that_of_the_module(rtx: Library) -> None:
    assert installed_versions()["tensorrt-rtx"] == rtx.version == rtx.module.__version__


def test_a_library_is_loaded_once(rtx: Library) -> None:
    assert find_library() is rtx
    assert rtx.logger is rtx.logger


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_missing_is_the_pip_command(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)  # as if it were not installed
    monkeypatch.setattr(libraries, "_import", libraries._import.__wrapped__)  # one that is loaded stays loaded
    with pytest.raises(MissingDependency, match=rf"pip install 'vidstyle\[{name}\]'"):
        find_library(name)


def test_without_any_library_both_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "installed_versions", dict)
    with pytest.raises(MissingDependency, match=r"vidstyle\[tensorrt-rtx\].*without a GPU.*vidstyle\[tensorrt\]"):
        find_library()


def test_a_gpu_that_rtx_does_not_know_asks_for_tensorrt(rtx: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "installed_versions", lambda: {"tensorrt-rtx": rtx.version})
    with pytest.raises(MissingDependency, match=r"compute capability 9\.0, only 7\.5, 8\.0.*vidstyle\[tensorrt\]"):
        find_library(compute_capability="9.0")
    assert find_library(compute_capability="8.9") is rtx


def test_rtx_leaves_out_data_centre_gpus(rtx: Library) -> None:
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(rtx.compute_capabilities)
    assert list(rtx.compute_capabilities) == sorted(rtx.compute_capabilities, key=as_pair)
    assert not rtx.supports("9.0")
    assert not rtx.supports("10.0")
    assert plain().supports("9.0")
    assert plain().supports("12.0")
    assert not plain().supports("6.1")


def test_errors_of_the_library_are_kept_and_not_printed(rtx: Library, capfd: pytest.CaptureFixture[str]) -> None:
    mark = rtx.messages.mark()
    rtx.logger.log(rtx.module.ILogger.WARNING, "a warning")
    assert rtx.messages.since(mark) == "it gives no reason"
    rtx.logger.log(rtx.module.ILogger.ERROR, "first\n  error")
    rtx.logger.log(rtx.module.ILogger.ERROR, "second error")
    rtx.logger.log(rtx.module.ILogger.INTERNAL_ERROR, "harmless")
    assert rtx.messages.since(mark) == "second error"
    assert rtx.messages.since(rtx.messages.mark()) == "it gives no reason"
    assert capfd.readouterr() == ("", "")


def test_messages_do_not_grow() -> None:
    messages = Messages()
    for number in range(1000):
        messages.add_error(f"error {number}")
    assert messages.since(0) == "error 999"
    assert len(messages._errors) == libraries.MESSAGES_KEPT


def test_without_a_gpu_engines_are_portable() -> None:
    assert chosen_targets((), None) == ("portable",)
    assert chosen_targets((), ADA) == ("current",)
    assert chosen_targets(("ada", "turing", "ada"), None) == ("ada", "turing")


@pytest.mark.parametrize(
    ("targets", "capabilities"),
    [
        (("portable",), PORTABLE),
        ((), PORTABLE),
        (("turing",), ("7.5",)),
        (("ampere",), ("8.0", "8.6")),
        (("ada",), ("8.9",)),
        (("blackwell",), ("12.0", "12.1")),
        (("blackwell", "turing"), ("7.5", "12.0", "12.1")),
        (("portable", "turing"), ("7.5", *PORTABLE)),
    ],
)
def test_targets_are_compute_capabilities(rtx: Library, targets: Any, capabilities: tuple[str, ...]) -> None:
    found = compute_capabilities(targets, rtx, None)
    assert found == tuple(c for c in capabilities if c in rtx.compute_capabilities)


def test_current_is_the_gpu_that_is_here(rtx: Library) -> None:
    assert compute_capabilities(("current",), rtx, ADA) == ("8.9",)
    assert compute_capabilities((), rtx, TURING) == ("7.5",)
    with pytest.raises(BadOption, match="target 'current' needs a GPU, and none answers here"):
        compute_capabilities(("current",), rtx, None)
    with pytest.raises(BadOption, match=r"cannot build for current \(9\.0\).*`--library tensorrt`"):
        compute_capabilities(("current",), rtx, HOPPER)


def test_tensorrt_builds_for_the_current_gpu_or_for_ampere_and_later() -> None:
    assert compute_capabilities((), plain(), HOPPER) == ("9.0",)
    assert compute_capabilities(("portable",), plain(), HOPPER) == (AMPERE_AND_LATER,)
    for targets in (("ada",), ("current", "portable"), ("portable", "turing")):
        with pytest.raises(BadOption, match="tensorrt builds for the current GPU, or portable.*tensorrt-rtx"):
            compute_capabilities(targets, plain(), HOPPER)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="none answers here; `--library tensorrt-rtx` builds without one"):
        compute_capabilities((), plain(), None)


def test_a_portable_engine_runs_on_later_gpus_and_others_do_not() -> None:
    assert covers(PORTABLE, "12.1")
    assert covers(("8.9",), "8.9")
    assert not covers(("8.9",), "12.0")
    assert not covers(PORTABLE, "7.5")
    assert not covers(PORTABLE, "9.0")
    assert covers((AMPERE_AND_LATER,), "9.0")
    assert not covers((AMPERE_AND_LATER,), "7.5")


def engine(library: Library, **changes: Any) -> EngineFile:
    facts: dict[str, Any] = {
        "network": "fast",
        "theta": "0123",
        "pixels": "i420",
        "matrix": "bt709",
        "full_range": False,
        "smallest": (720, 1280),
        "best": (720, 1280),
        "largest": (720, 1280),
        "precision": "fp16",
        "library": library.name,
        "library_version": library.version,
        "targets": PORTABLE,
        "gpu": None,
        "styles": ("starry_night",),
    }
    return EngineFile(Path("starry.engine"), EngineCard(**{**facts, **changes}))


def form(width: int = 1280, height: int = 720, **changes: Any) -> FrameFormat:
    return FrameFormat(height=height, width=width, **{"pixels": "i420", "matrix": "bt709", **changes})


def test_an_engine_for_this_gpu_version_and_frames_fits(rtx: Library) -> None:
    assert mismatch(engine(rtx), form(), ADA, rtx) is None
    assert mismatch(engine(rtx), None, ADA, rtx) is None
    assert mismatch(engine(plain(), gpu=HOPPER.name, targets=("9.0",)), form(), HOPPER, plain()) is None


def says(found: str | None, *parts: str) -> None:
    assert found is not None
    assert "\n" not in found
    for part in parts:
        assert part in found, found


AGAIN = "build it again with `--rebuild`, or with `vidstyle build-engine starry_night "


def test_another_version_says_both(rtx: Library) -> None:
    older = engine(rtx, library_version="1.6.1")
    says(
        mismatch(older, form(), ADA, rtx),
        "was built by tensorrt-rtx 1.6.1",
        f"here is tensorrt-rtx {rtx.version}",
        AGAIN + "-o starry.engine --overwrite`",
        "`pip install tensorrt-rtx==1.6.1`",
    )
    says(mismatch(engine(plain()), form(), ADA, rtx), "was built by tensorrt 11.4.0.106")


def test_another_gpu_says_both(rtx: Library) -> None:
    says(
        mismatch(engine(rtx), form(), TURING, rtx),
        "was built for GPUs of compute capability 8.0, 8.6, 8.9, 12.0",
        "this one is NVIDIA GeForce RTX 2080 (compute capability 7.5)",
        AGAIN + "--target current -o starry.engine --overwrite`",
    )
    library = plain()
    other = engine(library, gpu="NVIDIA GeForce RTX 4080", targets=("8.9",))
    says(mismatch(other, form(), ADA, library), "on and for NVIDIA GeForce RTX 4080", "RTX 4090", AGAIN)


def test_a_gpu_that_the_library_does_not_know_names_the_other_library(rtx: Library) -> None:
    says(mismatch(engine(rtx), form(), HOPPER, rtx), "does not know this one, NVIDIA H200", "--library tensorrt ")


def test_no_gpu_names_the_cpu_as_the_way_out(rtx: Library) -> None:
    says(
        mismatch(engine(rtx), form(), None, rtx),
        "needs an NVIDIA GPU, and none answers on this machine",
        "paint on the CPU with `--style starry_night` instead",
    )


@pytest.mark.parametrize(
    ("frames", "parts"),
    [
        (form(640, 360), ["takes frames of 1280x720, and these are 640x360", "--size 640x360"]),
        (form(1920, 1080), ["these are 1920x1080", "--size 1920x1080", "or paint at its size with `--work-size 720`"]),
        (form(1080, 1920), ["these are 1080x1920", "--size 1080x1920"]),
        (form(pixels="rgb"), ["takes i420 frames, and these are rgb", "--pixels rgb"]),
        (form(matrix="bt601"), ["bt709 of limited range", "bt601 of limited range", "--matrix bt601"]),
        (form(full_range=True), ["these are bt709 of full range", "--full-range"]),
        (form(640, 360, pixels="rgb"), ["takes i420 frames, and these are rgb", "--size 640x360 --pixels rgb"]),
    ],
)
def test_other_frames_say_what_was_built_and_the_command(rtx: Library, frames: FrameFormat, parts: list[str]) -> None:
    found = mismatch(engine(rtx), frames, ADA, rtx)
    says(found, *parts, AGAIN, " -o starry.engine --overwrite`")
    assert ("--work-size" in (found or "")) == any("--work-size" in part for part in parts)


def test_the_command_builds_what_was_built(rtx: Library) -> None:
    words = "vidstyle build-engine starry_night"
    assert command(engine(rtx)) == f"{words} -o starry.engine --overwrite"
    dynamic = engine(rtx, smallest=(64, 64), largest=(1080, 1920), precision="fp32", pixels="nv12", full_range=True)
    assert command(dynamic) == (
        f"{words} --min 64x64 --opt 1280x720 --max 1920x1080 --pixels nv12 --full-range --precision fp32 "
        "-o starry.engine --overwrite"
    )
    small = engine(rtx, smallest=(48, 64), best=(48, 64), largest=(48, 64))
    assert command(small) == f"{words} --size 64x48 --matrix bt709 -o starry.engine --overwrite"
    assert command(small, matrix="bt601", targets=("ada", "turing")) == (
        f"{words} --size 64x48 --target ada --target turing -o starry.engine --overwrite"
    )


def test_styles_that_do_not_ship_come_out_of_the_engine(rtx: Library) -> None:
    for styles in (("mine",), ("starry_night", "mine")):
        assert command(engine(rtx, styles=styles)).startswith("vidstyle build-engine starry.engine -o ")
    says(mismatch(engine(rtx, styles=("mine",)), form(), None, rtx), "with one that `vidstyle styles` lists")


def test_a_command_to_paste_does_nothing_else(rtx: Library) -> None:
    hostile = replace(engine(rtx, library_version="1; touch x"), path=Path("$(touch x); `touch y` 'z.engine"))
    assert shlex.split(command(hostile))[-2] == str(hostile.path)
    found = mismatch(hostile, form(), ADA, rtx)
    assert found is not None and "`pip install 'tensorrt-rtx==1; touch x'`" in found


def test_rgb_frames_have_no_matrix(rtx: Library) -> None:
    assert mismatch(engine(rtx, pixels="rgb"), form(pixels="rgb", matrix="bt601"), ADA, rtx) is None


def test_a_dynamic_engine_fits_what_lies_between(rtx: Library) -> None:
    dynamic = engine(rtx, smallest=(64, 64), largest=(1080, 1920))
    assert mismatch(dynamic, form(642, 359), ADA, rtx) is None
    says(mismatch(dynamic, form(3840, 2160), ADA, rtx), "frames of 64x64 to 1920x1080", "`--work-size 1080`")


def test_what_cannot_be_mended_comes_first(rtx: Library) -> None:
    """Without a GPU no engine runs; an engine of another version has to be built again whatever its frames are."""
    wrong = EngineFile(Path("x.engine"), dataclasses.replace(engine(rtx).card, library_version="1.0", pixels="rgb"))
    says(mismatch(wrong, form(), None, rtx), "needs an NVIDIA GPU")
    says(mismatch(wrong, form(), ADA, rtx), "was built by tensorrt-rtx 1.0")
