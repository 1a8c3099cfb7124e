"""TensorRT and TensorRT-RTX: which of the two is installed, what it reports, and which GPUs it builds for.

Their Python interfaces differ in a few corners only, and those are here and in `vidstyle.backends.tensorrt.builder`.
Neither is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

from vidstyle.backends.base import PACKAGES
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.models.engine_file import LibraryName
from vidstyle.options import EngineLibrary, EngineTarget

PORTABLE = ("8.0", "8.6", "8.9", "12.0")
"""The default targets of TensorRT-RTX; such an engine runs on later GPUs too
(https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html)."""
AMPERE_AND_LATER = "8.0+"
"""Target of a portable TensorRT engine (`HardwareCompatibilityLevel.AMPERE_PLUS`)."""
TENSORRT_NEEDS_A_GPU = (
    "tensorrt builds on the GPU that it builds for, and none answers here; `--library tensorrt-rtx` builds without one"
)
TARGETS: dict[EngineTarget, tuple[str, ...]] = {
    "portable": PORTABLE,
    "turing": ("7.5",),
    "ampere": ("8.0", "8.6"),
    "ada": ("8.9",),
    "blackwell": ("12.0", "12.1"),
}
"""Names of GPUs, and the compute capabilities behind them."""
# TensorRT-RTX comes first, and so `auto` prefers it: it builds in seconds, for many GPUs, and without one.
_PACKAGES = {cast(LibraryName, package.distributions[0]): package for package in PACKAGES["tensorrt"]}
_OLDEST = (7, 5)
"""The oldest compute capability that TensorRT 10 and 11 run on."""


@dataclass(frozen=True)
class GpuFacts:
    """The facts of a GPU that decide which engines it runs."""

    name: str
    compute_capability: str
    """Such as ``8.9``."""


class ErrorLog:
    """The last error that TensorRT has reported; it is kept instead of printed. Filled from any thread."""

    def __init__(self) -> None:
        self._last = (0, "")
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Errors so far: a moment, for `last_since`."""
        return self._last[0]

    def add(self, text: str) -> None:
        with self._lock:
            self._last = self.count + 1, " ".join(text.split())

    def last_since(self, count: int) -> str:
        """The last error after the first ``count``, in the library's own words."""
        number, text = self._last
        return text if number > count else "it gives no reason"


@dataclass(frozen=True, eq=False)
class Library:
    name: LibraryName
    module: Any
    version: str
    """An engine runs on the version that built it."""

    @cached_property
    def errors(self) -> ErrorLog:
        return ErrorLog()

    @cached_property
    def logger(self) -> Any:
        """The one logger of this process: TensorRT holds on to the first that it is given."""
        errors, base = self.errors, self.module.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]  # the class is known only when the module is
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                # INTERNAL_ERROR is not among them: TensorRT-RTX sends harmless ones in every build.
                if severity == base.ERROR:
                    errors.add(text)

        return Logger()

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which builds ahead of time for GPUs that need not be here."""
        return self.name == "tensorrt-rtx"

    @cached_property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Targets of TensorRT-RTX, such as ``8.9``; empty for TensorRT, which builds for the GPU it runs on."""
        if not self.is_rtx:
            return ()
        members = self.module.ComputeCapability.__members__
        numbers = sorted(int(name[2:]) for name in members if name.startswith("SM"))
        return tuple(f"{number // 10}.{number % 10}" for number in numbers)

    def supports(self, compute_capability: str) -> bool:
        """Whether engines of this library run on such a GPU. TensorRT-RTX leaves out data-centre GPUs."""
        if self.is_rtx:
            return compute_capability in self.compute_capabilities
        return capability_pair(compute_capability) >= _OLDEST


