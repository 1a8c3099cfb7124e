"""Engines that were built for ``--backend tensorrt``, kept for the next time; each plays every style of its network.

One is found again by everything that it was built from and for. The folder may be lost, damaged or
unwritable: that costs a build, nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vidstyle.backends.base import Program
from vidstyle.backends.cache import cache_key
from vidstyle.backends.tensorrt.builder import Plan, build_plan
from vidstyle.backends.tensorrt.library import Library
from vidstyle.backends.tensorrt.lock import file_lock
from vidstyle.backends.tensorrt.targets import GpuFacts
from vidstyle.errors import BadModel
from vidstyle.files import cache_folder
from vidstyle.models.engine_file import SUFFIX, EngineCard, EngineFile, card_path_of, write_engine
from vidstyle.options import BuildOptions, EnginePrecision

KIND = "engines"
ENGINES_KEPT = 32
"""The one used longest ago goes first. About 2 MB each for `fast`, 8 MB for `paper`."""


@dataclass(frozen=True)
class Recipe:
    """What an engine is built from and for."""

    program: Program
    """Architecture and form of the frames."""
    precision: EnginePrecision
    """Arithmetic."""
    library: Library
    """What builds and runs it."""
    gpu: GpuFacts
    """What it runs on; this thread's current GPU."""
    options: BuildOptions
    """What the builder is told."""

    @classmethod
    def of(cls, program: Program, precision: EnginePrecision, library: Library, gpu: GpuFacts) -> Recipe:
        """The recipe for frames of the program's form on ``gpu``."""
        form = program.form
        options = BuildOptions(
            size=form.size,
            pixels=form.pixels,
            matrix=form.matrix,
            full_range=form.full_range,
            precision=precision,
            targets=("current",),
            library=library.name,
        )
        return cls(program, precision, library, gpu, options)


def engine_for(recipe: Recipe, *, anew: bool = False) -> tuple[EngineFile, bytes]:
    """The engine and its plan: the one that was kept, or one that is built now and kept.

    Two processes that want the same one build it once. ``anew`` builds in any case. Raises what `build_plan` raises.
    """
    graph = recipe.program.graph(recipe.precision)
    path = path_of(recipe, graph)
    with _alone(path):
        kept = None if anew else _kept(path)
        if kept is not None:
            return kept
        plan = build_plan(graph, recipe.options, recipe.library, gpu=recipe.gpu)
        card = _card(recipe, plan)
        try:
            engine = write_engine(path, plan.plan, card, None)
        except BadModel:  # the folder cannot be written: the engine in memory does
            digest = hashlib.sha256(plan.plan).hexdigest()
            engine = EngineFile(path, replace(card, plan_bytes=len(plan.plan), plan_sha256=digest))
        _forget_the_oldest(path.parent)
    return engine, plan.plan


def path_of(recipe: Recipe, graph: bytes) -> Path:
    """Where the engine of a recipe is kept. The graph holds architecture, form and precision."""
    gpu, library = recipe.gpu, recipe.library
    key = cache_key(graph, library.name, library.version, gpu.name, gpu.compute_capability, repr(recipe.options))
    return cache_folder(KIND) / f"{key}{SUFFIX}"


def _kept(path: Path) -> tuple[EngineFile, bytes] | None:
    try:
        engine = EngineFile.open(path)
        plan = engine.read_plan()
    except BadModel:
        return None
    with suppress(OSError):
        path.touch()
    return engine, plan


def _card(recipe: Recipe, plan: Plan) -> EngineCard:
    form = recipe.program.form
    return EngineCard(
        network=recipe.program.shape.name,
        theta="",
        pixels=form.pixels,
        matrix=form.matrix,
        full_range=form.full_range,
        smallest=form.size,
        best=form.size,
        largest=form.size,
        precision=recipe.precision,
        library=recipe.library.name,
        library_version=recipe.library.version,
        targets=plan.targets,
        gpu=plan.gpu,
        styles=(),
        build={"seconds": round(plan.seconds, 3), "layers": plan.layers, "for": recipe.gpu.name},
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process is in here with the same ``path``, where locks can be had."""
    lock = file_lock(path.with_suffix(".lock"))
    try:
        lock.__enter__()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _forget_the_oldest(folder: Path) -> None:
    with suppress(OSError):
        files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - ENGINES_KEPT)]:
            for part in (file, card_path_of(file), file.with_suffix(".lock")):
                part.unlink(missing_ok=True)
