"""Engines at run time: whether one fits here, where its tensors lie, and one in TensorRT's hands."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidstyle.backends.base import ALIGNMENT, StyleTensors
from vidstyle.backends.tensorrt.sdk import GpuFacts, Library, covers
from vidstyle.errors import BadModel, EngineMismatch, VidstyleError
from vidstyle.files import cache_key, read_cached, write_cached
from vidstyle.frame import FrameFormat, Planes
from vidstyle.gallery import style_names
from vidstyle.models.architecture import MULTIPLE_OF
from vidstyle.models.engine_file import EngineCard, EngineFile

RUNTIME_CACHE = "tensorrt-rtx"
"""Kind of the cached files: kernels that TensorRT-RTX has compiled."""
REBUILD = "build it again with `--rebuild`"
FAULTS = {
    "VERSION_MISMATCH": "another version built it",
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it: update the driver",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is not an engine, or is damaged",
    "CUDA_ERROR": "CUDA does not work here: check the NVIDIA driver",
}
"""Bits of `get_engine_validity`, and their words."""


def mismatch(engine: EngineFile, form: FrameFormat | None, gpu: GpuFacts | None, library: Library) -> str | None:
    """Why ``engine`` cannot be used here, and what to do; None if it can.

    ``form`` is that of the frames, None where there are none yet; ``gpu`` the one to run on, None where
    none answers. The library's own check, which needs the GPU, comes later.
    """
    if gpu is None:
        return no_gpu_message(engine)
    path, card = engine.path, engine.card
    here = f"{gpu.name} (compute capability {gpu.compute_capability})"
    if (card.library, card.library_version) != (library.name, library.version):
        # Quoted, as it is there to be pasted and may come from a stranger's file.
        package = shlex.quote(f"{card.library}=={card.library_version}")
        return (
            f"{path} was built by {card.library} {card.library_version}, and an engine runs on the version that built "
            f"it; here is {library.name} {library.version}: {REBUILD}, or `pip install {package}`"
        )
    if not library.supports(gpu.compute_capability):
        return (
            f"{path} was built by {library.name} for GPUs of compute capability {', '.join(card.targets)}, and "
            f"{library.name} does not know this one, {here}; pip install 'vidstyle[tensorrt]' and {REBUILD}, or "
            f"{_cpu_hint(engine)}"
        )
    if not covers(card.targets, gpu.compute_capability):
        built_for = ", ".join(card.targets)
        return f"{path} was built for GPUs of compute capability {built_for}, and this one is {here}; {REBUILD}"
    if card.gpu is not None and card.gpu != gpu.name:
        return f"{path} was built on and for {card.gpu}, and this GPU is {here}; {REBUILD}"
    if form is None:
        return None
    if form.pixels != card.pixels:
        return f"{path} takes {card.pixels} frames, and these are {form.pixels}; {REBUILD}"
    if not card.takes(form.size):
        size = f"{form.width}x{form.height}"
        return f"{path} takes frames of {card.sizes()}, and these are {size}; {REBUILD}{_work_size(card, form)}"
    if form.pixels != "rgb" and (form.matrix, form.full_range) != (card.matrix, card.full_range):
        taken, given = (
            f"{one.matrix} of {'full' if one.full_range else 'limited'} range" for one in (card.form(), form)
        )
        return f"{path} takes colors as {taken}, and these are {given}; {REBUILD}"
    return None


def no_gpu_message(engine: EngineFile, why: str = "") -> str:
    """The message where there is no GPU; ``why`` is half a sentence."""
    reason = f" ({why})" if why else ""
    return (
        f"{engine.path} is an engine, which needs an NVIDIA GPU, and none answers on this machine{reason}; "
        f"{_cpu_hint(engine)}"
    )


def _work_size(card: EngineCard, form: FrameFormat) -> str:
    """A way to paint larger frames without a new engine, if there is one."""
    rows = card.largest[0]
    if form.height <= rows:
        return ""
    width = round(rows * form.width / form.height / 4) * 4
    if card.takes((rows, width)) or (not card.dynamic and abs(width - card.best[1]) <= 4):
        return f", or paint at its size with `--work-size {rows}`"
    return ""


def _cpu_hint(engine: EngineFile) -> str:
    name = next(iter(engine.card.styles), "")
    if name not in style_names():
        return "paint on the CPU with the style that it was made of, or with one that `vidstyle styles` lists"
    return f"paint on the CPU with `--style {shlex.quote(name)}` instead"


@dataclass(frozen=True)
class Port:
    """One tensor of an engine, in its block of memory."""

    name: str
    shape: tuple[int, ...]
    """Shape of the engine's tensor."""
    offset: int
    size: int


