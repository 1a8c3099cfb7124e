"""The public face: arrays, frames, and whole videos."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import statistics
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_python
from media import picture
from networks import TINY, difference, seeded_network, styled

from vidstyle import (
    BackendOptions,
    BadOption,
    EncodeOptions,
    Frame,
    FrameFormat,
    LookOptions,
    Stylizer,
    VidstyleError,
)
from vidstyle.gallery import load_style, style_names
from vidstyle.models.architecture import FAST, Architecture, Network
from vidstyle.models.style import blend
from vidstyle.options import MAX_SIDE, BackendName
from vidstyle.stylizer import network_program, work_size, work_size_note

FIRST, SECOND, THIRD = style_names()[:3]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
LOSSLESS = EncodeOptions(codec="ffv1")


def test_a_picture_is_painted_at_its_own_size() -> None:
    rgb = picture((61, 83), 0)
    with Stylizer(FIRST) as stylizer:
        painted = stylizer(rgb)
    assert painted.shape == rgb.shape
    assert painted.dtype == np.uint8
    assert difference(painted, rgb) > 10
    assert painted.std() > 10


def test_preserve_color_keeps_the_chroma() -> None:
    form = FrameFormat(height=48, width=64, pixels="i420")
    planes = tuple(np.random.default_rng(1).integers(60, 190, shape, dtype=np.uint8) for shape in form.plane_shapes)
    with Stylizer(FIRST, look=LookOptions(preserve_color=True)) as stylizer:
        job = stylizer.prepare(Frame(planes, form, 0, Fraction(1, 25)))
        result = stylizer.finish(job, stylizer.submit(job)())
    assert difference(result.planes[0], planes[0]) > 5
    assert all(map(np.array_equal, result.planes[1:], planes[1:]))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (720, 1280)), ((1080, 1920), (720, 1280)), ((1920, 1080), (1280, 720)), ((700, 3000), (700, 3000))],
)
def test_large_frames_are_painted_at_720_unless_told_otherwise(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert work_size(size) == expected
    assert work_size(size, 4000) == size
    note = work_size_note(size, LookOptions())
    assert note is None if size == expected else f"--work-size {size[0]}" in str(note)
    assert work_size_note(size, LookOptions(work_size=360)) is None


def test_work_size_is_what_the_network_sees() -> None:
    form = FrameFormat(height=180, width=320, pixels="rgb")
    with Stylizer(FIRST, look=LookOptions(work_size=90)) as stylizer:
        assert stylizer.open(form).form.size == (88, 156)
        assert stylizer(picture((180, 320), 0)).shape == (180, 320, 3)
    with Stylizer(FIRST, look=LookOptions(work_size=500)) as stylizer:
        assert stylizer.open(form).form.size == (180, 320)


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (np.zeros((4, 4), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 1), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 4), np.uint8), r"\[\.\.\., :3\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one picture after the other"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((4, 4, 3), np.float32), r"\* 255"),
        (np.zeros((4, 4, 3), ">u2"), "astype"),
        (np.zeros((4, 4, 3), bool), "astype"),
        (np.zeros((0, 4, 3), np.uint8), "height"),
        (np.zeros((1, MAX_SIDE + 1, 3), np.uint8), "width"),
        ([[[1, 2, 3]]], "astype"),
        ([[1, 2], [3]], "list"),
        ("picture.jpg", "read_still"),
        (Path("picture.jpg"), "read_still"),
        (None, "NoneType"),
        (torch.zeros(3, 4, 5), "transpose"),
    ],
)
def test_what_is_not_a_picture_is_refused_with_what_to_do(bad: object, hint: str) -> None:
    with Stylizer(FIRST) as stylizer, pytest.raises(BadOption, match=hint):
        stylizer(bad)  # type: ignore[arg-type]


class Foreign:
    """A picture of another library, such as PIL's, whose memory may only be read."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.__array_interface__ = {**np.ascontiguousarray(rgb).__array_interface__, "data": rgb.tobytes()}


