"""``OUT.parts/``: the plan of a film and the parts that are done, safe from a kill, a power cut and a second run."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import msgspec
import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadOption, VideoError
from vidstyle.files import publish, short_name, write_failure, write_whole
from vidstyle.films.plan import Part, Plan
from vidstyle.pipeline import Closing
from vidstyle.rendering import RenderReport

_PLAN, _LOCK, _REPORT = "plan.json", "lock", "report.json"
_NAME_BYTES = 200


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What became of one part: lies beside its packets."""

    number: int
    frames: int
    """That were painted and coded."""
    pts: str
    """`pts_digest` of theirs."""
    durations: bytes
    """For how many ticks each of them is shown, see `vidstyle.films.plan.packed`."""
    missing: list[int]
    """Pts of the frames that could not be decoded."""
    lost: int
    """How many frames could not be decoded, or not in full."""
    size: int
    """Bytes of the packets' file."""
    sha256: str
    """Of the packets' file."""
    seconds: float
    """That the part took."""
    backend: str
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """Written when the film is assembled, before it gets its name: tells whether the file of that name is it."""

    report: RenderReport
    inode: int
    size: int


def pts_digest(pts: NDArray[np.int64]) -> str:
    """A digest of the times of frames: 32 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(pts, "<i8").tobytes()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises `VideoError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error


class PartsFolder(Closing):
    """The folder beside an output; whoever has it open has it alone."""

    def __init__(self, output: Path) -> None:
        """Make and lock it. Raises `BadOption` where another run has it, `VideoError` where it cannot be made."""
        self.path = folder_of(output)
        self._lock = filelock.FileLock(self.path / _LOCK, thread_local=False)
        try:
            self.path.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise BadOption(
                f"another run is at work in {self.path}; wait for its end, or name another output"
            ) from error
        except FileExistsError as error:
            raise BadOption(f"{self.path} is a file, and parts need a folder of that name; move it away") from error
        except OSError as error:
            raise VideoError(write_failure(self.path, error)) from error
        self.sweep()

    def sweep(self) -> None:
        """Remove what was being written when a run was killed."""
        for path in self.path.glob(".*.part"):
            path.unlink(missing_ok=True)

    def plan(self) -> Plan | None:
        """The plan that an earlier run left; None where there is none. `BadOption` where it cannot be read."""
        path = self.path / _PLAN
        try:
            plan = msgspec.json.decode(path.read_bytes(), type=Plan)
            if len(plan.pts) != sum(part.frames for part in plan.parts):
                raise ValueError("its parts are not the whole film")
            return plan
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BadOption(f"{path} is damaged: {error}; delete {self.path} to begin anew") from error

    def write_plan(self, plan: Plan) -> None:
        self._write(self.path / _PLAN, msgspec.json.encode(plan))

    def packets(self, number: int) -> Path:
        """The file with the coded pictures of a part."""
        return self.path / f"{number:05}.nut"

    def record(self, part: Part, plan: Plan) -> PartRecord | None:
        """What became of ``part`` in an earlier run; None where it is not done. `VideoError` where it is damaged."""
        path, packets = self._record(part.number), self.packets(part.number)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=PartRecord)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise VideoError(f"{path} is damaged: {error}") from error
        pts = plan.pts_of(part)
        there = pts[~np.isin(pts, record.missing)]
        if (len(there), pts_digest(there)) != (record.frames, record.pts):
            raise VideoError(f"{path} tells of other frames than the plan")
        if record.frames and not packets.exists():
            raise VideoError(f"{packets} is gone")
        if record.frames and file_digest(packets) != record.sha256:
            raise VideoError(f"{packets} is damaged")
        return record

    def add(self, record: PartRecord) -> None:
        """Note that a part is done: its packets are on the disk, and stay there when the power fails."""
        try:
            if record.frames:
                flush(self.packets(record.number))
            self._write(self._record(record.number), msgspec.json.encode(record))
        except OSError as error:
            raise VideoError(write_failure(self._record(record.number), error)) from error

    def drop(self, number: int) -> None:
        """Forget a part, so that it is painted again."""
        self._record(number).unlink(missing_ok=True)
        self.packets(number).unlink(missing_ok=True)

    def report_of(self, output: Path) -> RenderReport | None:
        """The report of the film, where ``output`` is the very file that was assembled from these parts."""
        try:
            finished = msgspec.json.decode((self.path / _REPORT).read_bytes(), type=_Finished)
            found = output.stat()
        except (OSError, ValueError):
            return None
        return finished.report if (found.st_ino, found.st_size) == (finished.inode, finished.size) else None

    def publish(self, whole: Path, output: Path, report: RenderReport, *, overwrite: bool) -> None:
        """Give the assembled file ``whole`` its name. Raises `BadOption` where that is taken by now."""
        flush(whole)
        found = whole.stat()
        finished = _Finished(report=report, inode=found.st_ino, size=found.st_size)
        self._write(self.path / _REPORT, msgspec.json.encode(finished))
        publish(whole, output, overwrite=overwrite)
        flush(output.parent)

    def remove(self, output: Path) -> None:
        """Delete the folder; what others put there stays."""
        for path in self.path.iterdir():
            if path.suffix in (".nut", ".json") or path.name == whole_name(output):
                path.unlink(missing_ok=True)
        (self.path / _LOCK).unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def close(self) -> None:
        """Let others have it. Closing twice is fine."""
        self._lock.release()

    def _record(self, number: int) -> Path:
        return self.path / f"{number:05}.json"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
            flush(path)
            flush(self.path)
        except OSError as error:
            raise VideoError(write_failure(path, error)) from error


def folder_of(output: Path) -> Path:
    """Where the parts of ``output`` lie: beside it, or beside what it links to."""
    target = Path(os.path.realpath(output))
    return target.with_name(f"{short_name(target.name, _NAME_BYTES)}.parts")


def whole_name(output: Path) -> str:
    """Name of the assembled film as long as it is in the folder of its parts."""
    return f"whole{output.suffix}"


def flush(path: Path) -> None:
    """Have what is in ``path``, a file or a folder, on the disk itself."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
