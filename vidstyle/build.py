"""Styles to an engine file: graph, gate, plan, proof; and engines built again where they do not fit."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidstyle import __version__, files
from vidstyle.color import untagged_matrix
from vidstyle.enginefile import SUFFIX, EngineCard, EngineFile, card_path_of, write_engine
from vidstyle.errors import BadModel, BadOption, EngineMismatch, MissingDependency
from vidstyle.fidelity import Fidelity, check_fidelity
from vidstyle.frame import FrameForm
from vidstyle.gallery import network_of, shared_network
from vidstyle.networks import MULTIPLE_OF, SMALLEST_SIDE, Network
from vidstyle.options import BackendOptions, BuildOptions
from vidstyle.style import Style

if TYPE_CHECKING:
    from vidstyle.backends.tensorrt.builder import BuildProgress, Plan
    from vidstyle.backends.tensorrt.cuda import CudaGpu

_ATTEMPTS = 10


@dataclass
class BuildReport:
    """What `build_engine` did."""

    engine: EngineFile
    """The files written; ``engine.card.build`` has all that was measured."""
    fidelity: Fidelity | None
    """The FP16 graph against FP32, before the build; None for an fp32 engine."""
    plan: Plan
    """Layers, targets, seconds; without the plan's bytes."""
    seconds: float
    """All of it: graph, gate, build, writing."""
    notes: list[str] = field(default_factory=list)
    """What was asked for and has no effect, and what was written beside the engine; one sentence each."""


