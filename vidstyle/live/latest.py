"""A place for one item between two threads: the newest wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the newest item that one thread has put until another takes it; what it replaces is dropped."""

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None
        self.arrived = 0
        """How many items were put."""
        self.dropped = 0
        """How many of them were replaced before they were taken."""

    def put(self, item: T) -> None:
        """Make ``item`` the newest. Never waits."""
        with self._state:
            self.arrived += 1
            self.dropped += self._item is not None
            self._item = item
            self._state.notify()

    def take(self, timeout: float) -> T | None:
        """The newest item, once; None if there is none within ``timeout`` seconds, or will never be.

        Raises the error that the place was closed with, after the last item was taken.
        """
        with self._state:
            self._state.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, and why, if that is an error."""
        with self._state:
            self._closed, self._error = True, error
            self._state.notify()

    @property
    def over(self) -> bool:
        """Whether it is closed and its last item was taken."""
        with self._state:
            return self._closed and self._item is None
