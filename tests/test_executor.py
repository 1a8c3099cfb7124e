"""The executor of engines: frames in flight, buffers, planes on the device, refusals."""

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
from hostdevice import HostDevice, HostEngine, backend_on
from networks import fast_style, photo_planes, whole_style, worst_psnr
from numpy.typing import NDArray

from vidstyle.backends import open_backend
from vidstyle.backends.tensorrt.cuda import DevicePlane
from vidstyle.backends.tensorrt.executor import SLOTS, TensorRtBackend
from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.models.architecture import FAST
from vidstyle.options import BackendOptions
from vidstyle.stylizer import network_program

SMALL = FrameFormat(height=48, width=64, pixels="i420")
FORMS = [
    FrameFormat(height=31, width=45),
    FrameFormat(height=31, width=45, pixels="i420", matrix="bt601"),
    FrameFormat(height=30, width=46, pixels="nv12", full_range=True),
]
EACH_FORM = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.pixels}")
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
NAMES = ("astronaut", "china", "coffee", "flower", "rocket", "chelsea")


@dataclass
class Opened:
    """The backend, and what it runs on."""

    backend: TensorRtBackend
    device: HostDevice
    engine: HostEngine

    def submit(self, name: str) -> Any:
        return self.backend.submit(photo_planes(name, self.backend.form), fast_style())

    def run(self, name: str) -> Planes:
        return self.submit(name)()


@contextlib.contextmanager
def opened(form: FrameFormat = SMALL, **more: Any) -> Iterator[Opened]:
    device = HostDevice()
    device.refuses = more.pop("refuses", "")
    backend, engines = backend_on(device, form, **more)
    with backend:
        yield Opened(backend, device, engines[0])
    gc.collect()
    assert device.closed  # which checks that nothing else was left open


@cache
def expected(name: str, form: FrameFormat) -> Planes:
    options = BackendOptions(backend="onnxruntime", precision="fp32", threads=1)
    with open_backend(network_program(FAST, form), options) as backend:
        return backend.run(photo_planes(name, form), fast_style())


def is_painted(result: Planes, name: str, form: FrameFormat = SMALL, least: float = 60) -> bool:
    return tuple(plane.shape for plane in result) == form.plane_shapes and (
        worst_psnr(result, expected(name, form)) >= least
    )


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
@DYNAMIC
def test_a_frame_goes_through_the_buffers_and_comes_back(form: FrameFormat, dynamic: bool) -> None:
    with opened(form, dynamic=dynamic) as on:
        assert all(is_painted(on.run(name), name, form, 50 if dynamic else 60) for name in NAMES[:3])
        assert on.engine.kept == 1  # compiled kernels, at once and not only at the end


@pytest.mark.parametrize("size", [(8, 8), (29, 33), (30, 34), (31, 35), (32, 36)], ids=str)
@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_a_dynamic_engine_takes_every_size(size: tuple[int, int], pixels: Any) -> None:
    form = FrameFormat(height=size[0], width=size[1], pixels=pixels)
    with opened(form, dynamic=True, slots=1) as on:
        assert is_painted(on.run("china"), "china", form, 50)


def test_a_recorded_frame_is_the_frame_itself() -> None:
    with opened() as recorded, opened(recordable=False) as plain:
        for name in NAMES:
            assert worst_psnr(recorded.run(name), plain.run(name)) == 99
        assert recorded.device.launches == len(NAMES) and plain.device.launches == 0
        assert "as CUDA graphs" in recorded.backend.description
        assert "without CUDA graphs" in plain.backend.description


def test_a_recording_that_fails_costs_only_time() -> None:
    with opened(refuses="end_capture") as on:
        assert is_painted(on.run("china"), "china")
        assert "without CUDA graphs" in on.backend.description


def test_a_style_is_uploaded_where_it_changes_and_only_there() -> None:
    with opened(slots=1) as on:
        for style, copies in ((fast_style(), 3), (fast_style(), 2), (whole_style("other", 1), 3)):
            before = on.device.copies_in
            on.backend.run(photo_planes("coffee", SMALL), style)
            assert on.device.copies_in - before == copies, style.name


# Frames in flight


