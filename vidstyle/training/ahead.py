"""Making the next batch while the network is busy with this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """``make(step)``, one step ahead on a thread of its own. A context manager that ends the thread."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vidstyle-ahead")
        self._pending: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """What ``make`` gives for ``step``; asks for the step after it, too."""
        if self._pending is None or self._pending[0] != step:
            self._pending = step, self._pool.submit(self._make, step)
        result = self._pending[1].result()
        self._pending = step + 1, self._pool.submit(self._make, step + 1)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
