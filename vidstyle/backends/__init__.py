"""Inference libraries behind one contract, and the choice among them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidstyle.backends.base import PACKAGES, Backend, PictureNetwork, Program, distribution_version
from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.options import BackendOptions
from vidstyle.system import nvidia_driver, nvidia_gpus, on_x86


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can be used here; made without importing its library, but for TensorRT's where a GPU is."""

    name: str
    version: str | None
    """Version of the library; None where it is not installed."""
    install: str
    works: bool
    """Whether it is installed, and what it runs on is here."""


def backend_report() -> list[BackendStatus]:
    """Every backend, the one that ``auto`` prefers first."""
    on_gpu = gpu_backends(None)
    report = []
    for name in _preference(on_gpu):
        versions = [package.version() for package in PACKAGES[name]]
        version = next((version for version in versions if version is not None), None)
        works = version is not None and (name != "tensorrt" or name in on_gpu)
        report.append(BackendStatus(name, version, PACKAGES[name][0].install, works))
    return report


def open_backend(program: Program, options: BackendOptions | None = None) -> Backend:
    """Compile ``program`` with the backend that ``options`` name; ``auto`` takes the best one that works.

    Where an NVIDIA GPU answers, that is what runs on it: TensorRT, else torch or ONNX Runtime where they are
    built for CUDA. Raises `MissingDependency` (with the pip command) for a named backend that is not
    installed, and `BadOption` for a precision or a GPU that it does not have here.
    """
    options = options or BackendOptions()
    if options.backend != "auto" or options.device is not None:
        return _open("openvino" if options.device is not None else options.backend, program, options)
    on_gpu = gpu_backends(options.gpu)
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
            if failed:  # say that it is not the best one
                backend.description += f" (instead of {'; '.join(failed)})"
            return backend
    if options.gpu is not None:
        raise BadOption(f"nothing runs on GPU {options.gpu}: {'; '.join(failed + missing)}")
    raise MissingDependency(f"no inference library works here: {'; '.join(failed + missing)}")


_SMALL = ("openvino", "onnxruntime")
"""Backends with `open_picture_network`."""


def open_picture_network(graph: bytes, options: BackendOptions) -> PictureNetwork:
    """Compile the small network ``graph``, on the processor, with the library that ``options`` name.

    For the others OpenVINO runs it, or ONNX Runtime where that one is not installed, in its own precision. Raises
    `MissingDependency` where neither is there.
    """
    named = options.backend in _SMALL
    names = [options.backend] if named else [name for name in _preference(()) if name in _SMALL]
    missing = []
    for name in names:
        try:
            module = _module(name)
        except MissingDependency as error:
            missing.append(str(error))
        else:
            own = options if named else BackendOptions()
            network: PictureNetwork = module.open_picture_network(graph, own)
            return network
    raise MissingDependency("; ".join(missing))


def _open(name: str, program: Program, options: BackendOptions) -> Backend:
    backend: Backend = _module(name).open_program(program, options)
    return backend


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"vidstyle.backends.{name}")
    except ImportError as error:
        install = PACKAGES[name][0].install
        raise MissingDependency(f"backend {name!r} cannot be loaded: {error}; install it with: {install}") from error


def _preference(on_gpu: tuple[str, ...]) -> tuple[str, ...]:
    names = list(PACKAGES) if on_x86() else sorted(PACKAGES, key=lambda name: name != "onnxruntime")
    return (*on_gpu, *(name for name in names if name not in on_gpu))


def gpu_backends(number: int | None) -> tuple[str, ...]:
    """Installed backends that run on GPU ``number``, or on the first one, best first; () where no GPU answers."""
    if not nvidia_gpus():
        return ()
    from vidstyle.backends.tensorrt import runs_here

    able = {
        "tensorrt": runs_here(number),
        "torch": torch_has_cuda(),
        "onnxruntime": distribution_version("onnxruntime-gpu") is not None,
    }
    return tuple(name for name, is_able in able.items() if is_able)


def _nothing_on(number: int) -> str:
    try:
        driver = nvidia_driver()
    except OSError as error:
        why = str(error)
    else:
        if driver is not None and driver.gpus:
            extras = ", or ".join(package.install for package in PACKAGES["tensorrt"])
            return f"gpu is {number}, and nothing that is installed here runs on it; for TensorRT: {extras}"
        why = "no NVIDIA driver is installed" if driver is None else "the driver lists none"
    return f"gpu is {number}, but no NVIDIA GPU answers here ({why}); leave it out for the CPU"


def torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, read from its version file: importing it takes a second or two."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # built in some other way; it will say so itself
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None
