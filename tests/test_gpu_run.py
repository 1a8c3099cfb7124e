"""The one command for a GPU: that it rehearses to its end, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import repository

SCRIPT = repository() / "scripts" / "gpu_run"


def gpu_run(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})


@pytest.mark.slow
def test_a_rehearsal_goes_through_every_stage_and_leaves_every_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = gpu_run(tmp_path / "out", "--rehearse", "--no-install", "--", "--inner", "all", "--no-stable")
    assert done.returncode == 0, done.stdout[-3000:]
    summary = (tmp_path / "out" / "summary.txt").read_text()
    for stage in ("tests", "bench", "train"):
        assert f"{stage}: exit status 0" in summary
    for file in ("log.txt", "gpu.json", "train/network.safetensors", "train/bilevel.checkpoint.safetensors"):
        assert (tmp_path / "out" / file).stat().st_size > 0
    assert "missing" not in summary
    # What goes wrong in one stage is told at the end, and stops none of the others.
    again = gpu_run(tmp_path / "out", "--rehearse", "--no-install", "--minutes", "0.01")
    assert again.returncode == 1 and again.stdout.count("left out, the time is over") == 3


@pytest.mark.parametrize("words", [(), ("out", "--styles", "nowhere", "--content", "."), ("out", "--minutes")])
def test_what_is_missing_is_told_before_anything_runs(words: tuple[str, ...]) -> None:
    done = gpu_run(*words)
    assert done.returncode == 2
    assert "scripts/gpu_run OUT --styles DIR" in done.stdout
