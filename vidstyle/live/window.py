"""The window of the live picture, by way of OpenCV."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import threading
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError
from vidstyle.pipeline import Closing
from vidstyle.video import LIBXCB_IS_SHARED

_NO_WINDOW = (
    "record with `--record out.mp4 --no-window`, send it on with `--output rtmp://... --no-window`, "
    "or run `vidstyle serve` and look at it in a browser"
)
_LEAST, _MOST = (360, 640), (720, 1280)  # bounds, (height, width), of a window when it opens
_KEYS_AT_ONCE = 8
_TELL_SECONDS = (0.1, 0.3, 0.6, 1.0, 2.0)  # when Qt is told that the window is there, in case it has missed it
_MANAGER_SECONDS = 0.3  # how long a window manager may take to make a window full screen
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


class Window(Closing):
    """A window that shows one picture after another, and tells which keys were pressed.

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
            tell_windows_that_they_are_shown()
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
        screen = screen_size()
        if screen is not None and self.size == self._before != screen:
            self._place(screen)

    def _place(self, size: tuple[int, int]) -> None:
        cv2.moveWindow(self.title, 0, 0)
        cv2.resizeWindow(self.title, size[1], size[0])


def key_of(code: int) -> str | None:
    """What OpenCV's key ``code`` is called here; None for keys that mean nothing."""
    for known in (code, code & 0xFFFF):  # the upper bits may tell of Shift and Num Lock
        if known in _NAMED:
            return _NAMED[known]
    character = code & 0xFFFF
    return chr(character) if 32 <= character < 127 else None


_opened_by: tuple[int, threading.Thread] | None = None  # the process and the thread that opened the first window


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
    if not x11_is_in_use():
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise VideoError(f"there is no display to open a window on (DISPLAY is not set); {_NO_WINDOW}")
    if not x11_answers(display):
        raise VideoError(f"the display {display} does not answer, so no window can be opened; {_NO_WINDOW}")


def _first_size(picture: tuple[int, int]) -> tuple[int, int]:
    """The picture's own size, enlarged or shrunk to what is of use on a screen."""
    scale = max(1.0, min(bound / side for bound, side in zip(_LEAST, picture, strict=True)))
    scale = min(scale, *(bound / side for bound, side in zip(_MOST, picture, strict=True)))
    return max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))


# What OpenCV does not tell about an X11 display, asked by way of libxcb, which Qt below OpenCV needs, too.

_MAP_NOTIFY = 19
_MAX_WORDS = 4096
_connections: dict[str, int] = {}
"""They stay open: a display that loses its last client starts anew, which Qt must not run into."""


class _Screen(ctypes.Structure):
    """The beginning of ``xcb_screen_t``; the first number is the root window."""

    _fields_ = [("numbers", ctypes.c_uint32 * 5), ("width", ctypes.c_uint16), ("height", ctypes.c_uint16)]


class _Screens(ctypes.Structure):
    """``xcb_screen_iterator_t``."""

    _fields_ = [("screen", ctypes.POINTER(_Screen)), ("rem", ctypes.c_int), ("index", ctypes.c_int)]


def x11_is_in_use() -> bool:
    """Whether OpenCV's windows come by X11 on this system."""
    if sys.platform in ("win32", "darwin"):
        return False
    return os.environ.get("QT_QPA_PLATFORM", "") in ("", "xcb")


def x11_answers(display: str) -> bool:
    """Whether ``display``, such as ``:0``, lets us in. True, too, where nobody can tell."""
    xcb = _xcb()
    if xcb is None or display in _connections:
        return True
    connection = cast(int, xcb.xcb_connect(display.encode(), None))
    if xcb.xcb_connection_has_error(connection):
        xcb.xcb_disconnect(connection)
        return False
    _connections[display] = connection
    return True


def screen_size() -> tuple[int, int] | None:
    """``(height, width)`` of the screen; None where nobody knows."""
    screen = _screen()
    return None if screen is None else (screen.height, screen.width)


