"""How a visitor wants the picture: a blend of styles, shipped or made here, strength, split and mirror."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import DEFAULT_NETWORK, DEFAULT_STYLE, load_style, shared_network, style_names
from vidstyle.models.style import Style, blend
from vidstyle.options import check_between
from vidstyle.serve.job import STYLE, Job

MAX_STYLES = 4
"""Of a blend."""
USER_PREFIX = "mine/"
"""Prefix of the names of user styles; the id of the job follows."""
_KEYS = ("blend", "strength", "split", "mirror")


@dataclass(frozen=True, eq=False)
class UserStyle:
    """A style that a visitor made here; while it is learned, its newest version."""

    name: str
    """``mine/ID``."""
    title: str
    path: Path | None
    """The style file; None before the first step, when the style is the shared network, which paints no painting."""
    job: str
    """Id of the adaptation that makes, or made, it."""
    step: int | None
    """The step that the file is of; None before the first."""
    network_name: str = DEFAULT_NETWORK
    owner: str = ""
    """`vidstyle.serve.job.owner_of` the session that submitted the painting."""
    kept: bool = False
    """Whether it stays for good, and is seen by all."""

    def style(self) -> Style:
        """The style to paint with, or to blend; `BadOption` where its file is gone."""
        if self.path is None:
            return Style.of(self.title, shared_network(self.network_name))
        try:
            return replace(_load(self.path), name=self.title)
        except BadModel as error:
            raise BadOption(f"style {self.title!r} is not there any more") from error


def user_style(job: Job) -> UserStyle | None:
    """The style of an adaptation; None where it has come to nothing.

    A file that is damaged, or of another version of the network, is no style.
    """
    if job.kind != "adapt" or job.state in ("failed", "cancelled"):
        return None
    path = job.file(STYLE)
    if path is not None:
        try:
            style = _load(path)
        except BadModel:
            return None
        if style.theta != shared_network(DEFAULT_NETWORK).digest:
            return None
    elif job.is_over:
        return None
    step = None if path is None else job.published
    return UserStyle(USER_PREFIX + job.id, job.title, path, job.id, step, owner=job.owner, kept=job.kept)


def _load(path: Path) -> Style:
    """The style in a file. Few stay in memory: a whole network has a megabyte, and there may be hundreds."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror or error}") from error
    return _load_version(path, found.st_ino, found.st_mtime_ns)


@lru_cache(16)
def _load_version(path: Path, inode: int, changed: int) -> Style:
    """One object for each content: what has been computed of a style is found again by the object."""
    return Style.load(path)


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """Checked settings. `changed` makes new ones of them."""

    blend: tuple[tuple[str, float], ...]
    """Names and weights, as requested."""
    style: Style
    """The blended style of this moment; one that is being learned becomes another one later."""
    strength: float = 1.0
    """Mix with the source: 0 is the source, 1 the painting."""
    split: bool = False
    """Whether the left half is the source."""
    mirror: bool = False
    """Whether left and right are exchanged."""

    def changed(self, changes: Mapping[str, Any], user_styles: Mapping[str, UserStyle]) -> RenderSettings:
        """The settings with ``changes``, an object out of JSON. `BadOption` says what is wrong with them."""
        settings = self
        for key, value in changes.items():
            if key == "blend":
                style = parse_blend(value, user_styles)
                settings = replace(
                    settings, style=style, blend=tuple((p["style"], float(p.get("weight", 1))) for p in value)
                )
            elif key == "strength":
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise BadOption("strength is a number from 0 to 1")
                check_between("strength", value, 0, 1)
                settings = replace(settings, strength=float(value))
            elif key in ("split", "mirror"):
                if not isinstance(value, bool):
                    raise BadOption(f"{key} is true or false")
                settings = replace(settings, split=value) if key == "split" else replace(settings, mirror=value)
            else:
                raise BadOption(f"a look has no {key[:40]!r}; it has {', '.join(_KEYS)}")
        return settings

    def refreshed(self, user_styles: Mapping[str, UserStyle]) -> RenderSettings:
        """The settings with the newest version of each style; the same object where none is new, or one is gone."""
        if not any(name.startswith(USER_PREFIX) for name, _ in self.blend):
            return self
        try:
            newer = self.changed({"blend": self.facts()["blend"]}, user_styles)
        except BadOption:
            return self
        return self if newer.style.parts == self.style.parts else newer

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "blend": [{"style": name, "weight": weight} for name, weight in self.blend],
            "strength": self.strength,
            "split": self.split,
            "mirror": self.mirror,
        }


def default_settings() -> RenderSettings:
    """The settings of a client that asks for none."""
    name = DEFAULT_STYLE
    return RenderSettings(blend=((name, 1.0),), style=load_style(name))


def parse_blend(value: Any, user_styles: Mapping[str, UserStyle]) -> Style:
    """The blend in ``value``: JSON like ``[{"style": "great_wave", "weight": 0.7}, ...]``.

    Names are those of shipped styles and of ``user_styles``; never paths. `BadOption` says what is wrong.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STYLES:
        raise BadOption(f'a blend is a list of 1 to {MAX_STYLES} styles: [{{"style": NAME, "weight": NUMBER}}, ...]')
    weighted: list[tuple[Style, float]] = []
    shipped = style_names()
    for part in value:
        if not isinstance(part, dict) or not set(part) <= {"style", "weight"} or "style" not in part:
            raise BadOption('a part of a blend is {"style": NAME, "weight": NUMBER}, and nothing else')
        name, weight = part["style"], part.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise BadOption("the weight of a style is a number from 0 to 1000")
        check_between("weight", weight, 0, 1000)
        if isinstance(name, str) and name in user_styles:
            weighted.append((user_styles[name].style(), weight))
        elif isinstance(name, str) and name in shipped:
            weighted.append((load_style(name), weight))
        else:
            raise BadOption(f"there is no style {str(name)[:60]!r} here; GET /api/styles lists all")
    return blend(weighted)
