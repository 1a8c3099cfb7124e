"""The pass of temporal smoothing: every kernel equals the twin, and the twin does what it says."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import run_python
from networks import LAYOUTS
from numpy.typing import NDArray

from vidstyle.errors import BadOption
from vidstyle.imaging import warp
from vidstyle.imaging.warp import F32, SCALE, U8, U16, remembered, warp_blend

LEVELS = warp._kernels.levels() if hasattr(warp._kernels, "warp_blend") else ()
needs_kernels = pytest.mark.skipif(not LEVELS, reason="the kernels are not compiled")
ALL = pytest.mark.parametrize("level", ["twin", *LEVELS])
SHAPES = (1, 1), (1, 40), (40, 1), (2, 3), (33, 31), (90, 161)
DEEP_SHAPES = (7, 5, 3), (20, 37, 2), (48, 97, 3), (25, 300, 4), (9, 8, 1)
UPDATED_BOUND = SCALE // 10


class Case:
    """Arguments of `warp_blend`: noise that moves by some pixels, here along with its neighbours, there not."""

    def __init__(self, shape: tuple[int, ...], small: tuple[int, int], *, seed: int = 0, reach: float = 6.0) -> None:
        chance = np.random.default_rng(seed)
        self.new: U8 = chance.integers(0, 256, shape, np.uint8)
        self.memory = remembered(self.new)
        self.memory[...] = chance.integers(0, 255 * SCALE + 1, shape, np.uint16)
        pixels = np.array([small[1] / shape[1], small[0] / shape[0]])
        coarse = (chance.normal(0, reach, (3, 3, 2)) * pixels).astype(np.float32)
        self.flow: F32 = cv2.resize(coarse, small[::-1], interpolation=cv2.INTER_LINEAR).reshape(*small, 2)
        self.flow[chance.random(small) < 0.1] = 0
        self.weight: F32 = np.clip(chance.normal(0.5, 0.6, small), 0, 1).astype(np.float32)
        self.gain = 1.3

    def run(self, level: str, threads: int = 1) -> tuple[U8, U16]:
        shown, updated = np.zeros_like(self.new), np.zeros_like(self.memory)
        self.run_into(shown, updated, level, threads)
        return shown, updated

    def run_into(self, shown: U8, updated: U16, level: str, threads: int = 1) -> None:
        arguments = self.new, self.memory, self.flow, self.weight, self.gain, shown, updated
        if level == "twin":
            warp._check(*arguments, threads)
            warp._twin(*arguments)
        else:
            warp_blend(*arguments, threads=threads, level=level)


def furthest(a: NDArray[np.generic], b: NDArray[np.generic]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def assert_equal(found: tuple[U8, U16], expected: tuple[U8, U16]) -> None:
    assert furthest(found[0], expected[0]) <= 1
    assert furthest(found[1], expected[1]) <= UPDATED_BOUND


def cubic(t: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Keys 1981 with a = -3/4, for the neighbours -1, 0, 1 and 2 of a place at ``t``."""
    a = -0.75
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


