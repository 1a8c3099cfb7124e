"""The contract between the product and an inference library."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import math
import os
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption, NotCopyable, VidstyleError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.models.architecture import Architecture, Network
from vidstyle.models.style import Parts, Style
from vidstyle.options import BackendOptions
from vidstyle.pipeline import Closing
from vidstyle.system import find_cpu

Pending = Callable[[], Planes]
"""Waits for one submitted frame and returns its planes; call it once."""
Tensors = Mapping[str, NDArray[np.float32]]
_Slot = TypeVar("_Slot")
_P = TypeVar("_P", bound=str)

ALIGNMENT = 256
"""Each tensor of a `StyleTensors` block begins at a multiple of so many bytes, as TensorRT wants it."""
_BLENDS_KEPT = 8
"""Blends whose tensors are kept: about one for each picture that is painted in turn with others."""


@dataclass(frozen=True)
class Package:
    module: str
    distributions: tuple[str, ...]
    install: str
    """The command that installs it."""

    def version(self) -> str | None:
        """The installed version, read without importing the library; None where there is none."""
        if importlib.util.find_spec(self.module) is None:
            return None
        return distribution_version(*self.distributions) or "unknown"


def distribution_version(*names: str) -> str | None:
    """Version of the first of some distributions that is installed."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


