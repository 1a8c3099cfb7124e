"""CUDA through the driver: every name that is used exists, and what is said where there is no GPU."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import has_gpu

from vidstyle.backends.tensorrt import cuda
from vidstyle.backends.tensorrt.deviceplane import DevicePlane
from vidstyle.errors import BadOption, VidstyleError

driver = pytest.importorskip("cuda.bindings.driver")
SOURCE = ast.parse(Path(cuda.__file__).read_text())
GPU = pytest.mark.needs_cuda
NO_GPU = pytest.mark.skipif(has_gpu(), reason="there is a GPU")


# Names: nothing here runs without a driver, so that a typo would show on a user's machine first.


def uses() -> set[str]:
    """Every ``driver.name`` and ``driver.name.member`` in the source."""
    chains = {ast.unparse(node) for node in ast.walk(SOURCE) if isinstance(node, ast.Attribute)}
    return {chain for chain in chains if re.fullmatch(r"driver(\.\w+)+", chain)}


@pytest.mark.parametrize("use", sorted(uses()))
def test_every_name_exists_in_the_driver(use: str) -> None:
    found = driver
    for name in use.split(".")[1:]:
        found = getattr(found, name)


def test_the_attributes_asked_of_a_device_exist() -> None:
    text = Path(cuda.__file__).read_text()
    names = re.findall(r"attributes\.(CU_\w+)", text)
    assert len(names) == 2
    for name in names:
        getattr(driver.CUdevice_attribute, name)


def test_every_function_gets_as_many_arguments_as_it_takes() -> None:
    checked = 0
    for node in ast.walk(SOURCE):
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), list(node.args)
        if called == "_call":
            called, given = ast.unparse(given[0]), given[1:]
        name = called.removeprefix("driver.")
        if not called.startswith("driver.cu"):
            continue
        signature = getattr(driver, name).__doc__.splitlines()[0]
        inside = signature[signature.index("(") + 1 : signature.rindex(")")]
        assert len(given) == len([part for part in inside.split(",") if part.strip()]), signature
        checked += 1
    assert checked >= 30


def test_the_copy_of_rows_has_the_fields_that_are_set() -> None:
    copy = driver.CUDA_MEMCPY2D()
    copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    copy.srcDevice, copy.srcPitch, copy.dstDevice, copy.dstPitch = 1 << 40, 64, 2 << 40, 96
    copy.WidthInBytes, copy.Height = 48, 7
    assert (int(copy.srcDevice), copy.srcPitch, copy.WidthInBytes, copy.Height) == (1 << 40, 64, 48, 7)
    assert copy.srcXInBytes == copy.srcY == copy.dstXInBytes == copy.dstY == 0
    with pytest.raises(AttributeError):
        copy.rowBytes = 1


# Without a GPU


@NO_GPU
def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(cuda.NoGpu, match="^(no NVIDIA driver is installed|the driver offers none.*)$"):
        cuda.list_gpus()
    with pytest.raises(cuda.NoGpu):
        cuda.find_gpu(0)


@NO_GPU
def test_opening_a_gpu_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(VidstyleError):
        cuda.open_gpu(0)


@NO_GPU
def test_the_driver_gets_arguments_of_the_types_that_it_takes() -> None:
    """They are converted before the driver's library is looked for, and that is what fails here."""
    stream, event, memory, graph, pinned = (
        object.__new__(kind)
        for kind in (cuda.CudaStream, cuda.CudaEvent, cuda.CudaMemory, cuda.CudaGraph, cuda.PinnedMemory)
    )
    stream._stream, event._event, memory._pointer = driver.CUstream(5), driver.CUevent(6), driver.CUdeviceptr(7)
    graph._ready, graph._graph = driver.CUgraphExec(8), driver.CUgraph(9)
    assert (stream.handle, memory.pointer) == (5, 7)
    high = 1 << 47
    for function, call in {
        "cuMemcpyHtoDAsync": lambda: stream.upload(high, high, 100),
        "cuMemcpyDtoHAsync": lambda: stream.download(high, high, 100),
        "cuMemcpy2DAsync": lambda: stream.copy_rows(high, 64, high, 96, 48, 7),
        "cuEventRecord": lambda: stream.record(event),
        "cuEventSynchronize": event.wait,
        "cuStreamBeginCapture": stream.begin_capture,
        "cuStreamEndCapture": stream.end_capture,
        "cuGraphLaunch": lambda: stream.launch(graph),
        "cuStreamSynchronize": stream.synchronize,
        "cuGraphInstantiate": lambda: cuda.CudaGraph(None),
        "cuStreamCreate": cuda.CudaStream,
        "cuEventCreate": cuda.CudaEvent,
        "cuMemAlloc": lambda: cuda.CudaMemory(100),
        "cuMemHostAlloc": lambda: cuda.PinnedMemory(100),
    }.items():
        with pytest.raises(VidstyleError, match=f"it has no {function}; update it"):
            call()
    for converted in (
        lambda: driver.cuEventRecord(event._event, driver.CU_STREAM_LEGACY),
        lambda: driver.cuEventRecord(event._event, 1234),
        lambda: driver.cuStreamWaitEvent(stream._stream, event._event, 0),
        lambda: driver.cuMemFreeHost(high),
        lambda: driver.cuMemFree(memory._pointer),
        lambda: driver.cuDevicePrimaryCtxSetFlags(driver.CUdevice(0), int(cuda._SLEEP)),
        lambda: driver.cuCtxPushCurrent(driver.CUcontext(3)),
    ):
        with pytest.raises(RuntimeError, match="driver"):
            converted()
    for thing in (event, graph):  # nothing of theirs may be freed
        thing._event = thing._ready = thing._graph = None
    assert pinned is not None


