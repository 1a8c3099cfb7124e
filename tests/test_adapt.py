"""Adaptation: it learns, it repeats itself to the bit, it can be interrupted, it refuses nonsense."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from vidstyle.cli import vidstyle
from vidstyle.data import PHOTO_PATHS, PHOTOS
from vidstyle.errors import BadModel, BadOption, ImageError
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import FAST, Network
from vidstyle.models.checkpoint import read_tensors
from vidstyle.models.style import Style
from vidstyle.training import adapt as module
from vidstyle.training.adapt import RATES, AdaptOptions, Interrupted, Measurement, adapt
from vidstyle.training.contrast import HIGHEST_GAIN
from vidstyle.training.data import Photos, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.train import random_network
from vidstyle.training.trainer import FILE_FORMAT, FILE_VERSION, Checkpoint, Progress

MODES = ("vector", "full", "scratch")


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Broad diagonal strokes of three colors."""
    rows, columns = np.mgrid[0:80, 0:96]
    colors = np.array([[30, 60, 160], [230, 200, 60], [240, 240, 230]], np.uint8)
    rgb = colors[((rows + columns) // 7 + rows // 23) % 3]
    path = tmp_path_factory.mktemp("paintings") / "strokes.png"
    cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.fixture(scope="module")
def photos() -> Photos:
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (3, 6, 8, 3)).astype(np.uint8)
    return Photos([cv2.resize(p, (96, 72), interpolation=cv2.INTER_CUBIC) for p in small])


SLOW = Compute(arithmetic="fp32", threads=1)


def tiny(mode: str = "vector", **changes: Any) -> AdaptOptions:
    usual = {"mode": mode, "steps": 4, "batch": 1, "size": 32, "style_size": 48, "compute": SLOW}
    return AdaptOptions(**{**usual, **changes})  # type: ignore[arg-type]


def same(a: Style, b: Style) -> bool:
    weights, others = a.network.weights, b.network.weights
    return (
        np.array_equal(a.vector, b.vector)
        and weights.keys() == others.keys()
        and all(np.array_equal(weights[name], others[name]) for name in weights)
    )


def run(painting: Path, options: AdaptOptions, **arguments: Any) -> Style:
    start = "fast" if options.mode == "scratch" else shared_network("fast")
    return adapt(painting, start, options=options, **arguments)


# What a run makes


def test_a_few_steps_on_the_vector_bring_the_painting_nearer(painting: Path) -> None:
    seen: list[Progress] = []
    options = tiny(steps=15, size=64, style_size=64, vector_rate=5e-2)
    style = adapt(painting, shared_network("fast"), options=options, progress=seen.append)
    losses: Any = style.card["losses"]
    assert losses["after"]["style"] < losses["before"]["style"] - 0.02
    assert [p.step for p in seen] == list(range(1, 16)) and {p.steps for p in seen} == {15}
    assert set(seen[0].losses) == {"content", "style", "detail", "contrast", "tone", "variation", "total"}
    assert 0 < seen[0].seconds <= seen[-1].seconds


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_makes_its_kind_and_survives_its_file(
    mode: str, painting: Path, photos: Photos, tmp_path: Path
) -> None:
    style = run(painting, tiny(mode), photos=photos, name="mine", card={"painter": "me"})
    assert style.kind == ("vector" if mode == "vector" else "full")
    assert (style.name, style.network_name) == ("mine", "fast")
    assert style.card["painter"] == "me" and style.card["mode"] == mode and style.card["steps"] == 4
    shared = shared_network("fast").digest
    assert style.theta == (style.network.digest if mode == "scratch" else shared)
    assert (style.network.digest != shared) == (mode != "vector")
    style.save(tmp_path / "mine.safetensors")
    loaded = Style.load(tmp_path / "mine.safetensors")
    assert loaded.card == style.card
    assert (loaded.theta, loaded.network.digest) == (style.theta, style.network.digest)
    np.testing.assert_allclose(loaded.vector, style.vector, rtol=1e-3, atol=1e-6)


def test_every_number_moves_in_full_and_only_the_vector_in_vector(painting: Path, photos: Photos) -> None:
    start = random_network("fast", 1)  # a trained one has channels that nothing in pictures this small reaches
    vector, full = (adapt(painting, start, options=tiny(*mode), photos=photos) for mode in ((), ("full",)))
    # A flat channel of a picture this small has no variation that its scale could act on.
    assert vector.network.weights is start.weights and np.mean(vector.vector != start.start) > 0.6
    for name, weight in full.network.weights.items():
        # A bias before an instance norm has no effect, so no gradient but rounding.
        if name.endswith("weight"):
            assert np.mean(weight != start.weights[name]) > 0.9, name


def test_scratch_learns_a_network_of_its_own(painting: Path) -> None:
    options = tiny("scratch", steps=20, weight_rate=3e-3)
    losses: Any = adapt(painting, "fast", options=options).card["losses"]
    assert losses["after"]["style"] < losses["before"]["style"]


def test_what_is_transparent_in_a_painting_is_learned_as_white_and_told(photos: Photos, tmp_path: Path) -> None:
    hidden = np.full((48, 64, 4), (0, 255, 0, 0), np.uint8)
    hidden[:24] = (60, 30, 200, 255)
    seen = hidden[..., :3].copy()
    seen[24:] = 255
    cv2.imwrite(str(tmp_path / "cut.png"), hidden)
    cv2.imwrite(str(tmp_path / "seen.png"), seen)
    cut, white = (run(tmp_path / name, tiny(steps=2), photos=photos) for name in ("cut.png", "seen.png"))
    assert same(cut, white) and "notes" not in white.card
    (note,) = cut.card["notes"]  # type: ignore[misc]  # a list
    assert "cut.png" in note and "white" in note


def test_the_curve_begins_before_the_first_step_and_ends_after_the_last(painting: Path, photos: Photos) -> None:
    seen: list[tuple[Measurement, Style]] = []
    options = tiny(steps=5, measure_every=2, vector_rate=5e-2)
    style = run(painting, options, photos=photos, watch=lambda at, of: seen.append((at, of)))
    assert style.name == "strokes" and style.card["curve"] == [list(at) for at, _ in seen]
    assert [at.step for at, _ in seen] == [0, 2, 4, 5] == [of.card["steps"] for _, of in seen]
    assert same(seen[-1][1], style) and not same(seen[-2][1], style)
    first, last = seen[0][0], seen[-1][0]
    assert style.card["losses"] == {
        "before": {"content": first.content, "style": first.style},
        "after": {"content": last.content, "style": last.style},
    }
    expected = last.content + 10 * last.style + 4 * last.detail + 20 * last.contrast + last.tone + 0.02 * last.variation
    assert last.total(options.loss) == pytest.approx(expected)
    assert last.total(options.loss) < first.total(options.loss)


def test_what_a_run_is_measured_on_does_not_change_what_it_learns(painting: Path, photos: Photos) -> None:
    styles = [run(painting, tiny(), photos=photos, measure_on=on) for on in (None, photos)]
    assert same(*styles)
    assert styles[0].card["losses"] != styles[1].card["losses"]


# Repeating and continuing


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_style_and_another_another(mode: str, painting: Path, photos: Photos) -> None:
    first = run(painting, tiny(mode, steps=2), photos=photos)
    torch.manual_seed(99)  # the state of the process has no say
    again = run(painting, tiny(mode, steps=2), photos=photos)
    other = run(painting, tiny(mode, steps=2, seed=1), photos=photos)
    assert same(first, again)
    assert not same(first, other)


def test_a_style_goes_on_from_where_it_is(painting: Path, photos: Photos) -> None:
    options = tiny("full")
    once = run(painting, options, photos=photos)
    twice = adapt(painting, once, options=options, photos=photos)
    assert twice.theta == once.theta == shared_network("fast").digest
    first, whole = (dict[str, Any](style.card) for style in (once, twice))
    assert (first["steps"], whole["steps"]) == (4, 8)
    assert whole["seconds"] > first["seconds"]
    assert whole["losses"]["before"] == first["losses"]["before"]
    assert whole["losses"]["after"] != first["losses"]["after"]
    assert [point[0] for point in whole["curve"]] == [0, 4, 8]
    assert whole["curve"][:2] == first["curve"]
    assert not same(once, twice)
    with pytest.raises(BadOption, match="mode 'vector' does not go on from a style; mode 'full' does"):
        adapt(painting, once, options=tiny("vector"), photos=photos)


def test_contrast_is_given_to_whole_networks_alone(painting: Path, photos: Photos) -> None:
    gain: Any = run(painting, tiny("full"), photos=photos).card["contrast"]
    assert 1 <= gain <= HIGHEST_GAIN
    assert "contrast" not in run(painting, tiny("vector"), photos=photos).card


def test_random_weights_leave_the_generator_of_the_process_alone(painting: Path, photos: Photos) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(painting, tiny("scratch", steps=1), photos=photos)
    assert torch.rand(1) == expected


def checkpointed(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION).tensors


class Stop:
    """Interrupts a run after some steps, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, at: Progress) -> None:
        if at.step == self.after:
            raise KeyboardInterrupt


# In bf16 once, with all that is learned in any mode: a processor without it takes its time.
@pytest.mark.parametrize(("mode", "numbers"), [*((mode, "fp32") for mode in MODES), ("full", "bf16")])
def test_an_interrupted_run_continues_to_the_same_bits(
    mode: str, numbers: str, painting: Path, photos: Photos, tmp_path: Path
) -> None:
    options = tiny(mode, measure_every=2, compute=Compute(arithmetic=numbers, threads=1))
    whole = run(painting, options, photos=photos)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(painting, options, photos=photos, checkpoint=Checkpoint(path=path), progress=Stop(after=3))
    seen: list[Progress] = []
    resumed = run(painting, options, photos=photos, checkpoint=Checkpoint(path=path, resume=True), progress=seen.append)
    assert [p.step for p in seen] == [4]
    assert same(whole, resumed)
    assert resumed.card["curve"] == whole.card["curve"]


def test_an_interrupted_run_hands_over_what_it_has_reached(painting: Path, photos: Photos, tmp_path: Path) -> None:
    options, path = tiny(vector_rate=5e-2), tmp_path / "run.safetensors"
    with pytest.raises(Interrupted) as stop:
        run(painting, options, photos=photos, checkpoint=Checkpoint(path=path), progress=Stop(after=3))
    curve: Any = stop.value.style.card["curve"]
    assert [point[0] for point in curve] == [0, 3]
    assert np.array_equal(stop.value.style.vector, checkpointed(path)["style.vector"])


@pytest.mark.parametrize("kept", [True, False])
def test_an_interrupted_run_that_got_worse_hands_over_its_best(
    kept: bool, painting: Path, photos: Photos, tmp_path: Path
) -> None:
    seen: dict[int, tuple[Measurement, Style]] = {}
    interrupted: list[int] = []
    options = tiny(steps=100, vector_rate=1, measure_every=1)  # leaps about at this rate
    checkpoint = Checkpoint(path=tmp_path / "run.safetensors") if kept else None

    def watch(at: Measurement, style: Style) -> None:
        seen[at.step] = at, style
        totals = [m.total(options.loss) for m, _ in seen.values()]
        if totals[-1] > min(totals) and not interrupted:
            interrupted.append(at.step)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stop:
        run(painting, options, photos=photos, checkpoint=checkpoint, watch=watch)
    best, style = min(seen.values(), key=lambda pair: pair[0].total(options.loss))
    assert best.step < interrupted[0]
    assert stop.value.style.card["steps"] == best.step
    assert same(stop.value.style, style)


def test_an_interrupt_before_anything_is_learned_has_nothing_to_hand_over(painting: Path, photos: Photos) -> None:
    def watch(at: Measurement, style: Style) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        run(painting, tiny(), photos=photos, watch=watch)
    assert not isinstance(stop.value, Interrupted)


def test_a_checkpoint_of_another_run_and_a_damaged_one_are_refused(
    painting: Path, photos: Photos, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    kept = Checkpoint(path=path, resume=True)
    run(painting, tiny(), photos=photos, checkpoint=kept)
    for changes, word in (({"seed": 7}, r"seed 0 \(now 7\)"), ({"mode": "full"}, r"mode 'vector' \(now 'full'\)")):
        with pytest.raises(BadModel, match=word):
            run(painting, tiny(**changes), photos=photos, checkpoint=kept)
    path.write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(BadModel, match="not a vidstyle file"):
        run(painting, tiny(), photos=photos, checkpoint=kept)
    shared_network("fast").save(path)
    with pytest.raises(BadModel, match="not a vidstyle-checkpoint file"):
        run(painting, tiny(), photos=photos, checkpoint=kept)


# What is refused


def test_trained_weights_are_needed_but_for_scratch(painting: Path) -> None:
    with pytest.raises(BadOption, match="give a network, not the name 'fast'"):
        adapt(painting, "fast", options=tiny())


def test_a_vector_for_a_network_that_does_not_ship_is_kept_with_its_weights(
    painting: Path, photos: Photos, tmp_path: Path
) -> None:
    shared = shared_network("fast")
    other = Network(FAST, {name: w * np.float32(1.5) for name, w in shared.weights.items()}, shared.start)
    adapt(painting, other, options=tiny(steps=1), photos=photos).save(tmp_path / "mine.safetensors")
    loaded = Style.load(tmp_path / "mine.safetensors")
    assert loaded.kind == "full" and loaded.theta == loaded.network.digest == other.digest


def test_numbers_that_run_away_are_a_sentence(painting: Path, photos: Photos) -> None:
    shared = shared_network("fast")
    start = Network(FAST, shared.weights, np.full_like(shared.start, np.inf))
    with pytest.raises(BadModel, match="diverged"):
        adapt(painting, start, options=tiny(steps=1), photos=photos)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "magic"}, "mode is 'magic'; it must be one of vector, full, scratch"),
        ({"steps": 0}, "steps is 0; it must lie between 1"),
        ({"size": 30}, "size is 30; it must lie between 32"),
        ({"size": 130}, "size is 130; it must be a multiple of 4"),
        ({"style_size": 4096}, "style size is 4096"),
        ({"vector_rate": 0}, "vector rate is 0"),
        ({"batch": 1000}, "batch is 1000"),
    ],
)
def test_options_are_checked_when_made(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        AdaptOptions(**changes)


def test_the_rates_are_those_of_the_mode_unless_given() -> None:
    for mode in MODES:
        assert AdaptOptions(mode=mode).rates == RATES[mode]  # type: ignore[arg-type]
    options = dataclasses.replace(AdaptOptions(vector_rate=0.5), mode="full")
    assert options.rates == (0.5, RATES["full"][1])
    assert options.facts()["vector_rate"] == 0.5 and options.facts()["weight_rate"] == RATES["full"][1]


# The command


SIZES = ("--steps", "4", "--batch", "1", "--crop", "32", "--style-size", "48", "--threads", "1")


def command(*words: object) -> Result:
    """``vidstyle adapt``, in this process: another would have to import PyTorch anew."""
    return CliRunner().invoke(vidstyle, ["adapt", *map(str, words), *SIZES])


def hit(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """``vidstyle adapt`` as a process of its own, that Ctrl-C can hit, after ``code`` has prepared it."""
    code = f"import os, signal\n{code}\nfrom vidstyle.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, "adapt", *map(str, words), *SIZES], capture_output=True, text=True, check=False
    )


CTRL_C_IN_STEP_3 = """
from vidstyle.training.data import Crops
batch = Crops.batch
def interrupted(self, count, seed):
    if seed[1] == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return batch(self, count, seed)
Crops.batch = interrupted
"""
CTRL_C_IN_THE_WRITE = """
from vidstyle.models.style import Style
link = os.link
def interrupted(part, path):
    if path.name == "mine.safetensors":
        os.kill(os.getpid(), signal.SIGINT)
    link(part, path)
os.link = interrupted
"""


def test_ctrl_c_writes_the_best_so_far_and_resume_finishes(painting: Path, tmp_path: Path) -> None:
    mine, whole = tmp_path / "mine.safetensors", tmp_path / "whole.safetensors"
    done = hit(CTRL_C_IN_STEP_3, painting, "-o", mine)
    assert done.returncode == 130, done.stderr
    assert f"{mine} is the best so far, of step 2 of 4; --resume goes on from " in done.stderr
    assert "Traceback" not in done.stderr
    assert Style.load(mine).card["steps"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.checkpoint.safetensors", "mine.safetensors"]

    assert command(painting, "-o", mine, "--resume").exit_code == 0
    assert command(painting, "-o", whole).exit_code == 0
    assert same(Style.load(mine), Style.load(whole))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.safetensors", "whole.safetensors"]


def test_ctrl_c_in_the_write_leaves_no_half_of_a_file(painting: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    done = hit(CTRL_C_IN_STEP_3 + CTRL_C_IN_THE_WRITE, painting, "-o", mine)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.checkpoint.safetensors"]


def test_a_preview_shows_before_and_after(painting: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    words = [painting, "-o", tmp_path / "mine.safetensors", "--preview", photo]
    done = command(*words)
    assert done.exit_code == 0, done.stderr
    sheet = read_picture(tmp_path / "mine.preview.jpg")
    assert sheet.shape == (40 + 320 + 52 + 40, 40 + 4 * 480 + 3 * 20 + 40, 3)  # photo, painting, before, after
    cells = [sheet[40:360, 40 + 500 * column : 520 + 500 * column].astype(int) for column in range(4)]
    assert np.abs(cells[2] - cells[0]).mean() > 5
    (tmp_path / "mine.safetensors").unlink()
    refused = command(*words)
    assert refused.exit_code == 2 and "mine.preview.jpg exists" in refused.stderr


def test_a_preview_of_no_photo_is_refused_before_anything_is_learned(painting: Path, tmp_path: Path) -> None:
    done = command(painting, "-o", tmp_path / "mine.safetensors", "--preview", tmp_path / "none.jpg")
    assert done.exit_code == 1 and "none.jpg" in done.stderr
    assert not any(tmp_path.iterdir())


# Photos


def test_the_shipped_photos_are_few_small_and_credited() -> None:
    credits = (PHOTOS / "CREDITS.md").read_text()
    pictures = PHOTO_PATHS
    assert len(pictures) >= 6
    for path in pictures:
        assert f"| {path.name} |" in credits
        assert path.stat().st_size < 100_000
        assert min(read_picture(path).shape[:2]) >= 256
    assert len(Photos.shipped().pictures) == len(pictures)


def test_crops_depend_on_the_seed_alone(photos: Photos) -> None:
    first, again, other = photos.batch(3, 32, (0, 5)), photos.batch(3, 32, (0, 5)), photos.batch(3, 32, (0, 6))
    assert first.shape == (3, 3, 32, 32) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_crops_keep_color_and_orientation() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:16, :, 0] = 255  # red above
    middle = Photos([rgb]).middles(32)[0]
    assert middle[0, :7].min() > 0.9 and middle[0, 10:].max() < 0.1 and middle[1:].max() == 0


def test_no_photos_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no pictures"):
        Photos.in_folder(tmp_path)
    with pytest.raises(ImageError, match="cannot read the folder"):
        Photos.in_folder(tmp_path / "none")
    with pytest.raises(BadOption, match="no content photos"):
        Photos([])


def test_an_extreme_panorama_becomes_a_painting_of_bounded_size() -> None:
    tensor = module.painting_tensor(np.zeros((20, 2000, 3), np.uint8), 64)
    assert tensor.shape == (1, 3, 64, 192)
