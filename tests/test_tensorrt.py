"""The runner of engines: frames in flight, buffers, planes on the device, refusals, and the real interface."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import av
import numpy as np
import pytest
from hostdevice import HostDevice, HostEngine
from networks import fast_style, noise, photo, planes_from_rgb, styled, whole_style, worst_psnr
from numpy.typing import NDArray

from vidstyle.backends import open_backend
from vidstyle.backends.tensorrt.deviceplane import DevicePlane
from vidstyle.backends.tensorrt.runner import SLOTS, TensorRtBackend
from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST, PAPER, shared_network
from vidstyle.models.style import blend
from vidstyle.options import BackendOptions
from vidstyle.pipeline import Pipeline
from vidstyle.stylizer import network_program

SMALL = FrameFormat(height=48, width=64, pixels="i420")
FORMS = [
    FrameFormat(height=31, width=45),
    FrameFormat(height=31, width=45, pixels="i420", matrix="bt601"),
    FrameFormat(height=30, width=46, pixels="nv12", full_range=True),
]
EACH_FORM = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.pixels}")
NAMES = ("astronaut", "china", "coffee", "flower", "rocket", "chelsea")


@cache
def graph_of(form: FrameFormat, dynamic: bool = False) -> bytes:
    return onnx_from_network(FAST, form, dynamic=dynamic).SerializeToString()


@dataclass
class Opened:
    """The runner, and what it runs on."""

    backend: TensorRtBackend
    device: HostDevice
    engine: HostEngine

    def run(self, name: str) -> Planes:
        return self.backend.run(planes_of(name, self.backend.form), fast_style())


@contextlib.contextmanager
def opened(
    form: FrameFormat = SMALL, *, dynamic: bool = False, recordable: bool = True, slots: int = SLOTS
) -> Iterator[Opened]:
    device, engines = HostDevice(), []

    def load() -> HostEngine:
        engines.append(HostEngine(device, graph_of(form, dynamic), recordable=recordable))
        return engines[0]

    backend = TensorRtBackend(load, device, network_program(FAST, form), dynamic=dynamic, slots=slots)
    with backend:
        yield Opened(backend, device, engines[0])
    gc.collect()
    assert device.closed  # which checks that nothing else was left open


def planes_of(name: str, form: FrameFormat) -> Planes:
    return planes_from_rgb(photo(name, form.size), form)


@cache
def expected(name: str, form: FrameFormat) -> Planes:
    options = BackendOptions(backend="onnxruntime", precision="fp32", threads=1)
    with open_backend(network_program(FAST, form), options) as backend:
        return backend.run(planes_of(name, form), fast_style())


def on_device(planes: Planes, device: int = 0) -> Planes:
    """Planes with padded rows, as a decoder's are."""
    kept = []
    for plane in planes:
        wide = np.pad(plane.reshape(plane.shape[0], -1), ((0, 0), (0, 13)), constant_values=77)
        kept.append(DevicePlane(wide.ctypes.data, plane.shape, wide.shape[1], (1, device), wide))
    return cast(Planes, tuple(kept))


def on_host(planes: Planes) -> Planes:
    return tuple(np.from_dlpack(plane).copy() for plane in planes)


# The same picture


@EACH_FORM
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_frame_goes_through_the_buffers_and_comes_back(form: FrameFormat, dynamic: bool) -> None:
    with opened(form, dynamic=dynamic) as runner:
        for name in NAMES[:3]:
            result = runner.run(name)
            assert tuple(plane.shape for plane in result) == form.plane_shapes
            assert worst_psnr(result, expected(name, form)) >= (50 if dynamic else 60)


@pytest.mark.parametrize("size", [(8, 8), (29, 33), (30, 34), (31, 35), (32, 36)], ids=str)
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_a_dynamic_engine_takes_every_size(size: tuple[int, int], pixels: Any) -> None:
    form = FrameFormat(height=size[0], width=size[1], pixels=pixels)
    with opened(form, dynamic=True, slots=1) as runner:
        assert worst_psnr(runner.run("china"), expected("china", form)) >= 50


