"""Measuring: what `vidstyle bench` reports, and that the tables follow the measurements."""

from __future__ import annotations

import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import repository

from vidstyle.cli import vidstyle
from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption, VideoError
from vidstyle.gallery import shared_network
from vidstyle.options import BackendOptions, EncodeOptions
from vidstyle.tools.bench import BenchOptions, BenchReport, bench
from vidstyle.video.reader import VideoReader
from vidstyle.video.synthetic import generate_clip

OPENVINO = (BackendOptions(backend="openvino"),)


def small(**options: object) -> BenchOptions:
    chosen = {"sizes": ((48, 64),), "backends": OPENVINO, "frames": 12, "rounds": 1, **options}
    return BenchOptions(**chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "clip.mp4"
    generate_clip(path, (48, 64), 20)
    return path


def test_a_generated_clip_has_the_parameters_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    assert "96x64, 25 fps, seed 3" in generate_clip(path, (64, 96), 10, seed=3)
    with VideoReader(path) as video:
        frames = list(video.frames())
    assert [frame.form.size for frame in frames] == [(64, 96)] * 10
    assert [frame.seconds for frame in frames] == [index / 25 for index in range(10)]
    lumas = [frame.planes[0].astype(int) for frame in frames]
    assert all(np.abs(b - a).mean() > 1 for a, b in zip(lumas, lumas[1:], strict=False)), "it stands still"
    assert min(luma.std() for luma in lumas) > 20, "it has no texture"


def test_the_same_seed_makes_the_same_clip(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        generate_clip(path, (32, 32), 8, seed=seed)
    pictures = []
    for path in paths:
        with av.open(str(path)) as file:
            pictures.append(next(file.decode(video=0)).to_ndarray().astype(float))
    # Not to the bit: the encoder chooses its quantizer a little differently when its threads are late.
    same, other = (np.abs(pictures[0] - picture).mean() for picture in pictures[1:])
    assert same < 0.2 * other


@pytest.mark.parametrize("size", [(33, 64), (8, 64), (64, 20000)])
def test_a_clip_of_a_size_that_cannot_be_encoded_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(BadOption):
        generate_clip(tmp_path / "clip.mp4", size, 8)
    assert not list(tmp_path.iterdir())


def test_bench_measures_every_stage_and_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    report = bench(small(rounds=2, encode=EncodeOptions(codec="ffv1")), on_case=seen.append)
    assert not list(tmp_path.iterdir()), "the clip is left"
    assert report.encoder.startswith("ffv1")
    (case,) = report.cases
    assert seen == [case]
    assert (case.width, case.height, case.work_size, case.backend) == (64, 48, None, "openvino")
    assert (case.frames, case.rounds) == (12, 2)
    assert case.clip_seconds == pytest.approx(11.5 / 25)
    assert case.scale is None
    for stage in (case.decode, case.infer, case.encode, case.render):
        assert 0 < stage.ms.low <= stage.ms.median <= stage.ms.high
        assert stage.cpu_ms.median > 0
    assert case.fps.median == pytest.approx(1000 / case.render.ms.median, rel=0.2)
    assert 0 < case.cores_busy.median <= 1.1
    assert case.overhead.median > 0
    assert case.startup_seconds > 0


def test_a_work_size_is_a_case_of_its_own_with_a_stage_of_its_own() -> None:
    cases = bench(small(work_sizes=(None, 24))).cases
    assert [case.work_size for case in cases] == [None, 24]
    assert [case.scale is None for case in cases] == [True, False]


def test_large_clips_are_also_measured_at_the_usual_work_size() -> None:
    cases = bench(small(sizes=((368, 64), (48, 64)))).cases
    assert [(case.height, case.work_size) for case in cases] == [(368, None), (368, 360), (48, None)]


def test_slow_networks_get_shorter_rounds(clip: Path) -> None:
    (case,) = bench(small(clip=clip, frames=20, round_seconds=0)).cases
    assert case.frames == 8
    assert case.clip == "clip.mp4"


def test_every_installed_backend_is_measured_unless_some_are_named() -> None:
    names = [case.backend for case in bench(small(backends=None)).cases]
    assert sorted(names) == ["onnxruntime", "openvino", "torch"]


def test_a_clip_too_short_to_measure_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    generate_clip(path, (32, 32), 5)
    with pytest.raises(BadOption, match=r"short\.mp4 has 5 frames; at least 8 are needed"):
        bench(small(clip=path))
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        bench(small(clip=tmp_path / "missing.mp4"))


@pytest.mark.parametrize("wrong", [{"frames": 7}, {"rounds": 0}, {"round_seconds": -1.0}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadOption):
        BenchOptions(**wrong)  # type: ignore[arg-type]


def test_json_has_hardware_versions_clip_and_preset(clip: Path) -> None:
    words = ["bench", "--clip", str(clip), "--backend", "openvino", "--rounds", "1", "--frames", "8"]
    result = CliRunner().invoke(vidstyle, [*words, "--preset", "ultrafast", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == {field.name for field in dataclasses.fields(BenchReport)}
    assert report["cpu"]["usable_cores"] >= 1
    assert report["packages"]["av"] == av.__version__
    assert "preset ultrafast" in report["encoder"]
    assert report["cases"][0]["clip_seconds"] == pytest.approx(7.5 / 25)
    assert report["cases"][0]["startup_seconds"] > 0


def test_bench_prints_a_table_of_stages() -> None:
    words = ["bench", "--size", "64x48", "--work-size", "0", "--work-size", "24", "--rounds", "1", "--frames", "8"]
    result = CliRunner().invoke(vidstyle, [*words, "--backend", "openvino"])
    assert result.exit_code == 0, result.output
    assert "64x48, OpenVINO" in result.output
    assert "64x48, work size 24, OpenVINO" in result.output
    for word in ("decode", "scale", "infer", "encode", "render", " fps ", "% busy", "start-up"):
        assert word in result.output


def test_a_size_and_a_clip_together_are_refused(clip: Path) -> None:
    result = CliRunner().invoke(vidstyle, ["bench", "--clip", str(clip), "--size", "64x48"])
    assert result.exit_code == 2
    assert "leave out --size" in result.output


BENCHMARKS = repository() / "benchmarks"
MARKERS = "<!-- {0} table: made by benchmarks/table.py --><!-- end of {0} table -->"


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def table() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "table.py"))


def test_the_tables_of_the_pages_are_in_step_with_the_results() -> None:
    done = script("table.py", "--check")
    assert done.returncode == 0, done.stderr


def test_tables_are_written_between_their_markers_only() -> None:
    updated, tables = table()["updated"], ("memory",)
    page = "above\n<!-- memory table: made by benchmarks/table.py -->\nold\n<!-- end of memory table -->\nbelow\n"
    run = {"seconds_of_video": 9.96, "frames": 250, "peak_mib": 204.9}
    case = {"width": 640, "height": 360, "short": run, "long": run, "short_again": run}
    new = updated(page, tables, [{"memory": {"360p": case}}])
    assert new.startswith("above\n<!--") and new.endswith("-->\nbelow\n")
    assert "| 640x360 | 10 s | 250 | 205 MiB |" in new and "old" not in new
    assert updated(new, tables, [{"memory": {"360p": case}}]) == new
    assert "|" not in updated(new, tables, [])
    with pytest.raises(SystemExit, match="must hold <!-- memory table"):
        updated("nothing here", tables, [])


def test_adaptations_are_measured_beside_training_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptation import main

    def measure(*words: object) -> str:
        """What the script says, in this process: another would have to import PyTorch anew."""
        monkeypatch.setattr(sys, "argv", ["adaptation.py", *map(str, words)])
        main()
        return capsys.readouterr().out

    small = ["--steps", 2, "--scratch-steps", 4, "--size", 32, "--style-size", 48, "--batch", 1, "--count", 2]
    small += ["--threads", 1]
    shared_network("fast").save(tmp_path / "other.safetensors")
    words = ["m", PHOTOS, PHOTOS / "coffee.jpg", *small, "--results", tmp_path, "--work", tmp_path / "work"]
    measure(*words, "--start", f"other={tmp_path / 'other.safetensors'}")
    path = tmp_path / "m" / "adaptation" / "coffee.json"
    runs = json.loads(path.read_text())["fast"]
    assert {name: run["conditions"]["steps"] for name, run in runs.items()} == {
        "full": 2,
        "vector": 2,
        "other": 2,
        "scratch_4": 4,
    }
    assert runs["other"]["curve"] == runs["full"]["curve"]
    for run in runs.values():
        first, *_, last = run["curve"]
        assert (first[0], last[0]) == (0, run["conditions"]["steps"])
        assert run["total"]["after"] < run["total"]["before"]
        assert run["conditions"]["learned_on"] == runs["vector"]["conditions"]["learned_on"]
        assert run["conditions"]["measured_on"]["photos"] == 2
    assert not list((tmp_path / "work").iterdir())

    again = measure(*words, "--size", 36, "--runs", "scratch")
    assert again.startswith("coffee, fast, scratch_4"), "another size is another measurement"
    assert measure(*words, "--runs", "vector", "full") == "", "what is there is not made again"

    (tmp_path / "m.json").write_text("{}")
    facts = table()["read"](tmp_path / "m.json")
    row, ratios = table()["updated"](MARKERS.format("adaptation"), ("adaptation",), [facts]).splitlines()[4:6]
    full, vector = (json.loads(path.read_text())["fast"][run]["total"]["after"] for run in ("full", "vector"))
    assert row.startswith(f"| coffee | {full:.2f} | {vector:.2f} |")
    assert ratios.startswith(f"| `full` over it, mean (of) | **1.00** (1) | **{full / vector:.2f}** (1) |")


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = {
        "conditions": {"steps": 4, "loss": {"content": 1, "style": 8, "variation": 0.02}},
        "columns": ["step", "content", "style", "variation"],
        "curve": [[0, 0.7, 0.8, 0.1], [4, 0.8, 0.2, 0.2]],
    }
    (tmp_path / "m" / "adaptation").mkdir(parents=True)
    for name in ("coffee", "rocket"):
        file = tmp_path / "m" / "adaptation" / f"{name}.json"
        file.write_text(json.dumps({"fast": {"vector": run, "full": run, "scratch_4": run}}))
    done = script("plots.py", "adaptation", "--results", tmp_path, "--output", tmp_path / "curves.svg")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.svg").read_text().count('id="axes_') == 2


def test_clips_are_the_film_looped_and_scaled(tmp_path: Path) -> None:
    done = script("clips.py", tmp_path, "--sizes", "96x54", "--seconds", "7")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    with VideoReader(path) as video:
        frames = list(video.frames())
    assert frames[0].form.size == (54, 96)
    assert [frame.seconds for frame in frames] == [index / 25 for index in range(175)]
    film = 132  # frames of examples/bunny.mp4
    first, again, other = (frames[index].planes[0].astype(int) for index in (0, film, film // 2))
    assert 2 * np.abs(again - first).mean() < np.abs(other - first).mean()


def test_an_engine_is_measured_and_tabulated(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    done = script("engines.py", "m", "--cases", "fast-640x360-i420", "--rounds", "1", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "m" / "engines.json").read_text())
    case = facts["engines"]["fast-640x360-i420"]
    assert case["convolutions"] == {"half": 14, "float": 1}
    assert case["worst_db"] >= 40
    assert case["seconds"]["median"] > case["build_seconds"]["median"] > 0
    assert case["plan_bytes"] > 1 << 20
    assert facts["machine"]["engines"]["packages"]["tensorrt-rtx"] in case["library"]

    page = table()["updated"](MARKERS.format("engine"), ("engine",), [table()["read"](tmp_path / "m.json")])
    (row,) = (line for line in page.splitlines() if line.startswith("| `fast`, 640x360, i420 |"))
    assert f"| {case['plan_bytes'] / 2**20:.1f} MiB |" in row
    assert "| 14 of 15 |" in row
    assert row.endswith(f"| {case['worst_db']:.1f} dB |")


def test_a_gpu_that_was_not_measured_is_marked_so() -> None:
    updated = table()["updated"]
    page = updated(MARKERS.format("gpu"), ("gpu",), [{}])
    assert page.count("not measured") == 3 * 5
    run = {"network_ms": {"median": 0.41}, "of_matmul_ceiling": 0.3, "of_copy_ceiling": 0.2, "psnr_db": 51.0}
    facts = {
        "machine": {"gpu": {"gpu": "NVIDIA H200"}},
        "gpu": {
            "ceilings": {"fp16_matmul_tflops": 700.0, "copy_gb_s": 4000.0},
            "paper-512x512": {"ways": {"torch fp16": run, "tensorrt": {"error": "not installed"}}},
        },
    }
    page = updated(MARKERS.format("gpu"), ("gpu",), [facts])
    assert "not measured" not in page
    assert "| paper-512x512, torch fp16 | at most 0.5 ms | 0.410 ms |  | 30 % | 20 % | 51.0 dB |" in page


@pytest.mark.slow
def test_the_benchmark_measures_both_commands_and_goes_on_where_it_was(tmp_path: Path) -> None:
    # The mechanics only: the "peer" hands its input on, and takes longer for more of it.
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import os, shutil, sys, time\n"
        "if 'video' in sys.argv:\n"
        "    shutil.copy(sys.argv[2], sys.argv[4])\n"
        "    time.sleep(os.path.getsize(sys.argv[2]) / 4e4)\n"
        "print('peer 1')\n"
    )
    words = ["machine", "--peer", f"{sys.executable} {peer}", "--cases", "360p", "--rounds", "1"]
    words += ["--seconds", "1", "--short", "0.4", "--clips", str(tmp_path), "--results", str(tmp_path)]
    done = script("run.py", *words, "--parts", "renders", "--held", "AVX2")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "machine.json").read_text())
    render = facts["renders"]["360p"]
    assert render["clip_frames"] == {"short": 10, "long": 25}
    # A second of video may take no longer than part of one, on a busy machine: only the peer's figure is sure.
    assert render["peer"]["fps"] > 0
    assert render["ratio"]["median"] == pytest.approx(render["ours"]["fps"] / render["peer"]["fps"], rel=0.01)
    assert render["peer"]["version"] == "peer 1"
    assert facts["machine"]["renders"]["cpu"]["usable_cores"] >= 1
    assert "fp32" in render["held"]["AVX2"]["backend"]
    assert "| `peer 1` | AVX2 |" in table()["updated"](MARKERS.format("benchmark"), ("benchmark",), [facts])
    assert "renders" not in script("run.py", *words, "--parts", "renders").stdout
    for names in (("benchmark",), ("stage",)):
        assert ("640x360" in table()["updated"](MARKERS.format(names[0]), names, [facts])) == (names == ("benchmark",))


@pytest.mark.slow
def test_the_memory_benchmark_repeats_its_clip(tmp_path: Path) -> None:
    words = ["machine", "--minutes", "0.07", "--seconds", "2", "--clips", tmp_path, "--results", tmp_path]
    done = script("memory.py", *words)
    assert done.returncode == 0, done.stderr
    case = json.loads((tmp_path / "machine.json").read_text())["memory"]["360p"]
    assert (case["short"]["frames"], case["long"]["frames"]) == (50, 100)
    assert case["ratio"] < 1.1
