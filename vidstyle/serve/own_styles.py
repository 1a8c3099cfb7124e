"""The styles that visitors made here, as they are at this moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import DEFAULT_NETWORK, shared_network
from vidstyle.models.style import Style
from vidstyle.serve.job import STYLE, Job

PREFIX = "mine/"
"""What the names of own styles begin with; the id of the job follows."""


@dataclass(frozen=True, eq=False)
class OwnStyle:
    """A style of a visitor; while it is learned, the newest that there is of it."""

    name: str
    """``mine/ID``."""
    title: str
    """As its visitor calls it."""
    path: Path | None
    """Its file; None before the first step, when it is the shared network, which paints like no painting."""
    job: str
    """Id of the job that makes, or made, it."""
    step: int | None
    """The step that the file is of; None before the first."""
    network_name: str = DEFAULT_NETWORK
    owner: str = ""
    """`vidstyle.serve.job.owner_of` the session whose it is."""
    kept: bool = False
    """Whether it stays for good, and is seen by all."""

    def style(self) -> Style:
        """It as a `Style` to paint with, or to blend; `BadOption` where its file has gone."""
        if self.path is None:
            return Style.of(self.title, shared_network(self.network_name))
        try:
            return replace(_read(self.path), name=self.title)
        except BadModel as error:
            raise BadOption(f"style {self.title!r} is not there any more") from error


def own_style(job: Job) -> OwnStyle | None:
    """What there is of the style of an adaptation; None where it has come to nothing.

    A file that is damaged, or of another version of the network, is no style.
    """
    if job.kind != "adapt" or job.state in ("failed", "cancelled"):
        return None
    path = job.file(STYLE)
    if path is not None:
        try:
            style = _read(path)
        except BadModel:
            return None
        if style.theta != shared_network(DEFAULT_NETWORK).digest:
            return None
    elif job.is_over:
        return None
    step = None if path is None else job.published
    return OwnStyle(PREFIX + job.id, job.title, path, job.id, step, owner=job.owner, kept=job.kept)


def _read(path: Path) -> Style:
    """The style in a file. Few are kept in memory: a whole network has a megabyte, and there may be hundreds."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror or error}") from error
    return _kept(path, found.st_ino, found.st_mtime_ns)


@lru_cache(16)
def _kept(path: Path, inode: int, changed: int) -> Style:
    """One object for each content: what has been computed of it is found again by that."""
    return Style.load(path)
