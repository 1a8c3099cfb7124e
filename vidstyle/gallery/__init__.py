"""The networks and styles that ship with vidstyle, and how a style is found by name or path.

``gallery/NETWORK/network.safetensors`` is a shared network, ``gallery/NETWORK/STYLE.safetensors`` a
style, ``STYLE.jpg`` its thumbnail. Styles of `DEFAULT_NETWORK` are called by their bare name, the
others ``network/style``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from vidstyle.errors import BadOption
from vidstyle.files import as_path
from vidstyle.models.architecture import ARCHITECTURES, NETWORK_FILE, SHIPPED, shared_network
from vidstyle.models.engine_file import SUFFIX, EngineFile
from vidstyle.models.style import Style, blend, parse_blend

__all__ = [
    "DEFAULT_NETWORK",
    "DEFAULT_STYLE",
    "load_blend",
    "load_style",
    "shared_network",
    "style_names",
    "style_path",
    "thumbnail",
]

DEFAULT_NETWORK = "fast"
DEFAULT_STYLE = "starry_night"
"""The style of ``vidstyle render`` without ``--style``."""


def style_names(network: str | None = None) -> list[str]:
    """Names of the shipped styles, those of the default network first, sorted; or those of one ``network``."""
    return [name for name, _ in _style_files(network)]


def _style_files(only: str | None = None) -> Iterator[tuple[str, Path]]:
    for network in ARCHITECTURES if only is None else [only]:
        for path in sorted((SHIPPED / network).glob("*.safetensors")):
            if path.name != NETWORK_FILE:
                yield (path.stem if network == DEFAULT_NETWORK else f"{network}/{path.stem}"), path


def style_path(name: str) -> Path:
    """The file of a shipped style."""
    return dict(_style_files())[name]


def thumbnail(name: str) -> Path | None:
    """The JPEG thumbnail of a shipped style, if it has one."""
    path = style_path(name).with_suffix(".jpg")
    return path if path.exists() else None


def load_style(name_or_path: str | Path) -> Style:
    """A shipped style by name, a style file by path, or the style of an engine file.

    A shipped name wins; anything that ends in ``.safetensors`` or ``.engine`` or holds a path separator
    and is not a shipped name is a path. ``x.engine`` is its first style, ``x.engine#NAME`` another one.
    `BadOption` suggests the nearest name.
    """
    text = str(as_path(name_or_path, "style"))
    files = dict(_style_files())
    if text in files:
        return _shipped(text, files[text])
    engine, _, name = text.partition(f"{SUFFIX}#")
    if name:
        return Style.of_engine(EngineFile.open(Path(engine + SUFFIX)), name)
    if text.endswith(SUFFIX):
        return Style.of_engine(EngineFile.open(Path(text)))
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or path.exists():
        return Style.load(path)
    near = difflib.get_close_matches(text, files, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise BadOption(
        f"there is no style called {text!r}; {hint}`vidstyle styles` lists the shipped ones, "
        "`vidstyle adapt painting.jpg -o mine.safetensors` makes a new one"
    )


@lru_cache(16)
def _shipped(name: str, path: Path) -> Style:
    """One object for each style: what has been computed of it is found again by that."""
    return replace(Style.load(path), name=name)


def load_blend(text: str | Path) -> Style:
    """The style that ``--style`` names: ``NAME``, ``FILE`` or ``a:0.7,b:0.3``."""
    if isinstance(text, Path) or as_path(text, "style").is_file():
        return load_style(text)
    return blend([(load_style(name), weight) for name, weight in parse_blend(text)])
