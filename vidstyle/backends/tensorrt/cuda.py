"""CUDA through the driver: GPUs, streams, events, memory, recorded graphs, planes of frames.

The driver's own interface, not the runtime library's: that one refuses every driver older than itself.
Everything lives in the GPU's primary context, which TensorRT, FFmpeg and torch use too, so an address
from one is an address for all. Addresses are not checked.

`CudaDevice` and what it makes have a twin in host memory, tests/hostdevice.py, on which the order of work is tested.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import driver
from numpy.typing import NDArray

from vidstyle.backends.tensorrt.sdk import GpuFacts
from vidstyle.errors import BadOption, VidstyleError

DLPACK_CPU, DLPACK_CUDA = 1, 2
BLOCKING_SYNC = int(driver.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
"""Flag of a context: a waiting thread sleeps."""


class NoGpu(VidstyleError):
    """No NVIDIA GPU answers. The message is half a sentence that says why."""


@dataclass(frozen=True)
class CudaGpu(GpuFacts):
    number: int
    """In CUDA's order, which CUDA_VISIBLE_DEVICES changes."""


def list_gpus() -> tuple[CudaGpu, ...]:
    """Every GPU that CUDA offers; `NoGpu` where there is none."""
    try:
        code, *_ = driver.cuInit(0)
    except RuntimeError as error:  # how cuda-python says that there is no library to call
        raise NoGpu("no NVIDIA driver is installed") from error
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if code == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise NoGpu("the driver offers none" + (f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""))
    if int(code) != 0:
        raise NoGpu(f"CUDA does not start: {_words(code)}")
    count = call(driver.cuDeviceGetCount)
    if count == 0:
        raise NoGpu("the driver offers none")
    return tuple(_gpu(number) for number in range(count))


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


class Resource:
    """Something of the driver's, which `close` gives back."""

    def __init__(self, handle: Any, free: Callable[[Any], object]) -> None:
        self.handle, self._free = handle, free

    def close(self) -> None:
        """Free it. Closing twice is fine."""
        if self.handle is not None:
            self._free(self.handle)
            self.handle = None


class CudaMemory(Resource):
    """A block of the current GPU's memory, aligned to 256 bytes at least."""

    def __init__(self, size: int) -> None:
        super().__init__(call(driver.cuMemAlloc, size), driver.cuMemFree)
        self.pointer = int(self.handle)


class PinnedMemory(Resource):
    """Page-locked host memory, zeroed: the GPU reads and writes it while the processor does something else."""

    def __init__(self, size: int) -> None:
        self.pointer = int(call(driver.cuMemHostAlloc, size, driver.CU_MEMHOSTALLOC_PORTABLE))
        super().__init__(self.pointer, driver.cuMemFreeHost)
        block = (ctypes.c_uint8 * size).from_address(self.pointer)
        self.array: NDArray[np.uint8] = np.frombuffer(memoryview(block).cast("B"), np.uint8)
        """Its bytes; empty after `close`."""
        self.array[:] = 0

    def close(self) -> None:
        self.array = np.empty(0, np.uint8)
        super().close()


class CudaEvent(Resource):
    def __init__(self) -> None:
        # Blocking: decoder and encoder need the core that a spinning wait would burn.
        flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC | driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        super().__init__(call(driver.cuEventCreate, int(flags)), driver.cuEventDestroy)

    def wait(self) -> None:
        """Sleep until the GPU has reached it; other Python threads go on."""
        call(driver.cuEventSynchronize, self.handle)


class CudaGraph(Resource):
    """Work recorded once in a stream, started with one call. Takes the recording, which the driver may then forget."""

    def __init__(self, recorded: Any) -> None:
        try:
            super().__init__(call(driver.cuGraphInstantiate, recorded, 0), driver.cuGraphExecDestroy)
        finally:
            driver.cuGraphDestroy(recorded)


