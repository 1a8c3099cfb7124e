"""The queue of jobs: on disk, bounded, done one after the other by a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidstyle.errors import BadModel
from vidstyle.models.style import Style
from vidstyle.serve.bounds import Bounds, Limits
from vidstyle.serve.child import Child
from vidstyle.serve.job import (
    INPUT,
    LOOK,
    MOST_MESSAGE,
    MOST_POINTS,
    STATE,
    STYLE,
    DamagedJob,
    Job,
    JobState,
    is_id,
    new_id,
    number,
    owner_of,
    point,
    whole_number,
)
from vidstyle.serve.label import clean_label
from vidstyle.serve.own_styles import OwnStyle, own_style
from vidstyle.serve.probing import frames_of_video
from vidstyle.serve.refused import Refused
from vidstyle.serve.tenancy import Tenancy
from vidstyle.serve.uploads import Upload, Uploads
from vidstyle.serve.wishes import WISHES, Effort, Task, Wishes

_log = logging.getLogger(__name__)
_SPARE_BYTES = 256 << 20
"""What stays free on the disk, whatever is uploaded."""


class Jobs:
    """All jobs of a server. Use it on one event loop, between `start` and `close`."""

    def __init__(
        self, folder: Path, options: Limits, *, effort: Effort | None = None, bounds: Bounds | None = None
    ) -> None:
        self.folder = folder
        self.options = options
        self.effort = effort or Effort()
        self.bounds = bounds or Bounds()
        self.on_change: list[Callable[[Job], None]] = []
        """Called on the loop whenever a job has changed."""
        self._jobs: dict[str, Job] = {}
        self._styles: dict[str, OwnStyle] = {}
        self.uploads = Uploads()
        self._looked_at = 0
        self._child: Child | None = None
        self._wake = asyncio.Event()
        self._probing = asyncio.Semaphore(1)
        self._tenancy: Tenancy | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what an earlier server left, and begin to work. `BadOption` where the folder cannot be had."""
        self._tenancy = Tenancy(self.folder)
        for path in sorted(self.folder.iterdir()):
            if is_id(path.name) and path.is_dir() and not path.is_symlink():
                self._find(path)
        self._jobs = dict(sorted(self._jobs.items(), key=lambda item: item[1].created))
        self._make_room()
        self._task = asyncio.create_task(self._work(), name="vidstyle-jobs")

    def _find(self, folder: Path) -> None:
        if not (folder / STATE).exists():  # an upload that came to nothing
            shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            job = Job.read(folder)
        except DamagedJob as error:
            _log.warning("%s; it is left alone", error)
            return
        self._jobs[job.id] = job
        if not job.is_over:
            self._end(job, "failed", "the server was stopped before this was done; ask for it again")
        self._restyle(job)

    async def close(self) -> None:
        """Stop working; what is under way or waiting has failed. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for job in [*self._jobs.values()]:
            if not job.is_over:
                self._end(job, "failed", "the server was stopped before this was done; ask for it again")
        if self._tenancy is not None:
            self._tenancy.end()
            self._tenancy = None

    def get(self, id: str, session: str | None = None) -> Job:
        """The job; `Refused` (404) where there is none, or none of that session."""
        job = self._jobs.get(id)
        if job is None or (session is not None and (job.owner != owner_of(session) or job.dismissed)):
            raise Refused(404, "there is no such job here; GET /api/jobs lists those of this session")
        return job

    def of(self, session: str) -> list[Job]:
        """The jobs of a session, the newest first."""
        owner = owner_of(session)
        return [job for job in reversed(self._jobs.values()) if job.owner == owner and not job.dismissed]

    def ahead(self, job: Job) -> int:
        """How many jobs come before a queued one."""
        if job.state != "queued":
            return 0
        before = [other for other in self._jobs.values() if other.state in ("queued", "running")]
        return before.index(job)

    def counts(self) -> dict[str, int]:
        """Jobs by state, for metrics."""
        counts = dict.fromkeys(("queued", "running", "done", "failed", "cancelled"), 0)
        for job in self._jobs.values():
            counts[job.state] += 1
        return counts

    def own_styles(self) -> dict[str, OwnStyle]:
        """Every style made here, by name: the newest there is of each."""
        return dict(self._styles)

    def own_style(self, name: str, session: str, *, to_change: bool = False) -> OwnStyle:
        """The style called ``name`` if that session may have it: its own, or a kept one that is not ``to_change``."""
        style = self._styles.get(name)
        mine = style is not None and style.owner == owner_of(session)
        if style is None or not (mine or style.kept) or (to_change and not mine):
            raise Refused(404, "there is no such style of this session; GET /api/styles lists all")
        return style

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """A new folder to upload to; it goes unless a job is made of it.

        `Refused` (429, 503) where the queue or the disk is full: nothing need be sent then.
        """
        self._check_queue()
        id = new_id()
        folder = self.folder / id
        try:
            if shutil.disk_usage(self.folder).free < _SPARE_BYTES:
                raise Refused(503, "the disk of the server is full; tell whoever runs it", {"Retry-After": "600"})
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise Refused(503, f"the server cannot keep files: {error.strerror}", {"Retry-After": "600"}) from error
        try:
            yield folder
        finally:
            if id not in self._jobs:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_queue(self) -> None:
        """`Refused` (429) where as many jobs wait as may. Only what is here takes a place, not what is coming."""
        waiting = sum(job.state == "queued" for job in self._jobs.values()) + self._looked_at
        if waiting >= self.options.queue:
            raise Refused(
                429,
                f"{waiting} jobs are waiting, which is as many as may; try again when one is done",
                {"Retry-After": "30"},
            )

    async def submit_adapt(self, upload: Upload, title: str, steps: int | None = None, *, session: str) -> Job:
        """Make a style of an uploaded painting. `BadOption` for the steps, `Refused` (429) where the queue is full."""
        self._check_queue()
        effort = replace(self.effort, steps=self.effort.steps if steps is None else steps)
        title = clean_label(title or upload.label)
        job = Job(upload.path.parent, owner_of(session), "adapt", title, steps=effort.steps)
        return self._submit(job, Wishes(label=upload.name, title=title, effort=effort))

    async def submit_render(self, upload: Upload, style: Style, strength: float = 1.0, *, session: str) -> Job:
        """Render an uploaded video in ``style``. `Refused` (413, 415) where it is none that may be, 429 where the queue
        is full."""
        self._check_queue()
        wishes = Wishes(
            label=upload.name,
            title=upload.label,
            strength=strength,
            most_pixels=self.options.most_pixels,
            most_seconds=self.options.most_seconds,
            effort=self.effort,
        )
        folder = upload.path.parent
        self._looked_at += 1
        try:
            async with self._probing:
                frames = await frames_of_video(folder, wishes, self.bounds.probe_seconds)
        finally:
            self._looked_at -= 1
        style.save(folder / LOOK)
        job = Job(folder, owner_of(session), "render", upload.label, steps=frames)
        return self._submit(job, wishes)

    def _submit(self, job: Job, wishes: Wishes) -> Job:
        try:
            wishes.write(job.folder)
            job.write()
        except OSError as error:
            raise Refused(503, f"the server cannot keep files: {error.strerror}", {"Retry-After": "600"}) from error
        self._jobs[job.id] = job
        self._restyle(job)
        self._make_room()
        self._wake.set()
        self._tell(job)
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job that waits or runs, and free what it has; nothing where it is over."""
        if job.is_over:
            return
        if job.state == "running" and self._child is not None:
            self._child.kill()
        self._end(job, "cancelled", "")

    def dismiss(self, job: Job) -> None:
        """Have a job that is over out of the list. Its files go, but not a style that is kept."""
        if job.kept:
            job.dismissed = True
            self._save(job)
            self._tell(job)
        else:
            self.remove(job)

    def remove(self, job: Job) -> None:
        """End it if need be, and leave nothing of it."""
        self.cancel(job)
        self._jobs.pop(job.id, None)
        self._restyle(job)
        shutil.rmtree(job.folder, ignore_errors=True)
        self._tell(job)

    def keep(self, job: Job) -> None:
        """Have the style of an adaptation stay for good. `Refused` (409) where it cannot."""
        if job.kind != "adapt" or job.state in ("failed", "cancelled"):
            raise Refused(409, f"job {job.id} has no style to keep; only an adaptation makes one")
        kept = sum(other.kept for other in self._jobs.values())
        if not job.kept and kept >= self.bounds.most_kept:
            raise Refused(409, f"{kept} styles are kept here, as many as may be; delete one first")
        job.kept = True
        self._save(job)
        self._restyle(job)
        self._tell(job)

    def rename(self, job: Job, title: str) -> None:
        """Call it otherwise, its style too."""
        job.title = clean_label(title)
        self._sign(job)
        self._save(job)
        self._restyle(job)
        self._tell(job)

    async def _work(self) -> None:
        while True:
            job = next((job for job in self._jobs.values() if job.state == "queued"), None)
            if job is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._run(job)
            except Exception:
                # The queue must go on, whatever it was.
                _log.exception("job %s failed in the server", job.id)
                self._end(job, "failed", "the server made a mistake with this job; its log says which")

    async def _run(self, job: Job) -> None:
        job.state = "running"
        self._save(job)
        self._tell(job)
        began = time.monotonic()
        last: dict[str, Any] = {}
        problem: str | None = None
        task: Task = "adapt" if job.kind == "adapt" else "render"
        try:
            child = self._child = await Child.start(task, job.folder)
        except OSError as error:
            self._end(job, "failed", f"the worker cannot be started: {error.strerror}")
            return
        try:
            async with asyncio.timeout(self.bounds.job_seconds):
                async for last in child.lines(self.bounds.patience):
                    if job.state == "running":
                        job.seconds = time.monotonic() - began
                        self._take(job, last)
        except TimeoutError:
            problem = "the worker was stopped: it had not said anything for too long, or the job took too long"
        except ValueError:
            problem = "the worker was stopped: what it said made no sense"
        finally:
            child.kill()
            death = await child.ended()
            self._child = None
        if job.state != "running":  # cancelled, and perhaps removed; a file may have come after that
            self._clear(job)
            return
        job.seconds = time.monotonic() - began
        if problem is None and isinstance(last.get("error"), str):
            problem = last["error"]
        elif problem is None and last.get("done") is not True:
            problem = f"the worker died: {death or 'it ended before its work was done'}"
        job.state = "done"
        if problem is None and job.result is None:
            problem = "the worker is done, but what it should have made is not there"
        self._end(job, "done" if problem is None else "failed", problem or job.message)
        self._make_room()

    def _take(self, job: Job, line: dict[str, Any]) -> None:
        """What a worker said. ValueError where it makes no sense: it has read what a stranger sent."""
        try:
            if "step" in line:
                job.step = whole_number(line["step"])
            if line.get("steps") is not None:
                job.steps = whole_number(line["steps"])
            if "progress" in line:
                job.progress = min(1.0, number(line["progress"]))
            if "message" in line:
                job.message = str(line["message"])[:MOST_MESSAGE]
            if "point" in line and len(job.curve) < MOST_POINTS:
                job.curve.append(point(line["point"]))
            if "published" in line:
                job.published = whole_number(line["published"])
                self._save(job)
                self._restyle(job)
        except TypeError as error:
            raise ValueError("a line that makes no sense") from error
        self._tell(job)

    def _end(self, job: Job, state: JobState, message: str) -> None:
        job.state, job.message, job.ended = state, message[:MOST_MESSAGE], time.time()
        job.kept = job.kept and state == "done"
        if state == "done":
            job.progress = 1.0
            self._sign(job)
        self._clear(job)
        self._save(job)
        self._restyle(job)
        self._tell(job)

    def _clear(self, job: Job) -> None:
        """Free what a job that is over needs no more."""
        if job.id not in self._jobs:
            shutil.rmtree(job.folder, ignore_errors=True)
            return
        over = {INPUT, WISHES, LOOK}
        with contextlib.suppress(OSError):
            for path in job.folder.iterdir():
                if path.name in over or path.suffix == ".part" or (job.state != "done" and path.name != STATE):
                    path.unlink(missing_ok=True)

    def _sign(self, job: Job) -> None:
        """Have the style file say what it is called."""
        path = job.file(STYLE)
        if job.kind == "adapt" and job.state == "done" and path is not None:
            with contextlib.suppress(BadModel):
                style = Style.load(path)
                if style.card.get("painting") != job.title:
                    replace(style, card={**style.card, "painting": job.title}).save(path)

    def _restyle(self, job: Job) -> None:
        style = own_style(job) if job.id in self._jobs else None
        for name in [name for name, known in self._styles.items() if known.job == job.id]:
            if style is None:
                del self._styles[name]
        if style is not None:
            self._styles[style.name] = style

    def _save(self, job: Job) -> None:
        if job.id in self._jobs:
            try:
                job.write()
            except OSError as error:  # it goes on in memory; only a restart would miss it
                _log.warning("the state of job %s cannot be kept: %s", job.id, error.strerror)

    def _tell(self, job: Job) -> None:
        for callback in [*self.on_change]:
            callback(job)

    def _make_room(self) -> None:
        """Have the oldest go of what is over and not kept, until the rest is within the bounds."""
        over = sorted((j for j in self._jobs.values() if j.is_over and not j.kept), key=lambda j: j.ended or j.created)
        sizes = [job.size() for job in over]
        while len(over) > 1 and (len(over) > self.bounds.most_over or sum(sizes) > self.bounds.most_bytes):
            sizes.pop(0)
            self.remove(over.pop(0))
