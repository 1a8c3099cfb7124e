"""Temporal smoothing: what was painted before follows the picture, so that strokes stay where they are.

The optical flow of the *source* (DIS: Kroeger and others 2016, on a small luma) says where each pixel was
in the frame before. The picture remembered is warped along it and the new one is mixed in, the less the
better the source itself warps. That is an average over time of textures that differ from frame to frame,
and averages are flat; so what is shown is sharpened by just as much as it takes to give it the gradient
energy of the frame as painted. What is remembered is not sharpened: fed back, that grows patterns.

Beside the painted picture the source is remembered too, small and mixed by the very same weights. How far
the memory may be trusted is read from that one: what it has not yet forgotten cannot hide in it, so neither
a slow fade nor what a moving thing uncovers leaves a ghost that is taken for the scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import FrameFormat, Planes
from vidstyle.imaging.warp import F32, SCALE, U8, U16, remembered, warp_blend
from vidstyle.models.architecture import Network
from vidstyle.models.style import Parts
from vidstyle.options import SmoothOptions

FLOW_ROWS = 176
"""The flow is looked for at about so many rows. Less follows the picture worse (68 rows: a third more of the
flicker is left), more costs time. Flows and the lengths below are in pixels of this small luma."""
FLOW_PRESET = cv2.DISOPTICAL_FLOW_PRESET_FAST
"""Of the flow that pictures are warped along."""
SMALLEST = 24
"""DIS refuses pictures with fewer than 12 rows or columns, and it is asked at half the size too; frames smaller than
this are not smoothed."""
USUAL = 0.7
"""The strength at which the weights below hold."""
KEPT = 0.8
"""Weight of the memory where all is well."""
KEPT_STILL = 0.95
"""What it rises to where nothing moves, so that a still scene comes to rest."""
RISE = 0.15
"""Share of the way that it rises in a frame."""
TOLERANCE = 6.0, 2.5, 24.0
"""Levels by which the source may differ from its memory, there the weight is down to 1/e: in flat parts, so much
more for each level of texture, at most. In texture even a flow that is right to half a pixel leaves a difference."""
CONTRAST = 20.0
"""Standard deviation, in levels, of a picture for which the levels here are meant. The network makes a painting of
full contrast out of a picture of little, so in a darker one the same difference tells more: they shrink with it."""
APART = 1.1, 0.25
"""Pixels, and share of the squared length, by which the flows there and back may miss each other."""
STAYS = 0.8
"""Where the finest detail differs from the frame before by less than this share of what it does along the flow, it
rests: light that moves over a wall takes the flow along, but not the strokes."""
FLAT = 3.0
"""Levels of texture below which that counts less and less: in a plain sky any flow is as good as another."""
STILL_FLOW = 0.08
"""Pixels a frame, averaged over some frames; less is no motion but the flow's own noise."""
STEADY = 0.2
"""Share of the newest flow in that average."""
STILL_LEVELS = 2.0
"""What sensor noise leaves of the difference, averaged over 5 x 5 pixels of the small luma."""
FIRST_GAIN, MIN_GAIN, MAX_GAIN = 0.2, 0.05, 2.5
CUT_FIT, CUT_LEVELS = 0.3, 4.0
"""A cut: the source fits its memory in less than this share, and the frame before differs by more levels."""
STYLE_CUT = 0.6
"""How much of a blend may be other networks than in the one remembered; more is another style. A fade of a second
moves by 0.06 a frame."""
STYLE_LAG = 0.14
"""In the same measure: where the memory is down to 1/e, so that it keeps up with a style that fades."""
ENERGY_ROWS = 40
"""The gradient energy is measured on so many rows."""


@dataclass(frozen=True, eq=False)
class Motion:
    """What two sources in a row say about their painted frames."""

    flow: F32
    """Shape (h, w, 2), in pixels of the small luma: where each pixel was in the frame before."""
    weight: F32
    """Shape (h, w), in [0, 1]: how much of the memory is kept."""


