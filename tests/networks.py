"""Networks, pictures and measures for the tests of the graph, the backends and the torch model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle.data import PHOTOS
from vidstyle.frame import FrameFormat, Planes, yuv_from_rgb
from vidstyle.gallery import DEFAULT_STYLE, load_style, shared_network
from vidstyle.models.architecture import FAST, Architecture, Conv, Network
from vidstyle.models.style import Style


@cache
def seeded_network(shape: Architecture) -> Network:
    """An untrained network whose activations keep their size, with a style vector that is not the identity."""
    random = np.random.default_rng(7)
    weights = {
        name: random.normal(0, np.prod(size[1:]) ** -0.5 if len(size) > 1 else 0.3, size).astype(np.float32)
        for name, size in shape.weight_shapes.items()
    }
    start = shape.identity_style() + random.normal(0, 0.3, shape.style_size)
    return Network(shape, weights, start.astype(np.float32))


def whole_style(name: str, seed: int, shape: Architecture = FAST) -> Style:
    """A style that is a network of its own, adapted from the shipped one as if: every number moved a little."""
    start, random = shared_network(shape.name), np.random.default_rng(seed)

    def moved(values: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = random.normal(0, 0.3 * float(values.std()), values.shape)
        return (values + noise).astype(np.float16).astype(np.float32)  # as a file holds it

    weights = {weight: moved(values) for weight, values in start.weights.items()}
    return Style.of(name, Network(shape, weights, moved(start.start)), theta=start.digest, card={"painter": name})


TINY = Architecture(
    name="fast",
    unshuffle=4,
    down=(Conv("stem", 48, 4, 3),),
    blocks=1,
    channels=4,
    up=(Conv("up", 4, 4, 3, upsample=2),),
    out=Conv("out", 4, 3, 5, upsample=2),
)


def level_style(name: str, level: float, theta: str = "one theta") -> Style:
    """A style of a tiny network whose every number is ``level``."""
    weights = {weight: np.full(size, level, np.float32) for weight, size in TINY.weight_shapes.items()}
    return Style.of(name, Network(TINY, weights, np.full(TINY.style_size, level, np.float32)), theta=theta)


def level_of(style: Style) -> float:
    """The number that every weight and the vector of a blend of `level_style` are."""
    numbers = np.concatenate([style.vector, *(weight.ravel() for weight in style.network.weights.values())])
    assert np.ptp(numbers) < 1e-6
    return float(numbers[0])


def fast_network() -> Network:
    """The shipped `fast` network."""
    return shared_network("fast")


def fast_style() -> Style:
    """The first shipped style."""
    return load_style(DEFAULT_STYLE)


def styled(network: Network) -> Style:
    """What ``network`` paints."""
    return Style.of("style", network)


@cache
def photo(name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A shipped photo, RGB of ``(height, width)``."""
    picture = cv2.imread(str(PHOTOS / f"{name}.jpg"))
    assert picture is not None
    small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1], dtype=np.uint8)


LAYOUTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "padded rows": lambda plane: np.pad(plane, ((0, 0), (5, 8), *((0, 0),) * (plane.ndim - 2)))[:, 5:-8],
    "upside down": lambda plane: plane[::-1].copy()[::-1],
    "mirrored": lambda plane: plane[:, ::-1].copy()[:, ::-1],
    "every other column": lambda plane: plane.repeat(2, axis=1)[:, ::2],
    "column after column": np.asfortranarray,
    "channels of more": lambda plane: np.stack([plane] * 5, axis=-1)[..., 3],
    "odd address": lambda plane: np.frombuffer(bytearray(b"x" + plane.tobytes()), np.uint8)[1:].reshape(plane.shape),
}
"""Ways in which the pixels of a plane may lie in memory: the same plane, copied."""


