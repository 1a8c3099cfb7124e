"""Paints live frames: one under way while that keeps up, two where it does not."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from time import monotonic

from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.live.pace import Pace
from vidstyle.models.style import Style
from vidstyle.stylizer import FrameTask, Stylizer
from vidstyle.video.conform import Conformer, Place, cut_out, place_in, put_in

_MOST_UNDER_WAY = 2
"""A third frame would be older when it is shown, and no core is left for it on a small machine."""
_TIMES_KEPT = 15
_EARLY = 0.9
"""The painter is asked a little before a frame should be ready: being late is what it must not be."""


@dataclass(frozen=True)
class Task:
    """What is to be done with a frame."""

    taken: Frame
    """As it came from the source."""
    source: Frame
    """In the form of the painter, on black where its shape is another."""
    place: Place | None
    """Where the picture lies in it then."""
    job: FrameTask
    """What the stylizer does. Around a picture of another shape it sees the picture's mirror image: black would
    change the colors of the painting."""


@dataclass(frozen=True)
class Painting:
    """A painted frame, and what it was painted from; both of one form, black where the picture does not reach."""

    source: Frame
    painted: Frame
    task: Task


@dataclass(frozen=True)
class _UnderWay:
    task: Task
    result: Callable[[], Planes]
    began: float
    """When the network got it."""


class Painter:
    """Runs a `Stylizer` on live frames and keeps the work size to its pace. Use it from one thread."""

    def __init__(
        self, stylizer: Stylizer, form: FrameFormat, *, target_fps: float | None = None, workers: Executor
    ) -> None:
        """Compile for frames of ``form``; ``workers`` compile what is needed later.

        Raises what `Stylizer.open` raises, and `BadOption` where ``target_fps`` asks for sizes that an engine
        file cannot do.
        """
        self._stylizer = stylizer
        self.workers = workers
        """For what must not hold up the picture."""
        engine = stylizer.engine
        self.form = form
        """Of the frames that come out: that of the source, in the colors that an engine was built for."""
        if engine is not None:
            card = engine.card
            self.form = replace(form, pixels=card.pixels, matrix=card.matrix, full_range=card.full_range)
        self._conformer = Conformer(self.form)
        self._pace: Pace | None = None
        if target_fps is not None:
            if engine is not None and not engine.card.dynamic:
                raise BadOption(
                    f"{engine.path} was built for {engine.card.sizes()} alone, so its work size cannot follow a target "
                    "of frames a second; build it with --min and --max, or leave out --target-fps"
                )
            least = 16 if engine is None else engine.card.smallest[0]
            self._pace = Pace(target_fps, min(form.height, stylizer.look.work_size or form.height), least=least)
        backend = stylizer.open(self.form)
        self.description = backend.description
        """What runs the network, for people."""
        self._most = min(_MOST_UNDER_WAY, backend.in_flight)
        self._under_way: deque[_UnderWay] = deque()
        self._times: deque[float] = deque(maxlen=_TIMES_KEPT)
        self._compiling: tuple[int, Future[object]] | None = None

    @property
    def work_size(self) -> int:
        """Rows at which the network sees a frame."""
        return min(self._stylizer.look.work_size or self.form.height, self.form.height)

    @property
    def under_way(self) -> int:
        """Frames that were started and not finished."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether no frame may be started before one is finished."""
        return len(self._under_way) >= self._most

    def patience(self) -> float:
        """Seconds until the oldest frame under way should be ready: for so long a newer one may be waited for."""
        if not self._under_way or not self._times:
            return 0.0
        return max(0.0, self._under_way[0].began + _EARLY * statistics.median(self._times) - monotonic())

    def task(self, frame: Frame, style: Style, strength: float) -> Task:
        """What is to be done with ``frame``: the style and look of this moment."""
        look = self._stylizer.look
        if look.strength != strength:
            self._stylizer.look = replace(look, strength=strength)
        self._stylizer.style = style
        source, place = self._conformer.conform(frame), place_in(frame.form.size, self.form.size)
        whole = source
        if place is not None:
            whole = source.with_planes(put_in(cut_out(source.planes, place), place, self.form, "mirrored"))
        return Task(frame, source, place, self._stylizer.prepare(whole))

    def start(self, task: Task) -> None:
        """Begin to paint; only where the painter is not `is_full`."""
        began = monotonic()
        self._under_way.append(_UnderWay(task, self._stylizer.submit(task.job), began))

    def finish(self) -> Painting:
        """Wait for the frame that was started first."""
        oldest = self._under_way.popleft()
        planes = oldest.result()
        self._times.append(monotonic() - oldest.began)
        task = oldest.task
        painted = self._stylizer.finish(task.job, planes)
        if task.place is not None:
            painted = painted.with_planes(put_in(cut_out(painted.planes, task.place), task.place, self.form))
        return Painting(task.source, painted, task)

    def keep_pace(self, now: float, *, shown: int, arrived: int, busy: float) -> str | None:
        """See whether another work size is needed or ready; see `Pace.note`. Returns what went wrong, if it did."""
        if self._pace is None:
            return None
        if self._compiling is not None:
            height, compiled = self._compiling
            if not compiled.done():
                return None
            self._compiling = None
            error = compiled.exception()
            if isinstance(error, VidstyleError):
                self._pace.refused()
                return f"cannot paint at {height} rows: {error}"
            if error is not None:
                raise error
            self._stylizer.look = replace(self._stylizer.look, work_size=height)
            self._pace.switched(now)
            self._times.clear()
            return None
        wanted = self._pace.note(now, shown=shown, arrived=arrived, busy=busy)
        if wanted is not None:
            self._compiling = wanted, self.workers.submit(self._stylizer.open, self.form, wanted)
        return None
