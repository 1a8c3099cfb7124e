"""A live source, painted as it comes: shown in a window, recorded, sent on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, Protocol

from vidstyle.errors import BadOption, NotCopyable, VidstyleError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.live.keys import Action, Controls
from vidstyle.live.outputs import OutputReport, Outputs, free_name, save_snapshot, snapshot_path
from vidstyle.live.overlay import Overlay, Status, draw
from vidstyle.live.remote import Remote
from vidstyle.live.window import Window, check_display
from vidstyle.metrics import FrameStats
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, EncodeOptions, LiveOptions, LookOptions, SmoothOptions, StageOptions
from vidstyle.pipeline import Closing, Worker
from vidstyle.scheduler import FrameScheduler, LatestSlot
from vidstyle.stage.control import StageControl
from vidstyle.stylizer import FrameTask, work_size
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.capture.microphone import Microphone
from vidstyle.video.convert import FrameConverter, Place, cut_out, place_in, put_in
from vidstyle.video.output.virtual_camera import Sink, VirtualCamera

OnSound = Callable[[AudioChunk], None]
OnShown = Callable[[int, float], None]

TITLE = "vidstyle"
_WAIT_SECONDS = 0.02  # how long a frame, or a slow network, is waited for before the keys are looked at
_STILL_SECONDS = 0.25  # how often a picture that stands still is drawn again, for the sake of the figures
_FIGURES_SECONDS = 0.25  # how often the figures change: nobody reads faster
_MESSAGE_SECONDS = 3.0
_LOST_SECONDS = 0.1  # how often the last picture is sent to recordings and streams while the source is lost
_STALLED_SECONDS = 0.1  # when nothing has come for so long, the last frame is painted again if style or strength change
_JUDGED = 100  # pictures that must have come before it is said that most are not painted in time
_MAX_SAVING = 8  # snapshots at once; each is a whole picture in memory
_MAX_PROBLEMS = 100  # sentences kept for the report; a server that comes and goes must not fill the memory


class Source(Protocol):
    """What frames come from: so much of a `vidstyle.video.capture.Capture`, where all of it is explained."""

    form: FrameFormat
    description: str
    fps: float | None
    reconnects: int
    state: Literal["open", "lost"]
    sound_form: AudioFormat | None

    def frames(self) -> Generator[Frame, None, None]: ...

    def close(self) -> None: ...


@dataclass
class LiveReport:
    """What a live picture was, and how it did; filled in while a `Live` runs."""

    source: str = ""
    """What was negotiated with the source."""
    style: str = ""
    """Style or blend, at the end."""
    backend: str = ""
    """Library, version, precision and threads."""
    width: int = 0
    height: int = 0
    """Of the frames, in pixels."""
    work_size: int = 0
    """Rows that the network saw, at the end."""
    realtime: str = ""
    """What was measured and chosen at the start, where the source was too fast for every row."""
    startup_seconds: float = 0.0
    """Opening the source and compiling the network."""
    seconds: float = 0.0
    """From the first to the last frame shown."""
    shown: int = 0
    """Frames shown, or without a window passed on. Those of a pause are not counted."""
    dropped: int = 0
    """Frames that a newer one replaced before they were painted."""
    fps: float = 0.0
    latency_median_ms: float = 0.0
    """From the capture clock of a frame to the moment when it was on its way to the display: drawn, and the
    window's events dealt with. What a camera adds before, and the display after that, nobody here can know."""
    latency_p99_ms: float = 0.0
    latency_longest_ms: float = 0.0
    reconnects: int = 0
    recordings: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    """Recordings and streams, in the order in which they began."""
    stage: list[str] = field(default_factory=list)
    """What plays it from outside: OSC, MIDI."""
    osc_messages: int = 0
    osc_refused: int = 0
    """Of them, and of other datagrams, those that ask for nothing that can be done; `problems` tells of each sort."""
    problems: list[str] = field(default_factory=list)
    """What went wrong on the way; one sentence each."""


