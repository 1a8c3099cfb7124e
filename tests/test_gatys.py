"""Stills by optimization: the loss falls, starts are what they are called, the best is never lost."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from vidstyle.cli import vidstyle
from vidstyle.errors import BadOption
from vidstyle.gallery import style_names
from vidstyle.imaging.image_io import Still, read_still, write_still
from vidstyle.options import LookOptions
from vidstyle.training.data import painting_tensor, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.gatys import LONGER_SIDE, Init, Interrupted, Optimized, OptimizeOptions, optimize, work_size
from vidstyle.training.loss import LossWeights, Perceptual
from vidstyle.training.trainer import Progress

RGB = NDArray[np.uint8]
INITS: tuple[Init, ...] = ("metastyle", "content", "noise")


@pytest.fixture(scope="module")
def photo() -> RGB:
    """A light disk over a dark slope, of odd size."""
    rows, columns = np.mgrid[0:37, 0:45]
    disk = (rows - 14) ** 2 + (columns - 24) ** 2 < 90
    slope = np.clip(40 + 2 * rows + columns, 0, 255)
    return np.stack([np.where(disk, 230, slope), np.where(disk, 210, slope // 2), 120 - slope // 2], 2).astype(np.uint8)


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Broad diagonal strokes of three colors."""
    rows, columns = np.mgrid[0:48, 0:60]
    colors = np.array([[30, 60, 160], [230, 200, 60], [240, 240, 230]], np.uint8)
    path = tmp_path_factory.mktemp("paintings") / "strokes.png"
    write_still(path, Still(colors[((rows + columns) // 7 + rows // 23) % 3]))
    return path


def tiny(init: Init = "content", iterations: int = 4, **changes: Any) -> OptimizeOptions:
    options = OptimizeOptions(
        init=init, iterations=iterations, adapt_steps=10, compute=Compute(arithmetic="fp32", threads=1, device="cpu")
    )
    return dataclasses.replace(options, **changes)


def loss_of(rgb: RGB, photo: RGB, painting: Path, options: OptimizeOptions) -> float:
    """The loss as `optimize` defines it, from its parts."""
    perceptual = Perceptual()
    painted, content = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (rgb, photo))
    style = painting_tensor(read_picture(painting), min(photo.shape[:2]))
    terms = perceptual.losses(painted, perceptual.content_target(content), perceptual.style_target(style))
    return terms.total(options.loss).item()


# What comes out


@pytest.mark.parametrize("init", INITS)
def test_the_loss_falls_from_every_start(init: Init, photo: RGB, painting: Path) -> None:
    heard: list[Progress] = []
    result = optimize(photo, painting, options=tiny(init, iterations=8), progress=heard.append)
    assert [(at.step, at.steps, at.losses["total"]) for at in heard] == [
        (step, 8, total) for step, total in enumerate(result.curve) if step
    ]
    assert result.rgb.shape == photo.shape and result.rgb.dtype == np.uint8
    assert result.iterations == 8
    assert result.losses["total"] == min(result.curve) < 0.9 * result.curve[0]


def test_the_loss_told_is_that_of_the_picture(photo: RGB, painting: Path) -> None:
    options = tiny(iterations=12)
    result = optimize(photo, painting, options=options)
    # Rounding to 8 bits is all that lies between them: no value was outside of what a picture can hold.
    assert loss_of(result.rgb, photo, painting, options) == pytest.approx(result.losses["total"], rel=0.01)


def test_content_starts_at_the_photo(photo: RGB, painting: Path) -> None:
    options = tiny(iterations=1)
    start = optimize(photo, painting, options=options).curve[0]
    assert start == pytest.approx(loss_of(photo, photo, painting, options), rel=1e-4)


def test_noise_has_nothing_of_the_photo_and_depends_on_the_seed(photo: RGB, painting: Path) -> None:
    # The first step of L-BFGS is too small to be seen: what comes out is the start.
    first, second = (optimize(photo, painting, options=tiny("noise", 1, seed=seed)).rgb for seed in (0, 1))
    for one, other in ((first, photo), (first, second)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
    assert abs(first.mean() - 127.5) < 3 and abs(first.std() - 256 / 12**0.5) < 3


def test_metastyle_starts_at_what_an_adapted_network_painted(photo: RGB, painting: Path) -> None:
    heard: list[Progress] = []
    options = tiny("metastyle", 1, adapt_steps=2)
    result = optimize(photo, painting, options=options, adapting=heard.append)
    assert [at.step for at in heard] == [1, 2]
    assert result.start_seconds > 0
    assert result.curve[0] != optimize(photo, painting, options=tiny(iterations=1)).curve[0]


@pytest.mark.parametrize("init", INITS)
def test_the_same_seed_gives_the_same_picture(init: Init, photo: RGB, painting: Path) -> None:
    first, second = (optimize(photo, painting, options=tiny(init, 3, seed=5)) for _ in range(2))
    assert first.curve == second.curve
    assert np.array_equal(first.rgb, second.rgb)


def test_a_work_size_gives_a_picture_of_the_photos_size(photo: RGB, painting: Path) -> None:
    large = np.repeat(np.repeat(photo, 3, 0), 3, 1)
    result = optimize(large, painting, options=tiny(iterations=2, look=LookOptions(work_size=37)))
    assert result.rgb.shape == large.shape
    assert not np.array_equal(result.rgb, large)


def test_the_look_is_applied(photo: RGB, painting: Path) -> None:
    same = optimize(photo, painting, options=tiny(iterations=1, look=LookOptions(strength=0)))
    assert np.array_equal(same.rgb, photo)
    plain, kept = (
        optimize(photo, painting, options=tiny(look=LookOptions(preserve_color=keep))).rgb.astype(float)
        for keep in (False, True)
    )
    # Red minus blue is chroma; where nothing was clipped it is the photo's.
    inside = ((kept > 0) & (kept < 255)).all(2)
    difference = photo[..., 0].astype(float) - photo[..., 2]
    assert np.abs(kept[..., 0] - kept[..., 2] - difference)[inside].max() <= 3
    assert np.abs(plain[..., 0] - plain[..., 2] - difference)[inside].max() > 3


def test_more_style_weight_brings_the_painting_nearer(photo: RGB, painting: Path) -> None:
    low, high = (
        optimize(photo, painting, options=tiny(iterations=10, loss=LossWeights(style=weight))).losses
        for weight in (0.5, 50)
    )
    assert high["style"] < low["style"] and high["content"] > low["content"]


def test_an_enormous_weight_never_makes_the_picture_worse_than_the_start(photo: RGB, painting: Path) -> None:
    result = optimize(photo, painting, options=tiny(iterations=10, loss=LossWeights(content=0, style=1e6)))
    assert result.losses["total"] <= result.curve[0]
    assert np.isfinite(result.losses["total"])


def test_nothing_to_do_ends_at_once(photo: RGB, painting: Path) -> None:
    result = optimize(
        photo, painting, options=tiny(loss=LossWeights(content=1, style=0, detail=0, variation=0, tone=0))
    )
    assert np.array_equal(result.rgb, photo)  # the photo itself is what is asked for


# Interrupts


def test_an_interrupt_keeps_the_best_so_far(photo: RGB, painting: Path) -> None:
    def stop(at: Progress) -> None:
        if at.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        optimize(photo, painting, options=tiny(iterations=50), progress=stop)
    result: Optimized = caught.value.result
    assert result.iterations == 5
    assert np.array_equal(result.rgb, optimize(photo, painting, options=tiny(iterations=5)).rgb)


def test_an_interrupt_before_the_first_iteration_has_nothing_to_keep(photo: RGB, painting: Path) -> None:
    def stop(at: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        optimize(photo, painting, options=tiny("metastyle"), adapting=stop)
    assert not isinstance(caught.value, Interrupted)


# Refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"init": "random"}, "init is 'random'; it must be one of metastyle, content, noise"),
        ({"iterations": 0}, "iterations is 0"),
        ({"style_size": 8}, "style size is 8"),
        ({"adapt_steps": 0}, "adapt steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"look": LookOptions(mask="person")}, "look has a mask"),
    ],
)
def test_options_are_checked_when_made(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        OptimizeOptions(**changes)


def test_sizes_that_cannot_be_optimized_are_sentences() -> None:
    with pytest.raises(BadOption, match=r"100x10 pixels .* at least 16 on each side"):
        work_size((10, 100), None)
    with pytest.raises(BadOption, match=r"optimized at 71x8; .* at least 16"):
        work_size((90, 800), 8)
    with pytest.raises(BadOption, match=r"at most 2,000,000 pixels fit, so give a smaller work size"):
        work_size((3000, 4000), 3000)


@pytest.mark.parametrize(
    ("size", "rows", "expected"),
    [
        ((300, 400), None, (300, 400)),
        ((300, 400), 1000, (300, 400)),
        ((300, 400), 150, (150, 200)),
        ((1200, 1600), None, (LONGER_SIDE * 3 // 4, LONGER_SIDE)),
        ((1600, 1200), None, (LONGER_SIDE, LONGER_SIDE * 3 // 4)),
        ((4000, 32), None, (2000, 16)),
    ],
)
def test_the_size_of_the_optimization(size: tuple[int, int], rows: int | None, expected: tuple[int, int]) -> None:
    assert work_size(size, rows) == expected


# The command


@pytest.fixture
def files(photo: RGB, tmp_path: Path) -> Path:
    """A folder with photo.png, which is transparent in a corner."""
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:9, :9] = 0
    write_still(tmp_path / "photo.png", Still(photo, alpha))
    return tmp_path


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(vidstyle, [str(a) for a in arguments], input=stdin)


def test_image_optimizes_a_still(files: Path, painting: Path) -> None:
    result = run(
        *("image", files / "photo.png", files / "out.png", "--style", painting, "--optimize", "--init", "noise"),
        *("--iterations", 3, "--style-size", 40, "--style-weight", 2, "--content-weight", 1, "--seed", 3),
        *("--precision", "fp32", "--threads", 1, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    assert "out.png: 45x37" in result.stdout
    assert "3 iterations in" in result.stderr and "loss" in result.stderr
    source, painted = read_still(files / "photo.png"), read_still(files / "out.png")
    assert painted.alpha is not None and np.array_equal(painted.alpha, source.alpha)
    assert not np.array_equal(painted.rgb, source.rgb)


def test_image_optimizes_from_pipe_to_pipe(files: Path, painting: Path) -> None:
    words = ["image", "-", "-", "-s", painting, "--optimize", "--init", "content", "--iterations", 1]
    result = run(*words, "--threads", 1, stdin=(files / "photo.png").read_bytes())
    assert result.exit_code == 0, result.stderr
    (files / "piped.png").write_bytes(result.stdout_bytes)
    assert read_still(files / "piped.png").size == (37, 45)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--optimize"], "--optimize needs the painting itself, as --style painting.jpg; no --style was given"),
        (["--optimize", "-s", style_names()[0]], f"{style_names()[0]!r} is not a file"),
        (["--optimize", "-s", "mine.safetensors"], "mine.safetensors is a style file, which paints without --optimize"),
        (["--optimize", "-s", "PAINTING", "--backend", "openvino"], "computes with PyTorch, not with openvino"),
        (["--optimize", "-s", "PAINTING", "--precision", "fp16"], "in fp32 or bf16, not in fp16"),
        (["--optimize", "-s", "PAINTING", "--init", "random"], "'random' is not one of"),
        (["--init", "noise", "--seed", "0"], "--init and --seed need --optimize"),
        (["--style-weight", "3"], "--style-weight need --optimize"),
        (["-s", "PAINTING"], "is a picture, not a style"),
    ],
)
def test_options_that_make_no_sense_together_are_a_sentence(
    words: list[str], sentence: str, files: Path, painting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    (files / "mine.safetensors").write_bytes(b"")
    words = [str(painting) if word == "PAINTING" else word for word in words]
    result = run("image", "photo.png", "out.png", *words)
    assert result.exit_code == 2
    assert sentence in result.stderr and "Traceback" not in result.output
    assert not (files / "out.png").exists()


def test_a_folder_is_not_optimized(files: Path, painting: Path) -> None:
    result = run("image", files, files / "out", "--optimize", "-s", painting)
    assert result.exit_code == 2
    assert "is a folder" in result.stderr


def test_ctrl_c_writes_the_best_so_far(files: Path, painting: Path) -> None:
    code = (
        "import signal\n"
        "from vidstyle.cli import main\n"
        "from vidstyle.cli.terminal import Bar\n"
        "Bar.update = lambda bar, done, total, figures: done == 3 and signal.raise_signal(signal.SIGINT)\n"
        "main()\n"
    )
    words = ["image", str(files / "photo.png"), str(files / "out.png"), "-s", str(painting)]
    words += ["--optimize", "--init", "content", "--threads", "1"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 130
    assert "3 of 300 iterations" in done.stderr and "out.png is the best so far" in done.stderr
    assert "Traceback" not in done.stderr
    assert read_still(files / "out.png").size == (37, 45)


def test_without_torch_optimize_names_the_command(files: Path, painting: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom vidstyle.cli import main\nmain()"
    words = ["image", str(files / "photo.png"), str(files / "out.png"), "-s", str(painting), "--optimize"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "--optimize needs PyTorch" in done.stderr and "pip install 'vidstyle[train]'" in done.stderr
    assert "Traceback" not in done.stderr
