"""Which cameras there are, and what FFmpeg is to open for what a user calls a live source."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av.device
import av.error
from av.container import InputContainer

from vidstyle.errors import VideoError
from vidstyle.errors import reason as reason_of
from vidstyle.video import LIBXCB_IS_SHARED
from vidstyle.video.demux import MAX_PIXELS, open_demuxer, open_input

V4L2_ROOT = Path("/sys/class/video4linux")
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp", "rtmp", "rtmps", "srt")
_PROTOCOLS = (*SCHEMES, "tls", "crypto", "data", "httpproxy")  # no "file": a playlist must not name local files
_PATTERN_SIZE = (360, 640)
_USUAL_FPS = 30.0
# AVFMT_FLAG_NONBLOCK, which has no name among the values of fflags. Without it FFmpeg waits inside the driver for the
# next picture, and a camera that has stopped would hold the thread for ever.
NONBLOCK = "+4"
# Else FFmpeg waits for 20 frames to guess a rate that nothing needs: 0.6 s of opening, and of old frames.
_AT_ONCE = {"fpsprobesize": "0"}
_READ_SECONDS = 1.5
"""Silence after which a stream is taken for lost. `Capture.close` waits as long at most."""
_NO_CAMERA = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_FINAL = (errno.EACCES, errno.EPERM, errno.EBUSY, *_NO_CAMERA)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


@dataclass(frozen=True)
class Camera:
    """One camera of this machine."""

    index: int
    """The number that means it: N of ``/dev/videoN``, elsewhere its place in the system's list."""
    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.index} ({self.name})"


def cameras(system: str = sys.platform, root: Path = V4L2_ROOT) -> list[Camera]:
    """The cameras there are, by index.

    On Linux they are read from the folder ``root``; on Windows and macOS FFmpeg's dshow and avfoundation list them (as
    their documentation says it; this has been run on Linux only).
    """
    if system.startswith("linux"):
        return sorted(_linux_cameras(root), key=lambda camera: camera.index)
    try:
        found = av.device.enumerate_input_devices(_CAMERA_FORMATS[system])
    except (KeyError, ValueError, av.error.FFmpegError):
        return []
    names = [d.description for d in found if "video" in d.media_types]
    if system == "win32":
        return [Camera(i, name, f"video={name}") for i, name in enumerate(names)]
    # avfoundation lists the screens behind the cameras.
    return [Camera(i, name, f"{i}:none") for i, name in enumerate(names) if not name.startswith("Capture screen")]


def camera_named(word: str, system: str = sys.platform, root: Path = V4L2_ROOT) -> Camera:
    """The camera that ``word`` means: an index, ``/dev/videoN``, a name, or a part of a name if it is unique.

    Raises `VideoError` listing the cameras there are.
    """
    there = cameras(system, root)
    listed = f"there are {', '.join(map(str, there))}" if there else "this machine shows no camera at all"
    wanted, what = word.casefold(), "no camera " + word
    if word.startswith("/dev/"):
        target = Path(word).resolve().name  # /dev/v4l/by-id/... are links
        found = [c for c in there if Path(c.address).name == target]
        if not found and Path(word).exists():
            return Camera(-1, word, word)
    elif word.isdecimal():
        found = [c for c in there if c.index == int(word)]
    else:
        found = [c for c in there if c.name.casefold() == wanted] or [c for c in there if wanted in c.name.casefold()]
        what = f"no file and no camera called {word!r}"
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise VideoError(f"{word!r} fits more than one camera: {listed}; name one by its number")
    if not found:
        raise VideoError(f"there is {what}; {listed}")
    return found[0]


def _linux_cameras(root: Path) -> list[Camera]:
    found = []
    for folder in root.glob("video*"):
        number = re.fullmatch(r"video(\d+)", folder.name)
        # A camera may have further nodes, for its metadata; the first has index 0.
        if number and _text_of(folder / "index") in ("0", ""):
            found.append(Camera(int(number[1]), _text_of(folder / "name") or folder.name, f"/dev/{folder.name}"))
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class InputSpec:
    """A live source as FFmpeg is to open it."""

    kind: Literal["camera", "screen", "pattern", "network", "file"]
    address: str
    label: str
    """For people; of a URL, `shown_url`."""
    format: str | None = None
    """FFmpeg's name of the demuxer, None lets it look."""
    attempts: tuple[dict[str, str], ...] = ({},)
    """Options to open it with, in the order in which they are tried."""

    def open(self, seconds: float) -> InputContainer:
        """The demuxer, close it after use; it has at most about ``2 * seconds`` for it.

        Raises `VideoError` saying why not.
        """
        if self.kind == "file":
            return open_input(Path(self.address))
        for options in self.attempts:
            began = time.monotonic()
            try:
                return open_demuxer(
                    self.address, format=self.format, container_options=options, timeout=(seconds, _READ_SECONDS)
                )
            except (av.error.FFmpegError, ValueError, OSError) as error:
                refused = error
                in_vain = time.monotonic() - began >= seconds  # some demuxers hide that they were interrupted
                if getattr(error, "errno", None) in _FINAL:
                    break  # other options will not help
        raise VideoError(self._sentence(refused, seconds if in_vain else None)) from refused

    def _sentence(self, error: Exception, waited: float | None) -> str:
        number = getattr(error, "errno", None)
        reason = _URL.sub(lambda url: shown_url(url[0]), reason_of(error))
        if self.kind == "camera":
            if number in (errno.EACCES, errno.EPERM):
                return f"no permission to use the camera {self.label}; on Linux its users are in the group `video`"
            if number == errno.EBUSY:
                return f"the camera {self.label} is in use; close the program that has it"
            if number in _NO_CAMERA:
                return f"there is no camera at {self.address}; plug it in or name another one"
            return f"cannot open the camera {self.label}: {reason}"
        if self.kind == "screen":
            return f"cannot read the {self.label}: {reason}"
        if waited is not None:
            return f"{self.label} did not answer within {waited:g} s; check the address, or whether anything is sent"
        if number == errno.ECONNREFUSED:
            return f"nothing answers at {self.label}; check the address and start what sends the stream"
        if isinstance(error, av.error.InvalidDataError) or number == errno.EPERM:
            return f"{self.label} answers, but not with a video that can be read"
        return f"cannot open {self.label}: {reason}"


