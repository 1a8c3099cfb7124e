"""The pass of `vidstyle.warp` on an NVIDIA GPU: ``kernels/warp.cu``, compiled once for each kind of GPU and kept.

Needs cuda-python, and for the first compilation NVRTC (``pip install nvidia-cuda-nvrtc``, or a CUDA toolkit).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.files import cache_folder, write_whole
from vidstyle.warp import MOST_GAIN

try:
    from cuda.bindings import driver, nvrtc
except ImportError as error:
    raise MissingDependency("smoothing on a GPU needs cuda-python: pip install cuda-python") from error

_SOURCES = ("warp.cu", "warp.h")
_OPTIONS = ("-std=c++17", "-Werror=all-warnings")
_TILE = 32, 8
"""Pixels across and down that a block of threads owns; as in warp.cu."""
_POINTERS = ("fresh", "memory", "flow", "weight", "shown", "updated")
_DISTANCES = (
    *("fresh_row", "fresh_step", "fresh_channel", "memory_row", "memory_channel", "flow_row", "weight_row"),
    *("shown_row", "shown_step", "shown_channel", "updated_row", "updated_channel"),
)
_SIZES = ("height", "width", "small_height", "small_width")
_PLANE = np.dtype(
    [(name, np.uint64) for name in _POINTERS]
    + [(name, np.int64) for name in _DISTANCES]
    + [(name, np.int32) for name in _SIZES]
    + [("gain", np.float32), ("unused", np.int32)]
)
"""``struct Plane`` of warp.cu."""
_ITEM_BYTES = {"fresh": 1, "memory": 2, "flow": 4, "weight": 4, "shown": 1, "updated": 2}


@dataclass(frozen=True)
class DeviceArray:
    """An array in the GPU's memory: where it begins, and bytes from one row, pixel and channel to the next."""

    pointer: int
    row_bytes: int
    pixel_bytes: int
    channel_bytes: int = 0
    """Of no meaning where there is one channel."""


@dataclass(frozen=True)
class DeviceWarp:
    """Arguments of one launch; what they hold is what `vidstyle.warp.warp_blend` says, in the GPU's memory.

    Pixels of ``memory``, ``updated`` (16 bit), ``flow`` and ``weight`` lie side by side. ``shown`` and ``updated``
    overlap no other array.
    """

    shape: tuple[int, int, int]
    """Height, width and channels of ``new``, ``memory``, ``shown`` and ``updated``."""
    small: tuple[int, int]
    """Height and width of ``flow`` and ``weight``."""
    new: DeviceArray
    memory: DeviceArray
    flow: DeviceArray
    weight: DeviceArray
    gain: float
    shown: DeviceArray
    updated: DeviceArray

    def __post_init__(self) -> None:
        if not (min(*self.shape, *self.small) >= 1 and self.shape[2] <= 4 and max(*self.shape, *self.small) <= 1 << 20):
            raise BadOption(
                f"planes are {self.shape} and fields {self.small}; they must have pixels and 1 to 4 channels"
            )
        if not math.isfinite(self.gain) or abs(self.gain) > MOST_GAIN:
            raise BadOption(f"gain is {self.gain}; it must lie between -{MOST_GAIN:g} and {MOST_GAIN:g}")
        for name, item, pixel in (
            ("memory", 2, 2),
            ("updated", 2, 2),
            ("flow", 4, 8),
            ("weight", 4, 4),
        ):
            array: DeviceArray = getattr(self, name)
            distances = array.pointer, array.row_bytes, array.channel_bytes
            if array.pixel_bytes != pixel or any(distance % item for distance in distances):
                raise BadOption(
                    f"{name} is {array}; its pixels must be {pixel} bytes apart, all else a multiple of {item}"
                )

    def packed(self) -> np.ndarray[Any, Any]:
        """As the kernel takes them."""
        plane = np.zeros((), _PLANE)
        for field, array in zip(
            _POINTERS, (self.new, self.memory, self.flow, self.weight, self.shown, self.updated), strict=True
        ):
            item = _ITEM_BYTES[field]
            plane[field] = array.pointer
            for distance, count in (
                ("row", array.row_bytes),
                ("step", array.pixel_bytes),
                ("channel", array.channel_bytes),
            ):
                if f"{field}_{distance}" in _DISTANCES:
                    plane[f"{field}_{distance}"] = count // item
        plane["height"], plane["width"], _ = self.shape
        plane["small_height"], plane["small_width"] = self.small
        plane["gain"] = self.gain
        return plane