class CudaStream(Resource):
    """A queue of work, done in order; it waits for no other stream, nor for the default one.

    ``upload`` copies bytes from host to device, ``download`` back, ``copy_rows`` within the device.
    """

    handle: int
    """Address of the stream, for TensorRT."""

    def __init__(self) -> None:
        flags = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        super().__init__(int(call(driver.cuStreamCreate, flags)), driver.cuStreamDestroy)

    def upload(self, target: int, source: int, size: int) -> None:
        call(driver.cuMemcpyHtoDAsync, target, source, size, self.handle)

    def download(self, target: int, source: int, size: int) -> None:
        call(driver.cuMemcpyDtoHAsync, target, source, size, self.handle)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, row_bytes: int, rows: int
    ) -> None:
        copy = driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = source, source_pitch
        copy.dstDevice, copy.dstPitch = target, target_pitch
        copy.WidthInBytes, copy.Height = row_bytes, rows
        call(driver.cuMemcpy2DAsync, copy, self.handle)

    def follow(self, other: int | None) -> None:
        """Let what comes wait for what stream ``other`` holds by now; None is the default stream."""
        with contextlib.closing(CudaEvent()) as event:  # the driver keeps it until it has passed
            call(driver.cuEventRecord, event.handle, driver.CU_STREAM_LEGACY if other is None else other)
            call(driver.cuStreamWaitEvent, self.handle, event.handle, 0)

    def record(self, event: CudaEvent) -> None:
        call(driver.cuEventRecord, event.handle, self.handle)

    def begin_capture(self) -> None:
        """From here on this thread's work is recorded, not done."""
        # Thread-local: the decoder's thread may allocate meanwhile.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call(driver.cuStreamBeginCapture, self.handle, mode)

    def end_capture(self) -> CudaGraph:
        """Return the recording. The stream takes work again, even after an error."""
        return CudaGraph(call(driver.cuStreamEndCapture, self.handle))

    def launch(self, graph: CudaGraph) -> None:
        call(driver.cuGraphLaunch, graph.handle, self.handle)

    def synchronize(self) -> None:
        call(driver.cuStreamSynchronize, self.handle)


