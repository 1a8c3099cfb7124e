"""The styles that the keys of a live picture go through."""

from __future__ import annotations

from pathlib import Path

from vidstyle.gallery import load_blend, load_style, shared_network, style_names
from vidstyle.models.style import Style, parse_blend, styles_of_engine


def repertoire(text: str) -> tuple[list[Style], int]:
    """The style to begin with among all that can follow it without compiling, and its number.

    ``text`` is what ``--style`` takes: a shipped name, a file, an engine file or a blend. A shipped style
    stands in its place among the shipped ones of its network; anything else stands first, then what it is
    blended of or the engine's other styles, then the shipped ones. A style learned from scratch is alone.
    """
    chosen = load_blend(text)
    related = chosen.theta == shared_network(chosen.network_name).digest
    shipped = [load_style(name) for name in style_names(chosen.network_name)] if related else []
    names = [style.name for style in shipped]
    if text in names:
        return shipped, names.index(text)
    own: list[Style] = []
    if chosen.engine is not None:
        own = styles_of_engine(chosen.engine)
    elif not Path(text).is_file():
        own = [load_style(name) for name, _ in parse_blend(text)]
    named: dict[str, Style] = {}
    for style in (chosen, *own, *shipped):
        named.setdefault(style.name, style)
    return list(named.values()), 0
