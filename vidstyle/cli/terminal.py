"""Text on its way to a terminal: what comes from a file is shown there, and never obeyed."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

import click

from vidstyle.errors import VidstyleError, reason
from vidstyle.pipeline import Closing


class OutputLost(VidstyleError, OSError):
    """The standard output does not take what is written to it."""


def printable(text: str, *, keep: str = "") -> str:
    """``text`` with every character that a terminal obeys or hides as Python writes it, as ``\\x1b``.

    Line ends are among them, so that no file can write a line of its own; ``keep`` names exceptions.
    """
    return "".join(
        c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode()
        for c in text
    )


def echo(line: str, *, err: bool = False) -> None:
    """Print ``line`` on stdout, or on stderr; raises `OutputLost` for stdout."""
    _write(printable(line), err)


def echo_notes(notes: Iterable[str]) -> None:
    for note in notes:
        echo(f"Note: {note}", err=True)


def echo_json(facts: Any) -> None:
    """Print ``facts`` as JSON on stdout; raises `OutputLost`."""
    _write(json.dumps(facts, indent=2), False)  # in ASCII, whatever the terminal


def write_bytes(data: bytes) -> None:
    """Write ``data`` to stdout; raises `OutputLost`."""
    _write(data, False)


class PrintableFormatter(logging.Formatter):
    """What the library logs, as `echo` prints it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei), keep="\n")


def _write(data: str | bytes, err: bool) -> None:
    try:
        click.echo(data, err=err, nl=isinstance(data, str))
    except BrokenPipeError:
        raise
    except OSError as error:
        if err:
            return  # there is nobody to tell
        raise OutputLost(f"cannot write to the standard output: {reason(error)}") from error


class Bar(Closing):
    """A bar on stderr with a line of figures beside it, from the first `update` on; silent where there is no terminal.

    `update` may be called from any thread.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console, figures = Console(stderr=True), TextColumn("{task.fields[figures]}", markup=False)
        columns = BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=None, figures="")

    def update(self, done: int, total: int | None, figures: str) -> None:
        """Show that ``done`` of ``total`` are done (None: nobody knows how many there are)."""
        self._progress.start()  # does nothing but the first time
        self._progress.update(self._task, completed=done, total=total, figures=printable(figures))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone
            self._progress.stop()


def close_output() -> None:
    """Let nothing that stdout still holds be a traceback at the very end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.close()
