"""``vidstyle webcam`` itself, which also writes down when each frame came in and when it claims to have shown it.

    python benchmarks/noted_webcam.py LOG.npz [--stages] WORDS OF VIDSTYLE WEBCAM

Frames are those of `stamped`. With --stages every step of the loop is timed, too.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from stamped import number_in, points

import vidstyle.live.session
import vidstyle.video.capture
from vidstyle.cli import main as vidstyle_main
from vidstyle.frame import Frame

ROOM = 40_000
"""Notes of each kind; their memory is taken at the start, so that it is not mistaken for a leak."""
RARE = 4_000


class Column:
    """Rows of a few numbers each; what comes when it is full is left out."""

    def __init__(self, width: int, room: int = ROOM) -> None:
        self._values = array("d", bytes(8 * width * room))
        self._width, self._used = width, 0

    def add(self, *row: float) -> None:
        begin = self._used * self._width
        if begin < len(self._values):
            self._values[begin : begin + self._width] = array("d", row)
            self._used += 1

    def rows(self) -> np.ndarray:
        return np.array(self._values).reshape(-1, self._width)[: self._used]


captured, shown, capture_cpu = Column(2), Column(2), Column(2, RARE)
stages: dict[str, Column] = {}


class NotedCapture(vidstyle.video.capture.Capture):
    """Notes the number and the time of each frame that it delivers."""

    def frames(self) -> Generator[Frame, None, None]:
        at = points(self.form.height)
        for count, frame in enumerate(super().frames()):
            number = number_in(frame.planes[0][at])
            captured.add(-1 if number is None else number, frame.pts / 1e6)
            if count % 30 == 0:
                capture_cpu.add(time.monotonic(), time.thread_time())
            yield frame


class NotedLive(vidstyle.live.session.Live):
    """Notes what it says of each frame."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options, on_shown=lambda pts, now: shown.add(pts / 1e6, now))


def time_stage(owner: Any, name: str, stage: str) -> None:
    """Note when each call of ``owner.name`` began and how long it took."""
    function: Callable[..., Any] = getattr(owner, name)
    column = stages[stage] = Column(2)

    def timed(*words: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*words, **options)
        finally:
            column.add(began, time.monotonic() - began)

    setattr(owner, name, timed)


def time_stages() -> None:
    import cv2

    import vidstyle.live.overlay
    import vidstyle.live.session
    from vidstyle.live.overlay import Overlay
    from vidstyle.live.session import Painter
    from vidstyle.live.window import Window
    from vidstyle.stylizer import Stylizer
    from vidstyle.video.capture.capture import LiveReader

    time_stage(LiveReader, "planes", "planes")
    time_stage(Painter, "request", "prepare")
    time_stage(Painter, "paint", "submit")
    time_stage(Painter, "painting", "finish")
    time_stage(Stylizer, "finish", "compose")
    time_stage(vidstyle.live.session, "draw", "draw")
    time_stage(vidstyle.live.overlay, "bgr_from_planes", "bgr")
    time_stage(Overlay, "draw", "overlay")
    time_stage(cv2, "imshow", "imshow")
    time_stage(cv2, "waitKeyEx", "waitkey")
    time_stage(cv2, "getWindowImageRect", "window_size")
    time_stage(cv2, "getWindowProperty", "window_open")
    time_stage(Window, "keys", "keys")


def main() -> None:
    log, *words = sys.argv[1:]
    vidstyle.video.capture.Capture = NotedCapture  # type: ignore[misc]
    vidstyle.live.session.Live = NotedLive  # type: ignore[misc]
    if words[0] == "--stages":
        words.pop(0)
        time_stages()
    sys.argv = ["vidstyle", "webcam", *words]
    try:
        vidstyle_main()
    finally:
        notes = {"captured": captured, "shown": shown, "capture_cpu": capture_cpu}
        notes |= {f"stage_{name}": column for name, column in stages.items()}
        np.savez(log, main_cpu=time.thread_time(), **{name: column.rows() for name, column in notes.items()})


if __name__ == "__main__":
    main()