def tell_windows_that_they_are_shown() -> None:
    """Tell Qt once more that this process's windows are on the screen.

    The events that say so get lost now and then between libxcb and Qt 5.15, and a window then stays
    black for ever (one start in five on a busy machine of two cores). Told twice it does nothing.
    """
    screen = _screen()
    if screen is None:
        return
    xcb, connection = _connected()
    root = screen.numbers[0]
    windows = _property(root, b"_NET_CLIENT_LIST") or _children(root)  # without a window manager there is no list
    for window in windows:
        if _property(window, b"_NET_WM_PID") == (os.getpid(),):
            event = struct.pack("=BxHII20x", _MAP_NOTIFY, 0, window, window)
            xcb.xcb_send_event(connection, 0, window, 0, event)
    xcb.xcb_flush(connection)


def _connected() -> tuple[Any, int | None]:
    """The library and its connection to the display, if there is one."""
    return _xcb(), _connections.get(os.environ.get("DISPLAY", "")) if x11_is_in_use() else None


def _screen() -> _Screen | None:
    xcb, connection = _connected()
    if connection is None or xcb is None:
        return None
    return cast(_Screen, xcb.xcb_setup_roots_iterator(xcb.xcb_get_setup(connection)).screen.contents)


def _property(window: int, name: bytes) -> tuple[int, ...]:
    """The 32-bit words of a property; none if it is not there."""
    atom = _asked("intern_atom", 0, len(name), name, read=lambda xcb, reply: (reply, 3))[2:] or (0,)
    return _asked(
        "get_property",
        *(0, window, *atom, 0, 0, _MAX_WORDS),
        read=lambda xcb, at: (xcb.xcb_get_property_value(at), xcb.xcb_get_property_value_length(at) // 4),
    )


def _children(window: int) -> tuple[int, ...]:
    return _asked(
        "query_tree",
        window,
        read=lambda xcb, at: (xcb.xcb_query_tree_children(at), xcb.xcb_query_tree_children_length(at)),
    )


def _asked(request: str, *arguments: Any, read: Callable[[Any, int], tuple[int, int]]) -> tuple[int, ...]:
    """The 32-bit words of an answer, whose place and number ``read`` finds; none where there is no answer."""
    xcb, connection = _connected()
    cookie = getattr(xcb, f"xcb_{request}")(connection, *arguments)
    reply = getattr(xcb, f"xcb_{request}_reply")(connection, cookie, None)
    if not reply:
        return ()
    place, count = read(xcb, reply)
    words = tuple(ctypes.cast(place, ctypes.POINTER(ctypes.c_uint32))[:count])
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(reply)
    return words


@cache
def _xcb() -> Any:
    if not x11_is_in_use():
        return None
    xcb: Any = ctypes.CDLL(None)  # that which is shared out; another one's calls would end up in it half way
    if not (LIBXCB_IS_SHARED and hasattr(xcb, "xcb_connect")):
        return None
    pointer, word = ctypes.c_void_p, ctypes.c_uint32
    byte, short = ctypes.c_uint8, ctypes.c_uint16
    # Cookies are structures of one word, which are passed like the word.
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "connect": (pointer, [ctypes.c_char_p, pointer]),
        "connection_has_error": (ctypes.c_int, [pointer]),
        "disconnect": (None, [pointer]),
        "flush": (ctypes.c_int, [pointer]),
        "get_setup": (pointer, [pointer]),
        "setup_roots_iterator": (_Screens, [pointer]),
        "intern_atom": (word, [pointer, byte, short, ctypes.c_char_p]),
        "get_property": (word, [pointer, byte, word, word, word, word, word]),
        "get_property_value": (pointer, [pointer]),
        "get_property_value_length": (ctypes.c_int, [pointer]),
        "query_tree": (word, [pointer, word]),
        "query_tree_children": (pointer, [pointer]),
        "query_tree_children_length": (ctypes.c_int, [pointer]),
        "send_event": (word, [pointer, byte, word, word, ctypes.c_char_p]),
    }
    for name in ("intern_atom", "get_property", "query_tree"):
        signatures[f"{name}_reply"] = pointer, [pointer, word, pointer]
    for name, (result, arguments) in signatures.items():
        function = getattr(xcb, f"xcb_{name}")
        function.restype, function.argtypes = result, arguments
    return xcb
