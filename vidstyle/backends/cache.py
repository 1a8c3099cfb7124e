"""Compiled models kept between runs. A cache may be lost, damaged or unwritable: that costs time, nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from vidstyle.files import cache_folder, write_whole

FILES_KEPT = 64
"""Compiled models of one kind; the one used longest ago goes first. About 1 MB each for `fast`, 7 MB for `paper`."""
_DIGEST_BYTES = 32


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
    path = _path(kind, key)
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def write_cached(kind: str, key: str, data: bytes) -> None:
    """Store ``data`` whole or not at all; where the folder cannot be written, not at all."""
    path = _path(kind, key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(data).digest() + data)
        _forget_the_oldest(path.parent)


def _path(kind: str, key: str) -> Path:
    return cache_folder(kind) / f"{key}.model"


def _forget_the_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.model"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(0, len(files) - FILES_KEPT)]:
        path.unlink(missing_ok=True)
