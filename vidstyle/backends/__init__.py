"""Inference libraries behind one contract, and the choice among them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from vidstyle.backends.base import Backend, Program
from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.models.engine_file import EngineFile
from vidstyle.options import BackendOptions
from vidstyle.system import nvidia_driver

_PACKAGES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "openvino": ("openvino", ("openvino",), "pip install openvino"),
    "onnxruntime": (
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
        "pip install 'vidstyle[onnxruntime]'",
    ),
    "torch": ("torch", ("torch",), "pip install 'vidstyle[train]'"),
    # Its module and distributions are two; `vidstyle.backends.tensorrt.library` knows them.
    "tensorrt": ("", (), "pip install 'vidstyle[tensorrt-rtx]'"),
}
"""Backend: module it imports, distributions that bring the module, and how to get it."""


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can be used here; made without importing its library, but for TensorRT's where a GPU is."""

    name: str
    """As on the command line."""
    version: str | None
    """Version of the library; None where it is not installed."""
    install: str
    """The command that installs it."""
    works: bool
    """Whether it is installed, and what it runs on is here."""


def backend_report() -> list[BackendStatus]:
    """Every backend, the one that ``auto`` prefers first."""
    on_gpu = _on_gpu(None)
    return [_status(name, works=name != "tensorrt" or name in on_gpu) for name in _preference(on_gpu)]


def open_backend(program: Program, options: BackendOptions | None = None) -> Backend:
    """Compile ``program`` with the backend that ``options`` name; ``auto`` takes the best one that works.

    Where an NVIDIA GPU answers, that is what runs on it: TensorRT, else torch or ONNX Runtime where they are
    built for CUDA. Raises `MissingDependency` (with the pip command) for a named backend that is not
    installed, and `BadOption` for a precision or a GPU that it does not have here.
    """
    options = options or BackendOptions()
    if options.backend != "auto":
        return _open(options.backend, program, options)
    on_gpu = _on_gpu(options.gpu)
    if options.gpu is not None and not on_gpu:
        raise BadOption(_nothing_on(options.gpu))
    missing: list[str] = []
    failed: list[str] = []
    others = [name for name in _preference(on_gpu) if name not in (*on_gpu, "tensorrt")]
    for name in [*on_gpu, *(others if options.gpu is None else [])]:
        try:
            backend = _open(name, program, options)
        except MissingDependency as error:
            missing.append(str(error))
        except VidstyleError as error:
            if name not in on_gpu:
                raise
            failed.append(f"{name}: {error}")
        else:
            if failed:  # the next best is no secret
                backend.description += f" (instead of {'; '.join(failed)})"
            return backend
    if options.gpu is not None:
        raise BadOption(f"nothing runs on GPU {options.gpu}: {'; '.join(failed + missing)}")
    raise MissingDependency(f"no inference library works here: {'; '.join(failed + missing)}")


def open_engine(engine: EngineFile, program: Program, options: BackendOptions | None = None) -> Backend:
    """Load a compiled engine to run ``program``.

    Raises `MissingDependency` where its TensorRT is not installed, `EngineMismatch` (with the command
    that mends it) where it was built for other frames, another GPU or another version, and `BadModel`
    where it is damaged. There is no falling back.
    """
    options = options or BackendOptions()
    if options.backend not in ("auto", "tensorrt"):
        raise BadOption(
            f"{engine.path.name} is an engine, which TensorRT runs; backend is {options.backend!r}: leave it out, "
            "or give a style instead of the engine"
        )
    from vidstyle.backends.tensorrt import open_engine as open_it

    return open_it(engine, program, options)


def _open(name: str, program: Program, options: BackendOptions) -> Backend:
    if name == "openvino" and options.gpu is not None:
        raise BadOption(f"gpu is {options.gpu}, and OpenVINO paints on the CPU here; leave out --backend, or --gpu")
    try:
        module = importlib.import_module(f"vidstyle.backends.{name}")
    except ImportError as error:
        install = _PACKAGES[name][2]
        raise MissingDependency(f"backend {name!r} cannot be loaded: {error}; install it with: {install}") from error
    backend: Backend = module.open_program(program, options)
    return backend


def _preference(on_gpu: tuple[str, ...]) -> tuple[str, ...]:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    on_cpu = ("openvino", "onnxruntime", "torch") if x86 else ("onnxruntime", "openvino", "torch")
    others = [name for name in (*on_cpu, "tensorrt") if name not in on_gpu]
    # Without a GPU, TensorRT has nothing to offer to `auto`; its place in the report is the last one.
    return (*on_gpu, *others)


def _on_gpu(number: int | None) -> tuple[str, ...]:
    """What is installed and runs on GPU ``number``, or the first one, the best first; empty where none answers."""
    try:
        driver = nvidia_driver()
    except OSError:
        return ()
    if driver is None or not driver.gpus:
        return ()
    from vidstyle.backends.tensorrt import runs_here

    able = {"tensorrt": runs_here(number), "torch": _torch_has_cuda(), "onnxruntime": _has("onnxruntime-gpu")}
    return tuple(name for name, is_able in able.items() if is_able)


def _nothing_on(number: int) -> str:
    try:
        driver = nvidia_driver()
        why = "no NVIDIA driver is installed" if driver is None else ""
        gpus = () if driver is None else driver.gpus
    except OSError as error:
        why, gpus = str(error), ()
    if gpus:
        return (
            f"gpu is {number}, and nothing that is installed here runs on it; "
            f"for TensorRT: {_PACKAGES['tensorrt'][2]}, or {_PACKAGES['tensorrt'][2].replace('-rtx', '')}"
        )
    return (
        f"gpu is {number}, but no NVIDIA GPU answers here ({why or 'the driver lists none'}); leave it out for the CPU"
    )


def _torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, read from its version file: importing it takes a second or two."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # built in some other way; it will say so itself
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None


def _has(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _status(name: str, *, works: bool) -> BackendStatus:
    version = _version(name)
    return BackendStatus(name, version, _PACKAGES[name][2], works and version is not None)


def _version(name: str) -> str | None:
    if name == "tensorrt":
        from vidstyle.backends.tensorrt.library import installed_versions

        return next(iter(installed_versions().values()), None)
    module, distributions, _ = _PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        return None
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
