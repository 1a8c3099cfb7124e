"""OpenVINO: the default on x86 processors, in bf16 where they compute in it."""

from __future__ import annotations

from collections import deque

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from vidstyle.backends.base import Backend, Pending, Program, usable_cores
from vidstyle.errors import BadModel, BadOption, VidstyleError
from vidstyle.frame import Planes
from vidstyle.home import cache_folder
from vidstyle.options import BackendOptions

_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoBackend(Backend):
    """A compiled model with as many requests as it runs streams, and one more that waits its turn."""

    name = "openvino"

    def __init__(self, program: Program, options: BackendOptions) -> None:
        super().__init__(program)
        core = ov.Core()
        precision = _precision(core, options)
        threads = options.threads or usable_cores()
        config = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads if threads <= 4 else max(1, threads // 4),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "CACHE_DIR": str(cache_folder("openvino")),
        }
        try:
            compiled = core.compile_model(core.read_model(program.graph("fp32")), "CPU", config)
            streams = int(compiled.get_property("NUM_STREAMS"))
            self.in_flight = streams + 1
            self._free = deque(compiled.create_infer_request() for _ in range(self.in_flight))
        except RuntimeError as error:
            raise BadModel(f"OpenVINO cannot compile the graph: {_last_line(error)}") from error
        self._output_shapes = [tuple(output.shape) for output in compiled.outputs]
        self.description = (
            f"OpenVINO {ov.__version__.split('-')[0]} {precision}, {threads} threads in {streams} streams"
        )

    def _submit(self, planes: Planes, style: NDArray[np.float32]) -> Pending:
        if not self._free:
            raise VidstyleError(f"more than {self.in_flight} frames were submitted at once; take a result first")
        request = self._free.popleft()
        inputs = [np.ascontiguousarray(style, np.float32)[None]]
        inputs += [np.ascontiguousarray(plane) for plane in planes]
        results = tuple(np.empty(shape, np.uint8) for shape in self._output_shapes)
        try:
            for index, array in enumerate(inputs):
                port = request.model_inputs[index]
                tensor = ov.Tensor(array.reshape(tuple(port.shape)), shared_memory=True)
                request.set_input_tensor(index, tensor)
            for index, array in enumerate(results):
                request.set_output_tensor(index, ov.Tensor(array, shared_memory=True))
            request.start_async()
        except RuntimeError as error:
            raise VidstyleError(f"OpenVINO cannot run the frame: {_last_line(error)}") from error

        def wait() -> Planes:
            try:
                request.wait()
            except RuntimeError as error:
                raise VidstyleError(f"OpenVINO failed on a frame: {_last_line(error)}") from error
            self._free.append(request)
            shapes = self.program.form.plane_shapes
            return tuple(result.reshape(shape) for result, shape in zip(results, shapes, strict=True))

        return wait

    def close(self) -> None:
        self._free.clear()


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program``."""
    return OpenVinoBackend(program, options)


def _precision(core: ov.Core, options: BackendOptions) -> str:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if options.precision == "auto":
        return "bf16" if "BF16" in able else "fp32"
    if options.precision.upper() not in able:
        raise BadOption(f"precision {options.precision} is not what this processor computes in; use fp32 or auto")
    return options.precision


def _last_line(error: RuntimeError) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
