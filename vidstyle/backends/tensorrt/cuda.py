"""What vidstyle needs of CUDA, through the driver: GPUs, streams, events, memory, recorded graphs.

The driver's own interface, not the runtime library's: that one refuses every driver older than itself.
Everything lives in the GPU's primary context, which TensorRT, FFmpeg and torch use too, so an address
from one is an address for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import driver
from numpy.typing import NDArray

from vidstyle.backends.tensorrt.device import DLPACK_CUDA, Event, Graph
from vidstyle.backends.tensorrt.deviceplane import DevicePlane
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.errors import BadOption, VidstyleError

__all__ = ["CudaDevice", "CudaGpu", "DevicePlane", "NoGpu", "find_gpu", "list_gpus", "open_gpu"]

_NO_DEVICE = driver.CUresult.CUDA_ERROR_NO_DEVICE
_SLEEP = driver.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC


class NoGpu(VidstyleError):
    """No NVIDIA GPU answers. The message is half a sentence that says why."""


@dataclass(frozen=True)
class CudaGpu(GpuFacts):
    """A GPU as CUDA lists it."""

    number: int
    """In CUDA's order, which CUDA_VISIBLE_DEVICES changes."""
    memory_bytes: int
    """Of its own memory, all of it."""
    driver: str
    """Newest CUDA version that the driver serves."""


def list_gpus() -> tuple[CudaGpu, ...]:
    """Every GPU that CUDA offers; `NoGpu` where there is none."""
    try:
        code, *_ = driver.cuInit(0)
        if code == _NO_DEVICE:
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
            raise NoGpu(
                "the driver offers none" + (f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else "")
            )
        if int(code) != 0:
            raise NoGpu(f"CUDA does not start: {_words(code)}")
    except RuntimeError as error:  # how cuda-python says that there is no library to call
        raise NoGpu("no NVIDIA driver is installed") from error
    version = _call(driver.cuDriverGetVersion)
    count = _call(driver.cuDeviceGetCount)
    if count == 0:
        raise NoGpu("the driver offers none")
    return tuple(_gpu(number, f"{version // 1000}.{version % 1000 // 10}") for number in range(count))


def find_gpu(number: int | None = None) -> CudaGpu:
    """GPU ``number``, or the first one.

    Raises `NoGpu` where there is none at all, and `BadOption`, with those there are, where it is not among them.
    """
    gpus = list_gpus()
    if number is None:
        return gpus[0]
    if number >= len(gpus):
        there = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in gpus)
        raise BadOption(f"gpu is {number}, but here {'is' if len(gpus) == 1 else 'are'} {there}; take one of these")
    return gpus[number]


def open_gpu(number: int) -> CudaDevice:
    """GPU ``number``, for work; close it. Raises what `find_gpu` raises."""
    return CudaDevice(find_gpu(number).number)


