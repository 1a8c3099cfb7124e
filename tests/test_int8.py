"""Videos in one style in 8-bit integers: near the float pictures, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino
import pytest
from networks import fast_style, photo_planes, worst_psnr

from vidstyle.backends import int8, open_backend
from vidstyle.backends import openvino as ours
from vidstyle.backends.base import Program
from vidstyle.errors import BadOption
from vidstyle.frame import FrameFormat
from vidstyle.graph.fold import upsampled_transposed
from vidstyle.graph.quantize import _rounded_by_phase
from vidstyle.options import BackendOptions
from vidstyle.stylizer import network_program

FORM = FrameFormat(height=96, width=128, pixels="i420")
INT8 = BackendOptions(backend="openvino", precision="int8", threads=1)


@pytest.fixture(scope="module")
def program() -> Program:
    style = fast_style()
    return network_program(style.architecture, FORM, only=style.network)


def ranges_of(program: Program) -> Mapping[str, Any]:
    assert program.int8 is not None
    ranges = int8.measured_ranges(program.int8, ours._run_once)
    assert ranges is not None
    return ranges


def test_the_convolutions_between_the_first_and_the_last_one_multiply_integers(program: Program) -> None:
    assert program.int8 is not None
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(program.int8.final(ranges_of(program))), "CPU", settings)
    kinds = [
        node.get_rt_info()["primitiveType"].astype(str)
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("Convolution", "Deconvolution")
        and "1x1" not in node.get_rt_info()["primitiveType"].astype(str)
    ]
    assert len(kinds) == 13
    assert sum(kind.endswith("_I8") for kind in kinds) == 11


def test_the_phases_of_an_upsampling_stay_equal_where_nothing_changes() -> None:
    weight = upsampled_transposed(np.random.default_rng(0).normal(size=(5, 7, 3, 3)))
    levels = weight / np.abs(weight).max((0, 2, 3), keepdims=True) * 127
    whole = _rounded_by_phase(levels)
    sums = [whole[..., row::2, column::2].sum((2, 3)) for row in (0, 1) for column in (0, 1)]
    assert all(np.array_equal(one, sums[0]) for one in sums[1:]), "a flat sky would have a grid"
    assert np.array_equal(whole, np.round(whole)) and np.abs(whole).max() == 127
    assert np.abs(whole - levels).max() < 1


def test_a_video_in_one_style_is_painted_near_its_float_pictures(program: Program) -> None:
    planes, style = photo_planes("china", FORM), fast_style()
    exact = BackendOptions(backend="openvino", precision="fp32", threads=1)
    with open_backend(program, INT8) as integers, open_backend(program, exact) as floats:
        assert " int8 " in integers.description
        assert 38 <= worst_psnr(integers.run(planes, style), floats.run(planes, style)) < 60


def test_it_is_taken_where_it_pays_and_said_why(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for pays, words in ((True, "takes int8"), (False, "does not take int8")):
        monkeypatch.setattr(ours, "_why_int8", lambda pays=pays: (pays, "because"))
        with open_backend(program, BackendOptions(backend="openvino", threads=1)) as backend:
            assert (" int8 " in backend.description) is pays
        assert ours.openvino_lines()[1] == f"auto {words} for videos in one style: because"


def test_a_style_that_it_would_spoil_stays_in_float(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "LEAST_PSNR", 90.0)
    monkeypatch.setattr(ours, "int8_pays", lambda: True)
    with open_backend(program, BackendOptions(backend="openvino", threads=1)) as backend:
        assert "int8" not in backend.description
    with pytest.raises(BadOption, match="precision is int8, which paints this style less than .* dB"):
        open_backend(program, INT8)


def test_many_styles_are_painted_in_float() -> None:
    every = network_program(fast_style().architecture, FORM)
    with pytest.raises(BadOption, match="precision is int8, which plays videos in one style"):
        open_backend(every, INT8)
    with open_backend(every, BackendOptions(backend="openvino", threads=1)) as backend:
        assert "int8" not in backend.description


def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(program: Program) -> None:
    for device in ("GPU", "NPU"):
        if not any(name.startswith(device) for name in ours.devices()):
            with pytest.raises(BadOption, match=f"device is {device}, but OpenVINO sees CPU"):
                open_backend(program, BackendOptions(device=device))
    with pytest.raises(BadOption, match="which only the backend openvino has"):
        BackendOptions(backend="onnxruntime", device="GPU")
    with pytest.raises(BadOption, match="device AUTO chooses it itself"):
        open_backend(program, BackendOptions(device="AUTO", precision="fp32"))


def test_the_library_may_choose_the_device(program: Program) -> None:
    planes, style = photo_planes("china", FORM), fast_style()
    with open_backend(program, BackendOptions(device="AUTO")) as backend:
        assert "on AUTO" in backend.description
        pending = [backend.submit(planes, style) for _ in range(backend.in_flight)]
        found = [wait() for wait in pending]
    with open_backend(program, BackendOptions(backend="openvino", precision="fp32")) as exact:
        assert all(worst_psnr(one, exact.run(planes, style)) >= 40 for one in found)
