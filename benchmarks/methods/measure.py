"""What a row of the table holds: parameters, seconds, the terms of the loss, contrast by scale, flicker, megabytes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from flicker import mean_warping_error
from flicker_bench import Clip, FlickerOptions, made_clip
from likeness import RGB, content_of, grams_of
from measured import ResultFile, load, machine
from quality import Picture, measure, pixels

from methods.base import STYLE_SIZE, Method
from methods.rows import ROWS, Making
from vidstyle.training.data import painting_tensor, read_picture
from vidstyle.training.loss import Perceptual

SIDES = (256, 512)
"""Of the square pictures whose seconds the table has."""
CLIP_ROWS = 256
"""Shorter side of the clip that E_warp is measured on."""
LEAST_SECONDS, MOST_RUNS = 1.0, 30
"""A time is the median of runs that take so long together, or of so many."""


SLOW = ("gatys",)
"""Rows that take minutes a picture: they paint the first photo, and no clip."""


@dataclass(frozen=True)
class Task:
    """What every method is measured on."""

    painting: Path
    photos: Sequence[Path]
    rows: int
    """Shorter side of the photos."""
    frames: int
    """Of the clip of E_warp, a made pan of `CLIP_ROWS`; 0 leaves it out."""


def table(results: ResultFile, rows: Sequence[str], making: Making, task: Task) -> dict[str, dict[str, RGB]]:
    """Measures ``rows`` into ``results``, one after the other; the photos as each painted them, by row and name."""
    shown = {}
    with making.compute.limits():
        perceptual = Perceptual(making.compute.dtype)
        whole = pixels(painting_tensor(read_picture(task.painting), STYLE_SIZE))
        painting = Picture(task.painting, whole, grams_of(whole, perceptual))
        photos = [
            Picture(path, rgb, content_of(rgb, perceptual))
            for path in task.photos
            for rgb in [resized(path, task.rows)]
        ]
        options = FlickerOptions(frames=task.frames, rows=CLIP_ROWS)
        clips = [made_clip("pan", options)] if task.frames else []
        conditions = {
            "painting": task.painting.stem,
            "photos": [photo.path.stem for photo in photos],
            "rows": task.rows,
            "frames": task.frames,
            "iterations": making.iterations,
            "threads": making.compute.threads,
            "arithmetic": str(making.compute.dtype).removeprefix("torch."),
        }
        results.put("machine", "methods", {**machine(), "load_before": load(), **conditions})
        results.put("machine", "peak", gemm_peak())
        for row in rows:
            method = ROWS[row](making)
            method.prepare(task.painting)
            taken = photos[:1] if row in SLOW else photos
            shown[row] = {photo.path.stem: method.stylize(photo.rgb) for photo in taken}
            found = {**sizes(method), **measure(shown[row], photos, painting, perceptual)}
            found |= times(method, task.painting, photos[0].rgb)
            found["warping_error"] = {} if row in SLOW else warping_errors(method, clips)
            results.put("methods", row, {"name": method.name, "note": method.note(), **found})
            print(
                f"{method.name}: {found['seconds']}, content {found['content']:.2f}, style {found['style']}", flush=True
            )
    return shown


def resized(path: Path, rows: int) -> RGB:
    """A photo with a shorter side of ``rows``."""
    return pixels(painting_tensor(read_picture(path), rows))


def square(photo: RGB, side: int) -> RGB:
    """The middle of a photo, ``side`` x ``side``."""
    edge = min(photo.shape[:2])
    top, left = ((length - edge) // 2 for length in photo.shape[:2])
    middle = photo[top : top + edge, left : left + edge]
    return np.asarray(cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def sizes(method: Method) -> dict[str, Any]:
    """Parameters here, in the table of the paper, and as counted on the paper's shapes; styles; bytes."""
    return {
        "paper": method.paper,
        "styles": method.styles,
        "real_time": method.real_time,
        "parameters": method.parameters(),
        "table_parameters": method.table_parameters,
        "full_size": method.full_size(),
        "stored": method.stored(),
    }


def warping_errors(method: Method, clips: Sequence[Clip]) -> dict[str, float]:
    """E_warp of every clip, painted frame by frame."""
    return {
        clip.name: mean_warping_error([method.stylize(frame) for frame in clip.frames], clip.motions) for clip in clips
    }


def times(method: Method, painting: Path, photo: RGB) -> dict[str, Any]:
    """Seconds of `Method.prepare`, and of painting the middle of a photo by `SIDES`, as `Method.timed` counts them."""
    timed = method.timed(painting)
    began = time.perf_counter()
    timed.method.prepare(painting)
    took = time.perf_counter() - began
    taken = {side: timed.stylize * one for side, one in seconds(timed.method, photo).items()}
    return {"style_seconds": timed.prepare * took, "seconds": taken}


def seconds(method: Method, photo: RGB) -> dict[str, float]:
    """Of painting the middle of a photo, by `SIDES`."""
    return {str(side): median_seconds(method.stylize, square(photo, side)) for side in SIDES}


def median_seconds(paint: Callable[[RGB], object], photo: RGB, least: float = LEAST_SECONDS) -> float:
    """The median of runs after one that warms up, unless that alone took longer than five times what all should."""
    taken: list[float] = []
    for number in range(1 + MOST_RUNS):
        began = time.perf_counter()
        paint(photo)
        took = time.perf_counter() - began
        if number or took > 5 * least:
            taken.append(took)
        if sum(taken) >= least:
            break
    return statistics.median(taken)


def gemm_peak(size: int = 2048, runs: int = 12) -> dict[str, float]:
    """The most billions of operations a second that a product of square matrices reaches, by arithmetic."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.rand(size, size).to(dtype) for _ in range(2))
        best = float("inf")
        for _ in range(runs):
            began = time.perf_counter()
            torch.matmul(a, b)
            best = min(best, time.perf_counter() - began)
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 / best / 1e9
    return found
