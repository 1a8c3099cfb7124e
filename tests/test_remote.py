"""OSC packets and keys on the beat, done to a live picture."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_media import free_port, wait_for
from networks import level_of, level_style
from test_session import Camera, Moving, run

from vidstyle.errors import BadModel
from vidstyle.frame import FrameFormat
from vidstyle.live.keys import Controls
from vidstyle.live.remote import Remote
from vidstyle.live.session import Live
from vidstyle.options import LookOptions, StageOptions
from vidstyle.scheduler import FrameScheduler
from vidstyle.stage.control import StageControl

pytest.importorskip("pythonosc", reason="python-osc is not installed")
from pythonosc.udp_client import SimpleUDPClient  # noqa: E402

FORM = FrameFormat(height=360, width=640)


class Desk:
    """A live picture without a picture, and the desk that plays it by real packets."""

    def __init__(self, options: StageOptions) -> None:
        self.controls = Controls([level_style(f"s{number}", float(number)) for number in range(4)])
        self.painter: FrameScheduler[Any] = FrameScheduler()
        self.control = StageControl(options, check_style=self.controls.index_of)
        self.remote = Remote(self.control, self.controls, self.painter)

    def send(self, address: str, *values: Any) -> None:
        osc = self.control.osc
        assert osc is not None
        wanted = osc.received + 1
        with SimpleUDPClient("127.0.0.1", osc.port) as client:
            client.send_message(f"/vidstyle/{address}", list(values))
        assert wait_for(lambda: osc.received == wanted)

    def level(self, now: float) -> float:
        return level_of(self.controls.style(now))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(StageOptions(osc="0"))
    yield desk
    desk.control.close()
    desk.painter.close()


def test_styles_and_blends_fade_and_what_is_repeated_does_not_begin_again(desk: Desk) -> None:
    for at in (0.0, 0.1, 0.2, 0.3):
        desk.send("style", "s2")
        desk.remote.heed(at, recording=False)
    assert (desk.level(0.25), desk.level(0.5), desk.controls.title) == (pytest.approx(1), 2, "s2")
    desk.send("fade", 2.0)
    desk.send("blend", "s0", 1.0, "s3", 3.0, "s1", 0.0)
    desk.remote.heed(1.0, recording=False)
    desk.send("blend", "s0", 1.0, "s3", 3.0, "s1", 0.0)
    desk.remote.heed(1.5, recording=False)
    assert (desk.level(3.0), desk.controls.title) == (pytest.approx(2.25), "s0 25 % + s3 75 %")
    desk.send("blend", "s0", 1.0, "s3", 1.0, "s1", 2.0)  # the same styles: faders of a blend, which follow the finger
    desk.remote.heed(4.0, recording=False)
    assert desk.level(4.2) == pytest.approx(1.25)
    desk.send("style", 1)
    desk.remote.heed(5.0, recording=False)
    assert desk.level(7.0) == 0 and desk.controls.title == "s0"


def test_everything_else_is_what_its_key_does(desk: Desk) -> None:
    for address, value in (("strength", 0.25), ("mirror", 1), ("split", 1), ("smooth", 0.5), ("fade", 3.0)):
        desk.send(address, value)
    assert desk.remote.heed(0, recording=False) == [] and desk.remote.changed
    state = desk.controls
    assert (state.strength, state.mirror, state.view, state.fade_seconds) == (0.25, True, "split", 3.0)
    desk.send("mask", "person")
    desk.remote.heed(0.5, recording=False)
    assert desk.painter.look.mask == "person"
    desk.send("mask", "none")
    desk.remote.heed(0.6, recording=False)
    assert desk.painter.look.mask is None
    desk.send("snapshot")
    desk.send("record", 1)
    assert desk.remote.heed(1, recording=False) == ["snapshot", "record"]
    desk.send("record", 1)
    assert desk.remote.heed(3, recording=True) == [], "it records already"
    desk.send("record", 0)
    assert desk.remote.heed(5, recording=True) == ["record"]
    desk.send("record", 1)
    assert desk.remote.heed(5.1, recording=False) == [], "not so soon"
    assert desk.remote.heed(6.1, recording=False) == ["record"]
    assert not desk.remote.changed


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (("style", "s9"), "s0, s1, s2, s3"),
        (("style", 5), "there are 4"),
        (("blend", "s0", 1.0, "x", 1.0), "no style 'x'"),
    ],
)
def test_what_is_not_there_is_told_once_and_changes_nothing(message: tuple[Any, ...], said: str, desk: Desk) -> None:
    for _ in range(3):
        desk.send(*message)
        desk.remote.heed(0, recording=False)
    (problem,) = desk.control.problems()
    assert said in problem and desk.control.osc is not None and desk.control.osc.refused == 3
    assert desk.controls.title == "s0"


def test_keys_wait_for_the_bar_too_and_are_all_done() -> None:
    desk = Desk(StageOptions(osc="0", quantize="bar"))
    try:
        for number in range(4):
            assert desk.remote.press("t", 10 + number / 2) == "tap"
        for key in ("n", "n", "m"):
            assert desk.remote.press(key, 11.6) is None
        assert desk.remote.press("+", 11.6) is None
        assert desk.remote.press("s", 11.6) == "snapshot", "what is no change of the picture does not wait"
        assert desk.remote.detail() == "120 bpm, waiting for the bar"
        desk.remote.heed(11.95, recording=False)
        assert desk.controls.title == "s0" and not desk.controls.mirror
        desk.remote.heed(12.0, recording=False)
        assert desk.controls.title == "s2" and desk.controls.mirror and desk.remote.detail() == "120 bpm"
    finally:
        desk.control.close()
        desk.painter.close()


class Programs(FrameScheduler[Any]):
    """A scheduler whose programs take a second of the test's clock to compile; rows below 20 cannot be had."""

    def __init__(self) -> None:
        super().__init__(look=LookOptions())
        self.now = 0.0
        self.asked: dict[int, float] = {}

    def is_ready(self, style: Any, form: FrameFormat, work_size: int | None = None) -> bool:
        assert work_size is not None
        if work_size < 20:
            raise BadModel("too small")
        return self.now - self.asked.setdefault(work_size, self.now) >= 1


