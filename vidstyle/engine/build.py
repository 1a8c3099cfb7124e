"""Styles to an engine file: graph, FP16 check, plan; and engines built again where they do not fit."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidstyle import __version__, files
from vidstyle.engine.fp16_check import Fidelity, check_fidelity
from vidstyle.errors import BadModel, BadOption, EngineMismatch, MissingDependency
from vidstyle.frame import FrameFormat, untagged_matrix
from vidstyle.models.architecture import MULTIPLE_OF, SMALLEST_SIDE, Architecture
from vidstyle.models.engine_file import SUFFIX, EngineCard, EngineFile, card_path_of, styles_path_of, write_engine
from vidstyle.models.style import Style, blend, collection_bytes, styles_of_engine
from vidstyle.options import BackendOptions, BuildOptions, check_kind

if TYPE_CHECKING:
    from vidstyle.backends.tensorrt.builder import BuildProgress, Plan
    from vidstyle.backends.tensorrt.cuda import CudaGpu

_ATTEMPTS = 10


@dataclass
class BuildReport:
    engine: EngineFile
    """The files written; ``engine.card.build`` has all that was measured."""
    fidelity: Fidelity | None
    """The FP16 graph against FP32, before the build; None for an fp32 engine."""
    plan: Plan
    """Layers, targets, seconds; without the plan's bytes."""
    seconds: float
    notes: list[str] = field(default_factory=list)
    """Options without effect; one sentence each."""


