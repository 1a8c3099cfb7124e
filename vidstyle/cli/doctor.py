"""``vidstyle doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo, echo_json


@click.command()
@opt.plain(opt.json_option("Print everything as JSON."))
def doctor(as_json: bool) -> None:
    """Show processor, backends, codecs, GPU, versions, and how to get what is missing.

    Nothing is installed or changed.
    """
    from vidstyle.tools.doctor import examine

    report = examine()
    if as_json:
        echo_json(report.facts)
        return
    for title, lines in report.sections():
        click.echo(click.style(title, bold=True))
        for line in lines:
            echo(f"  {line}")