def shown_url(url: str) -> str:
    """Scheme and host of ``url``, which may be shown to anybody: path, query, user and password may be secrets."""
    scheme, _, rest = url.partition("://")
    authority, *path = re.split(r"[/?#]", rest, maxsplit=1)
    host = authority.rpartition("@")[2]  # of several the last one, as FFmpeg has it
    host = re.match(r"\[[0-9A-Fa-f:.]*\]|[\w.-]*", host)[0]  # type: ignore[index]
    if path and "@" in path[0]:  # perhaps a password with a slash, and no host at all
        host = ""
    return f"{scheme}://{host or '...'}"


def input_spec(
    source: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    system: str = sys.platform,
    cameras_at: Path = V4L2_ROOT,
) -> InputSpec:
    """What ``source`` means: see `Capture` for the words. ``size`` is ``(height, width)``.

    Raises `VideoError` where there is no such thing.
    """
    if source == "testsrc":
        height, width = size or _PATTERN_SIZE
        pattern = f"testsrc=size={width}x{height}:rate={fps or _USUAL_FPS:g}"
        return InputSpec("pattern", pattern, "test pattern", "lavfi")
    if source == "screen":
        return _screen(fps or _USUAL_FPS, system)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme:
        known = scheme[1].lower()  # FFmpeg knows schemes in small letters only
        return _network(known + source[len(known) :], known)
    if not source.startswith("/dev/") and not source.isdecimal():
        looks_like_path = os.sep in source or bool(re.search(r"\.\w{2,5}$", source))
        if Path(source).exists() or looks_like_path:
            return InputSpec("file", source, Path(source).name)
    camera = camera_named(source, system, cameras_at)
    family = "linux" if system.startswith("linux") else system
    return InputSpec("camera", camera.address, camera.name, _CAMERA_FORMATS[family], _requests(size, fps, system))


def _requests(size: tuple[int, int] | None, fps: float | None, system: str) -> tuple[dict[str, str], ...]:
    """What to ask a camera for: MJPEG first, as raw pixels at these sizes do not fit through USB at full rate."""
    shape = {"video_size": f"{size[1]}x{size[0]}"} if size else {}
    pace = {"framerate": f"{fps:g}"} if fps else {}
    if system == "darwin":  # avfoundation delivers raw pixels only, and refuses rates that the camera lacks
        pace = pace or {"framerate": "30"}
        asked = [{**shape, **pace}, shape, pace, {}]
    else:
        jpeg = {"vcodec": "mjpeg"} if system == "win32" else {"input_format": "mjpeg"}
        asked = [{**jpeg, **shape, **pace}, {**jpeg, **shape}, {**shape, **pace}, shape, {}]
    common = {"fflags": NONBLOCK, "max_pixels": str(MAX_PIXELS), **_AT_ONCE}
    return tuple({**common, **one} for place, one in enumerate(asked) if one not in asked[:place])


def _screen(fps: float, system: str) -> InputSpec:
    rate = {"framerate": f"{fps:g}", **_AT_ONCE}
    if system == "win32":
        return InputSpec("screen", "desktop", "screen", "gdigrab", (rate,))
    if system == "darwin":
        cursor = {**rate, "capture_cursor": "1"}
        return InputSpec("screen", "Capture screen 0:none", "screen", "avfoundation", (cursor,))
    display = os.environ.get("DISPLAY")
    if not display:
        raise VideoError("there is no screen to read: DISPLAY is not set; name a camera, a file or a URL")
    if not LIBXCB_IS_SHARED:
        raise VideoError("the screen cannot be read where PyAV and OpenCV were imported before vidstyle.video")
    return InputSpec("screen", display, f"screen {display}", "x11grab", (rate,))


def _network(url: str, scheme: str) -> InputSpec:
    if scheme not in SCHEMES:
        raise VideoError(f"source begins with {scheme}://; a stream may come by {', '.join(SCHEMES)}")
    # Not fflags=nobuffer: it throws away what was read while looking, the first key frame with it. What is left in the
    # buffers comes at once, and the newest frame wins.
    options = {
        "protocol_whitelist": ",".join(_PROTOCOLS),
        "max_pixels": str(MAX_PIXELS),
        **_AT_ONCE,
        "analyzeduration": "2000000",
    }
    if scheme in ("rtsp", "rtsps") and not re.search(r"[?&](tcp|udp|multicast)\b", url):
        options["rtsp_transport"] = "tcp"  # over UDP a lost packet smears the picture until the next key frame
    if scheme == "udp":
        options["overrun_nonfatal"] = "1"
    return InputSpec("network", url, shown_url(url), None, (options,))
