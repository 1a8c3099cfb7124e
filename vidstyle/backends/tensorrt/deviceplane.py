"""Planes of a frame that lie in device memory, and DLPack, the way in which libraries pass them on."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from vidstyle.backends.tensorrt.device import DLPACK_CPU, DLPACK_CUDA
from vidstyle.errors import BadOption

_NAME = b"dltensor"
_UNSIGNED = 1
_ON_THE_DEFAULT_STREAM = (None, 0, 1)


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", _DLTensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


# Prototypes of our own: others set the argument types of ctypes.pythonapi's functions to what they need.
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
# For the destructor, where the capsule has no reference left and must not get one.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_bare_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_exported: dict[int, tuple[Any, ...]] = {}
"""Address of a tensor given away: what has to live until its new owner lets go of it."""


def _delete(address: int) -> None:
    _exported.pop(address, None)  # may come from any thread of the owner's


def _destroy(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody took it: a taken one has another name
        _exported.pop(_bare_pointer(capsule, _NAME), None)


_DELETE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete)
_DESTROY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy)


class _Exporter(Protocol):
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(self) -> object: ...


@dataclass(frozen=True, eq=False)
class DevicePlane:
    """One plane of a frame in device memory.

    Passes for an array where shapes and types are looked at, and gives its memory to whatever takes
    DLPack (`av.VideoFrame.from_dlpack`, torch, cupy), without a copy. What was put into it before it was
    handed out is complete.
    """

    pointer: int
    """Address of the first byte."""
    shape: tuple[int, ...]
    """(rows, columns), or (rows, columns, channels) with the channels interleaved."""
    pitch_bytes: int
    """From one row to the next."""
    device: tuple[int, int]
    """Kind and number, as DLPack counts them: (2, 0) is the first NVIDIA GPU."""
    owner: object = None
    """What keeps the memory alive."""
    stream: int | None = None
    """Stream in which it is still being written; None is the default stream."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8, always."""
        return np.dtype(np.uint8)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, without padding."""
        return int(np.prod(self.shape[1:]))

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: object = None, **_: object) -> object:
        """A capsule that keeps the memory alive until its new owner lets go of it."""
        # Contiguous but for the rows, as NVENC and NVDEC have it.
        inner = [int(np.prod(self.shape[axis + 1 :])) for axis in range(1, len(self.shape))]
        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        strides = (ctypes.c_int64 * len(self.shape))(self.pitch_bytes, *inner)
        managed = _DLManagedTensor()
        tensor = managed.tensor
        tensor.data, (tensor.device_type, tensor.device_id) = self.pointer, self.device
        tensor.code, tensor.bits, tensor.lanes = _UNSIGNED, 8, 1
        tensor.ndim, tensor.shape, tensor.strides = len(self.shape), shape, strides
        managed.deleter = ctypes.cast(_DELETE, ctypes.c_void_p)
        address = ctypes.addressof(managed)
        _exported[address] = (managed, shape, strides, self.owner)
        return _new_capsule(address, _NAME, ctypes.cast(_DESTROY, ctypes.c_void_p))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.device[0] != DLPACK_CUDA:
            raise AttributeError("this plane is not in CUDA memory")
        inner = [int(np.prod(self.shape[axis + 1 :])) for axis in range(1, len(self.shape))]
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.pointer, False),
            "strides": (self.pitch_bytes, *inner),
            "stream": None,  # nothing to wait for
        }

    @classmethod
    def of(cls, plane: object) -> DevicePlane:
        """The memory of an array of another library, kept alive by it; no copy.

        `BadOption` where it is not 8-bit, or its pixels do not follow one another in a row.
        """
        if isinstance(plane, DevicePlane):
            return plane
        interface = getattr(plane, "__cuda_array_interface__", None)
        if interface is not None:
            return cls._of_interface(plane, interface)
        exporter = cast(_Exporter, plane)
        capsule = exporter.__dlpack__()
        tensor = _DLManagedTensor.from_address(_capsule_pointer(capsule, _NAME)).tensor
        shape = tuple(tensor.shape[: tensor.ndim])
        strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
        if (tensor.code, tensor.bits, tensor.lanes) != (_UNSIGNED, 8, 1):
            raise BadOption(f"a plane on the GPU has {tensor.bits} bits a sample; this program takes 8")
        # The capsule keeps its name, so it frees the tensor by itself when it goes.
        return cls(
            pointer=tensor.data + tensor.byte_offset,
            shape=shape,
            pitch_bytes=_pitch(shape, strides),
            device=(tensor.device_type, tensor.device_id),
            owner=(plane, capsule),
        )

    @classmethod
    def _of_interface(cls, plane: object, interface: dict[str, Any]) -> DevicePlane:
        shape = tuple(interface["shape"])
        if interface["typestr"] not in ("|u1", "<u1"):
            raise BadOption(f"a plane on the GPU has the type {interface['typestr']}; this program takes uint8")
        exports = hasattr(plane, "__dlpack_device__")
        kind, number = cast(_Exporter, plane).__dlpack_device__() if exports else (DLPACK_CUDA, 0)
        stream = interface.get("stream")
        return cls(
            pointer=interface["data"][0],
            shape=shape,
            pitch_bytes=_pitch(shape, interface.get("strides")),
            device=(int(kind), int(number)),
            owner=plane,
            stream=None if stream in _ON_THE_DEFAULT_STREAM else stream,
        )


def on_device(plane: object) -> bool:
    """Whether a plane is in device memory (or says so, as the tests' device does)."""
    if isinstance(plane, np.ndarray):
        return False
    if isinstance(plane, DevicePlane) or hasattr(plane, "__cuda_array_interface__"):
        return True
    exports = hasattr(plane, "__dlpack_device__")
    return exports and cast(_Exporter, plane).__dlpack_device__()[0] != DLPACK_CPU


def _pitch(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    """Bytes from row to row of uint8 values with ``strides``; None is densely packed."""
    dense = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    if strides is None:
        return dense[0]
    if list(strides[1:]) != dense[1:] or strides[0] < dense[0]:
        raise BadOption(f"a plane on the GPU has the strides {strides} for the shape {shape}; its rows must be whole")
    return strides[0]
