"""The style that a request asks for: one to four names with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.models.style import Style, blend
from vidstyle.options import check_between
from vidstyle.serve.own_styles import OwnStyle

MOST_STYLES = 4


def blend_of(wanted: Any, own: Mapping[str, OwnStyle]) -> Style:
    """The blend in ``wanted``: JSON like ``[{"style": "great_wave", "weight": 0.7}, ...]``.

    Names are those of shipped styles and of ``own``; never paths. `BadOption` says what is wrong.
    """
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= MOST_STYLES:
        raise BadOption(f'a blend is a list of 1 to {MOST_STYLES} styles: [{{"style": NAME, "weight": NUMBER}}, ...]')
    weighted: list[tuple[Style, float]] = []
    shipped = style_names()
    for part in wanted:
        if not isinstance(part, dict) or not set(part) <= {"style", "weight"} or "style" not in part:
            raise BadOption('a part of a blend is {"style": NAME, "weight": NUMBER}, and nothing else')
        name, weight = part["style"], part.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise BadOption("the weight of a style is a number from 0 to 1000")
        check_between("weight", weight, 0, 1000)
        if isinstance(name, str) and name in own:
            weighted.append((own[name].style(), weight))
        elif isinstance(name, str) and name in shipped:
            weighted.append((load_style(name), weight))
        else:
            raise BadOption(f"there is no style {str(name)[:60]!r} here; GET /api/styles lists all")
    return blend(weighted)
