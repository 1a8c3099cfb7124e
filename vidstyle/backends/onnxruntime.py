"""ONNX Runtime: other processors, and NVIDIA GPUs where the onnxruntime-gpu package is installed.

It loads a graph in milliseconds, so there is nothing to keep between runs.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidstyle.backends.base import (
    Backend,
    Pending,
    PictureNetwork,
    Program,
    StyleTensors,
    Tensors,
    chosen_precision,
    first_line,
    usable_cores,
)
from vidstyle.errors import BadModel, MissingDependency, VidstyleError
from vidstyle.frame import Planes
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, EnginePrecision
from vidstyle.system import nvidia_gpus


class _OnThreads(Backend):
    name = "onnxruntime"
    _pool: ThreadPoolExecutor

    def _result_of(self, future: Future[list[NDArray[Any]]]) -> Pending:
        def wait() -> Planes:
            try:
                return self._shaped(future.result())
            except Exception as error:  # the library's errors derive from nothing narrower
                raise VidstyleError(f"ONNX Runtime failed on a frame: {first_line(error)}") from error

        return wait

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class OnnxRuntimeBackend(_OnThreads):
    """A session that several threads run at once, each frame on one core.

    Where only one style will be played, the weights are constants: it lays out those beforehand as its convolutions
    like them, and loses more than a tenth of its speed where it cannot.
    """

    def __init__(self, program: Program, options: BackendOptions) -> None:
        super().__init__(program)
        fixed = "" if program.single is None else ", one style"
        program = program.single or program
        self._styles = StyleTensors(program.shape, program.style_tensors)
        precision = chosen_precision(options, ["fp32"], "ONNX Runtime on a processor")
        threads = options.threads or usable_cores()
        self.in_flight = min(threads, 4)
        self._session = _cpu_session(program.graph("fp32"), max(1, threads // self.in_flight))
        ports = [port for port in self._session.get_inputs() if port.name not in self._styles.shapes]
        self._planes = [(port.name, tuple(port.shape)) for port in ports]
        self._pool = ThreadPoolExecutor(self.in_flight, "vidstyle-onnxruntime")
        self.description = f"ONNX Runtime {ort.__version__} {precision} on CPU, threads: {threads}{fixed}"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        feed: dict[str, NDArray[Any]] = {**self._styles.views(self._styles.block(style))}
        for (name, shape), plane in zip(self._planes, planes, strict=True):
            feed[name] = np.ascontiguousarray(plane).reshape(shape)
        return self._result_of(self._pool.submit(self._session.run, None, feed))


class OnnxRuntimeCudaBackend(_OnThreads):
    """A session on an NVIDIA GPU, and the one thread that copies frames there and back and runs it."""

    in_flight = 2  # one that is computed, and one that waits for it

    def __init__(self, program: Program, options: BackendOptions, gpu: int, *, nhwc: bool = False) -> None:
        super().__init__(program)
        program = program.single or program
        self._styles = StyleTensors(program.shape, program.style_tensors)
        able: list[EnginePrecision] = ["fp16", "fp32"]
        precision = chosen_precision(options, able, "ONNX Runtime on a GPU")
        graph = program.graph(precision)
        provider = {
            "device_id": str(gpu),
            "cudnn_conv_algo_search": "EXHAUSTIVE",  # measures, at the first frame
            "use_tf32": "0",
            "prefer_nhwc": str(int(nhwc)),
        }
        self._style: NDArray[np.float32] | None = None
        # Its CUDA graph belongs to the thread that recorded it.
        self._pool = ThreadPoolExecutor(1, "vidstyle-onnxruntime")
        try:
            self._session, recorded = self._pool.submit(_open_on_gpu, graph, provider, gpu).result()
        except BaseException:
            self._pool.shutdown()
            raise
        notes = [*(["NHWC"] if nhwc else []), "CUDA graph" if recorded else "no CUDA graph"]
        self.description = f"ONNX Runtime {ort.__version__} {precision} on CUDA GPU {gpu}, {', '.join(notes)}"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        block = self._styles.block(style)
        changed = None if block is self._style else self._styles.views(block)
        self._style = block
        return self._result_of(self._pool.submit(self._session.run, planes, changed))

    def network_seconds(self, runs: int) -> list[float]:
        """How long each of ``runs`` runs takes on the frame that came last, copies left out; for benchmarks."""

        def measure() -> float:
            began = time.perf_counter()
            self._session.compute()
            return time.perf_counter() - began

        return [self._pool.submit(measure).result() for _ in range(runs)]


class BoundSession:
    """A session with its inputs and outputs in the memory of one device, always at the same place.

    A CUDA graph wants that, and otherwise the library would copy them anew for each run.
    """

    def __init__(self, session: ort.InferenceSession, device: str, number: int) -> None:
        self.session = session
        """Its uint8 inputs are the planes, its outputs too; the float ones are the style's."""
        self._binding = session.io_binding()
        self._inputs, self._outputs = (
            {
                port.name: ort.OrtValue.ortvalue_from_shape_and_type(port.shape, _TYPES[port.type], device, number)
                for port in ports
            }
            for ports in (session.get_inputs(), session.get_outputs())
        )
        self._planes = [port.name for port in session.get_inputs() if _TYPES[port.type] is np.uint8]
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, planes: Sequence[NDArray[Any]], style: Tensors | None) -> list[NDArray[Any]]:
        """Outputs, as arrays of the caller's, of planes with the right number of elements.

        ``style`` is the style's tensors, None where they are those of the run before.
        """
        for name, array in {**dict(zip(self._planes, planes, strict=True)), **(style or {})}.items():
            value = self._inputs[name]
            value.update_inplace(np.ascontiguousarray(array).reshape(value.shape()))
        self.compute()
        return [np.array(value.numpy()) for value in self._outputs.values()]

    def compute(self) -> None:
        """Run the inputs that are there, and wait for the end."""
        self.session.run_with_iobinding(self._binding)

    def blank(self) -> None:
        """Run inputs of zeros twice: the library measures and records when it first runs."""
        zeros = {port.name: np.zeros(port.shape, _TYPES[port.type]) for port in self.session.get_inputs()}
        planes = [zeros.pop(name) for name in self._planes]
        for _ in range(2):
            self.run(planes, zeros)


