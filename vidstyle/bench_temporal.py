"""How much painted video flickers, and what smoothing does about it: measured on clips, real and made.

Made clips move a photo by a known law, so that their flow is exact; for real ones Farneback's flow at full
size judges, which is not the flow that smooths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vidstyle.errors import BadOption
from vidstyle.flicker import (
    RGB,
    Motion,
    gradient_energy,
    is_cut,
    judged_motion,
    mean_warping_error,
    restlessness,
    structural_similarity,
    visible_pixels,
)
from vidstyle.frame import Frame, FrameForm
from vidstyle.options import BackendOptions, SmoothOptions, check_between
from vidstyle.still import read_still
from vidstyle.style import Style
from vidstyle.stylize import Stylizer
from vidstyle.video.source import VideoSource

MADE = ("pan", "zoom", "sprite", "still")
"""Clips that are made from the shipped photos."""
PHOTOS = Path(__file__).parent / "training" / "photos"
SENSOR_NOISE = 3.0
"""Levels, standard deviation, of the noise in the still and half-still probes."""
WARM_UP = 5
"""Frames in which smoothing sets in; they are in no figure of sharpness and unrest."""


@dataclass(frozen=True, kw_only=True)
class TemporalOptions:
    """What to measure."""

    clips: tuple[Path, ...] = ()
    """Videos; their first frames are taken. None takes made clips alone."""
    frames: int = 40
    """Of each clip."""
    rows: int = 360
    """Height at which everything is measured."""
    smooth: tuple[SmoothOptions, ...] = (SmoothOptions(),)
    """Ways of smoothing to compare with none."""
    backend: BackendOptions = field(default_factory=BackendOptions)
    """What paints."""

    def __post_init__(self) -> None:
        check_between("frames", self.frames, WARM_UP + 3, 10000)
        check_between("rows", self.rows, 64, 4320)


@dataclass(frozen=True, kw_only=True)
class ClipResult:
    """One clip in one style, smoothed in one way or not at all."""

    clip: str
    """Name of the clip."""
    style: str
    """Name of the style."""
    smooth: str
    """How it was smoothed; ``none`` is as painted, ``source`` the clip itself."""
    warping_error: float
    """E_warp, mean over the frames, levels of 0-1 squared."""
    sharpness: float
    """Gradient energy over that of the unsmoothed frames."""
    similarity: float
    """SSIM with the unsmoothed frames."""


@dataclass(frozen=True, kw_only=True)
class NoiseResult:
    """A still with sensor noise, in one style, smoothed in one way or not at all."""

    style: str
    """Name of the style."""
    smooth: str
    """See `ClipResult.smooth`."""
    gain: float
    """Unrest of what is painted over the unrest of the still."""
    half_still: float
    """Unrest, in levels, of the still half of a picture whose other half moves; without noise."""


@dataclass
class TemporalReport:
    """Everything that `bench_temporal` measured."""

    clips: list[ClipResult] = field(default_factory=list)
    """One for each clip, style and way."""
    noise: list[NoiseResult] = field(default_factory=list)
    """One for each style and way."""
    backend: str = ""
    """What painted."""

    def ways(self) -> list[str]:
        """The ways of smoothing, ``none`` first."""
        return list(dict.fromkeys(result.smooth for result in self.noise))

    def summary(self, way: str) -> dict[str, float]:
        """Means over clips and styles: E_warp and noise gain over those of ``none``, sharpness, similarity."""
        none = {(r.clip, r.style): r for r in self.clips if r.smooth == "none"}
        calm = {r.style: r for r in self.noise if r.smooth == "none"}
        chosen = [r for r in self.clips if r.smooth == way]
        noise = [r for r in self.noise if r.smooth == way]
        return {
            "warping_error": _mean([r.warping_error / none[r.clip, r.style].warping_error for r in chosen]),
            "sharpness": _mean([r.sharpness for r in chosen]),
            "similarity": _mean([r.similarity for r in chosen]),
            "noise_gain": _mean([r.gain / calm[r.style].gain for r in noise]),
            "half_still": _mean([r.half_still / max(calm[r.style].half_still, 1e-6) for r in noise]),
        }


def bench_temporal(
    styles: Sequence[Style], options: TemporalOptions | None = None, *, on_step: Callable[[str], None] | None = None
) -> TemporalReport:
    """Measure every clip in every style, as painted and in each way of smoothing; ``on_step`` is told what is next."""
    options = options or TemporalOptions()
    if not styles:
        raise BadOption("there is no style to measure; give at least one")
    report = TemporalReport()
    clips = [_read(path, options) for path in options.clips] + [made_clip(name, options) for name in MADE[:3]]
    for clip in clips:
        for style in styles:
            if on_step:
                on_step(f"{clip.name} in {style.name}")
            _measure_clip(report, clip, style, options)
    for style in styles:
        if on_step:
            on_step(f"noise in {style.name}")
        _measure_noise(report, style, options)
    return report


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames, and how they move from one to the next."""

    name: str
    """For people."""
    frames: list[RGB]
    """Of one size."""
    motions: list[Motion | None]
    """One for each pair; None is a cut."""


