"""How much painted video flickers, and what smoothing does about it: measured on clips, real and made.

Made clips move a photo by a known law, so that their flow is exact; for real ones Farneback's flow at full
size judges, which is not the flow that smooths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from flicker import (
    RGB,
    Mask,
    Motion,
    ghost,
    gradient_energy,
    is_cut,
    judged_motion,
    mean_warping_error,
    restlessness,
    structural_similarity,
    visible_pixels,
)

from vidstyle.data import PHOTOS
from vidstyle.frame import FrameFormat
from vidstyle.imaging.image_io import read_still
from vidstyle.imaging.smoothing import Smoother
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, SmoothOptions
from vidstyle.stylizer import Stylizer
from vidstyle.video.reader import VideoReader

MADE = ("pan", "zoom", "sprite", "still", "cut")
"""Clips that are made from the shipped photos."""
MOVING = MADE[:3]
"""Those of which E_warp says something."""

SENSOR_NOISE = 3.0
"""Levels, standard deviation, of the noise in the still and half-still probes."""
WARM_UP = 5
"""Frames in which smoothing sets in; they are in no figure of sharpness and unrest."""
GHOST_FRAMES = 4
"""A thing's ghost is looked for where it was in the last so many frames."""


@dataclass(frozen=True, kw_only=True)
class FlickerOptions:
    """What to measure."""

    clips: tuple[Path, ...] = ()
    """Videos, of which the first frames are taken; the made clips of `MOVING` are measured in any case."""
    frames: int = 40
    rows: int = 360
    """Length of the shorter side at which everything is measured; a smaller video keeps its size."""
    smooth: tuple[SmoothOptions, ...] = (SmoothOptions(),)
    """Ways of smoothing to compare with none."""
    backend: BackendOptions = BackendOptions()


@dataclass(frozen=True, kw_only=True)
class ClipResult:
    """One clip in one style, smoothed in one way or not at all."""

    clip: str
    style: str
    smooth: str
    """The strength; ``none`` is as painted, ``source`` the clip itself."""
    warping_error: float
    """E_warp, mean over the frames, levels of 0-1 squared."""
    sharpness: float
    """Gradient energy over that of the unsmoothed frames."""
    similarity: float
    """SSIM with the unsmoothed frames."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What only made pictures tell, in one style, smoothed in one way or not at all."""

    style: str
    smooth: str
    """See `ClipResult.smooth`."""
    gain: float
    """A still with sensor noise: unrest of what is painted over that of the still."""
    half_still: float
    """Unrest, in levels, of the still half of a picture whose other half moves; without noise."""
    ghost: float
    """`flicker.ghost` of a thing that moves over a still picture, in levels, where it has just been."""
    cut: float
    """Mean difference, in levels, of the first frame after a cut from that frame unsmoothed."""


@dataclass
class FlickerReport:
    """Everything that was measured."""

    clips: list[ClipResult] = field(default_factory=list)
    """One for each clip, style and way of smoothing."""
    probes: list[ProbeResult] = field(default_factory=list)
    """One for each style and way."""
    backend: str = ""

    def ways(self) -> list[str]:
        """The ways of smoothing, ``none`` first."""
        return list(dict.fromkeys(result.smooth for result in self.probes))

    def source_error(self) -> float:
        """E_warp of the clips themselves, mean over them."""
        return _mean([result.warping_error for result in self.clips if result.smooth == "source"])

    def summary(self, way: str) -> dict[str, float]:
        """Means over clips and styles. Those named ``..._ratio`` are over the same of ``none``, one by one."""
        none = {(r.clip, r.style): r.warping_error for r in self.clips if r.smooth == "none"}
        calm = {r.style: r for r in self.probes if r.smooth == "none"}
        clips = [r for r in self.clips if r.smooth == way]
        probes = [r for r in self.probes if r.smooth == way]
        return {
            "warping_error": _mean([r.warping_error for r in clips]),
            "warping_error_ratio": _mean([r.warping_error / none[r.clip, r.style] for r in clips]),
            "sharpness": _mean([r.sharpness for r in clips]),
            "similarity": _mean([r.similarity for r in clips]),
            "noise_gain": _mean([r.gain for r in probes]),
            "noise_gain_ratio": _mean([r.gain / calm[r.style].gain for r in probes]),
            "half_still": _mean([r.half_still for r in probes]),
            "half_still_ratio": _mean([r.half_still / max(calm[r.style].half_still, 1e-6) for r in probes]),
            "ghost": _mean([r.ghost for r in probes]),
            "cut": max((r.cut for r in probes), default=math.nan),
        }


