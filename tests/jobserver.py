"""A server with nothing but jobs and styles, for the tests of both."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient, TestServer

from vidstyle.gallery import load_style
from vidstyle.serve.app import Server
from vidstyle.serve.auth import SESSION_COOKIE
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.job import PREVIEW, STYLE, AdaptBudget, Job, JobLimits, new_id, owner_of
from vidstyle.serve.jobs import Jobs

JOB_SECONDS = 150.0
"""The longest wait for a job: it yields to all else on the machine, and on a busy one takes its time."""
TINY = AdaptBudget(steps=8, batch=1, size=32, style_size=32, publish_every=4, preview_width=64)
LONG = AdaptBudget(steps=1000, batch=1, size=32, style_size=32, publish_every=2, preview_width=64)


SESSION = "s" * 43


def user_job(folder: Path, *, kept: bool = False) -> str:
    """A job of `SESSION` in ``folder`` that has made a style; its id."""
    id = new_id()
    (folder / id).mkdir(parents=True)
    load_style("great_wave").save(folder / id / STYLE)
    (folder / id / PREVIEW).write_bytes(b"\xff\xd8\xff drawn by a worker")
    Job(folder / id, owner_of(SESSION), "adapt", "Mine", state="done", kept=kept, published=150).write()
    return id


@dataclass
class Served:
    """A running server and a browser."""

    jobs: Jobs
    client: Any
    server: TestServer[Any]

    def become(self, session: str) -> Served:
        """The same browser with the cookie of ``session``."""
        self.client.session.cookie_jar.update_cookies({SESSION_COOKIE: session})
        return self

    async def json(self, method: str, path: str, expected: int = 200, **request: Any) -> Any:
        """The JSON of a response whose status is ``expected``."""
        async with self.client.request(method, path, **request) as response:
            found = await response.json()
            assert response.status == expected, found
            assert expected < 400 or (set(found) == {"error"} and found["error"]), found
            return found

    async def upload(
        self, kind: str, file: Path | bytes, expected: int = 201, name: str = "a.bin", **fields: str
    ) -> Any:
        """POST a file, as a browser would."""
        data = file.read_bytes() if isinstance(file, Path) else file
        form = aiohttp.FormData(quote_fields=False)  # browsers send names as they are
        form.add_field("painting" if kind == "adapt" else "video", data, filename=name)
        for key, value in fields.items():
            form.add_field(key, value)
        return await self.json("POST", f"/api/jobs/{kind}", expected, data=form)

    async def until(self, id: str, *states: str, seconds: float = JOB_SECONDS) -> Any:
        """The job once it is in one of ``states``."""
        end = time.monotonic() + seconds
        while True:
            job = await self.json("GET", f"/api/jobs/{id}")
            if job["state"] in states:
                return job
            assert time.monotonic() < end and job["state"] in ("queued", "running"), job
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def stranger(self) -> AsyncIterator[Served]:
        """Another browser."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.server.make_url("/"), cookie_jar=jar) as client:
            yield Served(self.jobs, client, self.server)


def options_for(folder: Path, **changes: Any) -> ServeOptions:
    """Options of a server for small uploads whose jobs are in ``folder``."""
    return ServeOptions(**{"folder": folder, "max_pixels": 1 << 20, "max_seconds": 5.0, "upload_mib": 1, **changes})


@contextlib.asynccontextmanager
async def serve(
    folder: Path, *, budget: AdaptBudget = TINY, limits: JobLimits | None = None, **options: Any
) -> AsyncIterator[Served]:
    """A server whose jobs are in ``folder``, and a browser."""
    served = Server(options_for(folder, **options), budget=budget, limits=limits)
    server = TestServer(served.application())
    await served.jobs.start()
    try:
        async with TestClient(server, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            yield Served(served.jobs, client, server)
    finally:
        await served.jobs.close()
        await asyncio.to_thread(served.scheduler.close)


def files_in(folder: Path) -> set[str]:
    """The paths of all files below ``folder``, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
