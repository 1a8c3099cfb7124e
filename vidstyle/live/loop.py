"""The loop that a live picture goes through: take the newest frame, paint it, show it, look at the keys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

from vidstyle.errors import VidstyleError
from vidstyle.frame import Frame
from vidstyle.live.controls import Controls
from vidstyle.live.options import LiveOptions
from vidstyle.live.outputs import Outputs, free_name
from vidstyle.live.overlay import Status
from vidstyle.live.painter import Painter, Painting
from vidstyle.live.report import LiveReport
from vidstyle.live.screen import Screen
from vidstyle.live.snapshot import save_snapshot, snapshot_path
from vidstyle.live.source import Source
from vidstyle.metrics import FrameStats
from vidstyle.scheduler import LatestSlot
from vidstyle.stylizer import FrameTask

OnShown = Callable[[int, float], None]

_WAIT_SECONDS = 0.02
"""How long a frame, or a slow network, is waited for before the keys are looked at."""
_STILL_SECONDS = 0.25
"""How often a picture that stands still is drawn again, for the sake of the figures."""
_LOST_SECONDS = 0.1
"""How often the last picture is sent to recordings and streams while the source is lost."""
_STALLED_SECONDS = 0.1
"""When nothing has come for so long, the last frame is painted again if style or strength change."""
_JUDGED = 100
"""Pictures that must have come before it is said that most are not painted in time."""
_MOST_PROBLEMS = 100
"""Sentences kept for the report; a server that comes and goes must not fill the memory."""


class Loop:
    """Runs on one thread, the one that the window belongs to; `run` once."""

    def __init__(
        self,
        source: Source,
        latest: LatestSlot[Frame],
        painter: Painter,
        outputs: Outputs,
        screen: Screen | None,
        controls: Controls,
        options: LiveOptions,
        report: LiveReport,
        *,
        stop: threading.Event,
        on_shown: OnShown | None,
    ) -> None:
        self._source, self._latest, self._painter = source, latest, painter
        self._outputs, self._screen, self._controls, self._options = outputs, screen, controls, options
        self._report, self._stop, self._on_shown = report, stop, on_shown
        self._meter = FrameStats()
        self._last: Painting | None = None
        self._shape = source.form.size
        self._came_at = monotonic()
        self._drawn_at = float("-inf")
        self._sent_at = float("-inf")
        self._recording_since = monotonic()
        self._saving: list[Future[Path]] = []
        self._problem: str | None = None
        # Since the pace was last told: when that was, frames that had come by then, seconds without work.
        self._turn, self._arrived, self._idle = monotonic(), 0, 0.0
        report.source, report.style = source.description, controls.title
        report.height, report.width = source.form.size

    def run(self) -> None:
        """Go on until the source ends, the time is up, or somebody quits."""
        painter = self._painter
        self._say(f"{self._report.source}  ·  {self._report.backend}", monotonic())
        while not self._is_over():
            shown = 0
            if not painter.is_full:
                frame = self._taken()
                if frame is not None and not self._controls.paused:
                    self._note_shape(frame)
                    painter.paint(painter.request(frame, self._controls.style(monotonic()), self._controls.strength))
                    if not painter.is_full:
                        continue
                elif not len(painter):
                    if self._latest.is_over:
                        return
                    self._hold(frame)
            if len(painter):
                while painter.seconds_until_ready() > 2 * _WAIT_SECONDS:
                    sleep(_WAIT_SECONDS)
                    self._look_at_keys()
                self._show(painter.painting())
                shown = 1
            self._keep_pace(shown)

    def sum_up(self) -> None:
        """Write figures and settings into the report."""
        report, meter = self._report, self._meter
        report.style, report.work_size = self._controls.title, self._painter.work_size
        report.seconds = 0.0 if meter.first is None else meter.last - meter.first
        report.shown, report.dropped, report.fps = meter.shown, self._latest.dropped, meter.average_fps
        report.latency_median_ms = 1000 * meter.overall(50)
        report.latency_p99_ms = 1000 * meter.overall(99)
        report.latency_longest_ms = 1000 * meter.longest
        report.reconnects = self._source.reconnects

    def sum_up_outputs(self) -> None:
        """Write into the report what was recorded and sent, once all of it is closed."""
        self._report.outputs = self._outputs.report()
        self._report.recordings = self._outputs.recordings
        self._note_saved()

    def _is_over(self) -> bool:
        if self._stop.is_set() or (self._screen is not None and not self._screen.window.is_open):
            return True
        began, seconds = self._meter.first, self._options.seconds
        return began is not None and seconds is not None and monotonic() - began >= seconds

    def _taken(self) -> Frame | None:
        """The newest frame. With one under way it is waited for only until that should be ready."""
        painter, latest = self._painter, self._latest
        alone = not len(painter)
        asked = monotonic()
        if alone:
            frame = latest.take(_WAIT_SECONDS)
        else:
            frame = latest.take(min(painter.seconds_until_ready(), 2 * _WAIT_SECONDS))
            while frame is None and painter.seconds_until_ready() > 0 and not latest.is_over:
                self._look_at_keys()
                frame = latest.take(min(painter.seconds_until_ready(), _WAIT_SECONDS))
        now = monotonic()
        if alone:
            self._idle += now - asked
        if frame is not None:
            self._came_at = now
        return frame

    def _note_shape(self, frame: Frame) -> None:
        """Tell where the source has turned, or has become another one."""
        size = frame.form.size
        if size != self._shape:
            self._shape = size
            if size != self._source.form.size:
                height, width = self._source.form.size
                told = f"the source has changed its shape: it is shown as {size[1]}x{size[0]} within {width}x{height}"
                self._note(told)
                self._say(told, monotonic())

    def _show(self, painting: Painting) -> None:
        self._outputs.write(painting.painted)
        self._last = painting
        self._draw()
        now = monotonic()
        pts = painting.painted.pts
        self._meter.add(now - pts / 1e6, now)
        if self._on_shown is not None:
            self._on_shown(pts, now)

    def _hold(self, frame: Frame | None) -> None:
        """There is no new picture: the source is paused or waited for. ``frame`` tells the time, if there is one."""
        last, now = self._last, monotonic()
        changed = False
        if self._controls.paused:
            self._meter.rest()
        if last is not None and (frame is not None or now - self._came_at > _STALLED_SECONDS):
            request = self._painter.request(last.request.taken, self._controls.style(now), self._controls.strength)
            changed = not _is_same(request.task, last.request.task)
            if changed:
                self._painter.paint(request)
                last = self._last = self._painter.painting()
            # Who watches from afar sees a still picture, with sound, and not a broken line.
            if frame is not None:
                self._outputs.write(replace(last.painted, pts=frame.pts, time_base=frame.time_base))
            elif self._source.state == "lost" and now - self._sent_at >= _LOST_SECONDS:
                self._outputs.write(replace(last.painted, pts=round(now * 1e6)))
                self._sent_at = now
        if changed or now - self._drawn_at >= _STILL_SECONDS:
            self._draw()
        else:
            self._look_at_keys()

    def _look_at_keys(self) -> None:
        """Of two keys that are pressed between two looks OpenCV tells the second one only."""
        if self._screen is not None:
            self._obey(self._screen.keys())

    def _draw(self) -> None:
        screen = self._screen
        self._drawn_at = now = monotonic()
        self._note_saved()
        problem = self._outputs.problem
        if problem is not None and problem != self._problem:
            self._note(problem)
        self._problem = problem
        if screen is None:
            return
        if screen.wants_figures(now):
            screen.figures(self._status(now), now)
        self._obey(screen.show(self._last, self._controls, now))

    def _status(self, now: float) -> Status:
        controls, height = self._controls, self._painter.form.height
        details = []
        if controls.strength != 1:
            details.append(f"strength {round(100 * controls.strength)} %")
        if self._painter.work_size != height:
            details.append(f"painted at {self._painter.work_size} of {height} rows")
        if controls.paused:
            details.append("paused")
        if self._is_slow():
            details.append("--work-size or --target-fps makes it faster")
        lost = self._source.state == "lost"
        return Status(
            fps=None if controls.paused else self._meter.fps(now),
            latency=None if controls.paused else self._meter.latency(now),
            dropped=self._latest.dropped,
            details="  ·  ".join(details),
            recording=None if self._outputs.recording is None else now - self._recording_since,
            warning="source lost, reconnecting" if lost else self._problem or "",
        )

    def _is_slow(self) -> bool:
        """Whether fewer than half of the pictures are painted, and nothing was done about it."""
        latest, painter = self._latest, self._painter
        return latest.arrived > _JUDGED and latest.dropped > latest.arrived / 2 and painter.look.work_size is None

    def _obey(self, keys: list[str]) -> None:
        for key in keys:
            now = monotonic()
            action = self._controls.press(key, now)
            if action == "quit":
                self._stop.set()
            elif action == "record":
                self._toggle_recording(now)
            elif action == "snapshot" and self._last is not None:
                painted, title = self._last.painted, self._controls.title
                self._saving.append(
                    self._painter.workers.submit(save_snapshot, painted, self._options.snapshots, title)
                )
        if keys:
            self._drawn_at = float("-inf")  # what they changed shows even where the picture stands still
            if self._screen is not None:
                self._screen.refresh()

    def _toggle_recording(self, now: float) -> None:
        recording = self._outputs.recording
        if recording is not None:
            self._outputs.stop_recording()
            self._say(f"recorded {recording}", now)
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
            self._say(str(error), now)
            return
        self._recording_since = now
        self._say(f"recording to {path}", now)

    def _note_saved(self) -> None:
        """Tell of snapshots that are written by now."""
        for saved in [one for one in self._saving if one.done()]:
            self._saving.remove(saved)
            try:
                self._report.snapshots.append(str(saved.result()))
                self._say(f"saved {self._report.snapshots[-1]}", monotonic())
            except VidstyleError as error:
                self._note(str(error))
                self._say(str(error), monotonic())

    def _keep_pace(self, shown: int) -> None:
        now, arrived = monotonic(), self._latest.arrived
        if not self._controls.paused:
            problem = self._painter.adapt(
                self._controls.current,
                self._painter.form,
                now,
                shown=shown,
                arrived=arrived - self._arrived,
                busy=now - self._turn - self._idle,
            )
            if problem is not None:
                self._note(problem)
                self._say(problem, now)
        self._turn, self._arrived, self._idle = now, arrived, 0.0

    def _note(self, problem: str) -> None:
        if problem not in self._report.problems and len(self._report.problems) < _MOST_PROBLEMS:
            self._report.problems.append(problem)

    def _say(self, message: str, now: float) -> None:
        if self._screen is not None:
            self._screen.say(message, now)


def _is_same(job: FrameTask, other: FrameTask) -> bool:
    """Whether two jobs on one frame give one picture."""
    return job.look == other.look and job.style.parts == other.style.parts
