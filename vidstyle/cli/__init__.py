"""The command line: words in, words out. The only place that knows click, rich and exit codes.

Exit codes: 0 done, 1 failed (a sentence says why), 2 wrong usage, 130 interrupted. Every command
imports what it needs when it runs, so that ``--help`` is instant and works without the extras.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import logging
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from vidstyle import __version__
from vidstyle.cli.adapt import adapt
from vidstyle.cli.bench import bench
from vidstyle.cli.build_engine import build_engine
from vidstyle.cli.doctor import doctor
from vidstyle.cli.export import export
from vidstyle.cli.image import image
from vidstyle.cli.render import render
from vidstyle.cli.serve import serve
from vidstyle.cli.styles import styles
from vidstyle.cli.terminal import PrintableFormatter, close_output, echo, printable
from vidstyle.cli.train import train
from vidstyle.cli.web import web
from vidstyle.cli.webcam import webcam
from vidstyle.errors import BadOption, VidstyleError, reason

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Failure(click.ClickException):
    """An error as click shows it: one line. Wrong options exit like wrong usage."""

    def __init__(self, error: Exception) -> None:
        super().__init__(printable(_sentence(error)))
        self.exit_code = 2 if isinstance(error, BadOption) else 1  # type: ignore[misc]


def _sentence(error: Exception) -> str:
    if isinstance(error, VidstyleError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory; close other programs, or choose a smaller --size or --work-size"
    if getattr(error, "errno", None) is not None:  # of the system or of FFmpeg
        name = getattr(error, "filename", None)
        return f"{reason(error)}: {name}" if name else reason(error)
    return (
        f"unexpected {type(error).__name__}: {reason(error)}; this is a mistake in vidstyle: please report it, with "
        "what `vidstyle --debug` and the same words print"
    )


class Commands(click.Group):
    """A group that turns the library's errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise Failure(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which people meet them


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vidstyle")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def vidstyle(debug: bool) -> None:
    """Turn video into a painting, in real time, on a laptop CPU or a GPU."""


for _command in (render, webcam, serve, web, image, adapt, styles, build_engine, export, train, bench, doctor):
    vidstyle.add_command(_command)


def main() -> NoReturn:
    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` has it ignored
            signal.signal(number, _terminate)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names may be of any bytes
    _log_to_terminal()
    sys.unraisablehook = _end_all_the_same
    # OpenVINO brings its converter of models along, with an HTTP client and more: two thirds of its import. Its package
    # does without where it cannot be imported.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    try:
        code = vidstyle.main(standalone_mode=False)  # what `ctx.exit` was given; commands return None
        sys.exit(code or 0)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        with contextlib.suppress(OSError):
            click.echo(printable(shown.getvalue(), keep="\n\t"), nl=False, err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        echo("Interrupted; nothing was left half-written.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: there is nobody to tell
        sys.exit(1)
    finally:
        close_output()


def _log_to_terminal() -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(PrintableFormatter())
    logging.getLogger().addHandler(handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # As Ctrl-C does: unwinds through every `with`, so that temporary files go.
    raise SystemExit(128 + number)


def _end_all_the_same(ignored: UnraisableHookArgs) -> None:
    """Python ignores what is raised in a callback, as at the end of every import; an end that comes just then comes
    again."""
    error = ignored.exc_value
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code - 128 in _ENDING:
        number = signal.Signals(error.code - 128)
    else:
        sys.__unraisablehook__(ignored)
        return

    def come_again() -> None:
        time.sleep(0.02)  # so that the callback is over
        main_thread = threading.main_thread().ident
        if sys.platform == "win32" or main_thread is None:
            _thread.interrupt_main(number)
        else:
            signal.pthread_kill(main_thread, number)  # a real one, for what sleeps

    _thread.start_new_thread(come_again, ())
