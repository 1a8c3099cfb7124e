"""Files that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def part_path(path: Path) -> Path:
    """A hidden name, in the folder of ``path``, that nobody else uses."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, replacing what is there. An error (`OSError`) leaves what was there."""
    part = part_path(path)
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
