"""The server's own picture, for all visitors who are shown it."""

from __future__ import annotations

import logging
import threading
from time import monotonic

from vidstyle.errors import VidstyleError
from vidstyle.serve.canvas import Canvas
from vidstyle.video.capture import Capture

_log = logging.getLogger(__name__)


class SharedSource:
    """One `Capture`, read by one thread, whose frames go to every canvas that asked for them."""

    def __init__(self, source: str, size: tuple[int, int]) -> None:
        """Open ``source``; a file is played over and over. Raises `VideoError`. Nothing is read before `start`."""
        self._capture = Capture(source, size=size, loop=True)
        self.description = self._capture.description
        """For whoever runs the server."""
        label = self._capture.label
        self.shown = self.description.replace(label, "a video stream", 1) if "://" in label else self.description
        """For visitors, who need not know where it comes from."""
        self._canvases: list[Canvas] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="vidstyle-source")
        self._finished = threading.Event()
        self._started = False

    def start(self) -> None:
        """Begin to read."""
        self._started = True
        self._thread.start()

    def add(self, canvas: Canvas) -> None:
        """Give it every frame from now on."""
        with self._lock:
            self._canvases.append(canvas)

    def remove(self, canvas: Canvas) -> None:
        """Give it no more. Harmless where it got none."""
        with self._lock:
            if canvas in self._canvases:
                self._canvases.remove(canvas)

    def close(self) -> None:
        """Stop reading and free the source. Closing twice is fine."""
        self._capture.close()
        if self._started:
            # Before Python 3.13 a join that Ctrl-C interrupts marks a running thread as dead.
            self._finished.wait()
            self._thread.join()

    def _run(self) -> None:
        problem = VidstyleError(f"{self._capture.label} has ended; the server has nothing to show any more")
        try:
            for frame in self._capture.frames():
                now = monotonic()
                with self._lock:
                    canvases = list(self._canvases)
                for canvas in canvases:
                    canvas.put(frame, now)
        except VidstyleError as error:
            _log.warning("%s", error)
            problem = error
        except Exception:
            _log.exception("the source broke down")
        finally:
            with self._lock:
                canvases = list(self._canvases)
            for canvas in canvases:
                canvas.on_problem(problem)
            self._finished.set()
