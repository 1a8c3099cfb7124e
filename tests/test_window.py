"""Key codes and displays; what is in the window itself is tested in test_webcam.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from live_media import x_display

from vidstyle.errors import VideoError
from vidstyle.live.window import Window, check_display, key_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")


@pytest.mark.parametrize(
    ("code", "key"),
    [(ord("n"), "n"), (ord("N"), "N"), (ord("["), "["), (32, " "), (27, "escape"), (65361, "left"), (65363, "right"),
     (2490368, "up"), (63233, "down"), (65451, "+"), (65453, "-"),
     (0x10000 | ord("+"), "+"), (0x100000 | ord("n"), "n"),  # Shift and Num Lock are told in the upper bits
     (65480, None), (65505, None), (13, None), (0, None)],  # F11, Shift alone
)  # fmt: skip
def test_key_codes_of_three_systems(code: int, key: str | None) -> None:
    assert key_of(code) == key


@linux
@pytest.mark.parametrize(("name", "sentence"), [("", "DISPLAY is not set"), (":987", "display :987 does not answer")])
def test_missing_display_is_an_error_not_an_abort(name: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    for open_window in (check_display, lambda: Window("vidstyle", (36, 64))):
        with pytest.raises(VideoError, match=sentence) as caught:
            open_window()
        for word in ("--record", "--output", "vidstyle serve"):
            assert word in str(caught.value)


@linux
def test_other_platforms_of_qt_need_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    check_display()


@linux
def test_a_window_elsewhere_than_the_first_one_is_a_sentence_and_no_hang() -> None:
    code = """
import os, threading
from vidstyle.errors import VideoError
from vidstyle.gallery import load_style
from vidstyle.live.session import Live
from vidstyle.live.window import Window
def attempt():
    try:
        Live(lambda on_sound: print("opened"), [load_style("starry_night")]).run()
    except VideoError as error:
        print(error, flush=True)
def elsewhere():
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
for _ in range(2):
    Window("vidstyle", (36, 64)).close()
elsewhere()
if os.fork() == 0:
    attempt()
    os._exit(0)
os.wait()
"""
    with x_display() as name:
        environment = {**os.environ, "DISPLAY": name}
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2 and "MainThread" in lines[0] and "spawn" in lines[1]
