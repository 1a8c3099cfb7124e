"""OpenVINO: the default on x86 processors; Intel graphics and NPUs by name.

Each stream computes one frame on its own cores, which costs less than sharing a frame among cores: there
is nothing to wait for between two operations.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

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
from vidstyle.backends.int8 import LEAST_PSNR, Run, measured_ranges
from vidstyle.errors import BadModel, BadOption, VidstyleError
from vidstyle.files import cache_key, read_cached, write_cached
from vidstyle.frame import Planes
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.system import find_cpu, on_x86

_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_VERSION = ov.__version__.split("-")[0]
_ISA = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
"""oneDNN's own way to hold a processor down to older instructions; it reads it once."""
_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")
_WITHOUT_BF16 = (*_WITHOUT_VNNI, "AVX2_VNNI", "AVX512_CORE_VNNI")
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
        plan = _plan(program, options)
        self._styles = StyleTensors(program.shape, plan.program.style_tensors)
        try:
            compiled = _compile(plan.graph, plan.recipe, plan.device, plan.settings)
            self._slots += [_Slot(compiled.create_infer_request()) for _ in range(plan.streams + 1)]
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
        self.description = f"OpenVINO {_VERSION} {plan.description}"
        on_cpu = plan.device == "CPU" and options.precision == "auto"
        self.one_style_is_faster = on_cpu and program.single is None and int8_pays()

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
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _TYPES[_floats()[0] if options.precision == "int8" else _precision(options)],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = _compile(lambda: graph, graph, "CPU", settings)
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
    """Compile ``program``, or take what an earlier run compiled."""
    if options.gpu is not None:
        raise BadOption(
            f"gpu is {options.gpu}, an NVIDIA GPU, which OpenVINO does not know; leave out --backend, or --gpu"
        )
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


def _floats() -> list[Literal["bf16", "fp32", "fp16"]]:
    """The floats that the processor computes in, the fastest first."""
    held = ("BF16",) if _ISA in _WITHOUT_BF16 else ()
    able = [name for name in cpu_capabilities(_core_here()) if name not in held]
    return [name for name in ("bf16", "fp32", "fp16") if name.upper() in able]


def _precision(options: BackendOptions) -> Literal["bf16", "fp32", "fp16", "int8"]:
    return chosen_precision(options, [*_floats(), "int8"], "OpenVINO on this processor")


@dataclass(frozen=True)
class _Plan:
    """What is compiled, and for what."""

    program: Program
    """The variant whose `Program.style_tensors` the graph takes."""
    graph: Callable[[], bytes]
    recipe: str
    device: str
    settings: dict[str, str | int | bool]
    streams: int
    description: str


def _plan(program: Program, options: BackendOptions) -> _Plan:
    return _plan_for_cpu(program, options) if options.device in (None, "CPU") else _plan_for_device(program, options)


def _plan_for_cpu(program: Program, options: BackendOptions) -> _Plan:
    precision = _precision(options)
    arithmetic = _floats()[0] if precision == "int8" else precision
    threads = options.threads or usable_cores()
    streams = threads if threads <= _MANY_THREADS else max(_MANY_THREADS, threads // _MANY_THREADS)
    settings: dict[str, str | int | bool] = {
        "INFERENCE_PRECISION_HINT": _TYPES[arithmetic],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # Decoder and encoder need cores too; the scheduler places all threads better than a fixed plan.
        "ENABLE_CPU_PINNING": False,
    }
    words = f"threads: {threads}, streams: {streams}"
    int8, single, ranges = program.int8, program.single, None
    if precision == "int8" or (options.precision == "auto" and int8_pays()):
        ranges = _int8_ranges(program, named=precision == "int8")
    if ranges is not None and int8 is not None and single is not None:
        words = f"int8 and {arithmetic}, {words}, one style"
        recipe = f"{single.recipe} int8 {int8.recipe}"
        return _Plan(single, lambda: int8.final(ranges), recipe, "CPU", settings, streams, words)
    half_work = program.winograd() if arithmetic == "fp32" and on_x86() else None  # on Arm the library does so itself
    used, algorithm = (program, "") if half_work is None else (half_work, " (Winograd)")
    words = f"{arithmetic}{algorithm}, {words}"
    return _Plan(used, lambda: used.graph("fp32"), used.recipe, "CPU", settings, streams, words)


def _plan_for_device(program: Program, options: BackendOptions) -> _Plan:
    """A plan for Intel graphics, an NPU, or what OpenVINO takes for the best: FP16, and the library's own streams."""
    device = str(options.device)
    seen = devices()
    if device != "AUTO" and not any(name.split(".")[0] == device for name in seen):
        named = "; ".join(f"{name} ({words})" for name, words in seen.items())
        raise BadOption(
            f"device is {device}, but OpenVINO sees {named}; use one of these, or install the driver of {device}"
        )
    settings: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "THROUGHPUT"}
    precision = "auto"
    if device != "AUTO":
        precision = chosen_precision(options, ["fp16", "fp32"], f"OpenVINO on {device}")
        settings["INFERENCE_PRECISION_HINT"] = _TYPES[precision]
    elif options.precision != "auto":
        raise BadOption(
            f"precision is {options.precision}, but device AUTO chooses it itself; name a device, or leave it out"
        )
    used = program.single or program  # constants are the library's usual case on these
    words = seen.get(device, f"of {', '.join(seen)}")
    words = f"{precision} on {device} ({words})"
    return _Plan(used, lambda: used.graph("fp32"), used.recipe, device, settings, 1, words)