def test_a_gpu_that_is_not_among_them_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [
        cuda.CudaGpu(f"NVIDIA GeForce RTX {number}", "8.9", i, 1 << 34, "13.0") for i, number in enumerate((4090, 4080))
    ]
    monkeypatch.setattr(cuda, "list_gpus", lambda: tuple(here))
    assert cuda.find_gpu() is here[0] and cuda.find_gpu(1) is here[1]
    with pytest.raises(BadOption) as caught:
        cuda.find_gpu(2)
    assert str(caught.value) == (
        "gpu is 2, but here are 0 (NVIDIA GeForce RTX 4090), 1 (NVIDIA GeForce RTX 4080); take one of these"
    )
    monkeypatch.setattr(cuda, "list_gpus", lambda: tuple(here[:1]))
    with pytest.raises(BadOption, match=r"here is 0 \(NVIDIA GeForce RTX 4090\); take one of these"):
        cuda.find_gpu(1)


# On a GPU


@GPU
def test_the_gpus_of_cuda_are_described() -> None:
    gpus = cuda.list_gpus()
    assert [gpu.number for gpu in gpus] == list(range(len(gpus)))
    for gpu in gpus:
        assert gpu.name and re.fullmatch(r"\d+\.\d", gpu.compute_capability) and gpu.memory_bytes > 1 << 30
    with pytest.raises(BadOption, match=f"gpu is {len(gpus)}, but here"):
        cuda.find_gpu(len(gpus))


@GPU
def test_bytes_go_up_across_and_down_again() -> None:
    device = cuda.open_gpu(0)
    with device.current():
        up, down = device.host_memory(1000), device.host_memory(1000)
        first, second = device.memory(1000), device.memory(1000)
        stream, event = device.stream(), device.event()
        up.array[:] = np.random.default_rng(1).integers(0, 256, 1000)
        stream.upload(first.pointer, up.pointer, 1000)
        stream.follow(None)
        stream.copy_rows(second.pointer, 100, first.pointer, 50, 40, 9)
        stream.download(down.pointer, second.pointer, 1000)
        stream.record(event)
        event.wait()
        found = down.array.reshape(10, 100)[:9, :40]
        np.testing.assert_array_equal(found, up.array.reshape(20, 50)[:9, :40])
        for thing in (event, stream, first, second, up, down):
            thing.close()
            thing.close()
    device.close()
    device.close()
    with pytest.raises(VidstyleError, match="has been closed"), device.current():
        pass


@GPU
def test_a_recording_does_what_was_recorded_each_time() -> None:
    device = cuda.open_gpu(0)
    with device.current():
        host, memory, stream = device.host_memory(64), device.memory(64), device.stream()
        back = device.host_memory(64)
        stream.begin_capture()
        stream.upload(memory.pointer, host.pointer, 64)
        stream.download(back.pointer, memory.pointer, 64)
        graph = stream.end_capture()
        assert not back.array.any()
        for value in (3, 7):
            host.array[:] = value
            stream.launch(graph)
            stream.synchronize()
            assert (back.array == value).all()
        for thing in (graph, stream, memory, host, back):
            thing.close()
    device.close()


@GPU
def test_the_gpu_is_each_threads_own_only_within_the_block() -> None:
    device = cuda.open_gpu(0)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with device.current():
                memory = device.memory(16)
                memory.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    with pytest.raises(VidstyleError, match="CUDA failed: .*context"):
        device.memory(16)  # this thread has no GPU
    device.close()


@GPU
def test_too_much_memory_is_said_in_a_sentence() -> None:
    device = cuda.open_gpu(0)
    with device.current(), pytest.raises(VidstyleError, match="the GPU's memory is full"):
        device.memory(1 << 50)
    device.close()


@GPU
def test_torch_and_pyav_take_a_plane_of_the_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch is built without CUDA")
    device = cuda.open_gpu(0)
    with device.current():
        tensor = torch.arange(48, dtype=torch.uint8, device="cuda:0").reshape(6, 8)
        plane = DevicePlane.of(tensor[:, :7])
        assert (plane.pointer, plane.shape, plane.pitch_bytes) == (tensor.data_ptr(), (6, 7), 8)
        assert torch.from_dlpack(plane).cpu().tolist() == tensor[:, :7].cpu().tolist()
    device.close()


def test_nothing_of_cuda_is_imported_with_the_package() -> None:
    code = (
        "import sys, vidstyle.backends.tensorrt as t, vidstyle.backends.tensorrt.library, vidstyle.backends;"
        "vidstyle.backends.backend_report();"
        "sys.exit(bool({'cuda', 'tensorrt_rtx', 'tensorrt', 'numpy.f2py'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parent.parent)
