"""Runs an engine: several frames in flight, each with a stream, buffers and recorded CUDA graphs of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vidstyle.backends.base import Backend, Pending, Program, StyleTensors
from vidstyle.backends.tensorrt.cuda import CudaDevice, CudaGraph, CudaMemory, DevicePlane, on_device
from vidstyle.backends.tensorrt.runtime import EngineContext, Layout, LoadedEngine
from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import Planes
from vidstyle.models.style import Style

SLOTS = 3
"""Frames in flight: one is copied in, one is computed, one is copied out."""


class TensorRtBackend(Backend):
    """An engine with a slot for each frame in flight.

    With ``device_output`` results are `vidstyle.backends.tensorrt.cuda.DevicePlane`.
    Planes may be arrays of host memory or lie on the GPU (anything with ``__dlpack__`` or
    ``__cuda_array_interface__`` that has a shape and a dtype). `close` may be called from another thread: it
    waits for the frames that are under way, and what is asked for afterwards is an error.
    """

    name = "tensorrt"

    def __init__(
        self,
        load: Callable[[], LoadedEngine],
        device: CudaDevice,
        program: Program,
        *,
        dynamic: bool = False,
        slots: int = SLOTS,
    ) -> None:
        """``load`` loads the engine, with ``device`` current. The device is closed with it, or if this fails."""
        super().__init__(program)
        self._styles = StyleTensors(program.shape, program.style_tensors)
        self._device = device
        self._changed = threading.Condition()
        self._at_work = 0
        self._closed = False
        with ExitStack() as last:
            layout = Layout.of(program.form, self._styles, padded=dynamic)
            self._pool = last.enter_context(closing(DevicePool(device, layout.output_bytes)))
            with device.current(), ExitStack() as stack:
                loaded = stack.enter_context(closing(load()))
                loaded.check(layout)
                opened = [stack.enter_context(closing(Slot(device, loaded.context, layout))) for _ in range(slots)]
                loaded.save_kernels()
                self._closing = stack.pop_all()
            last.pop_all()
        self._free = deque(opened)
        self.in_flight = slots
        recorded = "as CUDA graphs" if all(slot.records for slot in opened) else "without CUDA graphs"
        self.description = f"{loaded.description}, frames in flight: {slots}, {recorded}"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        block = self._styles.block(style)
        with self._working():
            slot = self._take(self._free)
            try:
                slot.start(planes, block, self._pool if self.device_output else None)
            except BaseException:
                self._free.append(slot)
                raise
        waiting = [slot]

        def wait() -> Planes:
            with self._working():
                if not waiting:
                    raise VidstyleError("this frame's result has been taken already")
                slot = waiting.pop()
                try:
                    return slot.finish()
                except VidstyleError as error:
                    raise VidstyleError(f"TensorRT failed on a frame: {error}") from error
                finally:
                    self._free.append(slot)

        return wait

    @contextmanager
    def _working(self) -> Iterator[None]:
        """The GPU is this thread's, and `close` waits for the end of the block."""
        with self._changed:
            if self._closed:
                raise VidstyleError("this program has been closed; open it again to paint")
            self._at_work += 1
        try:
            with self._device.current():
                yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.wait_for(lambda: self._at_work == 0)
        try:
            with self._device.current():
                self._closing.close()
        finally:
            self._pool.close()

    def __del__(self) -> None:
        # Half made, it has closed itself.
        if hasattr(self, "_closing"):
            with suppress(VidstyleError):
                self.close()


class _Route(NamedTuple):
    """Where a frame comes from and where it goes; each has its own graph."""

    from_device: bool
    to_device: bool