PACKAGES: dict[str, tuple[Package, ...]] = {
    "openvino": (Package("openvino", ("openvino",), "pip install openvino"),),
    "onnxruntime": (
        Package(
            "onnxruntime",
            ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
            "pip install 'vidstyle[onnxruntime]'",
        ),
    ),
    "torch": (Package("torch", ("torch",), "pip install 'vidstyle[train]'"),),
    "tensorrt": (
        Package(
            "tensorrt_rtx",
            ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
            "pip install 'vidstyle[tensorrt-rtx]'",
        ),
        Package("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "pip install 'vidstyle[tensorrt]'"),
    ),
}
"""Backend: the libraries that it runs on, the preferred one first. ``auto`` tries backends in this order; TensorRT is
the last, as it has nothing to offer without a GPU."""


@dataclass(frozen=True)
class Program:
    """The input of a backend: an architecture on frames of one form, in any style."""

    shape: Architecture
    """The network without its weights, which come with each frame."""
    form: FrameFormat
    graph: Callable[[Literal["fp32", "fp16"]], bytes]
    """Writes the ONNX graph; called by the backends that read ONNX."""
    style_tensors: Callable[[Network], Tensors]
    """The inputs of the graph that make it paint as a network does, by name; linear in the network."""
    recipe: str
    """What determines the graph, as a digest: whoever has compiled this recipe needs no graph."""
    single: Program | None = None
    """The same for one style, with constants for weights, where no other will be played. It is faster in some
    libraries; a backend takes it if it likes."""
    int8: Int8Program | None = None
    """The same for one style in 8-bit integers."""
    winograd: Callable[[], Program | None] = lambda: None
    """The same with half the multiplications, in float32; see `vidstyle.graph.onnx_from_network`. Gives None where the
    size does not allow it."""


@dataclass(frozen=True)
class Int8Program:
    """How one network is made to compute in 8-bit integers: measure the ranges, then write the graph with them."""

    style: NDArray[np.float32]
    """The network's style vector, (1, P)."""
    frames: Callable[[], Sequence[Planes]]
    """The frames on which ranges are measured."""
    graph: Callable[[Mapping[str, Any]], bytes]
    """Writes the ONNX graph for these frames from ranges; from none, the one that measures them (`vidstyle.graph`)."""
    final: Callable[[Mapping[str, Any]], bytes]
    """Writes the graph for the frames of the program."""
    recipe: str
    """What determines the network, as a digest."""


class StyleTensors:
    """The tensors of styles, as a program takes them: computed once for each network, and mixed for blends.

    Those of one style lie in one block of memory, in the order of ``shapes``. Not thread-safe.
    """

    def __init__(self, shape: Architecture, compute: Callable[[Network], Tensors]) -> None:
        self._compute = compute
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.offsets: dict[str, int] = {}
        """Where each begins in a block, in bytes."""
        size = 0
        for name, tensor in compute(Network.blank(shape)).items():
            self.shapes[name], self.offsets[name] = tensor.shape, size
            size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self.size = size
        """Bytes of a block."""
        self._networks: WeakKeyDictionary[Network, NDArray[np.float32]] = WeakKeyDictionary()
        self._blends: OrderedDict[Parts, NDArray[np.float32]] = OrderedDict()

    def block(self, style: Style) -> NDArray[np.float32]:
        """The block of ``style``: the same array as long as the style is the same. Nobody writes to it."""
        if len(style.parts) == 1:
            return self._of_network(style.parts[0][0])
        known = self._blends.get(style.parts)
        if known is not None:
            self._blends.move_to_end(style.parts)
            return known
        total, part = self._empty(), np.empty(self.size // 4, np.float32)
        for index, (network, share) in enumerate(style.parts):
            np.multiply(self._of_network(network), np.float32(share), out=part if index else total)
            if index:
                total += part
        self._blends[style.parts] = total
        if len(self._blends) > _BLENDS_KEPT:
            self._blends.popitem(last=False)
        return total

    def views(self, block: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {
            name: block[self.offsets[name] // 4 :][: math.prod(shape)].reshape(shape)
            for name, shape in self.shapes.items()
        }

    def _of_network(self, network: Network) -> NDArray[np.float32]:
        block = self._networks.get(network)
        if block is None:
            block = self._empty()
            block.fill(0)
            for view, tensor in zip(self.views(block).values(), self._compute(network).values(), strict=True):
                view[...] = tensor
            self._networks[network] = block
        return block

    def _empty(self) -> NDArray[np.float32]:
        memory = np.empty(self.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + self.size].view(np.float32)


class Backend(NotCopyable, Closing, ABC):
    """One compiled program. Use it from one thread, and close it (or use it as a context manager).

    It belongs to the process that made it: in a forked one it raises `VidstyleError`, and is never freed.
    """

    name: ClassVar[str]
    in_flight: int = 1
    """How many frames it computes at once; submit that many before waiting for the first."""
    description: str = ""
    """Library, version, precision and threads, for people."""
    one_style_is_faster: bool = False
    """Whether a program for one style alone (`Program.single`) would paint much faster than this one for all."""
    device_output: bool = False
    """Set it to leave the results of frames submitted from then on where they were computed. Backends that
    compute in main memory do so anyway; `tensorrt` then gives planes on the GPU."""

    def __init__(self, program: Program) -> None:
        self.form, self.shape = program.form, program.shape
        self.inherited = False
        """Whether another process made it, which this one was forked from."""
        _ALIVE.add(self)

    def submit(self, planes: Planes, style: Style) -> Pending:
        """Start one frame and return how to get it.

        ``planes`` are uint8 arrays of ``form.plane_shapes`` (any strides); they are read
        until the result has been taken, so leave them as they are. ``style`` is any one of the program's
        network. The resulting planes have the same shapes and belong to the caller.
        """
        if self.inherited:
            raise VidstyleError(_INHERITED)
        form = self.form
        found = tuple(plane.shape for plane in planes)
        if found != form.plane_shapes or any(plane.dtype != np.uint8 for plane in planes):
            raise BadOption(f"planes have shapes {found}; this program takes uint8 of {form.plane_shapes}")
        if style.architecture != self.shape:
            raise BadOption(
                f"style {style.name!r} is for the network {style.network_name!r}; this program runs {self.shape.name!r}"
            )
        pending = self._submit(planes, style)

        def wait() -> Planes:
            if self.inherited:
                raise VidstyleError(_INHERITED)
            return pending()

        return wait

    def run(self, planes: Planes, style: Style) -> Planes:
        """One frame, start to end; see `submit`."""
        return self.submit(planes, style)()

    @abstractmethod
    def _submit(self, planes: Planes, style: Style) -> Pending: ...

    @abstractmethod
    def close(self) -> None: ...

    def _take(self, free: deque[_Slot]) -> _Slot:
        """The next of the places for frames that is free."""
        if not free:
            raise VidstyleError(f"{self.in_flight} frames are under way; take a result before submitting another")
        return free.popleft()

    def _shaped(self, planes: Iterable[NDArray[Any]]) -> Planes:
        """``planes`` with the right number of elements in the shapes of the form."""
        return tuple(plane.reshape(shape) for plane, shape in zip(planes, self.form.plane_shapes, strict=True))


class PictureNetwork(NotCopyable, Closing, ABC):
    """A small network from one picture to one map of numbers, on one thread of the processor. For one thread.

    Its graph takes uint8 RGB of shape (1, height, width, 3) and gives float32 of shape (1, 1, height, width).
    """

    size: tuple[int, int]
    """``(height, width)`` of picture and map."""

    def __init__(self) -> None:
        self.inherited = False
        """As of a `Backend`."""
        _ALIVE.add(self)

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map (height, width) of ``picture``, uint8 RGB (height, width, 3) without gaps; the next overwrites it."""
        if self.inherited:
            raise VidstyleError(_INHERITED)
        return self._run(picture[None]).reshape(self.size)

    @abstractmethod
    def _run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]: ...


_INHERITED = "this network was compiled by the process that this one was forked from; compile one here"
_ALIVE: weakref.WeakSet[Backend | PictureNetwork] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked process: keep every program as it is, for ever.

    The libraries' threads were not forked, so whatever waits for them or frees what they work on never returns.
    """
    for backend in list(_ALIVE):
        backend.inherited = True
        leak(backend)
    _ALIVE.clear()


def leak(thing: object) -> None:
    """Never free ``thing``, not even when the process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def chosen_precision(options: BackendOptions, able: Sequence[_P], what: str) -> _P:
    """The precision that ``options`` ask for, of those that ``what`` computes in; ``auto`` is the first of these."""
    for precision in able:
        if options.precision in ("auto", precision):
            return precision
    allowed = ", ".join(able)
    raise BadOption(f"precision is {options.precision}, but {what} computes in {allowed}; use one of these, or auto")


def own_memory(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``plane``, copied unless it is without gaps and may be written to: some libraries take nothing else."""
    return np.require(plane, requirements=("C", "W"))


def first_line(error: BaseException) -> str:
    """The first line of what an inference library says; the others are places in its source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def usable_cores() -> int:
    """How many CPU cores this process may keep busy: affinity and control group quota."""
    cpu = find_cpu()
    return cpu.usable_cores if cpu.quota is None else max(1, min(cpu.usable_cores, math.ceil(cpu.quota)))