def test_a_recorded_frame_is_the_frame_itself() -> None:
    with opened() as recorded, opened(recordable=False) as plain:
        for name in NAMES:
            for one, other in zip(recorded.run(name), plain.run(name), strict=True):
                np.testing.assert_array_equal(one, other)
        assert recorded.device.launches == len(NAMES) and plain.device.launches == 0
        assert "as CUDA graphs" in recorded.backend.description
        assert "without CUDA graphs" in plain.backend.description


def test_a_recording_that_fails_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise VidstyleError("CUDA failed: operation not permitted when stream is capturing")

    monkeypatch.setattr("hostdevice.HostStream.end_capture", refuse)
    monkeypatch.setattr("hostdevice.HostStream.begin_capture", lambda self: None)
    with opened() as runner:
        assert worst_psnr(runner.run("china"), expected("china", SMALL)) >= 60
        assert "without CUDA graphs" in runner.backend.description


def test_a_style_comes_with_each_frame() -> None:
    planes = planes_of("coffee", SMALL)
    other = whole_style("other", 1)
    mixed = blend([(other, 0.5), (fast_style(), 0.5)])
    with opened() as runner:
        pending = [runner.backend.submit(planes, style) for style in (fast_style(), other, mixed)]
        first, second, third = (wait() for wait in pending)
        again = [runner.backend.submit(planes, style) for style in (fast_style(), mixed, other)]
        for wait, known in zip(again, (first, third, second), strict=True):
            assert worst_psnr(wait(), known) == 99
    assert max(worst_psnr(first, second), worst_psnr(second, third), worst_psnr(first, third)) < 40


def test_a_style_is_uploaded_where_it_changes_and_only_there() -> None:
    planes = planes_of("coffee", SMALL)
    with opened(slots=1) as runner:
        before = runner.device.copies_in
        for style, copies in ((fast_style(), 3), (fast_style(), 2), (whole_style("other", 1), 3)):
            runner.backend.run(planes, style)
            assert runner.device.copies_in - before == copies, style.name
            before = runner.device.copies_in


# Frames in flight


def test_frames_come_back_as_themselves_in_any_order() -> None:
    with opened() as runner:
        for taken in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
            pending = [runner.backend.submit(planes_of(name, SMALL), fast_style()) for name in NAMES[:3]]
            for i in taken:
                assert worst_psnr(pending[i](), expected(NAMES[i], SMALL)) >= 60


def test_frames_are_computed_side_by_side() -> None:
    with opened() as runner:
        runner.device.pause = threading.Barrier(SLOTS, timeout=20).wait  # no run goes on before all of them are there
        pending = [runner.backend.submit(planes_of(name, SMALL), fast_style()) for name in NAMES[:SLOTS]]
        for name, wait in zip(NAMES, pending, strict=False):
            assert worst_psnr(wait(), expected(name, SMALL)) >= 60


def test_a_result_belongs_to_the_caller() -> None:
    with opened() as runner:
        kept = runner.run("china")
        copies = [plane.copy() for plane in kept]
        for _ in range(SLOTS + 1):
            runner.backend.run(planes_from_rgb(noise(SMALL.size), SMALL), fast_style())
    for plane, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(plane, copy)
        assert plane.flags.writeable and plane.flags.c_contiguous


def test_padded_rows_and_read_only_planes_are_read_as_they_are() -> None:
    planes = tuple(np.pad(plane, ((0, 0), (0, 9)))[:, : plane.shape[1]] for plane in planes_of("china", SMALL))
    for plane in planes:
        plane.flags.writeable = False
    with opened() as runner:
        assert worst_psnr(runner.backend.run(planes, fast_style()), expected("china", SMALL)) >= 60


