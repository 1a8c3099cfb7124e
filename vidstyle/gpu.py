"""The NVIDIA GPUs of this machine, asked from the driver's own library: no CUDA, no torch, no subprocess."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU."""

    name: str
    """As the driver calls it."""
    memory_bytes: int
    """Of its own memory, all of it."""
    compute_capability: str
    """``"9.0"`` for Hopper; decides which TensorRT engines run on it."""


@dataclass(frozen=True)
class GpuDriver:
    """What the NVIDIA driver says."""

    version: str
    """Of the driver."""
    cuda: str
    """The newest CUDA version that it serves."""
    gpus: tuple[Gpu, ...]
    """In the driver's order; CUDA_VISIBLE_DEVICES is not looked at."""


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def nvidia_driver(library: str | None = None) -> GpuDriver | None:
    """What NVML, the library that ``nvidia-smi`` prints from, says; None without a driver.

    Raises `OSError` where there is a driver that does not answer (a container without its device,
    say, or a driver updated under a running kernel module).
    """
    name = library or ("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    try:
        nvml = ctypes.CDLL(name)
    except OSError:
        return None
    _call(nvml, "nvmlInit_v2")
    try:
        version = ctypes.create_string_buffer(96)
        _call(nvml, "nvmlSystemGetDriverVersion", version, len(version))
        cuda, count = ctypes.c_int(), ctypes.c_uint()
        _call(nvml, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus = tuple(_gpu(nvml, index) for index in range(count.value))
    finally:
        nvml.nvmlShutdown()
    return GpuDriver(version.value.decode(), f"{cuda.value // 1000}.{cuda.value % 1000 // 10}", gpus)


def _gpu(nvml: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_void_p()
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
    name, memory = ctypes.create_string_buffer(96), _Memory()
    _call(nvml, "nvmlDeviceGetName", device, name, len(name))
    _call(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call(nvml, "nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(minor))
    return Gpu(name.value.decode(), int(memory.total), f"{major.value}.{minor.value}")


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        code = getattr(nvml, function)(*arguments)
    except AttributeError as error:
        raise OSError(f"the NVIDIA driver is too old: it has no {function}") from error
    if code != 0:
        nvml.nvmlErrorString.restype = ctypes.c_char_p
        text = nvml.nvmlErrorString(code) or b"unknown error"
        raise OSError(f"the NVIDIA driver does not answer: {text.decode()}")
