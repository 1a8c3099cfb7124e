"""Live frames on their way through the network, of the window and of the page: few are in flight, the newest wins."""

from __future__ import annotations

import statistics
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from vidstyle.errors import BadOption, VidstyleError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.models.architecture import Network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions, SmoothOptions, check_between
from vidstyle.realtime import WORK_SIZE_STEP, RealTime, measure_rate, work_size_ladder
from vidstyle.stylizer import FrameTask, Stylizer

if TYPE_CHECKING:
    from vidstyle.backends.base import Backend

T = TypeVar("T")

MAX_IN_FLIGHT = 2
"""A third frame would be older when it is shown, and no core is left for it on a small machine."""
SPARE_PROGRAMS = 2
"""Programs kept though no stream uses them: the next one often has the same camera."""
_TIMES_KEPT = 15
_REST = 0.3  # seconds for which a work size must have been asked for: a fader passes many, and each would be compiled
_STEADY = 1.0  # seconds for which all frames were of one style and size, before a program is compiled for these alone
_OWN_KEPT = 2  # such programs
_EARLY = 0.9  # a frame in flight is asked for a little before it should be ready, so that it is never shown late


class LatestSlot(Generic[T]):
    """Holds the newest item that one thread has put until another takes it; the item that it replaces is dropped."""

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None
        self.arrived = 0
        self.dropped = 0
        """How many of them were replaced before they were taken."""

    def put(self, item: T) -> None:
        """Make ``item`` the newest. Never waits."""
        with self._state:
            self.arrived += 1
            self.dropped += self._item is not None
            self._item = item
            self._state.notify()

    def take(self, timeout: float) -> T | None:
        """The newest item, once; None if none comes within ``timeout`` seconds, or the slot is closed.

        Raises the error that the slot was closed with, after the last item was taken.
        """
        with self._state:
            self._state.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Accept no more items, because of ``error`` if there was one."""
        with self._state:
            self._closed, self._error = True, error
            self._state.notify()

    @property
    def is_over(self) -> bool:
        """Whether the slot is closed and its last item was taken."""
        with self._state:
            return self._closed and self._item is None


@dataclass(frozen=True)
class _InFlight(Generic[T]):
    owner: T
    task: FrameTask
    stylizer: Stylizer
    result: Callable[[], Planes]
    began: float


class FrameScheduler(Generic[T]):
    """Runs live frames through one `Stylizer` for each network; programs are compiled in the background.

    ``T`` is what comes with a frame and is returned with its painting. Use it from one thread; `open` may run on any.
    """

    def __init__(
        self,
        *,
        look: LookOptions | None = None,
        smooth: SmoothOptions | None = None,
        backend: BackendOptions | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_programs: int = Stylizer.max_programs,
    ) -> None:
        self.look = look or LookOptions()
        """How the next frames are finished; `prepare` may be given another strength."""
        self.workers = ThreadPoolExecutor(1, "vidstyle-background")
        """For work that must not hold up the picture."""
        self._smooth, self._backend = smooth, backend
        self._max_in_flight, self._max_programs = max_in_flight, max_programs
        self._stylizers: dict[str, Stylizer] = {}
        self._opening: dict[tuple[str, FrameFormat, int | None], Future[object]] = {}
        self._own: OrderedDict[tuple[Network, FrameFormat], Future[Backend]] = OrderedDict()
        self._steady: tuple[Network, FrameFormat] | None = None
        self._steady_since = 0.0
        self._in_flight: deque[_InFlight[T]] = deque()
        self._times: deque[float] = deque(maxlen=_TIMES_KEPT)
        self._resolution: AdaptiveResolution | None = None
        self._next_height: int | None = None  # being compiled
        self._asked_height: int | None = None
        self._asked_at = 0.0

    def open(self, style: Style, form: FrameFormat) -> str:
        """Compile the program for ``style`` and ``form`` now; returns a description of the backend for people.

        Raises what `Stylizer.open` raises.
        """
        stylizer = self._stylizer(style)
        backend = stylizer.open(form, self.look.work_size)
        self._max_in_flight = min(self._max_in_flight, stylizer.frames_in_flight(backend))
        if self.look.mask is not None:
            stylizer.open_mask(form, self.look.mask)
        return backend.description

    def is_ready(self, style: Style, form: FrameFormat, work_size: int | None = None) -> bool:
        """Whether frames of ``form`` can be started; if not, their program is compiled in the background.

        Raises what `Stylizer.open` raises, once.
        """
        stylizer, key = self._stylizer(style), (style.network_name, form, work_size)
        opening = self._opening.get(key)
        if opening is None and not stylizer.is_open(form, work_size):
            opening = self._opening[key] = self.workers.submit(stylizer.open, form, work_size)
        if opening is None:
            return True
        if not opening.done():
            return False
        del self._opening[key]
        opening.result()
        return True

    def free_unused(self, in_use: Collection[tuple[str, FrameFormat]]) -> None:
        """Free all programs but those of the networks and forms ``in_use``, those in flight, and the newest few."""
        kept = {*in_use, *((one.task.style.network_name, one.task.frame.form) for one in self._in_flight)}
        for network, stylizer in self._stylizers.items():
            stylizer.free_unused({form for name, form in kept if name == network}, spare=SPARE_PROGRAMS)

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def is_full(self) -> bool:
        """Whether no frame may be started before one is finished."""
        return len(self._in_flight) >= self._max_in_flight

    @property
    def oldest(self) -> T:
        """What came with the frame that `finish` waits for."""
        return self._in_flight[0].owner

    def seconds_until_ready(self) -> float:
        """Seconds until the oldest frame in flight should be ready: so long a newer frame may be waited for."""
        if not self._in_flight or not self._times:
            return 0.0
        return max(0.0, self._in_flight[0].began + _EARLY * statistics.median(self._times) - monotonic())

    def prepare(self, frame: Frame, style: Style, strength: float | None = None) -> FrameTask:
        """A frame ready to be started: resized, with the style and look of this moment."""
        stylizer, look = self._stylizer(style), self.look
        if strength is not None and look.strength != strength:
            look = replace(look, strength=strength)
        stylizer.style, stylizer.look = style, look
        return stylizer.prepare(frame)

    def start(self, task: FrameTask, owner: T) -> None:
        """Begin to paint what `prepare` made; only where the scheduler is not `is_full`."""
        stylizer, began = self._stylizer(task.style), monotonic()
        own = self._own_program(stylizer, task, began)
        result = stylizer.submit(task) if own is None else own.submit(task.work.planes, task.style)
        self._in_flight.append(_InFlight(owner, task, stylizer, result, began))

    def _own_program(self, stylizer: Stylizer, task: FrameTask, now: float) -> Backend | None:
        """The program for the style of ``task`` alone, where one pays and is compiled; else None, and it may become so.

        A style, or blend, that was chosen just now is painted by the program for all styles: nothing waits.
        """
        style, form = task.style, task.work.form
        if len(style.parts) > 1 or task.elsewhere is not None or not stylizer.open(task.frame.form).one_style_is_faster:
            self._steady = None
            return None
        key = style.parts[0][0], form
        known = self._own.get(key)
        if known is not None:
            self._own.move_to_end(key)
            return known.result() if known.done() and known.exception() is None else None
        if self._steady != key:
            self._steady, self._steady_since = key, now
        elif now - self._steady_since >= _STEADY and all(own.done() for own in self._own.values()):
            self._own[key] = self.workers.submit(stylizer.compiled_for, style, form)
            if len(self._own) > _OWN_KEPT:
                _close(self._own.popitem(last=False)[1])
        return None

    def finish(self) -> tuple[T, Frame]:
        """Wait for the frame that was started first; returns what came with it, and the painting."""
        one = self._in_flight.popleft()
        planes = one.result()
        self._times.append(monotonic() - one.began)
        return one.owner, one.stylizer.finish(one.task, planes)

    def hold(self, target_fps: float, style: Style, height: int) -> None:
        """Have `adapt` choose the work size, from ``height`` down, so that ``target_fps`` frames a second are painted.

        Raises `BadOption` where an engine file was built for one size.
        """
        engine = style.engine
        if engine is not None and not engine.card.dynamic:
            raise BadOption(
                f"{engine.path} was built for {engine.card.sizes()} alone, so its work size cannot follow a target "
                "of frames a second; build it with --min and --max, or leave out --target-fps"
            )
        least = 16 if engine is None else engine.card.smallest[0]
        self._resolution = AdaptiveResolution(target_fps, height, least=least)

    def hold_source(self, rate: float, style: Style, form: FrameFormat) -> RealTime | None:
        """Measure for half a second whether ``rate`` frames a second can be painted; if not, have `adapt` hold it.

        It then begins with the work size that was measured, which is returned. An engine file keeps its own size.
        """
        if style.engine is not None:
            return None
        found = measure_rate(self._stylizer(style), form, rate)
        if found.rows == found.whole:
            return None
        self._stylizer(style).open(form, found.rows)
        self._resolution = AdaptiveResolution(rate, found.whole, at=found.rows)
        self.look = replace(self.look, work_size=found.rows)
        return found

    def smooth(self, smooth: SmoothOptions | None) -> None:
        """Take the flicker out as ``smooth`` says, from the next frame on."""
        self._smooth = smooth
        for stylizer in self._stylizers.values():
            stylizer.smooth = smooth

    def paint_at(self, height: int, now: float) -> None:
        """Have `adapt` change to a work size of ``height`` rows, rounded to a multiple of 4.

        Of several wishes the newest counts, once it has stood for a moment. Raises `BadOption` where `hold` has the
        work size chosen.
        """
        if self._resolution is not None:
            raise BadOption(f"a work size of {height} rows: it follows --target-fps; leave that out to choose it")
        height = max(16, round(height / 4) * 4)
        if height != self._asked_height:
            self._asked_height, self._asked_at = height, now

    def adapt(
        self, style: Style, form: FrameFormat, now: float, *, shown: int, arrived: int, busy: float
    ) -> str | None:
        """Change to another work size when one is needed, or asked for by `paint_at`, and compiled; see
        `AdaptiveResolution.update`.

        Returns what went wrong, if something did.
        """
        resolution = self._resolution
        if self._next_height is None and resolution is not None:
            self._next_height = resolution.update(now, shown=shown, arrived=arrived, busy=busy)
        elif self._next_height is None and now - self._asked_at > _REST:
            self._next_height, self._asked_height = self._asked_height, None
        height = self._next_height
        if height is None:
            return None
        try:
            if not self.is_ready(style, form, height):
                return None
        except VidstyleError as error:
            self._next_height = None
            if resolution is not None:
                resolution.rejected()
            return f"cannot paint at {height} rows: {error}"
        self._next_height = None
        self.look = replace(self.look, work_size=height)
        if resolution is not None:
            resolution.applied(now)
        self._times.clear()
        return None

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        self.workers.shutdown(cancel_futures=True)
        while self._own:
            _close(self._own.popitem()[1])
        for stylizer in self._stylizers.values():
            stylizer.close()

    def _stylizer(self, style: Style) -> Stylizer:
        stylizer = self._stylizers.get(style.network_name)
        if stylizer is None:
            stylizer = Stylizer(style, look=self.look, smooth=self._smooth, backend=self._backend)
            stylizer.max_programs = self._max_programs
            self._stylizers[style.network_name] = stylizer
        return stylizer


def _close(program: Future[Backend]) -> None:
    """Free a program that was compiled; frames that are under way on it come to their end."""
    if program.done() and not program.cancelled() and program.exception() is None:
        program.result().close()


_PERIOD = 1.0  # seconds of measurement before a decision
_SETTLE = 0.5  # seconds after a change that are not measured
_SLACK = 0.97  # a target is held from this part of it on: nobody sees one frame in thirty
_ROOM = 1.15  # how much more than needed the next height up must promise
_QUIET = 4.0  # seconds for which it must promise that
_MAX_QUIET = 120.0
_REGRET = 10.0  # a step up that is taken back within this time was a mistake: the next one waits twice as long


class AdaptiveResolution:
    """Chooses the work size, a height in rows, from how busy the machine was.

    Strokes have a fixed size in the pixels that the network sees, so that a smaller work size means
    larger strokes on the screen, and no choice of sizes changes that. Small steps, and a floor of half
    of the first height, keep them as steady as can be. It steps down when a second was too slow, and up
    only after several seconds in which the next height would have been fast enough.

    Pure logic: times, in seconds, are given to it.
    """

    def __init__(self, target_fps: float, start: int, *, least: int = 16, at: int | None = None) -> None:
        """Hold ``target_fps`` with ``start`` rows at best, beginning with these or ``at``; never go below ``least``."""
        check_between("target fps", target_fps, 1, 240)
        check_between("first work size", start, 16, 1 << 16)
        self._target = target_fps
        self.heights = work_size_ladder(start, max(least, 16))
        """The heights to choose from, the largest first; all but the first are multiples of 4."""
        self._at = 0 if at is None else self.heights.index(at)
        self._wanted: int | None = None
        self._fixed_until = 0.0
        self._quiet_since: float | None = None
        self._quiet = _QUIET
        self._went_up = float("-inf")
        self._clear(None)

    @property
    def height(self) -> int:
        """The work size in use."""
        return self.heights[self._at]

    def update(self, now: float, *, shown: int, arrived: int, busy: float) -> int | None:
        """Add a measurement; returns the height to change to, or None.

        Since the last call ``shown`` frames were shown, ``arrived`` came from the source, and the machine
        was ``busy`` for so many seconds with frames at hand. After a height was returned, None follows
        until `applied` or `rejected` is called.
        """
        if self._wanted is not None or now < self._fixed_until:
            self._clear(None)
            return None
        if self._began is None:
            self._clear(now)
            return None
        self._shown += shown
        self._arrived += arrived
        self._busy += busy
        seconds = now - self._began
        if seconds < _PERIOD:
            return None
        index = self._decided(now, seconds)
        self._clear(now)
        if index == self._at:
            return None
        self._wanted = index
        return self.heights[index]

    def applied(self, now: float) -> None:
        """The height that `update` returned is in use from now on."""
        assert self._wanted is not None
        if self._wanted < self._at:
            self._went_up = now
        elif now - self._went_up < _REGRET:
            self._quiet = min(_MAX_QUIET, 2 * self._quiet)
        self._at, self._wanted = self._wanted, None
        self._fixed_until = now + _SETTLE
        self._quiet_since = None

    def rejected(self) -> None:
        """The height that `update` returned does not work; neither it nor any lower one is returned again."""
        assert self._wanted is not None
        self.heights = self.heights[: max(self._wanted, self._at + 1)]
        self._wanted = None

    def _decided(self, now: float, seconds: float) -> int:
        if self._shown == 0 or self._arrived == 0:
            self._quiet_since = None  # no source: nothing to learn
            return self._at
        # A slow source is no reason to paint less.
        target = min(self._target, self._arrived / seconds)
        able = self._shown / min(max(self._busy, 1e-6), seconds)  # frames a second, if they came without end
        if max(able, self._shown / seconds) < target * _SLACK:
            self._quiet_since = None
            far = able < target * WORK_SIZE_STEP**2
            return min(self._at + (2 if far else 1), len(self.heights) - 1)
        up = max(self._at - 1, 0)
        ratio = (self.heights[up] / self.heights[self._at]) ** 2
        if up == self._at or able / ratio < target * _ROOM:
            self._quiet_since = None
            return self._at
        if self._quiet_since is None:
            self._quiet_since = now - seconds
        return up if now - self._quiet_since >= self._quiet else self._at

    def _clear(self, began: float | None) -> None:
        self._began = began
        self._shown = self._arrived = 0
        self._busy = 0.0
