"""The benchmark of GPUs: that it runs to its end where it can be run, and measures nothing where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import has_gpu, repository

SCRIPT = repository() / "benchmarks" / "gpu.py"


def run(*words: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The script in this process, where torch is loaded already."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        gpu.main()

    yield call
    for name in ("gpu", "measured"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("words", [(), ("--hopper-try",)])
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, main: Callable[..., None], words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="^no NVIDIA GPU here; nothing was measured"):
        main("--results", str(tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_goes_through_every_way_and_keeps_what_failed(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--results", str(tmp_path), "--cases", "paper-256x256", "fast-640x360")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "dry-run.json").read_text())
    assert facts["machine"]["gpu"]["dry_run"] is True
    assert facts["gpu"]["ceilings"]["copy_gb_s"] > 0
    for name, size in (("paper-256x256", (32, 32)), ("fast-640x360", (80, 45))):
        case = facts["gpu"][name]
        assert (case["width"] * case["scale"], case["height"] * case["scale"]) == size
        ways = case["ways"]
        assert "eager fp32 tf32" in ways
        half = ways["torch fp16"]
        assert half["psnr_db"] >= 40
        assert half["network_ms"]["low"] <= half["network_ms"]["median"] <= half["network_ms"]["high"]
        assert half["frame_ms"]["in_flight"] == 1
        assert half["times_eager_fp32"] == pytest.approx(
            ways["eager fp32"]["network_ms"]["median"] / half["network_ms"]["median"], rel=1e-3
        )
        if not has_gpu():
            assert "GPU" in ways["tensorrt"]["error"]
    flops, size_in_bytes = facts["gpu"]["paper-256x256"]["work"].values()
    assert flops == pytest.approx(309e3 * 32 * 32, rel=0.02)
    assert 1e6 < size_in_bytes < 1e7


def test_a_dry_run_does_not_go_among_the_results(main: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main("--device", "cpu")
    assert "a dry run needs a folder of its own" in capsys.readouterr().err


def test_time_over_ends_it_after_the_case_under_way(
    tmp_path: Path, main: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    main("--device", "cpu", "--results", str(tmp_path), "--minutes", "0")
    assert capsys.readouterr().out.count("left out, 0 minutes are over") == 7
    assert "paper-512x512" not in json.loads((tmp_path / "dry-run.json").read_text())["gpu"]


def test_a_picture_that_is_off_fails_the_run(
    tmp_path: Path, main: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.MIN_DB", 90.0)
    with pytest.raises(SystemExit, match="not what the CPU paints: fast-640x360 torch fp16"):
        main("--device", "cpu", "--results", str(tmp_path), "--cases", "fast-640x360")


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    done = run("--results", str(tmp_path), "--cases", "paper-256x256", timeout=300)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["gpu"]["paper-256x256"]["ways"]["torch fp16"]["psnr_db"] >= 40
