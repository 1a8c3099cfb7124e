"""Old names of modules, attributes and methods. They work for one version, and warn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "vidstyle.build": "vidstyle.engine.build",
    "vidstyle.color": "vidstyle.frame",
    "vidstyle.gpu": "vidstyle.system",
    "vidstyle.live.live": "vidstyle.live.session",
    "vidstyle.live.options": "vidstyle.options",
    "vidstyle.model": "vidstyle.models.torch_net",
    "vidstyle.networks": "vidstyle.models.architecture",
    "vidstyle.still": "vidstyle.imaging.image_io",
    "vidstyle.style": "vidstyle.models.style",
    "vidstyle.stylize": "vidstyle.rendering",
    "vidstyle.stylize_still": "vidstyle.rendering",
    "vidstyle.timeline": "vidstyle.models.timeline",
    "vidstyle.training.compute": "vidstyle.training.device",
    "vidstyle.training.descent": "vidstyle.training.trainer",
    "vidstyle.training.optimize": "vidstyle.training.gatys",
    "vidstyle.training.perceptual": "vidstyle.training.loss",
    "vidstyle.training.pictures": "vidstyle.training.data",
    "vidstyle.training.reptile": "vidstyle.training.phases",
    "vidstyle.video.sink": "vidstyle.video.writer",
    "vidstyle.video.source": "vidstyle.video.reader",
}
"""Module path: the one that replaces it."""
ATTRIBUTES = {
    "vidstyle": {"FrameForm": "FrameFormat"},
    "vidstyle.frame": {"FrameForm": "FrameFormat"},
    "vidstyle.video.reader": {"VideoSource": "VideoReader"},
    "vidstyle.video.writer": {"VideoSink": "VideoWriter"},
}
"""Module: its names of old, each with the one that replaces it."""


def renamed_attribute(module: str, name: str) -> object:
    """The attribute that ``module`` had as ``name``: what its ``__getattr__`` returns."""
    new = ATTRIBUTES.get(module, {}).get(name)
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(f"{module}.{name}", f"{module}.{new}", 4)
    return getattr(sys.modules[module], new)


def renamed_method(old: str, new: str) -> Callable[..., Any]:
    """What stands in a class as ``old`` and calls ``new``."""

    def call(self: object, *arguments: object, **keywords: object) -> object:
        _warn(f"{type(self).__name__}.{old}", f"{type(self).__name__}.{new}", 3)
        return getattr(self, new)(*arguments, **keywords)

    return call


class _Finder:
    """Imports modules by their old paths. It is the last one to be asked, so other imports cost nothing more."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MODULES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        _warn(old, MODULES[old], 3)
        sys.modules[old] = import_module(MODULES[old])  # the import system returns what it finds here


def install() -> None:
    """Let modules be imported by their old paths."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def _warn(old: str, new: str, level: int) -> None:
    from warnings import warn

    warn(f"{old} is now {new}; the old name goes in the next version", DeprecationWarning, stacklevel=level)
