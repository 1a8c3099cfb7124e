"""The contract between the product and an inference library."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption
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


class Backend(ABC):
    """One compiled program. Use it from one thread, and close it (or use it as a context manager)."""

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

    def submit(self, planes: Planes, style: NDArray[np.float32]) -> Pending:
        """Start one frame and return how to get it.

        ``planes`` are uint8 arrays of ``form.plane_shapes`` (any strides); they are read
        until the result has been taken, so leave them as they are. ``style`` is float32 of shape
        (style_size,). The resulting planes have the same shapes and belong to the caller.
        """
        form = self.form
        found = tuple(plane.shape for plane in planes)
        if found != form.plane_shapes or any(plane.dtype != np.uint8 for plane in planes):
            raise BadOption(f"planes have shapes {found}; this program takes uint8 of {form.plane_shapes}")
        if style.shape != (self.style_size,):
            raise BadOption(f"style vector has shape {style.shape}; network takes ({self.style_size},)")
        return self._submit(planes, style)

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


def usable_cores() -> int:
    """How many CPU cores this process may keep busy: affinity and control group quota."""
    cpu = find_cpu()
    return cpu.usable_cores if cpu.quota is None else max(1, min(cpu.usable_cores, math.ceil(cpu.quota)))
