"""What the runner needs of a device, so that its order and its arithmetic can be tried in host memory too.

`vidstyle.backends.tensorrt.cuda` is the one that paints. Everything here works on addresses; nothing is
checked twice.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DLPACK_CPU = 1
DLPACK_CUDA = 2


class Memory(Protocol):
    """A block of device memory, aligned to 256 bytes at least."""

    @property
    def pointer(self) -> int:
        """Address of its first byte."""

    def close(self) -> None:
        """Free it. Closing twice is fine."""


class HostMemory(Memory, Protocol):
    """A block of host memory that the device reads and writes by itself."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """Its bytes; not valid after `close`."""


class Event(Protocol):
    """A moment in a stream."""

    def wait(self) -> None:
        """Sleep until the device has reached it; other Python threads go on."""

    def close(self) -> None:
        """Free it."""


class Graph(Protocol):
    """Work recorded once, started with one call."""

    def close(self) -> None:
        """Free it."""


class Stream(Protocol):
    """A queue of work, done in order; two streams are independent of each other."""

    @property
    def handle(self) -> int:
        """As TensorRT takes it."""

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy bytes from host to device."""

    def download(self, target: int, source: int, size: int) -> None:
        """Copy bytes from device to host."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, row_bytes: int, rows: int
    ) -> None:
        """Copy rows within the device."""

    def follow(self, other: int | None) -> None:
        """Let what comes wait for what stream ``other`` holds by now; None is the default stream."""

    def record(self, event: Event) -> None:
        """Put ``event`` behind what has been queued."""

    def begin_capture(self) -> None:
        """From here on this thread's work is recorded, not done."""

    def end_capture(self) -> Graph:
        """What was recorded."""

    def launch(self, graph: Graph) -> None:
        """Queue what was recorded."""

    def synchronize(self) -> None:
        """Wait for everything that is queued."""

    def close(self) -> None:
        """Free it."""


class Device(Protocol):
    """A GPU, opened."""

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """Kind and number, as DLPack counts them."""

    def current(self) -> AbstractContextManager[None]:
        """The device is this thread's within the block; every other call belongs in one."""

    def stream(self) -> Stream:
        """A new stream."""

    def event(self) -> Event:
        """A new event."""

    def memory(self, size: int) -> Memory:
        """New device memory."""

    def host_memory(self, size: int) -> HostMemory:
        """New host memory, zeroed."""

    def close(self) -> None:
        """Let go of the device; what was made from it is closed before."""
