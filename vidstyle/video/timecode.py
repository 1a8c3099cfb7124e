"""Time codes of film and television: ``01:02:03:04``, or ``01:02:03;04`` where numbers are dropped to keep in step."""

from __future__ import annotations

import re
from fractions import Fraction

_SHAPE = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)([:;.,])(\d\d+)")
_HOURS = 24


def timecode_behind(code: str, rate: Fraction, frames: int) -> str | None:
    """The time code ``frames`` pictures behind ``code``; None where ``code`` is none at ``rate`` pictures a second.

    With another mark than a colon before its last number the code is a drop-frame one (SMPTE ST 12-1): in
    each minute but every tenth the first two numbers of 30 are left out, the first four of 60.
    """
    match = _SHAPE.fullmatch(code.strip())
    base = round(rate)
    if match is None or base < 1:
        return None
    hours, minutes, seconds, frame = (int(match[i]) for i in (1, 2, 3, 5))
    drops = match[4] != ":"
    if frame >= base or (drops and base % 30):
        return None
    dropped = base // 15 if drops else 0
    minute = 60 * hours + minutes
    number = (60 * minute + seconds) * base + frame - dropped * (minute - minute // 10) + frames
    ten_minutes = 600 * base - 9 * dropped
    number %= _HOURS * 6 * ten_minutes
    tens, rest = divmod(number, ten_minutes)
    number += 9 * dropped * tens
    if rest >= 60 * base:  # behind the first of ten minutes, which drops nothing
        number += dropped * ((rest - dropped) // (60 * base - dropped))
    frame, seconds = number % base, number // base
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{match[4]}{frame:02}"


def timecode_in(*tags: dict[str, str]) -> str | None:
    """The first time code among ``tags``; containers spell the key in their own ways."""
    found = (value for each in tags for key, value in each.items() if key.lower() == "timecode")
    return next(found, None)