def build_engine(
    styles: Sequence[Style],
    output: Path,
    options: BuildOptions | None = None,
    *,
    gpu: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildReport:
    """Compile the network of ``styles`` into the engine file ``output``, with their vectors and weights beside it.

    An fp16 graph first runs against fp32 on ONNX Runtime, on real frames, and a graph that is not true to it
    is not built (`vidstyle.engine.fp16_check`). ``gpu`` is the number of the GPU to build on, where there is one. An
    error or Ctrl-C leaves what was there. Raises `BadOption`, `BadModel` or `MissingDependency`.
    """
    from vidstyle.backends.tensorrt.builder import build_plan, card_of
    from vidstyle.backends.tensorrt.sdk import (
        TENSORRT_NEEDS_A_GPU,
        chosen_targets,
        find_library,
        installed_versions,
        target_capabilities,
    )
    from vidstyle.graph import onnx_from_network

    began = time.perf_counter()
    check_kind("options", options, BuildOptions)
    for style in [styles] if isinstance(styles, str) else styles:
        check_kind("style", style, Style, needed=True)
    options, output = options or BuildOptions(), files.as_path(output, "output")
    check_output(output, overwrite)
    if options.smallest is not None and min(options.smallest) < SMALLEST_SIDE:
        raise BadOption(f"the sides of a dynamic engine are at least {SMALLEST_SIDE}; give a larger smallest size")
    shape = _common_architecture(styles)
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
    target_capabilities(options.targets, library, facts)  # before the work, so that a wrong wish costs nothing
    height, width = options.size
    form = FrameFormat(
        height=height,
        width=width,
        pixels=options.pixels,
        matrix=options.matrix or untagged_matrix(height),
        full_range=options.full_range,
    )
    fidelity = None
    if options.precision == "fp16":
        fidelity = check_fidelity(styles, form, largest=options.largest)
    graph = onnx_from_network(shape, form, precision=options.precision, dynamic=options.dynamic)
    with ExitStack() as stack:
        if facts is not None:  # TensorRT builds on the GPU that is this thread's
            from vidstyle.backends.tensorrt.cuda import open_gpu

            stack.enter_context(stack.enter_context(closing(open_gpu(facts.number))).current())
        plan = build_plan(graph.SerializeToString(), options, library, on_progress, gpu=facts)
    card = card_of(
        plan,
        shape,
        form,
        options,
        library,
        theta=styles[0].theta,
        styles=tuple(style.name for style in styles),
        build=_build_facts(options, plan, fidelity),
    )
    engine = _write(output, plan.plan, card, collection_bytes(styles), overwrite)
    seconds = time.perf_counter() - began
    return BuildReport(engine, fidelity, dataclasses.replace(plan, plan=b""), seconds, list(plan.notes))


def fitting_engine(engine: EngineFile, form: FrameFormat, options: BackendOptions) -> EngineFile:
    """``engine`` if it can be used here for frames of ``form``; else what is built in its place, with its styles.

    Built again, it is for the GPU to run on, for the frames at hand, and otherwise what it was: a dynamic
    engine grows to take them. `EngineMismatch` says what that would need and is not there.
    """
    from vidstyle.backends.tensorrt.runtime import mismatch
    from vidstyle.backends.tensorrt.sdk import AMPERE_AND_LATER, PORTABLE, covers, find_library, installed_versions

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
        size, smallest, largest = _enlarged(card, form.size)
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
    try:
        styles = styles_of_engine(engine)
    except BadModel as error:
        raise EngineMismatch(f"{engine.path} cannot be built again: {error}") from error
    return build_engine(styles, engine.path, wishes, gpu=options.gpu, overwrite=True).engine


def current_gpu(number: int | None = None) -> CudaGpu | None:
    """The GPU that engines are built on: CUDA's first, or its ``number``; None where none answers.

    Raises `BadOption` for a number that is not there.
    """
    from vidstyle.backends.tensorrt import gpu_or_reason

    try:
        gpu, why = gpu_or_reason(number)
    except MissingDependency:
        if number is None:
            return None
        raise
    if gpu is None and number is not None:
        raise BadOption(f"gpu is {number}, but no GPU answers: {why}")
    return gpu


def check_output(output: Path, overwrite: bool) -> None:
    """`BadOption` unless an engine can be written to ``output``."""
    if output.suffix != SUFFIX:
        raise BadOption(f"{output} does not end in {SUFFIX}, the only kind of engine file; rename it")
    files.check_output(output, card_path_of(output), styles_path_of(output), overwrite=overwrite)


def _common_architecture(styles: Sequence[Style]) -> Architecture:
    """The network of them all, between which the engine will switch and blend."""
    if not styles:
        raise BadOption("an engine needs a style, and none was given; `vidstyle styles` lists the shipped ones")
    names = [style.name for style in styles]
    for style in styles:
        if not style.name.isprintable():
            raise BadOption(f"style {style.name!r} has a name that cannot be printed; rename its file")
        if names.count(style.name) > 1:
            raise BadOption(f"style {style.name!r} was given twice; an engine knows its styles by name")
    try:
        blend([(style, 1.0) for style in styles])
    except BadOption as error:
        raise BadOption(f"the styles of one engine blend: {error}; or build two engines") from error
    return styles[0].architecture


def _write(output: Path, plan: bytes, card: EngineCard, styles: bytes, overwrite: bool) -> EngineFile:
    """Write an engine that others may be writing at this moment: in the end its files belong together."""
    for attempt in range(_ATTEMPTS):
        engine = write_engine(output, plan, card, styles, overwrite=overwrite or attempt > 0)
        try:
            # Whoever renames last sees what is there in the end, and puts it right.
            there = EngineFile.open(output)
            there.read_plan()
            there.check_styles()
            return engine
        except BadModel:
            time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
    raise BadModel(f"{output} is written by several others at once; build it again")


def _enlarged(card: EngineCard, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Best, smallest and largest size of a dynamic engine that takes ``size`` too."""
    padded = [max(SMALLEST_SIDE, -(-side // MULTIPLE_OF) * MULTIPLE_OF) for side in size]
    smallest = [min(a, b) for a, b in zip(card.smallest, padded, strict=True)]
    largest = [max(a, b) for a, b in zip(card.largest, padded, strict=True)]
    return (padded[0], padded[1]), (smallest[0], smallest[1]), (largest[0], largest[1])


def _build_facts(options: BuildOptions, plan: Plan, fidelity: Fidelity | None) -> dict[str, Any]:
    """The facts of a build in the JSON file, for people; no code reads them."""
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
        # As JSON can say it: the PSNR of equal pictures is infinite.
        text = json.dumps(dataclasses.asdict(fidelity))
        facts["fidelity"] = json.loads(text, parse_constant=lambda _: None, parse_float=lambda n: round(float(n), 2))
    return facts
