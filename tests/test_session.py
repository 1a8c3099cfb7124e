"""A live run without a window: newest wins, order, pause, pace, recordings, ends."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from live_media import wait_for
from networks import photo, planes_from_rgb

from vidstyle.errors import BadOption, VideoError, VidstyleError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.gallery import load_style
from vidstyle.live.session import Live, LiveReport, OnSound
from vidstyle.options import LiveOptions, LookOptions
from vidstyle.pipeline import Closing
from vidstyle.stylizer import FrameTask, Stylizer
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.capture.microphone import Microphone

MICROSECOND = Fraction(1, 1_000_000)
SOUND = AudioFormat(48000, 1)
STYLES = [load_style(name) for name in ("starry_night", "the_scream", "great_wave")]


def now() -> int:
    return time.monotonic_ns() // 1000


class Moving:
    """A source with the interface of `Capture`: a photo that moves sideways, at ``fps``, for ``seconds``."""

    def __init__(
        self,
        size: tuple[int, int] = (96, 160),
        *,
        fps: float = 30,
        seconds: float = 1.5,
        on_sound: OnSound | None = None,
        error: Exception | None = None,
    ) -> None:
        self.form = FrameFormat(height=size[0], width=size[1], pixels="i420")
        self.description = "moving photo"
        self.fps: float | None = fps
        self.reconnects = 0
        self.state: Literal["open", "lost"] = "open"
        self.sound_form: AudioFormat | None = None if on_sound is None else SOUND
        self.closed = threading.Event()
        self.sent: dict[int, Planes] = {}
        self._seconds, self._on_sound, self._error = seconds, on_sound, error
        wide = photo("chelsea", (size[0], size[1]))
        self._pictures = [planes_from_rgb(np.roll(wide, 4 * i, axis=1), self.form) for i in range(8)]

    def frames(self) -> Generator[Frame, None, None]:
        assert self.fps is not None
        began = time.monotonic()
        for number in range(round(self._seconds * self.fps)):
            if self.closed.wait(max(0.0, began + number / self.fps - time.monotonic())):
                return
            pts = now()
            self.sent[pts] = self._pictures[number % 8]
            if self._on_sound is not None:
                samples = np.full((1, round(48000 / self.fps)), 0.1, np.float32)
                self._on_sound(AudioChunk(samples, SOUND, pts))
            yield Frame(self.sent[pts], self.form, pts, MICROSECOND)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()


@dataclass
class Camera:
    """A virtual camera that remembers: no device can be where tests run. It has the interface of the real one."""

    frames: list[Frame] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    closed: bool = False
    delay: float = 0.0
    fail_after: int | None = None
    hook: Callable[[int], None] = lambda count: None
    """Called with the number of frames so far."""

    def write(self, frame: Frame) -> None:
        if self.fail_after is not None and len(self.frames) >= self.fail_after:
            raise VideoError("virtual camera took no more frames")
        self.frames.append(frame)
        self.times.append(time.monotonic())
        self.hook(len(self.frames))
        time.sleep(self.delay)

    def close(self) -> None:
        self.closed = True


def run(
    source: Moving | Callable[[OnSound | None], Moving],
    camera: Camera | None = None,
    *,
    hook: Callable[[Live, int], None] = lambda live, count: None,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> LiveReport:
    """A run into ``camera``; ``hook`` is called with the run and the number of each frame that goes out."""
    camera = camera or Camera()

    def on_shown(pts: int, at: float) -> None:
        assert 0 <= at - pts / 1e6 < 10

    live = Live(
        (lambda on_sound: source) if isinstance(source, Moving) else source,
        STYLES,
        options=LiveOptions(window=False, virtual_camera=True, **(options or {})),
        open_camera=lambda form, fps: camera,
        on_shown=on_shown,
        **settings,
    )
    camera.hook = lambda count: hook(live, count)
    try:
        return live.run()
    finally:
        stamps = [frame.pts for frame in camera.frames]
        assert stamps == sorted(set(stamps)) and camera.closed
        assert not isinstance(source, Moving) or source.closed.is_set()


def pictures_in(file: Path) -> list[float]:
    """The time of each picture of a recording."""
    with av.open(str(file)) as container:
        return [frame.time or 0.0 for frame in container.decode(video=0)]


def still(*frames: Frame) -> bool:
    """Whether all of them are one picture."""
    return all(np.array_equal(frame.planes[0], frames[0].planes[0]) for frame in frames)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """When each network began to be compiled, and when that was done."""
    spans: list[tuple[float, float]] = []
    compile_for = Stylizer._compiled

    def timed(self: Stylizer, form: FrameFormat) -> Any:
        began = time.monotonic()
        try:
            return compile_for(self, form)
        finally:
            spans.append((began, time.monotonic()))

    monkeypatch.setattr(Stylizer, "_compiled", timed)
    return spans


def test_every_frame_of_a_slow_source_is_painted_in_order() -> None:
    source, camera = Moving(), Camera()
    report = run(source, camera)
    assert report.shown == len(camera.frames) > 10
    assert report.shown + report.dropped == 45
    assert report.fps == pytest.approx((report.shown - 1) / report.seconds)
    assert 0 < report.latency_median_ms <= report.latency_p99_ms <= report.latency_longest_ms + 0.5
    for frame in camera.frames:
        assert not np.array_equal(frame.planes[0], source.sent[frame.pts][0])


@pytest.mark.alone
def test_newest_wins_where_the_machine_is_slow() -> None:
    camera = Camera(delay=0.1)
    report = run(Moving(fps=60, seconds=2), camera)
    assert report.dropped > 60 and report.shown + report.dropped == 120
    ages = [at - frame.pts / 1e6 for at, frame in zip(camera.times, camera.frames, strict=True)]
    assert min(ages[-5:]) < 0.6, "latency grows: old frames are kept"  # a queue would have 1.6 s of them by now


def test_style_and_strength_change_while_it_runs(compiled: list[tuple[float, float]]) -> None:
    camera, source = Camera(), Moving(seconds=60)
    pressed: list[tuple[float, int]] = []

    def hook(live: Live, count: int) -> None:
        clock = time.monotonic()
        if not pressed and count == 10:
            live.controls.fade_seconds = 1.0  # some frame must fall into it, on any machine
            live.controls.press("n", clock)
        elif len(pressed) == 1 and clock > pressed[0][0] + 1.2 and count > pressed[0][1] + 5:
            live.controls.strength = 0.0
        elif len(pressed) == 2 and count > pressed[1][1] + 5:
            live.stop()
        else:
            return
        pressed.append((clock, count))

    assert run(source, camera, hook=hook).style == "the_scream"
    assert len(compiled) == 1, "a style is no reason to compile"
    tints = [float(frame.planes[1].mean()) for frame in camera.frames[pressed[0][1] - 1 : pressed[1][1]]]
    first, last = sorted((tints[0], tints[-1]))
    assert last - first > 4
    assert any(first + 0.5 < tint < last - 0.5 for tint in tints), "there is no crossfade"
    bare = camera.frames[-1]
    assert np.array_equal(bare.planes[0], source.sent[bare.pts][0]), "without strength it is the source"


class Looks(Closing):
    """A screen that nobody sees: it counts how often the keys are looked at for each picture shown."""

    def __init__(self) -> None:
        self.window = self
        self.is_open = True
        self.looks = [0]

    def keys(self) -> list[str]:
        self.looks[-1] += 1
        return []

    def show(self, *_: object) -> list[str]:
        self.looks.append(0)
        return []

    def say(self, message: str, now: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.alone
@pytest.mark.parametrize("fps", [30, 4])
def test_keys_are_looked_at_while_a_slow_network_paints(fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of two that are pressed meanwhile one would be lost, and the other one late."""
    submit, screen = Stylizer.submit, Looks()

    def slow(self: Stylizer, job: FrameTask) -> Callable[[], Planes]:
        ready_at, result = time.monotonic() + 0.5, submit(self, job)

        def wait() -> Planes:
            time.sleep(max(0.0, ready_at - time.monotonic()))
            return result()

        return wait

    monkeypatch.setattr(Stylizer, "submit", slow)
    monkeypatch.setattr("vidstyle.live.session.Screen", lambda *_, **__: screen)
    monkeypatch.setattr("vidstyle.live.session.check_display", lambda: None)
    live = Live(lambda on_sound: Moving(fps=fps, seconds=3), STYLES)
    live.run()
    assert len(screen.looks) > 4
    assert np.mean(screen.looks[2:]) > 2