class CudaDevice:
    """A GPU's primary context, held until `close`. May be used from any thread, one at a time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._device = _call(driver.cuDeviceGet, number)
        _, active = _call(driver.cuDevicePrimaryCtxGetState, self._device)
        if not active:
            # A waiting thread sleeps. FFmpeg asks for the same, and refuses a context that has it not.
            _call(driver.cuDevicePrimaryCtxSetFlags, self._device, int(_SLEEP))
        self._context: Any = _call(driver.cuDevicePrimaryCtxRetain, self._device)

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """Kind and number, as DLPack counts them."""
        return DLPACK_CUDA, self.number

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """The GPU is this thread's within the block; the one that was so before is so again afterwards."""
        if self._context is None:
            raise VidstyleError("the GPU has been closed")
        _call(driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            driver.cuCtxPopCurrent()

    def stream(self) -> CudaStream:
        """A stream that does not wait for the default one."""
        return CudaStream()

    def event(self) -> CudaEvent:
        """An event on which a thread sleeps instead of spinning."""
        return CudaEvent()

    def memory(self, size: int) -> CudaMemory:
        """Memory of the GPU."""
        return CudaMemory(size)

    def host_memory(self, size: int) -> PinnedMemory:
        """Page-locked host memory, zeroed."""
        return PinnedMemory(size)

    def free_memory(self) -> int:
        """Bytes of the GPU's memory that nobody uses."""
        free, _ = _call(driver.cuMemGetInfo)
        return int(free)

    def close(self) -> None:
        """Let go of the context; the last one to do so frees it."""
        if self._context is not None:
            self._context = None
            driver.cuDevicePrimaryCtxRelease(self._device)


class CudaMemory:
    """Memory of the current GPU."""

    def __init__(self, size: int) -> None:
        self._pointer: Any = _call(driver.cuMemAlloc, size)
        self.size = size

    @property
    def pointer(self) -> int:
        """Address of its first byte; 0 when freed."""
        return int(self._pointer or 0)

    def close(self) -> None:
        """Free it."""
        if self._pointer is not None:
            driver.cuMemFree(self._pointer)
            self._pointer = None


class PinnedMemory:
    """Host memory that the GPU reads and writes while the processor does something else."""

    def __init__(self, size: int) -> None:
        self._pointer = int(_call(driver.cuMemHostAlloc, size, driver.CU_MEMHOSTALLOC_PORTABLE))
        block = (ctypes.c_uint8 * size).from_address(self._pointer)
        self._array: NDArray[np.uint8] = np.frombuffer(memoryview(block).cast("B"), np.uint8)
        self._array[:] = 0

    @property
    def pointer(self) -> int:
        """Address of its first byte; 0 when freed."""
        return self._pointer

    @property
    def array(self) -> NDArray[np.uint8]:
        """Its bytes."""
        return self._array

    def close(self) -> None:
        """Free it."""
        if self._pointer:
            driver.cuMemFreeHost(self._pointer)
            self._pointer, self._array = 0, np.empty(0, np.uint8)


class CudaEvent:
    """A moment in a stream."""

    def __init__(self) -> None:
        # Blocking: decoder and encoder need the core that a spinning wait would burn.
        flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC | driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self._event: Any = _call(driver.cuEventCreate, int(flags))

    @property
    def handle(self) -> Any:
        """As the driver takes it."""
        return self._event

    def wait(self) -> None:
        """Sleep until the GPU has reached it."""
        _call(driver.cuEventSynchronize, self._event)

    def close(self) -> None:
        """Free it."""
        if self._event is not None:
            driver.cuEventDestroy(self._event)
            self._event = None


class CudaGraph:
    """Work recorded in a stream."""

    def __init__(self, recorded: Any) -> None:
        self._graph: Any = recorded
        self._ready: Any = None
        try:
            self._ready = _call(driver.cuGraphInstantiate, recorded, 0)
        finally:
            if self._ready is None:
                self.close()

    @property
    def handle(self) -> Any:
        """As the driver starts it."""
        return self._ready

    def close(self) -> None:
        """Free it."""
        if self._ready is not None:
            driver.cuGraphExecDestroy(self._ready)
            self._ready = None
        if self._graph is not None:
            driver.cuGraphDestroy(self._graph)
            self._graph = None


class CudaStream:
    """A queue of work that waits for nobody."""

    def __init__(self) -> None:
        self._stream: Any = _call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    @property
    def handle(self) -> int:
        """As TensorRT takes it."""
        return int(self._stream)

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy bytes from host to device."""
        _call(driver.cuMemcpyHtoDAsync, target, source, size, self._stream)

    def download(self, target: int, source: int, size: int) -> None:
        """Copy bytes from device to host."""
        _call(driver.cuMemcpyDtoHAsync, target, source, size, self._stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, row_bytes: int, rows: int
    ) -> None:
        """Copy rows within the device."""
        copy = driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = source, source_pitch
        copy.dstDevice, copy.dstPitch = target, target_pitch
        copy.WidthInBytes, copy.Height = row_bytes, rows
        _call(driver.cuMemcpy2DAsync, copy, self._stream)

    def follow(self, other: int | None) -> None:
        """Let what comes wait for what stream ``other`` holds by now; None is the default stream."""
        event = CudaEvent()
        try:
            _call(driver.cuEventRecord, event.handle, driver.CU_STREAM_LEGACY if other is None else other)
            _call(driver.cuStreamWaitEvent, self._stream, event.handle, 0)
        finally:
            event.close()  # the driver keeps it until it has passed

    def record(self, event: Event) -> None:
        """Put ``event`` behind what has been queued."""
        assert isinstance(event, CudaEvent)
        _call(driver.cuEventRecord, event.handle, self._stream)

    def begin_capture(self) -> None:
        """From here on this thread's work is recorded, not done."""
        # Thread-local: the decoder's thread may allocate meanwhile.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _call(driver.cuStreamBeginCapture, self._stream, mode)

    def end_capture(self) -> CudaGraph:
        """What was recorded. The stream takes work again, even after an error."""
        return CudaGraph(_call(driver.cuStreamEndCapture, self._stream))

    def launch(self, graph: Graph) -> None:
        """Queue what was recorded."""
        assert isinstance(graph, CudaGraph)
        _call(driver.cuGraphLaunch, graph.handle, self._stream)

    def synchronize(self) -> None:
        """Wait for everything that is queued."""
        _call(driver.cuStreamSynchronize, self._stream)

    def close(self) -> None:
        """Free it."""
        if self._stream is not None:
            driver.cuStreamDestroy(self._stream)
            self._stream = None


def _gpu(number: int, version: str) -> CudaGpu:
    device = _call(driver.cuDeviceGet, number)
    name = _call(driver.cuDeviceGetName, 256, device).split(b"\0", 1)[0].decode()
    attributes = driver.CUdevice_attribute
    major = _call(driver.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    minor = _call(driver.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    memory = int(_call(driver.cuDeviceTotalMem, device))
    return CudaGpu(name, f"{major}.{minor}", number, memory, version)


def _call(function: Any, *arguments: Any) -> Any:
    """What a function of the driver gives besides its code; several things as a tuple."""
    try:
        code, *results = function(*arguments)
    except RuntimeError as error:  # the driver is older than the function
        raise VidstyleError(f"the NVIDIA driver is too old: it has no {function.__name__}; update it") from error
    if int(code) != 0:
        if code == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise VidstyleError(
                f"the GPU's memory is full ({function.__name__}); end what else uses it, or take a smaller size"
            )
        raise VidstyleError(f"CUDA failed: {_words(code)} ({function.__name__})")
    return results[0] if len(results) == 1 else tuple(results)


def _words(code: Any) -> str:
    """The driver's own words for ``code``."""
    found, text = driver.cuGetErrorString(code)
    return text.decode() if int(found) == 0 and text else f"error {int(code)}"