def arrays_of(rgb: np.ndarray) -> dict[str, Any]:
    height, width = rgb.shape[:2]
    wide = np.zeros((height, 2 * width, 4), np.uint8)
    wide[:, ::2, :3] = rgb
    return {
        "read-only": np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
        "every second column, of RGBA": wide[:, ::2, :3],
        "upside down": rgb[::-1].copy()[::-1],
        "BGR": rgb[..., ::-1].copy()[..., ::-1],
        "Fortran": np.asfortranarray(rgb),
        "torch": torch.tensor(rgb),
        "foreign": Foreign(rgb),
        "one color": np.broadcast_to(rgb[:1, :1], rgb.shape),
    }


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("look", [LookOptions(), LookOptions(strength=0.5, work_size=16, preserve_color=True)])
def test_arrays_of_every_kind_are_painted_alike(backend: BackendName, look: LookOptions) -> None:
    rgb = picture((16, 20), 0)
    with Stylizer(FIRST, look=look, backend=BackendOptions(backend=backend)) as stylizer:
        expected = {"one color": stylizer(np.ascontiguousarray(arrays_of(rgb)["one color"]))}
        painted = stylizer(rgb)
        for kind, array in arrays_of(rgb).items():
            np.testing.assert_array_equal(stylizer(array), expected.get(kind, painted), kind)


def test_the_result_is_an_array_of_its_own_even_where_nothing_is_painted() -> None:
    rgb = np.broadcast_to(np.uint8(7), (12, 16, 3))
    with Stylizer(FIRST, look=LookOptions(strength=0)) as stylizer:
        result = stylizer(rgb)
    assert result.flags.writeable and not np.shares_memory(result, rgb)
    np.testing.assert_array_equal(result, rgb)


@pytest.mark.parametrize(
    "planes", [[[1, 2], [3, 4]], None, np.zeros((4, 4, 3), np.uint8), (np.zeros((4, 4, 3)),), (), (b"", b"")]
)
def test_planes_that_do_not_fit_the_form_are_refused_in_a_sentence(planes: Any) -> None:
    with pytest.raises(BadOption, match=r"planes of the frame are .* shapes \(4, 4, 3\)"):
        Frame(planes, FrameFormat(height=4, width=4), 0, Fraction(1, 25))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_of_a_stylizer_paints_the_same(copied: Callable[[Stylizer], Stylizer]) -> None:
    rgb = picture((24, 32), 0)
    look = LookOptions(strength=0.5)
    with Stylizer(f"{FIRST}:0.5,{SECOND}:0.5", look=look, backend=BackendOptions(threads=1)) as stylizer:
        painted = stylizer(rgb)
        with copied(stylizer) as other:
            assert other._open is not stylizer._open
            np.testing.assert_array_equal(other(rgb), painted)
        np.testing.assert_array_equal(stylizer(rgb), painted)


def test_a_program_is_not_copied_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Stylizer(FIRST) as stylizer:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(VidstyleError, match="OpenVinoBackend cannot be copied"):
                copied(stylizer.open(FrameFormat(height=8, width=8)))
    assert capfd.readouterr() == ("", "")


@needs_fork
@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_forked_process_paints_with_what_its_parent_made(backend: BackendName) -> None:
    rgb = picture((90, 160), 0)
    options = BackendOptions(backend=backend, threads=2)
    with Stylizer(FIRST, backend=options) as stylizer:
        painted = stylizer(rgb)
        program, style = stylizer.open(FrameFormat(height=90, width=160)), stylizer.style
        waiting = program.submit((rgb,), style)

        def paint() -> None:
            for inherited in (waiting, lambda: program.submit((rgb,), style)):
                with pytest.raises(VidstyleError, match="forked"):
                    inherited()
            with Stylizer(FIRST, backend=options) as new:
                for one in (stylizer, new):
                    assert np.abs(one(rgb).astype(int) - painted).max() <= 1
            stylizer.close()

        in_a_fork(paint)
        waiting()
        np.testing.assert_array_equal(stylizer(rgb), painted)


