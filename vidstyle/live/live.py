"""A live source, painted as it comes: shown in a window, recorded, sent on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import monotonic

from vidstyle.errors import BadOption, NotCopyable
from vidstyle.frame import Frame, FrameFormat
from vidstyle.live.controls import Controls
from vidstyle.live.loop import Loop, OnShown
from vidstyle.live.options import LiveOptions
from vidstyle.live.outputs import Outputs
from vidstyle.live.painter import Painter
from vidstyle.live.report import LiveReport
from vidstyle.live.screen import Screen
from vidstyle.live.source import CaptureThread, Microphone, OnSound, Source
from vidstyle.live.window import check_display
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, EncodeOptions, LookOptions, SmoothOptions
from vidstyle.scheduler import LatestSlot
from vidstyle.video.audio import AudioChunk
from vidstyle.video.output.virtual_camera import Sink, VirtualCamera

TITLE = "vidstyle"
"""Title of the window."""


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
        self._options = options = options or LiveOptions()
        self._on_start, self._on_shown = on_start, on_shown
        self._stop = threading.Event()
        self._has_run = False
        self._outputs: Outputs | None = None
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
        self._stop.set()

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
        options = self._options
        report = LiveReport()
        began = monotonic()
        with ExitStack() as stack:
            if options.window:
                check_display()  # before anything else takes its time
            style = self.controls.current
            wants_sound = self._open_microphone is None
            source = stack.enter_context(contextlib.closing(self._open_source(self._hear if wants_sound else None)))
            painter = Painter(style, source.form, look=self._look, smooth=self._smooth, backend=self._backend)
            stack.enter_context(contextlib.closing(painter))
            if options.target_fps is not None:
                painter.hold(options.target_fps, style, painter.work_size)
            report.backend = painter.open(style, painter.form)
            sound = source.sound_form if wants_sound else None
            if self._open_microphone is not None:
                sound = stack.enter_context(contextlib.closing(self._open_microphone(self._hear))).form
            outputs = Outputs(painter.form, source.fps, sound, encode=self._encode, workers=painter.workers)
            stack.enter_context(contextlib.closing(outputs))
            self._open_outputs(outputs)
            screen = None
            if options.window:
                screen = stack.enter_context(Screen(TITLE, source.form.size, full_screen=options.full_screen))
            latest: LatestSlot[Frame] = LatestSlot()
            capture = CaptureThread(source, latest)
            loop = Loop(
                source,
                latest,
                painter,
                outputs,
                screen,
                self.controls,
                options,
                report,
                stop=self._stop,
                on_shown=self._on_shown,
            )
            report.outputs = outputs.report()
            report.startup_seconds = monotonic() - began
            if self._on_start is not None:
                self._on_start(report)
            stack.callback(capture.end)
            capture.start()
            with contextlib.suppress(KeyboardInterrupt):
                loop.run()
            loop.sum_up()
        loop.sum_up_outputs()
        return report

    def _open_outputs(self, outputs: Outputs) -> None:
        options = self._options
        for target in options.outputs:
            outputs.add(target, overwrite=options.overwrite)
        if options.record is not None:
            outputs.record(options.record, overwrite=options.overwrite)
        if options.virtual_camera:
            outputs.add_camera(self._open_camera)
        self._outputs = outputs

    def _hear(self, sound: AudioChunk) -> None:
        if self._outputs is not None:
            self._outputs.sound(sound)
