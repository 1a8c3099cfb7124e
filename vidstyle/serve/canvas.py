"""One visitor's place in the studio: the newest picture, the look, and whom to tell."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from av.video.frame import VideoFrame

from vidstyle.errors import VidstyleError
from vidstyle.frame import FrameFormat
from vidstyle.models.style import Style
from vidstyle.models.timeline import FADE_SECONDS, Fade
from vidstyle.scheduler import LatestSlot
from vidstyle.serve.look import Look
from vidstyle.serve.picture import Picture, form_for, size_of

_NUDGE_SECONDS = 0.15
"""How long a step of a slider takes: long enough not to jump, short enough to follow the finger."""
_STEADY_SECONDS = 1.0
"""A picture of another size must come for so long before it is painted at that size."""
_TURN_SECONDS = 0.2
"""The same for one of another shape, which looks stretched until then."""
_FREE_CHANGES, _CHANGES_SECONDS = 3, 60.0
"""So many changes of the form in so many seconds are taken as they come; each one more waits twice as long as the last:
every form is compiled, which costs all who are painted."""
_MOST_ASPECT = 0.03
"""Pictures whose shapes differ by less are taken for the same one at another size."""


class Waiting(NamedTuple):
    """A picture that waits to be painted."""

    picture: Picture
    came: float
    """Seconds of `time.monotonic`."""


class Canvas:
    """Pictures are put in on one thread, the look is changed on another, the studio paints on a third."""

    def __init__(
        self,
        look: Look,
        most: tuple[int, int],
        on_painted: Callable[[VideoFrame, float], None],
        on_problem: Callable[[VidstyleError], None],
        wake: Callable[[], None],
    ) -> None:
        """``most`` is the size, ``(height, width)``, that the painting must fit into.

        ``on_painted`` is called on the studio's thread with each painted frame and the time when its picture
        came, ``on_problem`` when there will be no more, and ``wake`` when there is a picture to paint.
        """
        self._most = most
        self.on_painted = on_painted
        self.on_problem = on_problem
        self._wake = wake
        self._lock = threading.Lock()
        self._look = look
        self._fade = Fade(look.style)
        self._pictures: LatestSlot[Waiting] = LatestSlot()
        self._form: FrameFormat | None = None
        self._other: tuple[FrameFormat, float] | None = None
        self._changes: deque[float] = deque(maxlen=16)
        self.painting_with: Style | None = None
        """The style whose network paints at this moment; the studio's to set."""

    @property
    def look(self) -> Look:
        """What is asked for; may be set on any thread. The picture goes there in a moment, not at once."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        with self._lock:
            before, self._look = self._look, look
            if look.style.theta != before.style.theta:
                self._fade = Fade(look.style)
            elif look.style is not before.style:
                same = [name for name, _ in look.blend] == [name for name, _ in before.blend]
                self._fade.to(look.style, monotonic(), _NUDGE_SECONDS if same else FADE_SECONDS)

    @property
    def came(self) -> int:
        """Pictures that came."""
        return self._pictures.arrived

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced before they were painted."""
        return self._pictures.dropped

    @property
    def form(self) -> FrameFormat | None:
        """Of what is painted; None before the first picture."""
        return self._form

    def put(self, picture: Picture, came: float) -> None:
        """A picture has come, at ``came`` seconds of `time.monotonic`; the newest wins. Never waits."""
        self._pictures.put(Waiting(picture, came))
        self._wake()

    def take(self) -> Waiting | None:
        """The newest picture, once."""
        return self._pictures.take(0)

    def now(self) -> tuple[Look, Style]:
        """The look, and the style of this moment."""
        with self._lock:
            return self._look, self._fade.at(monotonic())

    def form_of(self, waiting: Waiting) -> FrameFormat:
        """The form to paint a picture in, at best the one of the last picture.

        Browsers send smaller pictures for a while when they begin, or where the way is narrow; each size
        would be compiled, and strokes would change their size.
        """
        wanted = form_for(size_of(waiting.picture), self._most)
        current = self._form
        if current is None or wanted == current:
            self._form, self._other = wanted, None
            return wanted
        turned = abs(wanted.width * current.height / (wanted.height * current.width) - 1) > _MOST_ASPECT
        if not turned and wanted.height < current.height:
            self._other = None
            return current
        if self._other is None or self._other[0] != wanted:
            self._other = wanted, waiting.came
            return current
        recent = sum(waiting.came - change < _CHANGES_SECONDS for change in self._changes)
        reluctance = 2 ** max(0, recent - _FREE_CHANGES)
        if waiting.came - self._other[1] >= (_TURN_SECONDS if turned else _STEADY_SECONDS) * reluctance:
            self._form, self._other = wanted, None
            self._changes.append(waiting.came)
        return self._form or wanted
