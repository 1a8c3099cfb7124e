"""The benchmark of engines: one is built, and the table says what was measured."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import repository

BENCHMARKS = repository() / "benchmarks"
MARKERS = "<!-- {0} table: made by benchmarks/table.py --><!-- end of {0} table -->"


def test_an_engine_is_measured_and_tabulated(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    words = ["m", "--cases", "fast-640x360-i420", "--rounds", "1", "--results", str(tmp_path)]
    command = [sys.executable, str(BENCHMARKS / "engines.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "m" / "engines.json").read_text())
    case = facts["engines"]["fast-640x360-i420"]
    assert case["convolutions"] == {"half": 14, "float": 1}
    assert case["worst_db"] >= 40
    assert case["seconds"]["median"] > case["build_seconds"]["median"] > 0
    assert case["plan_bytes"] > 1 << 20
    assert facts["machine"]["engines"]["packages"]["tensorrt-rtx"] in case["library"]

    table = runpy.run_path(str(BENCHMARKS / "table.py"))
    page = table["updated"](MARKERS.format("engine"), ("engine",), [table["read"](tmp_path / "m.json")])
    (row,) = (line for line in page.splitlines() if line.startswith("| `fast`, 640x360, i420 |"))
    assert f"| {case['plan_bytes'] / 2**20:.1f} MiB |" in row
    assert "| 14 of 15 |" in row
    assert row.endswith(f"| {case['worst_db']:.1f} dB |")


def test_a_gpu_that_was_not_measured_is_marked_so() -> None:
    table = runpy.run_path(str(BENCHMARKS / "table.py"))
    page = table["updated"](MARKERS.format("gpu"), ("gpu",), [{}])
    assert page.count("not measured") == 3 * 5
    run = {"network_ms": {"median": 0.41}, "of_matmul_ceiling": 0.3, "of_copy_ceiling": 0.2, "psnr_db": 51.0}
    facts = {
        "machine": {"gpu": {"gpu": "NVIDIA H200"}},
        "gpu": {
            "ceilings": {"fp16_matmul_tflops": 700.0, "copy_gb_s": 4000.0},
            "paper-512x512": {"ways": {"torch fp16": run, "tensorrt": {"error": "not installed"}}},
        },
    }
    page = table["updated"](MARKERS.format("gpu"), ("gpu",), [facts])
    assert "not measured" not in page
    assert "| paper-512x512, torch fp16 | at most 0.5 ms | 0.410 ms |  | 30 % | 20 % | 51.0 dB |" in page
