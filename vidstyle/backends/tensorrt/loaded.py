"""An engine in TensorRT's hands: loaded, checked, and its compiled kernels kept from run to run."""

from __future__ import annotations

import hashlib
from typing import Any

from vidstyle.backends.cache import cache_key, read_cached, write_cached
from vidstyle.backends.tensorrt.fit import again
from vidstyle.backends.tensorrt.layout import Layout, PlanePort, Port
from vidstyle.backends.tensorrt.library import Library
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.errors import BadModel, EngineMismatch, VidstyleError
from vidstyle.models.engine_file import EngineFile

RUNTIME_CACHE = "tensorrt-rtx"
_FAULTS = {
    "VERSION_MISMATCH": "another version built it",
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it: update the driver",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is not an engine, or is damaged",
    "CUDA_ERROR": "CUDA does not work here: check the NVIDIA driver",
}


class LoadedEngine:
    """A deserialized engine. Every method belongs into a block in which its GPU is current."""

    def __init__(self, engine: EngineFile, plan: bytes, library: Library, gpu: GpuFacts) -> None:
        self._path, self._library = engine.path, library
        module, mark = library.module, library.messages.mark()
        self._runtime = module.Runtime(library.logger)  # host code in engines stays forbidden, as it is by default
        here = f"{gpu.name} with {library.name} {library.version}"
        suboptimal = False
        if library.is_rtx:
            validity, faults = self._runtime.get_engine_validity(plan)
            if validity == module.EngineValidity.INVALID:
                raise EngineMismatch(
                    f"{engine.path} cannot be used on {here}: "
                    f"{fault_words(library, int(faults)) or library.messages.since(mark)}; {again(engine)}"
                )
            suboptimal = validity == module.EngineValidity.SUBOPTIMAL
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineMismatch(
                f"{engine.path} cannot be loaded on {here}: {library.messages.since(mark)}; {again(engine)}"
            )
        self._config: Any = None
        self._cache: Any = None
        self._cache_digest = ""
        # The driver is not in the key: TensorRT-RTX looks at that itself.
        self._cache_key = cache_key(engine.card.plan_sha256, library.version, gpu.name, gpu.compute_capability)
        if library.is_rtx:
            self._config, self._cache = self._rtx_config()
        slower = " (built for other GPUs too, slower than one for this GPU)" if suboptimal else ""
        title = "TensorRT-RTX" if library.is_rtx else "TensorRT"
        self.description = f"{title} {library.version} {engine.card.precision} on {gpu.name}{slower}"
        """Library, version, precision and GPU, for people."""

    def check(self, layout: Layout) -> None:
        """Compare the tensors of the engine with those that will be given to it; `BadModel` if they differ."""
        engine, module = self._engine, self._library.module
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if names != set(layout.ports):
            raise BadModel(self._foreign(f"has the tensors {_listed(names)}, not {_listed(set(layout.ports))}"))
        for name, port in layout.ports.items():
            kind = module.DataType.UINT8 if isinstance(port, PlanePort) else module.DataType.FLOAT
            wanted = module.TensorIOMode.OUTPUT if name.endswith("_out") else module.TensorIOMode.INPUT
            shape = tuple(engine.get_tensor_shape(name))
            if engine.get_tensor_dtype(name) != kind or engine.get_tensor_mode(name) != wanted:
                raise BadModel(self._foreign(f"has another kind of tensor {name}"))
            if not _fits(shape, port.shape):
                raise BadModel(self._foreign(f"takes {name} as {shape}, not {port.shape}"))

    def context(self, stream: int) -> EngineContext:
        """A new execution context, to be used with ``stream``."""
        mark = self._library.messages.mark()
        if self._config is None:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(self._config)
        if context is None:
            raise VidstyleError(f"{self._path} cannot be started: {self._library.messages.since(mark)}")
        # Of a dynamic engine, only the first context has its profile from the start.
        if context.active_optimization_profile != 0:
            context.set_optimization_profile_async(0, stream)
        return EngineContext(context, self._library)

    def keep(self) -> None:
        """Write the kernels that TensorRT-RTX has compiled to disk, for the next run."""
        if self._cache is None:
            return
        memory = self._cache.serialize()
        data = b"" if memory is None else bytes(memory)
        digest = hashlib.sha256(data).hexdigest()
        if data and digest != self._cache_digest:
            write_cached(RUNTIME_CACHE, self._cache_key, data)
            self._cache_digest = digest

    def close(self) -> None:
        """Keep the compiled kernels and free the engine; its contexts are gone before."""
        if self._engine is not None:
            self.keep()
        self._cache = self._config = self._engine = self._runtime = None

    def _rtx_config(self) -> tuple[Any, Any]:
        module = self._library.module
        config = self._engine.create_runtime_config()
        # The runner records a graph of its own, with the copies in it, so kernels must be final before the
        # first recording: compiled for the size at once, and not exchanged later.
        config.cuda_graph_strategy = module.CudaGraphStrategy.DISABLED
        config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
        cache = config.create_runtime_cache()
        stored = read_cached(RUNTIME_CACHE, self._cache_key)
        if stored is not None and cache.deserialize(stored):  # refused: another driver; compiled again then
            self._cache_digest = hashlib.sha256(stored).hexdigest()
        config.set_runtime_cache(cache)
        return config, cache

    def _foreign(self, what: str) -> str:
        return (
            f"{self._path} {what}; it is not the engine that {self._path.name}.json describes, or an older vidstyle's"
        )


class EngineContext:
    """TensorRT's execution context, which says why it fails."""

    def __init__(self, context: Any, library: Library) -> None:
        self._context, self._library = context, library

    def bind(self, port: Port, address: int, *, is_input: bool) -> None:
        """Say where a tensor lies, and of an input how large it is."""
        context, mark = self._context, self._library.messages.mark()
        if is_input and not context.set_input_shape(port.name, port.shape):
            raise VidstyleError(f"TensorRT refuses {port.name} of {port.shape}: {self._library.messages.since(mark)}")
        if not context.set_tensor_address(port.name, address):
            raise VidstyleError(f"TensorRT refuses a buffer for {port.name}: {self._library.messages.since(mark)}")

    def run(self, stream: int) -> None:
        """Queue one run."""
        mark = self._library.messages.mark()
        if not self._context.execute_async_v3(stream):
            raise VidstyleError(f"TensorRT cannot start a frame: {self._library.messages.since(mark)}")

    def can_be_recorded(self, stream: int) -> bool:
        """Whether runs go into a CUDA graph. TensorRT-RTX says; TensorRT's always do for graphs like ours."""
        return not self._library.is_rtx or bool(self._context.is_stream_capturable(stream))

    def close(self) -> None:
        """Free it; the stream is idle."""
        self._context = None


def fault_words(library: Library, faults: int) -> str:
    """The bits of `get_engine_validity` in words; empty where none is set, as without a driver."""
    known = library.module.EngineInvalidityDiagnostics.__members__
    found = [_FAULTS.get(name, name.lower().replace("_", " ")) for name, value in known.items() if int(value) & faults]
    return "; ".join(found)


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(a in (-1, b) for a, b in zip(shape, wanted, strict=True))


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