@dataclass(frozen=True)
class PlanePort(Port):
    """A plane: what of it is picture, and what is padding."""

    padded: tuple[int, ...]
    """Shape of the plane with its padding, without the tensor's leading dimensions."""
    plane: tuple[int, ...]
    """Shape of the plane that the caller gives or gets."""

    @property
    def pitch_bytes(self) -> int:
        return int(np.prod(self.padded[1:]))

    @property
    def row_bytes(self) -> int:
        """Bytes of the picture in one row."""
        return int(np.prod(self.plane[1:]))

    def view(self, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return block[self.offset : self.offset + self.size].reshape(self.padded)

    def edge_copies(self) -> list[tuple[int, int, int, int]]:
        """The copies that repeat the plane's edge into its padding, in this order.

        Each is (target offset, source offset, bytes of a row, rows), offsets from the plane's first byte;
        both have the plane's pitch.
        """
        rows, columns = self.plane[:2]
        pixel, pitch = int(np.prod(self.padded[2:])), self.pitch_bytes
        right = [(column * pixel, (columns - 1) * pixel, pixel, rows) for column in range(columns, self.padded[1])]
        below = [(row * pitch, (rows - 1) * pitch, pitch, 1) for row in range(rows, self.padded[0])]
        return right + below


_PLANES = {"rgb": ("frame",), "i420": ("y", "u", "v"), "nv12": ("y", "uv")}


@dataclass(frozen=True)
class Layout:
    """The planes of an engine in one block, its outputs in another, and the style in a third: each is one copy."""

    style: tuple[Port, ...]
    """Vector and weights: a block of `StyleTensors`."""
    inputs: tuple[PlanePort, ...]
    """In the order of `FrameFormat.plane_shapes`, as ``outputs``."""
    outputs: tuple[PlanePort, ...]
    style_bytes: int
    """Size of the block, as those that follow."""
    input_bytes: int
    output_bytes: int

    @classmethod
    def of(cls, form: FrameFormat, styles: StyleTensors, *, padded: bool) -> Layout:
        """The layout for frames of ``form``; ``padded`` to multiples of 4 for a dynamic engine."""
        height, width = (-(-side // MULTIPLE_OF) * MULTIPLE_OF for side in form.size)
        whole = form.resized((height, width)) if padded else form
        style = tuple(
            Port(name, shape, styles.offsets[name], 4 * int(np.prod(shape))) for name, shape in styles.shapes.items()
        )
        inputs, input_bytes = _plane_ports(form, whole, "")
        outputs, output_bytes = _plane_ports(form, whole, "_out")
        return cls(style, inputs, outputs, styles.size, input_bytes, output_bytes)

    @property
    def ports(self) -> dict[str, Port]:
        return {port.name: port for port in (*self.style, *self.inputs, *self.outputs)}

    def write_planes(self, block: NDArray[np.uint8], planes: Planes) -> None:
        """Put planes of any strides into the input block, their edges repeated into the padding."""
        for port, plane in zip(self.inputs, planes, strict=True):
            target = port.view(block)
            rows, columns = port.plane[:2]
            target[:rows, :columns] = plane
            target[:rows, columns:] = target[:rows, columns - 1 : columns]
            target[rows:] = target[rows - 1 : rows]

    def read_planes(self, block: NDArray[np.uint8]) -> Planes:
        """The pictures in the output block, without padding; new arrays."""
        return tuple(port.view(block)[: port.plane[0], : port.plane[1]].copy() for port in self.outputs)


def _plane_ports(form: FrameFormat, whole: FrameFormat, suffix: str) -> tuple[tuple[PlanePort, ...], int]:
    ports, offset = [], 0
    for name, plane, padded in zip(_PLANES[form.pixels], form.plane_shapes, whole.plane_shapes, strict=True):
        size = int(np.prod(padded))
        # Interleaved planes have their channels last, the others in front.
        shape = (1, *padded) if len(padded) == 3 else (1, 1, *padded)
        ports.append(PlanePort(name + suffix, shape, offset, size, padded, plane))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return tuple(ports), offset


class LoadedEngine:
    """A deserialized engine. Every method belongs into a block in which its GPU is current."""

    def __init__(self, engine: EngineFile, plan: bytes, library: Library, gpu: GpuFacts) -> None:
        self._path, self._library = engine.path, library
        module, before = library.module, library.errors.count
        self._runtime = module.Runtime(library.logger)  # host code in engines stays forbidden, as it is by default
        here = f"{gpu.name} with {library.name} {library.version}"
        note = ""
        if library.is_rtx:
            validity, faults = self._runtime.get_engine_validity(plan)
            if validity == module.EngineValidity.INVALID:
                why = fault_words(library, int(faults)) or library.errors.last_since(before)
                raise EngineMismatch(f"{engine.path} cannot be used on {here}: {why}; {REBUILD}")
            if validity == module.EngineValidity.SUBOPTIMAL:
                note = " (built for other GPUs too, slower than one for this GPU)"
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            why = library.errors.last_since(before)
            raise EngineMismatch(f"{engine.path} cannot be loaded on {here}: {why}; {REBUILD}")
        self._config: Any = None
        self._cache: Any = None
        self._cache_digest = ""
        # The driver is not in the key: TensorRT-RTX looks at that itself.
        self._cache_key = cache_key(engine.card.plan_sha256, library.version, gpu.name, gpu.compute_capability)
        if library.is_rtx:
            self._config, self._cache = self._rtx_config()
        title = "TensorRT-RTX" if library.is_rtx else "TensorRT"
        self.description = f"{title} {library.version} {engine.card.precision} on {gpu.name}{note}"
        """Library, version, precision and GPU, for people."""

    def check(self, layout: Layout) -> None:
        """Compare the tensors of the engine with those that will be given to it; `BadModel` if they differ."""
        check_tensors(self._engine, layout, self._library, self._path)

    def context(self, stream: int) -> EngineContext:
        """A new execution context, to be used with ``stream``."""
        before = self._library.errors.count
        context = self._engine.create_execution_context(*([] if self._config is None else [self._config]))
        if context is None:
            raise VidstyleError(f"{self._path} cannot be started: {self._library.errors.last_since(before)}")
        # Of a dynamic engine, only the first context has its profile from the start.
        if context.active_optimization_profile != 0:
            context.set_optimization_profile_async(0, stream)
        return EngineContext(context, self._library)

    def save_kernels(self) -> None:
        """Write the kernels that TensorRT-RTX has compiled to disk, for the next run."""
        memory = None if self._cache is None else self._cache.serialize()
        data = b"" if memory is None else bytes(memory)
        digest = hashlib.sha256(data).hexdigest()
        if data and digest != self._cache_digest:
            write_cached(RUNTIME_CACHE, self._cache_key, data)
            self._cache_digest = digest

    def close(self) -> None:
        """Keep the compiled kernels and free the engine; its contexts are gone before."""
        if self._engine is not None:
            self.save_kernels()
        self._cache = self._config = self._engine = self._runtime = None

    def _rtx_config(self) -> tuple[Any, Any]:
        module = self._library.module
        config = self._engine.create_runtime_config()
        # The executor records a graph of its own, with the copies in it, so kernels must be final before the
        # first recording: compiled for the size at once, and not exchanged later.
        config.cuda_graph_strategy = module.CudaGraphStrategy.DISABLED
        config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
        cache = config.create_runtime_cache()
        stored = read_cached(RUNTIME_CACHE, self._cache_key)
        if stored is not None and cache.deserialize(stored):  # refused: another driver; compiled again then
            self._cache_digest = hashlib.sha256(stored).hexdigest()
        config.set_runtime_cache(cache)
        return config, cache


class EngineContext:
    """TensorRT's execution context, which says why it fails."""

    def __init__(self, context: Any, library: Library) -> None:
        self._context, self._library = context, library

    def bind(self, port: Port, address: int, *, is_input: bool) -> None:
        """Say where a tensor lies, and of an input how large it is."""
        context, errors = self._context, self._library.errors
        before = errors.count
        if is_input and not context.set_input_shape(port.name, port.shape):
            raise VidstyleError(f"TensorRT refuses {port.name} of {port.shape}: {errors.last_since(before)}")
        if not context.set_tensor_address(port.name, address):
            raise VidstyleError(f"TensorRT refuses a buffer for {port.name}: {errors.last_since(before)}")

    def run(self, stream: int) -> None:
        before = self._library.errors.count
        if not self._context.execute_async_v3(stream):
            raise VidstyleError(f"TensorRT cannot start a frame: {self._library.errors.last_since(before)}")

    def can_be_recorded(self, stream: int) -> bool:
        """Whether runs go into a CUDA graph. TensorRT-RTX says; TensorRT's always do for graphs like ours."""
        return not self._library.is_rtx or bool(self._context.is_stream_capturable(stream))

    def close(self) -> None:
        """Free it; the stream is idle."""
        self._context = None


def check_tensors(engine: Any, layout: Layout, library: Library, path: Path) -> None:
    """Compare the tensors of TensorRT's ``engine`` with those of ``layout``; `BadModel` names ``path``."""
    module = library.module
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    what = ""
    if names != set(layout.ports):
        what = f"has the tensors {', '.join(sorted(names))}, not {', '.join(sorted(layout.ports))}"
    for name, port in layout.ports.items() if not what else ():
        kind = module.DataType.UINT8 if isinstance(port, PlanePort) else module.DataType.FLOAT
        mode = module.TensorIOMode.OUTPUT if name.endswith("_out") else module.TensorIOMode.INPUT
        shape = tuple(engine.get_tensor_shape(name))
        if engine.get_tensor_dtype(name) != kind or engine.get_tensor_mode(name) != mode:
            what = f"has another kind of tensor {name}"
        elif len(shape) != len(port.shape) or any(a not in (-1, b) for a, b in zip(shape, port.shape, strict=True)):
            what = f"takes {name} as {shape}, not {port.shape}"
    if what:
        raise BadModel(f"{path} {what}; it is not the engine that {path.name}.json describes, or an older vidstyle's")


def fault_words(library: Library, faults: int) -> str:
    """The bits of `get_engine_validity` in words; empty where none is set, as without a driver."""
    known = library.module.EngineInvalidityDiagnostics.__members__
    found = [FAULTS.get(name, name.lower().replace("_", " ")) for name, value in known.items() if int(value) & faults]
    return "; ".join(found)
