"""``vidstyle serve``: live pictures and jobs in the browser."""

from __future__ import annotations

from types import ModuleType

from vidstyle.errors import MissingDependency


def open_app() -> ModuleType:
    """The module `vidstyle.serve.app`; `MissingDependency` where its packages are not installed."""
    try:
        from vidstyle.serve import app
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("aiohttp", "aiortc", "filelock"):
            raise
        raise MissingDependency(f"the server needs {error.name}: pip install 'vidstyle[serve]'") from error
    return app