def measure_styles(styles: Sequence[Style], options: FlickerOptions) -> FlickerReport:
    """Measure every clip in every style, as painted and in each way of smoothing."""
    report = FlickerReport()
    clips = all_clips(options)
    for style in styles:
        measure(report, clips, style.name, partial(_painted, report, style, options), options)
    return report


def all_clips(options: FlickerOptions) -> list[Clip]:
    """The videos asked for, and the made clips that move."""
    return [read_clip(path, options) for path in options.clips] + [made_clip(name, options) for name in MOVING]


def measure(
    report: FlickerReport,
    clips: Sequence[Clip],
    style: str,
    paint: Callable[[Sequence[RGB]], dict[str, list[RGB]]],
    options: FlickerOptions,
) -> None:
    """Add to ``report`` what ``paint`` makes of every clip and probe in one style.

    ``paint`` gives frames by way of smoothing; there must be ``none``.
    """
    for clip in clips:
        print(f"{clip.name} in {style}", flush=True)
        painted = paint(clip.frames)
        for way, frames in {"source": clip.frames, **painted}.items():
            report.clips.append(clip_result(clip, style, way, frames, painted["none"]))
    print(f"noise, rest, ghosts and cuts in {style}", flush=True)
    _probe(report, style, paint, options)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames, and how they move from one to the next."""

    name: str
    """For people."""
    frames: list[RGB]
    """Of one size."""
    motions: list[Motion | None]
    """One for each pair; None is a cut."""
    uncovered: list[Mask] = field(default_factory=list)
    """Of the sprite: for each frame where it was a moment before and is no more."""


def made_clip(name: str, options: FlickerOptions) -> Clip:
    """A photo that moves by a law: ``pan``, ``zoom``, ``sprite`` (a picture over a still one), or a ``still``;
    or a ``cut`` in the middle, from one still to another."""
    rows, columns = options.rows, round(options.rows * 16 / 9 / 4) * 4
    size = rows, columns
    ground, sprite = _photo("china", 2 * rows), _photo("astronaut", rows // 2)[: rows // 2, : rows // 2]
    laws = {
        "pan": lambda i: np.array([[1, 0, 0.35 * columns + 1.7 * i], [0, 1, 0.3 * rows + 0.6 * i]]),
        "zoom": lambda i: _zoom(1.0 - 0.006 * i, ground.shape, size),
        "sprite": lambda i: np.array([[1, 0, 0.3 * columns], [0, 1, 0.3 * rows]]),
        "still": lambda i: np.array([[1, 0, 0.3 * columns], [0, 1, 0.3 * rows]]),
        "cut": lambda i: np.array([[1, 0, 0.3 * columns], [0, 1, 0.3 * rows]]),
    }
    matrices = [np.asarray(laws[name](i), np.float64) for i in range(options.frames)]
    places = [(0.1 * columns + 4.3 * i, 0.3 * rows + 1.1 * i) for i in range(options.frames)]
    frames: list[RGB] = []
    covers = []
    other = _photo("coffee", 2 * rows)
    for i, (matrix, place) in enumerate(zip(matrices, places, strict=True)):
        photo = other if name == "cut" and i >= options.frames // 2 else ground
        # The inverse map: where in the photo each pixel of the frame is read.
        frame = np.asarray(cv2.warpAffine(photo, matrix, size[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP))
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
        cut = name == "cut" and i + 1 == options.frames // 2
        motions.append(None if cut else Motion(there, visible_pixels(there, back)))
    return Clip(name, frames, motions, _left(covers) if name == "sprite" else [])


def _left(covers: Sequence[np.ndarray]) -> list[Mask]:
    """For each frame what was covered in one of the last ones, and is no more."""
    found = []
    for i, cover in enumerate(covers):
        before = np.any([other > 0 for other in covers[max(0, i - GHOST_FRAMES) : i + 1]], axis=0)
        found.append(before & (cover == 0))
    return found


def _law_flow(first: np.ndarray, second: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flow from a frame read through ``first`` to one read through ``second``."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    photo = np.einsum("ij,jhw->ihw", first, np.stack([x, y, np.ones_like(x)]))
    inverse = np.asarray(cv2.invertAffineTransform(second))
    there = np.einsum("ij,jhw->ihw", inverse, np.stack([*photo, np.ones_like(x)]))
    return np.stack([there[0] - x, there[1] - y], axis=-1)


def _zoom(scale: float, photo: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    height, width = photo[:2]
    return np.array([[scale, 0, (width - scale * size[1]) / 2], [0, scale, (height - scale * size[0]) / 2]])


def _photo(name: str, rows: int) -> RGB:
    rgb = read_still(PHOTOS / f"{name}.jpg").rgb
    columns = round(rgb.shape[1] * rows / rgb.shape[0])
    shrinks = rows < rgb.shape[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (max(columns, 2 * rows), rows), interpolation=way))


def read_clip(path: Path, options: FlickerOptions) -> Clip:
    """The first frames of a video, and how they move as far as Farneback's method can tell."""
    frames: list[RGB] = []
    with VideoReader(path, pixels="rgb") as source:
        scale = min(1.0, options.rows / min(source.form.size))
        height, width = (max(4, round(side * scale / 4) * 4) for side in source.form.size)
        for frame in source.frames():
            frames.append(np.asarray(cv2.resize(frame.planes[0], (width, height), interpolation=cv2.INTER_AREA)))
            if len(frames) == options.frames:
                break
    if len(frames) < WARM_UP + 3:
        raise SystemExit(f"{path} has {len(frames)} frames; at least {WARM_UP + 3} are needed")
    motions = [None if is_cut(a, b) else judged_motion(a, b) for a, b in zip(frames, frames[1:], strict=False)]
    return Clip(path.stem, frames, motions)


