"""A worker process, seen from the server: its lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import vidstyle
from vidstyle.serve.wishes import Task

_MOST_LINE = 1 << 16
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Child:
    """One worker at work on a job's folder. It ends when this process does: its input ends then."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, task: Task, folder: Path) -> Child:
        """Begin; raises `OSError` where no process can be started."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "vidstyle.serve.worker", task, str(folder.absolute())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MOST_LINE,
            cwd=folder,
            env=_environment(),
            # A group of its own, to be killed as one, but not a session: Linux shares the processor out
            # by session first (autogroup), and being nice counts only inside of one.
            process_group=0,
        )
        return cls(process)

    async def lines(self, patience: float) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it ends. It is killed when it says nothing for ``patience`` seconds, or no sense:
        then TimeoutError or ValueError."""
        assert self._process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(patience):
                    line = await self._process.stdout.readline()
                if not line:
                    return
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError("a line that is no object")
            except (TimeoutError, ValueError, RecursionError) as error:
                self.kill()
                raise (error if isinstance(error, TimeoutError) else ValueError(str(error))) from error
            yield found

    def kill(self) -> None:
        """End it, and whatever it started, at once. Harmless when it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> str | None:
        """Wait for its end; how it died, or None where it ended by itself and well."""
        assert self._process.stdin is not None and self._process.stdout is not None
        while await self._process.stdout.read(_MOST_LINE):
            pass  # the end is only told once the pipe is empty
        code = await self._process.wait()
        self._process.stdin.close()
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()
        if code < 0:
            return f"signal {-code}"
        return f"exit code {code}" if code else None


def _environment() -> dict[str, str]:
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
    root = Path(vidstyle.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout that is used in place
        there = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(root) + (os.pathsep + there if there else "")
    return environment