class Smoother:
    """Smooths the frames of one video, in order.

    `step` does it all. `estimate_motion` and `blend` are its halves, which two threads may share: each half sees
    every frame, in order, on one thread at a time.
    """

    def __init__(self, form: FrameFormat, options: SmoothOptions | None = None, *, threads: int = 1) -> None:
        """``form`` is that of every frame, source and styled alike. ``threads`` blend at once."""
        self.form = form
        self.adjust(options or SmoothOptions())
        divisor = max(1, round(min(form.size) / FLOW_ROWS))
        self._size = max(1, form.height // divisor), max(1, form.width // divisor)
        self._x = np.arange(self._size[1], dtype=np.float32)
        self._y = np.arange(self._size[0], dtype=np.float32)[:, None]
        self._threads = threads
        self._flow = cv2.DISOpticalFlow.create(FLOW_PRESET)
        self._flow.setVariationalRefinementIterations(1)  # better than none; more, and more descent, changes nothing
        self._flow.setGradientDescentIterations(5)
        self._flow_back = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._luma: U8 | None = None
        self._seen: F32 | None = None
        self._style: dict[Network, float] | None = None
        self._half = -(-self._size[0] // 2), -(-self._size[1] // 2)
        self._cap = np.full(self._half, self._kept, np.float32)
        self._drift_x, self._drift_y = np.zeros((2, *self._half), np.float32)
        self._memory: list[U16] = []
        self._spare: list[U16] = []
        self._gain = FIRST_GAIN
        self.cuts = 0
        """Cuts from scene to scene and from style to style so far."""

    def adjust(self, options: SmoothOptions) -> None:
        """Smooth as strongly as ``options`` say from the next frame on; what is remembered stays."""
        self.options = options
        strength = options.strength / USUAL
        self._kept = min(0.9, KEPT * strength)
        self._kept_still = max(self._kept, KEPT_STILL * min(1.0, strength))
        # Beyond the usual strength more is trusted, too: tolerances grow with its square.
        self._severity = min(1.0, max(strength, 1e-6) ** -4)

    def reset(self) -> None:
        """Forget what was: the next frame is given back as it is. Not while another thread is at work here."""
        self._luma = None

    def step(self, source: Planes, styled: Planes, style: Parts | None = None) -> Planes:
        """The smoothed frame: new planes of the form, or ``styled`` itself where a scene begins.

        ``source`` is what ``styled`` was made from, and ``style`` what the style is a blend of, if it may change:
        an old style does not linger. Neither picture is kept.
        """
        return self.blend(styled, self.estimate_motion(source, style))

    def estimate_motion(self, source: Planes, style: Parts | None = None) -> Motion | None:
        """How this source goes on from the one before; None where it does not: at the first frame and at a cut."""
        if min(self._size) < SMALLEST:
            return None
        luma = self._small_luma(source)
        before, self._luma = self._luma, luma
        ease = self._ease(style)
        if before is not None:
            motion = self._motion(luma, before, ease) if ease > 0 else None
            if motion is not None:
                return motion
            self.cuts += 1
        self._seen, self._style = luma.astype(np.float32), None if style is None else dict(style)
        self._cap.fill(self._kept)
        self._drift_x.fill(0)
        self._drift_y.fill(0)
        return None

    def blend(self, styled: Planes, motion: Motion | None) -> Planes:
        """The other half of `step`; ``motion`` is what `estimate_motion` returned for the source of ``styled``."""
        if min(self._size) < SMALLEST:
            return styled
        if motion is None or not self._memory:
            self._memory = [remembered(plane) for plane in styled]
            self._spare = [np.empty_like(memory) for memory in self._memory]
            self._gain = FIRST_GAIN  # so that a scene looks the same whatever was before
            return styled
        shown = tuple(np.empty(plane.shape, np.uint8) for plane in styled)
        for index, (new, memory, spare, out) in enumerate(zip(styled, self._memory, self._spare, shown, strict=True)):
            gain = self._gain if index == 0 else 0.0  # luma, or red, green and blue; chroma has no fine texture
            warp_blend(new, memory, motion.flow, motion.weight, gain, out, spare, threads=self._threads)
        self._memory, self._spare = self._spare, self._memory
        self._gain = fitting_gain(self._gain, styled[0], self._memory[0], shown[0])
        return shown

    def _ease(self, style: Parts | None) -> float:
        """Share of the memory that a change of style leaves: 1 without one, 0 where the style is another one."""
        if style is None or self._style is None:
            return 1.0
        now, before = dict(style), self._style
        apart = {network: before.get(network, 0.0) - now.get(network, 0.0) for network in {**now, **before}}
        away = sum(map(abs, apart.values())) / 2
        if away > STYLE_CUT:
            return 0.0
        ease = math.exp(-((away / STYLE_LAG) ** 2))
        kept = self._kept * ease
        mixed = {network: now.get(network, 0.0) + kept * difference for network, difference in apart.items()}
        self._style = now if away < 1e-3 else mixed
        return ease

    def _motion(self, luma: U8, before: U8, ease: float) -> Motion | None:
        assert self._seen is not None
        flow = np.asarray(self._flow.calc(luma, before, None), np.float32)  # type: ignore[call-overload]
        flow_x, flow_y = _channels(flow)
        moves = self._moves(luma, before, flow_x, flow_y)
        flow_x *= moves
        flow_y *= moves
        x, y = flow_x + self._x, flow_y + self._y
        new = luma.astype(np.float32)
        difference = _read(self._seen, x, y) - new
        contrast = min(1.0, max(0.05, float(cv2.meanStdDev(luma)[1][0, 0]) / CONTRAST))

        # How well it fits is seen as well at half the size.
        residual = self._averaged(np.abs(difference))
        texture = self._averaged(cv2.absdiff(luma, cv2.blur(luma, (3, 3))).astype(np.float32))
        flat, slope, most = TOLERANCE
        misfit = (residual / np.minimum(contrast * flat + slope * texture, most)) ** 2
        half_x, half_y = self._halved(flow_x), self._halved(flow_y)
        squared = half_x * half_x + half_y * half_y
        misfit += self._apart(luma, before, half_x, half_y, squared) * np.minimum(texture / FLAT, 1)
        fit = cv2.exp(-np.minimum(misfit, 20))  # beyond it lie numbers that processors are slow at
        step = float(cv2.norm(luma, before, cv2.NORM_L1)) / luma.size
        if float(fit.mean()) < CUT_FIT and step > contrast * CUT_LEVELS:
            return None
        if self._severity < 1:
            fit = cv2.pow(fit, self._severity)
        # Noise has no sign that neighbours share; a change of the scene has.
        changed = np.abs(self._averaged(difference))
        self._drift_x += STEADY * (half_x - self._drift_x)
        self._drift_y += STEADY * (half_y - self._drift_y)
        drift = self._drift_x * self._drift_x + self._drift_y * self._drift_y
        rest = (drift < STILL_FLOW**2) & (squared < 0.25) & (changed < contrast * STILL_LEVELS)
        moving = (cv2.blur(rest.astype(np.float32), (3, 3)) <= 0.9).astype(np.float32)
        risen = self._cap + np.float32(RISE) * (self._kept_still - self._cap)
        self._cap = np.asarray(risen + (moving if ease > 0.95 else 1) * (self._kept - risen), np.float32)

        weight = self._enlarged(self._cap * fit * np.float32(ease))
        height, width = self._size
        weight *= (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        self._seen = new + weight * difference
        moving = self._enlarged(moving)
        np.multiply(flow_x, moving, out=flow[..., 0])  # `cv2.merge` takes ten times as long
        np.multiply(flow_y, moving, out=flow[..., 1])
        return Motion(flow, weight)

    def _moves(self, luma: U8, before: U8, flow_x: F32, flow_y: F32) -> F32:
        """0 where the finest detail rests, whatever the flow says, else 1."""
        fine, fine_before = (cv2.subtract(p, cv2.blur(p, (5, 5)), dtype=cv2.CV_32F) for p in (luma, before))
        along = _read(np.asarray(fine_before, np.float32), flow_x + self._x, flow_y + self._y)
        still, moved = (self._averaged(np.asarray(cv2.absdiff(fine, p), np.float32)) for p in (fine_before, along))
        stays = cv2.blur((still < STAYS * moved).astype(np.float32), (5, 5))
        return self._enlarged((stays <= 0.5).astype(np.float32))

    def _apart(self, luma: U8, before: U8, half_x: F32, half_y: F32, squared: F32) -> F32:
        """How far the flows there and back miss each other, 1 being much."""
        size = self._half[::-1]
        small, small_before = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (luma, before))
        back = np.asarray(self._flow_back.calc(small_before, small, None), np.float32)  # type: ignore[call-overload]
        height, width = squared.shape
        half = np.float32(0.5)
        there_x, there_y = half * half_x + self._x[:width], half * half_y + self._y[:height]
        back_x, back_y = _channels(_read(back, there_x, there_y))
        apart = (2 * back_x + half_x) ** 2 + (2 * back_y + half_y) ** 2
        return np.asarray(apart / (APART[0] ** 2 + APART[1] * squared), np.float32)

    def _halved(self, picture: F32) -> F32:
        return np.asarray(cv2.resize(picture, self._half[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def _averaged(self, picture: F32) -> F32:
        """At half the size, over 6 x 6 pixels."""
        return np.asarray(cv2.blur(self._halved(picture), (3, 3)), np.float32)

    def _enlarged(self, picture: F32) -> F32:
        return np.asarray(cv2.resize(picture, self._size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def _small_luma(self, source: Planes) -> U8:
        plane = source[0]
        if self._size != self.form.size:
            plane = np.asarray(cv2.resize(plane, self._size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        if plane.ndim == 3:
            return np.asarray(cv2.cvtColor(plane, cv2.COLOR_RGB2GRAY), np.uint8)
        return np.array(plane)  # the caller's may be overwritten


def fitting_gain(gain: float, new: U8, memory: U16, shown: U8) -> float:
    """The gain that gives ``shown`` the gradient energy of ``new``, from what ``gain`` made of ``memory``.

    Energy is a parabola of the gain, which this solves on some of the rows (of green in rgb).
    """
    wanted, soft, sharp = _gradients(new), _gradients(memory), _gradients(shown)
    if wanted.size == 0:
        return gain
    soft *= np.float32(1 / SCALE)
    sharp -= soft
    missing = float(np.vdot(wanted, wanted)) - float(np.vdot(soft, soft))
    cross, square = float(np.vdot(soft, sharp)), float(np.vdot(sharp, sharp))
    if missing <= 0 or square <= 0:
        return max(MIN_GAIN, gain / 2)
    times = (np.sqrt(cross * cross + square * missing) - cross) / square
    return float(np.clip(gain * min(times, 3.0), MIN_GAIN, MAX_GAIN))


def _gradients(plane: NDArray[np.uint8] | NDArray[np.uint16]) -> F32:
    """Differences to the right and downwards, on some of the rows."""
    luma = plane if plane.ndim == 2 else plane[..., 1]
    step = max(1, (luma.shape[0] - 1) // ENERGY_ROWS) | 1  # networks paint in cells of four and eight rows
    upper = luma[:-1:step, :-1].astype(np.float32)
    found = np.empty((2, *upper.shape), np.float32)
    np.subtract(luma[:-1:step, 1:], upper, out=found[0])
    np.subtract(luma[1::step, :-1][: len(upper)], upper, out=found[1])
    return found


def _channels(flow: F32) -> tuple[F32, F32]:
    # `cv2.split` takes twenty times as long.
    return np.asarray(cv2.extractChannel(flow, 0), np.float32), np.asarray(cv2.extractChannel(flow, 1), np.float32)


def _read(picture: F32, x: F32, y: F32) -> F32:
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