_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
_CUDA = "CUDAExecutionProvider"


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program``: for the GPU that ``options`` name, else for the first one, else for the CPU.

    Raises `MissingDependency` where a GPU is named and this ONNX Runtime has no CUDA, and `VidstyleError` where
    it has and cannot load it though there is a GPU: it never goes to the CPU instead.
    """
    gpu = _gpu(options.gpu)
    return OnnxRuntimeBackend(program, options) if gpu is None else OnnxRuntimeCudaBackend(program, options, gpu)


def _gpu(wanted: int | None) -> int | None:
    """The number of the GPU to run on; None is the CPU."""
    if _CUDA not in ort.get_available_providers():
        if wanted is None:
            return None
        raise MissingDependency(
            f"gpu is {wanted}, but ONNX Runtime {ort.__version__} here was built without CUDA; replace it: "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    if wanted is not None:
        return wanted
    return 0 if nvidia_gpus() else None


class OnnxRuntimePictureNetwork(PictureNetwork):
    """A session on one thread of the processor."""

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        self._session = _cpu_session(graph, 1)
        port = self._session.get_inputs()[0]
        self._name, (_, height, width, _) = port.name, port.shape
        self.size = height, width

    def _run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return np.asarray(self._session.run(None, {self._name: picture})[0], np.float32)
        except Exception as error:  # the library's errors derive from nothing narrower
            raise VidstyleError(f"ONNX Runtime failed on a picture: {first_line(error)}") from error

    def close(self) -> None:
        pass


def open_picture_network(graph: bytes, options: BackendOptions) -> PictureNetwork:
    """Load ``graph`` for the processor, whatever ``options`` say beside the library."""
    return OnnxRuntimePictureNetwork(graph)


def _cpu_session(graph: bytes, threads: int) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3  # errors; they are raised as well
    settings.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(graph, settings, ["CPUExecutionProvider"])
    except Exception as error:  # the library's errors derive from nothing narrower
        raise BadModel(f"ONNX Runtime cannot load the graph: {error}") from error


def _open_on_gpu(graph: bytes, provider: dict[str, str], gpu: int) -> tuple[BoundSession, bool]:
    """A session that has run once, and whether it runs as a CUDA graph."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        ort.preload_dlls()  # CUDA's libraries from their own pip packages; it prints what it doesn't find
    failures = []
    # Where part of a graph has no CUDA kernel, it cannot be recorded.
    for recorded in (True, False):
        try:
            session = cuda_session(graph, {**provider, "enable_cuda_graph": str(int(recorded))})
            if session.get_providers()[0] != _CUDA:
                break
            bound = BoundSession(session, "cuda", gpu)
            bound.blank()
            return bound, recorded
        except Exception as error:  # the library's errors derive from nothing narrower
            failures.append(error)
    reason = first_line(failures[-1]) if failures else "its CUDA libraries cannot be loaded"
    raise VidstyleError(
        f"ONNX Runtime {ort.__version__} cannot use GPU {gpu}: {reason}; it needs the driver, CUDA and cuDNN of its own"
        " version (pip install 'onnxruntime-gpu[cuda,cudnn]'), `vidstyle doctor` tells what is here, and "
        "`--backend openvino` paints on the CPU"
    ) from (failures[-1] if failures else None)


def cuda_session(graph: bytes, provider: dict[str, str]) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # it logs as an error what is raised, or seen at the providers
    # Without this it prints, and goes to the CPU.
    return ort.InferenceSession(graph, settings, [(_CUDA, provider)], enable_fallback=0)


def open_on_cpu(graph: bytes) -> Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]:
    """Load a graph for a check: a function from its inputs to its outputs, in their order, as arrays.

    It computes on the CPU whatever else there is. What has the right number of elements need not have the
    right shape. Raises `BadModel` for what is no graph. Frames go through `OnnxRuntimeBackend`.
    """
    session = _cpu_session(graph, usable_cores())
    ports = [(port.name, tuple(port.shape)) for port in session.get_inputs()]

    def run(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        feed = {name: np.ascontiguousarray(a).reshape(shape) for (name, shape), a in zip(ports, arrays, strict=True)}
        try:
            return list(session.run(None, feed))
        except Exception as error:  # the library's errors derive from nothing narrower
            raise VidstyleError(f"ONNX Runtime failed on a check: {error}") from error

    return run
