"""Paints the pictures of all visitors: on one thread, in turns, the newest picture of each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import monotonic
from typing import NamedTuple, TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from vidstyle.backends.base import usable_cores
from vidstyle.errors import VidstyleError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.imaging import resample
from vidstyle.masks.mask import Mask, open_mask
from vidstyle.models.style import Style
from vidstyle.models.timeline import Fade
from vidstyle.options import BackendOptions
from vidstyle.pipeline import Worker
from vidstyle.scheduler import MAX_IN_FLIGHT, FrameScheduler, LatestSlot
from vidstyle.serve.render_settings import RenderSettings
from vidstyle.video.capture import Capture
from vidstyle.video.capture.clock import MICROSECOND
from vidstyle.video.convert import FrameConverter, Scaler, colors_of, planes_of
from vidstyle.video.formats import UNSPECIFIED, MatrixCode, Range

Picture: TypeAlias = VideoFrame | Frame
"""As a browser's camera or the server's own source gives it."""

_log = logging.getLogger(__name__)
_MAX_PROGRAMS = 1000  # never reached: programs that nobody uses are freed when somebody leaves or changes the format
_SLIDER_SECONDS = 0.15  # duration of a slider's step: long enough not to jump, short enough to follow the finger
_STEADY_SECONDS = 1.0  # pictures of another size must come for so long before they are painted at that size
_TURN_SECONDS = 0.2  # the same for another shape, which looks stretched until then
_FREE_CHANGES, _CHANGES_SECONDS = 3, 60.0
"""So many changes of the format in so many seconds are free; each one more waits twice as long as the last: every
format is compiled, which costs all visitors."""
_MAX_ASPECT_CHANGE = 0.03  # pictures whose shapes differ by less count as the same one at another size
_STEP = 4  # sides are multiples of this, as the network needs anyway: fewer sizes are compiled, and none is padded
_NATIVE_MATRICES = (UNSPECIFIED, MatrixCode.BT470BG, MatrixCode.SMPTE170M)


class Waiting(NamedTuple):
    """A picture that waits to be painted."""

    picture: Picture
    came: float
    """Seconds of `time.monotonic`."""


class FrameMailbox:
    """One visitor's newest picture and settings. Pictures are put in on one thread, settings are changed on another,
    the scheduler takes on a third."""

    def __init__(
        self,
        settings: RenderSettings,
        max_size: tuple[int, int],
        on_painted: Callable[[VideoFrame, float], None],
        on_problem: Callable[[VidstyleError], None],
        wake: Callable[[], None],
    ) -> None:
        """``max_size`` is the ``(height, width)`` that the painting must fit into.

        ``on_painted`` is called on the scheduler's thread with each painted frame and the time when its picture
        came, ``on_problem`` when there will be no more, and ``wake`` when there is a picture to paint.
        """
        self._max_size = max_size
        self.on_painted, self.on_problem = on_painted, on_problem
        self._wake = wake
        self._lock = threading.Lock()
        self._settings = settings
        self._fade = Fade(settings.style)
        self._pictures: LatestSlot[Waiting] = LatestSlot()
        self._other: tuple[FrameFormat, float] | None = None
        self._changes: deque[float] = deque(maxlen=16)
        self.form: FrameFormat | None = None
        """Of what is painted; None before the first picture."""
        self.mask: OpenMask | None = None
        """The mask in use; the scheduler's own."""

    @property
    def settings(self) -> RenderSettings:
        """May be set on any thread; the picture follows softly."""
        return self._settings

    @settings.setter
    def settings(self, settings: RenderSettings) -> None:
        with self._lock:
            before, self._settings = self._settings, settings
            if settings.style.theta != before.style.theta:
                self._fade = Fade(settings.style)
            elif settings.style is not before.style:
                is_slider = [part.style for part in settings.blend] == [part.style for part in before.blend]
                seconds = min(settings.fade_seconds, _SLIDER_SECONDS) if is_slider else settings.fade_seconds
                self._fade.to(settings.style, monotonic(), seconds)

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced before they were painted."""
        return self._pictures.dropped

    def put(self, picture: Picture, came: float) -> None:
        """Make ``picture``, which came at that time of `time.monotonic`, the newest. Never waits."""
        self._pictures.put(Waiting(picture, came))
        self._wake()

    def take(self) -> Waiting | None:
        return self._pictures.take(0)

    def now(self) -> tuple[RenderSettings, Style]:
        """The settings, and the style of this moment."""
        with self._lock:
            return self._settings, self._fade.at(monotonic())

    def choose_format(self, waiting: Waiting) -> FrameFormat:
        """The format to paint a picture in, at best the one of the last picture.

        Browsers send smaller pictures for a while when they begin, or where the path is narrow; each size
        would be compiled, and strokes would change their size.
        """
        picture = waiting.picture
        size = picture.form.size if isinstance(picture, Frame) else (picture.height, picture.width)
        wanted = painted_format(size, self._max_size)
        current = self.form
        if current is None or wanted == current:
            self.form, self._other = wanted, None
            return wanted
        turned = abs(wanted.width * current.height / (wanted.height * current.width) - 1) > _MAX_ASPECT_CHANGE
        if not turned and wanted.height < current.height:
            self._other = None
            return current
        if self._other is None or self._other[0] != wanted:
            self._other = wanted, waiting.came
            return current
        recent = sum(waiting.came - change < _CHANGES_SECONDS for change in self._changes)
        reluctance = 2 ** max(0, recent - _FREE_CHANGES)
        if waiting.came - self._other[1] < (_TURN_SECONDS if turned else _STEADY_SECONDS) * reluctance:
            return current
        self.form, self._other = wanted, None
        self._changes.append(waiting.came)
        return wanted


@dataclass(frozen=True)
class OpenMask:
    """A visitor's mask: what is remembered of his pictures is nobody else's."""

    name: str
    form: FrameFormat
    mask: Future[Mask]
    """There when its network is compiled."""

    def at(self, frame: Frame) -> NDArray[np.uint8] | None:
        """The mask of ``frame``; None, which paints all, until it is there. Raises what opening it raised."""
        return self.mask.result().at(frame) if self.mask.done() else None


@dataclass(frozen=True)
class _Request:
    mailbox: FrameMailbox
    settings: RenderSettings
    came: float
    source: Frame


class InferenceScheduler:
    """Paints between `start` and `close`. Mailboxes come and go at any time, on any thread."""

    def __init__(self, *, size: tuple[int, int] = (360, 640), backend: BackendOptions | None = None) -> None:
        """``size``, ``(height, width)``, is the largest that is painted."""
        self.size, self._backend = size, backend
        self._scheduler: FrameScheduler[_Request] = FrameScheduler(
            backend=backend, max_in_flight=1 if usable_cores() < 2 else MAX_IN_FLIGHT, max_programs=_MAX_PROGRAMS
        )
        self._mailboxes: list[FrameMailbox] = []  # the one whose turn it is first
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._stopping = False
        self._to_frame = FrameMaker()
        self._painting: dict[FrameMailbox, tuple[Style, FrameFormat]] = {}
        self._thread: Worker | None = None
        self.description = ""
        """What runs the network, for people; there after `start`."""
        self.painted = 0
        self.swing: Callable[[float, float], float] = lambda strength, now: strength
        """What the strength of a picture's settings is at a time of `time.monotonic`."""

    @property
    def is_idle(self) -> bool:
        """Whether no visitor has a mailbox, or a program."""
        return not self._mailboxes and not self._painting

    def start(self, style: Style) -> None:
        """Compile for ``style`` and pictures of the largest size, and begin. Raises what compiling raises."""
        self.description = self._scheduler.open(style, painted_format(self.size, self.size))
        self._thread = Worker("painter", self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop painting and free everything. Twice is fine."""
        self._stopping = True
        self._came.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._scheduler.close()

    def add(
        self,
        settings: RenderSettings,
        on_painted: Callable[[VideoFrame, float], None],
        on_problem: Callable[[VidstyleError], None],
    ) -> FrameMailbox:
        mailbox = FrameMailbox(settings, self.size, on_painted, on_problem, self._came.set)
        with self._lock:
            self._mailboxes.append(mailbox)
        return mailbox

    def remove(self, mailbox: FrameMailbox) -> None:
        """Paint no more for ``mailbox``; one frame may still come. Twice is fine."""
        with self._lock:
            if mailbox in self._mailboxes:
                self._mailboxes.remove(mailbox)
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
            _log.exception("the painter has broken down")
            for mailbox in self._mailboxes:
                mailbox.on_problem(VidstyleError("the server cannot paint any more; its log says why"))
        finally:
            self._painting.clear()

    # While the thread waits, no local variable may hold a picture or a mailbox, or a visitor who leaves would stay.

    def _begin(self) -> bool:
        """Start on the next picture; False where there is none."""
        turn = self._next()
        if turn is not None:
            self._start(*turn)
        return turn is not None

    def _next(self) -> tuple[FrameMailbox, Waiting] | None:
        """The picture whose turn it is. With one in flight it is waited for only until that should be ready."""
        until = monotonic() + self._scheduler.seconds_until_ready() if len(self._scheduler) else None
        while not self._stopping:
            self._came.clear()
            turn = self._take()
            if turn is not None:
                return turn
            left = None if until is None else until - monotonic()
            if (left is not None and left <= 0) or not self._came.wait(left):
                return None
        return None

    def _take(self) -> tuple[FrameMailbox, Waiting] | None:
        """The picture whose turn it is, if there is one; its mailbox goes to the end of the row."""
        with self._lock:
            mailboxes = list(self._mailboxes)
        if len(self._painting) > len(mailboxes):
            for gone in self._painting.keys() - set(mailboxes):
                del self._painting[gone]
            self._free_unused()
        for mailbox in mailboxes:
            waiting = mailbox.take()
            if waiting is not None:
                with self._lock:
                    if mailbox in self._mailboxes:
                        self._mailboxes.remove(mailbox)
                        self._mailboxes.append(mailbox)
                return mailbox, waiting
        return None

    def _free_unused(self) -> None:
        self._scheduler.free_unused({(style.network_name, form) for style, form in self._painting.values()})

    def _start(self, mailbox: FrameMailbox, waiting: Waiting) -> None:
        scheduler = self._scheduler
        try:
            settings, style = mailbox.now()
            form = mailbox.choose_format(waiting)
            before = self._painting.get(mailbox)
            if scheduler.is_ready(style, form):
                self._painting[mailbox] = style, form
                if before is None or (before[0].network_name, before[1]) != (style.network_name, form):
                    self._free_unused()
            elif before is None:
                return
            else:  # until the other program is compiled
                style, form = before
            source = self._to_frame(waiting.picture, form, round(waiting.came * 1e6))
            task = scheduler.prepare(source, style, self.swing(settings.strength, monotonic()))
            task = replace(task, mask=self._mask_of(mailbox, settings.mask, source))
            scheduler.start(task, _Request(mailbox, settings, waiting.came, source))
        except Exception as error:
            self._fail(mailbox, error)

    def _mask_of(self, mailbox: FrameMailbox, name: str, source: Frame) -> NDArray[np.uint8] | None:
        if name == "none":
            mailbox.mask = None
            return None
        if mailbox.mask is None or (mailbox.mask.name, mailbox.mask.form) != (name, source.form):
            opening = self._scheduler.workers.submit(open_mask, name, source.form, self._backend)
            mailbox.mask = OpenMask(name, source.form, opening)
        return mailbox.mask.at(source)

    def _finish(self) -> None:
        one = self._scheduler.oldest
        try:
            _, painted = self._scheduler.finish()
            made = compose(painted.planes, one.source.planes, one.source.form, one.settings)
            self.painted += 1
            one.mailbox.on_painted(made, one.came)
        except Exception as error:
            self._fail(one.mailbox, error)

    def _fail(self, mailbox: FrameMailbox, error: Exception) -> None:
        if not isinstance(error, VidstyleError):
            _log.error("a picture could not be painted", exc_info=error)
            error = VidstyleError("the server cannot paint this picture; its log says why")
        self.remove(mailbox)
        mailbox.on_problem(error)


class MediaRelay:
    """The server's own picture: one `Capture`, read by one thread, whose frames go to every mailbox that was added."""

    def __init__(self, source: str, size: tuple[int, int]) -> None:
        """Open ``source``; a file is played over and over. Raises `VideoError`. Nothing is read before `start`."""
        self._capture = Capture(source, size=size, loop=True)
        self.description = self._capture.description
        label = self._capture.label
        shown = "a video stream" if "://" in label else label
        self.public_description = self.description.replace(label, shown, 1)
        """For visitors, who need not know where the stream comes from."""
        self._mailboxes: tuple[FrameMailbox, ...] = ()  # replaced as a whole: the thread reads it
        self._thread: Worker | None = None

    def start(self) -> None:
        self._thread = Worker("source", self._run)
        self._thread.start()

    def add(self, mailbox: FrameMailbox) -> None:
        """Give ``mailbox`` every frame from now on."""
        self._mailboxes += (mailbox,)

    def remove(self, mailbox: FrameMailbox) -> None:
        """Harmless where ``mailbox`` was not added."""
        self._mailboxes = tuple(one for one in self._mailboxes if one is not mailbox)

    def close(self) -> None:
        """Twice is fine."""
        self._capture.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        problem = VidstyleError(f"{self._capture.label} has ended; the server has nothing to show any more")
        try:
            for frame in self._capture.frames():
                now = monotonic()
                for mailbox in self._mailboxes:
                    mailbox.put(frame, now)
        except VidstyleError as error:
            _log.warning("%s", error)
            problem = error
        except Exception:
            _log.exception("the source broke down")
        finally:
            for mailbox in self._mailboxes:
                mailbox.on_problem(problem)


def painted_format(size: tuple[int, int], max_size: tuple[int, int]) -> FrameFormat:
    """The format in which a picture of ``size`` is painted: I420 in BT.601, as browsers have it.

    The size fits into ``max_size``, both ``(height, width)``; upright it fits into ``max_size`` turned upright.
    """
    if size[0] > size[1] and max_size[0] < max_size[1]:
        max_size = max_size[1], max_size[0]
    scale = min(1.0, max_size[0] / size[0], max_size[1] / size[1])
    height, width = (
        max(4 * _STEP, min(round(side * scale / _STEP), bound // _STEP) * _STEP)
        for side, bound in zip(size, max_size, strict=True)
    )
    return FrameFormat(height=height, width=width, pixels="i420", matrix="bt601")


class FrameMaker:
    """Converts pictures into frames. One serves one thread."""

    def __init__(self) -> None:
        self._scaler = Scaler()
        self._converter: FrameConverter | None = None

    def __call__(self, picture: Picture, form: FrameFormat, came: int) -> Frame:
        """``picture`` in ``form``; ``came``, in microseconds of `time.monotonic`, is its time.

        Where no conversion is needed the planes are those of the decoder: not to be written to.
        """
        if isinstance(picture, Frame):
            if picture.form.resized(form.size) == form:
                return picture.with_planes(resample.resize(picture.planes, picture.form, form.size), form)
            if self._converter is None or self._converter.form != form:
                self._converter = FrameConverter(form)
            return self._converter.convert(picture)
        is_native = picture.colorspace in _NATIVE_MATRICES and picture.color_range != Range.FULL
        if picture.format.name != "yuv420p" or not is_native:
            tagged = None, ColorRange(picture.color_range)
            picture = self._scaler.scale(picture, form.size, "yuv420p", tagged, colors_of(form))
        given = form.resized((picture.height, picture.width))
        return Frame(resample.resize(planes_of(picture, given), given, form.size), form, came, MICROSECOND)


def compose(painted: Planes, source: Planes, form: FrameFormat, settings: RenderSettings) -> VideoFrame:
    """A frame for the encoder with the picture that the visitor sees: one copy of each plane.

    ``painted`` and ``source`` are of ``form``, which is I420. Split, the source is on the left of the
    screen and the painting on the right, mirrored or not, with a white line between them.
    """
    split, mirror = settings.split, settings.mirror
    made = VideoFrame(form.width, form.height, "yuv420p")
    for index, target in enumerate(planes_of(made, form)):
        left, right = source[index] if split else painted[index], painted[index]
        if mirror:
            left, right = left[:, ::-1], right[:, ::-1]
        half = form.width // 4 * (2 if index == 0 else 1) if split else 0
        np.copyto(target[:, half:], right[:, half:])
        if split:
            np.copyto(target[:, :half], left[:, :half])
            target[:, half - 1 : half + 1] = 235 if index == 0 else 128
    return made