class CudaDevice:
    """A GPU's primary context, held until `close`. May be used from any thread, one at a time.

    Everything that is made from it needs a `current` block, and is closed before it.
    """

    stream, event, memory, host_memory = CudaStream, CudaEvent, CudaMemory, PinnedMemory

    def __init__(self, number: int) -> None:
        self.dlpack_device = DLPACK_CUDA, number
        """Kind and number, as DLPack counts them."""
        self._device = call(driver.cuDeviceGet, number)
        _, active = call(driver.cuDevicePrimaryCtxGetState, self._device)
        if not active:
            # FFmpeg asks for the same, and refuses a context that has it not.
            call(driver.cuDevicePrimaryCtxSetFlags, self._device, BLOCKING_SYNC)
        self._context: Any = call(driver.cuDevicePrimaryCtxRetain, self._device)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """The GPU is this thread's within the block; the one that was so before is so again afterwards."""
        if self._context is None:
            raise VidstyleError("the GPU has been closed")
        call(driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            driver.cuCtxPopCurrent()

    def close(self) -> None:
        """Let go of the context; the last one to do so frees it."""
        if self._context is not None:
            self._context = None
            driver.cuDevicePrimaryCtxRelease(self._device)


def _gpu(number: int) -> CudaGpu:
    device = call(driver.cuDeviceGet, number)
    name = call(driver.cuDeviceGetName, 256, device).split(b"\0", 1)[0].decode()
    attributes = driver.CUdevice_attribute
    major = call(driver.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    minor = call(driver.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    return CudaGpu(name, f"{major}.{minor}", number)


def call(function: Any, *arguments: Any) -> Any:
    """The results of a function of the driver, several as a tuple. Raises `VidstyleError`."""
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
    found, text = driver.cuGetErrorString(code)
    return text.decode() if int(found) == 0 and text else f"error {int(code)}"


# Planes of a frame in device memory, and DLPack, in which libraries pass them on to each other. cuda.core has both too,
# but asks the driver for every address it exports, so that nothing of it would run in the tests.


class _DLManagedTensor(ctypes.Structure):
    _fields_ = [
        *(("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)),
        *(("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)),
        *(("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64))),
        *(("byte_offset", ctypes.c_uint64), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)),
    ]


_NAME = b"dltensor"
_UINT8 = (1, 8, 1)  # code, bits and lanes
_ON_THE_DEFAULT_STREAM = (None, 0, 1)
_pointer, _text, _object = ctypes.c_void_p, ctypes.c_char_p, ctypes.py_object
# Prototypes of our own: others set the argument types of ctypes.pythonapi's functions to what they need.
_new_capsule = ctypes.PYFUNCTYPE(_object, _pointer, _text, _pointer)(("PyCapsule_New", ctypes.pythonapi))
_capsule_pointer = ctypes.PYFUNCTYPE(_pointer, _object, _text)(("PyCapsule_GetPointer", ctypes.pythonapi))
# For the destructor, where the capsule has no reference left and must not get one.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, _pointer, _text)(("PyCapsule_IsValid", ctypes.pythonapi))
_bare_pointer = ctypes.PYFUNCTYPE(_pointer, _pointer, _text)(("PyCapsule_GetPointer", ctypes.pythonapi))

_exported: dict[int, tuple[Any, ...]] = {}
"""Address of a tensor given away: what has to live until its new owner lets go of it."""


def _delete(address: int) -> None:
    _exported.pop(address, None)  # may come from any thread of the owner's


def _destroy(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody took it: a taken one has another name
        _exported.pop(_bare_pointer(capsule, _NAME), None)


_DELETE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete)
_DESTROY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy)


@dataclass(frozen=True, eq=False)
class DevicePlane:
    """One plane of a frame in device memory.

    Passes for an array where shapes and types are looked at, and gives its memory to whatever takes
    DLPack (`av.VideoFrame.from_dlpack`, torch, cupy), without a copy. What was put into it before it was
    handed out is complete.
    """

    pointer: int
    shape: tuple[int, ...]
    """(rows, columns), or (rows, columns, channels) with the channels interleaved."""
    pitch_bytes: int
    """From one row to the next."""
    device: tuple[int, int]
    """Kind and number, as DLPack counts them: (2, 0) is the first NVIDIA GPU."""
    owner: object = None
    """Object that keeps the memory alive."""
    stream: int | None = None
    """Stream in which it is still being written; None is the default stream."""

    dtype = np.dtype(np.uint8)

    @property
    def strides(self) -> tuple[int, ...]:
        """Contiguous but for the rows, as NVENC and NVDEC have it; in bytes."""
        return self.pitch_bytes, *_dense(self.shape)[1:]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: object = None, **_: object) -> object:
        """A capsule that keeps the memory alive until its new owner lets go of it."""
        sides = ctypes.c_int64 * len(self.shape)
        shape, strides = sides(*self.shape), sides(*self.strides)
        tensor = _DLManagedTensor()
        tensor.data, (tensor.device_type, tensor.device_id) = self.pointer, self.device
        tensor.code, tensor.bits, tensor.lanes = _UINT8
        tensor.ndim, tensor.shape, tensor.strides = len(self.shape), shape, strides
        tensor.deleter = ctypes.cast(_DELETE, ctypes.c_void_p)
        address = ctypes.addressof(tensor)
        _exported[address] = (tensor, shape, strides, self.owner)
        return _new_capsule(address, _NAME, ctypes.cast(_DESTROY, ctypes.c_void_p))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.device[0] != DLPACK_CUDA:
            raise AttributeError("this plane is not in CUDA memory")
        # Stream None: there is nothing to wait for.
        facts = {"shape": self.shape, "strides": self.strides, "typestr": "|u1", "data": (self.pointer, False)}
        return {**facts, "version": 3, "stream": None}

    @classmethod
    def of(cls, plane: Any) -> DevicePlane:
        """The memory of an array of another library, kept alive by it; no copy.

        `BadOption` where it is not 8-bit, or its pixels do not follow one another in a row.
        """
        if isinstance(plane, DevicePlane):
            return plane
        interface = getattr(plane, "__cuda_array_interface__", None)
        if interface is not None:
            shape, stream = tuple(interface["shape"]), interface.get("stream")
            if interface["typestr"] not in ("|u1", "<u1"):
                raise BadOption(f"a plane on the GPU has the type {interface['typestr']}; this program takes uint8")
            kind, number = plane.__dlpack_device__() if hasattr(plane, "__dlpack_device__") else (DLPACK_CUDA, 0)
            return cls(
                pointer=interface["data"][0],
                shape=shape,
                pitch_bytes=_pitch(shape, interface.get("strides")),
                device=(int(kind), int(number)),
                owner=plane,
                stream=None if stream in _ON_THE_DEFAULT_STREAM else stream,
            )
        capsule = plane.__dlpack__()
        tensor = _DLManagedTensor.from_address(_capsule_pointer(capsule, _NAME))
        shape = tuple(tensor.shape[: tensor.ndim])
        if (tensor.code, tensor.bits, tensor.lanes) != _UINT8:
            raise BadOption(f"a plane on the GPU has {tensor.bits} bits a sample; this program takes 8")
        # The capsule keeps its name, so it frees the tensor by itself when it goes.
        return cls(
            pointer=tensor.data + tensor.byte_offset,
            shape=shape,
            pitch_bytes=_pitch(shape, tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None),
            device=(tensor.device_type, tensor.device_id),
            owner=(plane, capsule),
        )


def on_device(plane: Any) -> bool:
    """Whether a plane is in device memory (or says so, as the tests' device does)."""
    if isinstance(plane, np.ndarray):
        return False
    if isinstance(plane, DevicePlane) or hasattr(plane, "__cuda_array_interface__"):
        return True
    return hasattr(plane, "__dlpack_device__") and plane.__dlpack_device__()[0] != DLPACK_CPU


def _dense(shape: tuple[int, ...]) -> list[int]:
    """Strides of densely packed bytes."""
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]


def _pitch(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    """Bytes from row to row of uint8 values with ``strides``; None is densely packed."""
    dense = _dense(shape)
    if strides is None:
        return dense[0]
    if list(strides[1:]) != dense[1:] or strides[0] < dense[0]:
        raise BadOption(f"a plane on the GPU has the strides {strides} for the shape {shape}; its rows must be whole")
    return strides[0]
