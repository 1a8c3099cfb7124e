"""The benchmark of GPUs: that it runs to its end where it can be run, and measures nothing where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import has_gpu, repository

SCRIPT = repository() / "benchmarks" / "gpu.py"


def run(*words: str, timeout: float = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=timeout)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("words", [(), ("--hopper-try",)])
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run("--results", str(tmp_path), *words)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("no NVIDIA GPU here; nothing was measured")
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


def test_a_dry_run_does_not_go_among_the_results() -> None:
    done = run("--device", "cpu")
    assert done.returncode == 2
    assert "a dry run needs a folder of its own" in done.stderr


def test_time_over_ends_it_after_the_case_under_way(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--results", str(tmp_path), "--minutes", "0")
    assert done.returncode == 0
    assert done.stdout.count("left out, 0 minutes are over") == 7
    assert "paper-512x512" not in json.loads((tmp_path / "dry-run.json").read_text())["gpu"]


def test_a_picture_that_is_off_fails_the_run(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['gpu.py', '--device', 'cpu', '--results', {str(tmp_path)!r}, "
        "'--cases', 'fast-640x360'];"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r}); import gpu; gpu.LEAST_DB = 90.0; gpu.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=80, cwd=repository())
    assert done.returncode == 1
    assert "not what the CPU paints: fast-640x360 torch fp16" in done.stderr


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    done = run("--results", str(tmp_path), "--cases", "paper-256x256", timeout=300)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["gpu"]["paper-256x256"]["ways"]["torch fp16"]["psnr_db"] >= 40
