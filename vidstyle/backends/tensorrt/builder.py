"""An ONNX graph to a plan: TensorRT's builder, its proof, and how it is watched and stopped."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from vidstyle.backends.tensorrt.sdk import AMPERE_AND_LATER, PORTABLE, GpuFacts, Library, target_capabilities
from vidstyle.errors import BadModel, BadOption, reason
from vidstyle.files import write_whole
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import Architecture
from vidstyle.models.engine_file import EngineCard
from vidstyle.options import BuildOptions

_TIMINGS_MAGIC = b"vidstyle-timings-1\n"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class BuildProgress:
    fraction: float
    """0 to 1; it never falls, and says nothing about time."""
    phase: str
    """TensorRT's name of the phase."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An engine that TensorRT has built, and the facts of its build."""

    plan: bytes
    targets: tuple[str, ...]
    """Compute capabilities that it was built for, ascending."""
    gpu: str | None
    """Name of the one GPU that it is for; None where it asks for no particular one."""
    layers: dict[str, int]
    """Layers that compute, by the type of their result: ``half``, ``float``."""
    convolutions: dict[str, int]
    norms: dict[str, int]
    """Instance norms, by the type of their statistics."""
    seconds: float
    inspected: dict[str, int] | None = None
    """Layers of the engine itself by type, where a GPU let it be loaded."""
    notes: list[str] = field(default_factory=list)
    """Options without effect; one sentence each."""


def build_plan(
    graph: bytes,
    options: BuildOptions,
    library: Library,
    on_progress: Callable[[BuildProgress], None] | None = None,
    *,
    gpu: GpuFacts | None = None,
) -> Plan:
    """Build the ONNX model ``graph`` for the targets that ``options`` name.

    ``gpu`` is the GPU that this thread's CUDA context belongs to, None where there is none: then only
    TensorRT-RTX builds. ``on_progress`` is called on this thread, often. What it raises, or Ctrl-C, stops
    the build at its next step and is raised here. Raises `BadOption` for what the library cannot do, and
    `BadModel` with the library's own words where it fails, or where the types of the layers are not those
    that were asked for.
    """
    began, before = time.perf_counter(), library.errors.count
    module = library.module
    targets = target_capabilities(options.targets, library, gpu)
    try:
        builder = module.Builder(library.logger)
        # TensorRT 10 has to be asked for it; TensorRT 11 and TensorRT-RTX do nothing else.
        network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    except TypeError as error:  # how the binding says that there is no driver
        why = library.errors.last_since(before)
        raise BadModel(f"{library.name} {library.version} does not start here: {why}") from error
    parser = module.OnnxParser(network, library.logger)
    if not parser.parse(graph):
        raise BadModel(f"{library.name} {library.version} cannot read the graph: {library.errors.last_since(before)}")
    layers, convolutions, norms = _types(module, network)
    _check_types(options, convolutions, norms)

    notes: list[str] = []
    config = _config(builder, network, options, library, targets, gpu, notes)
    timings = None
    if options.timing_cache is not None and library.is_rtx:
        notes.append(f"{library.name} times nothing when it builds, so --timing-cache has no effect")
    elif options.timing_cache is not None:
        timings = _Timings(Path(options.timing_cache), library, gpu)
        timings.give_to(config, notes)
    monitor = _monitor(module, on_progress)
    config.progress_monitor = monitor
    with _signals_kept(monitor):
        memory = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if memory is None:
        raise BadModel(
            f"{library.name} {library.version} cannot build this engine: {library.errors.last_since(before)}"
        )
    plan = bytes(memory)
    if timings is not None:
        timings.keep(notes)
    return Plan(
        plan=plan,
        targets=targets,
        gpu=None if library.is_rtx or gpu is None or targets == (AMPERE_AND_LATER,) else gpu.name,
        layers=layers,
        convolutions=convolutions,
        norms=norms,
        seconds=time.perf_counter() - began,
        inspected=None if gpu is None else inspect_plan(plan, library),
        notes=notes,
    )