def test_more_frames_than_fit_are_refused() -> None:
    with opened() as runner:
        submit = runner.backend.submit
        pending = [submit(planes_of("china", SMALL), fast_style()) for _ in range(runner.backend.in_flight)]
        with pytest.raises(VidstyleError, match="3 frames are under way; take a result before submitting another"):
            submit(planes_of("china", SMALL), fast_style())
        pending[1]()
        assert worst_psnr(submit(planes_of("coffee", SMALL), fast_style())(), expected("coffee", SMALL)) >= 60


def test_a_result_is_taken_once() -> None:
    with opened() as runner:
        wait = runner.backend.submit(planes_of("china", SMALL), fast_style())
        wait()
        with pytest.raises(VidstyleError, match="has been taken already"):
            wait()


def test_a_pipeline_keeps_the_order() -> None:
    written: list[Planes] = []
    with opened() as runner:
        pipeline: Pipeline[str, Planes] = Pipeline(depth=2, in_flight=runner.backend.in_flight)
        names = [NAMES[i % len(NAMES)] for i in range(20)]

        def submit(name: str) -> Any:
            return runner.backend.submit(planes_of(name, SMALL), fast_style())

        pipeline.run((name for name in names), submit, written.append)
        assert len(set(runner.engine.order)) == SLOTS
    for name, planes in zip(names, written, strict=True):
        assert worst_psnr(planes, expected(name, SMALL)) >= 60


# Ends


def test_a_frame_that_fails_is_an_error_and_the_next_one_is_well() -> None:
    with opened() as runner:
        good = runner.backend.submit(planes_of("china", SMALL), fast_style())
        runner.backend.run(planes_of("china", SMALL), fast_style())
        runner.device.fails = "an illegal instruction was encountered"
        bad = runner.backend.submit(planes_of("china", SMALL), fast_style())
        with pytest.raises(VidstyleError, match="^TensorRT failed on a frame: CUDA failed: an illegal instruction"):
            bad()
        assert worst_psnr(good(), expected("china", SMALL)) >= 60
        for _ in range(SLOTS + 1):
            assert worst_psnr(runner.run("coffee"), expected("coffee", SMALL)) >= 60


def test_a_frame_that_cannot_be_started_leaves_its_place_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as runner:

        def refuse(self: object, graph: object) -> None:
            raise VidstyleError("CUDA failed: out of resources")

        for _ in range(SLOTS + 1):
            with monkeypatch.context() as patch:
                patch.setattr("hostdevice.HostStream.launch", refuse)
                with pytest.raises(VidstyleError, match="out of resources"):
                    runner.run("china")
        assert worst_psnr(runner.run("china"), expected("china", SMALL)) >= 60


def test_frames_that_nobody_waits_for_do_no_harm() -> None:
    with opened() as runner:
        runner.device.pause = partial(time.sleep, 0.05)
        pending = [runner.backend.submit(planes_of(name, SMALL), fast_style()) for name in NAMES[:3]]
        runner.backend.close()
        runner.backend.close()
        assert runner.device.closed
        for ask in (pending[0], lambda: runner.run("china")):
            with pytest.raises(VidstyleError, match="this program has been closed; open it again to paint"):
                ask()


def test_closing_from_another_thread_waits_for_a_frame_that_is_waited_for() -> None:
    with opened() as runner:
        painted = threading.Event()
        runner.device.pause = partial(painted.wait, 20)
        pending = runner.backend.submit(planes_of("china", SMALL), fast_style())
        with ThreadPoolExecutor(2) as pool:
            result = pool.submit(pending)
            deadline = time.monotonic() + 20
            while not runner.backend._at_work and time.monotonic() < deadline:
                time.sleep(0.001)
            closing = pool.submit(runner.backend.close)
            time.sleep(0.05)
            assert not closing.done()
            painted.set()
            closing.result(20)
        assert worst_psnr(result.result(20), expected("china", SMALL)) >= 60
        assert runner.device.closed


