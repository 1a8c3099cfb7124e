"""What the keys of the live window change: style, blend, strength, view. Knows no window and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from vidstyle.errors import BadOption
from vidstyle.models.style import Style, blend
from vidstyle.options import check_between

View = Literal["painted", "split", "original"]
Action = Literal["snapshot", "record", "quit"]

VIEWS: tuple[View, ...] = ("painted", "split", "original")
FADE_SECONDS = 0.5
"""How long one style takes to become another."""
_NUDGE_SECONDS = 0.15
"""The same for a step of the blend: long enough not to jump, short enough to follow the finger."""
_STEPS = 10
"""Steps of the blend, and of the strength, from nothing to all."""

KEYS: tuple[tuple[str, str], ...] = (
    ("n  p", "next, previous style"),
    ("1 ... 9  0", "style by number"),
    ("[  ]", "blend with the next style: less, more"),
    ("+  -", "strength"),
    ("o", "painted, split, original"),
    ("m", "mirror the window"),
    ("f", "full screen"),
    ("space", "pause"),
    ("s", "snapshot"),
    ("r", "record on, off"),
    ("h", "this help"),
    ("q  Esc", "quit"),
)
"""What the help panel says: keys, and what they do."""

_SAME_AS = {"escape": "q", "right": "n", "left": "p", "up": "+", "down": "-", "=": "+", "_": "-"}


class Fade:
    """A style on its way to another one, from wherever it is at that moment."""

    def __init__(self, style: Style) -> None:
        self._from = self._to = style
        self._began, self._seconds = 0.0, 0.0

    def to(self, style: Style, now: float, seconds: float) -> None:
        """Be at ``style`` in ``seconds`` from ``now``; both have one theta."""
        self._from, self._to = self.at(now), style
        self._began, self._seconds = now, seconds

    def at(self, now: float) -> Style:
        """The style of that moment, called as the one that it goes to; that very one once it is there."""
        passed = now - self._began
        if passed >= self._seconds:
            return self._to
        t = max(0.0, passed / self._seconds)
        share = t * t * (3 - 2 * t)  # sets out and arrives without a jerk
        return replace(blend([(self._from, 1 - share), (self._to, share)]), name=self._to.name)


class Controls:
    """The state that keys change. Times are seconds of any clock that goes forward."""

    def __init__(
        self,
        styles: Sequence[Style],
        *,
        index: int = 0,
        strength: float = 1.0,
        mirror: bool = False,
        view: View = "painted",
        full_screen: bool = False,
    ) -> None:
        """``styles``, all of one theta, are what n, p and digits go through; it begins with number ``index``."""
        if not styles or not 0 <= index < len(styles):
            raise BadOption(f"{len(styles)} styles and {index = }; there must be a style, and the index must be of one")
        check_between("strength", strength, 0, 1)
        blend([(style, 1.0) for style in styles])  # says which of them do not go together
        self.styles = tuple(styles)
        self.index = index
        """Number of the current style."""
        self.share = 0.0
        """How much of the next style is in the blend, 0 to 1."""
        self.strength = strength
        self.mirror = mirror
        self.view: View = view
        self.full_screen = full_screen
        self.paused = False
        self.help = False
        self._target = self.styles[index]
        self._fade = Fade(self._target)

    @property
    def current(self) -> Style:
        """The style that was chosen."""
        return self.styles[self.index]

    @property
    def next(self) -> Style:
        """The style that [ and ] blend it with."""
        return self.styles[(self.index + 1) % len(self.styles)]

    @property
    def title(self) -> str:
        """Style and blend, for people: ``great_wave 70 % + the_scream 30 %``."""
        percent = round(100 * self.share)
        if percent == 0:
            return self.current.name
        if percent == 100:
            return self.next.name
        return f"{self.current.name} {100 - percent} % + {self.next.name} {percent} %"

    def style(self, now: float) -> Style:
        """What to paint with at this moment, on its way from the last style if need be."""
        return self._fade.at(now)

    def press(self, key: str, now: float) -> Action | None:
        """Do what ``key`` stands for, or return what the caller is to do; unknown keys do nothing.

        ``key`` is a character, or ``escape``, ``left``, ``right``, ``up`` or ``down``.
        """
        key = _SAME_AS.get(key, key.lower())
        if key in ("n", "p"):
            self._choose((self.index + (1 if key == "n" else -1)) % len(self.styles), now)
        elif len(key) == 1 and key in "1234567890":
            number = (int(key) - 1) % 10  # 0 is the tenth
            if number < len(self.styles):
                self._choose(number, now)
        elif key in ("[", "]"):
            self._blend(1 if key == "]" else -1, now)
        elif key in ("+", "-"):
            self.strength = _stepped(self.strength, 1 if key == "+" else -1)
        elif key == "m":
            self.mirror = not self.mirror
        elif key == "f":
            self.full_screen = not self.full_screen
        elif key == "o":
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        elif key == " ":
            self.paused = not self.paused
        elif key == "h":
            self.help = not self.help
        elif key == "s":
            return "snapshot"
        elif key == "r":
            return "record"
        elif key == "q":
            return "quit"
        return None

    def _choose(self, index: int, now: float) -> None:
        self.index, self.share = index, 0.0
        self._go(FADE_SECONDS, now)

    def _blend(self, direction: int, now: float) -> None:
        if len(self.styles) > 1:
            self.share = _stepped(self.share, direction)
            self._go(_NUDGE_SECONDS, now)

    def _go(self, seconds: float, now: float) -> None:
        parts = [(self.current, 1 - self.share), (self.next, self.share)]
        self._target = blend([(style, weight) for style, weight in parts if weight > 0])
        self._fade.to(self._target, now, seconds)


def _stepped(value: float, direction: int) -> float:
    """The next step above or below ``value``, within 0 and 1."""
    return min(_STEPS, max(0, round(value * _STEPS) + direction)) / _STEPS
