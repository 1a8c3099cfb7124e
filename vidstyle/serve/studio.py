"""Where all visitors are painted: one thread, in turns, the newest picture of each."""

from __future__ import annotations

import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from av.video.frame import VideoFrame

from vidstyle.backends.base import usable_cores
from vidstyle.errors import VidstyleError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.serve.canvas import Canvas, Waiting
from vidstyle.serve.look import Look
from vidstyle.serve.picture import Intake, finished, form_for
from vidstyle.serve.programs import Programs, key_of
from vidstyle.stylizer import FrameTask, Stylizer

_log = logging.getLogger(__name__)
_TIMES_KEPT = 15
_EARLY = 0.9
"""A frame under way is asked for a little before it should be ready: late is what it must not be."""


@dataclass(frozen=True)
class _UnderWay:
    canvas: Canvas
    look: Look
    came: float
    job: FrameTask
    stylizer: Stylizer
    result: Callable[[], Planes]
    began: float


class Studio:
    """Paints between `start` and `close`. Canvases come and go at any time, on any thread."""

    def __init__(self, *, size: tuple[int, int] = (360, 640), backend: BackendOptions | None = None) -> None:
        """``size``, ``(height, width)``, is the largest that is painted."""
        self.size = size
        self._programs = Programs(backend or BackendOptions())
        self._most = 1 if usable_cores() < 2 else 2
        self._canvases: list[Canvas] = []  # the one whose turn it is first
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._stopping = False
        self._under_way: deque[_UnderWay] = deque()
        self._times: deque[float] = deque(maxlen=_TIMES_KEPT)
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
        self.description = self._programs.compile(style, form_for(self.size, self.size))
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
        self._programs.close()

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
        try:
            while not self._stopping:
                if len(self._under_way) < self._most and self._begin() and len(self._under_way) < self._most:
                    continue
                if self._under_way:
                    self._finish()
            while self._under_way:
                self._under_way.popleft().result()
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
        """The picture whose turn it is. With one under way it is waited for only until that should be ready."""
        until = monotonic() + self._patience() if self._under_way else None
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
            self._forget(canvases)
        for canvas in canvases:
            waiting = canvas.take()
            if waiting is not None:
                with self._lock:
                    if canvas in self._canvases:
                        self._canvases.remove(canvas)
                        self._canvases.append(canvas)
                return canvas, waiting
        return None

    def _patience(self) -> float:
        if not self._times:
            return 0.0
        return max(0.0, self._under_way[0].began + _EARLY * statistics.median(self._times) - monotonic())

    def _forget(self, canvases: list[Canvas]) -> None:
        for canvas in [canvas for canvas in self._painting if canvas not in canvases]:
            del self._painting[canvas]
        self._trim()

    def _trim(self) -> None:
        in_use = {key_of(style, form) for style, form in self._painting.values()}
        in_use |= {key_of(one.look.style, one.job.frame.form) for one in self._under_way}
        self._programs.trim(in_use)

    def _start(self, canvas: Canvas, waiting: Waiting) -> None:
        try:
            look, style = canvas.now()
            form = canvas.form_of(waiting)
            stylizer = self._programs.get(style, form)
            before = self._painting.get(canvas)
            if stylizer is not None:
                if before is None or key_of(*before) != key_of(style, form):
                    self._painting[canvas] = style, form
                    self._trim()
                self._painting[canvas] = style, form
            elif before is not None:  # until the other program is there
                style, form = before
                stylizer = self._programs.get(style, form)
            if stylizer is None:
                return
            stylizer.style = style
            stylizer.look = replace(stylizer.look, strength=look.strength)
            frame = self._intake.frame(waiting.picture, form, round(waiting.came * 1e6))
            job = stylizer.prepare(frame)
            began = monotonic()
            result = stylizer.submit(job)
            self._under_way.append(_UnderWay(canvas, look, waiting.came, job, stylizer, result, began))
        except VidstyleError as error:
            self._fail(canvas, error)
        except Exception:
            _log.exception("a picture could not be painted")
            self._fail(canvas, VidstyleError("the server cannot paint this picture; its log says why"))

    def _finish(self) -> None:
        one = self._under_way.popleft()
        try:
            planes = one.result()
            self._times.append(monotonic() - one.began)
            painted = one.stylizer.finish(one.job, planes)
            form = one.job.frame.form
            made = finished(painted.planes, one.job.frame.planes, form, split=one.look.split, mirror=one.look.mirror)
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
