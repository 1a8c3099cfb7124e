"""``vidstyle serve``: the browser as camera, stage and studio."""

from __future__ import annotations

import _thread
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo
from vidstyle.files import cache_folder
from vidstyle.options import BackendOptions, StageOptions
from vidstyle.serve.config import ServeOptions, new_token

if TYPE_CHECKING:
    from vidstyle.serve.app import Server

GRACE_SECONDS = 10.0
"""How long closing everything may take."""


def _serve_options(token: str | None, folder: Path | None, **values: Any) -> ServeOptions:
    open_to_all = token == "none"
    if token in ("none", ""):
        token = None
    elif token == "auto":
        token = new_token()
    return ServeOptions(token=token, open_to_all=open_to_all, folder=folder or cache_folder("serve"), **values)


@click.command()
@opt.group(
    "options",
    _serve_options,
    opt.field(ServeOptions, "host", "Address to listen on; 0.0.0.0 is all, and needs --token."),
    opt.field(ServeOptions, "port", "Port; 0 takes a free one."),
    opt.option(
        "--token",
        envvar="VIDSTYLE_TOKEN",
        metavar="TOKEN|auto|none",
        help="Let only those in who know it; `auto` makes one up, `none` lets all in. Also taken from $VIDSTYLE_TOKEN.",
    ),
    opt.option(
        "--allow-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        help="Name by which browsers may call the server, as that of a proxy before it; needs --token, too; may be "
        "given several times.",
    ),
    opt.option(
        "--public-address",
        metavar="ADDRESS",
        help="IP address to which browsers send their pictures, where that is none of this machine's own (NAT).",
    ),
    opt.option(
        "--source",
        help="Show this to those who start without a camera: camera (number, name or device), `screen`, `testsrc`, a "
        "video file played over and over, or a URL.",
    ),
    opt.field(ServeOptions, "visitors", "Visitors painted at once."),
    opt.option("--size", type=opt.FULL_SIZE, default="640x360", help="Scale live pictures down to fit."),
    opt.field(
        ServeOptions,
        "upload_mib",
        "The largest video to upload; paintings 32 at most.",
        "--upload-limit",
        metavar="MIB",
    ),
    opt.field(ServeOptions, "queue", "Jobs that may wait."),
    opt.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where jobs and visitors' styles are kept.  [default: serve in vidstyle's own folder]",
    ),
)
@opt.stage_options
@opt.backend_options
def serve(options: ServeOptions, stage: StageOptions, backend: BackendOptions) -> None:
    """Paint in the browser: a local web page with live picture, gallery and studio.

    The page, and everything that it asks for, stays on this machine unless --host says otherwise. Browsers give a
    page their camera only if it comes from this very machine or by https: for others, put a server with https in
    front, and name it with --allow-host. The API behind the page is in docs/serve.md.

    Ctrl-C ends it properly; what then hangs is given ten seconds, or until Ctrl-C comes again.
    """
    from vidstyle.serve import open_app

    open_app().serve(options, backend=backend, stage=stage, on_start=_say_where, on_stop=_Ending().on_signal)
    echo("Stopped.", err=True)


class _Ending:
    """Sees to it that the process ends once it was told to, whatever hangs: a compilation, a driver, a camera.

    Workers go with it: each ends when its input does.
    """

    def __init__(self) -> None:
        self._told = False

    def on_signal(self) -> None:
        """End within `GRACE_SECONDS`; the second time, at once. To be called by a signal's handler."""
        if self._told:
            os._exit(1)
        self._told = True
        # Not `threading.Thread`: its locks may be held by what the signal came upon. Nobody waits for this one.
        _thread.start_new_thread(self._end, ())

    def _end(self) -> None:
        time.sleep(GRACE_SECONDS)
        os.write(2, b"Not everything has stopped in time; ended all the same.\n")
        os._exit(1)


def _say_where(server: Server) -> None:
    echo(f"Painting on {server.scheduler.description}", err=True)
    if server.peers.source is not None:
        echo(f"Source: {server.peers.source.description}", err=True)
    for description in server.stage.control.descriptions if server.stage is not None else ():
        echo(description, err=True)
    echo(f"Open {server.url}")
    for name in server.options.allowed_hosts:
        echo(f"  or https://{name}/{server.query}")
    if server.peers.is_unreachable:
        echo(
            "Pictures come to this machine by UDP, and it has no public address. Visitors from elsewhere than its own "
            "network need one: give --public-address.",
            err=True,
        )
    echo("Ctrl-C stops it.", err=True)