def devices() -> dict[str, str]:
    """What OpenVINO can compute on here: its names, such as ``CPU`` and ``GPU.0``, and what they are in full."""
    core = _core_here()
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")).strip() for name in core.available_devices}


def int8_pays() -> bool:
    """Whether 8-bit integers are at least 1.4 times as fast as the processor's best floats.

    So they are with VNNI (benchmarks/laptop.py). Without it they win less; with AMX they have not been measured.
    """
    return _why_int8()[0]


def _why_int8() -> tuple[bool, str]:
    features = find_cpu().features
    if features.get("vnni") is None:
        return False, "the system does not say whether the processor has VNNI; --precision int8 asks for it"
    if not features["vnni"] or _ISA in _WITHOUT_VNNI:
        return False, "without VNNI it wins little"
    if features.get("amx"):
        return False, "the processor has AMX, where it has not been measured"
    return True, "the processor has VNNI"


def openvino_lines() -> list[str]:
    """What OpenVINO sees here, and in which arithmetic videos are painted; a sentence each."""
    pays, why = _why_int8()
    named = ", ".join(f"{name} ({words})" for name, words in devices().items())
    takes = "takes int8" if pays else "does not take int8"
    return [f"openvino sees {named}", f"auto {takes} for videos in one style: {why}"]


def _int8_ranges(program: Program, *, named: bool) -> Mapping[str, Any] | None:
    """What a program for one style needs for 8-bit integers; None where they would not be good enough.

    Where int8 was ``named`` that is a `BadOption`.
    """
    why = "plays videos in one style, in which these frames are not"
    if program.int8 is not None:
        try:
            ranges = measured_ranges(program.int8, _run_once)
        except RuntimeError as error:
            raise BadModel(f"OpenVINO cannot measure the network: {_reason(error)}") from error
        if ranges is not None:
            return ranges
        why = f"paints this style less than {LEAST_PSNR:g} dB from its float pictures"
    if named:
        raise BadOption(f"precision is int8, which {why}; use auto")
    return None


def _run_once(graph: bytes) -> Run:
    """Compile ``graph`` in float32 for one frame after another."""
    core = _core_here()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    planes = [port.any_name for port in request.model_inputs if port.any_name != "style"]

    def run(frame: Planes, style: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        outputs = request.infer(
            {"style": style, **{name: plane[None] for name, plane in zip(planes, frame, strict=True)}}
        )
        return {name: np.array(values) for port, values in outputs.items() for name in port.names}

    return run


def _compile(
    graph: Callable[[], bytes], recipe: bytes | str, device: str, settings: dict[str, str | int | bool]
) -> ov.CompiledModel:
    core = _core_here()
    if device == "AUTO":  # cannot be stored: it may move from one device to another
        return core.compile_model(core.read_model(graph()), device, settings)
    key = cache_key(recipe, ov.__version__, core.get_property(device, "FULL_DEVICE_NAME"), device, repr(settings), _ISA)
    stored = read_cached("openvino", key)
    if stored is not None:
        with contextlib.suppress(RuntimeError):  # another build may call itself by the same version
            return core.import_model(io.BytesIO(stored), device, settings)
    compiled = core.compile_model(core.read_model(graph()), device, settings)
    exported = compiled.export_model()
    write_cached("openvino", key, exported if isinstance(exported, bytes) else exported.getvalue())
    return compiled


def cpu_capabilities(core: ov.Core) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _reason(error: RuntimeError) -> str:
    """The last line of the library's report; the others are places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
