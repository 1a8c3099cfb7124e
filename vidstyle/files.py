"""Output files, which appear whole or not at all, and the cache: compiled models kept between runs.

The cache may be lost, damaged or unwritable: that costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from vidstyle.errors import BadOption, reason

CACHED_FILES_KEPT = 64
"""Cached models of one kind; the one used longest ago goes first. About 1 MB each for `fast`, 7 MB for `paper`."""
_CACHED_SUFFIX = ".model"
_DIGEST_BYTES = 32
_PART_BYTES = 80
"""How much of a file's name its temporary one begins with: with the rest, far below any file system's limit."""


def cache_folder(kind: str) -> Path:
    """The folder for cached files of one ``kind``: ``$VIDSTYLE_HOME/kind``, else ``~/.cache/vidstyle/kind``.

    The first write makes it.
    """
    home = os.environ.get("VIDSTYLE_HOME")
    root = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidstyle"
    return root / kind


def cache_key(*parts: bytes | str) -> str:
    """A file name for what ``parts`` determine: the graph, the library's version, the settings."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:40]


def read_cached(kind: str, key: str) -> bytes | None:
    """What `write_cached` stored, or None if it is not there or not whole.

    Libraries crash on damaged models, so the content is compared with the digest in front of it.
    """
    path = cache_folder(kind) / f"{key}{_CACHED_SUFFIX}"
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def write_cached(kind: str, key: str, data: bytes) -> None:
    """Store ``data`` whole or not at all; where the folder cannot be written, not at all."""
    path = cache_folder(kind) / f"{key}{_CACHED_SUFFIX}"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(data).digest() + data)
    remove_oldest(path.parent, _CACHED_SUFFIX, CACHED_FILES_KEPT)


def remove_oldest(folder: Path, suffix: str, kept: int, *beside: Callable[[Path], Path]) -> None:
    """Remove the files with ``suffix`` that were used longest ago, but for ``kept``, and what lies ``beside`` each."""
    with contextlib.suppress(OSError):
        files = sorted(folder.glob(f"*{suffix}"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - kept)]:
            for part in (path, *(other(path) for other in beside)):
                part.unlink(missing_ok=True)


def as_path(path: Path | str, what: str = "file") -> Path:
    """``path`` as a `Path`; `BadOption`, which calls it ``what``, where it is none."""
    if not isinstance(path, str | os.PathLike):
        given = repr(path) if isinstance(path, int | float | None) else f"a {type(path).__name__}"
        raise BadOption(f"{what} is {given}; it must be a path, or the name of a file")
    return Path(path)


def check_output(*paths: Path, overwrite: bool, source: Path | None = None) -> None:
    """`BadOption` unless all of ``paths`` may be written: to be asked before the work that they hold.

    A link is followed. ``source`` is what the work is made of; it is never overwritten.
    """
    for path in paths:
        with _unwritable(f"cannot write {path}"):
            _check_output(path, overwrite, source)


@contextlib.contextmanager
def _unwritable(what: str) -> Iterator[None]:
    """Say ``what`` where the system refuses: a name that is too long, a folder that may not be looked into."""
    try:
        yield
    except BadOption:
        raise
    except (OSError, ValueError) as error:
        raise BadOption(f"{what}: {reason(error)}; choose another name") from error


def _check_output(path: Path, overwrite: bool, source: Path | None) -> None:
    target = _followed(path)
    if not target.parent.is_dir():
        raise BadOption(f"cannot write {path}: there is no folder {target.parent}; make it first")
    try:
        found = os.stat(target)
    except FileNotFoundError:
        found = None
    if found is not None:
        if stat.S_ISDIR(found.st_mode):
            raise BadOption(f"cannot write {path}: it is a folder; name a file")
        if not stat.S_ISREG(found.st_mode):
            raise BadOption(f"cannot write {path}: it is a device or a pipe; name a file")
        if source is not None and os.path.exists(source) and os.path.samefile(target, source):
            raise BadOption(f"output {path} is the input itself; name another output file")
        if not overwrite:
            raise taken(path)
    if not _is_writable(target.parent):
        raise BadOption(f"cannot write {path}: its folder is not writable; name another folder")


