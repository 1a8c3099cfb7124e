"""The machine as its system describes it: processor, memory, graphics. No CUDA, no torch, no subprocess."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

_FEATURES = {
    "x86": {
        "avx2": ("avx2",),
        "avx512": ("avx512f",),
        "vnni": ("avx512_vnni", "avx_vnni"),
        "bf16": ("avx512_bf16",),
        "amx": ("amx_bf16",),
    },
    "arm": {"neon": ("asimd", "neon"), "dotprod": ("asimddp",), "bf16": ("bf16",), "i8mm": ("i8mm",), "sve": ("sve",)},
}
"""Feature: the flags in /proc/cpuinfo, any of which means that it is there."""


@dataclass(frozen=True)
class Cpu:
    """The processor, and how much of it this process may use."""

    model: str
    architecture: str
    """``x86_64``, ``aarch64`` ..."""
    features: dict[str, bool | None]
    """Instructions that make the network faster; None where the system does not say."""
    cores: int
    usable_cores: int
    """Those that this process may run on (affinity)."""
    quota: float | None
    """Cores' worth of time that its control group gets; None without a limit."""


@dataclass(frozen=True)
class Memory:
    """Main memory, in bytes; None where the system does not say."""

    total: int | None
    """Of the machine, or of this process' control group where that is less."""
    available: int | None
    """What can be taken without swapping, as the machine sees it."""


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int
    compute_capability: str
    """``"9.0"`` for Hopper; decides which TensorRT engines run on it."""


@dataclass(frozen=True)
class GpuDriver:
    """What the NVIDIA driver says."""

    version: str
    cuda: str
    gpus: tuple[Gpu, ...]
    """In the driver's order; CUDA_VISIBLE_DEVICES is not looked at."""


@dataclass(frozen=True)
class Graphics:
    nvidia: GpuDriver | None
    """The NVIDIA driver and its GPUs; None without a driver, or where it does not answer."""
    trouble: str | None
    others: list[str]


def on_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def keep_freed_memory() -> None:
    """From here on what this process frees stays with it, where the C library is glibc; elsewhere nothing happens.

    A training step takes and frees the same arrays again and again, of more than 32 MB, and glibc by itself gives such
    back to the system each time: its clearing of fresh pages was an eighth of a step. For commands that train, not for
    a library: it holds for the whole process, and for good.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # By malloc.h. Not M_MMAP_THRESHOLD, of which glibc before 2.35 takes no more than 32 MB.
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, can be reached from this very machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def system_name() -> str:
    machine = f"{platform.system()} {platform.release()}"
    if platform.system() != "Linux":
        return machine
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {machine}"
    except (OSError, KeyError):
        return machine


def find_cpu() -> Cpu:
    model, flags = _cpuinfo()
    architecture = platform.machine()
    family = "x86" if architecture.lower() in ("x86_64", "amd64", "i686") else "arm"
    features: dict[str, bool | None] = {
        feature: None if flags is None else any(name in flags for name in names)
        for feature, names in _FEATURES[family].items()
    }
    return Cpu(
        model or platform.processor() or architecture,
        architecture,
        features,
        os.cpu_count() or 1,
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        _quota(),
    )


def _cpuinfo() -> tuple[str, set[str] | None]:
    """Model and flags as Linux says them; elsewhere an empty string and None."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "", None
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())  # the first core speaks for all
    flags = facts.get("flags", facts.get("features"))
    return facts.get("model name", ""), None if flags is None else set(flags.split())


def _control_group(file: str) -> str | None:
    """Text of a file of this process' control group (version 2), or of the container's root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    for folder in (Path("/sys/fs/cgroup") / own.lstrip("/"), Path("/sys/fs/cgroup")):
        try:
            return (folder / file).read_text().strip()
        except OSError:
            continue
    return None


def _quota() -> float | None:
    time_and_period = (_control_group("cpu.max") or "max").split()
    if time_and_period[0] == "max":
        return None
    return int(time_and_period[0]) / int(time_and_period[1])


def find_memory() -> Memory:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
        return Memory(None if pages is None else pages * os.sysconf("SC_PAGE_SIZE"), None)
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    total, available = kib["MemTotal"] << 10, kib["MemAvailable"] << 10
    limit = _control_group("memory.max")
    if limit is not None and limit != "max":
        total, available = min(total, int(limit)), min(available, int(limit))
    return Memory(total, available)


def find_graphics() -> Graphics:
    """The NVIDIA driver with its GPUs, and Intel's and AMD's render devices."""
    try:
        return Graphics(nvidia_driver(), None, _other_gpus())
    except OSError as error:
        return Graphics(None, str(error), _other_gpus())


def _other_gpus() -> list[str]:
    makes = {"0x8086": "Intel", "0x1002": "AMD"}
    found = []
    for node in sorted(Path("/dev/dri").glob("renderD*")):
        try:
            vendor = (Path("/sys/class/drm") / node.name / "device/vendor").read_text().strip()
        except OSError:
            continue
        if vendor in makes:
            found.append(f"{makes[vendor]} graphics ({node})")
    return found


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


def nvidia_gpus() -> tuple[Gpu, ...]:
    """The GPUs that the NVIDIA driver lists; none where there is no driver, or one that does not answer."""
    try:
        driver = nvidia_driver()
    except OSError:
        return ()
    return () if driver is None else driver.gpus


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
