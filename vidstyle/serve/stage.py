"""The stage of the server: OSC and the beat change the pictures of all visitors at once."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections import deque
from dataclasses import replace
from time import monotonic
from typing import Any

from vidstyle.errors import BadOption
from vidstyle.gallery import DEFAULT_NETWORK, style_names
from vidstyle.options import StageOptions
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.painter import InferenceScheduler
from vidstyle.serve.render_settings import MAX_STYLES, BlendPart, blend_styles, default_settings
from vidstyle.serve.webrtc import PeerSessions
from vidstyle.stage.addresses import Change
from vidstyle.stage.control import StageControl

_log = logging.getLogger(__name__)
_TURN_SECONDS = 0.01  # how often is looked for what has come; a frame takes three times as long
_RATE_TURNS = 8  # the frames a second that are sent are counted over so many sendings: two seconds


class Stage:
    """Sets what the stage has changed for every visitor who is here, and for those who come.

    A visitor who then changes something on the page has that, until the stage changes the same again. For one event
    loop.
    """

    def __init__(self, options: StageOptions, scheduler: InferenceScheduler, peers: PeerSessions, jobs: Jobs) -> None:
        """Open what ``options`` ask for. Raises as `StageControl`."""
        self._peers, self._jobs, self._scheduler = peers, jobs, scheduler
        self.control = StageControl(options, check_style=self._named, in_serve=True)
        self._painted: deque[tuple[float, int]] = deque(maxlen=_RATE_TURNS)
        self._task: asyncio.Task[None] | None = None
        if options.pulse:
            scheduler.swing = self.control.strength

    def start(self) -> None:
        """Begin to act on what comes, if anything can."""
        if self.control.descriptions:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Act on nothing more, and free the ports. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self.control.close)

    @property
    def title(self) -> str:
        """What the stage has all painted with, for people."""
        parts: tuple[BlendPart, ...] = self._peers.overrides.get("blend", default_settings().blend)
        total = sum(part.weight for part in parts)
        shares = [(part.style, round(100 * part.weight / total)) for part in parts]
        named = [name if percent == 100 else f"{name} {percent} %" for name, percent in shares if percent]
        return " + ".join(named)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            try:
                self._turn(monotonic())
            except Exception:
                _log.exception("a change of the stage could not be made")

    def _turn(self, now: float) -> None:
        for change in self.control.take(now):
            try:
                self._apply(self._changes(change))
            except BadOption as error:
                self.control.refuse(str(error))
        for problem in self.control.problems():
            _log.warning("%s", problem)
        self.control.tell(lambda: self._figures(now), now)

    def _apply(self, changes: dict[str, Any]) -> None:
        overrides = self._peers.overrides
        overrides.update(changes)
        for peer in self._peers:
            peer.mailbox.settings = replace(peer.mailbox.settings, **changes)

    def _changes(self, change: Change) -> dict[str, Any]:
        """The fields of `RenderSettings` that ``change`` sets; `BadOption` where it cannot be done."""
        if change.name == "fade":
            return {"fade_seconds": change.value}
        if change.name not in ("style", "blend"):
            return {change.name: change.value}
        if change.name == "blend":
            parts = tuple(BlendPart(name, weight) for name, weight in change.value)
        else:
            parts = (BlendPart(self._named(change.value)),)
        if len(parts) > MAX_STYLES:
            raise BadOption(f"a blend of {len(parts)} styles; `vidstyle serve` blends {MAX_STYLES} at most")
        if parts == self._peers.overrides.get("blend"):  # a desk that repeats itself must not begin the fade again
            return {"blend": parts, "style": self._peers.overrides["style"]}
        return {"blend": parts, "style": blend_styles(parts, self._jobs.user_styles())}

    def _figures(self, now: float) -> tuple[float, float, str]:
        self._painted.append((now, self._scheduler.painted))
        (began, before), (_, painted) = self._painted[0], self._painted[-1]
        latencies = [facts["latency_ms"] for facts in (peer.facts() for peer in self._peers) if facts["latency_ms"]]
        fps = (painted - before) / (now - began) if now > began else 0.0
        return fps, statistics.median(latencies) if latencies else 0.0, self.title

    def _named(self, style: str | int) -> str:
        """The name of a style, which may be given by its number among the shipped ones; `BadOption` for no style."""
        shipped = style_names(DEFAULT_NETWORK)
        if isinstance(style, int) and 1 <= style <= len(shipped):
            return shipped[style - 1]
        if isinstance(style, str) and (style in style_names() or style in self._jobs.user_styles()):
            return style
        raise BadOption(f"there is no style {style!r} here; there are {len(shipped)}: {', '.join(shipped)}")