def test_a_program_that_does_not_open_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    device = HostDevice()
    binds = 0

    def bind(self: object, *arguments: object, **more: object) -> None:
        nonlocal binds
        binds += 1
        if binds > 25:  # in the second slot
            raise VidstyleError("TensorRT refuses a buffer")

    monkeypatch.setattr("hostdevice.HostContext.bind", bind)
    monkeypatch.setattr("hostdevice.HostContext._run", lambda self, stream: None)
    with pytest.raises(VidstyleError, match="refuses a buffer"):
        TensorRtBackend(lambda: HostEngine(device, graph_of(SMALL)), device, network_program(FAST, SMALL))
    assert device.closed

    def broken() -> HostEngine:
        raise VidstyleError("no engine")

    device = HostDevice()
    with pytest.raises(VidstyleError, match="no engine"):
        TensorRtBackend(broken, device, network_program(FAST, SMALL))
    assert device.closed


def test_a_forgotten_program_closes_itself() -> None:
    device = HostDevice()
    backend = TensorRtBackend(lambda: HostEngine(device, graph_of(SMALL)), device, network_program(FAST, SMALL))
    del backend
    gc.collect()
    assert device.closed


def test_compiled_kernels_are_kept_at_once_and_not_only_at_the_end() -> None:
    with opened() as runner:
        assert runner.engine.kept == 1


# Planes on the device


@EACH_FORM
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_planes_on_the_device_are_read_where_they_are(form: FrameFormat, dynamic: bool) -> None:
    with opened(form, dynamic=dynamic) as runner:
        uploaded = runner.device.copies_in
        for name in NAMES[:4]:
            result = runner.backend.run(on_device(planes_of(name, form)), fast_style())
            assert worst_psnr(result, expected(name, form)) >= (50 if dynamic else 60)
        # Results come down, and the style goes up once for each slot; the planes stay.
        assert runner.device.copies_in - uploaded == 4 + SLOTS
        assert set(runner.device.follows) == {None}


@EACH_FORM
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("inside", [False, True], ids=["from-host", "from-device"])
def test_results_stay_on_the_device_if_asked_to(form: FrameFormat, dynamic: bool, inside: bool) -> None:
    with opened(form, dynamic=dynamic) as runner:
        runner.backend.device_output = True
        pending = []
        for name in NAMES[:3]:
            planes = planes_of(name, form)
            pending.append(runner.backend.submit(on_device(planes) if inside else planes, fast_style()))
        results = [wait() for wait in pending]
        for name, result in zip(NAMES, results, strict=False):
            assert all(isinstance(plane, DevicePlane) for plane in result)
            assert tuple(plane.shape for plane in result) == form.plane_shapes
            assert worst_psnr(on_host(result), expected(name, form)) >= (50 if dynamic else 60)
        runner.backend.device_output = False
        assert isinstance(runner.run("china")[0], np.ndarray)
        del result, results, pending


def test_results_on_the_device_may_outlive_the_program() -> None:
    with opened() as runner:
        runner.backend.device_output = True
        kept = runner.run("china")
        runner.backend.close()
        assert not runner.device.closed  # its memory is in use
        assert worst_psnr(on_host(kept), expected("china", SMALL)) >= 60
        del kept
        gc.collect()
        assert runner.device.closed


def test_memory_of_results_is_used_again() -> None:
    with opened() as runner:
        runner.backend.device_output = True
        runner.run("china")
        before = len(runner.device.blocks)
        for _ in range(20):
            runner.run("china")
        assert len(runner.device.blocks) == before
        held = [runner.run(name) for name in NAMES]
        assert len(runner.device.blocks) == before + len(NAMES) - 1
        for name, result in zip(NAMES, held, strict=True):
            assert worst_psnr(on_host(result), expected(name, SMALL)) >= 60
        del held, result


