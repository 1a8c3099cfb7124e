"""The routes of /api/jobs: paintings and videos in, styles and videos out."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Protocol

from aiohttp import web

from vidstyle.errors import BadOption, MissingDependency
from vidstyle.gallery import default_style_name, load_style
from vidstyle.options import check_between
from vidstyle.serve.answers import Handler, answering, file_answer, json_in
from vidstyle.serve.job import PREVIEW, Job
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.label import download_name
from vidstyle.serve.own_styles import PREFIX
from vidstyle.serve.refused import Refused
from vidstyle.serve.session import session_of
from vidstyle.serve.uploads import check_painting, receive
from vidstyle.serve.wanted import blend_of

MOST_PAINTING_MIB = 32
_MOST_TITLE, _MOST_NUMBER, _MOST_BLEND = 1024, 32, 4096


class UploadLimits(Protocol):
    """What the routes want to know of the server's options."""

    @property
    def upload_mib(self) -> int:
        """The largest upload; of a painting at most `MOST_PAINTING_MIB`."""


def routes(jobs: Jobs, options: UploadLimits) -> list[web.RouteDef]:
    """The handlers, to be added to an application whose `Jobs` these are."""
    api = _JobsApi(jobs, options.upload_mib << 20)
    found: list[tuple[str, str, Handler]] = [
        ("POST", "/api/jobs/adapt", api.adapt),
        ("POST", "/api/jobs/render", api.render),
        ("GET", "/api/jobs", api.list),
        ("GET", "/api/jobs/{id}", api.show),
        ("DELETE", "/api/jobs/{id}", api.delete),
        ("GET", "/api/jobs/{id}/result", api.result),
        ("GET", "/api/jobs/{id}/preview", api.preview),
        ("POST", "/api/jobs/{id}/keep", api.keep),
    ]
    return [web.route(method, path, answering(handler)) for method, path, handler in found]


def facts(jobs: Jobs, job: Job) -> dict[str, Any]:
    """A job as its visitor sees it."""
    address = f"api/jobs/{job.id}"
    has_style = f"{PREFIX}{job.id}" in jobs.own_styles()
    return {
        "id": job.id,
        "kind": job.kind,
        "title": job.title,
        "state": job.state,
        "ahead": jobs.ahead(job),
        "progress": round(job.progress, 4),
        "step": job.step,
        "steps": job.steps,
        "seconds": round(job.seconds, 1),
        "created": round(job.created, 3),
        "curve": [point._asdict() for point in job.curve],
        "message": job.message,
        "kept": job.kept,
        "style": f"{PREFIX}{job.id}" if has_style else None,
        "preview": None if job.file(PREVIEW) is None else f"{address}/preview",
        "result": None if job.result is None else f"{address}/result",
    }


class _JobsApi:
    def __init__(self, jobs: Jobs, most_bytes: int) -> None:
        self._jobs = jobs
        self._most_bytes = most_bytes

    def _job(self, request: web.Request) -> Job:
        return self._jobs.get(request.match_info["id"], session_of(request))

    def _told(self, job: Job, status: int = 200) -> web.Response:
        return web.json_response(facts(self._jobs, job), status=status)

    async def adapt(self, request: web.Request) -> web.StreamResponse:
        if importlib.util.find_spec("torch") is None:
            raise MissingDependency("making a style needs PyTorch on the server: pip install 'vidstyle[train]'")
        with self._jobs.room() as folder:
            upload = await receive(
                request,
                folder,
                file="painting",
                texts={"title": _MOST_TITLE, "steps": _MOST_NUMBER},
                most_bytes=min(MOST_PAINTING_MIB << 20, self._most_bytes),
                uploads=self._jobs.uploads,
            )
            check_painting(upload)
            steps = upload.texts.get("steps", "").strip()
            if steps and not (steps.isascii() and steps.isdigit()):
                raise BadOption(f"steps is {steps!r}; it must be a whole number")
            job = await self._jobs.submit_adapt(
                upload,
                upload.texts.get("title", "").strip(),
                int(steps) if steps else None,
                session=session_of(request),
            )
        return self._told(job, 201)

    async def render(self, request: web.Request) -> web.StreamResponse:
        with self._jobs.room() as folder:
            upload = await receive(
                request,
                folder,
                file="video",
                texts={"blend": _MOST_BLEND, "strength": _MOST_NUMBER},
                most_bytes=self._most_bytes,
                uploads=self._jobs.uploads,
            )
            style = load_style(default_style_name())
            if "blend" in upload.texts:
                style = blend_of(json_in(upload.texts["blend"]), self._jobs.own_styles())
            strength = _number("strength", upload.texts.get("strength", "1"))
            check_between("strength", strength, 0, 1)
            job = await self._jobs.submit_render(upload, style, strength, session=session_of(request))
        return self._told(job, 201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([facts(self._jobs, job) for job in self._jobs.of(session_of(request))])

    async def show(self, request: web.Request) -> web.StreamResponse:
        return self._told(self._job(request))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if job.is_over:
            self._jobs.dismiss(job)
        else:
            self._jobs.cancel(job)
        return self._told(job)

    async def keep(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        self._jobs.keep(job)
        return self._told(job)

    async def preview(self, request: web.Request) -> web.StreamResponse:
        path = self._job(request).file(PREVIEW)
        if path is None:
            raise Refused(404, "there is no preview of this job; while it works, one comes soon")
        return file_answer(request, path, {"Content-Type": "image/jpeg"})

    async def result(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        path = job.result
        if path is None:
            raise Refused(
                409 if not job.is_over else 404, f"the job is {job.state}; only one that is done has a result"
            )
        kind = "video/mp4" if job.kind == "render" else "application/octet-stream"
        headers = {"Content-Type": kind, "Content-Disposition": download_name(job.title, path.suffix)}
        return file_answer(request, path, headers)


def _number(what: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise BadOption(f"{what} is {text!r}; it must be a number") from error
    if not math.isfinite(found):
        raise BadOption(f"{what} is {text!r}; it must be a number")
    return found