def enlarged(field: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    for axis, full in enumerate(size):
        small = field.shape[axis]
        place = np.clip((np.arange(full) + 0.5) * small / full - 0.5, 0, small - 1)
        first = place.astype(int)
        rest = (place - first).reshape([-1 if k == axis else 1 for k in range(field.ndim)])
        a, b = field.take(first, axis), field.take(np.minimum(first + 1, small - 1), axis)
        field = a + rest * (b - a)
    return field


def formula(case: Case) -> tuple[U8, U16]:
    """What the docstring of `warp_blend` says, in float64 and without OpenCV."""
    height, width = case.new.shape[:2]
    scale = [width / case.flow.shape[1], height / case.flow.shape[0]]
    most = np.array(case.flow.shape[1::-1]) + 1.0
    move = enlarged(np.clip(case.flow.astype(np.float64), -most, most), (height, width)) * scale
    deep = (slice(None), slice(None)) + (None,) * (case.new.ndim - 2)
    kept = enlarged(case.weight.astype(np.float64), (height, width))[deep]
    whole = np.floor(move).astype(int)
    x, y = np.arange(width) + whole[..., 0], np.arange(height)[:, None] + whole[..., 1]
    across, down = cubic(move[..., 0] - whole[..., 0]), cubic(move[..., 1] - whole[..., 1])
    there = np.zeros(case.new.shape)
    for j in range(4):
        for i in range(4):
            sample = case.memory[np.clip(y + j - 1, 0, height - 1), np.clip(x + i - 1, 0, width - 1)]
            there += (down[j] * across[i])[deep] * sample
    mixed = (1 - kept) * case.new * SCALE + kept * np.clip(there, 0, 255 * SCALE)
    updated = np.floor(mixed + 0.5)
    framed = np.pad(updated, [(1, 1), (1, 1)] + [(0, 0)] * (updated.ndim - 2), mode="edge")
    mean = sum(framed[j : j + height, i : i + width] for j in range(3) for i in range(3)) / 9
    shown = (updated + case.gain * kept * (updated - mean)) / SCALE
    return np.clip(np.floor(shown + 0.5), 0, 255).astype(np.uint8), updated.astype(np.uint16)


# --- one another's equals ---


@ALL
@pytest.mark.parametrize("shape", [*SHAPES, *DEEP_SHAPES], ids=str)
@pytest.mark.parametrize("small", [(1, 1), (2, 3), (12, 20), (30, 40)], ids=str)
def test_every_level_does_what_the_formula_says(shape: tuple[int, ...], small: tuple[int, int], level: str) -> None:
    case = Case(shape, small)
    assert_equal(case.run(level), formula(case))


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("reach", [0.0, 0.4, 8.0, 60.0])
@pytest.mark.parametrize("shape", [(64, 150), (31, 40, 3), (50, 33, 2)])
def test_kernel_equals_the_twin_however_far_the_motion_goes(shape: tuple[int, ...], reach: float, level: str) -> None:
    for seed in range(4):
        case = Case(shape, (16, 24), seed=seed, reach=reach)
        assert_equal(case.run(level), case.run("twin"))
        case.flow[...] = np.random.default_rng(seed).normal(0, reach / 8, case.flow.shape)  # no two alike
        assert_equal(case.run(level), case.run("twin"))


@ALL
@pytest.mark.parametrize("shape", [(40, 60), (17, 23, 3), (18, 40, 2)])
def test_fields_of_nonsense_are_as_good_as_their_limits(shape: tuple[int, ...], level: str) -> None:
    chance = np.random.default_rng(7)
    nonsense = np.array([np.nan, np.inf, -np.inf, 1e9, -1e9, 3e38, -3e38, 1e-40, -0.0, 0.5, -3], np.float32)
    for seed in range(6):
        case = Case(shape, (9, 13), seed=seed)
        case.flow[...] = chance.choice(nonsense, case.flow.shape)
        case.weight[...] = chance.choice(nonsense, case.weight.shape)
        found = case.run(level)
        most = np.array([14, 10], np.float32)
        case.flow[...] = np.clip(np.nan_to_num(case.flow, nan=0, posinf=1e9, neginf=-1e9), -most, most)
        case.weight[...] = np.nan_to_num(np.clip(case.weight, 0, 1), nan=0)
        assert_equal(found, formula(case))


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (240, 330), (130, 140, 3), (101, 390, 2)])
def test_any_number_of_threads_gives_the_same_bytes(shape: tuple[int, ...], level: str) -> None:
    case = Case(shape, (20, 32))
    shown, updated = case.run(level)
    for threads in (2, 3, 64):
        again = case.run(level, threads)
        assert np.array_equal(again[0], shown)
        assert np.array_equal(again[1], updated)


# --- what it does ---


@ALL
@pytest.mark.parametrize("value", [0, 1, 100, 254, 255])
def test_a_flat_picture_stays_flat_under_any_motion(value: int, level: str) -> None:
    for reach in (0.7, 9.0, 300.0):
        case = Case((45, 83), (11, 20), reach=reach)
        case.new[...], case.memory[...] = value, value * SCALE
        shown, updated = case.run(level)
        assert (shown == value).all()
        assert furthest(updated, case.memory) <= (1 if level == "twin" else 0)  # OpenCV's own rounding


@ALL
def test_whole_pixels_of_motion_move_whole_pixels(level: str) -> None:
    case = Case((40, 70), (40, 70))
    case.flow[...], case.weight[...], case.gain = (5, -3), 1, 0.0
    _, updated = case.run(level)
    assert np.array_equal(updated[3:, :-5], case.memory[:-3, 5:])
    assert (updated[:3, :-5] == case.memory[0, 5:]).all()  # beyond the border the border repeats
    assert (updated[3:, -5:] == case.memory[:-3, -1:]).all()


@ALL
def test_small_differences_arrive(level: str) -> None:
    """In 8 bits a memory kept to 95 % would stay 10 levels away for ever."""
    case = Case((8, 20), (2, 5))
    case.new[...], case.memory[...], case.flow[...], case.weight[...] = 150, 100 * SCALE, 0, 0.95
    for _ in range(200):
        case.memory = case.run(level)[1]
    assert (case.run(level)[0] == 150).all()


# --- layouts ---


