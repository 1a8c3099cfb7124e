"""OpenVINO: the default on x86 processors, in bf16 where they compute in it.

Each stream computes one frame on its own cores, which costs less than sharing a frame among cores: there
is nothing to wait for between two operations.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from vidstyle.backends.base import (
    Backend,
    Pending,
    PictureNetwork,
    Program,
    StyleTensors,
    chosen_precision,
    leak,
    own_memory,
    usable_cores,
)
from vidstyle.errors import BadModel, BadOption, VidstyleError
from vidstyle.files import cache_key, read_cached, write_cached
from vidstyle.frame import Planes
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.system import on_x86

_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_MANY_THREADS = 4
"""With more threads than this, streams have several, for the sake of memory and latency."""


@dataclass
class _Slot:
    """A request and the arrays that it reads and writes; the library holds no reference to them."""

    request: ov.InferRequest
    style: NDArray[np.float32] | None = None
    """The block of the style that the request reads."""
    inputs: list[NDArray[np.uint8]] = field(default_factory=list)
    outputs: list[NDArray[np.uint8]] = field(default_factory=list)


class OpenVinoBackend(Backend):
    """A compiled model with a request for each stream, and one more that is ready when a stream ends."""

    name = "openvino"

    def __init__(self, program: Program, options: BackendOptions) -> None:
        super().__init__(program)
        self._slots: list[_Slot] = []
        self._free: deque[_Slot] = deque()
        core = _core_here()
        precision = _precision(core, options)
        half_work = program.winograd if precision == "fp32" and on_x86() else None  # Arm's kernels do so themselves
        program = half_work or program
        self._styles = StyleTensors(program.shape, program.style_tensors)
        threads = options.threads or usable_cores()
        streams = threads if threads <= _MANY_THREADS else max(_MANY_THREADS, threads // _MANY_THREADS)
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Decoder and encoder need cores too; the scheduler places all threads better than a fixed plan.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = _compile(core, program.graph("fp32"), settings)
            self._slots += [_Slot(compiled.create_infer_request()) for _ in range(streams + 1)]
        except RuntimeError as error:
            raise BadModel(f"OpenVINO cannot compile the graph: {_reason(error)}") from error
        names = [port.any_name for port in compiled.inputs]
        self._style_ports = {name: names.index(name) for name in self._styles.shapes}
        self._plane_ports = {
            index: tuple(port.shape)
            for index, port in enumerate(compiled.inputs)
            if names[index] not in self._style_ports
        }
        self._free.extend(self._slots)
        self.in_flight = len(self._slots)
        version = ov.__version__.split("-")[0]
        algorithm = "" if half_work is None else " (Winograd)"
        self.description = f"OpenVINO {version} {precision}{algorithm}, threads: {threads}, streams: {streams}"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        slot = self._take(self._free)
        request = slot.request
        shapes = self._plane_ports.values()
        slot.inputs = [own_memory(plane).reshape(shape) for plane, shape in zip(planes, shapes, strict=True)]
        slot.outputs = [np.empty(shape, np.uint8) for shape in shapes]
        try:
            self._set_style(slot, style)
            for index, array in zip(self._plane_ports, slot.inputs, strict=True):
                request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
            for index, output in enumerate(slot.outputs):
                request.set_output_tensor(index, ov.Tensor(output, shared_memory=True))
            request.start_async()
        except RuntimeError as error:
            self._free.append(slot)
            raise VidstyleError(f"OpenVINO cannot start a frame: {_reason(error)}") from error

        def wait() -> Planes:
            try:
                request.wait()
            except RuntimeError as error:
                raise VidstyleError(f"OpenVINO failed on a frame: {_reason(error)}") from error
            outputs = self._shaped(slot.outputs)
            self._free.append(slot)
            return outputs

        return wait

    def _set_style(self, slot: _Slot, style: Style) -> None:
        """Have the request read the tensors of ``style``, if those of another one were set."""
        block = self._styles.block(style)
        if slot.style is block:
            return
        for name, tensor in self._styles.views(block).items():
            slot.request.set_input_tensor(self._style_ports[name], ov.Tensor(tensor, shared_memory=True))
        slot.style = block

    def close(self) -> None:
        global _threads_idle
        if self.inherited:
            return
        _threads_idle = _threads_idle or bool(self._slots)
        # Frames that nobody waited for still read and write their arrays. And the library corrupts the
        # heap when a request is freed while others run, so all end before the first goes.
        for slot in self._slots:
            with contextlib.suppress(RuntimeError):
                slot.request.wait()
        self._slots.clear()
        self._free.clear()

    def __del__(self) -> None:
        self.close()


# The library keeps the threads of a program that is freed for the next one. Forked, it would wait for them for ever.
_threads_idle = _threads_lost = False


def _lose_idle_threads() -> None:
    global _threads_lost
    _threads_lost = _threads_idle
    if _core.cache_info().currsize:
        leak(_core())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lose_idle_threads)


class OpenVinoPictureNetwork(PictureNetwork):
    """A compiled model with one request, on one thread."""

    def __init__(self, graph: bytes, options: BackendOptions) -> None:
        super().__init__()
        core = _core_here()
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _TYPES[_precision(core, options)],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = _compile(core, graph, settings)
            self._request: ov.InferRequest | None = compiled.create_infer_request()
        except RuntimeError as error:
            raise BadModel(f"OpenVINO cannot compile the graph: {_reason(error)}") from error
        _, height, width, _ = compiled.inputs[0].shape
        self.size = height, width

    def _run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._request is None:
            raise VidstyleError("this network is closed")
        try:
            self._request.infer([picture], share_inputs=True)
        except RuntimeError as error:
            raise VidstyleError(f"OpenVINO failed on a picture: {_reason(error)}") from error
        return np.asarray(self._request.get_output_tensor(0).data, np.float32)

    def close(self) -> None:
        global _threads_idle
        if not self.inherited:
            _threads_idle = _threads_idle or self._request is not None
            self._request = None

    def __del__(self) -> None:
        self.close()


def open_picture_network(graph: bytes, options: BackendOptions) -> PictureNetwork:
    """Compile ``graph`` for one thread, or take what an earlier run compiled."""
    return OpenVinoPictureNetwork(graph, options)


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program`` for the CPU, or take what an earlier run compiled."""
    if options.gpu is not None:
        raise BadOption(f"gpu is {options.gpu}, and OpenVINO paints on the CPU here; leave out --backend, or --gpu")
    return OpenVinoBackend(program, options)