def test_of_a_fader_of_work_sizes_the_last_one_is_compiled() -> None:
    painter, style = Programs(), level_style("a", 0)
    sizes = []
    for turn in range(900):
        painter.now = turn / 30
        if turn < 600:
            painter.paint_at(100 + turn % 150, painter.now)
        elif turn == 800:
            painter.paint_at(16, painter.now)
        problem = painter.adapt(style, FORM, painter.now, shown=1, arrived=1, busy=0.01)
        sizes.append(painter.look.work_size)
        assert (problem is not None) == (turn == 810), (turn, problem)
    painter.close()
    assert painter.asked.keys() == {248} and sizes[-1] == 248


def test_a_message_is_in_the_next_frame_and_the_desk_is_told(tmp_path: Path) -> None:
    camera, source = Camera(), Moving(seconds=60)
    out, port = free_port(), free_port()
    sent: list[int] = []

    def hook(live: Live, count: int) -> None:
        if not sent and count == 10:
            with SimpleUDPClient("127.0.0.1", port) as client:
                client.send_message("/vidstyle/strength", 0.0)
                client.send_message("/vidstyle/style", "nobody")
                client.send_message("/vidstyle/snapshot", [])
            sent.append(count)
        elif sent and count > sent[0] + 8:
            live.stop()

    with StageControl(StageOptions(osc=str(out))) as desk:
        osc = desk.osc
        assert osc is not None
        options = StageOptions(osc=str(port), osc_out=f"127.0.0.1:{out}")
        report = run(source, camera, hook=hook, stage=options, options={"snapshots": tmp_path})
        assert wait_for(lambda: osc.received >= 3)
        assert any(change.name == "style" for change in desk.take(time.monotonic()))
    changed = [np.array_equal(frame.planes[0], source.sent[frame.pts][0]) for frame in camera.frames]
    first = changed.index(True)
    assert 10 <= first <= 14 and all(changed[first:]), "two frames may have been under way"
    assert (report.osc_messages, report.osc_refused, len(report.snapshots)) == (3, 1, 1)
    assert any("nobody" in problem for problem in report.problems)
    assert report.stage == [f"OSC on 127.0.0.1, UDP port {port}", f"OSC to 127.0.0.1:{out}"]


def test_the_strength_swings_with_the_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    camera, source, began = Camera(), Moving(seconds=60), time.monotonic()
    monkeypatch.setattr("vidstyle.stage.tempo.Tempo.position", lambda tempo, now: (now - began) / 0.8)

    def hook(live: Live, count: int) -> None:
        if count > 40:
            live.stop()

    run(source, camera, hook=hook, stage=StageOptions(osc="0", pulse=1.0))
    pairs = ((frame.planes[0].astype(int), source.sent[frame.pts][0]) for frame in camera.frames)
    away = [float(np.abs(painted - bare).mean()) for painted, bare in pairs]
    assert max(away) > 5 and min(away) < max(away) / 5, "a painting on the beat, and between two nearly the source"


FLOOD = """
import socket, struct, sys, time
began, sender = time.monotonic(), socket.socket(type=socket.SOCK_DGRAM)
for number in range(1000 * 60):
    ahead = began + number / 1000 - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)
    data = b"/vidstyle/mirror\\0\\0\\0\\0,i\\0\\0" + struct.pack(">i", number % 4)  # half of them are bad
    sender.sendto(data, ("127.0.0.1", int(sys.argv[1])))
"""


@pytest.mark.alone
def test_a_message_shows_soon_and_a_thousand_a_second_cost_no_frames() -> None:
    camera, source, port = Camera(), Moving(seconds=60), free_port()
    sent: list[float] = []
    flood: list[tuple[int, subprocess.Popen[bytes]]] = []
    strengths = [0.0, 1.0] * 5

    def hook(live: Live, count: int) -> None:
        if count % 5 == 0 and count > 20 and len(sent) < len(strengths):
            time.sleep(0.003 * len(sent))  # at every moment of a frame
            sent.append(time.monotonic())
            client.send_message("/vidstyle/strength", strengths[len(sent) - 1])
        elif count == 95:
            flood.append((count, subprocess.Popen([sys.executable, "-c", FLOOD, str(port)])))
        elif count == 180:
            live.stop()

    with SimpleUDPClient("127.0.0.1", port) as client:
        try:
            report = run(source, camera, hook=hook, stage=StageOptions(osc=str(port)))
        finally:
            for _, process in flood:
                process.kill()
                process.wait()
    bare = [np.array_equal(frame.planes[0], source.sent[frame.pts][0]) for frame in camera.frames]
    waits = []
    for at, strength in zip(sent, strengths, strict=True):
        shown = (
            time for time, is_bare in zip(camera.times, bare, strict=True) if time > at and is_bare == (not strength)
        )
        waits.append(1000 * (next(shown) - at))
    assert np.median(waits) < 60 and np.percentile(waits, 70) < 100, waits
    quiet, flooded = camera.times[90] - camera.times[30], camera.times[179] - camera.times[119]
    assert flooded < 1.1 * quiet, "more than six of sixty frames were lost"
    assert report.osc_messages > 1000 and report.osc_refused > 400 and len(report.problems) == 1
