"""`CudaDevice` in host memory, and an engine that is ONNX Runtime: order, buffers and ends without a GPU.

It is stricter than a GPU: work outside of a ``current`` block, work on freed memory and anything left open fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidstyle.backends.base import ALIGNMENT
from vidstyle.backends.tensorrt.cuda import DLPACK_CPU
from vidstyle.backends.tensorrt.executor import TensorRtBackend
from vidstyle.backends.tensorrt.runtime import Layout, Port
from vidstyle.errors import VidstyleError
from vidstyle.frame import FrameFormat
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import FAST
from vidstyle.stylizer import network_program

Work = Callable[[], object]


class HostDevice:
    """Counts what is open; `close` fails where something is."""

    dlpack_device = DLPACK_CPU, 0

    def __init__(self) -> None:
        self.closed = False
        self.streams: dict[int, HostStream] = {}
        self.blocks: dict[int, HostBlock] = {}
        self.open_things: set[Thing] = set()
        self.launches = 0
        self.copies_in = 0
        self.follows: list[int | None] = []
        self.fails: str | None = None
        """What the next work on a stream fails with."""
        self.refuses = ""
        """Name of a method of `HostStream` or `HostContext` that fails when it is called."""
        self.pause: Work = lambda: None
        """What each run of the engine waits for; where it raises, the run fails."""
        self.numbers = itertools.count(1)
        self._depth = threading.local()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        assert not self.closed, "the device has been closed"
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    def check(self, method: str = "") -> None:
        """Every call belongs to a thread that has the device."""
        assert getattr(self._depth, "value", 0) > 0, "the device is not this thread's"
        assert not self.closed
        if method and method == self.refuses:
            raise VidstyleError(f"CUDA failed: {method} is refused")

    def stream(self) -> HostStream:
        return HostStream(self)

    def event(self) -> HostEvent:
        return HostEvent(self)

    def memory(self, size: int) -> HostBlock:
        return HostBlock(self, size)

    host_memory = memory

    def block_at(self, pointer: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address, which must lie in one open block."""
        for block in list(self.blocks.values()):
            if block.pointer <= pointer and pointer + size <= block.pointer + block.array.size:
                return block.array[pointer - block.pointer :][:size]
        raise VidstyleError("an illegal memory access was encountered")

    def settle(self) -> None:
        """Wait until no stream has work."""
        for stream in self.streams.values():
            stream.pool.submit(lambda: None).result(20)

    def close(self) -> None:
        assert not self.closed, "closed twice"
        assert not self.open_things, f"left open: {self.open_things}"
        self.closed = True


def backend_on(
    device: HostDevice, form: FrameFormat, *, recordable: bool = True, **more: Any
) -> tuple[TensorRtBackend, list[HostEngine]]:
    """A backend whose GPU is ``device``, and the engine that it loads."""
    engines: list[HostEngine] = []

    def load() -> HostEngine:
        graph = onnx_from_network(FAST, form, dynamic=more.get("dynamic", False)).SerializeToString()
        engines.append(HostEngine(device, graph, recordable=recordable))
        return engines[0]

    return TensorRtBackend(cast(Any, load), cast(Any, device), network_program(FAST, form), **more), engines


class Thing:
    """What has to be closed before its device."""

    def __init__(self, device: HostDevice) -> None:
        device.check()
        self.device = device
        device.open_things.add(self)

    def close(self) -> None:
        self.device.check()
        self.device.open_things.discard(self)


class HostBlock(Thing):
    def __init__(self, device: HostDevice, size: int) -> None:
        super().__init__(device)
        self._owner = np.full(size + ALIGNMENT, 0xA5, np.uint8)  # rubbish, as in new memory
        self.array = self._owner[-self._owner.ctypes.data % ALIGNMENT :][:size]
        self.pointer = self.array.ctypes.data
        device.blocks[self.pointer] = self

    def close(self) -> None:
        super().close()
        self.device.blocks.pop(self.pointer, None)
        self.array[:] = 0x5A  # what is read after this is seen


class HostEvent(Thing):
    def __init__(self, device: HostDevice) -> None:
        super().__init__(device)
        self.reached = threading.Event()
        self.recorded = False
        self.error: str | None = None
        self.on_wait: Work = lambda: None

    def wait(self) -> None:
        self.device.check()
        self.on_wait()
        assert self.reached.wait(20), "the event is never reached"
        if self.error:
            raise VidstyleError(f"CUDA failed: {self.error}")


class HostGraph(Thing):
    def __init__(self, device: HostDevice, work: list[Work]) -> None:
        super().__init__(device)
        self.work = work


