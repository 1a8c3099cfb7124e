"""Which cameras the system has, and which one a word means."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import av.device
import av.error

from vidstyle.errors import VideoError

V4L2_ROOT = Path("/sys/class/video4linux")
"""Where Linux lists its cameras."""
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's name of what reads a camera, by ``sys.platform``."""


@dataclass(frozen=True)
class Camera:
    """One camera of this machine."""

    index: int
    """The number that means it: N of ``/dev/videoN``, elsewhere its place in the system's list."""
    name: str
    """As the system calls it."""
    address: str
    """What FFmpeg opens."""

    def __str__(self) -> str:
        return f"{self.index} ({self.name})"


def cameras(system: str = sys.platform, root: Path = V4L2_ROOT) -> list[Camera]:
    """The cameras there are, by index.

    On Linux they are read from the folder ``root``; on Windows and macOS FFmpeg's dshow and avfoundation
    list them (as their documentation says it; this has been run on Linux only).
    """
    if system.startswith("linux"):
        return sorted(_linux_cameras(root), key=lambda camera: camera.index)
    try:
        found = av.device.enumerate_input_devices(CAMERA_FORMATS[system])
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
    if word.startswith("/dev/"):
        path = Path(word)
        target = path.resolve().name  # /dev/v4l/by-id/... are links
        known = next((c for c in there if Path(c.address).name == target), None)
        if known is None and not path.exists():
            raise VideoError(f"there is no camera {word}; {_listed(there)}")
        return known or Camera(-1, word, word)
    if word.isdecimal():
        found = [c for c in there if c.index == int(word)]
        if not found:
            raise VideoError(f"there is no camera {word}; {_listed(there)}")
        return found[0]
    wanted = word.casefold()
    found = [c for c in there if c.name.casefold() == wanted] or [c for c in there if wanted in c.name.casefold()]
    if not found:
        raise VideoError(f"there is no file and no camera called {word!r}; {_listed(there)}")
    if len(found) > 1:
        raise VideoError(f"{word!r} fits more than one camera: {', '.join(map(str, found))}; name one by its number")
    return found[0]


def _linux_cameras(root: Path) -> list[Camera]:
    found = []
    for folder in root.glob("video*"):
        number = re.fullmatch(r"video(\d+)", folder.name)
        # A camera may have further nodes, for its metadata; the first has index 0.
        if number and _first_line(folder / "index") in ("0", ""):
            name = _first_line(folder / "name") or folder.name
            found.append(Camera(int(number[1]), name, f"/dev/{folder.name}"))
    return found


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _listed(there: list[Camera]) -> str:
    return f"there are {', '.join(map(str, there))}" if there else "this machine shows no camera at all"
