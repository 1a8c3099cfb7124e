"""CUDA through the driver: every name that is used exists, and what is said where there is no GPU."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import has_gpu

driver = pytest.importorskip("cuda.bindings.driver")

from vidstyle.backends.tensorrt import cuda  # noqa: E402
from vidstyle.errors import BadOption, VidstyleError  # noqa: E402

SOURCE = ast.parse(Path(cuda.__file__).read_text())
GPU = pytest.mark.needs_cuda
NO_GPU = pytest.mark.skipif(has_gpu(), reason="there is a GPU")


# Names: nothing here runs without a driver, so that a typo would show on a user's machine first.


def test_every_name_exists_in_the_driver() -> None:
    chains = {ast.unparse(node) for node in ast.walk(SOURCE) if isinstance(node, ast.Attribute)}
    chains = {chain.replace("attributes.", "driver.CUdevice_attribute.") for chain in chains}
    uses = [chain for chain in chains if re.fullmatch(r"driver(\.\w+)+", chain)]
    assert len(uses) > 50
    for use in uses:
        found = driver
        for name in use.split(".")[1:]:
            found = getattr(found, name)


# Without a GPU


@NO_GPU
def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(cuda.NoGpu, match="^(no NVIDIA driver is installed|the driver offers none.*)$"):
        cuda.list_gpus()
    for ask in (cuda.find_gpu, cuda.open_gpu):
        with pytest.raises(cuda.NoGpu):
            ask(0)


def resource(kind: type, handle: object) -> cuda.Resource:
    """One of the driver's, as if it were there: nothing is freed."""
    made = object.__new__(kind)
    cuda.Resource.__init__(made, handle, lambda handle: None)
    return made


@NO_GPU
def test_the_driver_gets_arguments_of_the_types_that_it_takes() -> None:
    """They are converted before the driver's library is looked for, and that is what fails here."""
    stream, event = resource(cuda.CudaStream, 5), resource(cuda.CudaEvent, driver.CUevent(6))
    graph = resource(cuda.CudaGraph, driver.CUgraphExec(8))
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
        "cuStreamCreate": cuda.CudaStream,
        "cuEventCreate": cuda.CudaEvent,
        "cuMemAlloc": lambda: cuda.CudaMemory(100),
        "cuMemHostAlloc": lambda: cuda.PinnedMemory(100),
        "cuDeviceGet": lambda: cuda.CudaDevice(0),
    }.items():
        with pytest.raises(VidstyleError, match=f"it has no {function}; update it"):
            call()
    for converted in (
        lambda: driver.cuGraphInstantiate(driver.CUgraph(9), 0),
        lambda: driver.cuEventRecord(event.handle, driver.CU_STREAM_LEGACY),
        lambda: driver.cuEventRecord(event.handle, 1234),
        lambda: driver.cuStreamWaitEvent(stream.handle, event.handle, 0),
        lambda: driver.cuStreamDestroy(stream.handle),
        lambda: driver.cuEventDestroy(event.handle),
        lambda: driver.cuGraphExecDestroy(graph.handle),
        lambda: driver.cuGraphDestroy(driver.CUgraph(9)),
        lambda: driver.cuMemFreeHost(high),
        lambda: driver.cuMemFree(driver.CUdeviceptr(7)),
        lambda: driver.cuDevicePrimaryCtxSetFlags(driver.CUdevice(0), cuda.BLOCKING_SYNC),
        lambda: driver.cuDevicePrimaryCtxRelease(driver.CUdevice(0)),
        lambda: driver.cuCtxPushCurrent(driver.CUcontext(3)),
    ):
        with pytest.raises(RuntimeError, match="driver"):
            converted()


def test_a_gpu_that_is_not_among_them_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [cuda.CudaGpu(f"NVIDIA GeForce RTX {name}", "8.9", i) for i, name in enumerate((4090, 4080))]
    monkeypatch.setattr(cuda, "list_gpus", lambda: tuple(here))
    assert cuda.find_gpu() is here[0] and cuda.find_gpu(1) is here[1]
    with pytest.raises(BadOption, match=r"gpu is 2, but here are 0 \(NVIDIA GeForce RTX 4090\), 1 \(NVIDIA .* 4080\);"):
        cuda.find_gpu(2)
    monkeypatch.setattr(cuda, "list_gpus", lambda: tuple(here[:1]))
    with pytest.raises(BadOption, match=r"here is 0 \(NVIDIA GeForce RTX 4090\); take one of these"):
        cuda.find_gpu(1)


# On a GPU


@pytest.fixture
def device() -> Iterator[cuda.CudaDevice]:
    opened = cuda.open_gpu(0)
    yield opened
    opened.close()
    opened.close()
    with pytest.raises(VidstyleError, match="has been closed"), opened.current():
        pass


@GPU
def test_the_gpus_of_cuda_are_described() -> None:
    gpus = cuda.list_gpus()
    assert [gpu.number for gpu in gpus] == list(range(len(gpus)))
    for gpu in gpus:
        assert gpu.name and re.fullmatch(r"\d+\.\d", gpu.compute_capability)
    with pytest.raises(BadOption, match=f"gpu is {len(gpus)}, but here"):
        cuda.find_gpu(len(gpus))


@GPU
def test_bytes_go_up_across_and_down_again(device: cuda.CudaDevice) -> None:
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


@GPU
def test_a_recording_does_what_was_recorded_each_time(device: cuda.CudaDevice) -> None:
    with device.current():
        host, memory, stream, back = device.host_memory(64), device.memory(64), device.stream(), device.host_memory(64)
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


@GPU
def test_the_gpu_is_each_threads_own_only_within_the_block(device: cuda.CudaDevice) -> None:
    def work(_: int) -> None:
        with device.current():
            device.memory(16).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with pytest.raises(VidstyleError, match="CUDA failed: .*context"):
        device.memory(16)  # this thread has no GPU


@GPU
def test_too_much_memory_is_said_in_a_sentence(device: cuda.CudaDevice) -> None:
    with device.current(), pytest.raises(VidstyleError, match="the GPU's memory is full"):
        device.memory(1 << 50)


@GPU
def test_torch_and_pyav_take_a_plane_of_the_gpu(device: cuda.CudaDevice) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch is built without CUDA")
    with device.current():
        tensor = torch.arange(48, dtype=torch.uint8, device="cuda:0").reshape(6, 8)
        plane = cuda.DevicePlane.of(tensor[:, :7])
        assert (plane.pointer, plane.shape, plane.pitch_bytes) == (tensor.data_ptr(), (6, 7), 8)
        assert torch.from_dlpack(plane).cpu().tolist() == tensor[:, :7].cpu().tolist()
