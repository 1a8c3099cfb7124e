"""The routes of /api/styles: what there is to paint with, and what visitors do with their own."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style, style_names, thumbnail
from vidstyle.serve.answers import Handler, answering, file_answer, json_object
from vidstyle.serve.job import PREVIEW, STYLE, owner_of
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.label import download_name
from vidstyle.serve.own_styles import OwnStyle
from vidstyle.serve.refused import Refused
from vidstyle.serve.session import session_of

_UNPAINTED = PHOTOS / "china.jpg"
"""What the thumbnails show, before anything is painted."""
_NAME = "{name:[^/]+(?:/[^/]+)?}"


def routes(jobs: Jobs) -> list[web.RouteDef]:
    """The handlers, to be added to an application whose `Jobs` these are."""
    api = _StylesApi(jobs)
    found: list[tuple[str, str, Handler]] = [
        ("GET", "/api/styles", api.list),
        ("GET", f"/api/styles/{_NAME}/thumbnail", api.thumbnail),
        ("GET", f"/api/styles/{_NAME}/download", api.download),
        ("PATCH", f"/api/styles/{_NAME}", api.rename),
        ("DELETE", f"/api/styles/{_NAME}", api.delete),
    ]
    return [web.route(method, path, answering(handler)) for method, path, handler in found]


class _StylesApi:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._shipped = [_shipped(name) for name in style_names()]
        self._names = {str(facts["name"]) for facts in self._shipped}

    async def list(self, request: web.Request) -> web.StreamResponse:
        owner = owner_of(session_of(request))
        own = [s for s in self._jobs.own_styles().values() if s.kept or s.owner == owner]
        return web.json_response([*self._shipped, *(_own(style, owner) for style in own)])

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = thumbnail(name) if name in self._names else None
        if name not in self._names:
            path = self._jobs.get(self._own(request).job).file(PREVIEW) or _UNPAINTED
        if path is None:
            raise Refused(404, f"style {name!r} has no thumbnail")
        return file_answer(request, path, {"Content-Type": "image/jpeg"})

    async def download(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name in self._names:
            raise Refused(404, f"style {name!r} comes with vidstyle: there is nothing to download")
        style = self._own(request)
        path = self._jobs.get(style.job).file(STYLE)
        if path is None:
            raise Refused(409, "nothing of this style has been learned yet; wait for its first step")
        disposition = download_name(style.title, path.suffix)
        headers = {"Content-Type": "application/octet-stream", "Content-Disposition": disposition}
        return file_answer(request, path, headers)

    async def rename(self, request: web.Request) -> web.StreamResponse:
        style = self._own(request, to_change=True)
        found = await json_object(request)
        if set(found) != {"title"} or not isinstance(found["title"], str) or not found["title"].strip():
            raise Refused(400, 'send {"title": "..."} with a title that is not empty, and nothing else')
        # It may have been deleted while the request was read.
        style = self._own(request, to_change=True)
        self._jobs.rename(self._jobs.get(style.job), found["title"])
        style = self._own(request, to_change=True)
        return web.json_response(_own(style, style.owner))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        style = self._own(request, to_change=True)
        self._jobs.remove(self._jobs.get(style.job))
        return web.json_response({"name": style.name, "deleted": True})

    def _own(self, request: web.Request, *, to_change: bool = False) -> OwnStyle:
        name = request.match_info["name"]
        if to_change and name in self._names:
            raise Refused(403, f"style {name!r} comes with vidstyle and cannot be changed")
        return self._jobs.own_style(name, session_of(request), to_change=to_change)


def _shipped(name: str) -> dict[str, Any]:
    style = load_style(name)
    card = style.card
    return {
        "name": name,
        "title": card.get("painting") or name,
        "painter": card.get("painter"),
        "year": card.get("year"),
        "licence": card.get("licence"),
        "network": style.network_name,
        "thumbnail": f"api/styles/{name}/thumbnail",
        "mine": False,
        "kept": True,
        "job": None,
        "step": None,
    }


def _own(style: OwnStyle, owner: str) -> dict[str, Any]:
    return {
        "name": style.name,
        "title": style.title,
        "painter": None,
        "year": None,
        "licence": None,
        "network": style.network_name,
        # Another address for each picture, so that a page which shows it sees it improve.
        "thumbnail": f"api/styles/{style.name}/thumbnail?step={-1 if style.step is None else style.step}",
        "mine": style.owner == owner,
        "kept": style.kept,
        "job": style.job if style.owner == owner else None,
        "step": style.step,
    }
