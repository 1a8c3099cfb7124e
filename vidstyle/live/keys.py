"""The keys of the live window, in one table, and what they change: style, blend, strength, view.

Knows no window and no clock. Styles are imported late: the command line's help shows the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from vidstyle.errors import BadOption
from vidstyle.options import View, check_between

if TYPE_CHECKING:
    from vidstyle.models.style import Style

Action = Literal["snapshot", "record", "tap", "quit"]
"""What a key leaves to whoever shows the picture."""
_VIEWS: tuple[View, ...] = get_args(View)
_NUDGE_SECONDS = 0.15  # how long a step of the blend takes: long enough not to jump, short enough to follow the finger
_STEPS = 10  # steps of the blend, and of the strength, from nothing to all


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
        """``styles``, all of one theta, are what n, p and digits go through, beginning with number ``index``."""
        from vidstyle.models.style import blend
        from vidstyle.models.timeline import FADE_SECONDS, Fade

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
        self.fade_seconds = FADE_SECONDS
        """How long one style takes to become another."""
        self._mix: list[tuple[Style, float]] = []
        self._fade = Fade(self.current)

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
        if self._mix:
            total = sum(weight for _, weight in self._mix)
            shares = [(style.name, round(100 * weight / total)) for style, weight in self._mix]
            return " + ".join(f"{name} {percent} %" for name, percent in shares if percent)
        percent = round(100 * self.share)
        if percent in (0, 100):
            return (self.next if percent else self.current).name
        return f"{self.current.name} {100 - percent} % + {self.next.name} {percent} %"

    def index_of(self, style: str | int) -> int:
        """The index of the style with that name, or number from 1; `BadOption` where there is none."""
        names = [one.name for one in self.styles]
        if isinstance(style, int) and 1 <= style <= len(names):
            return style - 1
        if style in names:
            return names.index(str(style))
        raise BadOption(f"there is no style {style!r} here; there are {len(names)}: {', '.join(names)}")

    def style(self, now: float) -> Style:
        """What to paint with at this moment, on its way from the last style if need be."""
        return self._fade.at(now)

    def press(self, key: str, now: float) -> Action | None:
        """Do what ``key`` stands for, or return what the caller is to do; unknown keys do nothing.

        ``key`` is a character, or ``escape``, ``left``, ``right``, ``up`` or ``down``.
        """
        effect = _EFFECTS.get("space" if key == " " else key.lower())
        return effect(self, now) if callable(effect) else effect

    def mix(self, now: float, weighted: Sequence[tuple[Style, float]]) -> None:
        """Fade to a blend of any styles of the list; quickly where only its weights are others. Raises as `blend`."""
        from vidstyle.models.style import blend

        mixed = blend([(style, weight) for style, weight in weighted if weight > 0])
        is_slider = [style.name for style, _ in weighted] == [style.name for style, _ in self._mix]
        self._mix = list(weighted)
        self._fade.to(mixed, now, min(self.fade_seconds, _NUDGE_SECONDS) if is_slider else self.fade_seconds)

    # What keys do; each is called with the time as ``now``.

    def step(self, now: float, by: int) -> None:
        """Fade to the next style, or with -1 to the one before."""
        self.choose(now, (self.index + by) % len(self.styles))

    def choose(self, now: float, index: int) -> None:
        """Fade to the style with that number, if there is one."""
        if index < len(self.styles):
            self.index, self.share, self._mix = index, 0.0, []
            self._fade_to(self.fade_seconds, now)

    def blend(self, now: float, by: int) -> None:
        """Take a step more or less of the next style."""
        if len(self.styles) > 1:
            self.share, self._mix = _stepped(self.share, by), []
            self._fade_to(_NUDGE_SECONDS, now)

    def strengthen(self, now: float, by: int) -> None:
        self.strength = _stepped(self.strength, by)

    def next_view(self, now: float) -> None:
        self.view = _VIEWS[(_VIEWS.index(self.view) + 1) % len(_VIEWS)]

    def toggle(self, now: float, name: str) -> None:
        """Turn something on or off."""
        setattr(self, name, not getattr(self, name))

    def _fade_to(self, seconds: float, now: float) -> None:
        from vidstyle.models.style import blend

        parts = [(self.current, 1 - self.share), (self.next, self.share)]
        self._fade.to(blend([(style, weight) for style, weight in parts if weight > 0]), now, seconds)


def _stepped(value: float, direction: int) -> float:
    """The next step above or below ``value``, within 0 and 1."""
    return min(_STEPS, max(0, round(value * _STEPS) + direction)) / _STEPS


_Effect: TypeAlias = Action | Callable[[Controls, float], None]


class Keys(NamedTuple):
    """A line of the help, and what each of its keys, named with spaces between them, does."""

    shown: str
    help: str
    effects: dict[str, _Effect]
    waits: bool = False
    """Whether what they do waits for the beat, with ``--quantize``."""


KEYS = (
    Keys(
        "n  p",
        "next, previous style",
        {"n right": partial(Controls.step, by=1), "p left": partial(Controls.step, by=-1)},
        waits=True,
    ),
    Keys(
        "1 ... 9  0",
        "style by number",
        {str((n + 1) % 10): partial(Controls.choose, index=n) for n in range(10)},
        waits=True,
    ),
    Keys(
        "[  ]",
        "blend with the next style: less, more",
        {"[": partial(Controls.blend, by=-1), "]": partial(Controls.blend, by=1)},
        waits=True,
    ),
    Keys(
        "+  -",
        "strength",
        {"+ = up": partial(Controls.strengthen, by=1), "- _ down": partial(Controls.strengthen, by=-1)},
    ),
    Keys("o", "painted, split, original", {"o": Controls.next_view}, waits=True),
    Keys("m", "mirror the window", {"m": partial(Controls.toggle, name="mirror")}, waits=True),
    Keys("f", "full screen", {"f": partial(Controls.toggle, name="full_screen")}),
    Keys("space", "pause", {"space": partial(Controls.toggle, name="paused")}),
    Keys("s", "snapshot", {"s": "snapshot"}),
    Keys("r", "record on, off", {"r": "record"}),
    Keys("t", "tap the beat", {"t": "tap"}),
    Keys("h", "this help", {"h": partial(Controls.toggle, name="help")}),
    Keys("q  Esc", "quit", {"q escape": "quit"}),
)
"""All keys, as the help panel and the command line's help show them."""
WAITING_KEYS = {key for line in KEYS if line.waits for keys in line.effects for key in keys.split()}
"""The keys that wait for the beat."""
_EFFECTS = {key: effect for line in KEYS for keys, effect in line.effects.items() for key in keys.split()}


def style_list(text: str) -> tuple[list[Style], int]:
    """The style to begin with among all that can follow it without compiling, and its number.

    ``text`` is what ``--style`` takes: a shipped name, a file, an engine file or a blend. A shipped style
    stands in its place among the shipped ones of its network; anything else stands first, then what it is
    blended of or the engine's other styles, then the shipped ones. A style learned from scratch is alone.
    """
    from vidstyle.gallery import load_blend, load_style, shared_network, style_names
    from vidstyle.models.style import parse_blend, styles_of_engine

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
