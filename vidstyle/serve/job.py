"""One job: what was asked for, how far it has come, and its folder on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import secrets
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from vidstyle.errors import VidstyleError
from vidstyle.files import write_whole
from vidstyle.serve.label import clean_label

JobKind = Literal["adapt", "render"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]

INPUT = "input"
"""The uploaded file, whatever it was called; gone when the job has ended."""
STATE = "job.json"
LOOK = "look.safetensors"
"""The style that a video is rendered in."""
STYLE = "style.safetensors"
"""The newest style of an adaptation."""
VIDEO = "video.mp4"
PREVIEW = "preview.jpg"
MOST_POINTS = 1200
"""The longest curve that is kept."""
MOST_MESSAGE = 600
"""The longest message, in characters."""
_ID = re.compile(r"[0-9a-f]{32}")
_MOST_BYTES = 1 << 18


class DamagedJob(VidstyleError, ValueError):
    """A folder holds no job that can be read."""


class Point(NamedTuple):
    """One point of a loss curve."""

    step: int
    content: float
    style: float
    total: float


def new_id() -> str:
    """128 random bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether `new_id` could have made it. Nothing else ever becomes a part of a path."""
    return _ID.fullmatch(text) is not None


def owner_of(session: str) -> str:
    """What is kept of a session: enough to know it again, not enough to be it."""
    return hashlib.sha256(session.encode()).hexdigest()[:32]


@dataclass(eq=False)
class Job:
    """A job. All but the folder is in `STATE`, written whole at every change that must survive."""

    folder: Path
    """Everything of this job; its name is the id."""
    owner: str
    """`owner_of` the session that asked for it."""
    kind: JobKind
    title: str
    """A label, already clean."""
    state: JobState = "queued"
    created: float = field(default_factory=time.time)
    """Seconds since 1970; so is the next."""
    ended: float | None = None
    seconds: float = 0.0
    """Spent at work."""
    step: int = 0
    """Gradient steps, or frames."""
    steps: int | None = None
    """Steps in all, where that is known."""
    progress: float = 0.0
    """0 to 1; of a render whose length is unknown it stays 0 until the end."""
    published: int | None = None
    """The step of the newest style in `STYLE`."""
    curve: list[Point] = field(default_factory=list)
    """The loss as measured."""
    message: str = ""
    """One sentence: what went wrong, or what a render left out."""
    kept: bool = False
    """Whether its style stays for good."""
    dismissed: bool = False
    """Whether it is only there for its style any more."""

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def result(self) -> Path | None:
        """The file to download: the video or the style, once it is there."""
        name = STYLE if self.kind == "adapt" else VIDEO
        return self.file(name) if self.state == "done" else None

    def file(self, name: str) -> Path | None:
        """A file of the folder, if it is there and is a file of its own."""
        path = self.folder / name
        return path if path.is_file() and not path.is_symlink() else None

    def size(self) -> int:
        """Bytes on disk."""
        total = 0
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # a part file that was just renamed
                    total += path.lstat().st_size
        return total

    def write(self) -> None:
        """Keep it on disk; raises `OSError`."""
        state = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_whole(self.folder / STATE, json.dumps(state).encode())

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job in ``folder``, read as if somebody else had written it; `DamagedJob` says what is wrong."""
        try:
            if not is_id(folder.name) or folder.is_symlink() or (folder / STATE).is_symlink():
                raise DamagedJob(f"{folder} is not the folder of a job")
            with (folder / STATE).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise DamagedJob(f"{folder} has a state that is too long")
            found = json.loads(data)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, DamagedJob):
                raise
            raise DamagedJob(f"{folder} holds no job that can be read") from error
        if not isinstance(found, dict):
            raise DamagedJob(f"{folder} holds no job that can be read")
        known = {f.name for f in fields(cls)} - {"folder"}
        try:
            return cls(folder, **{key: _checked(key, value) for key, value in found.items() if key in known})
        except (TypeError, ValueError, OverflowError) as error:
            raise DamagedJob(f"{folder} holds a job with a damaged state") from error


def _checked(key: str, value: Any) -> Any:
    """A value of `STATE`; ValueError or TypeError unless it is what that field holds."""
    match key:
        case "owner":
            if not (isinstance(value, str) and is_id(value)):
                raise ValueError(key)
            return value
        case "kind" | "state":
            if value not in get_args(JobKind if key == "kind" else JobState):
                raise ValueError(key)
            return value
        case "title" | "message":
            if not isinstance(value, str):
                raise TypeError(key)
            return clean_label(value) if key == "title" else value[:MOST_MESSAGE]
        case "kept" | "dismissed":
            return value is True
        case "step" | "steps" | "published":
            return None if value is None and key != "step" else whole_number(value)
        case "created" | "seconds" | "progress" | "ended":
            return None if value is None and key == "ended" else number(value)
        case "curve":
            return [point(entry) for entry in list(value)[:MOST_POINTS]]
    raise ValueError(key)


def point(entry: Any) -> Point:
    """A point of a curve out of a list; raises ValueError and TypeError."""
    step, *losses = entry
    return Point(whole_number(step), *(number(loss) for loss in losses))


def whole_number(value: Any) -> int:
    """``value`` if it is a whole number that something can be counted with, else ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53:
        return value
    raise ValueError(value)


def number(value: Any) -> float:
    """``value`` if it is a finite number from 0, else ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15 and math.isfinite(value):
        return float(value)
    raise ValueError(value)
