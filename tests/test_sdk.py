"""The two TensorRT libraries, and the GPUs that they build for."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from engines import ADA, HOPPER, TURING
from vidstyle.backends.tensorrt import sdk
from vidstyle.backends.tensorrt.sdk import (
    AMPERE_AND_LATER,
    PORTABLE,
    TARGETS,
    Library,
    capability_pair,
    chosen_targets,
    covers,
    find_library,
    installed_versions,
    target_capabilities,
)
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.options import EngineTarget


@pytest.fixture(scope="module")
def rtx() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return find_library("tensorrt-rtx")


PLAIN = Library("tensorrt", SimpleNamespace(), "11.4.0.106")
"""TensorRT as far as these questions go: they do not reach its module."""


def test_a_library_is_loaded_once_with_its_version(rtx: Library) -> None:
    assert installed_versions()["tensorrt-rtx"] == rtx.version == rtx.module.__version__
    assert find_library() is rtx
    assert rtx.logger is rtx.logger


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_missing_is_the_pip_command(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)  # as if it were not installed
    with pytest.raises(MissingDependency, match=rf"pip install 'vidstyle\[{name}\]'"):
        sdk.load_library.__wrapped__(name)  # one that is loaded stays loaded


def test_without_any_library_both_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "installed_versions", dict)
    with pytest.raises(MissingDependency, match=r"vidstyle\[tensorrt-rtx\].*without a GPU.*vidstyle\[tensorrt\]"):
        find_library()


def test_a_gpu_that_rtx_does_not_know_asks_for_tensorrt(rtx: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "installed_versions", lambda: {"tensorrt-rtx": rtx.version})
    with pytest.raises(MissingDependency, match=r"compute capability 9\.0, only 7\.5, 8\.0.*vidstyle\[tensorrt\]"):
        find_library(compute_capability="9.0")
    assert find_library(compute_capability="8.9") is rtx


def test_rtx_leaves_out_data_centre_gpus(rtx: Library) -> None:
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(rtx.compute_capabilities)
    assert list(rtx.compute_capabilities) == sorted(rtx.compute_capabilities, key=capability_pair)
    assert [rtx.supports(capability) for capability in ("8.9", "9.0", "10.0")] == [True, False, False]
    assert [PLAIN.supports(capability) for capability in ("9.0", "12.0", "6.1")] == [True, True, False]


def test_errors_of_the_library_are_kept_and_not_printed(rtx: Library, capfd: pytest.CaptureFixture[str]) -> None:
    before = rtx.errors.count
    rtx.logger.log(rtx.module.ILogger.WARNING, "a warning")
    assert rtx.errors.last_since(before) == "it gives no reason"
    rtx.logger.log(rtx.module.ILogger.ERROR, "first\n  error")
    assert rtx.errors.last_since(before) == "first error"
    rtx.logger.log(rtx.module.ILogger.ERROR, "second error")
    rtx.logger.log(rtx.module.ILogger.INTERNAL_ERROR, "harmless")
    assert rtx.errors.last_since(before) == "second error"
    assert rtx.errors.last_since(rtx.errors.count) == "it gives no reason"
    assert capfd.readouterr() == ("", "")


def test_without_a_gpu_engines_are_portable() -> None:
    assert chosen_targets((), None) == ("portable",)
    assert chosen_targets((), ADA) == ("current",)
    assert chosen_targets(("ada", "turing", "ada"), None) == ("ada", "turing")
    assert {*TARGETS, "current"} == set(get_args(EngineTarget))


@pytest.mark.parametrize(
    ("targets", "gpu", "capabilities"),
    [
        ((), None, PORTABLE),
        (("portable",), None, PORTABLE),
        (("turing",), None, ("7.5",)),
        (("ampere",), None, ("8.0", "8.6")),
        (("blackwell", "turing"), None, ("7.5", "12.0", "12.1")),
        (("portable", "turing"), None, ("7.5", *PORTABLE)),
        (("current",), ADA, ("8.9",)),
        ((), TURING, ("7.5",)),
    ],
)
def test_targets_are_compute_capabilities(rtx: Library, targets: Any, gpu: Any, capabilities: tuple[str, ...]) -> None:
    found = target_capabilities(targets, rtx, gpu)
    assert found == tuple(c for c in capabilities if c in rtx.compute_capabilities)


def test_tensorrt_builds_for_the_current_gpu_or_for_ampere_and_later() -> None:
    assert target_capabilities((), PLAIN, HOPPER) == ("9.0",)
    assert target_capabilities(("portable",), PLAIN, HOPPER) == (AMPERE_AND_LATER,)


@pytest.mark.parametrize(
    ("targets", "gpu", "plain", "words"),
    [
        (("current",), None, False, "target 'current' needs a GPU, and none answers here"),
        (("current",), HOPPER, False, r"cannot build for current \(9\.0\).*`--library tensorrt`"),
        ((), None, True, "none answers here; `--library tensorrt-rtx` builds without one"),
        (("ada",), HOPPER, True, "tensorrt builds for the current GPU, or portable.*tensorrt-rtx"),
        (("current", "portable"), HOPPER, True, "tensorrt builds for the current GPU, or portable"),
    ],
)
def test_targets_that_cannot_be_built_are_refused(
    rtx: Library, targets: Any, gpu: Any, plain: bool, words: str
) -> None:
    with pytest.raises(BadOption, match=words):
        target_capabilities(targets, PLAIN if plain else rtx, gpu)


def test_a_portable_engine_runs_on_later_gpus_and_others_do_not() -> None:
    assert covers(PORTABLE, "12.1") and covers(("8.9",), "8.9") and covers((AMPERE_AND_LATER,), "9.0")
    assert not any((covers(("8.9",), "12.0"), covers(PORTABLE, "7.5"), covers(PORTABLE, "9.0")))
    assert not covers((AMPERE_AND_LATER,), "7.5")
