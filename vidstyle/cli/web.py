"""``vidstyle web``: a static site that paints in the browser of whoever visits it."""

from __future__ import annotations

from pathlib import Path

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo


@click.command()
@click.argument("outdir", type=opt.FILE)
@opt.plain(opt.overwrite_option("Replace the site if there is one."))
def web(outdir: Path, overwrite: bool) -> None:
    """Write a site to OUTDIR that paints camera, video or picture on the visitor's own device, by WebGPU.

    Any web server for files can host it: nothing is painted there, and no picture is sent to it. Browsers allow
    WebGPU and the camera on https addresses and on localhost only.
    """
    from vidstyle.web.site import write_site

    size = write_site(outdir, overwrite=overwrite)
    echo(f"{outdir}: {size / 1e6:.2f} MB; try it with `python -m http.server -d {outdir} -b 127.0.0.1`")