@dataclass(frozen=True)
class Request:
    """A frame to be painted."""

    taken: Frame
    """As it came from the source."""
    source: Frame
    """In the form of the painter, on black where its shape is another."""
    place: Place | None
    """Where the picture lies in it then."""
    task: FrameTask
    """For the network. Around a picture of another shape it sees the picture's mirror image: black would change the
    colors of the painting."""

    def looks_like(self, other: Request) -> bool:
        """Whether the paintings of two requests on one frame are the same."""
        return self.task.look == other.task.look and self.task.style.parts == other.task.style.parts


@dataclass(frozen=True)
class Painting:
    """A painted frame, and what it was painted from; both of one form, black where the picture does not reach."""

    painted: Frame
    request: Request


class Painter(FrameScheduler[Request]):
    """A `FrameScheduler` for one stream of frames whose shape may change."""

    def __init__(
        self,
        style: Style,
        form: FrameFormat,
        *,
        look: LookOptions,
        smooth: SmoothOptions | None = None,
        backend: BackendOptions | None = None,
    ) -> None:
        super().__init__(look=look, smooth=smooth, backend=backend)
        self._engine = style.engine
        if style.engine is not None:
            card = style.engine.card
            form = replace(form, pixels=card.pixels, matrix=card.matrix, full_range=card.full_range)
        self.form = form
        """Of the paintings: that of the source, in the colors that an engine was built for."""
        self._converter = FrameConverter(form)

    @property
    def work_size(self) -> int:
        """Rows at which the network sees a frame."""
        return work_size(self.form.size, self.look.work_size, self._engine)[0]

    def request(self, frame: Frame, style: Style, strength: float) -> Request:
        """What is to be done with ``frame``: the style and look of this moment."""
        source, place = self._converter.convert(frame), place_in(frame.form.size, self.form.size)
        whole = source
        if place is not None:
            whole = source.with_planes(put_in(cut_out(source.planes, place), place, self.form, "mirrored"))
        return Request(frame, source, place, self.prepare(whole, style, strength))

    def paint(self, request: Request) -> None:
        """Begin to paint; only where the painter is not `is_full`."""
        self.start(request.task, request)

    def painting(self) -> Painting:
        """Wait for the painting that was begun first."""
        request, painted = self.finish()
        if request.place is not None:
            painted = painted.with_planes(put_in(cut_out(painted.planes, request.place), request.place, self.form))
        return Painting(painted, request)


class Screen(Closing):
    """The window with the live picture, its figures and its keys. Use it from the main thread."""

    def __init__(self, title: str, picture_size: tuple[int, int], *, full_screen: bool = False) -> None:
        """Open the window. Raises `VideoError` where there is no display."""
        self.window = Window(title, picture_size, full_screen=full_screen)
        self._overlay = Overlay()
        self._status = Status()
        self._figures_at = float("-inf")
        self._message, self._message_until = "", float("-inf")

    def say(self, message: str, now: float) -> None:
        """Show ``message`` for some seconds."""
        self._message, self._message_until = message, now + _MESSAGE_SECONDS

    def close(self) -> None:
        self.window.close()

    def refresh(self) -> None:
        """Have new figures with the next picture."""
        self._figures_at = float("-inf")

    def show(
        self, painting: Painting | None, controls: Controls, now: float, figures: Callable[[], Status]
    ) -> list[str]:
        """Put ``painting``, if there is one, on the screen with ``figures``, and return the keys pressed until then."""
        window = self.window
        if now - self._figures_at >= _FIGURES_SECONDS:
            self._status, self._figures_at = figures(), now
        window.full_screen = controls.full_screen
        if painting is not None and window.is_open:
            source = painting.request.source
            bgr = draw(painting.painted, source, window.size, view=controls.view, mirror=controls.mirror)
            message = self._message if now < self._message_until else ""
            status = replace(self._status, title=controls.title, message=message, help=controls.help)
            self._overlay.draw(bgr, status)
            window.show(bgr)
        return window.keys()