def in_a_fork(check: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forking beside threads may hang is what is tested
        child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.02)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


@needs_fork
@pytest.mark.parametrize("closed", [False, True])
def test_a_process_forked_from_one_that_has_painted_with_openvino_never_waits(closed: bool) -> None:
    code = """
import os, sys
import numpy as np
from vidstyle import BackendOptions, Stylizer, VidstyleError
rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
old = Stylizer(backend=BackendOptions(backend="openvino"))
painted = old(rgb)
if sys.argv[1] == "True":
    old.close()
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for stylizer in (old, Stylizer(backend=BackendOptions(backend="openvino"))):
    try:
        print(np.array_equal(stylizer(rgb), painted))
    except VidstyleError as error:
        print(error)
"""
    lines = run_python(code, closed).splitlines()
    assert len(lines) == 2 and (all("spawn" in line for line in lines) if closed else lines == ["True", "True"])


def test_few_programs_are_kept_open() -> None:
    with Stylizer(FIRST, backend=BackendOptions(threads=1)) as stylizer:
        stylizer.max_programs = 2
        for side in (16, 20, 24):
            stylizer(picture((side, side), 0))
        opened = [stylizer.is_open(FrameFormat(height=side, width=side)) for side in (16, 20, 24)]
        assert opened == [False, True, True]


@pytest.mark.alone
def test_switching_the_style_takes_under_a_millisecond(compilations: list[str]) -> None:
    form = FrameFormat(height=720, width=1280, pixels="i420")
    frame = Frame(tuple(np.zeros(shape, np.uint8) for shape in form.plane_shapes), form, 0, Fraction(1, 25))
    a, b = load_style(FIRST), load_style(SECOND)
    with Stylizer(a, backend=BackendOptions(backend="openvino")) as stylizer:
        first = stylizer.submit(stylizer.prepare(frame))()
        assert len(compilations) == 1
        ways = {
            "styles": lambda index: (a, b)[index % 2],
            "blends": lambda index: blend([(a, index / 300), (b, 1 - index / 300)]),
            "names": lambda index: (FIRST, SECOND)[index % 2],
        }
        for way, style_of in ways.items():
            seconds = []
            for index in range(300):
                began = time.perf_counter()
                stylizer.style = style_of(index)
                stylizer.prepare(frame)
                seconds.append(time.perf_counter() - began)
            assert statistics.median(seconds) < 1e-3, way
        stylizer.style = b
        other = stylizer.submit(stylizer.prepare(frame))()
        assert difference(first[0], other[0]) > 1
    assert len(compilations) == 1


def test_architectures_of_one_name_and_different_shapes_share_no_compiled_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    rgb, painted = picture((32, 48), 0), []
    for shape in (TINY, replace(TINY, blocks=2)):
        with Stylizer(styled(seeded_network(shape)), backend=BackendOptions(backend="openvino")) as stylizer:
            painted.append(stylizer(rgb))
    assert difference(*painted) > 1
    assert len(list((tmp_path / "openvino").iterdir())) == 2


def test_no_recipe_of_a_program_is_that_of_another_shape() -> None:
    def recipes(shape: Architecture) -> list[str]:
        program = network_program(shape, FrameFormat(height=64, width=96, pixels="i420"), only=Network.blank(shape))
        assert program.single is not None and program.int8 is not None
        winograd = program.winograd()
        assert winograd is not None
        return [program.recipe, program.single.recipe, program.int8.recipe, winograd.recipe]

    other = replace(FAST, out=replace(FAST.out, upsample=1))  # its weights are the same
    assert Network.blank(other).digest == Network.blank(FAST).digest
    assert len({*recipes(FAST), *recipes(other)}) == 8
