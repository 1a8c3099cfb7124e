"""The static site of ``vidstyle web``: it needs a web server for files, and nothing else."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import vidstyle
from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption
from vidstyle.files import check_folder, short_name, write_failure
from vidstyle.gallery import DEFAULT_NETWORK, DEFAULT_STYLE, load_style, style_names, style_path, thumbnail
from vidstyle.models.architecture import NETWORK_FILE, SHIPPED
from vidstyle.models.style import Style

_SHARED_PAGE = Path(__file__).parent / "page"
_OWN_PAGE = Path(__file__).parent / "site"
_LIST = "site.json"
_PHOTO = PHOTOS / "chelsea.jpg"


def shared_page() -> list[Path]:
    """What this page and that of ``vidstyle serve`` are made of, besides their own: files for addresses page/NAME."""
    return [*_SHARED_PAGE.iterdir(), SHIPPED / DEFAULT_NETWORK / NETWORK_FILE]


def write_site(folder: Path, *, overwrite: bool = False) -> int:
    """Write the site to ``folder``, whole or not at all, and return its bytes.

    `BadOption` where the folder holds something already, unless that is such a site and ``overwrite`` is given.
    """
    _check(folder, overwrite)
    target = Path(os.path.realpath(folder))
    part = target.with_name(f".{short_name(target.name, 80)}.{secrets.token_hex(4)}.part")
    try:
        _write(part)
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        if target.exists():
            old = part.with_suffix(".old")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(target)
    except OSError as error:
        raise BadOption(write_failure(folder, error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return size


def _check(folder: Path, overwrite: bool) -> None:
    check_folder(folder)
    if not folder.exists():
        if not folder.parent.is_dir():
            raise BadOption(f"cannot write {folder}: there is no folder {folder.parent}; make it first")
        return
    found = [path.name for path in folder.iterdir()]
    if found and _LIST not in found:
        raise BadOption(f"folder {folder} holds other files, such as {min(found)}; name a new or an empty one")
    if found and not overwrite:
        raise BadOption(f"folder {folder} holds such a site already; name another one, or replace it with --overwrite")


def _write(folder: Path) -> None:
    (folder / "page").mkdir(parents=True)
    for path in (*shared_page(), *_OWN_PAGE.iterdir()):
        shutil.copyfile(path, folder / path.name if path.suffix == ".html" else folder / "page" / path.name)
    for name in ("styles", "thumbnails"):
        (folder / name).mkdir()
    entries = []
    for name in style_names(DEFAULT_NETWORK):
        style = load_style(name)
        shutil.copyfile(style_path(name), folder / "styles" / f"{name}.safetensors")
        picture = thumbnail(name)
        if picture is not None:
            shutil.copyfile(picture, folder / "thumbnails" / f"{name}.jpg")
        entries.append(_entry(name, style, picture is not None))
    shutil.copyfile(_PHOTO, folder / "photo.jpg")
    site = {"version": vidstyle.__version__, "photo": "photo.jpg", "first": DEFAULT_STYLE, "styles": entries}
    (folder / _LIST).write_text(json.dumps(site, indent=1) + "\n", encoding="utf-8")


def _entry(name: str, style: Style, has_thumbnail: bool) -> dict[str, Any]:
    """A style as the gallery of the page lists it."""
    return {
        "name": name,
        "title": style.card.get("painting") or name,
        **{key: style.card.get(key) for key in ("painter", "year", "licence")},
        "network": style.network_name,
        "thumbnail": f"thumbnails/{name}.jpg" if has_thumbnail else "photo.jpg",
    }
