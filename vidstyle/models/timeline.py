"""Styles over time: which style each moment of a video is painted in, with a fade from one to the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from vidstyle.errors import BadOption
from vidstyle.gallery import load_blend
from vidstyle.models.style import Style, blend
from vidstyle.options import check_between

FADE_SECONDS = 0.5
"""How long one style takes to become another in a live picture."""
_LONGEST = 1e9
"""Seconds; as in `vidstyle.options.ClipOptions`."""


@dataclass(frozen=True, eq=False)
class Key:
    """A style and the time at which it is fully there."""

    seconds: Fraction
    """From the beginning of the output, as a player shows it."""
    style: Style


class Timeline:
    """Styles keyed to times, with smooth fades between them.

    >>> Timeline([(0, "great_wave"), (5, "the_scream:0.5,starry_night:0.5")], fade=2.0)

    At the time of a key the picture is fully in its style, and stays so until the fade to the next key,
    which takes the last ``fade`` seconds before that one. Where two keys are closer than that, the fade
    takes all the time between them, so every key is reached whatever the fade; 0 cuts. Before the first
    key its style holds, after the last one that.
    """

    def __init__(self, keys: Iterable[tuple[float | Fraction, str | Path | Style]], *, fade: float | Fraction = 1.0):
        """``keys`` are pairs of seconds, rising, and a style as `vidstyle.stylizer.Stylizer` takes it.

        A float means the decimal number that it is written as: 0.1 is exactly a tenth. `BadOption` for
        times that do not rise and styles that do not blend; `BadModel` for a broken style file.
        """
        self.fade = _exact("fade", fade)
        """Seconds that a fade takes where there is room for it."""
        pairs = [] if isinstance(keys, str) else list(keys)
        if isinstance(keys, str) or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise BadOption("a timeline is made of pairs such as (5, 'great_wave'): seconds, and a style")
        self.keys = tuple(_key(seconds, style) for seconds, style in pairs)
        """In the order of time; at least one."""
        if not self.keys:
            raise BadOption("there is no style on the timeline; give at least one, such as (0, 'great_wave')")
        for before, after in pairwise(self.keys):
            if after.seconds == before.seconds:
                raise BadOption(
                    f"there are two styles at {clock(after.seconds)}, {before.style.name!r} and "
                    f"{after.style.name!r}; give each time once"
                )
            if after.seconds < before.seconds:
                raise BadOption(
                    f"style {after.style.name!r} at {clock(after.seconds)} stands behind {before.style.name!r} at "
                    f"{clock(before.seconds)}; give the times in rising order"
                )
        try:
            blend([(key.style, 1.0) for key in self.keys])
        except BadOption as error:
            raise BadOption(f"the styles of one video fade into each other: {error}") from error
        self._times = [key.seconds for key in self.keys]

    @property
    def name(self) -> str:
        """For people: ``great_wave, from 0:05 the_scream``."""
        first, *others = self.keys
        return ", from ".join([first.style.name, *(f"{clock(key.seconds)} {key.style.name}" for key in others)])

    def at(self, seconds: float | Fraction) -> Style:
        """The style at a time of the output: a key's own `Style`, or between two the blend of both.

        The share of the coming style follows `smoothstep`.
        """
        now = seconds if isinstance(seconds, Fraction) else Fraction(repr(float(seconds)))
        index = bisect_right(self._times, now)
        if index == 0 or index == len(self.keys):
            return self.keys[max(0, index - 1)].style
        before, after = self.keys[index - 1 : index + 1]
        begin = self._fade_begin(before, after)
        if now <= begin:
            return before.style
        share = smoothstep(float((now - begin) / (after.seconds - begin)))
        name = f"{before.style.name} to {after.style.name} ({share:.0%})"
        return replace(blend([(before.style, 1 - share), (after.style, share)]), name=name)

    def unseen(self, end: float | Fraction) -> str | None:
        """A sentence on the first style that a video of ``end`` seconds shows nothing of, or None."""
        for before, after in pairwise(self.keys):
            if self._fade_begin(before, after) >= end:
                return (
                    f"style {after.style.name!r} at {clock(after.seconds)} is never seen, as the output ends at "
                    f"{clock(end)}"
                )
        return None

    def _fade_begin(self, before: Key, after: Key) -> Fraction:
        return max(before.seconds, after.seconds - self.fade)


class Fade:
    """A style on its way to another one, from wherever it is at that moment: live, where a `Timeline` knows all."""

    def __init__(self, style: Style) -> None:
        self._from = self._to = style
        self._began, self._seconds = 0.0, 0.0

    def to(self, style: Style, now: float, seconds: float) -> None:
        """Be at ``style`` in ``seconds`` from ``now``; both have one theta."""
        self._from, self._to = self.at(now), style
        self._began, self._seconds = now, seconds

    def at(self, now: float) -> Style:
        """The style of that moment, under the name of the one that it goes to; that very one once it is there."""
        passed = now - self._began
        if passed >= self._seconds:
            return self._to
        share = smoothstep(max(0.0, passed / self._seconds))
        return replace(blend([(self._from, 1 - share), (self._to, share)]), name=self._to.name)


def smoothstep(way: float) -> float:
    """The share of the coming style when ``way``, from 0 to 1, of a fade has passed.

    Pictures move evenly with the share (measured on the gallery), so that any kink of the curve would be
    seen as a jerk: a straight line has one at either end, this has none.
    """
    return way * way * (3 - 2 * way)


def clock(seconds: float | Fraction) -> str:
    """``1:02:03.5`` for people: hours where there are any, and milliseconds without idle zeros."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{thousandths:03}".rstrip("0") if thousandths else text


def _key(seconds: float | Fraction, style: str | Path | Style) -> Key:
    chosen = style if isinstance(style, Style) else load_blend(style)
    return Key(_exact(f"time of style {chosen.name!r}", seconds), chosen)


def _exact(what: str, seconds: float | Fraction) -> Fraction:
    check_between(what, float(seconds), 0, _LONGEST)
    return seconds if isinstance(seconds, Fraction) else Fraction(repr(float(seconds)))
