"""One frame in flight: its stream, its execution context, its buffers, its recorded graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vidstyle.backends.tensorrt.device import Device, Graph, Memory
from vidstyle.backends.tensorrt.deviceplane import DevicePlane, on_device
from vidstyle.backends.tensorrt.layout import Layout, Port, edge_copies
from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import Planes


class Context(Protocol):
    """An execution context of an engine; `vidstyle.backends.tensorrt.loaded.EngineContext` is the one that paints."""

    def bind(self, port: Port, address: int, *, is_input: bool) -> None:
        """Say where a tensor lies, and of an input how large it is."""

    def run(self, stream: int) -> None:
        """Queue one run."""

    def can_be_recorded(self, stream: int) -> bool:
        """Whether runs go into a graph."""

    def close(self) -> None:
        """Free it; the stream is idle."""


@dataclass(frozen=True)
class _Way:
    """Where a frame comes from and where it goes; each has its own graph."""

    from_device: bool
    to_device: bool


class Slot:
    """Runs one frame at a time. Every method belongs into a ``with device.current()`` block."""

    def __init__(self, device: Device, context_on: Callable[[int], Context], layout: Layout) -> None:
        self._device, self._layout = device, layout
        self._graphs: dict[_Way, Graph] = {}
        self._sources: tuple[object, ...] = ()
        self._result: _DeviceFrame | None = None
        self._under_way = False
        self._block: NDArray[np.float32] | None = None
        with ExitStack() as stack:
            self._stream = _closed_by(stack, device.stream())
            self._done = _closed_by(stack, device.event())
            self._host_style = _closed_by(stack, device.host_memory(layout.style_bytes))
            self._host_in = _closed_by(stack, device.host_memory(layout.input_bytes))
            self._host_out = _closed_by(stack, device.host_memory(layout.output_bytes))
            self._style = _closed_by(stack, device.memory(layout.style_bytes))
            self._inputs = _closed_by(stack, device.memory(layout.input_bytes))
            self._outputs = _closed_by(stack, device.memory(layout.output_bytes))
            # Closed before the buffers that it knows.
            self._context = _closed_by(stack, context_on(self._stream.handle))
            for style_port in layout.style:
                self._context.bind(style_port, self._style.pointer + style_port.offset, is_input=True)
            for port in layout.inputs:
                self._context.bind(port, self._inputs.pointer + port.offset, is_input=True)
            for port in layout.outputs:
                self._context.bind(port, self._outputs.pointer + port.offset, is_input=False)
            self._host_style.array.fill(0)
            self._stream.upload(self._style.pointer, self._host_style.pointer, layout.style_bytes)
            # The first run compiles kernels and takes memory, which cannot be recorded.
            self._work(_Way(False, False))
            self._stream.synchronize()
            self.records = self._context.can_be_recorded(self._stream.handle)
            """Whether frames are started as one recorded graph."""
            stack.callback(self._forget_graphs)
            if self.records:
                try:
                    self._graphs[_Way(False, False)] = self._recorded(_Way(False, False))
                except VidstyleError:
                    self.records = False  # slower, and just as right
            self._closing = stack.pop_all()

    def start(self, planes: Planes, block: NDArray[np.float32], pool: DevicePool | None) -> None:
        """Queue one frame in the style of ``block``; with a ``pool`` its result stays on the device, in memory from
        there."""
        if self._under_way:
            self._abandon()  # its wait was cut short, by Ctrl-C or an error
        inside = [on_device(plane) for plane in planes]
        if any(inside) and not all(inside):
            raise BadOption("some planes of a frame are on the GPU and some are not; put all on one side")
        way = _Way(any(inside), pool is not None)
        sources = self._checked(planes) if way.from_device else ()
        try:
            if block is not self._block:
                self._block = None  # until it is there
                self._host_style.array.view(np.float32)[:] = block
                self._stream.upload(self._style.pointer, self._host_style.pointer, self._layout.style_bytes)
                self._block = block
            if sources:
                self._gather(sources)
            else:
                self._layout.write_planes(self._host_in.array, planes)
            self._launch(way)
            if pool is not None:
                self._result = self._scatter(pool)
            self._stream.record(self._done)
        except BaseException:
            self._abandon()
            raise
        self._sources, self._under_way = sources, True

    def finish(self) -> Planes:
        """Wait for the frame and give its planes, which belong to the caller."""
        block, self._block = self._block, None  # where something failed, the style may not be there either
        self._done.wait()
        self._block = block
        self._under_way, self._sources = False, ()
        result, self._result = self._result, None
        if result is not None:
            # Not arrays, but what passes for them where the caller asked for it.
            return cast(Planes, result.planes)
        return self._layout.read_planes(self._host_out.array)

    def close(self) -> None:
        """Wait for what is under way, and free everything."""
        self._abandon()
        self._closing.close()

    def _abandon(self) -> None:
        """Wait until nothing reads or writes, whatever became of it."""
        with suppress(VidstyleError):  # a device that failed is let go of all the same
            self._stream.synchronize()
        self._under_way, self._sources, self._result, self._block = False, (), None, None

    def _launch(self, way: _Way) -> None:
        if not self.records:
            self._work(way)
            return
        if way not in self._graphs:
            self._graphs[way] = self._recorded(way)
        self._stream.launch(self._graphs[way])

    def _forget_graphs(self) -> None:
        while self._graphs:
            self._graphs.popitem()[1].close()

    def _work(self, way: _Way) -> None:
        layout = self._layout
        if not way.from_device:
            self._stream.upload(self._inputs.pointer, self._host_in.pointer, layout.input_bytes)
        self._context.run(self._stream.handle)
        if not way.to_device:
            self._stream.download(self._host_out.pointer, self._outputs.pointer, layout.output_bytes)

    def _recorded(self, way: _Way) -> Graph:
        self._stream.begin_capture()
        try:
            self._work(way)
        except BaseException:
            # The stream takes nothing else before its recording has ended.
            with suppress(VidstyleError):
                self._stream.end_capture().close()
            raise
        return self._stream.end_capture()

    def _checked(self, planes: Sequence[object]) -> tuple[DevicePlane, ...]:
        """The memory of planes on this very device."""
        sources = tuple(DevicePlane.of(plane) for plane in planes)
        for source, port in zip(sources, self._layout.inputs, strict=True):
            if source.device != self._device.dlpack_device:
                raise BadOption(
                    f"a plane is on GPU {source.device[1]}, and the engine runs on GPU {self._device.dlpack_device[1]}"
                )
            if source.shape != port.plane:
                raise BadOption(f"a plane on the GPU has the shape {source.shape}; this program takes {port.plane}")
        return sources

    def _gather(self, sources: tuple[DevicePlane, ...]) -> None:
        """Copy planes from wherever they are on the device to where the engine reads them."""
        for stream in {source.stream for source in sources}:
            self._stream.follow(stream)
        for source, port in zip(sources, self._layout.inputs, strict=True):
            target, pitch = self._inputs.pointer + port.offset, port.pitch_bytes
            self._stream.copy_rows(target, pitch, source.pointer, source.pitch_bytes, port.row_bytes, port.plane[0])
            for at, of, width, rows in edge_copies(port):
                self._stream.copy_rows(target + at, pitch, target + of, pitch, width, rows)

    def _scatter(self, pool: DevicePool) -> _DeviceFrame:
        frame = _DeviceFrame(pool, self._layout)
        for plane, port in zip(frame.planes, self._layout.outputs, strict=True):
            source, pitch = self._outputs.pointer + port.offset, port.pitch_bytes
            self._stream.copy_rows(plane.pointer, plane.pitch_bytes, source, pitch, port.row_bytes, port.plane[0])
        return frame


class DevicePool:
    """Blocks of device memory for results; what the caller has let go of is used again.

    Results may outlive the program that painted them, so the pool closes the device when the last one goes.
    """

    def __init__(self, device: Device, size: int) -> None:
        self._device, self._size = device, size
        self._free: list[Memory] = []
        self._given = 0
        self._closed = False
        # A result may be freed by the garbage collector in the middle of `take`, on the same thread.
        self._lock = threading.RLock()

    @property
    def device(self) -> tuple[int, int]:
        """Kind and number, as DLPack counts them."""
        return self._device.dlpack_device

    def take(self) -> Memory:
        """A block that nobody uses; the device is current."""
        with self._lock:
            block = self._free.pop() if self._free else self._device.memory(self._size)
            self._given += 1
            return block

    def give(self, block: Memory) -> None:
        """Take a block back, from any thread."""
        with self._lock:
            self._given -= 1
            self._free.append(block)
            if self._closed:
                self._end()

    def close(self) -> None:
        """Free what is here; what is given away is freed when it comes back, and then the device closed."""
        with self._lock:
            self._closed = True
            self._end()

    def _end(self) -> None:
        with self._device.current():
            while self._free:
                self._free.pop().close()
        if self._given == 0:
            self._device.close()


class _DeviceFrame:
    """The planes of one result, in one block that goes back when the last of them goes."""

    def __init__(self, pool: DevicePool, layout: Layout) -> None:
        holder = _Holder(pool, pool.take())
        self.planes = tuple(
            DevicePlane(holder.pointer + port.offset, port.plane, port.pitch_bytes, pool.device, holder)
            for port in layout.outputs
        )


class _Holder:
    def __init__(self, pool: DevicePool, block: Memory) -> None:
        self._pool, self._block, self.pointer = pool, block, block.pointer

    def __del__(self) -> None:
        with suppress(VidstyleError):  # nobody would hear of it
            self._pool.give(self._block)


class _Closes(Protocol):
    def close(self) -> None: ...


_C = TypeVar("_C", bound=_Closes)


def _closed_by(stack: ExitStack, thing: _C) -> _C:
    stack.callback(thing.close)
    return thing
