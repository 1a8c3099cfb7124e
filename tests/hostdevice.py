"""The runner's device in host memory, and an engine that is ONNX Runtime: order, buffers and ends without a GPU.

It is stricter than a GPU: work outside of a ``current`` block, work on freed memory and anything left open fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidstyle.backends.tensorrt.device import DLPACK_CPU, Event, Graph
from vidstyle.backends.tensorrt.layout import ALIGNMENT, Layout, Port
from vidstyle.errors import VidstyleError

Work = Callable[[], None]


class HostDevice:
    """Counts what is open; `close` may be asked whether all is."""

    def __init__(self) -> None:
        self.closed = False
        self.streams: dict[int, HostStream] = {}
        self.blocks: dict[int, HostBlock] = {}
        self.open_things: set[object] = set()
        self.launches = 0
        self.copies_in = 0
        self.follows: list[int | None] = []
        self.fails: str | None = None
        """What the next work on a stream fails with."""
        self.pause: Callable[[], object] = lambda: None
        """What each run of the engine waits for; where it raises, the run fails."""
        self._depth = threading.local()
        self._numbers = itertools.count(1)

    @property
    def dlpack_device(self) -> tuple[int, int]:
        return DLPACK_CPU, 0

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        assert not self.closed, "the device has been closed"
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    def check(self) -> None:
        """Every call belongs to a thread that has the device."""
        assert getattr(self._depth, "value", 0) > 0, "the device is not this thread's"
        assert not self.closed

    def stream(self) -> HostStream:
        return HostStream(self, next(self._numbers))

    def event(self) -> HostEvent:
        return HostEvent(self)

    def memory(self, size: int) -> HostBlock:
        return HostBlock(self, size)

    host_memory = memory

    def block_at(self, pointer: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address, which must lie in one open block."""
        for block in list(self.blocks.values()):
            if block.pointer <= pointer and pointer + size <= block.pointer + block.size:
                start = pointer - block.pointer
                return block.array[start : start + size]
        raise VidstyleError("an illegal memory access was encountered")

    def close(self) -> None:
        assert not self.closed, "closed twice"
        assert not self.open_things, f"left open: {self.open_things}"
        self.closed = True


class HostBlock:
    def __init__(self, device: HostDevice, size: int) -> None:
        device.check()
        self.size = size
        self._device = device
        self._owner = np.full(size + ALIGNMENT, 0xA5, np.uint8)  # rubbish, as in new memory
        start = -self._owner.ctypes.data % ALIGNMENT
        self.array = self._owner[start : start + size]
        self.pointer = self.array.ctypes.data
        device.blocks[self.pointer] = self
        device.open_things.add(self)

    def close(self) -> None:
        self._device.check()
        self._device.blocks.pop(self.pointer, None)
        self._device.open_things.discard(self)
        self.array[:] = 0x5A  # what is read after this is seen


class HostEvent:
    def __init__(self, device: HostDevice) -> None:
        device.check()
        self._device = device
        self.reached = threading.Event()
        self.error: str | None = None
        device.open_things.add(self)

    def wait(self) -> None:
        self._device.check()
        assert self.reached.wait(20), "the event is never reached"
        if self.error:
            raise VidstyleError(f"CUDA failed: {self.error}")

    def close(self) -> None:
        self._device.check()
        self._device.open_things.discard(self)


class HostGraph:
    def __init__(self, device: HostDevice, work: list[Work]) -> None:
        self.work, self._device = work, device
        device.open_things.add(self)

    def close(self) -> None:
        self._device.check()
        self._device.open_things.discard(self)