class CudaWarp:
    """The kernel, loaded for the GPU whose context is current; `close` it, in that context. Safe to share."""

    def __init__(self) -> None:
        device = _call(driver.cuCtxGetDevice)
        kinds = driver.CUdevice_attribute
        major = _call(driver.cuDeviceGetAttribute, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
        minor = _call(driver.cuDeviceGetAttribute, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
        self._module: Any = _call(driver.cuModuleLoadData, compiled(f"sm_{major}{minor}"))
        self._kernel = _call(driver.cuModuleGetFunction, self._module, b"warp_blend")

    def launch(self, stream: int, warp: DeviceWarp) -> None:
        """Queue one plane on ``stream`` (a handle; 0 is the default stream) and come back at once."""
        if self._module is None:
            raise VidstyleError("the kernel has been closed")
        height, width, channels = warp.shape
        plane = warp.packed()
        parameters = np.array([plane.ctypes.data], np.uint64)
        blocks = -(-width // _TILE[0]), -(-height // _TILE[1]), channels
        _call(driver.cuLaunchKernel, self._kernel, *blocks, *_TILE, 1, 0, stream, parameters.ctypes.data, 0)

    def close(self) -> None:
        """Unload it."""
        if self._module is not None:
            driver.cuModuleUnload(self._module)
            self._module = None

    def __enter__(self) -> CudaWarp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def compiled(architecture: str) -> bytes:
    """The kernel for ``architecture`` ("sm_90"), from the cache or made and put there.

    Raises `MissingDependency` without NVRTC, `BadOption` for an architecture that it does not know.
    """
    sources = {name: (_folder() / name).read_bytes() for name in _SOURCES}
    version = ".".join(map(str, _version()))
    key = hashlib.sha256(repr((sorted(sources.items()), _OPTIONS, version)).encode()).hexdigest()[:16]
    path = cache_folder("kernels") / f"warp-{architecture}-{key}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        pass
    code, _ = compile_source(sources, architecture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, code)
    except OSError:
        pass  # a cache that cannot be written costs a second each time, not the work
    return code


def compile_source(sources: dict[str, bytes], architecture: str, *options: str) -> tuple[bytes, str]:
    """Machine code for ``architecture`` and what the compiler said. The first of ``sources`` includes the others."""
    if not isinstance(architecture, str) or f"sm_{architecture[3:]}" not in _architectures():
        known = ", ".join(_architectures())
        raise BadOption(f"architecture is {architecture!r}; this NVRTC compiles for {known}")
    (name, source), *headers = sources.items()
    program = _nvrtc(
        nvrtc.nvrtcCreateProgram,
        source,
        name.encode(),
        len(headers),
        [text for _, text in headers],
        [header.encode() for header, _ in headers],
    )
    try:
        words = [option.encode() for option in (f"--gpu-architecture={architecture}", *_OPTIONS, *options)]
        code, *_ = nvrtc.nvrtcCompileProgram(program, len(words), words)
        log = b" " * _nvrtc(nvrtc.nvrtcGetProgramLogSize, program)
        _nvrtc(nvrtc.nvrtcGetProgramLog, program, log)
        said = log.decode(errors="replace").strip("\0 \n")
        if int(code) != 0:
            raise VidstyleError(f"NVRTC cannot compile {name} for {architecture}: {said}")
        cubin = b" " * _nvrtc(nvrtc.nvrtcGetCUBINSize, program)
        _nvrtc(nvrtc.nvrtcGetCUBIN, program, cubin)
        return cubin, said
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _architectures() -> list[str]:
    return [f"sm_{number}" for number in _nvrtc(nvrtc.nvrtcGetSupportedArchs)]


def _version() -> tuple[int, int]:
    major, minor = _nvrtc(nvrtc.nvrtcVersion)
    return major, minor


def _folder() -> Path:
    """Where the sources are: in the repository's ``kernels``; a wheel has them as ``vidstyle/kernels``."""
    package = Path(__file__).parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def _nvrtc(function: Any, *arguments: Any) -> Any:
    try:
        code, *results = function(*arguments)
    except RuntimeError as error:  # how cuda-python says that there is no library to call
        raise MissingDependency("smoothing on a GPU needs NVRTC: pip install nvidia-cuda-nvrtc") from error
    if int(code) != 0:
        _, words = nvrtc.nvrtcGetErrorString(code)
        raise VidstyleError(f"NVRTC failed: {words.decode()} ({function.__name__})")
    return results[0] if len(results) == 1 else tuple(results)


def _call(function: Any, *arguments: Any) -> Any:
    code, *results = function(*arguments)
    if int(code) != 0:
        found, words = driver.cuGetErrorString(code)
        text = words.decode() if int(found) == 0 and words else f"error {int(code)}"
        raise VidstyleError(f"CUDA failed: {text} ({function.__name__})")
    return results[0] if len(results) == 1 else tuple(results)
