"""One job on disk: what was asked for, how far it has come, its files; and the labels that people give to files."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import time
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Meta

from vidstyle.errors import BadOption, VidstyleError
from vidstyle.files import write_whole
from vidstyle.options import MAX_SIDE, check_between

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Amount = Annotated[float, Meta(ge=0, lt=1e15)]
JobKind = Literal["adapt", "render"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]

# Files in the folder of a job: what was uploaded, the style that a video is rendered in, the newest style of an
# adaptation. The first three are removed when the job has ended.
INPUT, SPEC, RENDER_STYLE = "input", "spec.json", "look.safetensors"
STATE, STYLE, VIDEO, PREVIEW = "job.json", "style.safetensors", "video.mp4", "preview.jpg"
MAX_POINTS = 1200
"""Of a curve."""
MAX_MESSAGE, MAX_LABEL = 600, 80
"""Characters; longer ones are cut."""
_MIN_CHARGE = 16 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_STATE, _MAX_SPEC = 1 << 18, 1 << 16
# Control and format characters (which turn text around or hide it), surrogates, private use, line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|%]+')


class DamagedJob(VidstyleError, ValueError):
    """A folder holds no job that can be read."""


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """How long jobs may take, and how much of those that are over is kept."""

    silence_seconds: float = 300.0
    """A worker without output for so long is stopped."""
    job_seconds: float = 6 * 3600.0
    probe_seconds: float = 60.0
    max_age_days: float = 30.0
    """A job that is over goes after so many days, unless its style is kept for good."""
    max_bytes: int = 4 << 30
    """Disk that jobs may take once they are over: the oldest go first, kept styles never. See `Job.charge`."""


@dataclass(frozen=True, kw_only=True)
class AdaptBudget:
    """How much work an adaptation is."""

    steps: int = 150
    """Gradient steps, where the client does not say; it may ask for ``max_steps``."""
    max_steps: int = 1000
    batch: int = 4
    size: int = 192
    style_size: int = 384
    publish_every: int = 10
    """Steps from one published style and preview to the next."""
    preview_width: int = 320


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Everything that a worker needs to know beside the files in its folder: `SPEC` there."""

    label: str
    """Name of the uploaded file in messages."""
    title: str = ""
    """The painting's title, for the card of a style."""
    strength: float = 1.0
    mask: str | None = None
    max_pixels: int = MAX_SIDE * MAX_SIDE
    max_seconds: float = 3600.0
    budget: AdaptBudget = AdaptBudget()

    def __post_init__(self) -> None:
        check_between("strength", self.strength, 0, 1)
        check_between("steps", self.budget.steps, 1, self.budget.max_steps)

    def write(self, folder: Path) -> None:
        write_whole(folder / SPEC, msgspec.json.encode(self))

    @classmethod
    def read(cls, folder: Path) -> JobSpec:
        """The spec in ``folder``; `BadOption` where it is damaged."""
        try:
            with (folder / SPEC).open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_SPEC), type=cls)
        except (OSError, ValueError, RecursionError) as error:
            raise BadOption("the spec of this job cannot be read; submit the job again") from error


class Point(NamedTuple):
    """Of a loss curve."""

    step: Count
    content: Amount
    style: Amount
    total: Amount


def new_id() -> str:
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether `new_id` could have made ``text``. Nothing else ever becomes a part of a path."""
    return _ID.fullmatch(text) is not None


def owner_of(session: str) -> str:
    """What is stored of a session: enough to recognize it, not enough to take it over."""
    return hashlib.sha256(session.encode()).hexdigest()[:32]


@dataclass(eq=False)
class Job:
    """A job. All but the folder is in `STATE`, written whole at every change that must survive."""

    folder: Path
    """All files of this job; its name is the id."""
    owner: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    """`owner_of` the session that submitted the job."""
    kind: JobKind
    title: str
    state: JobState = "queued"
    created: Amount = field(default_factory=time.time)
    """Seconds since 1970; so is ``ended``."""
    ended: Amount | None = None
    seconds: Amount = 0.0
    step: Count = 0
    steps: Count | None = None
    """Steps in all, where that is known."""
    progress: Amount = 0.0
    """0 to 1; of a render whose length is unknown 0 until the end."""
    published: Count | None = None
    """The step of the newest style in `STYLE`."""
    curve: list[Point] = field(default_factory=list)
    message: str = ""
    """One sentence: what went wrong, or what a render left out."""
    kept: bool = False
    dismissed: bool = False
    """Whether the job is off the list, and only there for its style."""

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def result(self) -> Path | None:
        """The file to download, once it is there: the video or the style."""
        name = STYLE if self.kind == "adapt" else VIDEO
        return self.file(name) if self.state == "done" else None

    def file(self, name: str) -> Path | None:
        """A file of the folder, if it exists and is no link."""
        path = self.folder / name
        return path if path.is_file() and not path.is_symlink() else None

    def charge(self) -> int:
        """Bytes on disk, but at least 16 MiB: so the limit of bytes bounds the number of jobs, too."""
        total = 0
        with contextlib.suppress(OSError):
            for path in self.folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # a part file that was just renamed
                    total += path.lstat().st_size
        return max(total, _MIN_CHARGE)

    def write(self) -> None:
        state = asdict(self)
        del state["folder"]
        write_whole(self.folder / STATE, msgspec.json.encode(state))

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job in ``folder``, read as if somebody else had written it; `DamagedJob` where it is not a job."""
        try:
            if not is_id(folder.name) or folder.is_symlink() or (folder / STATE).is_symlink():
                raise DamagedJob(f"{folder} is not the folder of a job")
            with (folder / STATE).open("rb") as file:
                data = file.read(_MAX_STATE + 1)
            if len(data) > _MAX_STATE:
                raise DamagedJob(f"{folder} has a state that is too long")
            state = msgspec.json.decode(data, type=dict[str, Any])
            job = msgspec.convert({**state, "folder": folder}, cls)
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedJob(f"{folder} holds no job that can be read: {error}") from error
        job.title, job.message = clean_label(job.title), job.message[:MAX_MESSAGE]
        del job.curve[MAX_POINTS:]
        return job


# Labels: names that people give. They are shown, never opened.


def clean_label(text: str, otherwise: str = "Untitled") -> str:
    """``text`` on one line, without invisible characters, at most `MAX_LABEL` long.

    It may still hold markup: whoever shows it escapes it.
    """
    # Cut first: normalizing is what takes time. Combining marks may shrink it, never so many times.
    text = unicodedata.normalize("NFC", text[: 8 * MAX_LABEL])
    seen = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    return " ".join(seen.split())[:MAX_LABEL].strip() or otherwise


def file_label(name: str | None, otherwise: str = "the file") -> str:
    """The label of an uploaded file, with the suffix, without folders of any system."""
    return clean_label(re.split(r"[\\/]", name or "")[-1], otherwise)


def title_of_file(name: str | None) -> str:
    """The label of an uploaded file, without the suffix and without folders of any system."""
    last = re.split(r"[\\/]", name or "")[-1].strip(" .")
    stem, dot, suffix = last.rpartition(".")
    return clean_label(stem if dot and stem and len(suffix) <= 5 else last)


def download_name(label: str, suffix: str) -> str:
    """Content-Disposition of an attachment called after ``label``, by RFC 6266 and RFC 5987."""
    name = " ".join(_NOT_IN_NAMES.sub(" ", label).split()).strip(" .") or "vidstyle"
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if c.isascii() and c.isprintable()).strip(" .")
    return f"attachment; filename=\"{plain or 'vidstyle'}{suffix}\"; filename*=UTF-8''{quote(name + suffix, safe='')}"
