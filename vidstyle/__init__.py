"""Real-time video stylization: any video, painted like any painting.

>>> from vidstyle import Stylizer, render
>>> painted = Stylizer("starry_night")(rgb)      # uint8 (H, W, 3) in and out
>>> render("in.mp4", "out.mp4", style="starry_night")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidstyle import _renamed
from vidstyle.errors import (
    BadModel,
    BadOption,
    EngineMismatch,
    ImageError,
    MissingDependency,
    VideoError,
    VidstyleError,
)
from vidstyle.options import BackendOptions, BuildOptions, ClipOptions, EncodeOptions, LookOptions, SmoothOptions

if TYPE_CHECKING:
    from vidstyle.engine.build import build_engine
    from vidstyle.films.film import render_parts
    from vidstyle.frame import Frame, FrameFormat
    from vidstyle.models.timeline import Timeline
    from vidstyle.rendering import Progress, RenderReport, render, stylize_stream
    from vidstyle.stylizer import Stylizer

__version__ = "0.1.0"

__all__ = [
    "BackendOptions",
    "BadModel",
    "BadOption",
    "BuildOptions",
    "ClipOptions",
    "EncodeOptions",
    "EngineMismatch",
    "Frame",
    "FrameFormat",
    "ImageError",
    "LookOptions",
    "MissingDependency",
    "Progress",
    "RenderReport",
    "SmoothOptions",
    "Stylizer",
    "Timeline",
    "VideoError",
    "VidstyleError",
    "build_engine",
    "render",
    "render_parts",
    "stylize_stream",
]

# These bring NumPy and OpenCV along, which `vidstyle --help` has no use for.
_LAZY = {
    "Frame": "vidstyle.frame",
    "FrameFormat": "vidstyle.frame",
    "Progress": "vidstyle.rendering",
    "RenderReport": "vidstyle.rendering",
    "Stylizer": "vidstyle.stylizer",
    "Timeline": "vidstyle.models.timeline",
    "build_engine": "vidstyle.engine.build",
    "render": "vidstyle.rendering",
    "render_parts": "vidstyle.films.film",
    "stylize_stream": "vidstyle.rendering",
}

_renamed.install()


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        return _renamed.renamed_attribute(__name__, name)
    from importlib import import_module

    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
