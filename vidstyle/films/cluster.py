"""Parts painted on a Ray cluster: one that is there, or one that is started on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import filelock
import numpy as np
from numpy.typing import NDArray

from vidstyle import __version__
from vidstyle.errors import MissingDependency, VideoError, VidstyleError, reason
from vidstyle.files import cache_folder, part_path, short_name, write_whole
from vidstyle.films.folder import PartRecord, PartsFolder
from vidstyle.films.part import Film, PartPainter, stamp_of
from vidstyle.films.plan import Part
from vidstyle.films.processes import RETRIES, Order, Tell

_CHUNK_BYTES = 32 << 20
_SOURCES_KEPT = 4
"""Films of others that a node keeps."""
_POLL_SECONDS, _TELL_SECONDS, _KNOCK_SECONDS = 0.25, 0.5, 5.0
_RAY_PORT = 10001
_ATTEMPTS = 3
_START = "start one with `ray start --head --ray-client-server-port=10001`"


@dataclass(frozen=True)
class _Source:
    """The bytes of a film, in the cluster's memory."""

    sha256: str
    chunks: list[Any]
    """References of Ray's."""


@dataclass(frozen=True)
class _Answer:
    """What a worker says of a part."""

    record: PartRecord | None = None
    packets: bytes = b""
    error: VidstyleError | None = None
    needs_source: bool = False
    """Whether it cannot read the film where the others can."""


def cluster_crew(
    address: str,
) -> Callable[[Film, Sequence[Order], PartsFolder, Tell], Iterator[PartRecord]]:
    """What paints on the cluster at ``address``: ``ray`` or ``ray://HOST:PORT``. Raises `MissingDependency`."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"{address} needs Ray ({error}); pip install 'vidstyle[cluster]'") from error
    return partial(paint_on_cluster, address)


def paint_on_cluster(
    address: str, film: Film, orders: Sequence[Order], folder: PartsFolder, tell: Tell
) -> Iterator[PartRecord]:
    """Paint parts on as many cores as the cluster has; what became of each, in the order in which they are done.

    Ray gives a part whose worker died to another one, three times. Workers that do not find the film at its path get
    a copy, one a machine. Raises `VidstyleError` where no cluster answers.
    """
    import ray

    if not orders:
        return
    with _connected(address):
        threads = film.backend.threads or 1
        on_gpu = film.backend.gpu is not None
        paint = ray.remote(max_retries=RETRIES, num_cpus=threads, num_gpus=1 if on_gpu else 0)(_paint)
        progress = ray.remote(num_cpus=0, max_restarts=-1)(_Progress).remote()
        common = ray.put((uuid.uuid4().hex, __version__, film.on(threads)))
        source: _Source | None = None
        waiting = {paint.remote(common, *order, None, progress): order for order in orders}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=_POLL_SECONDS)
            with contextlib.suppress(ray.exceptions.RayError):  # its process may have died as well
                for number, frames in ray.get(progress.frames.remote(), timeout=_POLL_SECONDS).items():
                    tell(number, frames)
            for done in ready:
                order = waiting.pop(done)
                answer = _answer(done, order[0], film)
                if answer.needs_source:
                    source = source or _uploaded(film)
                    waiting[paint.remote(common, *order, source, progress)] = order
                    continue
                if answer.error is not None:
                    raise answer.error
                assert answer.record is not None
                if answer.record.frames:
                    _store(answer, folder)
                yield answer.record


def _answer(done: Any, part: Part, film: Film) -> _Answer:
    import ray

    try:
        answer: _Answer = ray.get(done)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
        raise VideoError(
            f"part {part.number} of {film.source} was given up: {RETRIES + 1} workers died of it; what is done is "
            "kept, and the same command goes on"
        ) from error
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
        raise VidstyleError(
            f"part {part.number} of {film.source} failed on the cluster: {first}; each of its machines needs "
            f"vidstyle {__version__}, Ray and Python in the same versions as here"
        ) from error
    return answer


def _store(answer: _Answer, folder: PartsFolder) -> None:
    assert answer.record is not None
    if hashlib.sha256(answer.packets).hexdigest() != answer.record.sha256:
        raise VideoError(f"part {answer.record.number} was damaged on its way from the cluster; give the command again")
    write_whole(folder.packets(answer.record.number), answer.packets)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Have a cluster within the block; one that was connected to before stays so.

    What Ray says on stdout goes to stderr: stdout is for whoever reads our JSON.
    """
    import ray

    if ray.is_initialized():
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == "ray":
            try:
                ray.init(address="auto", **quiet)
            except ConnectionError:
                # A machine that is busy may take longer to start than Ray waits by itself.
                os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                ray.init(include_dashboard=False, **quiet)
        else:
            _knock(address)  # Ray itself would wait for half a minute
            for attempt in range(_ATTEMPTS):
                try:
                    ray.init(address, **quiet)
                    break
                except ConnectionAbortedError:  # the process that the server forks for a client sometimes dies at once
                    if attempt + 1 == _ATTEMPTS:
                        raise
    except Exception as error:  # Ray raises plain ones, too, as where its start takes too long
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise VidstyleError(f"no Ray cluster answers at {address}: {why}; {_START}") from error
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """`OSError` where nothing listens at ``ray://HOST:PORT``."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or _RAY_PORT), timeout=_KNOCK_SECONDS):
        pass


class _Progress:
    """An actor that collects how far the parts are."""

    def __init__(self) -> None:
        self._frames: dict[int, int] = {}

    def tell(self, number: int, frames: int) -> None:
        self._frames[number] = frames

    def frames(self) -> dict[int, int]:
        return self._frames


def _uploaded(film: Film) -> _Source:
    """The film's bytes, for workers that do not see its disk."""
    import ray

    sha, chunks = hashlib.sha256(), []
    try:
        with film.source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha.update(chunk)
                chunks.append(ray.put(chunk))
    except OSError as error:
        raise VideoError(f"cannot read {film.source}: {reason(error)}") from error
    film.check_source()
    return _Source(sha.hexdigest(), chunks)


