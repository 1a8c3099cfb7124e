"""How a visitor wants the picture: a blend of styles, shipped or made here, strength, mask, split and mirror."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import DEFAULT_NETWORK, DEFAULT_STYLE, load_style, shared_network, style_names
from vidstyle.models.style import Style, blend
from vidstyle.models.timeline import FADE_SECONDS
from vidstyle.serve.job import STYLE, Job

MAX_STYLES = 4
MaskName = Literal["none", "person", "background"]
USER_PREFIX = "mine/"
"""Prefix of the names of user styles, which visitors make here; the id of the job follows."""


def has_style(job: Job) -> bool:
    """Whether ``job`` is an adaptation that has made a style, or is about to.

    A file that is damaged, or of another version of the network, is no style.
    """
    if job.kind != "adapt" or job.state in ("failed", "cancelled"):
        return False
    path = job.file(STYLE)
    if path is None:
        return not job.is_over
    try:
        return _load(path).theta == shared_network(DEFAULT_NETWORK).digest
    except BadModel:
        return False


def user_style(job: Job) -> Style:
    """The newest version of the style that ``job`` makes, or made; `BadOption` where its file is gone.

    Before the first step it is the shared network, which paints no painting.
    """
    path = job.file(STYLE)
    if path is None and not job.is_over:
        return Style.of(job.title, shared_network(DEFAULT_NETWORK))
    try:
        if path is None:
            raise BadModel(f"{job.folder} holds no style")
        return replace(_load(path), name=job.title)
    except BadModel as error:
        raise BadOption(f"style {job.title!r} is not there any more") from error


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


class BlendPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A style of a blend."""

    style: str
    """Name of a shipped style, or of a user style; never a path."""
    weight: Annotated[float, Meta(ge=0, le=1000)] = 1.0


Blend = Annotated[tuple[BlendPart, ...], Meta(min_length=1, max_length=MAX_STYLES)]


class SettingsChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that a client wants to change, as JSON."""

    blend: Blend | UnsetType = UNSET
    strength: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    mask: MaskName | UnsetType = UNSET
    split: bool | UnsetType = UNSET
    mirror: bool | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How one visitor's pictures are painted."""

    blend: tuple[BlendPart, ...]
    style: Style
    """The blended style of this moment; one that is being learned becomes another one later."""
    strength: float = 1.0
    """Mix with the source: 0 is the source, 1 the painting."""
    mask: MaskName = "none"
    """What alone is painted; with none all is."""
    split: bool = False
    """Whether the left half is the source."""
    mirror: bool = False
    fade_seconds: float = FADE_SECONDS
    """How long a style takes to become another."""

    def changed(self, change: SettingsChange, user_styles: Mapping[str, Job]) -> RenderSettings:
        """The settings after ``change``; `BadOption` where a style does not exist or cannot be blended."""
        changes = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
        if change.blend is not UNSET:
            changes["style"] = blend_styles(change.blend, user_styles)
        return replace(self, **changes)

    def refreshed(self, user_styles: Mapping[str, Job]) -> RenderSettings:
        """The settings with the newest version of each style; the same object where none is new, or one is gone."""
        if not any(part.style.startswith(USER_PREFIX) for part in self.blend):
            return self
        try:
            style = blend_styles(self.blend, user_styles)
        except BadOption:
            return self
        return self if style.parts == self.style.parts else replace(self, style=style)

    def facts(self) -> dict[str, Any]:
        names = ("blend", "strength", "mask", "split", "mirror")
        return {name: msgspec.to_builtins(getattr(self, name)) for name in names}


def default_settings() -> RenderSettings:
    """The settings of a client that asks for none."""
    name = DEFAULT_STYLE
    return RenderSettings(blend=(BlendPart(name),), style=load_style(name))


def blend_styles(parts: tuple[BlendPart, ...], user_styles: Mapping[str, Job]) -> Style:
    """The blend of ``parts``; `BadOption` where a style does not exist, or they cannot be blended."""
    weighted: list[tuple[Style, float]] = []
    for part in parts:
        if part.style in user_styles:
            style = user_style(user_styles[part.style])
        elif part.style in style_names():
            style = load_style(part.style)
        else:
            raise BadOption(f"there is no style {part.style[:60]!r} here; GET /api/styles lists all")
        weighted.append((style, part.weight))
    return blend(weighted)