def flat(color: tuple[int, int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """One color, RGB."""
    return np.full((*size, 3), color, np.uint8)


def noise(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Every level at random, RGB."""
    return np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)


def faint(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A gray wall in bad light: little noise on a slow ramp, RGB."""
    ramp = np.linspace(90, 94, size[1])[None, :, None]
    return np.round(ramp + np.random.default_rng(4).normal(0, 0.6, (*size, 3))).astype(np.uint8)


def hard_frames(size: tuple[int, int], *names: str) -> dict[str, NDArray[np.uint8]]:
    """RGB frames that a network may paint wrongly in 16 bits, by name; all, or those called ``names``."""
    rows, columns = np.indices(size)
    lines = np.random.default_rng(5).random(size) < 0.5 * (rows % 12 < 8) * (columns % 7 < 5)
    photos = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")
    colors = {"black": (0, 0, 0), "white": (255, 255, 255), "gray": (128, 128, 128), "red": (255, 0, 0)}
    frames = {name: photo(name, size) for name in photos}
    frames |= {name: flat(color, size) for name, color in {**colors, "blue": (10, 10, 250)}.items()}
    frames |= {"dark": frames["china"] // 16, "bright": 255 - frames["china"] // 16}
    frames |= {"noise": noise(size), "faint": faint(size)}
    frames["letterbox"] = frames["china"] * (abs(rows - size[0] // 2) < size[0] // 3)[..., None].astype(np.uint8)
    left = columns < size[1] // 2
    frames["red and cyan"] = np.where(left[..., None], [255, 0, 0], [0, 255, 255]).astype(np.uint8)
    gray = {f"checkerboard of {n}": (rows // n + columns // n) % 2 * 255 for n in (1, 2, 4, 8, 16)}
    gray |= {"left and right": 255 - left * 255, "ramp": columns * 255 // (size[1] - 1)}
    gray |= {"text": 255 - lines * 255, "text on black": lines * 255}
    dots = {"white dot": (0, 255), "black dot": (255, 0), "faint dot": (100, 101), "corner": (0, 255)}
    for name, (ground, level) in dots.items():
        gray[name] = np.full(size, ground)
        gray[name][(0, 0) if name == "corner" else (size[0] // 2, size[1] // 2)] = level
    frames |= {name: np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2) for name, levels in gray.items()}
    return {name: frames[name] for name in names or frames}


def photo_planes(name: str, form: FrameFormat) -> Planes:
    """A shipped photo in the layout of ``form``."""
    return planes_from_rgb(photo(name, form.size), form)


def planes_from_rgb(rgb: NDArray[np.uint8], form: FrameFormat) -> Planes:
    """The picture in the layout of ``form``; chroma is the mean of 2x2 pixels."""
    if form.pixels == "rgb":
        return (rgb,)
    matrix, offset = yuv_from_rgb(form.matrix, form.full_range)
    yuv = rgb @ matrix.T + offset
    rows, columns = form.chroma_size
    even = np.pad(yuv[..., 1:], ((0, rows * 2 - form.height), (0, columns * 2 - form.width), (0, 0)), mode="edge")
    y = _levels(yuv[..., 0])
    uv = _levels(even.reshape(rows, 2, columns, 2, 2).mean((1, 3)))
    if form.pixels == "nv12":
        return y, uv
    return y, np.ascontiguousarray(uv[..., 0]), np.ascontiguousarray(uv[..., 1])


def rgb_from_planes(planes: Planes, form: FrameFormat) -> NDArray[np.uint8]:
    """The RGB picture of 4:2:0 planes; each chroma sample covers its 2x2 pixels."""
    u, v = planes[1:] if form.pixels == "i420" else (planes[1][..., 0], planes[1][..., 1])
    chroma = [plane.repeat(2, 0).repeat(2, 1)[: form.height, : form.width] for plane in (u, v)]
    forward, offset = yuv_from_rgb(form.matrix, form.full_range)
    yuv = np.stack([planes[0], *chroma], axis=-1)
    return _levels((yuv - offset) @ np.linalg.inv(forward).T)


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio in dB; 99 for equal pictures."""
    assert first.shape == second.shape and first.dtype == second.dtype == np.uint8
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def worst_psnr(first: Planes, second: Planes) -> float:
    """That of the plane that differs most."""
    return min(psnr(a, b) for a, b in zip(first, second, strict=True))