def find_library(wanted: EngineLibrary = "auto", *, compute_capability: str | None = None) -> Library:
    """Import the library called ``wanted``.

    ``auto`` takes TensorRT-RTX, or TensorRT where the former is not installed or does not know the GPU of
    ``compute_capability``. `MissingDependency` has the pip command.
    """
    if wanted != "auto":
        return load_library(wanted)
    installed = installed_versions()
    found: list[Library] = []
    for name in installed:
        found.append(load_library(name))
        if compute_capability is None or found[-1].supports(compute_capability):
            return found[-1]
    rtx, tensorrt = (package.install for package in _PACKAGES.values())
    if not found:
        raise MissingDependency(
            f"engines need TensorRT, which is not installed: {rtx} (builds without a GPU, runs on GeForce and RTX "
            f"cards), or {tensorrt} (data-centre GPUs too)"
        )
    known = ", ".join(found[0].compute_capabilities) or "7.5 and later"
    install = f"; for data-centre GPUs: {tensorrt}" if "tensorrt" not in installed else ""
    raise MissingDependency(
        f"{found[0].name} {found[0].version} does not know this GPU's compute capability {compute_capability}, "
        f"only {known}{install}"
    )


@cache
def load_library(name: LibraryName) -> Library:
    """Import TensorRT or TensorRT-RTX; `MissingDependency` where that fails."""
    package = _PACKAGES[name]
    try:
        module = importlib.import_module(package.module)
    except (ImportError, OSError) as error:
        # Its own libraries may be missing too, which shows as an OSError.
        raise MissingDependency(f"{name} cannot be loaded ({error}): {package.install}") from error
    return Library(name, module, str(module.__version__))


def installed_versions() -> dict[LibraryName, str]:
    """Version of each of the two that is installed, the one that ``auto`` prefers first; imports neither."""
    versions = {name: package.version() for name, package in _PACKAGES.items()}
    return {name: version for name, version in versions.items() if version is not None}


def capability_pair(compute_capability: str) -> tuple[int, int]:
    """``"8.9"`` as ``(8, 9)``, so that it can be compared."""
    major, _, minor = compute_capability.partition(".")
    return int(major), int(minor or 0)


def chosen_targets(targets: Sequence[EngineTarget], gpu: GpuFacts | None) -> tuple[EngineTarget, ...]:
    """``targets``, or where there are none the current GPU, or ``portable`` where there is no GPU."""
    return tuple(dict.fromkeys(targets)) or ("current" if gpu else "portable",)


def target_capabilities(targets: Sequence[EngineTarget], library: Library, gpu: GpuFacts | None) -> tuple[str, ...]:
    """The compute capabilities to build for, ascending; `BadOption` says why ``library`` cannot, and what can."""
    chosen = chosen_targets(targets, gpu)
    if gpu is None and "current" in chosen:
        raise BadOption("target 'current' needs a GPU, and none answers here; name the GPU's family, or take portable")
    if not library.is_rtx:
        if gpu is None:
            raise BadOption(TENSORRT_NEEDS_A_GPU)
        if chosen not in (("current",), ("portable",)):
            raise BadOption(
                f"target is {', '.join(chosen)}; tensorrt builds for the current GPU, or portable (Ampere and later): "
                "take one of these, build on the GPU in question, or take `--library tensorrt-rtx`"
            )
        return (AMPERE_AND_LATER,) if chosen == ("portable",) else (gpu.compute_capability,)
    found: set[str] = set()
    for target in chosen:
        # An older TensorRT-RTX does not know the last of a family.
        known = [gpu.compute_capability] if target == "current" and gpu else list(TARGETS.get(target, ()))
        usable = [capability for capability in known if library.supports(capability)]
        if not usable:
            raise BadOption(
                f"{library.name} {library.version} cannot build for {target} ({', '.join(known)}), only for "
                f"{', '.join(library.compute_capabilities)}; data-centre GPUs such as Hopper need "
                "`--library tensorrt` on that GPU"
            )
        found.update(usable)
    return tuple(sorted(found, key=capability_pair))


def covers(built_for: Sequence[str], compute_capability: str) -> bool:
    """Whether an engine built for ``built_for`` runs on a GPU of ``compute_capability``."""
    if compute_capability in built_for:
        return True
    here = capability_pair(compute_capability)
    if AMPERE_AND_LATER in built_for:
        return here >= (8, 0)
    return set(PORTABLE) <= set(built_for) and here >= capability_pair(PORTABLE[-1])
