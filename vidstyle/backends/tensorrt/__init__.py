"""TensorRT and TensorRT-RTX: engines built and run on NVIDIA GPUs.

Nothing heavy is imported before a GPU has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidstyle.backends.base import Backend, Program, chosen_precision
from vidstyle.backends.tensorrt.sdk import find_library, installed_versions
from vidstyle.errors import BadOption, EngineMismatch, MissingDependency
from vidstyle.models.engine_file import EngineFile
from vidstyle.options import BackendOptions, EnginePrecision
from vidstyle.system import nvidia_gpus

if TYPE_CHECKING:
    from vidstyle.backends.tensorrt.cuda import CudaGpu


def open_engine(engine: EngineFile, program: Program, options: BackendOptions | None = None) -> Backend:
    """Load a compiled engine to run ``program``.

    Raises `MissingDependency` where its TensorRT is not installed, `EngineMismatch` where it was built for other
    frames, another GPU or another version, and `BadModel` where it is damaged. There is no falling back.
    """
    from vidstyle.backends.tensorrt.runtime import LoadedEngine, mismatch, no_gpu_message

    options = options or BackendOptions()
    if options.backend not in ("auto", "tensorrt"):
        raise BadOption(
            f"{engine.path.name} is an engine, which TensorRT runs; backend is {options.backend!r}: leave it out, "
            "or give a style instead of the engine"
        )
    card = engine.card
    if options.precision not in ("auto", card.precision):
        raise BadOption(
            f"precision is {options.precision}, and {engine.path} computes in {card.precision}; leave it out, or "
            "build an engine of that precision"
        )
    gpu, why = gpu_or_reason(options.gpu)
    if gpu is None:
        raise EngineMismatch(no_gpu_message(engine, why))
    library = find_library(card.library)
    reason = mismatch(engine, program.form, gpu, library)
    if reason is not None:
        raise EngineMismatch(reason)
    plan = engine.read_plan()

    from vidstyle.backends.tensorrt.cuda import open_gpu
    from vidstyle.backends.tensorrt.executor import TensorRtBackend

    return TensorRtBackend(
        lambda: LoadedEngine(engine, plan, library, gpu), open_gpu(gpu.number), program, dynamic=card.dynamic
    )


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Compile ``program`` for the GPU, or take what an earlier run compiled.

    Raises `BadOption` where there is no GPU, and `MissingDependency` where no TensorRT knows it.
    """
    able: list[EnginePrecision] = ["fp16", "fp32"]
    precision = chosen_precision(options, able, "TensorRT")
    gpu, why = gpu_or_reason(options.gpu)
    if gpu is None:
        raise BadOption(
            f"backend is 'tensorrt', which needs an NVIDIA GPU, and none answers on this machine ({why}); "
            "leave --backend out to paint on the CPU"
        )

    from vidstyle.backends.tensorrt.cuda import open_gpu
    from vidstyle.backends.tensorrt.engine_cache import cached_engine
    from vidstyle.backends.tensorrt.executor import TensorRtBackend
    from vidstyle.backends.tensorrt.runtime import LoadedEngine

    library = find_library("auto", compute_capability=gpu.compute_capability)

    def load() -> LoadedEngine:
        try:
            return LoadedEngine(*cached_engine(program, precision, library, gpu), library, gpu)
        except EngineMismatch:  # what the key cannot say, a driver for instance
            return LoadedEngine(*cached_engine(program, precision, library, gpu, rebuild=True), library, gpu)

    return TensorRtBackend(load, open_gpu(gpu.number), program)


def runs_here(number: int | None = None) -> bool:
    """Whether an installed TensorRT knows GPU ``number``, or the first one. Imports it only where there is a GPU."""
    if not installed_versions() or not nvidia_gpus():
        return False
    try:
        gpu, _ = gpu_or_reason(number)
        if gpu is None:
            return False
        find_library("auto", compute_capability=gpu.compute_capability)
    except (MissingDependency, BadOption):
        return False
    return True


def gpu_or_reason(number: int | None = None) -> tuple[CudaGpu | None, str]:
    """GPU ``number``, or CUDA's first one; or None and half a sentence on why none answers.

    Raises `BadOption`, with those there are, for a number that is not among them, and `MissingDependency` where the
    driver lists a GPU and cuda-python is not installed.
    """
    try:
        from vidstyle.backends.tensorrt.cuda import NoGpu, find_gpu
    except ImportError as error:
        if nvidia_gpus():
            raise MissingDependency(f"TensorRT runs through cuda-python ({error}): pip install cuda-python") from error
        return None, "no NVIDIA driver with a GPU answers"
    try:
        return find_gpu(number), ""
    except NoGpu as error:
        return None, str(error)
