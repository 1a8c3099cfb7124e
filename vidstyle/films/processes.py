"""Parts painted by this process, or by several on this machine, each with cores of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import VideoError, VidstyleError
from vidstyle.films.folder import PartRecord, PartsFolder
from vidstyle.films.part import Film, PartPainter
from vidstyle.films.plan import Part

Order: TypeAlias = tuple[Part, NDArray[np.int64]]
"""A part, and the pts of its frames."""
Tell: TypeAlias = Callable[[int, int], None]
"""Is told the number of a part and how many of its frames are done."""

RETRIES = 3
"""How many times a part is given to another worker when its own died."""
_TELL_SECONDS = 0.2


def paint_here(film: Film, orders: Sequence[Order], folder: PartsFolder, tell: Tell) -> Iterator[PartRecord]:
    """Paint one part after the other in this process; what became of each."""
    with PartPainter(film) as painter:
        for part, pts in orders:

            def on_frame(frames: int, number: int = part.number) -> None:
                tell(number, frames)

            yield painter.paint(part, pts, folder.packets(part.number), on_frame)


def paint_in_processes(
    film: Film, orders: Sequence[Order], folder: PartsFolder, tell: Tell, workers: int
) -> Iterator[PartRecord]:
    """Paint parts in so many processes at once; what became of each, in the order in which they are done.

    A part whose process dies goes to another one, `RETRIES` times. The processes end with this one, however it ends.
    """
    if not orders:
        return
    waiting, deaths = deque(orders), dict.fromkeys((part.number for part, _ in orders), 0)
    cores = _shares(workers)
    crew: list[_Worker | None] = [None] * workers
    try:
        left = len(waiting)
        while left:
            for place, worker in enumerate(crew):
                if waiting and (worker is None or worker.order is None):
                    worker = crew[place] = worker or _Worker(film, folder, cores[place])
                    worker.give(waiting.popleft())
            at_work = {worker.pipe: place for place, worker in enumerate(crew) if worker and worker.order}
            for pipe in wait(list(at_work)):
                place = at_work[pipe]  # type: ignore[index]
                worker = crew[place]
                assert worker is not None and worker.order is not None
                try:
                    said = worker.pipe.recv()
                except (EOFError, OSError):
                    order, crew[place] = worker.order, None
                    number = order[0].number
                    deaths[number] += 1
                    tell(number, 0)
                    death = worker.end(patience=1.0)
                    if deaths[number] > RETRIES:
                        raise VideoError(
                            f"part {number} of {film.source} was given up: {deaths[number]} processes died of it "
                            f"({death}); what is done is kept, and the same command goes on"
                        ) from None
                    waiting.appendleft(order)
                    continue
                if isinstance(said, PartRecord):
                    worker.order, left = None, left - 1
                    yield said
                elif isinstance(said, BaseException):
                    raise said
                else:
                    tell(worker.order[0].number, said)
    finally:
        for one in crew:
            if one is not None:
                one.end()


class _Worker:
    """A process that paints the parts that it is given."""

    def __init__(self, film: Film, folder: PartsFolder, cores: set[int]) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.order: Order | None = None
        # "spawn", as threads and what libraries hold do not live through a fork.
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, film, folder.path, cores), name="vidstyle-part", daemon=True
        )
        self._process.start()
        theirs.close()

    def give(self, order: Order) -> None:
        self.order = order
        with contextlib.suppress(OSError):  # it has died, which is seen when it is waited for
            _send(self.pipe, (order[0], order[1]))

    def end(self, patience: float = 0.0) -> str:
        """End the process, which is given so many seconds to do so itself, and say how it ended."""
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        code = self._process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _send(pipe: Connection, what: object) -> None:
    """What `Connection.send` does; that one also complains of a buffer where the other end is gone (Python 3.12)."""
    pipe.send_bytes(pickle.dumps(what))


def _shares(workers: int) -> list[set[int]]:
    """The cores of each of so many workers."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if workers >= len(usable):
        return [{usable[place % len(usable)]} for place in range(workers)]
    ends = [len(usable) * place // workers for place in range(workers + 1)]
    return [set(usable[begin:end]) for begin, end in zip(ends[:-1], ends[1:], strict=True)]


def _work(pipe: Connection, film: Film, folder: Path, cores: set[int]) -> None:
    """What a worker does until its parent closes the pipe, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends all
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
    told = 0.0

    def on_frame(frames: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            _send(pipe, frames)

    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            with PartPainter(film.on(len(cores))) as painter:
                while True:
                    part, pts = pipe.recv()
                    _send(pipe, painter.paint(part, pts, folder / f"{part.number:05}.nut", on_frame))
        except (EOFError, BrokenPipeError, ConnectionError):
            return
        except VidstyleError as error:
            _send(pipe, error)
        except Exception as error:
            logging.getLogger(__name__).exception("a worker failed")
            first = (str(error).splitlines() or [""])[0]
            _send(pipe, VidstyleError(f"a worker failed ({type(error).__name__}: {first}); what is done is kept"))
