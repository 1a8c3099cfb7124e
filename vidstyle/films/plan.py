"""The plan of a film: when every frame is shown, and the parts in which it is painted."""

from __future__ import annotations

import hashlib
import math
import zlib
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidstyle import __version__
from vidstyle.errors import BadOption
from vidstyle.imaging.smoothing import Smoother
from vidstyle.models.timeline import Timeline
from vidstyle.options import BACKGROUND, PERSON, SmoothOptions
from vidstyle.rendering import VideoPainter
from vidstyle.video.frame_index import FrameIndex
from vidstyle.video.stretch import EntryPoint, Stretch

PART_SECONDS = 60.0
"""Of film in a part: so much is lost at most when a machine stops."""
LEAD_IN = 48
"""Frames that are painted before a part that begins within a scene, for the memory of `--smooth` and of masks."""
_CUT_LOOK, _CUTS_TRIED = 8, 3
_REACH = 0.5
"""Share of a part's length by which it may be shorter or longer, to begin at a key frame."""
_NO_DIFFERENCE = ("threads", "rebuild")
"""Options that pictures do not depend on."""


def packed(numbers: NDArray[np.int64]) -> bytes:
    """Many whole numbers, which are much alike, in little space."""
    return zlib.compress(np.ascontiguousarray(numbers, "<i8").tobytes())


def unpacked(data: bytes) -> NDArray[np.int64]:
    """What `packed` was given. Raises `ValueError`."""
    try:
        return np.frombuffer(zlib.decompress(data), "<i8").astype(np.int64)
    except zlib.error as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Part:
    """The order for one part: which frames to paint, and where to begin decoding for them."""

    number: int
    begin: int
    """Number of its first frame, from the film's first, which is 0."""
    frames: int
    first: int
    last: int
    """Pts of its first and last frame, in the source's time base."""
    lead: int
    """Pts of the first frame to paint: those before ``first`` are thrown away, as smoothing begins with them."""
    next: int | None
    """Pts of the first frame of the next part; None for the last one."""
    entry: EntryPoint | None
    """The key frame to decode from; None is the beginning of the file."""

    @property
    def stretch(self) -> Stretch:
        # What is lost between two parts is lost by the first of them.
        losses = -math.inf if self.number == 0 else self.first, math.inf if self.next is None else self.next
        return Stretch(self.lead, self.last, self.entry, losses)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts of a film. As JSON it is what makes a later run go on where an earlier one was stopped."""

    version: int = 1
    facts: dict[str, str]
    """What the pictures depend on, in words: source, style, options."""
    stamp: tuple[int, int]
    """Size of the source in bytes, and when it was changed last: where they are the same, the source is."""
    time_base: tuple[int, int]
    """Numerator and denominator of the seconds in a tick."""
    start: int
    """Pts of the first frame."""
    steps: bytes
    """Ticks from one frame to the next, see `packed`."""
    parts: list[Part]

    @cached_property
    def pts(self) -> NDArray[np.int64]:
        """Of every frame: int64 of shape (frames,). Raises `ValueError` where the plan is damaged."""
        return np.cumsum(np.concatenate([np.array([self.start], np.int64), unpacked(self.steps)]))

    def pts_of(self, part: Part) -> NDArray[np.int64]:
        return self.pts[part.begin : part.begin + part.frames]

    def seconds_of(self, part: Part) -> float:
        """How long the part is shown, about: its last frame counts as long as the one before."""
        pts = self.pts[part.begin : part.begin + part.frames + 1]
        return float((pts[-1] - pts[0]) * Fraction(*self.time_base))

    def check(self, facts: dict[str, str], folder: Path) -> None:
        """`BadOption` that names what differs, unless this is the plan for ``facts``."""
        named = {**self.facts, **facts}
        other = [name for name in named if self.facts.get(name) != facts.get(name)]
        if other:
            was = ", ".join(f"{name} {self.facts.get(name, 'unknown')}" for name in other)
            now = ", ".join(f"{name} {facts.get(name, 'unknown')}" for name in other)
            raise BadOption(
                f"{folder} was begun with {was}, and this is {now}; give the same again, or delete that folder to "
                "begin anew"
            )


def make_plan(
    painter: VideoPainter,
    source: Path,
    index: FrameIndex,
    *,
    facts: dict[str, str],
    stamp: tuple[int, int],
    seconds: float = PART_SECONDS,
) -> Plan:
    """Cut the film into parts of about ``seconds`` that begin at key frames, where one is in reach.

    With smoothing they begin at scene cuts, where it begins anew, or bring a lead-in; so do those with the mask of a
    person, which is steadied over time.
    """
    pts, base = index.pts, index.info.time_base
    scenes = None if painter.smooth is None else SceneCuts(painter, source, index, painter.smooth)
    remembers = scenes is not None or painter.stylizer.look.mask in (PERSON, BACKGROUND)
    begins = _cuts(index, seconds, scenes)
    parts = []
    for number, (begin, end) in enumerate(zip(begins, [*begins[1:], len(pts)], strict=True)):
        is_whole = begin == 0 or not remembers or (scenes is not None and scenes.has(begin))
        lead = begin if is_whole else max(0, begin - LEAD_IN)
        parts.append(
            Part(
                number=number,
                begin=begin,
                frames=end - begin,
                first=int(pts[begin]),
                last=int(pts[end - 1]),
                lead=int(pts[lead]),
                next=int(pts[end]) if end < len(pts) else None,
                entry=index.entry(lead),
            )
        )
    return Plan(
        facts=facts,
        stamp=stamp,
        time_base=(base.numerator, base.denominator),
        start=int(pts[0]),
        steps=packed(np.diff(pts)),
        parts=parts,
    )


def _cuts(index: FrameIndex, seconds: float, scenes: SceneCuts | None) -> list[int]:
    """The numbers of the frames at which parts begin."""
    pts, keys = index.pts, index.key_frames()
    length = max(1, round(seconds / index.info.time_base))
    begins = [0]
    while pts[-1] - pts[begins[-1]] > (1 + _REACH) * length:
        ideal = pts[begins[-1]] + length
        reach = int(_REACH * length)
        near = keys[(pts[keys] >= ideal - reach) & (pts[keys] <= ideal + reach) & (keys > begins[-1])]
        near = near[np.argsort(np.abs(pts[near] - ideal), kind="stable")]
        cut = next((int(key) for key in near[:_CUTS_TRIED] if scenes is None or scenes.has(int(key))), None)
        if cut is None and len(near):
            cut = int(near[0])
        begins.append(max(begins[-1] + 1, int(np.searchsorted(pts, ideal))) if cut is None else cut)
    return begins


class SceneCuts:
    """Tells whether smoothing begins anew at a frame, by the smoother's own eyes on the frames before."""

    def __init__(self, painter: VideoPainter, source: Path, index: FrameIndex, smooth: SmoothOptions) -> None:
        self._painter, self._source, self._index, self._smooth = painter, source, index, smooth
        self._known: dict[int, bool] = {}

    def has(self, frame: int) -> bool:
        """Whether a scene begins at frame number ``frame``."""
        if frame not in self._known:
            self._known[frame] = self._looked(frame)
        return self._known[frame]

    def _looked(self, frame: int) -> bool:
        index, first = self._index, max(0, frame - _CUT_LOOK)
        stretch = Stretch(int(index.pts[first]), int(index.pts[frame]), index.entry(first))
        smoother, goes_on = None, True
        with self._painter.open_reader(self._source, stretch=stretch, info=index.info) as video:
            for picture in self._painter.frames(video):
                task = self._painter.stylizer.prepare(picture)
                smoother = smoother or Smoother(task.work.form, self._smooth)
                goes_on = smoother.estimate_motion(task.work.planes, task.style.parts) is not None
        return smoother is not None and smoother.cuts > 0 and not goes_on