# What follows runs on the workers.

_painter: tuple[str, PartPainter, Film] | None = None
"""The film that this process painted last, and what paints it: a graph is compiled once for all its parts."""


def _paint(
    common: tuple[str, str, Film], part: Part, pts: NDArray[np.int64], source: _Source | None, progress: Any
) -> _Answer:
    """Paint one part, on a worker of the cluster."""
    name, version, film = common
    if version != __version__:
        return _Answer(
            error=VidstyleError(
                f"a worker of the cluster has vidstyle {__version__}, and here is {version}; install one"
            )
        )
    told = 0.0

    def on_frame(frames: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            progress.tell.remote(part.number, frames)

    try:
        painter = _painter_of(name, film, source)
        if painter is None:
            return _Answer(needs_source=True)
        with tempfile.TemporaryDirectory(prefix="vidstyle-") as folder:
            target = Path(folder) / f"{part.number:05}.nut"
            record = painter.paint(part, pts, target, on_frame)
            return _Answer(record, target.read_bytes() if record.frames else b"")
    except VidstyleError as error:
        return _Answer(error=error)


def _painter_of(name: str, film: Film, source: _Source | None) -> PartPainter | None:
    global _painter
    if _painter is not None and _painter[0] == name:
        return _painter[1]
    if not _is_here(film):
        if source is None:
            return None
        path = _downloaded(source, film.source)
        film = replace(film, source=path, stamp=stamp_of(path))
    if _painter is not None:
        _painter[1].close()
    _painter = name, PartPainter(film), film
    return _painter[1]


def _is_here(film: Film) -> bool:
    """Whether the film lies at its path on this machine, too."""
    with contextlib.suppress(VideoError):
        return stamp_of(film.source) == film.stamp
    return False


def _downloaded(source: _Source, name: Path) -> Path:
    """The film on this machine's disk, fetched by the first of its workers that needs it. Raises `VideoError`."""
    import ray

    films = cache_folder("films")
    path = films / source.sha256[:32] / short_name(name.name, 200)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / ".lock"):
            if not path.exists():
                sha, part = hashlib.sha256(), part_path(path)
                try:
                    with part.open("wb") as file:
                        for reference in source.chunks:
                            chunk = ray.get(reference)
                            sha.update(chunk)
                            file.write(chunk)
                    if sha.hexdigest() != source.sha256:
                        raise VideoError(f"{name} was damaged on its way to the cluster; give the command again")
                    os.replace(part, path)
                finally:
                    part.unlink(missing_ok=True)
            os.utime(path.parent)
        for old in sorted(films.iterdir(), key=lambda one: one.stat().st_mtime)[:-_SOURCES_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if isinstance(error, VidstyleError):
            raise
        raise VideoError(f"a worker of the cluster cannot keep {name.name} in {films}: {reason(error)}") from error
    return path