@ALL
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(31, 45), (20, 33, 2), (21, 30, 3)])
def test_the_picture_may_lie_anyhow(shape: tuple[int, ...], layout: str, level: str) -> None:
    case = Case(shape, (8, 12))
    shown, updated = case.run(level)
    case.new = LAYOUTS[layout](case.new)
    found, same = LAYOUTS[layout](shown), np.zeros_like(updated)
    case.run_into(found, same, level)
    assert np.array_equal(found, shown)
    assert np.array_equal(same, updated)


@ALL
def test_memory_and_fields_may_lie_at_any_address_of_their_type(level: str) -> None:
    case = Case((33, 52), (8, 12))
    shown, updated = case.run(level)

    def shifted(array: NDArray[np.generic], offset: int) -> NDArray[np.generic]:
        room = np.zeros(array.nbytes + offset, np.uint8)[offset:].view(array.dtype).reshape(array.shape)
        room[...] = array
        return room

    case.memory, case.flow, case.weight = shifted(case.memory, 2), shifted(case.flow, 4), shifted(case.weight, 4)
    found, same = np.zeros_like(shown), shifted(updated * 0, 6)
    case.run_into(found, same, level)
    assert np.array_equal(found, shown)
    assert np.array_equal(same, updated)
    case.flow, case.weight = shifted(case.flow, 1), shifted(case.weight, 3)  # not even that
    assert np.array_equal(case.run(level)[0], shown)
    case.flow, case.weight = np.asfortranarray(case.flow), np.asfortranarray(case.weight)
    assert np.array_equal(case.run(level)[0], shown)


@ALL
def test_rows_of_the_memory_may_be_far_apart(level: str) -> None:
    case = Case((30, 44), (8, 12))
    shown, updated = case.run(level)
    room = np.zeros((30, 3, 60), np.uint16)
    room[:, 1, 7:51] = case.memory
    case.memory = room[:, 1, 7:51]
    target = np.full((30, 2, 50), 7, np.uint16)
    case.run_into(shown, target[:, 0, 3:47], level)
    assert np.array_equal(target[:, 0, 3:47], updated)
    assert (target[:, 1] == 7).all() and (target[:, 0, :3] == 7).all() and (target[:, 0, 47:] == 7).all()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1, 2)])
