"""The doctor says what is true, in plain data, whatever is broken."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, get_args

import av
import pytest
from conftest import repository, run_python

import vidstyle
from vidstyle.backends import backend_report
from vidstyle.backends.tensorrt.sdk import installed_versions
from vidstyle.gallery import style_names
from vidstyle.options import Codec
from vidstyle.system import Gpu, find_cpu
from vidstyle.tools.doctor import Report, examine, tensorrt_lines
from vidstyle.video.formats import ENCODERS


@pytest.fixture(scope="module")
def report() -> Report:
    return examine()


def examined_without(*modules: str, path: Path | None = None) -> dict[str, Any]:
    """The report of a process in which ``modules`` cannot be imported, and where ``path`` is looked in first."""
    program = (
        "import sys, json\n"
        f"for name in {modules!r}: sys.modules[name] = None\n"
        "from vidstyle.tools.doctor import examine\n"
        "report = examine()\n"
        "loaded = [n for n in ('torch', 'openvino', 'onnxruntime') if sys.modules.get(n)]\n"
        "print(json.dumps({**report.facts, 'loaded': loaded, 'sections': report.sections()}))\n"
    )
    paths = [str(p) for p in (path, repository()) if p]
    return json.loads(run_python(program, PYTHONPATH=os.pathsep.join(paths)))  # type: ignore[no-any-return]


def test_the_report_is_whole_and_goes_into_json(report: Report) -> None:
    facts = json.loads(json.dumps(report.facts))
    assert facts["problems"] == []
    assert facts["vidstyle"] == vidstyle.__version__
    assert facts["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert all(facts[key] for key in ("system", "cache", "networks", "tensorrt", "seconds"))
    assert facts["packages"]["av"] == av.__version__
    assert facts["styles"] == style_names()
    assert facts["backends"] == [dataclasses.asdict(status) for status in backend_report()]


def test_the_sections_have_no_empty_lines(report: Report) -> None:
    sections = report.sections()
    assert [title for title, _ in sections][:4] == ["System", "Processor", "GPU", "Backends"]
    assert all(line.strip() and "\n" not in line for _, lines in sections for line in lines)
    assert all(lines for _, lines in sections)


def test_the_processor_is_the_system_s(report: Report) -> None:
    cpu, memory = report.facts["cpu"], report.facts["memory"]
    assert 1 <= cpu["usable_cores"] <= cpu["cores"] == os.cpu_count()
    if sys.platform == "linux":
        flags = Path("/proc/cpuinfo").read_text().split()
        if "avx2" in cpu["features"]:
            assert cpu["features"]["avx2"] == ("avx2" in flags)
            assert cpu["features"]["bf16"] == ("avx512_bf16" in flags)
        assert 1 << 28 < memory["available"] <= memory["total"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_cores_that_this_process_may_not_use_are_not_counted() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert find_cpu().usable_cores == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_auto_names_what_ran(report: Report) -> None:
    auto = report.facts["auto"]
    assert auto["name"] == next(b["name"] for b in report.facts["backends"] if b["version"])
    assert any(precision in auto["description"] for precision in ("fp32", "bf16", "fp16"))


def test_there_is_an_encoder_for_every_codec(report: Report) -> None:
    codecs = report.facts["codecs"]
    assert {e["codec"] for e in codecs["encoders"]} == set(get_args(Codec)) == set(ENCODERS)
    assert all(e["works"] == (e["encoder"] in av.codecs_available) for e in codecs["encoders"])
    assert all(e["encoder"] in av.codecs_available for e in codecs["hardware_encoders"])


def test_the_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    (tmp_path / "openvino" / "deep").mkdir(parents=True)
    (tmp_path / "openvino" / "deep" / "blob").write_bytes(bytes(12345))
    facts = examine().facts
    assert facts["cache"] == str(tmp_path)
    assert facts["cache_bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) >= 12345


def test_a_missing_backend_is_told_with_its_command() -> None:
    facts = examined_without("openvino", "torch")
    versions = {backend["name"]: backend["version"] for backend in facts["backends"]}
    assert versions["openvino"] is None and versions["torch"] is None
    assert facts["auto"]["name"] == "onnxruntime" and "ONNX Runtime" in facts["auto"]["description"]
    commands = {missing["what"].split()[0]: missing["command"] for missing in facts["missing"]}
    assert commands["openvino"] == "pip install openvino"
    assert commands["torch"] == "pip install 'vidstyle[train]'"
    lines = dict(facts["sections"])
    assert any("pip install openvino" in line for line in lines["Missing"])


def test_without_any_inference_library_the_commands_are_told() -> None:
    facts = examined_without("openvino", "onnxruntime", "torch", "tensorrt", "tensorrt_rtx")
    assert facts["auto"]["name"] is None and "pip install openvino" in facts["auto"]["description"]
    (line,) = facts["tensorrt"]
    assert line.startswith("not installed") and "pip install 'vidstyle[tensorrt-rtx]'" in line
    assert facts["problems"] == []


def test_a_broken_library_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object')")
    facts = examined_without(path=tmp_path)
    assert facts["auto"]["name"] == "onnxruntime"
    assert "torch" not in facts["loaded"]
    assert any("openvino does not work" in problem and "libtbb.so.12" in problem for problem in facts["problems"])


@pytest.mark.parametrize("module", ["av", "cv2", "numpy", "onnx"])
def test_a_broken_installation_still_gets_a_report(module: str) -> None:
    facts = examined_without(module)
    assert facts["cpu"] and facts["packages"]["numpy"]
    told = [*facts["problems"], facts["auto"]["description"] if facts["auto"] else ""]
    assert any(module in sentence for sentence in told)


# TensorRT


def test_gpus_that_the_library_knows_and_does_not_know_are_named() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    builds, runs = tensorrt_lines([])[:2]
    assert builds.startswith(f"tensorrt-rtx {library.__version__} builds engines here, without a GPU, for")
    assert "8.9" in builds and "9.0" not in builds
    assert "no NVIDIA GPU answers" in runs
    lines = tensorrt_lines([Gpu("NVIDIA H100", 80 << 30, "9.0"), Gpu("NVIDIA L4", 24 << 30, "8.9")])
    assert "tensorrt-rtx does not know NVIDIA H100 (compute capability 9.0)" in lines
    assert "tensorrt-rtx runs engines on NVIDIA L4 (compute capability 8.9)" in lines


def test_engines_that_are_kept_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "a.engine").write_bytes(bytes(2048))
    if installed_versions():
        assert tensorrt_lines([])[-1] == f"1 engine of `--backend tensorrt` in {tmp_path / 'engines'} (2.0 KiB)"
