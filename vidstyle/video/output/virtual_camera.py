"""The live picture as a camera that other programs open."""

from __future__ import annotations

import importlib
import platform
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import MissingDependency, VideoError
from vidstyle.frame import Frame, FrameFormat
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


class VirtualCamera:
    """A virtual camera by way of pyvirtualcam; a context manager. Use it from one thread.

    4:2:0 frames of even size are passed as they are where they already have the colors that programs
    expect of a camera, BT.601 in the limited range; all others are converted once.
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
        even = form.height % 2 == 0 and form.width % 2 == 0
        pixels = form.pixels if even else "rgb"
        self._conformer = FrameConverter(replace(form, pixels=pixels, matrix="bt601", full_range=False))
        name = {"rgb": "RGB", "i420": "I420", "nv12": "NV12"}[pixels]
        try:
            self._camera: Any = library.Camera(
                width=form.width,
                height=form.height,
                fps=fps or _USUAL_RATE,
                fmt=library.PixelFormat[name],
                device=device,
            )
        except RuntimeError as error:
            what = "there is no virtual camera" if device is None else f"{device} is not a virtual camera"
            install = _INSTALL.get(platform.system(), "pyvirtualcam knows none for this system")
            raise VideoError(f"{what} ({_reason(error)}); {install}") from error
        self.description: str = f"{self._camera.device} ({form.width}x{form.height}, {name})"
        """Which camera it is, by the name that other programs show, for people."""

    def write(self, frame: Frame) -> None:
        """Show ``frame`` from now on; it is scaled if it has another size. Raises `VideoError`."""
        if self._camera is None:
            return
        try:
            self._camera.send(self._flat(frame))
        except (RuntimeError, OSError) as error:
            raise VideoError(f"virtual camera {self.description} took no more frames: {_reason(error)}") from error

    def close(self) -> None:
        """Let the camera go. Closing twice is fine."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def __enter__(self) -> VirtualCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flat(self, frame: Frame) -> NDArray[np.uint8]:
        """All planes in one row of bytes, or (height, width, 3) for RGB."""
        planes = self._conformer.conform(frame).planes
        if len(planes) == 1:
            return np.ascontiguousarray(planes[0])
        return np.concatenate([plane.reshape(-1) for plane in planes])


def _reason(error: BaseException) -> str:
    """What pyvirtualcam says, without the name of its part and its own advice."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first.partition("' backend: ")[2].partition(". ")[0].rstrip(".") or first