def test_pause_sends_a_still_picture_with_new_times() -> None:
    camera = Camera()

    def hook(live: Live, count: int) -> None:
        if count in (15, 31):
            live.controls.press(" ", time.monotonic())
        elif count == 50:
            live.stop()

    report = run(Moving(seconds=60), camera, hook=hook)
    assert still(*camera.frames[18:27])
    assert report.shown < len(camera.frames) - 10, "frames of a pause are not counted as shown"
    assert not still(*camera.frames[-8:])


def test_strength_works_on_a_paused_picture() -> None:
    camera, source = Camera(), Moving(seconds=60)

    def hook(live: Live, count: int) -> None:
        if count == 10:
            live.controls.press(" ", time.monotonic())
        elif count == 18:
            live.controls.strength = 0.0
        elif count == 26:
            live.stop()

    run(source, camera, hook=hook)
    bare = camera.frames[-1]
    assert not still(camera.frames[16], bare)
    assert any(np.array_equal(bare.planes[0], planes[0]) for planes in source.sent.values())


class Turning(Moving):
    """Upright from the fourth frame on."""

    def frames(self) -> Generator[Frame, None, None]:
        upright = self.form.resized((96, 54))
        for number, frame in enumerate(super().frames()):
            still = frame.with_planes(planes_from_rgb(photo("chelsea", (96, 54)), upright), upright)
            yield frame if number < 4 else still