def card_of(
    plan: Plan, shape: Architecture, form: FrameFormat, options: BuildOptions, library: Library, **facts: Any
) -> EngineCard:
    """The card of a plan for frames of ``form``; ``facts`` are the other fields of `EngineCard`."""
    return EngineCard(
        network=shape.name,
        pixels=form.pixels,
        matrix=form.matrix,
        full_range=form.full_range,
        smallest=options.smallest or options.size,
        best=options.size,
        largest=options.largest or options.size,
        precision=options.precision,
        library=library.name,
        library_version=library.version,
        targets=plan.targets,
        gpu=plan.gpu,
        **facts,
    )


def _config(
    builder: Any,
    network: Any,
    options: BuildOptions,
    library: Library,
    targets: tuple[str, ...],
    gpu: GpuFacts | None,
    notes: list[str],
) -> Any:
    module = library.module
    config = builder.create_builder_config()
    if options.precision == "fp32":
        # It is on by default, and would round every product to 10 bits, as FP16 does.
        config.clear_flag(module.BuilderFlag.TF32)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if gpu is not None:
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # or the inspector tells names only
    if options.dynamic:
        config.add_optimization_profile(_profile(builder, network, options))
    if library.is_rtx:
        # Left alone it builds for these; a list would keep later GPUs out.
        if targets != PORTABLE:
            config.num_compute_capabilities = len(targets)
            for index, target in enumerate(targets):
                number = getattr(module.ComputeCapability, f"SM{target.replace('.', '')}")
                config.set_compute_capability(number, index)
    elif targets == (AMPERE_AND_LATER,):
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
        notes.append("a portable TensorRT engine is slower than one for the current GPU alone")
    return config