def test_remembered_holds_a_picture_exactly(shape: tuple[int, ...]) -> None:
    plane = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    memory = remembered(plane)
    assert memory.shape == shape
    assert np.array_equal(memory // SCALE, plane)
    assert np.array_equal(memory % SCALE, np.zeros(shape))
    assert np.empty_like(memory).strides[1] == 2 or shape[1] == 1


# --- refusals ---


def arguments(shape: tuple[int, ...] = (9, 14)) -> dict[str, object]:
    case = Case(shape, (3, 4))
    return {
        "new": case.new,
        "memory": case.memory,
        "flow": case.flow,
        "weight": case.weight,
        "gain": 1.0,
        "shown": np.zeros_like(case.new),
        "updated": np.zeros_like(case.memory),
    }


WRONG: list[tuple[str, dict[str, object]]] = [
    ("shapes", {"memory": np.zeros((9, 13), np.uint16)}),
    ("shapes", {"shown": np.zeros((9, 14, 3), np.uint8)}),
    ("must be .h, w, 2.", {"flow": np.zeros((3, 4), np.float32)}),
    ("must be .h, w, 2.", {"flow": np.zeros((3, 5, 2), np.float32)}),
    ("must be .h, w, 2.", {"flow": np.zeros((0, 4, 2), np.float32), "weight": np.zeros((0, 4), np.float32)}),
    ("must be uint8", {"flow": np.zeros((3, 4, 2))}),
    ("must be uint8", {"updated": np.zeros((9, 14), np.int16)}),
    ("laid out", {"updated": np.zeros((14, 9), np.uint16).T}),
    ("laid out", {"memory": np.zeros(9 * 14 * 2 + 1, np.uint8)[1:].view(np.uint16).reshape(9, 14)}),
    ("gain is nan", {"gain": float("nan")}),
    ("gain is 1000000000", {"gain": 1e9}),
    ("threads is 0", {"threads": 0}),
]


@pytest.mark.parametrize(("words", "wrong"), WRONG)
def test_arrays_that_do_not_fit_are_refused(words: str, wrong: dict[str, object]) -> None:
    with pytest.raises(BadOption, match=words):
        warp_blend(**{**arguments(), **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["new", "memory", "flow", "weight", "updated"])
def test_results_that_share_memory_are_refused(other: str) -> None:
    given = arguments()
    shared = given[other]
    assert isinstance(shared, np.ndarray)
    room = np.zeros(max(126, shared.nbytes), np.uint8)
    given |= {other: room[: shared.nbytes].view(shared.dtype).reshape(shared.shape), "shown": room[:126].reshape(9, 14)}
    with pytest.raises(BadOption, match="shown shares memory"):
        warp_blend(**given)  # type: ignore[arg-type]


def test_planes_without_pixels_or_with_too_many_channels_are_refused() -> None:
    for shape in [(0, 5), (5, 0), (4, 4, 5), (4, 4, 0)]:
        new, memory = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
        field = np.zeros((1, 1), np.float32)
        with pytest.raises(BadOption, match="1 to 4 channels"):
            warp_blend(new, memory, np.zeros((1, 1, 2), np.float32), field, 0, new.copy(), memory.copy())


@needs_kernels
@pytest.mark.parametrize(("words", "wrong"), WRONG)
def test_the_compiled_module_refuses_by_itself(words: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        warp._kernels.warp_blend(**{**arguments(), **wrong})  # type: ignore[arg-type]


@needs_kernels
def test_the_compiled_module_refuses_what_it_cannot_read() -> None:
    given = arguments()
    for wrong in (
        {"new": [1, 2]},
        {"shown": bytes(9 * 14)},
        {"shown": given["new"]},
        {"updated": given["memory"]},
        {"flow": np.zeros((3, 8, 2), np.float32)[:, ::2]},
        {"weight": np.zeros((3, 8), np.float32)[:, ::2]},
        {"flow": np.zeros((2, 4, 2), np.float32)},
        {"weight": np.zeros((3, 4, 1, 1), np.float32)},
        {"flow": np.zeros((3, 4, 2), np.dtype(">f4"))},
        {"level": "sse9"},
    ):
        with pytest.raises((TypeError, ValueError, BufferError)):
            warp._kernels.warp_blend(**{**given, **wrong})  # type: ignore[arg-type]
    shown = given["shown"]
    assert isinstance(shown, np.ndarray)
    shown.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        warp._kernels.warp_blend(**given)  # type: ignore[arg-type]


# --- threads, and where there is no kernel ---


@needs_kernels
def test_other_threads_run_meanwhile() -> None:
    case = Case((1000, 1500), (100, 150))
    shown, updated = np.zeros_like(case.new), np.zeros_like(case.memory)

    def work() -> tuple[float, float]:
        began = time.perf_counter()
        case.run_into(shown, updated, "baseline")
        return began, time.perf_counter()

    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            working, seen = pool.submit(work), []
            while not working.done():
                seen.append(time.perf_counter())
                time.sleep(0.0005)
            begin, end = working.result()
            if any(begin + 0.2 * (end - begin) < moment < begin + 0.8 * (end - begin) for moment in seen):
                return
    pytest.fail("nothing else ran while the kernel did")


@needs_kernels
def test_callers_on_several_threads_get_what_each_would_alone() -> None:
    cases = [Case((200, 310), (20, 30), seed=seed) for seed in range(4)]
    expected = [case.run(LEVELS[-1]) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda case: case.run(LEVELS[-1], threads=3), cases * 20)
        for pair, same in zip(found, expected * 20, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(pair, same, strict=True))


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    code = """
import os, sys
import numpy as np
from vidstyle.imaging.warp import remembered, warp_blend
new = np.random.default_rng(0).integers(0, 256, (400, 600), np.uint8)
memory, flow, weight = remembered(new), np.full((20, 30, 2), 0.1, np.float32), np.full((20, 30), 0.5, np.float32)
def run():
    shown, updated = np.empty_like(new), np.empty_like(memory)
    warp_blend(new, memory, flow, weight, 1.0, shown, updated, threads=2)
    return shown
before = run()
child = os.fork()
if child == 0:
    same = all(np.array_equal(run(), before) for _ in range(50))
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) or not np.array_equal(run(), before))
"""
    run_python(code)


@pytest.mark.parametrize("kernels", [None, object()], ids=["none", "older"])
def test_without_the_kernel_the_twin_serves(
    kernels: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case((20, 30, 3), (5, 8))
    expected = case.run("twin")
    monkeypatch.setattr(warp, "_kernels", kernels)
    warp._has_kernel.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "vidstyle.imaging.warp"):
            for _ in range(2):
                shown, updated = np.zeros_like(case.new), np.zeros_like(case.memory)
                warp_blend(case.new, case.memory, case.flow, case.weight, case.gain, shown, updated)
                assert np.array_equal(shown, expected[0])
                assert np.array_equal(updated, expected[1])
    finally:
        warp._has_kernel.cache_clear()
    assert len(caplog.records) == (0 if kernels is None else 1)
