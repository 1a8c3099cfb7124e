"""A worker process, seen from the server: its lines, its end, and what one finds in an uploaded video."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import vidstyle
from vidstyle.serve.http import ApiError
from vidstyle.serve.job import Amount, Count, JobSpec, Point

_MAX_LINE = 1 << 16
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class WorkerLine:
    """One line of a worker's output. The worker has read a stranger's file, so the line is checked."""

    step: Count | None = None
    steps: Count | None = None
    progress: Amount | None = None
    message: str | None = None
    point: Point | None = None
    published: Count | None = None
    frames: Count | None = None
    done: bool = False
    """Whether the task is done."""
    error: str | None = None
    too_much: bool = False
    """Whether the error is that the file is too large or too long."""


class WorkerProcess:
    """One worker at work on a job's folder. It ends when this process does: its input ends then."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, task: str, folder: Path) -> WorkerProcess:
        """Begin ``task``, see `vidstyle.serve.worker.TASKS`; raises `OSError` where no process can be started."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "vidstyle.serve.worker", task, str(folder.absolute())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MAX_LINE,
            cwd=folder,
            env=_environment(),
            # A group of its own, to be killed as one, but not a session: Linux shares the processor out
            # by session first (autogroup), and being nice counts only inside of one.
            process_group=0,
        )
        return cls(process)

    async def lines(self, silence_seconds: float) -> AsyncIterator[WorkerLine]:
        """The worker's lines until it ends. A worker that is silent for too long, or writes nonsense, is killed:
        TimeoutError or ValueError."""
        assert self._process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(silence_seconds):
                    line = await self._process.stdout.readline()
                if not line:
                    return
                found = msgspec.json.decode(line, type=WorkerLine)
            except (TimeoutError, ValueError) as error:
                self.kill()
                raise error
            yield found

    def kill(self) -> None:
        """End the worker, and whatever it started, at once. Harmless when it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> str | None:
        """Wait for the end; how the worker died, or None where it ended by itself and well."""
        assert self._process.stdin is not None and self._process.stdout is not None
        while await self._process.stdout.read(_MAX_LINE):
            pass  # the end is only reported once the pipe is empty
        code = await self._process.wait()
        self._process.stdin.close()
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()
        if code < 0:
            return f"signal {-code}"
        return f"exit code {code}" if code else None


async def probe_video(folder: Path, spec: JobSpec, seconds: float) -> int | None:
    """The number of frames that the uploaded video in ``folder`` declares, if it does.

    A worker looks, for at most so many ``seconds``: a decoder may crash, or never end. `ApiError` 413 and 415 where
    the file is no video that may be rendered, 503.
    """
    damaged = ApiError(415, f"{spec.label} cannot be read, it seems to be damaged; convert it first")
    try:
        spec.write(folder)
        worker = await WorkerProcess.start("probe", folder)
    except OSError as error:
        raise ApiError(503, f"the server cannot work: {error.strerror}", retry_after=600) from error
    last = WorkerLine()
    try:
        async with asyncio.timeout(seconds):
            async for line in worker.lines(seconds):
                last = line
    except (TimeoutError, ValueError) as error:
        raise damaged from error
    finally:
        worker.kill()
        await worker.wait()
    if last.error is not None:
        raise ApiError(413 if last.too_much else 415, last.error)
    if not last.done:
        raise damaged
    return last.frames or None


def _environment() -> dict[str, str]:
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
    root = Path(vidstyle.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout that is used in place
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(root) + (os.pathsep + before if before else "")
    return environment
