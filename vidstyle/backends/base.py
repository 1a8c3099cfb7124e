"""The contract between the product and an inference library."""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption, NotCopyable, VidstyleError
from vidstyle.frame import FrameForm, Planes
from vidstyle.machine import find_cpu
from vidstyle.networks import Network

Pending = Callable[[], Planes]
"""Waits for one submitted frame and returns its planes; call it once."""


@dataclass(frozen=True)
class Program:
    """What a backend runs: a network on frames of one form."""

    network: Network
    """The weights; the style vector comes with each frame."""
    form: FrameForm
    """Form of the frames in and out."""
    graph: Callable[[Literal["fp32", "fp16"]], bytes]
    """Writes the ONNX graph of ``network`` for ``form``; called by the backends that read ONNX."""


class Backend(NotCopyable, ABC):
    """One compiled program. Use it from one thread, and close it (or use it as a context manager).

    It belongs to the process that made it: in a forked one it raises `VidstyleError`, and is never freed.
    """

    name: ClassVar[str]
    """As on the command line."""
    in_flight: int = 1
    """How many frames it computes at once; submit that many before waiting for the first."""
    description: str = ""
    """Library, version, precision and threads, for people."""
    device_output: bool = False
    """Set it to leave the results of frames submitted from then on where they were computed. Backends that
    compute in main memory do so anyway; `tensorrt` then gives planes on the GPU."""

    def __init__(self, form: FrameForm, style_size: int) -> None:
        self.form = form
        """Form of the frames in and out."""
        self.style_size = style_size
        """Length of a style vector."""
        self.inherited = False
        """Whether another process made it, which this one was forked from."""
        _ALIVE.add(self)

    def submit(self, planes: Planes, style: NDArray[np.float32]) -> Pending:
        """Start one frame and return how to get it.

        ``planes`` are uint8 arrays of ``form.plane_shapes`` (any strides); they are read
        until the result has been taken, so leave them as they are. ``style`` is float32 of shape
        (style_size,). The resulting planes have the same shapes and belong to the caller.
        """
        if self.inherited:
            raise VidstyleError(_INHERITED)
        form = self.form
        found = tuple(plane.shape for plane in planes)
        if found != form.plane_shapes or any(plane.dtype != np.uint8 for plane in planes):
            raise BadOption(f"planes have shapes {found}; this program takes uint8 of {form.plane_shapes}")
        if style.shape != (self.style_size,):
            raise BadOption(f"style vector has shape {style.shape}; network takes ({self.style_size},)")
        pending = self._submit(planes, style)

        def wait() -> Planes:
            if self.inherited:
                raise VidstyleError(_INHERITED)
            return pending()

        return wait

    def run(self, planes: Planes, style: NDArray[np.float32]) -> Planes:
        """One frame, start to end; see `submit`."""
        return self.submit(planes, style)()

    @abstractmethod
    def _submit(self, planes: Planes, style: NDArray[np.float32]) -> Pending: ...

    @abstractmethod
    def close(self) -> None:
        """Free what the program holds. Closing twice is fine."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_INHERITED = "this network was compiled by the process that this one was forked from; compile one here"
_ALIVE: weakref.WeakSet[Backend] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked process: keep every program as it is, for ever.

    The libraries' threads were not forked, so whatever waits for them or frees what they work on never returns.
    """
    for backend in list(_ALIVE):
        backend.inherited = True
        keep_for_ever(backend)
    _ALIVE.clear()


def keep_for_ever(thing: object) -> None:
    """Never free ``thing``, not even when the process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def own_memory(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``plane``, copied unless it is without gaps and may be written to: some libraries take nothing else."""
    return np.require(plane, requirements=("C", "W"))


def usable_cores() -> int:
    """How many CPU cores this process may keep busy: affinity and control group quota."""
    cpu = find_cpu()
    return cpu.usable_cores if cpu.quota is None else max(1, min(cpu.usable_cores, math.ceil(cpu.quota)))