def test_frames_are_computed_side_by_side() -> None:
    with opened() as on:
        on.device.pause = threading.Barrier(SLOTS, timeout=20).wait  # no run goes on before all of them are there
        pending = [on.submit(name) for name in NAMES[:SLOTS]]
        assert all(is_painted(wait(), name) for name, wait in zip(NAMES, pending, strict=False))


def test_more_frames_than_fit_and_a_result_taken_twice_are_refused() -> None:
    with opened() as on:
        pending = [on.submit("china") for _ in range(on.backend.in_flight)]
        with pytest.raises(VidstyleError, match="3 frames are under way"):
            on.submit("china")
        pending[1]()
        assert is_painted(on.run("coffee"), "coffee")
        with pytest.raises(VidstyleError, match="has been taken already"):
            pending[1]()


# Ends


def test_a_frame_that_fails_is_an_error_and_the_next_one_is_well() -> None:
    with opened() as on:
        good = on.submit("china")
        on.device.settle()
        on.device.fails = "an illegal instruction was encountered"
        bad = on.submit("china")
        with pytest.raises(VidstyleError, match="^TensorRT failed on a frame: CUDA failed: an illegal instruction"):
            bad()
        assert is_painted(good(), "china")
        assert all(is_painted(on.run("coffee"), "coffee") for _ in range(SLOTS + 1))


def test_a_frame_that_cannot_be_started_leaves_its_place_free() -> None:
    with opened() as on:
        on.device.refuses = "launch"
        for _ in range(SLOTS + 1):
            with pytest.raises(VidstyleError, match="launch is refused"):
                on.run("china")
        on.device.refuses = ""
        assert is_painted(on.run("china"), "china")


def test_frames_that_nobody_waits_for_do_no_harm() -> None:
    with opened() as on:
        on.device.pause = partial(time.sleep, 0.05)
        pending = [on.submit(name) for name in NAMES[:3]]
        on.backend.close()
        on.backend.close()
        assert on.device.closed
        for ask in (pending[0], lambda: on.run("china")):
            with pytest.raises(VidstyleError, match="has been closed"):
                ask()


def test_closing_from_another_thread_waits_for_a_frame_that_is_waited_for() -> None:
    with opened() as on:
        painted, waiting = threading.Event(), threading.Event()
        on.device.pause = partial(painted.wait, 20)
        pending = on.submit("china")
        (event,) = [thing for thing in on.device.open_things if getattr(thing, "recorded", False)]
        event.on_wait = waiting.set
        with ThreadPoolExecutor(2) as pool:
            result = pool.submit(pending)
            assert waiting.wait(20)
            closing = pool.submit(on.backend.close)
            time.sleep(0.05)
            assert not closing.done()
            painted.set()
            closing.result(20)
        assert is_painted(result.result(20), "china")
        assert on.device.closed


def test_a_program_that_does_not_open_leaves_nothing() -> None:
    device = HostDevice()
    device.refuses = "bind"  # in the second slot
    with pytest.raises(VidstyleError, match="bind is refused"):
        backend_on(device, SMALL)
    assert device.closed

    def broken() -> Any:
        raise VidstyleError("no engine")

    device = HostDevice()
    with pytest.raises(VidstyleError, match="no engine"):
        TensorRtBackend(broken, cast(Any, device), network_program(FAST, SMALL))
    assert device.closed


def test_a_forgotten_program_closes_itself() -> None:
    device = HostDevice()
    backend_on(device, SMALL)
    gc.collect()
    assert device.closed


# Planes on the device


@EACH_FORM
@DYNAMIC
def test_planes_on_the_device_are_read_where_they_are(form: FrameFormat, dynamic: bool) -> None:
    with opened(form, dynamic=dynamic) as on:
        uploaded = on.device.copies_in
        for name in NAMES[:4]:
            result = on.backend.run(on_device(photo_planes(name, form)), fast_style())
            assert is_painted(result, name, form, 50 if dynamic else 60)
        # Results come down, and the style goes up once for each slot; the planes stay.
        assert on.device.copies_in - uploaded == 4 + SLOTS
        assert set(on.device.follows) == {None}


