"""The queue of jobs: on disk, bounded, run one after the other in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import filelock

from vidstyle.errors import BadModel, BadOption
from vidstyle.films.folder import folder_of
from vidstyle.models.style import Style
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.http import ApiError
from vidstyle.serve.job import (
    INPUT,
    MAX_MESSAGE,
    MAX_POINTS,
    RENDER_STYLE,
    SPEC,
    STATE,
    STYLE,
    VIDEO,
    AdaptBudget,
    DamagedJob,
    Job,
    JobLimits,
    JobSpec,
    JobState,
    clean_label,
    is_id,
    new_id,
    owner_of,
)
from vidstyle.serve.render_settings import USER_PREFIX, has_style
from vidstyle.serve.uploads import Upload, Uploads
from vidstyle.serve.worker_process import WorkerLine, WorkerProcess, probe_video

_log = logging.getLogger(__name__)
_SPARE_BYTES = 256 << 20  # what stays free on the disk, whatever is uploaded
_DAY, _EVICT_SECONDS = 86400.0, 3600.0
_STOPPED = "the server was stopped before this was done; submit it again"


class Jobs:
    """All jobs of a server. Use it on one event loop, between `start` and `close`."""

    def __init__(
        self, options: ServeOptions, *, budget: AdaptBudget | None = None, limits: JobLimits | None = None
    ) -> None:
        self.folder = options.folder
        self.options = options
        self.budget = budget or AdaptBudget()
        self.limits = limits or JobLimits()
        self.on_change: list[Callable[[Job], None]] = []
        """Called on the loop whenever a job has changed."""
        self.uploads = Uploads()
        self.worker: WorkerProcess | None = None
        """The worker of the job that runs."""
        self._jobs: dict[str, Job] = {}
        self._styles: dict[str, Job] = {}
        self._probes_waiting = 0
        self._wake = asyncio.Event()
        self._probing = asyncio.Semaphore(1)
        self._lock = filelock.FileLock(options.folder / ".server", mode=0o600, thread_local=False)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what an earlier server left, and begin to work. `BadOption` where the folder cannot be used."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise BadOption(f"another `vidstyle serve` has its jobs in {self.folder}; give another --folder") from error
        except OSError as error:
            raise BadOption(f"cannot keep jobs in {self.folder}: {error.strerror}; give another --folder") from error
        for path in sorted(self.folder.iterdir()):
            if is_id(path.name) and path.is_dir() and not path.is_symlink():
                self._load(path)
        self._jobs = dict(sorted(self._jobs.items(), key=lambda item: item[1].created))
        self._evict()
        self._task = asyncio.create_task(self._work(), name="vidstyle-jobs")

    def _load(self, folder: Path) -> None:
        if not (folder / STATE).exists():  # an upload that came to nothing
            shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            job = Job.read(folder)
        except DamagedJob as error:
            _log.warning("%s; it is left alone", error)
            return
        self._jobs[job.id] = job
        if job.is_over:
            self._refresh_style(job)
        else:
            self._stop(job)

    def _stop(self, job: Job) -> None:
        """Leave a job that a server has not finished: a render goes on with the next one, from the parts it has."""
        if job.kind == "render" and all(job.file(name) for name in (INPUT, SPEC, RENDER_STYLE)):
            job.state = "queued"
            self._changed(job)
        else:
            self._end(job, "failed", _STOPPED)

    async def close(self) -> None:
        """Stop working; adaptations that run or wait have failed, renders go on with the next server. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for job in [*self._jobs.values()]:
            if not job.is_over:
                self._stop(job)
        self._lock.release()

    def get(self, id: str, session: str | None = None) -> Job:
        """The job; `ApiError` 404 where there is none, or none of that session."""
        job = self._jobs.get(id)
        if job is None or (session is not None and (job.owner != owner_of(session) or job.dismissed)):
            raise ApiError(404, "there is no such job here; GET /api/jobs lists those of this session")
        return job

    def of(self, session: str) -> list[Job]:
        """The jobs of a session, the newest first."""
        owner = owner_of(session)
        return [job for job in reversed(self._jobs.values()) if job.owner == owner and not job.dismissed]

    def queue_position(self, job: Job) -> int:
        """How many jobs come before a queued one."""
        if job.state != "queued":
            return 0
        return [other for other in self._jobs.values() if other.state in ("queued", "running")].index(job)

    def counts(self) -> dict[str, int]:
        return {state: sum(job.state == state for job in self._jobs.values()) for state in get_args(JobState)}

    def user_styles(self) -> dict[str, Job]:
        """The jobs that have made a style, or are about to, by the name of the style."""
        return dict(self._styles)

    def user_style(self, name: str, session: str, *, to_change: bool = False) -> Job:
        """The job of a style if that session may have the style: its own, or a kept one that is not ``to_change``."""
        job = self._styles.get(name)
        if job is None or not (job.owner == owner_of(session) or (job.kept and not to_change)):
            raise ApiError(404, "there is no such style of this session; GET /api/styles lists all")
        return job

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Path]:
        """A new folder to upload to; removed unless a job is made of it.

        `ApiError` 429 and 503 where the queue or the disk is full: nothing need be sent then.
        """
        self._check_queue()
        id = new_id()
        folder = self.folder / id
        try:
            if shutil.disk_usage(self.folder).free < _SPARE_BYTES:
                raise ApiError(503, "the disk of the server is full; tell whoever runs it", retry_after=600)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ApiError(503, f"the server cannot keep files: {error.strerror}", retry_after=600) from error
        try:
            yield folder
        finally:
            if id not in self._jobs:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_queue(self) -> None:
        """`ApiError` 429 where the queue is full. Only what has come takes a place, not what is being uploaded."""
        waiting = sum(job.state == "queued" for job in self._jobs.values()) + self._probes_waiting
        if waiting >= self.options.queue:
            raise ApiError(429, f"the queue is full with {waiting} jobs; try again when one is done", retry_after=30)

    def submit_adapt(self, upload: Upload, title: str, steps: int | None = None, *, session: str) -> Job:
        """Make a style of an uploaded painting. `BadOption` for the steps, `ApiError` 429 where the queue is full."""
        self._check_queue()
        budget = replace(self.budget, steps=self.budget.steps if steps is None else steps)
        title = clean_label(title or upload.title)
        job = Job(upload.path.parent, owner_of(session), "adapt", title, steps=budget.steps)
        return self._submit(job, JobSpec(label=upload.label, title=title, budget=budget))

    async def submit_render(
        self, upload: Upload, style: Style, strength: float = 1.0, mask: str | None = None, *, session: str
    ) -> Job:
        """Render an uploaded video in ``style``. `ApiError` 413 and 415 where it is not a video that may be rendered,
        429 where the queue is full."""
        self._check_queue()
        options = self.options
        spec = JobSpec(label=upload.label, title=upload.title, strength=strength, mask=mask, budget=self.budget)
        spec = replace(spec, max_pixels=options.max_pixels, max_seconds=options.max_seconds)
        folder = upload.path.parent
        self._probes_waiting += 1
        try:
            async with self._probing:
                frames = await probe_video(folder, spec, self.limits.probe_seconds)
        finally:
            self._probes_waiting -= 1
        style.save(folder / RENDER_STYLE)
        return self._submit(Job(folder, owner_of(session), "render", upload.title, steps=frames), spec)

    def _submit(self, job: Job, spec: JobSpec) -> Job:
        try:
            spec.write(job.folder)
            job.write()  # once more than needed: here an error counts
        except OSError as error:
            raise ApiError(503, f"the server cannot keep files: {error.strerror}", retry_after=600) from error
        self._jobs[job.id] = job
        self._changed(job)
        self._evict()
        self._wake.set()
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job that waits or runs, and free what it has; nothing where it is over."""
        if job.is_over:
            return
        if job.state == "running" and self.worker is not None:
            self.worker.kill()
        self._end(job, "cancelled", "")

    def dismiss(self, job: Job) -> None:
        """Take a job that is over off the list. Its files go, but not a kept style."""
        if job.kept:
            job.dismissed = True
            self._changed(job)
        else:
            self.remove(job)

    def remove(self, job: Job) -> None:
        """Cancel ``job`` if need be, and delete all of it."""
        self.cancel(job)
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)
        self._changed(job)

    def keep(self, job: Job) -> None:
        """Keep the style of an adaptation for good. `ApiError` 409 where that cannot be."""
        if job.kind != "adapt" or job.state in ("failed", "cancelled"):
            raise ApiError(409, f"job {job.id} has no style to keep; only an adaptation makes one")
        kept = sum(other.charge() for other in self._jobs.values() if other.kept or other is job)
        if not job.kept and kept > self.limits.max_bytes:
            raise ApiError(409, "kept styles fill the disk space of the jobs; delete one first")
        job.kept = True
        self._changed(job)

    def rename(self, job: Job, title: str) -> None:
        """Give a job, and its style, another title."""
        job.title = clean_label(title)
        self._retitle_style(job)
        self._changed(job)

    async def _work(self) -> None:
        while True:
            job = next((job for job in self._jobs.values() if job.state == "queued"), None)
            if job is None:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _EVICT_SECONDS)
                self._evict()
                continue
            try:
                await self._run(job)
            except Exception:
                # The queue must go on, whatever happened.
                _log.exception("job %s failed in the server", job.id)
                self._end(job, "failed", "the server failed to run this job; its log has the details")

    async def _run(self, job: Job) -> None:
        job.state = "running"
        self._changed(job)
        began = time.monotonic()
        last = WorkerLine()
        problem: str | None = None
        try:
            worker = self.worker = await WorkerProcess.start(job.kind, job.folder)
        except OSError as error:
            self._end(job, "failed", f"the worker cannot be started: {error.strerror}")
            return
        try:
            async with asyncio.timeout(self.limits.job_seconds):
                async for last in worker.lines(self.limits.silence_seconds):
                    if job.state == "running":
                        job.seconds = time.monotonic() - began
                        self._update(job, last)
        except TimeoutError:
            problem = "the worker was stopped: it was silent for too long, or the job took too long"
        except ValueError:
            problem = "the worker was stopped: its output made no sense"
        finally:
            worker.kill()
            death = await worker.wait()
            self.worker = None
        if job.state != "running":  # cancelled, and perhaps removed; a file may have come after that
            self._clear(job)
            return
        job.seconds = time.monotonic() - began
        if problem is None:
            problem = last.error
        if problem is None and not last.done:
            problem = f"the worker died: {death or 'it ended before its work was done'}"
        job.state = "done"
        if problem is None and job.result is None:
            problem = "the worker is done, but its result is missing"
        self._end(job, "done" if problem is None else "failed", problem or job.message)
        self._evict()

    def _update(self, job: Job, line: WorkerLine) -> None:
        if line.step is not None:
            job.step = line.step
        if line.steps is not None:
            job.steps = line.steps
        if line.progress is not None:
            job.progress = min(1.0, line.progress)
        if line.message is not None:
            job.message = line.message[:MAX_MESSAGE]
        if line.point is not None and len(job.curve) < MAX_POINTS:
            job.curve.append(line.point)
        if line.published is not None:
            job.published = line.published
            self._changed(job)
        else:
            self._notify(job)

    def _end(self, job: Job, state: JobState, message: str) -> None:
        job.state, job.message, job.ended = state, message[:MAX_MESSAGE], time.time()
        job.kept = job.kept and state == "done"
        if state == "done":
            job.progress = 1.0
            self._retitle_style(job)
        self._clear(job)
        self._changed(job)

    def _clear(self, job: Job) -> None:
        """Delete the files that a job that is over needs no more."""
        if job.id not in self._jobs:
            shutil.rmtree(job.folder, ignore_errors=True)
            return
        unneeded = {INPUT, SPEC, RENDER_STYLE}
        shutil.rmtree(folder_of(job.folder / VIDEO), ignore_errors=True)
        with contextlib.suppress(OSError):
            for path in job.folder.iterdir():
                if path.name in unneeded or path.suffix == ".part" or (job.state != "done" and path.name != STATE):
                    path.unlink(missing_ok=True)

    def _retitle_style(self, job: Job) -> None:
        """Write the job's title into its style file."""
        path = job.file(STYLE)
        if job.kind == "adapt" and job.state == "done" and path is not None:
            with contextlib.suppress(BadModel):
                style = Style.load(path)
                if style.card.get("painting") != job.title:
                    replace(style, card={**style.card, "painting": job.title}).save(path)

    def _changed(self, job: Job) -> None:
        """Write the state of ``job``, take over its newest style, and notify."""
        if job.id in self._jobs:
            try:
                job.write()
            except OSError as error:  # the job goes on in memory; only a restart would miss it
                _log.warning("the state of job %s cannot be written: %s", job.id, error.strerror)
        self._refresh_style(job)
        self._notify(job)

    def _refresh_style(self, job: Job) -> None:
        name = USER_PREFIX + job.id
        if job.id in self._jobs and has_style(job):
            self._styles[name] = job
        else:
            self._styles.pop(name, None)

    def _notify(self, job: Job) -> None:
        for callback in [*self.on_change]:
            callback(job)

    def _evict(self) -> None:
        """Remove the oldest jobs that are over and not kept, until the rest is within the limits of age and size."""
        limits, now = self.limits, time.time()
        over = sorted((job for job in self._jobs.values() if job.is_over), key=lambda job: job.ended or job.created)
        charges = {job: job.charge() for job in over}
        loose = [job for job in over if not job.kept]
        for job in loose:
            is_old = now - (job.ended or job.created) > limits.max_age_days * _DAY
            # The newest stays: its owner has not seen the result yet.
            if is_old or (job is not loose[-1] and sum(charges.values()) > limits.max_bytes):
                del charges[job]
                self.remove(job)
