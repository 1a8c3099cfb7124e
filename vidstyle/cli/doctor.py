"""``vidstyle doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import dataclasses
import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Show processor, backends, codecs, GPU, versions, and how to get what is missing."""
    from vidstyle.doctor import examine

    report = examine()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), indent=2))
        return
    for title, lines in report.sections():
        click.echo(click.style(title, bold=True))
        for line in lines:
            click.echo(f"  {line}")
