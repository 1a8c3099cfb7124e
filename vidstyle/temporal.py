"""Temporal smoothing: what was painted before follows the picture, so that strokes stay where they are.

The optical flow of the *source* (DIS: Kroeger and others 2016, on a small luma) says where each pixel was
in the frame before. The picture remembered is warped along it and the new one is mixed in, the less the
better the source itself warps. That is an average over time of textures that differ from frame to frame,
and averages are flat; so what is shown is sharpened by just as much as it takes to give it the gradient
energy of the frame as painted. What is remembered is not sharpened: fed back, that grows patterns.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.frame import FrameForm, Planes
from vidstyle.options import SmoothOptions
from vidstyle.warp import F32, U8, U16, remembered, warp_blend

FLOW_ROWS = 176
"""The flow is looked for at about so many rows. Less follows the picture worse (68 rows: a third more of the
flicker is left), more costs time."""
USUAL = 0.7
"""The strength at which the numbers below hold."""
KEPT = 0.75
"""Weight of the memory where all is well."""
KEPT_STILL = 0.95
"""What it rises to where nothing moves, so that a still scene comes to rest."""
RISE = 0.15
"""Share of the way that it rises in a frame."""
TOLERANCE = 18.0
"""Levels by which the source may differ from the warped one before; there the weight is down to 1/e."""
STILL_FLOW = 0.3
"""Pixels of the frame; less is no motion but the flow's own noise."""
STILL_LEVELS = 2.0
"""What sensor noise leaves of the difference, averaged over 5 x 5 pixels of the small luma."""
MOST_GAIN = 2.5
CUT_LEVELS = 12.0
CUT_WEIGHT = 0.35
"""A cut: the small luma differs by more than `CUT_LEVELS`, and warped it fits in less than this share."""
ENERGY_ROWS = 96
"""So many rows are looked at for the gradient energy."""


class Smoother:
    """Smooths the frames of one video, in order. Use it from one thread at a time."""

    def __init__(self, form: FrameForm, options: SmoothOptions | None = None, *, threads: int = 1) -> None:
        """``form`` is that of every frame, source and styled alike."""
        self.options = options or SmoothOptions()
        self.form = form
        strength = self.options.strength / USUAL
        self._kept = min(0.9, KEPT * strength)
        self._kept_still = min(0.98, max(self._kept, KEPT_STILL * min(1.0, strength)))
        self._divisor = max(1, round(min(form.size) / FLOW_ROWS))
        self._threads = threads
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._luma: U8 | None = None
        self._memory: list[U16] = []
        self._spare: list[U16] = []
        self._cap: F32 | None = None
        self._gain = 0.0
        self.cuts = 0
        """Scene cuts seen so far, the first frame not counted."""

    def reset(self) -> None:
        """Forget what was: the next frame is given back as it is."""
        self._luma = None

    def step(self, source: Planes, styled: Planes) -> Planes:
        """The smoothed frame: new planes of the form, or ``styled`` itself where a scene begins.

        ``source`` is what ``styled`` was made from. Neither is kept.
        """
        luma = self._small_luma(source)
        before, self._luma = self._luma, luma
        if before is None:
            return self._begun(styled)
        flow = self._flow.calc(luma, before, None)  # type: ignore[call-overload]  # the stubs want an array
        weight, cut = self._weights(luma, before, flow)
        if cut:
            self.cuts += 1
            return self._begun(styled)
        shown = tuple(np.empty(plane.shape, np.uint8) for plane in styled)
        for index, (new, memory, spare, out) in enumerate(zip(styled, self._memory, self._spare, shown, strict=True)):
            gain = self._gain if index == 0 else 0.0  # luma, or red, green and blue; chroma has no fine texture
            warp_blend(new, memory, flow, weight, gain, out, spare, threads=self._threads)
        self._memory, self._spare = self._spare, self._memory
        ratio = _energy(styled[0]) / max(_energy(shown[0]), 1e-6)
        self._gain = float(np.clip(self._gain + 2 * (np.sqrt(ratio) - 1), 0, MOST_GAIN))
        return shown

    def _begun(self, styled: Planes) -> Planes:
        self._memory = [remembered(plane) for plane in styled]
        self._spare = [np.empty_like(memory) for memory in self._memory]
        self._cap = None
        self._gain = 0.0
        return styled

    def _weights(self, luma: U8, before: U8, flow: F32) -> tuple[F32, bool]:
        """How much of the memory is kept at each pixel of the small luma, and whether the scene is another one."""
        height, width = luma.shape
        x = np.arange(width, dtype=np.float32) + flow[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
        warped = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = cv2.subtract(warped, luma, dtype=cv2.CV_32F)
        residual = cv2.blur(np.abs(difference), (5, 5))
        fit = np.exp(-((residual / TOLERANCE) ** 2))
        fit *= (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        if float(fit.mean()) < CUT_WEIGHT and float(cv2.absdiff(luma, before).mean()) > CUT_LEVELS:
            return fit, True
        speed = (flow * flow).sum(-1) * self._divisor**2
        # Noise has no sign that neighbours share; a change of the scene has.
        changed = np.abs(cv2.blur(difference, (5, 5)))
        rest = ((speed < STILL_FLOW**2) & (changed < STILL_LEVELS)).astype(np.float32)
        still = cv2.blur(rest, (5, 5)) > 0.9
        flow[still] = 0
        cap = np.full(luma.shape, self._kept, np.float32) if self._cap is None else self._cap
        self._cap = np.where(still, cap + np.float32(RISE) * (self._kept_still - cap), np.float32(self._kept))
        return np.asarray(self._cap * fit, np.float32), False

    def _small_luma(self, source: Planes) -> U8:
        height, width = self.form.size
        size = max(1, width // self._divisor), max(1, height // self._divisor)
        plane = source[0]
        if size != (width, height):
            plane = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
        if plane.ndim == 3:
            plane = np.asarray(cv2.cvtColor(plane, cv2.COLOR_RGB2GRAY), np.uint8)
        return np.ascontiguousarray(plane)


def _energy(plane: NDArray[np.uint8]) -> float:
    """Mean square of the gradient, on some of the rows; of green in rgb."""
    luma = plane if plane.ndim == 2 else plane[..., 1]
    step = max(1, (luma.shape[0] - 1) // ENERGY_ROWS)
    upper = luma[:-1:step, :-1].astype(np.int16)
    if upper.size == 0:
        return 0.0
    right = luma[:-1:step, 1:] - upper
    below = luma[1::step, :-1] - upper
    return float(np.mean(right.astype(np.float32) ** 2 + below.astype(np.float32) ** 2))
