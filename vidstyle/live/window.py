"""The window of the live picture, by way of OpenCV."""

from __future__ import annotations

import contextlib
import os
import threading
from time import monotonic
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.live import x11

_NO_WINDOW = (
    "record with `--record out.mp4 --no-window`, send it on with `--output rtmp://... --no-window`, "
    "or run `vidstyle serve` and look at it in a browser"
)
_LEAST, _MOST = (360, 640), (720, 1280)
"""Bounds, (height, width), of a window when it opens."""
_KEYS_AT_ONCE = 8
_TELL_SECONDS = (0.1, 0.3, 0.6, 1.0, 2.0)
"""When Qt is told that the window is there, in case it has missed it."""
_MANAGER_SECONDS = 0.3
"""How long a window manager may take to make a window full screen."""
# Codes of X11, Windows and macOS.
_NAMED = {
    27: "escape",
    **dict.fromkeys((65361, 2424832, 63234), "left"),
    **dict.fromkeys((65362, 2490368, 63232), "up"),
    **dict.fromkeys((65363, 2555904, 63235), "right"),
    **dict.fromkeys((65364, 2621440, 63233), "down"),
    65451: "+",
    65453: "-",
}


class Window:
    """A window that shows one picture after another, and tells which keys were pressed. A context manager.

    Use it from the main thread: some systems allow windows nowhere else.
    """

    def __init__(self, title: str, picture_size: tuple[int, int], *, full_screen: bool = False) -> None:
        """Open a window for pictures of ``picture_size``, (height, width).

        Raises `VideoError` where there is no display, naming what works without one.
        """
        check_display()
        global _opened_by
        _opened_by = os.getpid(), threading.current_thread()
        self.title = title
        self._full_screen = False
        self._was_visible = False
        self._size = _first_size(picture_size)
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL
        try:
            cv2.namedWindow(title, flags)
            cv2.resizeWindow(title, self._size[1], self._size[0])
        except cv2.error as error:
            raise VideoError(
                f"this OpenCV cannot open windows (opencv-python-headless cannot); install opencv-python, {_NO_WINDOW}"
            ) from error
        self._open = True
        self._tell_at = [monotonic() + seconds for seconds in _TELL_SECONDS]
        self._before, self._by_hand, self._asked_at = self._size, False, 0.0
        self.full_screen = full_screen

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the area that is drawn on; people may change it at any time."""
        if self.is_open:
            with contextlib.suppress(cv2.error):
                _, _, width, height = cv2.getWindowImageRect(self.title)
                if width > 0 and height > 0:
                    self._size = height, width
        return self._size

    @property
    def full_screen(self) -> bool:
        """Whether it covers the whole screen; may be set."""
        return self._full_screen

    @full_screen.setter
    def full_screen(self, full_screen: bool) -> None:
        if full_screen != self._full_screen and self.is_open:
            self._full_screen = full_screen
            if not full_screen and self._by_hand:
                self._place(self._before)
            self._before, self._by_hand, self._asked_at = self.size, False, monotonic()
            mode = cv2.WINDOW_FULLSCREEN if full_screen else cv2.WINDOW_NORMAL
            cv2.setWindowProperty(self.title, cv2.WND_PROP_FULLSCREEN, mode)

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it."""
        if not self._open:
            return False
        try:
            visible = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            visible = False
        # Some systems take a moment to show it: then it is not closed, but not yet there.
        self._open = visible or not self._was_visible
        self._was_visible |= visible
        return self._open

    def show(self, bgr: NDArray[np.uint8]) -> None:
        """Show ``bgr``, uint8 (height, width, 3) of the window's `size`; it is on the screen after `keys`."""
        if self.is_open:
            cv2.imshow(self.title, bgr)

    def keys(self) -> list[str]:
        """Let the system draw and tell what happened, which takes about 2 ms; returns the keys pressed.

        A key is a character, or ``escape``, ``left``, ``right``, ``up`` or ``down``.
        """
        if self._full_screen and not self._by_hand and monotonic() - self._asked_at > _MANAGER_SECONDS:
            self._cover_screen()
        if self._tell_at and monotonic() >= self._tell_at[0]:
            self._tell_at.pop(0)
            x11.tell_windows_that_they_are_shown()
        pressed: list[str] = []
        for _ in range(_KEYS_AT_ONCE):
            # With pollKey the drawing costs more processor time, and the wait here is for nothing else.
            code = cv2.waitKeyEx(1)
            if code == -1:
                break
            key = key_of(code)
            if key is not None:
                pressed.append(key)
        return pressed

    def close(self) -> None:
        """Take the window away. Closing twice is fine, and so is one that people have closed."""
        if self._open:
            self._open = False
            with contextlib.suppress(cv2.error):
                cv2.destroyWindow(self.title)
                cv2.waitKeyEx(1)

    def _cover_screen(self) -> None:
        """Where no window manager makes a window full screen, as in a kiosk, do it by hand."""
        self._by_hand = True
        screen = x11.screen_size()
        if screen is not None and self.size == self._before != screen:
            self._place(screen)

    def _place(self, size: tuple[int, int]) -> None:
        cv2.moveWindow(self.title, 0, 0)
        cv2.resizeWindow(self.title, size[1], size[0])

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def key_of(code: int) -> str | None:
    """What OpenCV's key ``code`` is called here; None for keys that mean nothing."""
    for known in (code, code & 0xFFFF):  # the upper bits may tell of Shift and Num Lock
        if known in _NAMED:
            return _NAMED[known]
    character = code & 0xFFFF
    return chr(character) if 32 <= character < 127 else None


_opened_by: tuple[int, threading.Thread] | None = None
"""The process and the thread that opened the first window."""


def check_display() -> None:
    """Raise `VideoError` where a window cannot be: Qt, which is below OpenCV on Linux, would end the process.

    In another thread than that of the first window, or in a process forked from its, Qt would wait for ever.
    """
    here = os.getpid(), threading.current_thread()
    if _opened_by is not None and _opened_by != here:
        if _opened_by[0] != here[0]:
            where = "in the process that this one was forked from; begin it with multiprocessing.get_context('spawn')"
        else:
            ended = "" if _opened_by[1].is_alive() else ", which has ended"
            where = f"on the thread {_opened_by[1].name}{ended}; open every one on one thread, at best the main one"
        raise VideoError(f"no window can be opened here: the first one was opened {where}, or do without a window")
    if not x11.is_in_use():
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise VideoError(f"there is no display to open a window on (DISPLAY is not set); {_NO_WINDOW}")
    if not x11.answers(display):
        raise VideoError(f"the display {display} does not answer, so no window can be opened; {_NO_WINDOW}")


def _first_size(picture: tuple[int, int]) -> tuple[int, int]:
    """The picture's own size, enlarged or shrunk to what is of use on a screen."""
    scale = max(1.0, min(bound / side for bound, side in zip(_LEAST, picture, strict=True)))
    scale = min(scale, *(bound / side for bound, side in zip(_MOST, picture, strict=True)))
    return max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))
