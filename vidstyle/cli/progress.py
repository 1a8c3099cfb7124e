"""The progress bar that every long command shows."""

from __future__ import annotations

import contextlib

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidstyle.cli.terminal import printable


class Bar:
    """A bar on stderr with a line of figures beside it, from the first `update` on; silent where there is no terminal.

    A context manager. `update` may be called from any thread.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, figures="")

    def update(self, done: int, total: int | None, figures: str) -> None:
        """Show that ``done`` of ``total`` are done (None: nobody knows how many there are)."""
        self._progress.start()  # does nothing but the first time
        self._progress.update(self._task, completed=done, total=total, figures=printable(figures))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone
            self._progress.stop()
