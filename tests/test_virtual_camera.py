"""The virtual camera, driven through pyvirtualcam's own interface.

The machines that test this have no virtual camera and can have none, so pyvirtualcam is given a backend that records
what it is sent, by the way it has for that. What is real here: pyvirtualcam's ``Camera`` with its checks of sizes and
formats, and the refusal of a machine without a device. What is not: a device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broadcasting import CLOCK, DARK, FORM, frame
from numpy.typing import NDArray

from vidstyle.errors import MissingDependency, VideoError
from vidstyle.frame import FrameFormat
from vidstyle.video.output.virtual_camera import Sink, VirtualCamera

pyvirtualcam: Any = pytest.importorskip("pyvirtualcam")


class Recorder:
    """A backend for pyvirtualcam that keeps what it is sent."""

    made: list[Recorder] = []
    broken = False

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None, **_: Any) -> None:
        self.size = height, width
        self.fps = fps
        self.format = next(f for f in pyvirtualcam.PixelFormat if pyvirtualcam.camera.encode_fourcc(f.value) == fourcc)
        self.frames: list[NDArray[np.uint8]] = []
        self.closed = 0
        self.name = device or "recorder"
        Recorder.made.append(self)

    def send(self, pixels: NDArray[np.uint8]) -> None:
        if self.broken:
            raise RuntimeError("error writing frame: device gone")
        assert pixels.ndim == 1 and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        self.frames.append(pixels.copy())

    def close(self) -> None:
        self.closed += 1

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> None:
        return None


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorder]]:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    pyvirtualcam.register_backend("recorder", Recorder)
    Recorder.made.clear()
    yield Recorder
    Recorder.broken = False


@pytest.mark.parametrize("pixels", ["i420", "nv12"])
def test_frames_that_are_as_cameras_make_them_are_passed_as_they_are(recorder: type[Recorder], pixels: Any) -> None:
    form = replace(FORM, pixels=pixels)
    with VirtualCamera(form, 25) as camera:
        for index in range(3):
            camera.write(frame(CLOCK + index * 40_000, seconds=0, form=form))
        assert camera.description == f"recorder (160x90, {pixels.upper()})"
    device = recorder.made[0]
    assert (device.size, device.fps, str(device.format)) == ((90, 160), 25, pixels.upper())
    sent = frame(CLOCK + 40_000, seconds=0, form=form)
    assert np.array_equal(device.frames[1], np.concatenate([plane.reshape(-1) for plane in sent.planes]))


def test_padded_rows_are_left_out(recorder: type[Recorder]) -> None:
    given = frame(CLOCK)
    wide = np.zeros((90, 192), np.uint8)
    wide[:, :160] = given.planes[0]
    with VirtualCamera(FORM, 30) as camera:
        camera.write(given.with_planes((wide[:, :160], *given.planes[1:])))
    assert np.array_equal(recorder.made[0].frames[0][: 90 * 160], given.planes[0].reshape(-1))


@pytest.mark.parametrize("form", [FORM.resized((91, 161)), replace(FORM, pixels="rgb"), FORM.resized((91, 160))])
def test_rgb_is_sent_where_there_is_no_420(recorder: type[Recorder], form: FrameFormat) -> None:
    with VirtualCamera(form, None) as camera:
        camera.write(frame(CLOCK, form=form))
    device = recorder.made[0]
    assert (str(device.format), device.size, device.fps) == ("RGB", form.size, 30)
    level = DARK if form.pixels == "rgb" else (DARK - 16) * 255 / 219
    assert device.frames[0].size == form.height * form.width * 3
    assert np.median(device.frames[0]) == pytest.approx(level, abs=1)


def test_other_colors_are_made_what_programs_expect_of_a_camera(recorder: type[Recorder]) -> None:
    form = replace(FORM, matrix="bt709", full_range=True)
    given = frame(CLOCK, form=form)
    given.planes[1][:], given.planes[2][:] = 90, 180
    with VirtualCamera(form, 30) as camera:
        camera.write(given)
    sent = recorder.made[0].frames[0]
    luma, blue, red = (float(np.median(part)) for part in np.split(sent, [90 * 160, 90 * 160 + 45 * 80]))
    # RGB by the BT.709 matrix and back by BT.601, into the limited range.
    y, cb, cr = DARK, 90 - 128, 180 - 128
    rgb = np.array([y + 1.5748 * cr, y - 0.18733 * cb - 0.46813 * cr, y + 1.8556 * cb]).clip(0, 255)
    y601 = rgb @ [0.299, 0.587, 0.114]
    chroma = np.array([(rgb[2] - y601) / 1.772, (rgb[0] - y601) / 1.402])
    assert (luma, blue, red) == pytest.approx((16 + y601 * 219 / 255, *(128 + chroma * 224 / 255)), abs=3)


def test_the_device_is_let_go_once(recorder: type[Recorder]) -> None:
    camera: Sink = VirtualCamera(FORM, 30, device="/dev/video10")
    camera.close()
    camera.close()
    camera.write(frame(CLOCK))
    made = recorder.made[0]
    assert (made.closed, made.name, made.frames) == (1, "/dev/video10", [])


def test_a_device_that_goes_away_is_told(recorder: type[Recorder]) -> None:
    with VirtualCamera(FORM, 30) as camera:
        recorder.broken = True
        with pytest.raises(VideoError, match=r"virtual camera recorder .* took no more frames: error writing frame"):
            camera.write(frame(CLOCK))


@pytest.mark.skipif(sys.platform != "linux", reason="what other systems say is not known here")
@pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="there may be a virtual camera here")
def test_a_machine_without_a_virtual_camera_is_told_what_to_install() -> None:
    with pytest.raises(VideoError, match=r"there is no virtual camera \(No v4l2 .*sudo modprobe v4l2loopback"):
        VirtualCamera(FORM, 30)
    with pytest.raises(VideoError, match="/dev/video7 is not a virtual camera"):
        VirtualCamera(FORM, 30, device="/dev/video7")


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)  # as if it were not installed
    with pytest.raises(MissingDependency, match=r"pip install 'vidstyle\[virtual-camera\]'$"):
        VirtualCamera(FORM, 30)
