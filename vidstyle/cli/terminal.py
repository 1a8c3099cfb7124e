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
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"cannot write to the standard output: {reason(error)}") from error


class PrintableFormatter(logging.Formatter):
    """What the library logs, as `echo` prints it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei), keep="\n")


def _write(text: str, err: bool) -> None:
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        if err:
            return  # there is nobody to tell
        raise OutputLost(f"cannot write to the standard output: {reason(error)}") from error


def close_output() -> None:
    """Let nothing that stdout still holds be a traceback at the very end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.close()
