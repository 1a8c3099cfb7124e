"""ONNX Runtime: other processors, and CUDA where the onnxruntime-gpu package is installed.

It loads a graph in milliseconds, so there is nothing to keep between runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidstyle.backends.base import Backend, Pending, Program, usable_cores
from vidstyle.errors import BadModel, BadOption, VidstyleError
from vidstyle.frame import Planes
from vidstyle.options import BackendOptions


class OnnxRuntimeBackend(Backend):
    """A session that several threads run at once, each frame on one core."""

    name = "onnxruntime"

    def __init__(self, program: Program, options: BackendOptions) -> None:
        super().__init__(program.form, program.network.architecture.style_size)
        cuda = "CUDAExecutionProvider" in ort.get_available_providers()
        precision = options.precision if options.precision != "auto" else ("fp16" if cuda else "fp32")
        if precision == "bf16" or (precision == "fp16" and not cuda):
            raise BadOption(f"ONNX Runtime does not compute in {precision} here; use fp32 or auto")
        threads = options.threads or usable_cores()
        self.in_flight = 1 if cuda else min(threads, 4)
        settings = ort.SessionOptions()
        settings.log_severity_level = 3  # errors; they are raised as well
        settings.intra_op_num_threads = max(1, threads // self.in_flight)
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
        try:
            graph = program.graph("fp16" if precision == "fp16" else "fp32")
            self._session = ort.InferenceSession(graph, settings, providers)
        except Exception as error:  # the library's errors derive from nothing narrower
            raise BadModel(f"ONNX Runtime cannot load the graph: {error}") from error
        self._inputs = [(port.name, tuple(port.shape)) for port in self._session.get_inputs()]
        self._pool = ThreadPoolExecutor(self.in_flight, "vidstyle-onnxruntime")
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.description = f"ONNX Runtime {ort.__version__} {precision} on {provider}, threads: {threads}"

    def _submit(self, planes: Planes, style: NDArray[np.float32]) -> Pending:
        arrays: list[NDArray[Any]] = [
            np.ascontiguousarray(style, np.float32),
            *(np.ascontiguousarray(plane) for plane in planes),
        ]
        feed = {name: array.reshape(shape) for (name, shape), array in zip(self._inputs, arrays, strict=True)}
        future = self._pool.submit(self._session.run, None, feed)

        def wait() -> Planes:
            try:
                results = future.result()
            except Exception as error:  # the library's errors derive from nothing narrower
                raise VidstyleError(f"ONNX Runtime failed on a frame: {error}") from error
            shapes = self.form.plane_shapes
            return tuple(result.reshape(shape) for result, shape in zip(results, shapes, strict=True))

        return wait

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program``."""
    return OnnxRuntimeBackend(program, options)


def open_on_cpu(graph: bytes) -> Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]:
    """Load a graph for a check: a function from its inputs to its outputs, in their order, as arrays.

    It computes on the CPU whatever else there is. What has the right number of elements need not have the
    right shape. Raises `BadModel` for what is no graph. Frames go through `OnnxRuntimeBackend`.
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = usable_cores()
    try:
        session = ort.InferenceSession(graph, settings, ["CPUExecutionProvider"])
    except Exception as error:  # the library's errors derive from nothing narrower
        raise BadModel(f"ONNX Runtime cannot load the graph: {error}") from error
    ports = [(port.name, tuple(port.shape)) for port in session.get_inputs()]

    def run(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        feed = {name: np.ascontiguousarray(a).reshape(shape) for (name, shape), a in zip(ports, arrays, strict=True)}
        try:
            return list(session.run(None, feed))
        except Exception as error:  # the library's errors derive from nothing narrower
            raise VidstyleError(f"ONNX Runtime failed on a check: {error}") from error

    return run