def test_pyav_takes_results_and_gives_their_memory_back() -> None:
    form = FrameFormat(height=30, width=46, pixels="nv12", full_range=True)
    with opened(form, dynamic=True) as runner:
        runner.backend.device_output = True
        frame = av.VideoFrame.from_dlpack(cast(Any, runner.run("china")), format="nv12")
        wanted = expected("china", form)
        luma = np.array(frame.planes[0]).reshape(-1)[: frame.planes[0].line_size * 30]
        assert (frame.width, frame.height) == (46, 30)
        found = luma.reshape(30, -1)[:, :46]
        assert worst_psnr((found,), wanted[:1]) >= 50
        runner.backend.close()
        assert not runner.device.closed
        del frame
        gc.collect()
        assert runner.device.closed


def test_frames_of_pyav_are_read_through_dlpack() -> None:
    form = FrameFormat(height=32, width=48, pixels="nv12")
    y, uv = planes_of("china", form)
    frame = av.VideoFrame.from_ndarray(np.concatenate([y, uv.reshape(16, 48)]), format="nv12")
    planes = cast(Planes, tuple(DevicePlane.of(plane) for plane in frame.planes))
    del frame
    with opened(form) as runner:
        assert worst_psnr(runner.backend.run(planes, fast_style()), expected("china", form)) >= 60
    del planes


def test_a_plane_on_the_device_lives_until_its_frame_is_done() -> None:
    with opened() as runner:
        runner.device.pause = partial(time.sleep, 0.1)
        planes = on_device(planes_of("china", SMALL))
        memory = weakref.ref(cast(DevicePlane, planes[0]).owner)
        pending = runner.backend.submit(planes, fast_style())
        del planes
        gc.collect()
        assert memory() is not None
        assert worst_psnr(pending(), expected("china", SMALL)) >= 60
        del pending
        gc.collect()
        assert memory() is None


def test_wrong_planes_on_the_device_are_refused_in_a_sentence() -> None:
    planes = planes_of("china", SMALL)
    with opened() as runner:
        run = runner.backend.run
        with pytest.raises(BadOption, match="some planes of a frame are on the GPU and some are not"):
            run((planes[0], *on_device(planes)[1:]), fast_style())
        with pytest.raises(BadOption, match="a plane is on GPU 3, and the engine runs on GPU 0"):
            run(on_device(planes, device=3), fast_style())
        with pytest.raises(BadOption, match="planes have shapes"):
            run(on_device(planes)[:2], fast_style())
        assert worst_psnr(run(planes, fast_style()), expected("china", SMALL)) >= 60


class Foreign:
    """An array of another library."""

    def __init__(self, array: NDArray[Any], **facts: object) -> None:
        self._array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            **facts,
        }


def test_arrays_of_other_libraries_are_taken_as_they_say_they_are() -> None:
    array = np.zeros((6, 40), np.uint8)
    plane = DevicePlane.of(Foreign(array[:, :30], stream=7))
    assert (plane.pointer, plane.shape, plane.pitch_bytes, plane.stream) == (array.ctypes.data, (6, 30), 40, 7)
    assert DevicePlane.of(Foreign(array, strides=None, stream=1)).stream is None
    for wrong in (np.zeros((4, 4), np.float32), array[:, ::2], array[::-1]):
        with pytest.raises(BadOption, match="a plane on the GPU has"):
            DevicePlane.of(Foreign(wrong))
    with pytest.raises(BadOption, match="16 bits a sample"):
        DevicePlane.of(np.zeros((4, 4), np.uint16))


def test_paper_runs_too() -> None:
    form, style = FrameFormat(height=32, width=48, pixels="i420"), styled(shared_network("paper"))
    device, program = HostDevice(), network_program(PAPER, form)
    with TensorRtBackend(lambda: HostEngine(device, program.graph("fp32")), device, program, slots=1) as backend:
        planes = planes_of("china", form)
        with open_backend(program, BackendOptions(backend="onnxruntime", precision="fp32", threads=1)) as other:
            assert worst_psnr(backend.run(planes, style), other.run(planes, style)) >= 60
