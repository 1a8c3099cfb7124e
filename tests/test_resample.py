"""The pixel work around the network: every kernel equals its twin, and the twins do what they say."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from networks import LAYOUTS
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.frame import FrameFormat, Pixels, Planes
from vidstyle.imaging import resample

U8 = NDArray[np.uint8]

needs_kernels = pytest.mark.skipif(resample._kernels is None, reason="the kernels are not compiled")
LEVELS = resample._kernels.levels() if resample._kernels is not None else ()
ALL_PIXELS = pytest.mark.parametrize("pixels", get_args(Pixels))
SIZES = pytest.mark.parametrize(
    ("small", "full"),
    [
        *(((36, 64), (108, 192)), ((24, 40), (73, 119)), ((8, 8), (1, 1)), ((1, 1), (2, 3))),
        *(((2, 3), (5, 16)), ((8, 33), (9, 34)), ((20, 12), (7, 90)), ((3, 5), (200, 7))),
    ],
)


def picture(form: FrameFormat, seed: int = 0) -> Planes:
    """Noise over blobs over ramps: flat places, edges and extremes."""
    chance = np.random.default_rng(seed)
    planes = []
    for shape in form.plane_shapes:
        ramp = np.linspace(0, 255, int(np.prod(shape))).reshape(shape)
        blobs = cv2.GaussianBlur(chance.normal(0, 400, (*shape[:2], int(np.prod(shape[2:])))), (0, 0), 2)
        noise = chance.normal(0, 20, shape) * (chance.random(shape) < 0.3)
        planes.append(np.clip(ramp + blobs.reshape(shape) + noise, 0, 255).astype(np.uint8))
    return tuple(planes)


def twin(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Planes]) -> Planes:
    """What ``work`` gives without the compiled kernels."""
    with monkeypatch.context() as patch:
        patch.setattr(resample, "_guided_kernel", resample._guided_twin)
        return work()


def furthest(found: Planes, expected: Planes) -> int:
    assert [p.shape for p in found] == [p.shape for p in expected]
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(found, expected, strict=True))


# --- masks ---


@needs_kernels
@ALL_PIXELS
@pytest.mark.parametrize("size", [(37, 51), (1, 1), (64, 90)])
def test_mixing_through_a_mask_equals_its_twin(pixels: Pixels, size: tuple[int, int]) -> None:
    form = FrameFormat(height=size[0], width=size[1], pixels=pixels)
    source, styled = picture(form), picture(form, seed=1)
    mask = np.random.default_rng(2).integers(0, 256, size, np.uint8)
    mask[: size[0] // 2], mask[:, : size[1] // 3] = 255, 0
    for a, b in zip(source, styled, strict=True):
        half = a.shape[:2] != size
        for strength in (0, 99, 257):
            expected, found = np.empty_like(a), np.empty_like(a)
            resample._mix_twin(a, b, mask, expected, half, strength)
            for level in LEVELS:
                resample._kernels.mix(a, b, mask, found, half, strength, level)
                assert np.array_equal(found, expected), level


@ALL_PIXELS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask_says_where_the_painting_is(pixels: Pixels, layout: str) -> None:
    form = FrameFormat(height=30, width=44, pixels=pixels)
    source, styled = picture(form), picture(form, seed=1)
    mask = np.zeros(form.size, np.uint8)
    mask[:, 20:] = 255

    def lay(planes: Planes) -> Planes:
        return tuple(map(LAYOUTS[layout], planes))

    found = resample.mix(lay(source), lay(styled), 1.0, lay((mask,))[0])
    for a, b, out in zip(source, styled, found, strict=True):
        middle = 20 * out.shape[1] // 44
        assert np.array_equal(out[:, :middle], a[:, :middle]) and np.array_equal(out[:, middle:], b[:, middle:])
    soft = np.full(form.size, 128, np.uint8)
    assert furthest(resample.mix(source, styled, 0.5, soft), resample.mix(source, styled, 0.5 * 128 / 255)) <= 1
    with pytest.raises(BadOption, match="mask is uint8 of"):
        resample.mix(source, styled, 1.0, soft[1:])


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_a_mask_is_enlarged_with_the_edges_of_the_picture(pixels: Pixels) -> None:
    """The edge of the picture lies between two small pixels; the mask's is put where the picture has it."""
    form = FrameFormat(height=120, width=160, pixels=pixels)
    full = np.full((120, 160), 60, np.uint8)
    full[:, 83:] = 180
    rgb = np.repeat(full[..., None], 3, axis=2)
    plane = full if pixels == "i420" else rgb
    small = np.asarray(cv2.resize(plane, (40, 30), interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 21:], mask[:, 20] = 255, 96
    found = resample.enlarge_mask(mask, small, plane)
    assert found.shape == form.size
    plain = np.asarray(cv2.resize(mask, (160, 120), interpolation=cv2.INTER_LINEAR), np.uint8)
    wanted = np.where(np.arange(160) >= 83, 255, 0)
    assert np.abs(found - wanted).mean() < 0.6 * np.abs(plain - wanted).mean()
    smaller = resample.enlarge_mask(mask, small, plane[::10, ::10])
    assert smaller.shape == (12, 16) and smaller[0, 0] == 0 and smaller[-1, -1] == 255


# --- enlarge ---


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
@ALL_PIXELS
@SIZES
def test_kernel_equals_its_twin(
    monkeypatch: pytest.MonkeyPatch, pixels: Pixels, small: tuple[int, int], full: tuple[int, int], level: str
) -> None:
    form = FrameFormat(height=full[0], width=full[1], pixels=pixels)
    work = form.resized(small)
    source = picture(form)
    shrunk, styled = resample.resize(source, form, small), picture(work, seed=1)
    run = resample._guided_kernel
    monkeypatch.setattr(resample, "_guided_kernel", lambda *args: run(*args, level=level))

    def enlarged() -> Planes:
        return resample.enlarge(styled, shrunk, source, work, form)

    found = enlarged()
    assert tuple(p.shape for p in found) == form.plane_shapes
    assert furthest(found, twin(monkeypatch, enlarged)) <= 1


@ALL_PIXELS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_make_no_difference(pixels: Pixels, layout: str) -> None:
    form = FrameFormat(height=31, width=45, pixels=pixels)
    work = form.resized((12, 20))
    source, styled = picture(form), picture(work, seed=1)
    shrunk = resample.resize(source, form, work.size)

    def lay(planes: Planes) -> Planes:
        return tuple(map(LAYOUTS[layout], planes))

    assert furthest(lay(source), source) == 0
    for found, expected in [
        (resample.resize(lay(source), form, work.size), shrunk),
        (
            resample.enlarge(lay(styled), lay(shrunk), lay(source), work, form),
            resample.enlarge(styled, shrunk, source, work, form),
        ),
        (resample.resize(lay(source), form, (20, 77)), resample.resize(source, form, (20, 77))),
        (resample.mix(lay(source), lay(source[:1] + source[1:]), 0.4), resample.mix(source, source, 0.4)),
        (
            resample.keep_color(lay(source), lay(picture(form, 2)), form),
            resample.keep_color(source, picture(form, 2), form),
        ),
    ]:
        assert furthest(found, expected) == 0


@ALL_PIXELS
def test_strokes_stay_where_luma_says_nothing(pixels: Pixels) -> None:
    """Where the source is made of flat blocks of 3x3, the middle of each block is the styled pixel."""
    work = FrameFormat(height=20, width=28, pixels=pixels)
    form = work.resized((60, 84))
    shrunk, styled = picture(work), picture(work, 1)
    source = tuple(np.repeat(np.repeat(p, 3, axis=0), 3, axis=1) for p in shrunk)
    found = resample.enlarge(styled, shrunk, source, work, form)
    light = 1 if pixels != "rgb" else None  # chroma is guided by 2x2 means, which are not flat blocks
    assert furthest(tuple(p[1::3, 1::3] for p in found[:light]), styled[:light]) <= 1


def test_edges_come_from_the_full_size_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A style that scales luma is followed over an edge that no low-size pixel border meets."""
    full = np.full((96, 120), 40, np.uint8)
    cv2.line(full, (10, 0), (101, 95), 220, 7)
    form = FrameFormat(height=96, width=120, pixels="i420")
    work = form.resized((32, 40))
    gray = np.full((48, 60), 128, np.uint8)
    source = (full, gray, gray)
    shrunk = resample.resize(source, form, work.size)

    def style(luma: U8) -> U8:
        return (0.8 * luma + 30).astype(np.uint8)

    styled = (style(shrunk[0]), *shrunk[1:])
    for found in (
        resample.enlarge(styled, shrunk, source, work, form)[0],
        twin(monkeypatch, lambda: resample.enlarge(styled, shrunk, source, work, form))[0],
    ):
        plain = cv2.resize(styled[0], (120, 96), interpolation=cv2.INTER_CUBIC)
        wanted = style(full).astype(float)
        assert np.abs(found - wanted).mean() < 0.1 * np.abs(plain - wanted).mean()


def test_light_turned_to_dark_does_not_ring() -> None:
    """Where the slope would be negative, luma is enlarged as it is: nothing of the source shows."""
    form = FrameFormat(height=90, width=90, pixels="rgb")
    work = form.resized((30, 30))
    source = (np.repeat(picture(form)[0][..., :1], 3, axis=2),)
    shrunk = resample.resize(source, form, work.size)
    styled = (255 - shrunk[0],)
    found = resample.enlarge(styled, shrunk, source, work, form)
    assert furthest(found, (np.asarray(cv2.resize(styled[0], (90, 90), interpolation=cv2.INTER_CUBIC)),)) <= 1


@ALL_PIXELS
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_stays_flat(pixels: Pixels, value: int) -> None:
    form = FrameFormat(height=37, width=51, pixels=pixels)
    work = form.resized((16, 24))
    flat = tuple(np.full(shape, value, np.uint8) for shape in form.plane_shapes)
    small = resample.resize(flat, form, work.size)
    for found in (
        resample.enlarge(small, small, flat, work, form),
        resample.enlarge(small, resample.resize(picture(form), form, work.size), picture(form), work, form),
        resample.resize(flat, form, (80, 20)),
        resample.mix(flat, flat, 0.3),
        resample.keep_color(flat, flat, form),
    ):
        assert all((plane == value).all() for plane in found)


def test_without_kernels_the_twin_serves_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    form = FrameFormat(height=30, width=44, pixels="i420")
    work = form.resized((12, 16))
    source, styled = picture(form), picture(work, 1)
    shrunk = resample.resize(source, form, work.size)
    with_kernels = resample.enlarge(styled, shrunk, source, work, form)
    monkeypatch.setattr(resample, "_kernels", None)
    resample.kernels_in_use.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert furthest(resample.enlarge(styled, shrunk, source, work, form), with_kernels) <= 1
        assert resample.kernels_in_use() is None
    finally:
        resample.kernels_in_use.cache_clear()
    assert len(caplog.records) == 1


def test_threads_do_not_meet() -> None:
    form = FrameFormat(height=270, width=480, pixels="i420")
    work = form.resized((90, 160))
    jobs = [(picture(form, seed), picture(work, seed + 50)) for seed in range(8)]

    def enlarged(job: tuple[Planes, Planes]) -> Planes:
        return resample.enlarge(job[1], resample.resize(job[0], form, work.size), job[0], work, form)

    alone = [enlarged(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(enlarged, jobs * 4), alone * 4, strict=True):
            assert furthest(found, expected) == 0


# --- resize ---


def test_a_shrunk_pixel_is_the_mean_of_its_area() -> None:
    form = FrameFormat(height=30, width=48, pixels="rgb")
    source = picture(form)
    means = source[0].reshape(10, 3, 16, 3, 3).mean(axis=(1, 3))
    assert np.abs(resample.resize(source, form, (10, 16))[0] - means).max() <= 0.51


@ALL_PIXELS
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (15, 44), (31, 90), (62, 20), (200, 300)])
def test_resize_gives_every_plane_its_size(pixels: Pixels, size: tuple[int, int]) -> None:
    form = FrameFormat(height=31, width=45, pixels=pixels)
    found = resample.resize(picture(form), form, size)
    assert tuple(p.shape for p in found) == form.resized(size).plane_shapes
    assert all(p.dtype == np.uint8 for p in found)


@ALL_PIXELS
def test_the_same_size_costs_nothing(pixels: Pixels) -> None:
    form = FrameFormat(height=31, width=45, pixels=pixels)
    planes = picture(form)
    assert resample.resize(planes, form, form.size) is planes
    assert resample.enlarge(planes, picture(form), picture(form), form, form) is planes


# --- mix and keep_color ---


@ALL_PIXELS
def test_mix_is_exact_at_its_ends_and_linear_between(pixels: Pixels) -> None:
    form = FrameFormat(height=21, width=33, pixels=pixels)
    source, styled = picture(form), picture(form, 1)
    assert resample.mix(source, styled, 0) is source
    assert resample.mix(source, styled, 1.0) is styled
    for found, a, b in zip(resample.mix(source, styled, 0.25), source, styled, strict=True):
        assert np.abs(found - (0.75 * a + 0.25 * b)).max() <= 0.51


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), float("inf")])
def test_mix_refuses_what_is_no_proportion(strength: float) -> None:
    planes = picture(FrameFormat(height=4, width=4))
    with pytest.raises(BadOption, match="strength"):
        resample.mix(planes, planes, strength)
    with pytest.raises(BadOption, match="same form"):
        resample.mix(planes, picture(FrameFormat(height=4, width=5)), 0.5)


@pytest.mark.parametrize("pixels", ["i420", "nv12"])
def test_keep_color_takes_luma_alone(pixels: Pixels) -> None:
    form = FrameFormat(height=11, width=14, pixels=pixels)
    source, styled = picture(form), picture(form, 1)
    found = resample.keep_color(source, styled, form)
    assert found[0] is styled[0]
    assert all(a is b for a, b in zip(found[1:], source[1:], strict=True))


def test_keep_color_of_rgb_has_the_styled_luma_and_the_source_chroma() -> None:
    form = FrameFormat(height=40, width=50)
    source, styled = (tuple(p // 3 + 80 for p in picture(form, seed)) for seed in (0, 1))  # nothing to clip
    found = resample.keep_color(source, styled, form)[0]
    ycc, luma, chroma = (cv2.cvtColor(p, cv2.COLOR_RGB2YCrCb).astype(int) for p in (found, styled[0], source[0]))
    assert np.abs(ycc[..., 0] - luma[..., 0]).max() <= 2
    assert np.abs(ycc[..., 1:] - chroma[..., 1:]).max() <= 2
    assert (resample.keep_color(source, source, form)[0] == source[0]).all()


# --- bad arguments ---

FORM = FrameFormat(height=8, width=12, pixels="i420")


@pytest.mark.parametrize(
    "planes",
    [
        (),
        picture(FORM)[:2],
        picture(FORM.resized((8, 10))),
        picture(FrameFormat(height=8, width=12, pixels="nv12")),
        tuple(p.astype(np.float32) for p in picture(FORM)),
        tuple(p.astype(np.int8) for p in picture(FORM)),
    ],
)
def test_planes_of_another_form_are_refused(planes: Any) -> None:
    good, small = picture(FORM), FORM.resized((4, 6))
    for call in (
        lambda: resample.resize(planes, FORM, (4, 6)),
        lambda: resample.keep_color(good, planes, FORM),
        lambda: resample.keep_color(planes, good, FORM),
        lambda: resample.enlarge(picture(small), picture(small), planes, small, FORM),
        lambda: resample.enlarge(planes, good, picture(FORM.resized((9, 13))), FORM, FORM.resized((9, 13))),
        lambda: resample.enlarge(good, planes, picture(FORM.resized((9, 13))), FORM, FORM.resized((9, 13))),
    ):
        with pytest.raises(BadOption, match="planes are"):
            call()


def test_sizes_and_forms_that_do_not_fit_are_refused() -> None:
    other = FrameFormat(height=16, width=24, pixels="nv12")
    with pytest.raises(BadOption, match="size only"):
        resample.enlarge(picture(FORM), picture(FORM), picture(other), FORM, other)
    for size in ((0, 4), (4, -1), (1 << 20, 4)):
        with pytest.raises(BadOption):
            resample.resize(picture(FORM), FORM, size)


def zeros(*shape: int, dtype: Any = np.uint8) -> Any:
    return np.zeros(shape, dtype)


READ_ONLY = zeros(8, 12)
READ_ONLY.flags.writeable = False
GOOD = {
    **{"styled": (zeros(4, 6),), "small_guide": zeros(4, 6), "guide": zeros(8, 12), "out": (zeros(8, 12),)},
    **{"kind": "plain", "epsilon": 40.0, "low": 0.0, "high": 1.0, "level": None},
}
BAD: dict[str, dict[str, Any]] = {
    "no channel": {"styled": (), "out": ()},
    "a list": {"styled": [zeros(4, 6)]},
    "five channels": {"styled": (zeros(4, 6),) * 5, "out": (zeros(8, 12),) * 5},
    "one channel in, two out": {"out": (zeros(8, 12),) * 2},
    "styled too small": {"styled": (zeros(4, 5),)},
    "styled too flat": {"styled": (zeros(3, 6),)},
    "out too small": {"out": (zeros(8, 11),)},
    "out too flat": {"out": (zeros(7, 12),)},
    "out read-only": {"out": (READ_ONLY,)},
    "out of floats": {"out": (zeros(8, 12, dtype=np.float32),)},
    "out signed": {"out": (zeros(8, 12, dtype=np.int8),)},
    "guide of words": {"guide": zeros(8, 12, dtype=np.uint16)},
    "guide of one dimension": {"guide": zeros(96)},
    "guide of three dimensions": {"guide": zeros(8, 12, 3)},
    "guide not an array": {"guide": "guide"},
    "guide in columns": {"guide": np.asfortranarray(zeros(8, 12))},
    "small guide with gaps": {"small_guide": zeros(4, 12)[:, ::2]},
    "empty": {"styled": (zeros(0, 6),), "small_guide": zeros(0, 6)},
    "empty out": {"guide": zeros(8, 0), "out": (zeros(8, 0),)},
    "half of another size": {"kind": "half"},
    "rgb of planes": {"kind": "rgb"},
    "rgb of four": {"kind": "rgb", "guide": zeros(8, 12, 4), "small_guide": zeros(4, 6, 3)},
    "rgb with gaps": {"kind": "rgb", "guide": zeros(8, 12, 6)[..., ::2], "small_guide": zeros(4, 6, 3)},
    **{f"kind {kind!r}": {"kind": kind} for kind in ("luma", None, "plain\0")},
    **{f"epsilon {epsilon}": {"epsilon": epsilon} for epsilon in (0.0, -1.0, float("nan"))},
    "low above high": {"low": 1.0, "high": 0.5},
    "low nan": {"low": float("nan")},
    "high infinite": {"high": float("inf")},
    "unknown level": {"level": "mmx"},
}


@needs_kernels
@pytest.mark.parametrize("wrong", BAD)
def test_kernel_refuses(wrong: str) -> None:
    with pytest.raises((TypeError, ValueError, BufferError)):
        resample._kernels.enlarge(*{**GOOD, **BAD[wrong]}.values())


@needs_kernels
def test_no_argument_crashes_the_kernel() -> None:
    """Thousands of calls with shapes, layouts and numbers at random: a result or an exception."""
    chance = random.Random(5)
    pool = np.zeros(1 << 16, np.uint8)
    accepted = 0

    def array(dimensions: int) -> Any:
        shape = [chance.choice([0, 1, 2, 3, 5, 8, 9, 17, 31]) for _ in range(2)] + [3] * (dimensions - 2)
        plane = pool[: int(np.prod(shape))].reshape(shape)
        views = plane[::-1], plane[:, ::-1], plane[1:, 1:], plane[::2, ::2], np.broadcast_to(plane[:1], plane.shape)
        return chance.choice([*views, plane, plane, plane])

    for _ in range(5000):
        kind = chance.choice(["plain", "half", "rgb"])
        dimensions = 3 if kind == "rgb" else 2
        small, guide = array(dimensions), array(dimensions)
        if chance.random() < 0.7:  # sizes that fit
            share = 2 if kind == "half" else 1
            small_size, size = ([-(-side // share) for side in g.shape[:2]] for g in (small, guide))
            count = chance.randrange(5)
            styled = tuple(np.zeros((small_size[0], small_size[1] * 2), np.uint8)[:, ::2] for _ in range(count))
            out = tuple(np.zeros((size[0], size[1] * 3), np.uint8)[:, ::3] for _ in range(count))
        else:
            styled, out = ((array(2),) * chance.randrange(3) for _ in range(2))
        try:
            resample._kernels.enlarge(styled, small, guide, out, kind, chance.choice([40.0, 1e-6, 1e6]), -1.0, 1.5)
            accepted += 1
        except (TypeError, ValueError, BufferError):
            pass
    assert 500 < accepted < 4500
