"""What comes from outside, done to a live picture: OSC messages, and keys that have waited for the beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vidstyle.errors import BadOption
from vidstyle.live.keys import WAITING_KEYS, Action, Controls
from vidstyle.options import SmoothOptions
from vidstyle.scheduler import FrameScheduler
from vidstyle.stage.control import StageControl

_RECORD_SECONDS = 1.0  # a recording is begun or ended no more often: each is a file, and an encoder


class Remote:
    """Turns each `Change` into what keys do, too. For the thread that paints."""

    def __init__(self, stage: StageControl, controls: Controls, painter: FrameScheduler[Any]) -> None:
        self.stage = stage
        self._controls, self._painter = controls, painter
        self._elsewhere = painter.look.elsewhere
        self._record: bool | None = None
        self._record_at = float("-inf")
        self._effects: dict[str, Callable[[Any, float], None]] = {
            "key": self._press,
            "style": self._fade_to,
            "blend": self._blend,
            "strength": lambda value, _: setattr(controls, "strength", value),
            "smooth": lambda value, _: painter.smooth(SmoothOptions(strength=value)),
            "mask": self._mask,
            "mirror": lambda on, _: setattr(controls, "mirror", on),
            "split": lambda on, _: setattr(controls, "view", "split" if on else "painted"),
            "record": lambda on, _: setattr(self, "_record", on),
            "snapshot": lambda on, _: self._actions.append("snapshot"),
            "worksize": painter.paint_at,
            "fade": lambda seconds, _: setattr(controls, "fade_seconds", seconds),
        }
        self._actions: list[Action] = []
        self._parts: tuple[tuple[str, float], ...] = ()
        self._title = ""
        self.changed = False
        """Whether the last `heed` has done anything."""

    def heed(self, now: float, *, recording: bool) -> list[Action]:
        """Do what has come, and what has waited long enough; returns what is left to the caller.

        ``recording`` says whether there is a recording at this moment.
        """
        self._actions = []
        changes = self.stage.take(now)
        self.changed = len(changes) > 0
        for change in changes:
            try:
                self._effects[change.name](change.value, now)
            except BadOption as error:
                self.stage.refuse(str(error))
        if self._record is not None and now - self._record_at >= _RECORD_SECONDS:
            if self._record != recording:
                self._record_at = now
                self._actions.append("record")
            self._record = None
        return self._actions

    def press(self, key: str, now: float) -> Action | None:
        """Do what ``key`` stands for, now or on the beat; as `Controls.press`."""
        name = "space" if key == " " else key.lower()
        if name in WAITING_KEYS and self.stage.hold_key(key, now):
            return None
        action = self._controls.press(key, now)
        if action == "tap":
            self.stage.tempo.tap(now)
        return action

    def strength(self, now: float) -> float:
        """The strength of this moment, on its way with the beat."""
        return self.stage.strength(self._controls.strength, now)

    def detail(self) -> str:
        """What the overlay says of the beat."""
        bpm, unit = self.stage.tempo.bpm, self.stage.options.quantize
        if bpm is None:
            return ""
        waiting = f", waiting for the {unit}" if self.stage.is_waiting else ""
        return f"{bpm:.0f} bpm{waiting}"

    def _press(self, key: str, now: float) -> None:
        self._controls.press(key, now)

    # A desk that repeats its state must not begin the fade again each time.

    def _fade_to(self, style: str | int, now: float) -> None:
        controls, index = self._controls, self._controls.index_of(style)
        if index != controls.index or controls.title != controls.current.name:
            controls.choose(now, index)
        self._parts = ()

    def _mask(self, name: str, now: float) -> None:
        painter = self._painter
        painter.look = replace(painter.look, mask=None, elsewhere=None)
        if name != "none":
            painter.look = replace(painter.look, mask=name, elsewhere=self._elsewhere)

    def _blend(self, parts: tuple[tuple[str, float], ...], now: float) -> None:
        if parts != self._parts or self._controls.title != self._title:
            styles = self._controls.styles
            self._controls.mix(now, [(styles[self._controls.index_of(name)], weight) for name, weight in parts])
            self._parts, self._title = parts, self._controls.title