def build_engine(
    styles: Sequence[Style],
    output: Path,
    options: BuildOptions | None = None,
    *,
    gpu: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildReport:
    """Compile the network that ``styles`` share into the engine file ``output``, with their vectors beside it.

    An fp16 graph first runs against fp32 on ONNX Runtime, on real frames, and a graph that is not true to it
    is not built (`vidstyle.fidelity`). ``gpu`` is the number of the GPU to build on, where there is one. An
    error or Ctrl-C leaves what was there. A style with weights of its own (kind full) is copied beside the
    engine, so that it can be built again. Raises `BadOption`, `BadModel` or `MissingDependency`.
    """
    from vidstyle.backends.tensorrt.builder import build_plan, check_build
    from vidstyle.backends.tensorrt.library import find_library, installed_versions
    from vidstyle.backends.tensorrt.targets import TENSORRT_NEEDS_A_GPU, chosen_targets
    from vidstyle.graph import onnx_from_network

    began = time.perf_counter()
    options = options or BuildOptions()
    check_output(output, overwrite)
    if options.smallest is not None and min(options.smallest) < SMALLEST_SIDE:
        raise BadOption(f"the sides of a dynamic engine are at least {SMALLEST_SIDE}; give a larger smallest size")
    network = _shared_by(styles)
    facts = current_gpu(gpu)
    capability = facts.compute_capability if facts and "current" in chosen_targets(options.targets, facts) else None
    if facts is None and options.library == "tensorrt":
        raise BadOption(TENSORRT_NEEDS_A_GPU)  # whether or not it is installed
    try:
        library = find_library(options.library, compute_capability=capability)
    except MissingDependency as error:
        if capability is None or not installed_versions():
            raise
        raise MissingDependency(f"{error}; or build for other GPUs than this with --target portable") from error
    check_build(options, library, facts)  # before the work, so that a wrong wish costs nothing
    height, width = options.size
    form = FrameForm(
        height=height,
        width=width,
        pixels=options.pixels,
        matrix=options.matrix or untagged_matrix(height),
        full_range=options.full_range,
    )
    vectors = {style.name: style.vector for style in styles}
    fidelity = None
    if options.precision == "fp16":
        fidelity = check_fidelity(network, form, vectors, largest=options.largest)
    graph = onnx_from_network(network, form, precision=options.precision, dynamic=options.dynamic)
    with _in_use(facts):
        plan = build_plan(graph.SerializeToString(), options, library, on_progress, gpu=facts)
    notes = list(plan.notes)
    weights = _keep_weights(styles[0], output, notes)
    card = EngineCard(
        network=network.architecture.name,
        digest=network.digest,
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
        styles=vectors,
        weights=weights,
        build=_for_people(options, plan, fidelity),
    )
    engine = _write(output, plan.plan, card, overwrite)
    return BuildReport(engine, fidelity, dataclasses.replace(plan, plan=b""), time.perf_counter() - began, notes)


def fitting_engine(engine: EngineFile, form: FrameForm, options: BackendOptions) -> EngineFile:
    """``engine`` if it can be used here for frames of ``form``; else what is built in its place, with its styles.

    Built again, it is for the GPU to run on, for the frames at hand, and otherwise what it was: a dynamic
    engine grows to take them. `EngineMismatch` says what that would need and is not there.
    """
    from vidstyle.backends.tensorrt.fit import mismatch
    from vidstyle.backends.tensorrt.library import find_library, installed_versions
    from vidstyle.backends.tensorrt.targets import AMPERE_AND_LATER, PORTABLE, covers

    card, facts = engine.card, current_gpu(options.gpu)
    installed = card.library in installed_versions()
    library = find_library(
        card.library if installed else "auto", compute_capability=None if facts is None else facts.compute_capability
    )
    why = mismatch(engine, form, facts, library)
    if why is None:
        try:
            engine.read_plan()
        except BadModel:
            pass  # damaged: its card is whole, so it can be made again
        else:
            return engine
    if facts is None:
        raise EngineMismatch(why)
    here = facts.compute_capability
    if not library.supports(here):  # its own library does not know this GPU; perhaps the other one does
        library = find_library("auto", compute_capability=here)
    smallest, largest = card.smallest, card.largest
    size = card.best if card.takes(form.size) else form.size
    if card.dynamic and size == form.size:
        size, smallest, largest = _grown(card, form.size)
    widest = PORTABLE if library.is_rtx else (AMPERE_AND_LATER,)
    portable = set(widest) <= set(card.targets) and covers(widest, here)
    wishes = BuildOptions(
        size=size,
        smallest=smallest if card.dynamic else None,
        largest=largest if card.dynamic else None,
        pixels=form.pixels,
        matrix=form.matrix,
        full_range=form.full_range,
        precision=card.precision,
        targets=("portable",) if portable else ("current",),
        library=library.name,
    )
    return build_engine(styles_of_engine(engine), engine.path, wishes, gpu=options.gpu, overwrite=True).engine


def current_gpu(number: int | None = None) -> CudaGpu | None:
    """The GPU that engines are built on: CUDA's first, or its ``number``; None where none answers.

    Raises `BadOption` for a number that is not there.
    """
    try:
        from vidstyle.backends.tensorrt.cuda import NoGpu, find_gpu
    except ImportError as error:
        if number is None:
            return None
        raise MissingDependency(
            f"gpu is {number}, but CUDA cannot be asked ({error}): pip install cuda-python"
        ) from error
    try:
        return find_gpu(number)
    except NoGpu as error:
        if number is None:
            return None
        raise BadOption(f"gpu is {number}, but no GPU answers: {error}") from error


@contextmanager
def _in_use(gpu: CudaGpu | None) -> Iterator[None]:
    """Within the block ``gpu`` is this thread's: TensorRT builds on the one that is."""
    if gpu is None:
        yield
        return
    from vidstyle.backends.tensorrt.cuda import open_gpu

    device = open_gpu(gpu.number)
    try:
        with device.current():
            yield
    finally:
        device.close()


def check_output(output: Path, overwrite: bool) -> None:
    """`BadOption` unless an engine can be written to ``output``."""
    if output.suffix != SUFFIX:
        raise BadOption(f"{output} does not end in {SUFFIX}, the only kind of engine file; rename it")
    files.check_output(output, card_path_of(output), overwrite=overwrite)


def _shared_by(styles: Sequence[Style]) -> Network:
    """The one network that all of them drive."""
    if not styles:
        raise BadOption("an engine needs a style, and none was given; `vidstyle styles` lists the shipped ones")
    first, names = styles[0], [style.name for style in styles]
    for style in styles:
        if len(styles) > 1 and style.kind == "full":
            raise BadOption(
                f"style {style.name!r} has a network of its own (kind full), and an engine holds one network: "
                "build it alone, or adapt it without --full"
            )
        if style.network_digest != first.network_digest:
            raise BadOption(
                f"styles {first.name!r} ({first.network_name}) and {style.name!r} ({style.network_name}) belong to "
                "different networks, and an engine holds one; build two engines"
            )
        if not style.name.isprintable():
            raise BadOption(f"style {style.name!r} has a name that cannot be printed; rename its file")
        if names.count(style.name) > 1:
            raise BadOption(f"style {style.name!r} was given twice; an engine knows its styles by name")
    return network_of(first)


def _keep_weights(style: Style, output: Path, notes: list[str]) -> str | None:
    """Name of the file beside ``output`` with the weights of a full style; written there if need be."""
    if style.network is None:
        return None
    stems = [output.stem, f"{output.stem}.weights"]
    if Path(style.name).name == style.name and ":" not in style.name and "\\" not in style.name:
        stems.insert(0, style.name)
    for stem in stems:
        path = output.with_name(f"{stem}.safetensors")
        if not path.exists():
            style.save(path, overwrite=False)
            notes.append(f"{path} keeps the style's weights, for --rebuild")
            return path.name
        if _digest_of(path) == style.network_digest:
            return path.name
    raise BadOption(
        f"the weights of style {style.name!r} have to lie beside {output}, and {output.stem}.safetensors there is "
        "another style; choose another name for the engine"
    )


def _write(output: Path, plan: bytes, card: EngineCard, overwrite: bool) -> EngineFile:
    """Write an engine that others may be writing at this moment: in the end its two files belong together."""
    for attempt in range(_ATTEMPTS):
        engine = write_engine(output, plan, card, overwrite=overwrite or attempt > 0)
        try:
            # Whoever renames last sees what is there in the end, and puts it right.
            EngineFile.open(output).read_plan()
            return engine
        except BadModel:
            time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
    raise BadModel(f"{output} is written by several others at once; build it again")


def _digest_of(path: Path) -> str | None:
    try:
        style = Style.load(path)
    except BadModel:
        return None
    return style.network_digest if style.kind == "full" else None


def styles_of_engine(engine: EngineFile) -> list[Style]:
    """The styles of an engine file, with the network that it was built from; `EngineMismatch` where that is gone."""
    from vidstyle.backends.tensorrt.fit import command

    card = engine.card
    path = engine.weights
    if path is not None:
        try:
            style = Style.load(path)
        except BadModel as error:
            raise EngineMismatch(f"{engine.path} cannot be built again: {error}") from error
        if style.network is None or style.network_digest != card.digest:
            raise EngineMismatch(
                f"{engine.path} cannot be built again: {path} beside it holds other weights than it was built from; "
                f"build it with `{command(engine, str(path))}` to have those"
            )
        return [dataclasses.replace(style, name=name, vector=vector) for name, vector in card.styles.items()]
    if shared_network(card.network).digest != card.digest:
        raise EngineMismatch(
            f"{engine.path} cannot be built again: it holds another version of the {card.network!r} network than this "
            f"vidstyle ships; build it anew with `{command(engine, next(iter(card.styles)))}`"
        )
    return [Style(name, vector, card.network, card.digest) for name, vector in card.styles.items()]


def _grown(card: EngineCard, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Best, smallest and largest size of a dynamic engine that takes ``size`` too."""
    padded = [max(SMALLEST_SIDE, -(-side // MULTIPLE_OF) * MULTIPLE_OF) for side in size]
    smallest = [min(a, b) for a, b in zip(card.smallest, padded, strict=True)]
    largest = [max(a, b) for a, b in zip(card.largest, padded, strict=True)]
    return (padded[0], padded[1]), (smallest[0], smallest[1]), (largest[0], largest[1])


def _for_people(options: BuildOptions, plan: Plan, fidelity: Fidelity | None) -> dict[str, Any]:
    """What the sidecar says of the build; nothing reads it but people."""
    facts: dict[str, Any] = {
        "vidstyle": __version__,
        "seconds": round(plan.seconds, 3),
        "layers": plan.layers,
        "convolutions": plan.convolutions,
        "instance_norms": plan.norms,
        "inspected": plan.inspected,
        "options": dataclasses.asdict(options),
    }
    if fidelity is not None:
        facts["fidelity"] = _finite(dataclasses.asdict(fidelity))
    return facts


def _finite(value: Any) -> Any:
    """``value`` as JSON can say it: the PSNR of equal pictures is infinite."""
    if isinstance(value, float):
        return round(value, 2) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