@cache
def _core() -> ov.Core:
    """The library, opened once.

    Where the processor has AMX, opening it gives the thread another stack for signals, and closing it
    frees that stack; of two that are closed in the order in which they were opened the second puts the
    first one's stack back, and the next Ctrl-C is a crash (OpenVINO 2026.4).
    """
    return ov.Core()


def _core_here() -> ov.Core:
    if _threads_lost:
        raise VidstyleError(
            "OpenVINO has painted in the process that this one was forked from, and cannot here; begin processes "
            "with multiprocessing.get_context('spawn'), or fork before anything is painted"
        )
    return _core()


def _precision(core: ov.Core, options: BackendOptions) -> str:
    able = [name for name in ("bf16", "fp32", "fp16") if name.upper() in cpu_capabilities(core)]
    return chosen_precision(options, able, "OpenVINO on this processor")


def _compile(core: ov.Core, graph: bytes, settings: dict[str, str | int | bool]) -> ov.CompiledModel:
    key = cache_key(graph, ov.__version__, core.get_property("CPU", "FULL_DEVICE_NAME"), repr(settings))
    stored = read_cached("openvino", key)
    if stored is not None:
        with contextlib.suppress(RuntimeError):  # another build may call itself by the same version
            return core.import_model(io.BytesIO(stored), "CPU", settings)
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    exported = compiled.export_model()
    write_cached("openvino", key, exported if isinstance(exported, bytes) else exported.getvalue())
    return compiled


def cpu_capabilities(core: ov.Core) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _reason(error: RuntimeError) -> str:
    """The last line of the library's report; the others are places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