@EACH_FORM
@DYNAMIC
@pytest.mark.parametrize("inside", [False, True], ids=["from-host", "from-device"])
def test_results_stay_on_the_device_if_asked_to(form: FrameFormat, dynamic: bool, inside: bool) -> None:
    with opened(form, dynamic=dynamic) as on:
        on.backend.device_output = True
        frames = [photo_planes(name, form) for name in NAMES[:3]]
        pending = [on.backend.submit(on_device(planes) if inside else planes, fast_style()) for planes in frames]
        results = [wait() for wait in pending]
        for name, result in zip(NAMES, results, strict=False):
            assert all(isinstance(plane, DevicePlane) for plane in result)
            assert is_painted(on_host(result), name, form, 50 if dynamic else 60)
        on.backend.device_output = False
        assert isinstance(on.run("china")[0], np.ndarray)
        del result, results, pending


def test_results_on_the_device_may_outlive_the_program() -> None:
    with opened() as on:
        on.backend.device_output = True
        kept = on.run("china")
        on.backend.close()
        assert not on.device.closed  # its memory is in use
        assert is_painted(on_host(kept), "china")
        del kept
        gc.collect()
        assert on.device.closed


def test_memory_of_results_is_used_again() -> None:
    with opened() as on:
        on.backend.device_output = True
        on.run("china")
        before = len(on.device.blocks)
        for _ in range(20):
            on.run("china")
        assert len(on.device.blocks) == before
        held = [on.run(name) for name in NAMES]
        assert len(on.device.blocks) == before + len(NAMES) - 1
        assert all(is_painted(on_host(result), name) for name, result in zip(NAMES, held, strict=True))
        del held


def test_pyav_takes_results_and_gives_their_memory_back() -> None:
    form = FORMS[2]
    with opened(form, dynamic=True) as on:
        on.backend.device_output = True
        frame = av.VideoFrame.from_dlpack(cast(Any, on.run("china")), format="nv12")
        luma = np.array(frame.planes[0]).reshape(-1)[: frame.planes[0].line_size * 30].reshape(30, -1)[:, :46]
        assert (frame.width, frame.height) == (46, 30)
        assert worst_psnr((luma,), expected("china", form)[:1]) >= 50
        on.backend.close()
        assert not on.device.closed
        del frame
        gc.collect()
        assert on.device.closed


def test_frames_of_pyav_are_read_through_dlpack() -> None:
    form = FrameFormat(height=32, width=48, pixels="nv12")
    y, uv = photo_planes("china", form)
    frame = av.VideoFrame.from_ndarray(np.concatenate([y, uv.reshape(16, 48)]), format="nv12")
    planes = cast(Planes, tuple(DevicePlane.of(plane) for plane in frame.planes))
    del frame
    with opened(form) as on:
        assert is_painted(on.backend.run(planes, fast_style()), "china", form)
    del planes


def test_a_plane_on_the_device_lives_until_its_frame_is_done() -> None:
    with opened() as on:
        on.device.pause = partial(time.sleep, 0.1)
        planes = on_device(photo_planes("china", SMALL))
        memory = weakref.ref(cast(DevicePlane, planes[0]).owner)
        pending = on.backend.submit(planes, fast_style())
        del planes
        gc.collect()
        assert memory() is not None
        assert is_painted(pending(), "china")
        del pending
        gc.collect()
        assert memory() is None


def test_wrong_planes_on_the_device_are_refused_in_a_sentence() -> None:
    planes = photo_planes("china", SMALL)
    wide = on_device(photo_planes("china", SMALL.resized((48, 68))))
    with opened() as on:
        for wrong, words in (
            ((planes[0], *on_device(planes)[1:]), "some planes of a frame are on the GPU and some are not"),
            (on_device(planes, device=3), "a plane is on GPU 3, and the engine runs on GPU 0"),
            (on_device(planes)[:2], "planes have shapes"),
            (wide, "planes have shapes"),
        ):
            with pytest.raises(BadOption, match=words):
                on.backend.run(cast(Planes, wrong), fast_style())
        assert is_painted(on.run("china"), "china")


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
    facts = DevicePlane(1 << 40, (6, 30, 2), 64, (2, 0)).__cuda_array_interface__
    assert (facts["shape"], facts["strides"], facts["data"]) == ((6, 30, 2), (64, 2, 1), (1 << 40, False))