def facts_of(painter: VideoPainter, size: tuple[int, int | None] | None, suffix: str) -> dict[str, str]:
    """What the pictures depend on beside the source, in words, by the name of the option."""
    facts = {
        "vidstyle": __version__,
        "style": f"{painter.timeline.name} ({style_digest(painter.timeline)[:12]})",
        "container": suffix,
        "size": "of the source" if size is None else "x".join("*" if s is None else str(s) for s in reversed(size)),
        "smooth": "off" if painter.smooth is None else f"{painter.smooth.strength:g}",
    }
    options: tuple[Any, ...] = (painter.stylizer.look, painter.encode, painter.clip, painter.backend)
    for group in options:
        for one in fields(group):
            if one.name not in _NO_DIFFERENCE:
                value = getattr(group, one.name)
                facts[one.name.replace("_", " ")] = "by default" if value is None else str(value)
    look = painter.stylizer.look
    if look.mask is not None:
        from vidstyle.masks.mask import mask_fact

        facts["mask"] = mask_fact(look.mask)
    if look.elsewhere is not None:
        facts["elsewhere"] = f"{look.elsewhere} ({style_digest(Timeline([(0, look.elsewhere)]))[:12]})"
    return facts


def style_digest(timeline: Timeline) -> str:
    """SHA-256 (hex) of everything that a timeline paints with."""
    sha = hashlib.sha256(repr((timeline.fade, [key.seconds for key in timeline.keys])).encode())
    for key in timeline.keys:
        engine = key.style.engine
        sha.update(repr(None if engine is None else engine.card).encode())
        for network, share in key.style.parts:
            sha.update(f"{network.digest} {share!r}".encode())
            sha.update(np.ascontiguousarray(network.start, np.float32).tobytes())
    return sha.hexdigest()
