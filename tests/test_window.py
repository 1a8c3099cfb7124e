"""What the window makes of key codes and of displays; the window itself is in test_webcam.py."""

from __future__ import annotations

import sys

import pytest

from vidstyle.errors import VideoError
from vidstyle.live.window import Window, check_display, key_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")


@pytest.mark.parametrize(
    ("code", "key"),
    [
        (ord("n"), "n"),
        (ord("N"), "N"),
        (ord("["), "["),
        (32, " "),
        (27, "escape"),
        (0x10000 | ord("+"), "+"),  # Shift is told in the upper bits
        (0x100000 | ord("n"), "n"),  # Num Lock, too
        (65361, "left"),
        (65363, "right"),
        (2490368, "up"),
        (63233, "down"),
        (65451, "+"),
        (65453, "-"),
        (65480, None),  # F11
        (65505, None),  # Shift alone
        (13, None),
        (0, None),
    ],
)
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
