"""Inference libraries behind one contract, and the choice among them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass

from vidstyle.backends.base import Backend, Program
from vidstyle.enginefile import EngineFile
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.frame import FrameForm
from vidstyle.options import BackendOptions

_PACKAGES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "openvino": ("openvino", ("openvino",), "pip install openvino"),
    "onnxruntime": (
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
        "pip install 'vidstyle[onnxruntime]'",
    ),
    "torch": ("torch", ("torch",), "pip install 'vidstyle[train]'"),
}
"""Backend: module it imports, distributions that bring the module, and how to get it."""


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can be used here; made without importing its library."""

    name: str
    """As on the command line."""
    version: str | None
    """Version of the library; None where it is not installed."""
    install: str
    """The command that installs it."""


def backend_report() -> list[BackendStatus]:
    """Every backend, the one that ``auto`` prefers first."""
    return [BackendStatus(name, _version(name), _PACKAGES[name][2]) for name in _preference()]


def open_backend(program: Program, options: BackendOptions | None = None) -> Backend:
    """Compile ``program`` with the backend that ``options`` name; ``auto`` takes the best one installed.

    Raises `MissingDependency` (with the pip command) for a named backend that is not installed, and
    `BadOption` for a precision that it does not have here.
    """
    options = options or BackendOptions()
    if options.backend != "auto":
        return _open(options.backend, program, options)
    missing = []
    for name in _preference():
        try:
            return _open(name, program, options)
        except MissingDependency as error:
            missing.append(str(error))
    raise MissingDependency(f"no inference library works here: {'; '.join(missing)}")


def open_engine(engine: EngineFile, form: FrameForm, options: BackendOptions | None = None) -> Backend:
    """Load a compiled engine for frames of ``form``.

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
    try:
        from vidstyle.backends import tensorrt
    except ImportError as error:
        install = f"pip install 'vidstyle[{engine.card.library}]'"
        raise MissingDependency(f"{engine.path.name} cannot be run: {error}; install it with: {install}") from error
    backend: Backend = tensorrt.open_engine(engine, form, options)
    return backend


def _open(name: str, program: Program, options: BackendOptions) -> Backend:
    try:
        module = importlib.import_module(f"vidstyle.backends.{name}")
    except ImportError as error:
        install = _PACKAGES[name][2]
        raise MissingDependency(f"backend {name!r} cannot be loaded: {error}; install it with: {install}") from error
    backend: Backend = module.open_program(program, options)
    return backend


def _preference() -> tuple[str, ...]:
    if platform.machine().lower() in ("x86_64", "amd64"):
        return ("openvino", "onnxruntime", "torch")
    return ("onnxruntime", "openvino", "torch")


def _version(name: str) -> str | None:
    module, distributions, _ = _PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        return None
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
