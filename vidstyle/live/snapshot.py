"""A painted frame as a PNG file."""

from __future__ import annotations

import re
import time
from pathlib import Path

import cv2

from vidstyle.errors import ImageError
from vidstyle.files import short_name, write_failure, write_whole
from vidstyle.frame import Frame
from vidstyle.live.canvas import bgr_from_planes


def snapshot_path(folder: Path, title: str, suffix: str = ".png") -> Path:
    """A name in ``folder`` that says style and time and that no file has."""
    style = re.sub(r"[^\w+-]+", "-", title.replace(" %", "").replace(" + ", "+")).strip("-") or "picture"
    stem = f"{short_name(style, 80)}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def save_snapshot(frame: Frame, folder: Path, title: str) -> Path:
    """Write ``frame`` to a new PNG file in ``folder``, which is made if need be; returns its path.

    Raises `ImageError` naming the file.
    """
    path = folder / "snapshot.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = snapshot_path(folder, title)
        _, encoded = cv2.imencode(".png", bgr_from_planes(frame.planes, frame.form))
        write_whole(path, encoded.tobytes(), overwrite=False)
    except OSError as error:
        raise ImageError(write_failure(path, error)) from error
    return path
