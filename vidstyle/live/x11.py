"""What OpenCV does not tell about an X11 display, asked by way of libxcb, which Qt below OpenCV needs, too."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from typing import Any, cast

from vidstyle.video import LIBXCB_IS_SHARED

_MAP_NOTIFY = 19
_MOST_WORDS = 4096

_connections: dict[str, int] = {}
"""They stay open: a display that loses its last client starts anew, which Qt must not run into."""


class _Screen(ctypes.Structure):
    """The beginning of ``xcb_screen_t``; the first number is the root window."""

    _fields_ = [("numbers", ctypes.c_uint32 * 5), ("width", ctypes.c_uint16), ("height", ctypes.c_uint16)]


class _Screens(ctypes.Structure):
    """``xcb_screen_iterator_t``."""

    _fields_ = [("screen", ctypes.POINTER(_Screen)), ("rem", ctypes.c_int), ("index", ctypes.c_int)]


def is_in_use() -> bool:
    """Whether OpenCV's windows come by X11 on this system."""
    if sys.platform in ("win32", "darwin"):
        return False
    return os.environ.get("QT_QPA_PLATFORM", "") in ("", "xcb")


def answers(display: str) -> bool:
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
    connection, screen, xcb = _connection(), _screen(), _xcb()
    if connection is None or screen is None or xcb is None:
        return
    root = screen.numbers[0]
    windows = _property(root, b"_NET_CLIENT_LIST") or _children(root)  # without a window manager there is no list
    for window in windows:
        if _property(window, b"_NET_WM_PID") == (os.getpid(),):
            event = struct.pack("=BxHII20x", _MAP_NOTIFY, 0, window, window)
            xcb.xcb_send_event(connection, 0, window, 0, event)
    xcb.xcb_flush(connection)


def _connection() -> int | None:
    return _connections.get(os.environ.get("DISPLAY", "")) if is_in_use() else None


def _screen() -> _Screen | None:
    connection, xcb = _connection(), _xcb()
    if connection is None or xcb is None:
        return None
    return cast(_Screen, xcb.xcb_setup_roots_iterator(xcb.xcb_get_setup(connection)).screen.contents)


def _property(window: int, name: bytes) -> tuple[int, ...]:
    """The 32-bit words of a property; none if it is not there."""
    connection, xcb = _connection(), _xcb()
    assert connection is not None and xcb is not None
    reply = xcb.xcb_get_property_reply(
        connection, xcb.xcb_get_property(connection, 0, window, _atom(name), 0, 0, _MOST_WORDS), None
    )
    if not reply:
        return ()
    words = xcb.xcb_get_property_value_length(reply) // 4
    value = tuple(ctypes.cast(xcb.xcb_get_property_value(reply), ctypes.POINTER(ctypes.c_uint32))[:words])
    _free(reply)
    return value


def _children(window: int) -> tuple[int, ...]:
    connection, xcb = _connection(), _xcb()
    assert connection is not None and xcb is not None
    reply = xcb.xcb_query_tree_reply(connection, xcb.xcb_query_tree(connection, window), None)
    if not reply:
        return ()
    count = xcb.xcb_query_tree_children_length(reply)
    children = tuple(ctypes.cast(xcb.xcb_query_tree_children(reply), ctypes.POINTER(ctypes.c_uint32))[:count])
    _free(reply)
    return children


def _atom(name: bytes) -> int:
    connection, xcb = _connection(), _xcb()
    assert connection is not None and xcb is not None
    reply = xcb.xcb_intern_atom_reply(connection, xcb.xcb_intern_atom(connection, 0, len(name), name), None)
    if not reply:
        return 0
    atom = ctypes.cast(reply, ctypes.POINTER(ctypes.c_uint32))[2]
    _free(reply)
    return int(atom)


def _free(reply: int) -> None:
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(reply)


@cache
def _xcb() -> Any:
    if not is_in_use():
        return None
    xcb: Any = ctypes.CDLL(None)  # that which is shared out; another one's calls would end up in it half way
    if not (LIBXCB_IS_SHARED and hasattr(xcb, "xcb_connect")):
        return None
    pointer, word = ctypes.c_void_p, ctypes.c_uint32
    byte, short = ctypes.c_uint8, ctypes.c_uint16
    # Cookies are structures of one word, which are passed like the word.
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "xcb_connect": (pointer, [ctypes.c_char_p, pointer]),
        "xcb_connection_has_error": (ctypes.c_int, [pointer]),
        "xcb_disconnect": (None, [pointer]),
        "xcb_flush": (ctypes.c_int, [pointer]),
        "xcb_get_setup": (pointer, [pointer]),
        "xcb_setup_roots_iterator": (_Screens, [pointer]),
        "xcb_intern_atom": (word, [pointer, byte, short, ctypes.c_char_p]),
        "xcb_intern_atom_reply": (pointer, [pointer, word, pointer]),
        "xcb_get_property": (word, [pointer, byte, word, word, word, word, word]),
        "xcb_get_property_reply": (pointer, [pointer, word, pointer]),
        "xcb_get_property_value": (pointer, [pointer]),
        "xcb_get_property_value_length": (ctypes.c_int, [pointer]),
        "xcb_query_tree": (word, [pointer, word]),
        "xcb_query_tree_reply": (pointer, [pointer, word, pointer]),
        "xcb_query_tree_children": (pointer, [pointer]),
        "xcb_query_tree_children_length": (ctypes.c_int, [pointer]),
        "xcb_send_event": (word, [pointer, byte, word, word, ctypes.c_char_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(xcb, name)
        function.restype, function.argtypes = result, arguments
    return xcb