class HostStream(Thing):
    """One thread that does one thing after the other, or a recording."""

    def __init__(self, device: HostDevice) -> None:
        super().__init__(device)
        self.handle = next(device.numbers)
        self.pool = ThreadPoolExecutor(1, f"vidstyle-hoststream-{self.handle}")
        self._recording: list[Work] | None = None
        self._error: str | None = None
        device.streams[self.handle] = self

    def queue(self, work: Work) -> None:
        self.device.check()
        if self._recording is not None:
            self._recording.append(work)
        else:
            self.pool.submit(self._do, work)

    def _do(self, work: Work) -> None:
        if self.device.fails is not None:
            self._error, self.device.fails = self.device.fails, None
        if self._error is None:
            try:
                work()
            except Exception as error:  # a run that went wrong in whatever way is no result
                self._error = str(error) or type(error).__name__

    def upload(self, target: int, source: int, size: int) -> None:
        def copy() -> None:
            self.device.copies_in += 1
            self.device.block_at(target, size)[:] = self.device.block_at(source, size)

        self.queue(copy)

    download = upload

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

    def record(self, event: HostEvent) -> None:
        self.device.check()
        assert self._recording is None
        event.recorded = True
        event.reached.clear()

        def reach() -> None:
            event.error, self._error = self._error, None
            event.reached.set()

        self.pool.submit(reach)

    def begin_capture(self) -> None:
        self.device.check()
        assert self._recording is None
        self._recording = []

    def end_capture(self) -> HostGraph:
        work, self._recording = self._recording, None
        self.device.check("end_capture")
        assert work is not None
        return HostGraph(self.device, work)

    def launch(self, graph: HostGraph) -> None:
        self.device.check("launch")
        self.device.launches += 1
        for work in graph.work:
            self.pool.submit(self._do, work)

    def synchronize(self) -> None:
        self.device.check()
        self.pool.submit(lambda: None).result(20)
        error, self._error = self._error, None
        if error:
            raise VidstyleError(f"CUDA failed: {error}")

    def close(self) -> None:
        super().close()
        self.pool.shutdown()


class HostEngine(Thing):
    """An ONNX graph where TensorRT's engine would be."""

    description = "ONNX Runtime in host memory"

    def __init__(self, device: HostDevice, graph: bytes, *, recordable: bool = True) -> None:
        super().__init__(device)
        self.recordable = recordable
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        self.session = ort.InferenceSession(graph, settings, ["CPUExecutionProvider"])
        self.kept = 0
        self.order: list[int] = []
        """Handles of the streams, as their runs ended."""

    def check(self, layout: Layout) -> None:
        ports = [*self.session.get_inputs(), *self.session.get_outputs()]
        assert {port.name for port in ports} == set(layout.ports)
        for port in ports:
            sides = zip(port.shape, layout.ports[port.name].shape, strict=True)
            assert all(a == b for a, b in sides if isinstance(a, int)), port

    def context(self, stream: int) -> HostContext:
        return HostContext(self, stream)

    def save_kernels(self) -> None:
        self.kept += 1


class HostContext(Thing):
    def __init__(self, engine: HostEngine, stream: int) -> None:
        super().__init__(engine.device)
        assert stream in self.device.streams
        self._engine = engine
        self._ports: dict[str, tuple[Port, int]] = {}

    def bind(self, port: Port, address: int, *, is_input: bool) -> None:
        self.device.check("bind" if len(self.device.streams) > 1 else "")
        assert address % ALIGNMENT == 0
        assert is_input == (not port.name.endswith("_out"))
        self._ports[port.name] = port, address

    def run(self, stream: int) -> None:
        self.device.streams[stream].queue(lambda: self._run(stream))

    def _run(self, stream: int) -> None:
        self.device.pause()
        feed: dict[str, Any] = {}
        for wanted in self._engine.session.get_inputs():
            port, address = self._ports[wanted.name]
            kind = np.float32 if wanted.type == "tensor(float)" else np.uint8
            feed[wanted.name] = self.device.block_at(address, port.size).view(kind).reshape(port.shape)
        names = [output.name for output in self._engine.session.get_outputs()]
        for name, result in zip(names, self._engine.session.run(names, feed), strict=True):
            port, address = self._ports[name]
            assert result.shape == port.shape
            self.device.block_at(address, port.size)[:] = result.reshape(-1)
        self._engine.order.append(stream)

    def can_be_recorded(self, stream: int) -> bool:
        return self._engine.recordable
