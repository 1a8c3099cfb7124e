"""How a visitor wants the picture: styles and weights, strength, split, mirror."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vidstyle.errors import BadOption
from vidstyle.gallery import default_style_name, load_style
from vidstyle.models.style import Style
from vidstyle.options import check_between
from vidstyle.serve.own_styles import PREFIX, OwnStyle
from vidstyle.serve.wanted import blend_of

_KEYS = ("blend", "strength", "split", "mirror")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look, checked. `changed` makes another one of it."""

    blend: tuple[tuple[str, float], ...]
    """Names and weights, as asked for."""
    style: Style
    """What they come to at this moment; a style that is being learned comes to something else later."""
    strength: float = 1.0
    """Mix with the source: 0 is the source, 1 the painting."""
    split: bool = False
    """Whether the left half is the source."""
    mirror: bool = False
    """Whether left and right are exchanged."""

    def changed(self, wanted: Mapping[str, Any], own: Mapping[str, OwnStyle]) -> Look:
        """It with what ``wanted``, an object out of JSON, says. `BadOption` in one sentence.

        ``own`` are the visitors' styles by name.
        """
        look = self
        for key, value in wanted.items():
            if key == "blend":
                style = blend_of(value, own)
                look = replace(look, style=style, blend=tuple((p["style"], float(p.get("weight", 1))) for p in value))
            elif key == "strength":
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise BadOption("strength is a number from 0 to 1")
                check_between("strength", value, 0, 1)
                look = replace(look, strength=float(value))
            elif key in ("split", "mirror"):
                if not isinstance(value, bool):
                    raise BadOption(f"{key} is true or false")
                look = replace(look, split=value) if key == "split" else replace(look, mirror=value)
            else:
                raise BadOption(f"a look has no {key[:40]!r}; it has {', '.join(_KEYS)}")
        return look

    def learned(self, own: Mapping[str, OwnStyle]) -> Look:
        """It with the newest that there is of each style; itself where nothing is new, or one is gone."""
        if not any(name.startswith(PREFIX) for name, _ in self.blend):
            return self
        try:
            newer = self.changed({"blend": self.facts()["blend"]}, own)
        except BadOption:
            return self
        return self if newer.style.parts == self.style.parts else newer

    def facts(self) -> dict[str, Any]:
        """It as JSON has it."""
        return {
            "blend": [{"style": name, "weight": weight} for name, weight in self.blend],
            "strength": self.strength,
            "split": self.split,
            "mirror": self.mirror,
        }


def first_look() -> Look:
    """The look of who asks for none."""
    name = default_style_name()
    return Look(blend=((name, 1.0),), style=load_style(name))
