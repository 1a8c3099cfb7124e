"""Where vidstyle keeps what it can make again: compiled models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """The folder for cached files of one ``kind``: ``$VIDSTYLE_HOME/kind``, else ``~/.cache/vidstyle/kind``.

    It is not made here; whoever writes first makes it.
    """
    home = os.environ.get("VIDSTYLE_HOME")
    root = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidstyle"
    return root / kind