class Live(NotCopyable):
    """One run of a live picture, from opening its source to its end.

    >>> Live(lambda on_sound: Capture("0", on_sound=on_sound), [load_style("starry_night")]).run()
    """

    def __init__(
        self,
        open_source: Callable[[OnSound | None], Source],
        styles: Sequence[Style],
        *,
        index: int = 0,
        look: LookOptions | None = None,
        smooth: SmoothOptions | None = None,
        backend: BackendOptions | None = None,
        encode: EncodeOptions | None = None,
        options: LiveOptions | None = None,
        stage: StageOptions | None = None,
        open_microphone: Callable[[OnSound], Microphone] | None = None,
        open_camera: Callable[[FrameFormat, float | None], Sink] = VirtualCamera,
        on_start: Callable[[LiveReport], None] | None = None,
        on_shown: OnShown | None = None,
    ) -> None:
        """Nothing is opened before `run`.

        ``open_source`` is given what is to be called with the source's sound, or None where nobody wants it:
        with ``open_microphone``, whose sound takes its place. ``styles``, of one network, are what keys go
        through, beginning with number ``index``. ``on_shown`` is called with the ``pts`` of each frame and the
        time, in seconds of `time.monotonic`, when it was on its way to the display: drawn, and the window's
        events dealt with. The callbacks are called on the thread that calls `run`.
        """
        self._open_source, self._open_microphone, self._open_camera = open_source, open_microphone, open_camera
        self._look, self._smooth, self._backend = look or LookOptions(), smooth, backend
        self._encode = encode or EncodeOptions()
        self.options = options = options or LiveOptions()
        self._stage = stage or StageOptions()
        self.on_shown = on_shown
        self._on_start = on_start
        self.stopping = threading.Event()
        """Set to end the run soon."""
        self._has_run = False
        self.controls = Controls(
            styles,
            index=index,
            strength=self._look.strength,
            mirror=options.mirror,
            view=options.view,
            full_screen=options.full_screen,
        )
        """What the keys change."""

    def stop(self) -> None:
        """End the run soon, as q does. May be called from any thread."""
        self.stopping.set()

    def run(self) -> LiveReport:
        """Open everything, paint until the source ends or somebody quits, and say how it went.

        Ctrl-C, once everything is open, is one way to quit. With a window, call it on the main thread: the windows
        of a process all belong to one thread. It runs once; make another `Live` to run again.
        Raises `VideoError` where there is no source or no display, `BadOption` for what cannot be asked, and
        what compiling the network raises. Whatever is raised, recordings are whole and threads have ended.
        """
        if self._has_run:
            raise BadOption("this Live has run already; make another one")
        self._has_run = True
        with ExitStack() as stack:
            loop = _Loop(self, stack)
            if self._on_start is not None:
                self._on_start(loop.report)
            capture = Worker("capture", lambda: _read(loop.source, loop.latest))
            capture.start()
            stack.callback(capture.join)
            stack.callback(loop.source.close)
            with contextlib.suppress(KeyboardInterrupt):
                loop.run()
            loop.sum_up()
        loop.sum_up_outputs()
        return loop.report


def _read(source: Source, latest: LatestSlot[Frame]) -> None:
    """Pass frames on until the source ends; its error, if it raises one, is raised where the frames are taken."""
    try:
        for frame in source.frames():
            latest.put(frame)
        latest.close()
    except BaseException as error:
        latest.close(error)