class HostStream:
    """One thread that does one thing after the other, or a recording."""

    def __init__(self, device: HostDevice, handle: int) -> None:
        device.check()
        self.device, self._handle = device, handle
        self._pool = ThreadPoolExecutor(1, f"vidstyle-hoststream-{handle}")
        self._recording: list[Work] | None = None
        self._error: str | None = None
        device.streams[handle] = self
        device.open_things.add(self)

    @property
    def handle(self) -> int:
        return self._handle

    def queue(self, work: Work) -> None:
        self.device.check()
        if self._recording is not None:
            self._recording.append(work)
        else:
            self._pool.submit(self._do, work)

    def _do(self, work: Work) -> None:
        if self.device.fails is not None:
            self._error, self.device.fails = self.device.fails, None
        if self._error is None:
            try:
                work()
            except Exception as error:  # a run that went wrong in whatever way is no result
                self._error = str(error) or type(error).__name__

    def upload(self, target: int, source: int, size: int) -> None:
        self.queue(lambda: self._copy(target, source, size))

    download = upload

    def _copy(self, target: int, source: int, size: int) -> None:
        self.device.copies_in += 1
        self.device.block_at(target, size)[:] = self.device.block_at(source, size)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, row_bytes: int, rows: int
    ) -> None:
        def copy() -> None:
            for row in range(rows):  # the source may belong to somebody else
                self.device.block_at(target + row * target_pitch, row_bytes)
                ctypes.memmove(target + row * target_pitch, source + row * source_pitch, row_bytes)

        self.queue(copy)

    def follow(self, other: int | None) -> None:
        self.device.check()
        self.device.follows.append(other)

    def record(self, event: Event) -> None:
        self.device.check()
        assert isinstance(event, HostEvent) and self._recording is None
        event.reached.clear()

        def reach() -> None:
            event.error, self._error = self._error, None
            event.reached.set()

        self._pool.submit(reach)

    def begin_capture(self) -> None:
        self.device.check()
        assert self._recording is None
        self._recording = []

    def end_capture(self) -> HostGraph:
        self.device.check()
        work, self._recording = self._recording, None
        assert work is not None
        return HostGraph(self.device, work)

    def launch(self, graph: Graph) -> None:
        self.device.check()
        assert isinstance(graph, HostGraph)
        self.device.launches += 1
        for work in graph.work:
            self._pool.submit(self._do, work)

    def synchronize(self) -> None:
        self.device.check()
        self._pool.submit(lambda: None).result(20)
        error, self._error = self._error, None
        if error:
            raise VidstyleError(f"CUDA failed: {error}")

    def close(self) -> None:
        self.device.check()
        self._pool.shutdown()
        self.device.open_things.discard(self)


class HostEngine:
    """An ONNX graph where TensorRT's engine would be."""

    description = "ONNX Runtime in host memory"

    def __init__(self, device: HostDevice, graph: bytes, *, recordable: bool = True) -> None:
        device.check()
        self.device, self.recordable = device, recordable
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        self.session = ort.InferenceSession(graph, settings, ["CPUExecutionProvider"])
        self.kept = 0
        self.order: list[int] = []
        """Handles of the streams, as their runs ended."""
        device.open_things.add(self)

    def check(self, layout: Layout) -> None:
        ports = [*self.session.get_inputs(), *self.session.get_outputs()]
        assert {port.name for port in ports} == set(layout.ports)
        for port in ports:
            shape = layout.ports[port.name].shape
            assert all(a == b for a, b in zip(port.shape, shape, strict=True) if isinstance(a, int)), (
                f"{port.name} is {port.shape}, not {shape}"
            )

    def context(self, stream: int) -> HostContext:
        return HostContext(self, stream)

    def keep(self) -> None:
        self.kept += 1

    def close(self) -> None:
        self.device.check()
        self.device.open_things.discard(self)


class HostContext:
    def __init__(self, engine: HostEngine, stream: int) -> None:
        self._engine, self._device = engine, engine.device
        self._device.check()
        assert stream in self._device.streams
        self._ports: dict[str, tuple[Port, int]] = {}
        self._device.open_things.add(self)

    def bind(self, port: Port, address: int, *, is_input: bool) -> None:
        self._device.check()
        assert address % ALIGNMENT == 0
        assert is_input == (not port.name.endswith("_out"))
        self._ports[port.name] = port, address

    def run(self, stream: int) -> None:
        self._device.streams[stream].queue(lambda: self._run(stream))

    def _run(self, stream: int) -> None:
        self._device.pause()
        feed = {}
        for wanted in self._engine.session.get_inputs():
            port, address = self._ports[wanted.name]
            data = self._device.block_at(address, port.size)
            kind = np.float32 if wanted.type == "tensor(float)" else np.uint8
            feed[wanted.name] = data.view(kind).reshape(port.shape)
        names = [output.name for output in self._engine.session.get_outputs()]
        for name, result in zip(names, self._engine.session.run(names, feed), strict=True):
            port, address = self._ports[name]
            assert result.shape == port.shape
            self._device.block_at(address, port.size)[:] = cast(NDArray[np.uint8], result).reshape(-1)
        self._engine.order.append(stream)

    def can_be_recorded(self, stream: int) -> bool:
        return self._engine.recordable

    def close(self) -> None:
        self._device.check()
        self._device.open_things.discard(self)
