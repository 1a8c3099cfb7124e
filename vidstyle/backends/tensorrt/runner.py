"""Runs an engine: several frames in flight, each with a stream and a recorded CUDA graph of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol

from vidstyle.backends.base import Backend, Pending, Program, StyleTensors
from vidstyle.backends.tensorrt.device import Device
from vidstyle.backends.tensorrt.layout import Layout
from vidstyle.backends.tensorrt.slot import Context, DevicePool, Slot
from vidstyle.errors import VidstyleError
from vidstyle.frame import Planes
from vidstyle.models.style import Style

SLOTS = 3
"""Frames in flight: one is copied in, one is computed, one is copied out."""


class Loaded(Protocol):
    """A loaded engine; `vidstyle.backends.tensorrt.loaded.LoadedEngine` is the one that paints."""

    description: str
    """Library, version, precision and GPU, for people."""

    def check(self, layout: Layout) -> None:
        """Compare its tensors with those that will be given to it."""

    def context(self, stream: int) -> Context:
        """A new execution context."""

    def keep(self) -> None:
        """Write what was compiled to disk."""

    def close(self) -> None:
        """Free it."""


class TensorRtBackend(Backend):
    """An engine with a slot for each frame in flight.

    With ``device_output`` results are `vidstyle.backends.tensorrt.deviceplane.DevicePlane`.
    Planes may be arrays of host memory or lie on the GPU (anything with ``__dlpack__`` or
    ``__cuda_array_interface__`` that has a shape and a dtype). `close` may be called from another thread: it
    waits for the frames that are under way, and what is asked for afterwards is an error.
    """

    name = "tensorrt"

    def __init__(
        self,
        load: Callable[[], Loaded],
        device: Device,
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
        self._slots: list[Slot] = []
        with ExitStack() as last:
            layout = Layout.of(program.form, self._styles, padded=dynamic)
            self._pool = DevicePool(device, layout.output_bytes)
            last.callback(self._pool.close)
            with device.current(), ExitStack() as stack:
                loaded = load()
                stack.callback(loaded.close)
                loaded.check(layout)
                for _ in range(slots):
                    slot = Slot(device, loaded.context, layout)
                    stack.callback(slot.close)
                    self._slots.append(slot)
                loaded.keep()
                self._closing = stack.pop_all()
            last.pop_all()
        self._free = deque(self._slots)
        self.in_flight = slots
        recorded = "as CUDA graphs" if all(slot.records for slot in self._slots) else "without CUDA graphs"
        self.description = f"{loaded.description}, frames in flight: {slots}, {recorded}"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        block = self._styles.block(style)
        with self._working():
            try:
                slot = self._free.popleft()
            except IndexError:
                raise VidstyleError(
                    f"{self.in_flight} frames are under way; take a result before submitting another"
                ) from None
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
