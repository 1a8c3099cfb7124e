"""TensorRT and TensorRT-RTX: engines built and run on NVIDIA GPUs.

Nothing heavy is imported before a GPU has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidstyle.backends.base import Backend, Program
from vidstyle.errors import BadOption, EngineMismatch, MissingDependency
from vidstyle.models.engine_file import EngineFile
from vidstyle.options import BackendOptions, EnginePrecision
from vidstyle.system import nvidia_driver

if TYPE_CHECKING:
    from vidstyle.backends.tensorrt.cuda import CudaGpu

__all__ = ["open_engine", "open_program", "runs_here"]


def open_engine(engine: EngineFile, program: Program, options: BackendOptions) -> Backend:
    """Load ``engine`` to run ``program``; see `vidstyle.backends.open_engine`."""
    from vidstyle.backends.tensorrt.fit import mismatch, no_gpu
    from vidstyle.backends.tensorrt.library import find_library

    card = engine.card
    if options.precision not in ("auto", card.precision):
        raise BadOption(
            f"precision is {options.precision}, and {engine.path} computes in {card.precision}; leave it out, or "
            "build an engine of that precision"
        )
    gpu, why = _gpu(options.gpu)
    if gpu is None:
        raise EngineMismatch(no_gpu(engine, why))
    library = find_library(card.library)
    reason = mismatch(engine, program.form, gpu, library)
    if reason is not None:
        raise EngineMismatch(reason)
    plan = engine.read_plan()

    from vidstyle.backends.tensorrt.cuda import open_gpu
    from vidstyle.backends.tensorrt.loaded import LoadedEngine
    from vidstyle.backends.tensorrt.runner import TensorRtBackend

    return TensorRtBackend(
        lambda: LoadedEngine(engine, plan, library, gpu), open_gpu(gpu.number), program, dynamic=card.dynamic
    )


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program`` for the GPU, or take what an earlier run compiled.

    Raises `BadOption` where there is no GPU, and `MissingDependency` where no TensorRT knows it.
    """
    precision = _engine_precision(options)
    gpu, why = _gpu(options.gpu)
    if gpu is None:
        raise BadOption(
            f"backend is 'tensorrt', which needs an NVIDIA GPU, and none answers on this machine ({why}); "
            "leave --backend out to paint on the CPU"
        )

    from vidstyle.backends.tensorrt.cached import Recipe, engine_for
    from vidstyle.backends.tensorrt.cuda import open_gpu
    from vidstyle.backends.tensorrt.library import find_library
    from vidstyle.backends.tensorrt.loaded import LoadedEngine
    from vidstyle.backends.tensorrt.runner import TensorRtBackend

    library = find_library("auto", compute_capability=gpu.compute_capability)
    recipe = Recipe.of(program, precision, library, gpu)

    def load() -> LoadedEngine:
        engine, plan = engine_for(recipe)
        try:
            return LoadedEngine(engine, plan, library, gpu)
        except EngineMismatch:  # what the key cannot say, a driver for instance
            engine, plan = engine_for(recipe, anew=True)
            return LoadedEngine(engine, plan, library, gpu)

    return TensorRtBackend(load, open_gpu(gpu.number), program)


def runs_here(number: int | None = None) -> bool:
    """Whether an installed TensorRT knows GPU ``number``, or the first one. Imports it only where there is a GPU."""
    from vidstyle.backends.tensorrt.library import find_library, installed_versions

    if not installed_versions() or not _driver_has_gpus():
        return False
    try:
        gpu, _ = _gpu(number)
        if gpu is None:
            return False
        find_library("auto", compute_capability=gpu.compute_capability)
    except (MissingDependency, BadOption):
        return False
    return True


def _gpu(number: int | None) -> tuple[CudaGpu | None, str]:
    """GPU ``number`` or the first one; or None and why there is none."""
    try:
        from vidstyle.backends.tensorrt.cuda import NoGpu, find_gpu
    except ImportError as error:
        if _driver_has_gpus():
            raise MissingDependency(f"TensorRT runs through cuda-python ({error}): pip install cuda-python") from error
        return None, "no NVIDIA driver with a GPU answers"
    try:
        return find_gpu(number), ""
    except NoGpu as error:
        return None, str(error)


def _driver_has_gpus() -> bool:
    try:
        driver = nvidia_driver()
    except OSError:
        return False
    return driver is not None and bool(driver.gpus)


def _engine_precision(options: BackendOptions) -> EnginePrecision:
    if options.precision == "bf16":
        raise BadOption("precision is bf16, and TensorRT engines compute in fp16 or fp32; use one of these, or auto")
    return "fp16" if options.precision == "auto" else options.precision
