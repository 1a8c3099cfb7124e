"""Every route of the server: the page, its state, the visitors, the jobs and the styles."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from aiohttp import web
from msgspec import Meta

import vidstyle
from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.gallery import DEFAULT_NETWORK, DEFAULT_STYLE, load_style, style_names, style_path, thumbnail
from vidstyle.options import check_choice
from vidstyle.serve.auth import session_of
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.decoder import MAX_PIXELS
from vidstyle.serve.http import ApiError, file_response, parse_json, read_json
from vidstyle.serve.job import PREVIEW, STYLE, Job, download_name, owner_of
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.render_settings import USER_PREFIX, Blend, MaskName, SettingsChange, blend_styles
from vidstyle.serve.uploads import check_painting
from vidstyle.serve.webrtc import MAX_SDP_BYTES, Offer, PeerSessions
from vidstyle.web.site import shared_page

PAGE = Path(__file__).parent / "page"
_UNPAINTED = PHOTOS / "china.jpg"  # the thumbnail of a style before its first preview
_STYLE = "/api/styles/{name:[^/]+(?:/[^/]+)?}"
_NOTHING_LEARNED = "nothing of this style has been learned yet; wait for its first step"
_MAX_PAINTING = 32 << 20
_MAX_TITLE, _MAX_NUMBER, _MAX_BLEND = 1024, 32, 4096


class _TitleChange(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(pattern=r"\S")]


def routes(options: ServeOptions, jobs: Jobs, peers: PeerSessions) -> list[web.RouteDef]:
    """The routes of an application. Adding one takes a line here, a method below, and a row in docs/serve.md."""
    api = _Api(options, jobs, peers)
    return [
        web.get("/", api.page),
        web.get("/page/{name}", api.page_part),
        web.get("/health", api.health),
        web.get("/metrics", api.metrics),
        web.get("/api/state", api.state),
        web.post("/api/visitors", api.add_visitor),
        web.get("/api/visitors/{id}", api.show_visitor),
        web.patch("/api/visitors/{id}", api.change_visitor),
        web.delete("/api/visitors/{id}", api.remove_visitor),
        web.post("/api/jobs/adapt", api.adapt),
        web.post("/api/jobs/render", api.render),
        web.get("/api/jobs", api.list_jobs),
        web.get("/api/jobs/{id}", api.show_job),
        web.delete("/api/jobs/{id}", api.delete_job),
        web.get("/api/jobs/{id}/result", api.job_result),
        web.get("/api/jobs/{id}/preview", api.job_preview),
        web.post("/api/jobs/{id}/keep", api.keep_job),
        web.get("/api/styles", api.list_styles),
        web.get(f"{_STYLE}/thumbnail", api.style_thumbnail),
        web.get(f"{_STYLE}/weights", api.style_weights),
        web.get(f"{_STYLE}/download", api.download_style),
        web.patch(_STYLE, api.rename_style),
        web.delete(_STYLE, api.delete_style),
    ]


class _Api:
    def __init__(self, options: ServeOptions, jobs: Jobs, peers: PeerSessions) -> None:
        self._options, self._jobs, self._peers = options, jobs, peers
        self._page_parts = {path.name: path for path in (*shared_page(), *PAGE.iterdir())}
        self._shipped = {name: _shipped_style(name) for name in style_names()}

    async def page(self, request: web.Request) -> web.StreamResponse:
        return file_response(request, PAGE / "index.html")

    async def page_part(self, request: web.Request) -> web.StreamResponse:
        path = self._page_parts.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return file_response(request, path)

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": self._peers.open, "version": vidstyle.__version__})

    async def state(self, request: web.Request) -> web.StreamResponse:
        options, source = self._options, self._peers.source
        facts = {
            "version": vidstyle.__version__,
            "backend": self._peers.scheduler.description,
            "source": source is not None,
            "source_description": None if source is None else source.public_description,
            "token_needed": options.token is not None,
            "visitors": len(self._peers),
            "limits": {
                "visitors": options.visitors,
                "size": [options.size[1], options.size[0]],
                "camera_pixels": MAX_PIXELS,
                "upload_mib": options.upload_mib,
                "painting_mib": min(options.upload_mib, _MAX_PAINTING >> 20),
                "video_pixels": options.max_pixels,
                "video_seconds": options.max_seconds,
                "queue": options.queue,
            },
        }
        return web.json_response(facts)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Figures as Prometheus reads them."""
        peers, lines = self._peers, list[str]()
        facts = [peer.facts() for peer in peers]
        latencies = [found["latency_ms"] / 1000 for found in facts if found["latency_ms"] is not None]

        def add(name: str, kind: str, help: str, value: float | dict[str, int]) -> None:
            lines.extend((f"# HELP vidstyle_{name} {help}", f"# TYPE vidstyle_{name} {kind}"))
            values = value if isinstance(value, dict) else {"": value}
            lines.extend(f"vidstyle_{name}{label} {value:g}" for label, value in values.items())

        add("visitors", "gauge", "Visitors who are here.", len(peers))
        add("visitors_most", "gauge", "Visitors who may be here at once.", self._options.visitors)
        add("visitors_total", "counter", "Visitors who have come.", peers.accepted)
        add("visitors_refused_total", "counter", "Visitors for whom there was no room.", peers.refused)
        add("frames_painted_total", "counter", "Live pictures painted.", peers.scheduler.painted)
        add("frames_dropped_total", "counter", "Live pictures that a newer one replaced.", peers.dropped)
        add("fps", "gauge", "Live pictures a second, of all visitors.", sum(found["fps"] for found in facts))
        latency = "Median from arrival to hand-over, of the visitor who waits longest."
        add("latency_seconds", "gauge", latency, max(latencies, default=0.0))
        jobs = {f'{{state="{state}"}}': count for state, count in self._jobs.counts().items()}
        add("jobs", "gauge", "Jobs by state.", jobs)
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(text="\n".join(lines) + "\n", headers=headers)

    async def add_visitor(self, request: web.Request) -> web.StreamResponse:
        offer = await read_json(request, Offer, max_bytes=MAX_SDP_BYTES + (MAX_SDP_BYTES >> 1))
        peer, answer = await self._peers.add(offer)
        facts = {"id": peer.id, "type": "answer", "sdp": answer, "look": peer.mailbox.settings.facts()}
        if request.transport is None:  # the page was left while the offer was answered
            await self._peers.remove(peer)
        return web.json_response(facts, status=201)

    async def show_visitor(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._peers.get(request.match_info["id"]).facts())

    async def change_visitor(self, request: web.Request) -> web.StreamResponse:
        self._peers.get(request.match_info["id"])
        change = await read_json(request, SettingsChange)
        peer = self._peers.get(request.match_info["id"])  # it may have left while the request was read
        peer.mailbox.settings = settings = peer.mailbox.settings.changed(change, self._jobs.user_styles())
        return web.json_response(settings.facts())

    async def remove_visitor(self, request: web.Request) -> web.StreamResponse:
        peer = self._peers.get(request.match_info["id"])
        with contextlib.suppress(TimeoutError):
            await self._peers.remove(peer)
        return web.json_response({"id": peer.id, "left": True})

    async def adapt(self, request: web.Request) -> web.StreamResponse:
        if importlib.util.find_spec("torch") is None:
            raise MissingDependency("making a style needs PyTorch on the server: pip install 'vidstyle[train]'")
        with self._jobs.reserve() as folder:
            texts = {"title": _MAX_TITLE, "steps": _MAX_NUMBER}
            limit = min(_MAX_PAINTING, self._options.upload_mib << 20)
            upload = await self._jobs.uploads.receive(request, folder, field="painting", texts=texts, max_bytes=limit)
            check_painting(upload)
            steps = upload.texts.get("steps", "").strip()
            if steps and not (steps.isascii() and steps.isdigit()):
                raise BadOption(f"steps is {steps!r}; it must be a whole number")
            title = upload.texts.get("title", "").strip()
            job = self._jobs.submit_adapt(upload, title, int(steps) if steps else None, session=session_of(request))
        return web.json_response(self._job_facts(job), status=201)

    async def render(self, request: web.Request) -> web.StreamResponse:
        with self._jobs.reserve() as folder:
            texts = {"blend": _MAX_BLEND, "strength": _MAX_NUMBER, "mask": _MAX_NUMBER}
            limit = self._options.upload_mib << 20
            upload = await self._jobs.uploads.receive(request, folder, field="video", texts=texts, max_bytes=limit)
            style = load_style(DEFAULT_STYLE)
            if "blend" in upload.texts:
                style = blend_styles(parse_json(upload.texts["blend"], Blend), self._jobs.user_styles())
            strength = _parse_number("strength", upload.texts.get("strength", "1"))
            mask = upload.texts.get("mask", "none")
            check_choice("mask", mask, get_args(MaskName))
            chosen = None if mask == "none" else mask
            job = await self._jobs.submit_render(upload, style, strength, chosen, session=session_of(request))
        return web.json_response(self._job_facts(job), status=201)

    async def list_jobs(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([self._job_facts(job) for job in self._jobs.of(session_of(request))])

    async def show_job(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._job_facts(self._job(request)))

    async def delete_job(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if job.is_over:
            self._jobs.dismiss(job)
        else:
            self._jobs.cancel(job)
        return web.json_response(self._job_facts(job))

    async def keep_job(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        self._jobs.keep(job)
        return web.json_response(self._job_facts(job))

    async def job_preview(self, request: web.Request) -> web.StreamResponse:
        path = self._job(request).file(PREVIEW)
        if path is None:
            raise ApiError(404, "this job has no preview; while it runs, one comes soon")
        return file_response(request, path, {"Content-Type": "image/jpeg"})

    async def job_result(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        path = job.result
        if path is None:
            status = 404 if job.is_over else 409
            raise ApiError(status, f"the job is {job.state}; only one that is done has a result")
        kind = "video/mp4" if job.kind == "render" else "application/octet-stream"
        disposition = download_name(job.title, path.suffix)
        return file_response(request, path, {"Content-Type": kind, "Content-Disposition": disposition})

    async def list_styles(self, request: web.Request) -> web.StreamResponse:
        owner = owner_of(session_of(request))
        visible = [job for job in self._jobs.user_styles().values() if job.kept or job.owner == owner]
        return web.json_response([*self._shipped.values(), *(_user_style(job, owner) for job in visible)])

    async def style_thumbnail(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = thumbnail(name) if name in self._shipped else self._user_style(request).file(PREVIEW) or _UNPAINTED
        if path is None:
            raise ApiError(404, f"style {name!r} has no thumbnail")
        return file_response(request, path, {"Content-Type": "image/jpeg"})

    async def style_weights(self, request: web.Request) -> web.StreamResponse:
        """The file of a style, for visitors whose own devices paint; of a user style the newest there is."""
        name = request.match_info["name"]
        path = style_path(name) if name in self._shipped else self._user_style(request).file(STYLE)
        if path is None:
            raise ApiError(409, _NOTHING_LEARNED)
        return file_response(request, path, {"Content-Type": "application/octet-stream"})

    async def download_style(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name in self._shipped:
            raise ApiError(404, f"style {name!r} comes with vidstyle: there is nothing to download")
        job = self._user_style(request)
        path = job.file(STYLE)
        if path is None:
            raise ApiError(409, _NOTHING_LEARNED)
        disposition = download_name(job.title, path.suffix)
        headers = {"Content-Type": "application/octet-stream", "Content-Disposition": disposition}
        return file_response(request, path, headers)

    async def rename_style(self, request: web.Request) -> web.StreamResponse:
        self._user_style(request, to_change=True)
        change = await read_json(request, _TitleChange)
        job = self._user_style(request, to_change=True)  # it may have been deleted while the request was read
        self._jobs.rename(job, change.title)
        return web.json_response(_user_style(job, job.owner))

    async def delete_style(self, request: web.Request) -> web.StreamResponse:
        self._jobs.remove(self._user_style(request, to_change=True))
        return web.json_response({"name": request.match_info["name"], "deleted": True})

    def _job(self, request: web.Request) -> Job:
        return self._jobs.get(request.match_info["id"], session_of(request))

    def _user_style(self, request: web.Request, *, to_change: bool = False) -> Job:
        name = request.match_info["name"]
        if to_change and name in self._shipped:
            raise ApiError(403, f"style {name!r} comes with vidstyle and cannot be changed")
        return self._jobs.user_style(name, session_of(request), to_change=to_change)

    def _job_facts(self, job: Job) -> dict[str, Any]:
        """A job as its owner sees it."""
        style = f"{USER_PREFIX}{job.id}"
        names = ("id", "kind", "title", "state", "step", "steps", "message", "kept")
        return {name: getattr(job, name) for name in names} | {
            "ahead": self._jobs.queue_position(job),
            "progress": round(job.progress, 4),
            "seconds": round(job.seconds, 1),
            "created": round(job.created, 3),
            "curve": [point._asdict() for point in job.curve],
            "style": style if style in self._jobs.user_styles() else None,
            "preview": None if job.file(PREVIEW) is None else f"api/jobs/{job.id}/preview",
            "result": None if job.result is None else f"api/jobs/{job.id}/result",
        }


def _shipped_style(name: str) -> dict[str, Any]:
    style = load_style(name)
    facts = {key: style.card.get(key) for key in ("painter", "year", "licence")}
    facts |= {"name": name, "title": style.card.get("painting") or name, "network": style.network_name}
    facts |= {"thumbnail": f"api/styles/{name}/thumbnail", "mine": False, "kept": True, "job": None, "step": None}
    return facts


def _user_style(job: Job, owner: str) -> dict[str, Any]:
    """The style of ``job`` as ``owner`` sees it."""
    name, is_own = USER_PREFIX + job.id, job.owner == owner
    # Another address for each picture, so that a page which shows it sees it improve.
    thumbnail = f"api/styles/{name}/thumbnail?step={-1 if job.published is None else job.published}"
    facts: dict[str, Any] = dict.fromkeys(("painter", "year", "licence"))
    facts |= {"name": name, "title": job.title, "network": DEFAULT_NETWORK, "thumbnail": thumbnail}
    facts |= {"mine": is_own, "kept": job.kept, "job": job.id if is_own else None, "step": job.published}
    return facts


def _parse_number(name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise BadOption(f"{name} is {text!r}; it must be a number")
    return found
