"""Files that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from vidstyle.errors import BadOption


def part_path(path: Path) -> Path:
    """A hidden name, in the folder of ``path``, that nobody else uses."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")


def check_free(*paths: Path, overwrite: bool) -> None:
    """`BadOption` unless files may have these names, all in one folder: to be asked before the work that they hold."""
    if not paths[0].parent.is_dir():
        raise BadOption(f"the folder of {paths[0]} does not exist; make it first")
    for path in paths:
        if path.is_dir():
            raise BadOption(f"{path} is a folder; choose another name")
        if path.exists() and not overwrite:
            raise BadOption(f"{path} exists; choose another name or give --overwrite")


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, replacing what is there. An error (`OSError`) leaves what was there."""
    part = part_path(path)
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