def _profile(builder: Any, network: Any, options: BuildOptions) -> Any:
    """The sizes of each input, from its own symbolic dimensions."""
    profile = builder.create_optimization_profile()
    sizes = (options.smallest or options.size, options.size, options.largest or options.size)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            part = 1 if tensor.name in ("frame", "y") else 2
            sides = [iter(side // part for side in size) for size in sizes]
            shapes = [tuple(next(own) if length == -1 else length for length in tensor.shape) for own in sides]
            profile.set_shape(tensor.name, *shapes)
    return profile


def _types(module: Any, network: Any) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Layers that compute, convolutions and instance norms of a parsed network, by the type of their result.

    The network is strongly typed: the engine has to keep these types.
    """
    kinds = module.LayerType
    computing = (kinds.ELEMENTWISE, kinds.ACTIVATION, kinds.UNARY, kinds.REDUCE)
    groups = ((kinds.CONVOLUTION, kinds.DECONVOLUTION), (kinds.NORMALIZATION,))
    layers, *found = Counter[str](), Counter[str](), Counter[str]()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.get_output(0).dtype.name.lower()
        if layer.type not in (*computing, *groups[0], *groups[1]) or kind not in ("half", "float", "bf16"):
            continue  # the rest computes shapes
        layers[kind] += 1
        for group, count in zip(groups, found, strict=True):
            if layer.type in group:
                count[kind] += 1
    return dict(layers), dict(found[0]), dict(found[1])


def _check_types(options: BuildOptions, convolutions: dict[str, int], norms: dict[str, int]) -> None:
    half, single = convolutions.get("half", 0), convolutions.get("float", 0)
    if half + single == 0:
        raise BadModel("the graph holds no convolution: it is not one of vidstyle's networks")
    # One convolution takes the mean of a color, which FP16 does not hold.
    if options.precision == "fp16" and (half == 0 or single > 1):
        raise BadModel(
            f"an fp16 engine was asked for, and {single} of the network's {half + single} convolutions came out in "
            "fp32; nothing was written: build with --precision fp32, or report this"
        )
    if options.precision == "fp32" and half:
        raise BadModel(f"an fp32 engine was asked for, and {half} convolutions came out in fp16; report this")
    if set(norms) - {"float"}:
        raise BadModel(
            f"the instance norms' statistics came out as {', '.join(norms)}, which a flat frame overflows; report this"
        )


def inspect_plan(plan: bytes, library: Library) -> dict[str, int] | None:
    """Layers of a plan by the type of their results, from TensorRT's inspector; needs the GPU it is for.

    None where it cannot be loaded or does not say: it may be for another GPU.
    """
    module = library.module
    runtime = module.Runtime(library.logger)  # host code in engines stays forbidden, as it is by default
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text)["Layers"]
        return dict(Counter(_type_of(layer) for layer in layers)) if layers else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _type_of(layer: dict[str, Any]) -> str:
    """``half``, ``float`` or ``other``: the versions of TensorRT word it differently."""
    text = " ".join(str(value) for output in layer["Outputs"] for value in output.values()).lower()
    if "half" in text or "fp16" in text:
        return "half"
    return "float" if "float" in text or "fp32" in text else "other"


def _monitor(module: Any, on_progress: Callable[[BuildProgress], None] | None) -> Any:
    base = module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]  # the class is known only when the module is
        """Turns nested phases into one fraction. TensorRT may call it from several threads.

        Nothing may be raised in here: it is called by C++.
        """

        def __init__(self) -> None:
            base.__init__(self)
            self.stopped_by: BaseException | None = None
            self._lock = threading.RLock()
            self._phases: dict[str, tuple[float, float, int]] = {}
            """Where each phase begins, and how wide a step of it is, as fractions of the build; steps done."""
            self._fraction = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                begin, width, done = self._phases.get(parent_phase or "", (0.0, 1.0, 0))
                self._phases[phase_name] = begin + done * width, width / max(num_steps, 1), 0

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                with self._lock:
                    if phase_name in self._phases:
                        begin, width, _ = self._phases[phase_name]
                        self._phases[phase_name] = begin, width, step + 1
                        self._fraction = max(self._fraction, min(1.0, begin + (step + 1) * width))
                    if on_progress is not None and self.stopped_by is None:
                        on_progress(BuildProgress(self._fraction, phase_name))
            except BaseException as error:
                self.stop(error)
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

        def stop(self, error: BaseException) -> None:
            self.stopped_by = self.stopped_by or error

    return Monitor()


@contextmanager
def _signals_kept(monitor: Any) -> Iterator[None]:
    """Signals stop the build instead of raising inside TensorRT's callbacks; their handlers run afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        monitor.stop(KeyboardInterrupt())

    ending = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    handlers = {number: signal.getsignal(number) for number in ending}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in replaced:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        for arrival in arrived[:1]:
            replaced[signal.Signals(arrival)](arrival, None)


class _Timings:
    """The timings of earlier builds on one GPU with one version of TensorRT, in a file."""

    def __init__(self, path: Path, library: Library, gpu: GpuFacts | None) -> None:
        facts = (library.name, library.version, *((gpu.name, gpu.compute_capability) if gpu else ("", "")))
        self._path, self._header = path, _TIMINGS_MAGIC + hashlib.sha256("\0".join(facts).encode()).digest()
        self._cache: Any = None

    def give_to(self, config: Any, notes: list[str]) -> None:
        """Have the builder use them, if the file is whole; this object has to live until the engine is built."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = _TIMINGS_MAGIC
        except OSError as error:
            raise BadOption(f"cannot read the timing cache {self._path}: {reason(error)}") from error
        if not content.startswith(_TIMINGS_MAGIC):
            raise BadOption(f"{self._path} is not a timing cache of vidstyle; name another file")
        data = content[len(self._header) + _DIGEST_BYTES :]
        if content != self._content(data):  # unchecked, one flipped bit ends the whole process inside TensorRT
            data = b""
            if content != _TIMINGS_MAGIC:
                notes.append(
                    f"the timing cache {self._path} is damaged, or of another GPU or version, and was made anew"
                )
        self._cache = config.create_timing_cache(data)
        if not config.set_timing_cache(self._cache, ignore_mismatch=False) and data:
            notes.append(f"the timing cache {self._path} does not fit this GPU, and was made anew")
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, ignore_mismatch=False)

    def keep(self, notes: list[str]) -> None:
        """Write them, those of this build among them."""
        try:
            write_whole(self._path, self._content(bytes(self._cache.serialize())))
        except OSError as error:  # the engine is built all the same
            notes.append(f"the timing cache {self._path} could not be written: {reason(error)}")

    def _content(self, data: bytes) -> bytes:
        return self._header + hashlib.sha256(data).digest() + data
