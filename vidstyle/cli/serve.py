"""``vidstyle serve``: the browser as camera, stage and studio."""

from __future__ import annotations

import _thread
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidstyle.cli.params import FullSize, backend_from, backend_options
from vidstyle.cli.terminal import echo
from vidstyle.options import BackendName, Precision

if TYPE_CHECKING:
    from vidstyle.serve.app import Server

GRACE_SECONDS = 10.0
"""How long closing everything may take."""


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all, and needs --token."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8360, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--token",
    envvar="VIDSTYLE_TOKEN",
    metavar="TOKEN|auto|none",
    help="Let only those in who know it; `auto` makes one up, `none` lets all in. Also taken from $VIDSTYLE_TOKEN.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which browsers may call the server, as that of a proxy before it; needs --token, too; may be given "
    "several times.",
)
@click.option(
    "--public-address",
    metavar="ADDRESS",
    help="IP address to which browsers send their pictures, where that is none of this machine's own (NAT).",
)
@click.option(
    "--source",
    help="Show this to those who start without a camera: camera (number, name or device), `screen`, `testsrc`, a video "
    "file played over and over, or a URL.",
)
@click.option("--visitors", type=click.IntRange(1, 64), default=4, show_default=True, help="Visitors painted at once.")
@click.option("--size", type=FullSize(), default="640x360", show_default=True, help="Scale live pictures down to fit.")
@click.option(
    "--upload-limit",
    type=click.IntRange(1, 1 << 14),
    default=64,
    show_default=True,
    metavar="MIB",
    help="The largest video to upload; paintings 32 at most.",
)
@click.option("--queue", type=click.IntRange(1, 1000), default=4, show_default=True, help="Jobs that may wait.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where jobs and visitors' styles are kept.  [default: serve in vidstyle's own folder]",
)
@backend_options
def serve(
    host: str,
    port: int,
    token: str | None,
    allowed_hosts: tuple[str, ...],
    public_address: str | None,
    source: str | None,
    visitors: int,
    size: tuple[int, int],
    upload_limit: int,
    queue: int,
    folder: Path | None,
    backend: BackendName,
    precision: Precision,
    threads: int | None,
) -> None:
    """Paint in the browser: a local web page with live picture, gallery and studio.

    The page, and everything that it asks for, stays on this machine unless --host says otherwise. Browsers give a
    page their camera only if it comes from this very machine or by https: for others, put a server with https in
    front, and name it with --allow-host. The API behind the page is in docs/serve.md.

    Ctrl-C ends it properly; what then hangs is given ten seconds, or until Ctrl-C comes again.
    """
    from vidstyle.files import cache_folder
    from vidstyle.serve.config import ServeOptions, new_token

    open_to_all = token == "none"
    if open_to_all or not token:
        token = None
    elif token == "auto":
        token = new_token()
    options = ServeOptions(
        host=host,
        port=port,
        token=token,
        open_to_all=open_to_all,
        allowed_hosts=allowed_hosts,
        public_address=public_address,
        source=source,
        visitors=visitors,
        size=size,
        upload_mib=upload_limit,
        queue=queue,
        folder=folder or cache_folder("serve"),
    )

    from vidstyle.serve import open_app

    chosen = backend_from(backend, precision, threads)
    open_app().serve(options, backend=chosen, on_start=_say_where, on_stop=_Ending().on_signal)
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
    if server.source is not None:
        echo(f"Source: {server.source.description}", err=True)
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
