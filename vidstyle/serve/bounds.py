"""How much visitors may ask of a server's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Limits(Protocol):
    """What `Jobs` wants to know of the server's options."""

    @property
    def queue(self) -> int:
        """Jobs that may wait."""

    @property
    def most_pixels(self) -> int:
        """The largest picture of a video."""

    @property
    def most_seconds(self) -> float:
        """The longest video."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How long jobs may take, and how much of what is over stays."""

    patience: float = 300.0
    """Seconds without a word after which a worker is taken to hang."""
    job_seconds: float = 6 * 3600.0
    """The longest that a job may run."""
    probe_seconds: float = 60.0
    """The longest that looking at a video may take."""
    most_over: int = 50
    """Jobs that are over and not kept; the oldest go."""
    most_bytes: int = 4 << 30
    """Of the same, on disk."""
    most_kept: int = 200
    """Styles that are kept for good."""
