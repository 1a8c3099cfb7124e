"""What a worker is asked to do: a JSON file in the job's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vidstyle.errors import BadOption
from vidstyle.files import write_whole
from vidstyle.options import MAX_SIDE, check_between

Task = Literal["probe", "adapt", "render"]

WISHES = "wishes.json"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work an adaptation is."""

    steps: int = 150
    """Gradient steps, where the visitor does not say."""
    most_steps: int = 1000
    """The most that a visitor may ask for."""
    batch: int = 4
    """Photo crops a step."""
    size: int = 192
    """Side of a crop in pixels."""
    style_size: int = 384
    """Shorter side of the painting in pixels."""
    publish_every: int = 10
    """Steps from one published style and preview to the next."""
    preview_width: int = 320
    """Of the preview, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Everything that a worker needs to know beside the files in its folder."""

    label: str
    """How messages call the uploaded file."""
    title: str = ""
    """What the card of a style calls its painting."""
    strength: float = 1.0
    """Of a render."""
    most_pixels: int = MAX_SIDE * MAX_SIDE
    """The largest picture of a video."""
    most_seconds: float = 3600.0
    """The longest video."""
    effort: Effort = Effort()
    """Of an adaptation."""

    def __post_init__(self) -> None:
        check_between("strength", self.strength, 0, 1)
        check_between("steps", self.effort.steps, 1, self.effort.most_steps)

    def write(self, folder: Path) -> None:
        """Keep it in ``folder``; raises `OSError`."""
        write_whole(folder / WISHES, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> Wishes:
        """What `write` has kept in ``folder``; `BadOption` where it is damaged."""
        try:
            with (folder / WISHES).open("rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
            return cls(**{**found, "effort": Effort(**found["effort"])})
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadOption("the wishes of this job cannot be read; ask for it again") from error