def made_clip(name: str, options: TemporalOptions) -> Clip:
    """A photo that moves by a law: ``pan``, ``zoom``, ``sprite`` (a picture over a still one), or a ``still``."""
    rows, columns = options.rows, round(options.rows * 16 / 9 / 4) * 4
    size = rows, columns
    ground, sprite = _photo("china", 2 * rows), _photo("astronaut", rows // 2)[: rows // 2, : rows // 2]
    laws = {
        "pan": lambda i: np.array([[1, 0, 0.35 * columns + 1.7 * i], [0, 1, 0.3 * rows + 0.6 * i]]),
        "zoom": lambda i: _zoom(1.0 - 0.006 * i, ground.shape, size),
        "sprite": lambda i: np.array([[1, 0, 0.3 * columns], [0, 1, 0.3 * rows]]),
        "still": lambda i: np.array([[1, 0, 0.3 * columns], [0, 1, 0.3 * rows]]),
    }
    if name not in laws:
        raise BadOption(f"clip is {name!r}; there are {', '.join(MADE)}")
    matrices = [np.asarray(laws[name](i), np.float64) for i in range(options.frames)]
    places = [(0.1 * columns + 4.3 * i, 0.3 * rows + 1.1 * i) for i in range(options.frames)]
    frames: list[RGB] = []
    covers = []
    for matrix, place in zip(matrices, places, strict=True):
        # The inverse map: where in the photo each pixel of the frame is read.
        frame = np.asarray(cv2.warpAffine(ground, matrix, size[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP))
        cover = np.zeros(size, np.float32)
        if name == "sprite":
            shift = np.array([[1, 0, place[0]], [0, 1, place[1]]], np.float64)
            cover = np.asarray(cv2.warpAffine(np.ones(sprite.shape[:2], np.float32), shift, size[::-1]))
            over = np.asarray(cv2.warpAffine(sprite, shift, size[::-1], flags=cv2.INTER_CUBIC))
            frame = np.rint(frame * (1 - cover[..., None]) + over * cover[..., None]).astype(np.uint8)
        frames.append(np.asarray(frame, np.uint8))
        covers.append(cover)
    motions: list[Motion | None] = []
    for i in range(options.frames - 1):
        there, back = _law_flow(matrices[i], matrices[i + 1], size), _law_flow(matrices[i + 1], matrices[i], size)
        step = np.subtract(places[i + 1], places[i])
        there = np.where(covers[i][..., None] > 0.5, step, there).astype(np.float32)
        back = np.where(covers[i + 1][..., None] > 0.5, -step, back).astype(np.float32)
        motions.append(Motion(there, visible_pixels(there, back)))
    return Clip(name, frames, motions)


def _law_flow(first: np.ndarray, second: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flow from a frame read through ``first`` to one read through ``second``."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    photo = np.einsum("ij,jhw->ihw", first, np.stack([x, y, np.ones_like(x)]))
    inverse = np.asarray(cv2.invertAffineTransform(second))
    there = np.einsum("ij,jhw->ihw", inverse, np.stack([*photo, np.ones_like(x)]))
    return np.stack([there[0] - x, there[1] - y], axis=-1)


def _zoom(scale: float, photo: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    height, width = photo[:2]
    return np.array(
        [
            [scale, 0, width / 2 - scale * size[1] / 2],
            [0, scale, height / 2 - scale * size[0] / 2],
        ]
    )


def _photo(name: str, rows: int) -> RGB:
    rgb = read_still(PHOTOS / f"{name}.jpg").rgb
    columns = round(rgb.shape[1] * rows / rgb.shape[0])
    return np.asarray(cv2.resize(rgb, (max(columns, 2 * rows), rows), interpolation=cv2.INTER_CUBIC))


def _read(path: Path, options: TemporalOptions) -> Clip:
    frames: list[RGB] = []
    with VideoSource(path, pixels="rgb") as source:
        height, width = source.form.size
        rows = min(options.rows, height)
        size = round(width * rows / height / 4) * 4, round(rows / 4) * 4
        for frame in source.frames():
            frames.append(np.asarray(cv2.resize(frame.planes[0], size, interpolation=cv2.INTER_AREA)))
            if len(frames) == options.frames:
                break
    if len(frames) < WARM_UP + 3:
        raise BadOption(f"{path} has {len(frames)} frames; at least {WARM_UP + 3} are needed")
    motions = [None if is_cut(a, b) else judged_motion(a, b) for a, b in zip(frames, frames[1:], strict=False)]
    return Clip(path.stem, frames, motions)


def _measure_clip(report: TemporalReport, clip: Clip, style: Style, options: TemporalOptions) -> None:
    plain = _painted(report, clip.frames, style, None, options)
    energy = _mean([gradient_energy(frame) for frame in plain[WARM_UP:]])
    results = {"source": clip.frames, "none": plain}
    for smooth in options.smooth:
        results[way_name(smooth)] = _painted(report, clip.frames, style, smooth, options)
    for way, frames in results.items():
        report.clips.append(
            ClipResult(
                clip=clip.name,
                style=style.name,
                smooth=way,
                warping_error=mean_warping_error(frames, clip.motions),
                sharpness=_mean([gradient_energy(frame) for frame in frames[WARM_UP:]]) / energy,
                similarity=_mean(
                    [structural_similarity(a, b) for a, b in zip(frames[WARM_UP:], plain[WARM_UP:], strict=True)]
                ),
            )
        )


def _measure_noise(report: TemporalReport, style: Style, options: TemporalOptions) -> None:
    count = max(options.frames, 24)
    still = made_clip("still", replace(options, frames=1 + WARM_UP + 3)).frames[0]
    random = np.random.default_rng(0)
    noisy = [np.clip(np.rint(still + random.normal(0, SENSOR_NOISE, still.shape)), 0, 255) for _ in range(count)]
    probe = [frame.astype(np.uint8) for frame in noisy]
    middle = still.shape[1] // 2
    halves = []
    for i in range(count):  # the right half pans, the left one rests
        frame = still.copy()
        frame[:, middle:] = np.roll(still[:, middle:], 3 * i, axis=1)
        halves.append(frame)
    for smooth in (None, *options.smooth):
        calm = _painted(report, probe, style, smooth, options)[count // 2 :]
        half = _painted(report, halves, style, smooth, options)[count // 2 :]
        # Strokes reach over the middle: what is near it may move.
        resting = [frame[:, : middle * 3 // 4] for frame in half]
        report.noise.append(
            NoiseResult(
                style=style.name,
                smooth=way_name(smooth),
                gain=restlessness(calm) / restlessness(probe[count // 2 :]),
                half_still=restlessness(resting),
            )
        )


def _painted(
    report: TemporalReport, frames: Sequence[RGB], style: Style, smooth: SmoothOptions | None, options: TemporalOptions
) -> list[RGB]:
    form = FrameForm(height=frames[0].shape[0], width=frames[0].shape[1], pixels="rgb")

    with Stylizer(style, backend=options.backend, smooth=smooth) as stylizer:
        report.backend = stylizer.open(form).description
        painted = []
        for index, rgb in enumerate(frames):
            job = stylizer.prepare(Frame((rgb,), form, index, Fraction(1, 25)))
            painted.append(stylizer.compose(job, stylizer.submit(job)()).planes[0])
    return painted


def way_name(smooth: SmoothOptions | None) -> str:
    """``none``, ``0.7``, ``0.7 norms only`` ..."""
    if smooth is None:
        return "none"
    only = "" if smooth.flow and smooth.norms else " flow only" if smooth.flow else " norms only"
    return f"{smooth.strength:g}{only}"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
