"""``vidstyle webcam``: a real window, real keys, and the pixels on the screen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import repository
from display import Webcam, difference
from live_media import mjpeg_server, nothing_grows, open_descriptors, resident_mib, running_threads
from numpy.typing import NDArray

from vidstyle.cli import vidstyle
from vidstyle.frame import Frame
from vidstyle.live.overlay import bgr_from_planes
from vidstyle.stylizer import Stylizer
from vidstyle.video.capture import Capture

SIZE = (360, 640)
BELOW = np.s_[110:300]  # rows that the overlay leaves alone


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 3 s in which nothing moves, at a rate that leaves the machine time for the test itself."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    rgb = np.stack([x * 255 // SIZE[1], y * 255 // SIZE[0], 128 + 90 * np.sin(x / 30) * np.cos(y / 25)], axis=-1)
    rgb[150:250, 100:220] = (230, 200, 40)
    path = tmp_path_factory.mktemp("webcam") / "still.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for _ in range(45):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")))
        out.mux(stream.encode())
    return path


def source_frame(path: Path) -> Frame:
    with Capture(str(path)) as capture:
        return next(capture.frames())


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    return bgr_from_planes(frame.planes, frame.form)[..., ::-1]


def painted(frame: Frame, style: str) -> NDArray[np.uint8]:
    with Stylizer(style) as stylizer:
        job = stylizer.prepare(frame)
        return rgb_of(stylizer.finish(job, stylizer.submit(job)()))


def close_to(shot: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """The frames of the file differ a little from each other."""
    return difference(shot[BELOW], expected[BELOW]) < 4


@pytest.mark.slow
def test_keys_change_what_is_on_the_screen(still: Path, tmp_path: Path) -> None:
    source = source_frame(still)
    plain, night, scream = rgb_of(source), painted(source, "starry_night"), painted(source, "the_scream")
    assert difference(night[BELOW], scream[BELOW]) > 15
    middle = SIZE[1] // 2
    with Webcam(tmp_path, "--source", str(still), "--loop", "--record", "out.mp4") as webcam:
        assert webcam.size() == SIZE

        def shows(expected: NDArray[np.uint8], what: str, *keys: str) -> None:
            webcam.press(*keys)
            webcam.until(lambda: close_to(webcam.shot(), expected), what)

        half = ((night.astype(int) + plain) // 2).astype(np.uint8)
        shows(night, "starry_night")
        shows(scream, "the next style", "n")
        shows(night, "the style before", "p")
        shows(half, "half the strength", *["minus"] * 5)
        shows(night, "all the strength", *["plus"] * 5)
        split = night.copy()
        split[:, :middle] = plain[:, :middle]
        shows(split, "the split view", "o")
        mirrored = night[:, ::-1].copy()
        mirrored[:, :middle] = plain[:, ::-1][:, :middle]
        shows(mirrored, "the mirrored split view", "m")
        shows(plain[:, ::-1], "the mirrored source", "o")
        shows(night, "the painting", "o", "m")

        webcam.press("h")
        panel = np.s_[120:240, 240:400]
        webcam.until(lambda: np.median(webcam.shot()[panel]) < np.median(night[panel]) / 2, "the help")
        assert webcam.shot()[panel].max() > 200, "no text on the help"
        shows(night, "the help to go", "h")
        blend = painted(source, "starry_night:0.7,the_scream:0.3")
        shows(blend, "the blend", *["bracketright"] * 3)
        shows(night, "the pure style", *["bracketleft"] * 3)

        webcam.press("f")
        webcam.until(lambda: webcam.size() == (720, 1280), "a full screen")
        large = cv2.resize(night, (1280, 720))
        webcam.until(lambda: difference(webcam.shot()[160:650], large[160:650]) < 5, "the picture on all of it")
        webcam.press("f")
        webcam.until(lambda: webcam.size() == SIZE, "a small window")

        webcam.press("s")
        webcam.until(lambda: list(tmp_path.glob("*.png")), "a snapshot")
        webcam.press("r")
        webcam.press("r")
        second = tmp_path / "out-2.mp4"
        webcam.until(lambda: second.exists() and second.stat().st_size > 10_000, "frames in another recording")
        webcam.press("q")
        report = webcam.report()

    assert report["recordings"] == ["out.mp4", "out-2.mp4"]
    assert report["shown"] > 20
    assert 0 < report["latency_median_ms"] <= report["latency_p99_ms"]
    assert report["problems"] == []
    snapshot = tmp_path / report["snapshots"][0]
    assert snapshot.name.startswith("starry_night-")
    bgr = cv2.imread(str(snapshot))
    assert bgr is not None
    assert difference(bgr[..., ::-1], night) < 6, "the overlay, or the window's size, is in the snapshot"
    for name in report["recordings"]:
        with av.open(str(tmp_path / name)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert frames[-1].shape == (*SIZE, 3)
        assert difference(frames[-1], night) < 8, "a recording has no overlay, mirror or split"


@pytest.mark.slow
def test_source_killed_twenty_times_is_told_comes_back_and_nothing_grows(tmp_path: Path) -> None:
    amber, below = (255, 190, 80), np.s_[300:]

    def says_something() -> bool:
        return bool((np.abs(webcam.shot()[below].astype(int) - amber).max(axis=2) < 40).sum() > 50)

    with (
        mjpeg_server(size=lambda: SIZE, rate=25) as server,
        # A painting of gray is gray.
        Webcam(tmp_path, "--source", f"http://127.0.0.1:{server.port}/", "--split") as webcam,
    ):
        states = []
        for kills in range(21):
            if kills:
                server.stop()
                if kills == 1:
                    webcam.until(says_something, "a word on the source")
                    assert webcam.shot()[BELOW].mean() > 20, "the last picture is gone"
                accepted = server.accepted
                server.start()
                webcam.until(lambda a=accepted: server.accepted > a, f"a connection after kill {kills}")
                before = webcam.shot()[BELOW]
                webcam.until(
                    lambda b=before: difference(webcam.shot()[BELOW], b) > 0.2, f"a picture after kill {kills}"
                )
            states.append((running_threads(webcam.pid), open_descriptors(webcam.pid), resident_mib(webcam.pid)))
        webcam.until(lambda: not says_something(), "the end of the warning")
        webcam.press("q")
        report = webcam.report()
    assert (report["reconnects"], report["problems"]) == (20, [])
    nothing_grows(states)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["Escape", "close button", "Ctrl-C"])
def test_ways_to_quit(way: str, tmp_path: Path) -> None:
    with Webcam(tmp_path, "--source", "testsrc") as webcam:
        if way == "close button":
            webcam.close_button()
        elif way == "Ctrl-C":
            webcam.interrupt()
        else:
            webcam.press(way)
        assert webcam.report()["shown"] > 0


def run(*words: str, folder: Path, shown_on: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-m", "vidstyle", "webcam", *words],
        cwd=folder,
        env={**env, "PYTHONPATH": str(repository()), **({"DISPLAY": shown_on} if shown_on else {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
@pytest.mark.parametrize("shown_on", [None, ":987"])
def test_without_a_display_a_sentence_names_what_works(shown_on: str | None, tmp_path: Path) -> None:
    done = run("--source", "testsrc", folder=tmp_path, shown_on=shown_on)
    assert done.returncode == 1, done.stderr
    for word in ("display", "--record", "--output", "vidstyle serve"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_records_without_a_window(tmp_path: Path) -> None:
    words = ["--source", "testsrc", "--size", "160x96", "--no-window", "--record", "out.mp4"]
    words += ["--seconds", "1", "--json"]
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["shown"] >= 3
    assert (report["width"], report["height"]) == (160, 96)
    assert "test pattern" in done.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[0] == 0 and times == sorted(set(times)) and 0.2 < times[-1] < 5
    again = run(*words, folder=tmp_path)
    assert again.returncode == 2 and "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--no-window"], 2, "--record"),
        (["--size", "720"], 2, "WIDTHxHEIGHT"),
        (["--style", "stary_night"], 2, "did you mean"),
        (["--target-fps", "0"], 2, "target-fps"),
        (["--source", "missing.mp4", "--no-window", "--record", "out.mp4"], 1, "missing.mp4"),
    ],
)
def test_wrong_usage_is_a_sentence(
    words: list[str], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(vidstyle, ["webcam", "--source", "testsrc", *words])
    assert result.exit_code == code
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
