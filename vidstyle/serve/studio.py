"""Paints the pictures of all visitors: on one thread, in turns, the newest picture of each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from av.video.frame import VideoFrame

from vidstyle.backends.base import usable_cores
from vidstyle.errors import VidstyleError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.scheduler import MAX_IN_FLIGHT, FrameScheduler
from vidstyle.serve.canvas import Canvas, Waiting
from vidstyle.serve.look import Look
from vidstyle.serve.picture import Intake, finished, form_for

_log = logging.getLogger(__name__)
_MAX_PROGRAMS = 1000
"""Never reached: programs that nobody uses are freed when somebody leaves or changes the form."""


@dataclass(frozen=True)
class _Request:
    canvas: Canvas
    look: Look
    came: float
    source: Frame


class Studio:
    """Paints between `start` and `close`. Canvases come and go at any time, on any thread."""

    def __init__(self, *, size: tuple[int, int] = (360, 640), backend: BackendOptions | None = None) -> None:
        """``size``, ``(height, width)``, is the largest that is painted."""
        self.size = size
        self._scheduler: FrameScheduler[_Request] = FrameScheduler(
            backend=backend, max_in_flight=1 if usable_cores() < 2 else MAX_IN_FLIGHT, max_programs=_MAX_PROGRAMS
        )
        self._canvases: list[Canvas] = []  # the one whose turn it is first
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._stopping = False
        self._intake = Intake()
        self._painting: dict[Canvas, tuple[Style, FrameFormat]] = {}
        self._thread: threading.Thread | None = None
        self._finished = threading.Event()
        self.description = ""
        """What runs the network, for people; there after `start`."""
        self.painted = 0
        """Frames painted in all."""

    def start(self, style: Style) -> None:
        """Compile for ``style`` and pictures of the largest size, and begin. Raises what compiling raises."""
        self.description = self._scheduler.open(style, form_for(self.size, self.size))
        self._thread = threading.Thread(target=self._run, name="vidstyle-studio")
        self._thread.start()

    def close(self) -> None:
        """Stop painting and free everything. Closing twice is fine."""
        self._stopping = True
        self._came.set()
        if self._thread is not None:
            # Before Python 3.13 a join that Ctrl-C interrupts marks a running thread as dead.
            self._finished.wait()
            self._thread.join()
            self._thread = None
        self._scheduler.close()

    def add(
        self,
        look: Look,
        on_painted: Callable[[VideoFrame, float], None],
        on_problem: Callable[[VidstyleError], None],
    ) -> Canvas:
        """A place for one more visitor; see `Canvas`."""
        canvas = Canvas(look, self.size, on_painted, on_problem, self._came.set)
        with self._lock:
            self._canvases.append(canvas)
        return canvas

    def remove(self, canvas: Canvas) -> None:
        """Paint for it no more; one frame may still come. Twice is fine."""
        with self._lock:
            if canvas in self._canvases:
                self._canvases.remove(canvas)
        self._came.set()

    def _run(self) -> None:
        scheduler = self._scheduler
        try:
            while not self._stopping:
                if not scheduler.is_full and self._begin() and not scheduler.is_full:
                    continue
                if len(scheduler):
                    self._finish()
            while len(scheduler):
                scheduler.finish()
        except Exception:
            _log.exception("the studio has broken down")
            for canvas in self._canvases:
                canvas.on_problem(VidstyleError("the server cannot paint any more; its log says why"))
        finally:
            self._painting.clear()
            self._finished.set()

    # What waits for pictures holds none, and no canvas: of who leaves meanwhile nothing must stay.

    def _begin(self) -> bool:
        """Start on the next picture; False where there is none."""
        turn = self._next()
        if turn is not None:
            self._start(*turn)
        return turn is not None

    def _next(self) -> tuple[Canvas, Waiting] | None:
        """The picture whose turn it is. With one in flight it is waited for only until that should be ready."""
        until = monotonic() + self._scheduler.seconds_until_ready() if len(self._scheduler) else None
        while not self._stopping:
            self._came.clear()
            turn = self._waiting()
            if turn is not None:
                return turn
            left = None if until is None else until - monotonic()
            if (left is not None and left <= 0) or not self._came.wait(left):
                return None
        return None

    def _waiting(self) -> tuple[Canvas, Waiting] | None:
        """The picture whose turn it is, if there is one; its canvas goes to the end of the row."""
        with self._lock:
            canvases = list(self._canvases)
        if len(self._painting) > len(canvases):
            for gone in self._painting.keys() - set(canvases):
                del self._painting[gone]
            self._free_unused()
        for canvas in canvases:
            waiting = canvas.take()
            if waiting is not None:
                with self._lock:
                    if canvas in self._canvases:
                        self._canvases.remove(canvas)
                        self._canvases.append(canvas)
                return canvas, waiting
        return None

    def _free_unused(self) -> None:
        self._scheduler.free_unused({(style.network_name, form) for style, form in self._painting.values()})

    def _start(self, canvas: Canvas, waiting: Waiting) -> None:
        scheduler = self._scheduler
        try:
            look, style = canvas.now()
            form = canvas.form_of(waiting)
            before = self._painting.get(canvas)
            if scheduler.is_ready(style, form):
                self._painting[canvas] = style, form
                if before is None or (before[0].network_name, before[1]) != (style.network_name, form):
                    self._free_unused()
            elif before is None:
                return
            else:  # until the other program is there
                style, form = before
            source = self._intake.frame(waiting.picture, form, round(waiting.came * 1e6))
            task = scheduler.prepare(source, style, look.strength)
            scheduler.start(task, _Request(canvas, look, waiting.came, source))
        except VidstyleError as error:
            self._fail(canvas, error)
        except Exception:
            _log.exception("a picture could not be painted")
            self._fail(canvas, VidstyleError("the server cannot paint this picture; its log says why"))

    def _finish(self) -> None:
        one = self._scheduler.oldest
        try:
            _, painted = self._scheduler.finish()
            form = one.source.form
            made = finished(painted.planes, one.source.planes, form, split=one.look.split, mirror=one.look.mirror)
            self.painted += 1
            one.canvas.on_painted(made, one.came)
        except VidstyleError as error:
            self._fail(one.canvas, error)
        except Exception:
            _log.exception("a painted picture could not be passed on")
            self._fail(one.canvas, VidstyleError("the server cannot paint this picture; its log says why"))

    def _fail(self, canvas: Canvas, error: VidstyleError) -> None:
        self.remove(canvas)
        canvas.on_problem(error)
