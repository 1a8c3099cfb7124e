"""TensorRT and TensorRT-RTX: which of the two is installed, what it says, and what it builds for.

Their Python interfaces are one but for a few corners, and the corners are here and in
`vidstyle.backends.tensorrt.builder`. Neither is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from vidstyle.errors import MissingDependency
from vidstyle.models.engine_file import LibraryName
from vidstyle.options import EngineLibrary

MESSAGES_KEPT = 50
_MODULES: dict[LibraryName, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
"""The one that ``auto`` prefers comes first: it builds in seconds, for many GPUs, and without one."""
_DISTRIBUTIONS: dict[LibraryName, tuple[str, ...]] = {
    "tensorrt-rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}
_OLDEST = (7, 5)
"""The oldest compute capability that TensorRT 10 and 11 run on."""


class Messages:
    """What TensorRT says, kept instead of printed. Filled from any thread."""

    def __init__(self) -> None:
        self._errors: deque[tuple[int, str]] = deque(maxlen=MESSAGES_KEPT)
        self._count = 0
        self._lock = threading.Lock()

    def add_error(self, text: str) -> None:
        """Keep one error."""
        with self._lock:
            self._count += 1
            self._errors.append((self._count, " ".join(text.split())))

    def mark(self) -> int:
        """The moment, for `since`."""
        return self._count

    def since(self, mark: int) -> str:
        """The last error after ``mark``, as the library words it."""
        errors = [text for number, text in list(self._errors) if number > mark]
        return errors[-1] if errors else "it gives no reason"


@dataclass(frozen=True, eq=False)
class Library:
    """TensorRT or TensorRT-RTX, imported."""

    name: LibraryName
    """As on the command line."""
    module: Any
    """``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    """As the module says it; an engine runs on the version that built it."""

    @cached_property
    def messages(self) -> Messages:
        """The errors that `logger` has received."""
        return Messages()

    @cached_property
    def logger(self) -> Any:
        """The one logger of this process: TensorRT holds on to the first that it is given."""
        messages, base = self.messages, self.module.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]  # the class is known only when the module is
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                # INTERNAL_ERROR is not among them: TensorRT-RTX sends harmless ones in every build.
                if severity == base.ERROR:
                    messages.add_error(text)

        return Logger()

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which builds ahead of time for GPUs that need not be here."""
        return self.name == "tensorrt-rtx"

    @cached_property
    def compute_capabilities(self) -> tuple[str, ...]:
        """What TensorRT-RTX can build for, such as ``8.9``; empty for TensorRT, which builds for the GPU it runs on."""
        if not self.is_rtx:
            return ()
        members = self.module.ComputeCapability.__members__
        numbers = sorted(int(name[2:]) for name in members if name.startswith("SM"))
        return tuple(f"{number // 10}.{number % 10}" for number in numbers)

    def supports(self, compute_capability: str) -> bool:
        """Whether engines of this library run on such a GPU. TensorRT-RTX leaves out data-centre GPUs."""
        if self.is_rtx:
            return compute_capability in self.compute_capabilities
        return as_pair(compute_capability) >= _OLDEST


def find_library(wanted: EngineLibrary = "auto", *, compute_capability: str | None = None) -> Library:
    """Import the library called ``wanted``.

    ``auto`` takes TensorRT-RTX, or TensorRT where the former is not installed or does not know the GPU of
    ``compute_capability``. `MissingDependency` has the pip command.
    """
    if wanted != "auto":
        return _import(wanted)
    installed = installed_versions()
    found: list[Library] = []
    for name in _MODULES:
        if name in installed:
            library = _import(name)
            if compute_capability is None or library.supports(compute_capability):
                return library
            found.append(library)
    if not found:
        raise MissingDependency(
            "engines need TensorRT, which is not installed: pip install 'vidstyle[tensorrt-rtx]' (builds without a "
            "GPU, runs on GeForce and RTX cards), or pip install 'vidstyle[tensorrt]' (data-centre GPUs too)"
        )
    known = ", ".join(found[0].compute_capabilities) or "7.5 and later"
    install = "; for data-centre GPUs: pip install 'vidstyle[tensorrt]'" if "tensorrt" not in installed else ""
    raise MissingDependency(
        f"{found[0].name} {found[0].version} does not know this GPU's compute capability {compute_capability}, "
        f"only {known}{install}"
    )


def installed_versions() -> dict[LibraryName, str]:
    """Version of each of the two that is installed, the one that ``auto`` prefers first; imports neither."""
    versions: dict[LibraryName, str] = {}
    for name, module in _MODULES.items():
        if importlib.util.find_spec(module) is None:
            continue
        versions[name] = "unknown"
        for distribution in _DISTRIBUTIONS[name]:
            try:
                versions[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions


def as_pair(compute_capability: str) -> tuple[int, int]:
    """``"8.9"`` as ``(8, 9)``, so that it can be compared."""
    major, _, minor = compute_capability.partition(".")
    return int(major), int(minor or 0)


@cache
def _import(name: LibraryName) -> Library:
    try:
        module = importlib.import_module(_MODULES[name])
    except (ImportError, OSError) as error:
        # Its own libraries may be missing too, which shows as an OSError.
        raise MissingDependency(f"{name} cannot be loaded ({error}): pip install 'vidstyle[{name}]'") from error
    return Library(name, module, str(module.__version__))
