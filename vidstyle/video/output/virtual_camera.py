"""The live picture as a camera that other programs open."""

from __future__ import annotations

import importlib
import platform
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from vidstyle.errors import MissingDependency, VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.pipeline import Closing
from vidstyle.video.convert import FrameConverter

_USUAL_RATE = 30
_INSTALL = {
    "Linux": "install v4l2loopback and load it: sudo modprobe v4l2loopback exclusive_caps=1",
    "Darwin": "install OBS 30 or newer and start its virtual camera once",
    "Windows": "install OBS, which brings one",
}


class Sink(Protocol):
    """Anything that live frames are written to."""

    def write(self, frame: Frame) -> None:
        """Take ``frame``, whose planes stay as they are from now on. Returns soon."""

    def close(self) -> None:
        """End. Closing twice is fine."""


class VirtualCamera(Closing):
    """A virtual camera by way of pyvirtualcam; a context manager. Use it from one thread.

    4:2:0 frames of even size are passed as they are where they already have the colors that programs expect of a
    camera, BT.601 in the limited range; all others are converted once.
    """

    def __init__(self, form: FrameFormat, fps: float | None, *, device: str | None = None) -> None:
        """Open ``device``, such as /dev/video10, or the first there is, for frames of the size of ``form``.

        Raises `MissingDependency` without pyvirtualcam, `VideoError` where there is no such device.
        """
        try:
            library: Any = importlib.import_module("pyvirtualcam")
        except ImportError as error:
            raise MissingDependency(
                f"a virtual camera needs pyvirtualcam ({error}); get it with: pip install 'vidstyle[virtual-camera]'"
            ) from error
        pixels = "rgb" if form.height % 2 or form.width % 2 else form.pixels
        self._converter = FrameConverter(replace(form, pixels=pixels, matrix="bt601", full_range=False))
        fmt = library.PixelFormat[pixels.upper()]
        try:
            self._camera: Any = library.Camera(form.width, form.height, fps or _USUAL_RATE, fmt=fmt, device=device)
        except RuntimeError as error:
            what = "there is no virtual camera" if device is None else f"{device} is not a virtual camera"
            install = _INSTALL.get(platform.system(), "pyvirtualcam knows none for this system")
            raise VideoError(f"{what} ({_reason(error)}); {install}") from error
        self.description: str = f"{self._camera.device} ({form.width}x{form.height}, {pixels.upper()})"
        """Which camera it is, by the name that other programs show, for people."""

    def write(self, frame: Frame) -> None:
        """Show ``frame`` from now on; it is scaled if it has another size. Raises `VideoError`."""
        if self._camera is None:
            return
        planes = self._converter.convert(frame).planes
        # (height, width, 3) for RGB, else all planes in one row of bytes.
        flat = np.ascontiguousarray(planes[0]) if len(planes) == 1 else np.concatenate([p.reshape(-1) for p in planes])
        try:
            self._camera.send(flat)
        except (RuntimeError, OSError) as error:
            raise VideoError(f"virtual camera {self.description} took no more frames: {_reason(error)}") from error

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None


def _reason(error: BaseException) -> str:
    """What pyvirtualcam says, without the name of its part and its own advice."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first.partition("' backend: ")[2].partition(". ")[0].rstrip(".") or first