def test_a_source_that_turns_is_painted_as_it_is_between_black_bars(tmp_path: Path) -> None:
    camera, source = Camera(), Turning(seconds=60)

    def hook(live: Live, count: int) -> None:
        if count in (12, 14):  # paused on the last upright one, then nothing but the source
            live.controls.press(" ", time.monotonic())
            live.controls.strength = 0.0
        elif count > 18:
            live.stop()

    report = run(source, camera, hook=hook)
    assert {frame.form.size for frame in camera.frames} == {(96, 160)}
    assert any("54x96 within 160x96" in problem for problem in report.problems)
    upright = camera.frames[-1].planes
    for frame in camera.frames[8:]:
        light = frame.planes[0]
        assert (light[:, :52] == 16).all() and (light[:, 106:] == 16).all() and (frame.planes[1][:, :26] == 128).all()
    shown = planes_from_rgb(photo("chelsea", (96, 54)), FrameFormat(height=96, width=54, pixels="i420"))
    np.testing.assert_array_equal(upright[0][:, 52:106], shown[0])
    painted = camera.frames[10].planes[0][:, 52:106].astype(int)
    assert 5 < np.abs(painted - shown[0]).mean() < 90


def test_lost_source_is_waited_for_with_its_last_picture() -> None:
    camera, source = Camera(), Moving(seconds=0.5)
    lost_at = 0

    def frames() -> Generator[Frame, None, None]:
        nonlocal lost_at
        yield from Moving.frames(source)
        source.state = "lost"
        lost_at = len(camera.frames)
        wait_for(lambda: len(camera.frames) > lost_at + 5)
        source.state = "open"
        source.reconnects = 1
        yield from Moving.frames(source)

    source.frames = frames  # type: ignore[method-assign]
    assert run(source, camera).reconnects == 1
    held = camera.frames[lost_at + 3 : lost_at + 6]
    assert len(held) == 3 and still(*held), "whoever watches gets nothing"
    assert np.diff([frame.pts for frame in held]).min() > 50_000, "a still picture needs no full rate"


def test_records_picture_and_sound(tmp_path: Path) -> None:
    file, camera = tmp_path / "out.mp4", Camera()
    options = {"record": file, "mirror": True}
    report = run(lambda on_sound: Moving(on_sound=on_sound, seconds=2), camera, options=options)
    assert report.recordings == [str(file)]
    assert [output.failed for output in report.outputs] == [None]
    times = [round(1e6 * at) for at in pictures_in(file)]
    with av.open(str(file)) as container:
        sound = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert len(times) == report.shown - report.outputs[0].dropped > 10
    assert set(times) <= {frame.pts - camera.frames[0].pts for frame in camera.frames}, "not the capture clock's times"
    assert sound == pytest.approx(times[-1] / 1e6, abs=1.5)


def test_outputs_get_everything(tmp_path: Path) -> None:
    files = (str(tmp_path / "a.mkv"), str(tmp_path / "b.m3u8"))
    report = run(Moving(seconds=1.2), options={"outputs": files})
    assert [output.failed for output in report.outputs] == [None, None]
    for file, output in zip(files, report.outputs, strict=True):
        assert len(pictures_in(Path(file))) == report.shown - output.dropped > 5


