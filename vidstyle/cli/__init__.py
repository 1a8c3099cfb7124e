"""The command line: words in, words out. The only place that knows click, rich and exit codes.

Exit codes: 0 done, 1 failed (a sentence says why), 2 wrong usage, 130 interrupted. Every command
imports what it needs when it runs, so that ``--help`` is instant and works without the extras.
"""

from __future__ import annotations

import _thread
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
from vidstyle.cli.image import image
from vidstyle.cli.render import render
from vidstyle.cli.serve import serve
from vidstyle.cli.styles import styles
from vidstyle.cli.train import train
from vidstyle.cli.webcam import webcam
from vidstyle.errors import BadOption, VidstyleError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class Failure(click.ClickException):
    """An error of the library, in click's clothes: wrong options exit like wrong usage."""

    def __init__(self, error: VidstyleError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if isinstance(error, BadOption) else 1  # type: ignore[misc]


class Commands(click.Group):
    """A group that turns the library's errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except VidstyleError as error:
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


for _command in (render, webcam, serve, image, adapt, styles, build_engine, train, bench, doctor):
    vidstyle.add_command(_command)


def main() -> NoReturn:
    """Entry point of the ``vidstyle`` command."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _end_all_the_same
    try:
        code = vidstyle.main(standalone_mode=False)  # what `ctx.exit` was given; commands return None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; nothing was left half-written.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: there is nobody to tell
        sys.exit(1)
    sys.exit(code or 0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # As Ctrl-C does: unwinds through every `with`, so that temporary files go.
    raise SystemExit(128 + number)


def _end_all_the_same(ignored: UnraisableHookArgs) -> None:
    """Python ignores what is raised in a callback, as at the end of every import; an end that comes just then comes
    again."""
    error = ignored.exc_value
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        number = signal.SIGTERM
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