class Slot:
    """Runs one frame at a time. Every method belongs into a ``with device.current()`` block."""

    def __init__(self, device: CudaDevice, context_on: Callable[[int], EngineContext], layout: Layout) -> None:
        self._device, self._layout = device, layout
        self._graphs: dict[_Route, CudaGraph] = {}
        self._sources: tuple[object, ...] = ()
        self._result: tuple[DevicePlane, ...] | None = None
        self._under_way = False
        self._block: NDArray[np.float32] | None = None
        with ExitStack() as stack:
            self._stream = stack.enter_context(closing(device.stream()))
            self._done = stack.enter_context(closing(device.event()))
            sizes = layout.style_bytes, layout.input_bytes, layout.output_bytes
            self._host_style, self._host_in, self._host_out = (
                stack.enter_context(closing(device.host_memory(size))) for size in sizes
            )
            self._style, self._inputs, self._outputs = (
                stack.enter_context(closing(device.memory(size))) for size in sizes
            )
            # Closed before the buffers that it knows.
            self._context = stack.enter_context(closing(context_on(self._stream.handle)))
            for ports, memory in ((layout.style, self._style), (layout.inputs, self._inputs)):
                for port in ports:
                    self._context.bind(port, memory.pointer + port.offset, is_input=True)
            for port in layout.outputs:
                self._context.bind(port, self._outputs.pointer + port.offset, is_input=False)
            self._host_style.array.fill(0)
            self._stream.upload(self._style.pointer, self._host_style.pointer, layout.style_bytes)
            # The first run compiles kernels and takes memory, which cannot be recorded.
            self._work(_Route(False, False))
            self._stream.synchronize()
            self.records = self._context.can_be_recorded(self._stream.handle)
            """Whether frames are started as one recorded graph."""
            stack.callback(self._forget_graphs)
            if self.records:
                try:
                    self._graphs[_Route(False, False)] = self._recorded(_Route(False, False))
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
        route = _Route(any(inside), pool is not None)
        sources = self._checked(planes) if route.from_device else ()
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
            self._launch(route)
            if pool is not None:
                self._result = self._scatter(pool)
            self._stream.record(self._done)
        except BaseException:
            self._abandon()
            raise
        self._sources, self._under_way = sources, True

    def finish(self) -> Planes:
        """Wait for the frame and return its planes, which belong to the caller."""
        block, self._block = self._block, None  # where something failed, the style may not be there either
        self._done.wait()
        self._block = block
        self._under_way, self._sources = False, ()
        result, self._result = self._result, None
        if result is not None:
            # Not arrays, but what passes for them where the caller asked for it.
            return cast(Planes, result)
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

    def _launch(self, route: _Route) -> None:
        if not self.records:
            self._work(route)
            return
        if route not in self._graphs:
            self._graphs[route] = self._recorded(route)
        self._stream.launch(self._graphs[route])

    def _forget_graphs(self) -> None:
        while self._graphs:
            self._graphs.popitem()[1].close()

    def _work(self, route: _Route) -> None:
        layout = self._layout
        if not route.from_device:
            self._stream.upload(self._inputs.pointer, self._host_in.pointer, layout.input_bytes)
        self._context.run(self._stream.handle)
        if not route.to_device:
            self._stream.download(self._host_out.pointer, self._outputs.pointer, layout.output_bytes)

    def _recorded(self, route: _Route) -> CudaGraph:
        self._stream.begin_capture()
        try:
            self._work(route)
        except BaseException:
            # The stream takes nothing else before its recording has ended.
            with suppress(VidstyleError):
                self._stream.end_capture().close()
            raise
        return self._stream.end_capture()

    def _checked(self, planes: Sequence[object]) -> tuple[DevicePlane, ...]:
        """The memory of planes on this very device."""
        sources, here = tuple(DevicePlane.of(plane) for plane in planes), self._device.dlpack_device
        for source, port in zip(sources, self._layout.inputs, strict=True):
            if source.device != here:
                raise BadOption(f"a plane is on GPU {source.device[1]}, and the engine runs on GPU {here[1]}")
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
            for at, of, width, rows in port.edge_copies():
                self._stream.copy_rows(target + at, pitch, target + of, pitch, width, rows)

    def _scatter(self, pool: DevicePool) -> tuple[DevicePlane, ...]:
        """Copy the result into a block of the pool, which goes back when the last of its planes goes."""
        holder = _Holder(pool)
        planes = []
        for port in self._layout.outputs:
            place, pitch = holder.block.pointer + port.offset, port.pitch_bytes
            self._stream.copy_rows(
                place, pitch, self._outputs.pointer + port.offset, pitch, port.row_bytes, port.plane[0]
            )
            planes.append(DevicePlane(place, port.plane, pitch, self._device.dlpack_device, holder))
        return tuple(planes)


class DevicePool:
    """Blocks of device memory for results; what the caller has let go of is used again.

    Results may outlive the program that painted them, so the pool closes the device when the last one goes.
    """

    def __init__(self, device: CudaDevice, size: int) -> None:
        self._device, self._size = device, size
        self._free: list[CudaMemory] = []
        self._given = 0
        self._closed = False
        # A result may be freed by the garbage collector in the middle of `take`, on the same thread.
        self._lock = threading.RLock()

    def take(self) -> CudaMemory:
        """A block that nobody uses; the device is current."""
        with self._lock:
            block = self._free.pop() if self._free else self._device.memory(self._size)
            self._given += 1
            return block

    def give(self, block: CudaMemory) -> None:
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


class _Holder:
    """A block of a pool, which goes back with it."""

    def __init__(self, pool: DevicePool) -> None:
        self._pool, self.block = pool, pool.take()

    def __del__(self) -> None:
        with suppress(VidstyleError):  # nobody would hear of it
            self._pool.give(self.block)