def test_microphone_takes_the_place_of_the_sound(tmp_path: Path) -> None:
    def open_source(on_sound: OnSound | None) -> Moving:
        assert on_sound is None
        return Moving(seconds=1.5)

    file = tmp_path / "out.mkv"
    run(open_source, options={"record": file}, open_microphone=lambda on: Microphone("testsrc", on_sound=on))
    with av.open(str(file)) as container:
        assert max(float(np.abs(frame.to_ndarray()).max()) for frame in container.decode(audio=0)) > 0.05


def test_error_of_the_source_ends_all_and_the_recording_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out.mp4"
    with pytest.raises(VideoError, match="broke off"):
        run(Moving(seconds=1, error=VideoError("it broke off")), options={"record": file})
    assert len(pictures_in(file)) > 3


@pytest.mark.parametrize("error", [RuntimeError("from the hook"), KeyboardInterrupt()])
def test_error_while_painting_ends_all_and_ctrl_c_is_a_normal_end(error: BaseException) -> None:
    def hook(live: Live, count: int) -> None:
        if count == 5:
            raise error

    normal = isinstance(error, KeyboardInterrupt)
    with contextlib.nullcontext() if normal else pytest.raises(RuntimeError, match="from the hook"):
        assert run(Moving(seconds=60), hook=hook).shown == 4


def test_stop_and_time_end_it() -> None:
    began = time.monotonic()
    run(Moving(seconds=60), hook=lambda live, count: live.stop() if count == 5 else None)
    report = run(Moving(seconds=60), options={"seconds": 0.5})
    assert 0.1 < report.seconds < 10
    assert time.monotonic() - began < 50


def test_virtual_camera_that_breaks_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    report = run(Moving(), Camera(fail_after=5), options={"record": tmp_path / "out.mp4"})
    assert report.shown > 8
    assert report.problems == ["virtual camera took no more frames"]
    assert report.outputs[-1].failed == "virtual camera took no more frames"


def test_nothing_is_left_where_opening_fails(tmp_path: Path) -> None:
    def no_camera(form: FrameFormat, fps: float | None) -> Camera:
        raise VideoError("there is no virtual camera")

    source, options = Moving(), LiveOptions(window=False, virtual_camera=True, record=tmp_path / "out.mp4")
    with pytest.raises(VideoError, match="no virtual camera"):
        Live(lambda on_sound: source, STYLES, options=options, open_camera=no_camera).run()
    assert source.closed.is_set()
    assert not list(tmp_path.iterdir())


def test_a_live_runs_once_and_is_not_copied(tmp_path: Path) -> None:
    file = tmp_path / "out.mp4"
    file.write_text("mine")
    live = Live(lambda on_sound: Moving(), STYLES, options=LiveOptions(window=False, record=file))
    with pytest.raises(VidstyleError, match="cannot be copied"):
        copy.copy(live)
    with pytest.raises(BadOption, match="overwrite"):
        live.run()
    with pytest.raises(BadOption, match="make another one"):
        live.run()
    assert file.read_text() == "mine"


def test_no_place_for_the_picture_is_refused() -> None:
    with pytest.raises(BadOption, match="nowhere to put the picture"):
        LiveOptions(window=False)


@pytest.mark.slow
def test_work_size_steps_down_and_the_picture_never_stops(
    monkeypatch: pytest.MonkeyPatch, compiled: list[tuple[float, float]]
) -> None:
    compile_for = Stylizer._compiled

    def slowly(self: Stylizer, form: FrameFormat) -> Any:
        if compiled:  # but the first
            time.sleep(1.5)
        return compile_for(self, form)

    monkeypatch.setattr(Stylizer, "_compiled", slowly)
    camera, size = Camera(delay=0.05), (540, 960)  # it cannot paint 30 frames a second, however fast it is
    stepped: list[int] = []

    def hook(live: Live, count: int) -> None:
        if not stepped and len(compiled) > 1:
            stepped.append(count)
        if stepped and count > stepped[0] + 15:
            live.stop()

    look = LookOptions(work_size=480)
    report = run(Moving(size, seconds=60), camera, hook=hook, options={"target_fps": 30}, look=look)
    assert 240 <= report.work_size < 480
    compiling = compiled[1][0] - 1.5, compiled[1][1]
    assert any(compiling[0] < at < compiling[1] for at in camera.times), "the picture stood still while it compiled"
    assert all(frame.form.size == size for frame in camera.frames)
