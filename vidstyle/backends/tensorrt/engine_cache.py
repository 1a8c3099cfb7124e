"""Engines that were built for ``--backend tensorrt``, kept for the next time; each plays every style of its network.

One is found again by everything that it was built from and for. The folder may be lost, damaged or
unwritable: that costs a build, nothing else.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from vidstyle.backends.base import Program
from vidstyle.backends.tensorrt.builder import build_plan, card_of
from vidstyle.backends.tensorrt.sdk import GpuFacts, Library
from vidstyle.errors import BadModel
from vidstyle.files import cache_folder, cache_key, remove_oldest
from vidstyle.models.engine_file import SUFFIX, EngineFile, card_path_of, write_engine
from vidstyle.options import BuildOptions, EnginePrecision

KIND = "engines"
ENGINES_KEPT = 32
"""The one used longest ago goes first. About 2 MB each for `fast`, 8 MB for `paper`."""


def cached_engine(
    program: Program, precision: EnginePrecision, library: Library, gpu: GpuFacts, *, rebuild: bool = False
) -> tuple[EngineFile, bytes]:
    """The engine of a program and its plan: the one that was kept, or one that is built now and kept.

    ``gpu`` is this thread's current one. Two processes that want the same engine build it once. ``rebuild`` builds in
    any case. Raises what `build_plan` raises.
    """
    form, graph = program.form, program.graph(precision)
    options = BuildOptions(
        size=form.size,
        pixels=form.pixels,
        matrix=form.matrix,
        full_range=form.full_range,
        precision=precision,
        targets=("current",),
        library=library.name,
    )
    # The graph holds architecture, form and precision.
    key = cache_key(graph, library.name, library.version, gpu.name, gpu.compute_capability, repr(options))
    path = cache_folder(KIND) / f"{key}{SUFFIX}"
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # a folder that cannot be written, or knows no locks
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(_lock_path(path)))
        if not rebuild:
            with suppress(BadModel):
                engine = EngineFile.open(path)
                kept = engine.read_plan()
                with suppress(OSError):
                    path.touch()
                return engine, kept
        built = build_plan(graph, options, library, gpu=gpu)
        facts = {"seconds": round(built.seconds, 3), "layers": built.layers, "for": gpu.name}
        card = card_of(built, program.shape, form, options, library, theta="", styles=(), build=facts)
        try:
            engine = write_engine(path, built.plan, card, None)
        except BadModel:  # the folder cannot be written: the engine in memory does
            digest = hashlib.sha256(built.plan).hexdigest()
            engine = EngineFile(path, replace(card, plan_bytes=len(built.plan), plan_sha256=digest))
        remove_oldest(path.parent, SUFFIX, ENGINES_KEPT, card_path_of, _lock_path)
    return engine, built.plan


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")