def clip_result(clip: Clip, style: str, way: str, frames: Sequence[RGB], plain: Sequence[RGB]) -> ClipResult:
    """The measures of a clip as ``frames``, which unsmoothed is ``plain``."""
    energy = _mean([gradient_energy(frame) for frame in plain[WARM_UP:]])
    pairs = list(zip(frames[WARM_UP:], plain[WARM_UP:], strict=True))
    return ClipResult(
        clip=clip.name,
        style=style,
        smooth=way,
        warping_error=mean_warping_error(frames, clip.motions),
        sharpness=_mean([gradient_energy(frame) for frame in frames[WARM_UP:]]) / energy,
        similarity=_mean([structural_similarity(a, b) for a, b in pairs]),
    )


def ghost_of(clip: Clip, frames: Sequence[RGB], plain: Sequence[RGB]) -> float:
    """What is left, in levels, of the sprite of ``clip`` where it has just been."""
    found = [ghost(a, b, mask) for a, b, mask in zip(frames, plain, clip.uncovered, strict=True) if mask.any()]
    return _mean(found[WARM_UP:])


def noisy_still(options: FlickerOptions) -> list[RGB]:
    """A still as a sensor sees it: the same noise at each call."""
    still = made_clip("still", replace(options, frames=WARM_UP + 3)).frames[0]
    random = np.random.default_rng(0)
    noisy = (still + random.normal(0, SENSOR_NOISE, still.shape) for _ in range(max(options.frames, 24)))
    return [np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in noisy]


def _half_still(options: FlickerOptions) -> list[RGB]:
    """The right half pans, the left one rests."""
    still = made_clip("still", replace(options, frames=WARM_UP + 3)).frames[0]
    middle = still.shape[1] // 2
    frames = []
    for i in range(max(options.frames, 24)):
        frame = still.copy()
        frame[:, middle:] = np.roll(still[:, middle:], 3 * i, axis=1)
        frames.append(frame)
    return frames


def _probe(
    report: FlickerReport, style: str, paint: Callable[[Sequence[RGB]], dict[str, list[RGB]]], options: FlickerOptions
) -> None:
    noise, half = noisy_still(options), _half_still(options)
    sprite = made_clip("sprite", replace(options, frames=24))
    cut = made_clip("cut", replace(options, frames=2 * (WARM_UP + 3)))
    calm, resting, moved, changed = (paint(frames) for frames in (noise, half, sprite.frames, cut.frames))
    late = len(noise) // 2  # by then a still has come to rest
    edge = half[0].shape[1] * 3 // 8  # strokes reach over the middle: what is near it may move
    first = len(cut.frames) // 2
    for way in calm:
        report.probes.append(
            ProbeResult(
                style=style,
                smooth=way,
                gain=restlessness(calm[way][late:]) / restlessness(noise[late:]),
                half_still=restlessness([frame[:, :edge] for frame in resting[way][late:]]),
                ghost=ghost_of(sprite, moved[way], moved["none"]),
                cut=float(cv2.absdiff(changed[way][first], changed["none"][first]).mean()),
            )
        )


def _painted(
    report: FlickerReport, style: Style, options: FlickerOptions, frames: Sequence[RGB]
) -> dict[str, list[RGB]]:
    """``frames`` by way of smoothing, ``none`` first."""
    form = FrameFormat(height=frames[0].shape[0], width=frames[0].shape[1], pixels="rgb")
    with Stylizer(style, backend=options.backend) as stylizer:
        report.backend = stylizer.open(form).description
        painted = [stylizer(frame) for frame in frames]
    result = {"none": painted}
    for smooth in options.smooth:
        smoother = Smoother(form, smooth)
        pairs = zip(frames, painted, strict=True)
        result[f"{smooth.strength:g}"] = [smoother.step((source,), (styled,))[0] for source, styled in pairs]
    return result


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
