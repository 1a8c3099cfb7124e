"""Paints live frames: one under way while that keeps up, two where it does not."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from time import monotonic

from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import Frame, FrameForm, Planes
from vidstyle.live.pace import Pace
from vidstyle.style import Style
from vidstyle.stylize import Job, Stylizer
from vidstyle.video.conform import Conformer

_MOST_UNDER_WAY = 2
"""A third frame would be older when it is shown, and no core is left for it on a small machine."""
_TIMES_KEPT = 15
_EARLY = 0.9
"""The painter is asked a little before a frame should be ready: being late is what it must not be."""


@dataclass(frozen=True)
class Painting:
    """A painted frame, and what it was painted from; both of one form."""

    source: Frame
    painted: Frame
    job: Job


@dataclass(frozen=True)
class _UnderWay:
    job: Job
    result: Callable[[], Planes]
    began: float
    """When the network got it."""


class Painter:
    """Runs a `Stylizer` on live frames and keeps the work size to its pace. Use it from one thread."""

    def __init__(
        self, stylizer: Stylizer, form: FrameForm, *, target_fps: float | None = None, workers: Executor
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

    def job(self, frame: Frame, style: Style, strength: float) -> Job:
        """What is to be done with ``frame``: the style and look of this moment."""
        look = self._stylizer.look
        if look.strength != strength:
            self._stylizer.look = replace(look, strength=strength)
        self._stylizer.style = style
        return self._stylizer.prepare(self._conformer.conform(frame))

    def start(self, job: Job) -> None:
        """Begin to paint; only where the painter is not `is_full`."""
        began = monotonic()
        self._under_way.append(_UnderWay(job, self._stylizer.submit(job), began))

    def finish(self) -> Painting:
        """Wait for the frame that was started first."""
        oldest = self._under_way.popleft()
        planes = oldest.result()
        self._times.append(monotonic() - oldest.began)
        return Painting(oldest.job.frame, self._stylizer.compose(oldest.job, planes), oldest.job)

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