def taken(path: Path | str) -> BadOption:
    """The error for a file that is there and must stay."""
    return BadOption(f"output {path} exists; name another file, or overwrite it with --overwrite")


def check_folder(path: Path) -> None:
    """`BadOption` unless files can be written to the folder ``path``, which need not be there yet."""
    folder = path
    with _unwritable(f"cannot write to {path}"):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise BadOption(f"cannot write to {path}: {folder} is a file; name a folder")
        if not _is_writable(folder):
            raise BadOption(f"cannot write to {path}: the folder {folder} is not writable; name another folder")


def make_folder(folder: Path, *sources: Path) -> None:
    """Make ``folder``, which `check_folder` has passed; `BadOption` where it cannot be, or is one of ``sources``."""
    try:
        folder.mkdir(exist_ok=True)
        is_source = any(source.is_dir() and folder.samefile(source) for source in sources)
    except OSError as error:
        raise BadOption(f"cannot write to {folder}: {reason(error)}; name another folder") from error
    if is_source:
        raise BadOption(f"{folder} is both the folder read and the folder written; write to another one")


def files_in(folder: Path, suffixes: Container[str]) -> list[Path]:
    """The files of ``folder`` whose names end in one of ``suffixes``, sorted; hidden ones are left out.

    Raises `OSError`.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def part_path(path: Path) -> Path:
    """A hidden name that nobody else uses, in the folder of the file that ``path`` is or links to."""
    target = _followed(path)
    return target.with_name(f".{short_name(target.name, _PART_BYTES)}.{secrets.token_hex(4)}.part")


def short_name(name: str, size: int) -> str:
    """The beginning of ``name``, at most ``size`` bytes long: file systems limit names to 255 bytes or fewer.

    What is cut ends in a whole character, and holds no bytes that are none: some systems refuse those.
    """
    encoded = os.fsencode(name)
    return name if len(encoded) <= size else encoded[:size].decode(errors="ignore")


def publish(part: Path, path: Path, *, overwrite: bool) -> None:
    """Give the finished file ``part`` the name ``path``, at once.

    `BadOption` where there is a file of that name by now and it is not to be overwritten, `OSError` where the
    system refuses; ``part`` is still there then.
    """
    target = _followed(path)
    if overwrite:
        os.replace(part, target)
        return
    try:
        try:
            os.link(part, target)  # unlike a renaming, it fails where the name is taken
        except FileExistsError:
            raise
        except OSError:  # FAT and some network folders know no links: the name is taken first
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                os.replace(part, target)
            except BaseException:
                if part.exists():
                    target.unlink(missing_ok=True)
                raise
        else:
            part.unlink()
    except FileExistsError as error:
        raise taken(path) from error


def publish_beside(part: Path, path: Path) -> Path:
    """Give ``part`` the first name of ``out-2.mp4``, ``out-3.mp4`` ... that is free, and return it."""
    stem = short_name(path.stem, 200)
    number = 1
    while True:
        number += 1
        other = path.with_name(f"{stem}-{number}{path.suffix}")
        with contextlib.suppress(BadOption):
            publish(part, other, overwrite=False)
            return other


def write_whole(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data`` to ``path``. Raises as `publish` does; an error leaves what was there."""
    part = part_path(path)
    try:
        part.write_bytes(data)
        publish(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


def write_failure(name: Path | str, error: BaseException) -> str:
    """A sentence on why ``name`` cannot be written, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return f"no space is left to write {name}; free some, or write to another disk"
    if number == errno.EDQUOT:
        return f"your share of the disk is used up, {name} cannot be written; free some, or write to another disk"
    if number == errno.EFBIG:
        return f"{name} would become larger than this system or disk allows a file to be"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {name}: its folder is not writable; name another folder"
    if number == errno.ENOENT:
        return f"cannot write {name}: its folder is gone; make it again, or name another"
    return f"cannot write {name}: {reason(error)}"


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path))
