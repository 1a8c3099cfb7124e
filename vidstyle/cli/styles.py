"""``vidstyle styles``: the gallery as a list, as JSON or as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo, echo_json


@click.command()
@opt.plain(
    opt.json_option("Print the list with its cards as JSON."),
    opt.option("--sheet", "photos", type=opt.FILE, multiple=True, help="Draw PHOTO in every style; repeatable."),
    opt.option("-o", "--output", type=opt.FILE, help="Picture file for --sheet."),
    opt.overwrite_option("Replace the picture if it exists."),
)
def styles(as_json: bool, photos: tuple[Path, ...], output: Path | None, overwrite: bool) -> None:
    """List the shipped styles, or draw them on a photo."""
    from vidstyle.gallery import load_style, style_names

    if bool(photos) != (output is not None):
        raise click.UsageError("--sheet PHOTO and -o FILE go together; give both, or neither for the list")
    if output is not None:
        _draw(photos, output, overwrite)
        return
    entries = [(name, load_style(name)) for name in style_names()]
    if as_json:
        facts = [{"name": n, "network": s.network_name, "kind": s.kind, "card": s.card} for n, s in entries]
        echo_json(facts)
        return
    for name, style in entries:
        painting, painter, year = (style.card.get(key, "") for key in ("painting", "painter", "year"))
        echo(f"{name:28} {style.network_name:6} {style.kind:7} {painting}, {painter}, {year}")


def _draw(photos: tuple[Path, ...], output: Path, overwrite: bool) -> None:
    from vidstyle.imaging.image_io import Still, check_output, read_opaque, write_still
    from vidstyle.tools.contact_sheet import contact_sheet

    check_output(output, overwrite=overwrite)  # before anything is painted
    sheet = contact_sheet([read_opaque(photo).rgb for photo in photos])
    write_still(output, Still(sheet), overwrite=overwrite)
    echo(f"{output}: {sheet.shape[1]}x{sheet.shape[0]}")
