"""The networks and styles that ship with vidstyle, and how a style is found by name or path.

``gallery/NETWORK/network.safetensors`` is a shared network, ``gallery/NETWORK/STYLE.safetensors`` a
style, ``STYLE.jpg`` its thumbnail. Styles of `DEFAULT_NETWORK` are called by their bare name, the
others ``network/style``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from vidstyle.enginefile import SUFFIX, EngineFile
from vidstyle.errors import BadModel, BadOption
from vidstyle.networks import ARCHITECTURES, Network
from vidstyle.style import Style, blend, parse_blend

FOLDER = Path(__file__).parent
DEFAULT_NETWORK = "fast"
DEFAULT_STYLE = "starry_night"
NETWORK_FILE = "network.safetensors"


def style_names() -> list[str]:
    """Names of the shipped styles, those of the default network first, sorted."""
    return [name for name, _ in _style_files()]


def _style_files() -> Iterator[tuple[str, Path]]:
    for network in ARCHITECTURES:
        for path in sorted((FOLDER / network).glob("*.safetensors")):
            if path.name != NETWORK_FILE:
                yield (path.stem if network == DEFAULT_NETWORK else f"{network}/{path.stem}"), path


def default_style_name() -> str:
    """The style of ``vidstyle render`` without ``--style``."""
    return DEFAULT_STYLE


def thumbnail(name: str) -> Path | None:
    """The JPEG thumbnail of a shipped style, if it has one."""
    path = dict(_style_files())[name].with_suffix(".jpg")
    return path if path.exists() else None


def load_style(name_or_path: str | Path) -> Style:
    """A shipped style by name, a style file by path, or the style of an engine file.

    A shipped name wins; anything that ends in ``.safetensors`` or ``.engine`` or holds a path separator
    and is not a shipped name is a path. ``x.engine`` is its first style, ``x.engine#NAME`` another one.
    `BadOption` suggests the nearest name.
    """
    text = str(name_or_path)
    files = dict(_style_files())
    if text in files:
        return replace(Style.load(files[text]), name=text)
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


def load_blend(text: str | Path) -> Style:
    """The style that ``--style`` names: ``NAME``, ``FILE`` or ``a:0.7,b:0.3``."""
    if isinstance(text, Path) or Path(text).is_file():
        return load_style(text)
    return blend([(load_style(name), weight) for name, weight in parse_blend(text)])


@cache
def shared_network(name: str) -> Network:
    """The shipped network called ``name``."""
    path = FOLDER / name / NETWORK_FILE
    if not path.exists():
        raise BadModel(
            f"no shared network {name!r} is shipped yet; adapt on the network 'fast', or train with --from-scratch"
        )
    return Network.load(path)


def network_of(style: Style) -> Network:
    """The weights that ``style`` drives: its own, or the shipped network it was adapted for.

    A style made for other weights is refused: it would paint a wrong picture.
    """
    if style.network is not None:
        return style.network
    network = shared_network(style.network_name)
    if network.digest != style.network_digest:
        raise BadModel(
            f"style {style.name!r} was adapted for another version of the {style.network_name!r} network "
            f"({style.network_digest[:12]}; this vidstyle ships {network.digest[:12]}); make it again with "
            f"`vidstyle adapt PAINTING -o {style.name}.safetensors`"
        )
    return network