class _Loop:
    """Takes the newest frame, paints it, shows it, looks at the keys. On one thread, which the window belongs to."""

    def __init__(self, live: Live, stack: ExitStack) -> None:
        """Open everything that ``live`` asks for; ``stack`` closes it."""
        self._live, self._controls, self._options = live, live.controls, live.options
        options, style, began = live.options, live.controls.current, monotonic()
        outputs: Outputs | None = None

        def hear(sound: AudioChunk) -> None:
            if outputs is not None:
                outputs.sound(sound)

        if options.window:
            check_display()  # before anything else takes its time
        stage = stack.enter_context(
            StageControl(live._stage, check_style=live.controls.index_of, can_tap=options.window)
        )
        microphone = live._open_microphone
        source = stack.enter_context(contextlib.closing(live._open_source(hear if microphone is None else None)))
        painter = Painter(style, source.form, look=live._look, smooth=live._smooth, backend=live._backend)
        stack.enter_context(contextlib.closing(painter))
        if options.target_fps is not None:
            painter.hold(options.target_fps, style, painter.work_size)
        backend, sound = painter.open(style, painter.form), source.sound_form
        realtime = None
        if options.realtime and options.target_fps is None and live._look.work_size is None and source.fps:
            realtime = painter.hold_source(source.fps, style, painter.form)
        if microphone is not None:
            sound = stack.enter_context(contextlib.closing(microphone(hear))).form
        outputs = Outputs(painter.form, source.fps, sound, encode=live._encode, workers=painter.workers)
        stack.enter_context(outputs)
        for target in options.outputs:
            outputs.add(target, overwrite=options.overwrite)
        if options.record is not None:
            outputs.record(options.record, overwrite=options.overwrite)
        if options.virtual_camera:
            outputs.add_camera(live._open_camera)
        self._screen: Screen | None = None
        if options.window:
            self._screen = stack.enter_context(Screen(TITLE, source.form.size, full_screen=options.full_screen))
        self.source, self._painter, self._outputs = source, painter, outputs
        self._remote = Remote(stage, self._controls, painter)
        self.latest: LatestSlot[Frame] = LatestSlot()
        self._stats = FrameStats()
        self._last: Painting | None = None
        self._shape = source.form.size
        self._came_at = self._recording_since = now = monotonic()
        self._drawn_at = self._sent_at = float("-inf")
        self._saving: list[Future[Path]] = []
        self._problem: str | None = None
        # Since the work size was last adapted: when that was, frames that had come by then, seconds without work.
        self._turn, self._arrived, self._idle = now, 0, 0.0
        height, width = source.form.size
        self.report = LiveReport(
            *(source.description, self._controls.title, backend, width, height),
            realtime="" if realtime is None else str(realtime),
            startup_seconds=now - began,
            outputs=outputs.report(),
            stage=stage.descriptions,
        )

    def run(self) -> None:
        """Go on until the source ends, the time is up, or somebody quits."""
        painter = self._painter
        self._say(f"{self.report.source}  ·  {self.report.backend}")
        while not self._is_over():
            shown = 0
            if not painter.is_full:
                frame = self._taken()
                if frame is not None and not self._controls.paused:
                    self._note_shape(frame)
                    painter.paint(self._request(frame))
                    if not painter.is_full:
                        continue
                elif not len(painter):
                    if self.latest.is_over:
                        return
                    self._hold(frame)
            if len(painter):
                while painter.seconds_until_ready() > 2 * _WAIT_SECONDS:
                    sleep(_WAIT_SECONDS)
                    self._look_at_keys()
                self._show(painter.painting())
                shown = 1
            self._adapt(shown)

    def sum_up(self) -> None:
        """Write figures and settings into the report."""
        report, stats = self.report, self._stats
        report.style, report.work_size = self._controls.title, self._painter.work_size
        report.seconds = 0.0 if stats.first is None else stats.last - stats.first
        report.shown, report.dropped, report.fps = stats.shown, self.latest.dropped, stats.average_fps
        report.latency_median_ms = 1000 * stats.overall(50)
        report.latency_p99_ms = 1000 * stats.overall(99)
        report.latency_longest_ms = 1000 * stats.longest
        report.reconnects = self.source.reconnects
        if self._remote.stage.osc is not None:
            report.osc_messages, report.osc_refused = self._remote.stage.osc.received, self._remote.stage.osc.refused

    def sum_up_outputs(self) -> None:
        """Write into the report what was recorded and sent, once all of it is closed."""
        self.report.outputs = self._outputs.report()
        self.report.recordings = self._outputs.recordings
        self._note_saved()

    def _is_over(self) -> bool:
        if self._live.stopping.is_set() or (self._screen is not None and not self._screen.window.is_open):
            return True
        began, seconds = self._stats.first, self._options.seconds
        return began is not None and seconds is not None and monotonic() - began >= seconds

    def _request(self, frame: Frame) -> Request:
        """The request for ``frame``, after what came from outside up to this moment."""
        now = monotonic()
        self._do(self._remote.heed(now, recording=self._outputs.recording is not None))
        if self._remote.changed:
            self._drawn_at = float("-inf")
        for problem in self._remote.stage.problems():
            self._note(problem)
        self._remote.stage.tell(self._figures, now)
        return self._painter.request(frame, self._controls.style(now), self._remote.strength(now))

    def _figures(self) -> tuple[float, float, str]:
        now = monotonic()
        latency = self._stats.latency(now)
        return self._stats.fps(now), 0.0 if latency is None else 1000 * latency[0], self._controls.title

    def _taken(self) -> Frame | None:
        """The newest frame. With one in flight it is waited for only until that should be ready."""
        painter, latest = self._painter, self.latest
        asked = monotonic()
        if not len(painter):
            frame = latest.take(_WAIT_SECONDS)
            self._idle += monotonic() - asked
        else:
            frame = latest.take(min(painter.seconds_until_ready(), 2 * _WAIT_SECONDS))
            while frame is None and painter.seconds_until_ready() > 0 and not latest.is_over:
                self._look_at_keys()
                frame = latest.take(min(painter.seconds_until_ready(), _WAIT_SECONDS))
        if frame is not None:
            self._came_at = monotonic()
        return frame

    def _note_shape(self, frame: Frame) -> None:
        """Say so where the source has turned, or has become another one."""
        size = frame.form.size
        if size != self._shape:
            self._shape = size
            if size != self.source.form.size:
                height, width = self.source.form.size
                self._note(
                    f"the source has changed its shape: it is shown as {size[1]}x{size[0]} within {width}x{height}"
                )

    def _show(self, painting: Painting) -> None:
        self._outputs.write(painting.painted)
        self._last = painting
        self._draw()
        now = monotonic()
        pts = painting.painted.pts
        self._stats.add(now - pts / 1e6, now)
        if self._live.on_shown is not None:
            self._live.on_shown(pts, now)

    def _hold(self, frame: Frame | None) -> None:
        """There is no new picture: the source is paused or waited for. ``frame`` tells the time, if there is one."""
        last, now = self._last, monotonic()
        changed = False
        if self._controls.paused:
            self._stats.rest()
        if last is not None and (frame is not None or now - self._came_at > _STALLED_SECONDS):
            request = self._request(last.request.taken)
            changed = not request.looks_like(last.request)
            if changed:
                self._painter.paint(request)
                last = self._last = self._painter.painting()
            # Who watches from afar sees a still picture, with sound, and not a broken line.
            if frame is not None:
                self._outputs.write(replace(last.painted, pts=frame.pts, time_base=frame.time_base))
            elif self.source.state == "lost" and now - self._sent_at >= _LOST_SECONDS:
                self._outputs.write(replace(last.painted, pts=round(now * 1e6)))
                self._sent_at = now
        if changed or now - self._drawn_at >= _STILL_SECONDS:
            self._draw()
        else:
            self._look_at_keys()

    def _look_at_keys(self) -> None:
        """Of two keys that are pressed between two looks OpenCV tells the second one only."""
        if self._screen is not None:
            self._obey(self._screen.window.keys())

    def _draw(self) -> None:
        self._drawn_at = now = monotonic()
        self._note_saved()
        problem = self._outputs.problem
        if problem is not None and problem != self._problem:
            self._note(problem, say=False)  # it is shown as a warning
        self._problem = problem
        if self._screen is not None:
            self._obey(self._screen.show(self._last, self._controls, now, self._status))

    def _status(self) -> Status:
        controls, painter, now = self._controls, self._painter, monotonic()
        height = painter.form.height
        details = []
        if controls.strength != 1:
            details.append(f"strength {round(100 * controls.strength)} %")
        if painter.work_size != height:
            details.append(f"painted at {painter.work_size} of {height} rows")
        if controls.paused:
            details.append("paused")
        if beat := self._remote.detail():
            details.append(beat)
        late = self.latest.dropped > self.latest.arrived / 2
        if late and self.latest.arrived > _JUDGED and painter.look.work_size is None:
            details.append("--work-size or --target-fps makes it faster")
        return Status(
            fps=None if controls.paused else self._stats.fps(now),
            latency=None if controls.paused else self._stats.latency(now),
            dropped=self.latest.dropped,
            details="  ·  ".join(details),
            recording=None if self._outputs.recording is None else now - self._recording_since,
            warning="source lost, reconnecting" if self.source.state == "lost" else self._problem or "",
        )

    def _obey(self, keys: list[str]) -> None:
        for key in keys:
            action = self._remote.press(key, monotonic())
            self._do([] if action is None else [action])
        if keys:
            self._drawn_at = float("-inf")  # what they changed shows even where the picture stands still
            if self._screen is not None:
                self._screen.refresh()

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if action == "quit":
                self._live.stop()
            elif action == "record":
                self._toggle_recording()
            elif action == "snapshot" and self._last is not None and len(self._saving) < _MAX_SAVING:
                painted, title = self._last.painted, self._controls.title
                self._saving.append(
                    self._painter.workers.submit(save_snapshot, painted, self._options.snapshots, title)
                )

    def _toggle_recording(self) -> None:
        recording = self._outputs.recording
        if recording is not None:
            self._outputs.stop_recording()
            self._say(f"recorded {recording}")
            return
        wanted = self._options.record
        try:
            if wanted is None:
                self._options.snapshots.mkdir(parents=True, exist_ok=True)
                path = snapshot_path(self._options.snapshots, self._controls.title, ".mp4")
            else:
                path = free_name(wanted)
            self._outputs.record(path)
        except (VidstyleError, OSError) as error:
            self._note(str(error))
            return
        self._recording_since = monotonic()
        self._say(f"recording to {path}")

    def _note_saved(self) -> None:
        """Report the snapshots that are written by now."""
        for saved in [one for one in self._saving if one.done()]:
            self._saving.remove(saved)
            try:
                self.report.snapshots.append(str(saved.result()))
                self._say(f"saved {self.report.snapshots[-1]}")
            except VidstyleError as error:
                self._note(str(error))

    def _adapt(self, shown: int) -> None:
        now, latest, painter = monotonic(), self.latest, self._painter
        if not self._controls.paused:
            arrived, busy = latest.arrived - self._arrived, now - self._turn - self._idle
            problem = painter.adapt(self._controls.current, painter.form, now, shown=shown, arrived=arrived, busy=busy)
            if problem is not None:
                self._note(problem)
        self._turn, self._arrived, self._idle = now, latest.arrived, 0.0

    def _note(self, problem: str, *, say: bool = True) -> None:
        if problem not in self.report.problems and len(self.report.problems) < _MAX_PROBLEMS:
            self.report.problems.append(problem)
        if say:
            self._say(problem)

    def _say(self, message: str) -> None:
        if self._screen is not None:
            self._screen.say(message, monotonic())
