"""The styles that the keys of a live picture go through."""

from __future__ import annotations

from pathlib import Path

from vidstyle.gallery import load_blend, load_style, style_names
from vidstyle.style import Style, parse_blend


def repertoire(text: str) -> tuple[list[Style], int]:
    """The style to begin with among all that can follow it without compiling, and its number.

    ``text`` is what ``--style`` takes: a shipped name, a file, an engine file or a blend. A shipped style
    stands in its place among the shipped ones of its network; anything else stands first, then what it is
    blended of or the engine's other styles, then the shipped ones. A style with a network of its own is alone.
    """
    chosen = load_blend(text)
    if chosen.kind == "full":
        return [chosen], 0
    shipped = [load_style(name) for name in style_names()]
    shipped = [style for style in shipped if style.network_digest == chosen.network_digest]
    names = [style.name for style in shipped]
    if text in names:
        return shipped, names.index(text)
    own: list[Style] = []
    if chosen.engine is not None:
        own = [Style.of_engine(chosen.engine, name) for name in chosen.engine.card.styles]
    elif not Path(text).is_file():
        own = [load_style(name) for name, _ in parse_blend(text)]
    named: dict[str, Style] = {}
    for style in (chosen, *own, *shipped):
        named.setdefault(style.name, style)
    return list(named.values()), 0
