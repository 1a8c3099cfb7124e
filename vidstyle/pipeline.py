"""Threaded ``source -> step -> sink`` with bounded memory and a guaranteed end.

Threads and who owns what::

    thread "vidstyle-decode"   the source                    --queue(depth)-->
    calling thread             the step, `in_flight` at once --queue(depth)-->
    thread "vidstyle-encode"   the sink

The step runs on the caller's thread: a GPU context stays on one thread and Ctrl-C lands there.
The first error on any thread stops all three, every thread is joined, and that error is raised.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from vidstyle.errors import BadOption

T = TypeVar("T")
U = TypeVar("U")

_END = object()
# How long a thread waits on a queue before it looks at the stop flag again. A waiting thread is
# woken at once by an item; this only bounds how late a stop is noticed. (Python 3.13 has
# Queue.shutdown, which would replace it.)
_POLL_SECONDS = 0.05


@dataclass
class StageSeconds:
    """Seconds that each stage was at work (not waiting for its neighbours), so far."""

    decode: float = 0.0
    """Inside the source."""
    infer: float = 0.0
    """Submitting, and waiting for the oldest result while the step had its fill of items."""
    encode: float = 0.0
    """Inside the sink."""


class Pipeline(Generic[T, U]):
    """One run of a pipeline. Make a new one for each run."""

    def __init__(self, *, depth: int = 4, in_flight: int = 1) -> None:
        if depth < 1 or in_flight < 1:
            raise BadOption(f"{depth = } and {in_flight = } must both be at least 1 frame")
        self.seconds = StageSeconds()
        self._depth = depth
        self._in_flight = in_flight
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(
        self, source: Generator[T, None, None], submit: Callable[[T], Callable[[], U]], sink: Callable[[U], None]
    ) -> None:
        """Pass every item of ``source`` through the step into ``sink``, in order.

        ``submit(item)`` starts the work on an item and returns a function that waits for its result;
        up to ``in_flight`` items are under way before the first is waited for. When it returns, every
        result has been through the sink; when it raises, all has stopped, and the error is the first
        that any thread met.
        """
        decoded: queue.Queue[Any] = queue.Queue(self._depth)
        styled: queue.Queue[Any] = queue.Queue(self._depth)
        workers = [
            Worker("decode", lambda: self._guard(lambda: self._decode(source, decoded))),
            Worker("encode", lambda: self._guard(lambda: self._encode(styled, sink))),
        ]
        for worker in workers:
            worker.start()
        self._guard(lambda: self._feed(self._infer(self._items(decoded), submit), styled))
        self._guard(lambda: self._wait(workers))  # Ctrl-C while the encoder drains stops it too
        self._wait(workers)
        if self._error is not None:
            raise self._error

    def _decode(self, source: Generator[T, None, None], out: queue.Queue[Any]) -> None:
        with contextlib.closing(source):  # release the file on this thread, early stop or not
            self._feed(self._timed(source), out)

    def _timed(self, source: Iterator[T]) -> Iterator[T]:
        while True:
            began = time.perf_counter()
            item = next(source, _END)
            self.seconds.decode += time.perf_counter() - began
            if item is _END:
                return
            yield item  # type: ignore[misc]  # the sentinel has been told apart

    def _infer(self, items: Iterable[T], submit: Callable[[T], Callable[[], U]]) -> Iterator[U]:
        under_way: deque[Callable[[], U]] = deque()
        for item in items:
            began = time.perf_counter()
            under_way.append(submit(item))
            result = under_way.popleft()() if len(under_way) >= self._in_flight else _END
            self.seconds.infer += time.perf_counter() - began
            if result is not _END:
                yield result  # type: ignore[misc]
        while under_way and not self._stop.is_set():
            yield under_way.popleft()()

    def _encode(self, styled: queue.Queue[Any], sink: Callable[[U], None]) -> None:
        for item in self._items(styled):
            began = time.perf_counter()
            sink(item)
            self.seconds.encode += time.perf_counter() - began

    def _feed(self, items: Iterable[Any], out: queue.Queue[Any]) -> None:
        for item in items:
            if not self._put(out, item):
                return
        self._put(out, _END)

    def _items(self, inputs: queue.Queue[Any]) -> Iterator[Any]:
        while not self._stop.is_set():
            try:
                item = inputs.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if item is _END:
                return
            yield item

    def _put(self, out: queue.Queue[Any], item: object) -> bool:
        while not self._stop.is_set():
            try:
                out.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # KeyboardInterrupt too: it must also stop the others
            with self._lock:
                if self._error is None:
                    self._error = error
            self._stop.set()

    @staticmethod
    def _wait(workers: list[Worker]) -> None:
        for worker in workers:
            worker.join()


def overlapped(started: Iterable[Callable[[], U]], in_flight: int) -> Iterator[U]:
    """The results of all ``started``, in order; up to ``in_flight`` are under way before the first is waited for."""
    under_way: deque[Callable[[], U]] = deque()
    for pending in started:
        under_way.append(pending)
        if len(under_way) >= in_flight:
            yield under_way.popleft()()
    while under_way:
        yield under_way.popleft()()


class Worker(threading.Thread):
    """The thread ``vidstyle-NAME``, which can be joined through Ctrl-C.

    Before Python 3.13 a ``join`` that Ctrl-C interrupts marks the thread as stopped while it still
    runs, and the next ``join`` returns at once. Waiting on an event has no such trap.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=f"vidstyle-{name}")
        self._work = work
        self.finished = threading.Event()

    def run(self) -> None:
        try:
            self._work()
        finally:
            self.finished.set()

    def join(self, timeout: float | None = None) -> None:
        if self.finished.wait(timeout):
            super().join()


class BackOff:
    """Pauses between attempts: ``first`` seconds, then twice as long each time, up to ``longest``."""

    def __init__(self, first: float = 0.25, longest: float = 5.0) -> None:
        self._first, self._longest = first, longest
        self.seconds = first
        """Length of the next pause."""

    def reset(self) -> None:
        self.seconds = self._first

    def next(self) -> float:
        """The length of the pause that begins now."""
        pause, self.seconds = self.seconds, min(2 * self.seconds, self._longest)
        return pause

    def retry(self, attempt: Callable[[], T], stop: threading.Event, error: type[Exception]) -> T | None:
        """Attempt after each pause until no ``error`` is raised; return the result, or None once ``stop`` is set."""
        while not stop.wait(self.next()):
            with contextlib.suppress(error):
                return attempt()
        return None


class Closing:
    """Base of what a ``with`` block closes at its end."""

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
