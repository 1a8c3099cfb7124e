"""The styles that visitors made here, as they are at this moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadModel
from vidstyle.gallery import DEFAULT_NETWORK, shared_network
from vidstyle.serve.job import STYLE, Job
from vidstyle.style import Style

PREFIX = "mine/"
"""What the names of own styles begin with; the id of the job follows."""


@dataclass(frozen=True, eq=False)
class OwnStyle:
    """A style of a visitor; while it is learned, the newest that there is of it."""

    name: str
    """``mine/ID``."""
    title: str
    """As its visitor calls it."""
    vector: NDArray[np.float32]
    """Its style vector; before the first step that of the network, which paints like no painting."""
    network_digest: str
    """Of the shared network that it drives."""
    job: str
    """Id of the job that makes, or made, it."""
    step: int | None
    """The step that the vector is of; None before the first."""
    network_name: str = DEFAULT_NETWORK
    owner: str = ""
    """`vidstyle.serve.job.owner_of` the session whose it is."""
    kept: bool = False
    """Whether it stays for good, and is seen by all."""

    def style(self) -> Style:
        """It as a `Style` to paint with, or to blend."""
        return Style(self.title, self.vector, self.network_name, self.network_digest)


def own_style(job: Job) -> OwnStyle | None:
    """What there is of the style of an adaptation; None where it has come to nothing.

    A file that is damaged, or of another version of the network, is no style.
    """
    if job.kind != "adapt" or job.state in ("failed", "cancelled"):
        return None
    network = shared_network(DEFAULT_NETWORK)
    vector, step = network.start, None
    path = job.file(STYLE)
    if path is not None:
        try:
            style = Style.load(path)
        except BadModel:
            return None
        if style.kind != "vector" or style.network_digest != network.digest:
            return None
        vector, step = style.vector, job.published
    elif job.is_over:
        return None
    return OwnStyle(
        PREFIX + job.id,
        job.title,
        vector,
        network.digest,
        job.id,
        step,
        owner=job.owner,
        kept=job.kept,
    )
