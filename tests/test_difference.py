"""Styles stored as their difference from the shared network: small, near, and never unpacked beyond what they say."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from networks import whole_style
from safetensors.numpy import load_file, save_file

from vidstyle.errors import BadModel, BadOption
from vidstyle.models.architecture import FAST, Network, shared_network
from vidstyle.models.style import Style

STEP = 0.3


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    whole_style("mine", 1).save(path, step=STEP)
    return path


def rewritten(path: Path, changes: dict[str, np.ndarray | None]) -> Path:
    """``path`` with other tensors, of which None is left out."""
    header = json.loads(path.read_bytes()[8:].split(b"}}", 1)[0].decode() + "}}")["__metadata__"]
    tensors = {name: changes.get(name, tensor) for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, header)
    return path


def test_a_difference_is_small_and_within_half_a_step(saved: Path, tmp_path: Path) -> None:
    style, loaded = whole_style("mine", 1), Style.load(saved)
    style.save(tmp_path / "full.safetensors")
    assert saved.stat().st_size < 0.3 * (tmp_path / "full.safetensors").stat().st_size
    assert (loaded.kind, loaded.theta) == ("full", style.theta)
    steps = load_file(saved)
    for name, weight in style.network.weights.items():
        if weight.ndim == 4:
            off = np.abs(loaded.network.weights[name] - weight).max(axis=(1, 2, 3))
            assert np.all(off <= 0.5 * steps[f"{name}.step"].astype(np.float32) * 1.02 + 1e-3), name


def test_a_finer_step_comes_nearer(tmp_path: Path) -> None:
    style = whole_style("mine", 1)

    def error(step: float) -> float:
        style.save(tmp_path / "x.safetensors", step=step)
        read = Style.load(tmp_path / "x.safetensors").network.weights
        return sum(float(np.square(read[name] - weight).sum()) for name, weight in style.network.weights.items())

    assert error(0.1) < 0.1 * error(1.0)


def test_saved_again_it_is_the_same_style(saved: Path, tmp_path: Path) -> None:
    loaded = Style.load(saved)
    loaded.save(tmp_path / "full.safetensors")
    assert Style.load(tmp_path / "full.safetensors").network.digest == loaded.network.digest


def test_a_convolution_that_did_not_move_stays_as_it_is(tmp_path: Path) -> None:
    style, start = whole_style("mine", 1), shared_network("fast")
    weights = {**style.network.weights, "stem.weight": start.weights["stem.weight"]}
    still = Style.of("still", Network(FAST, weights, style.vector), theta=style.theta)
    still.save(tmp_path / "x.safetensors", step=STEP)
    read = Style.load(tmp_path / "x.safetensors").network
    np.testing.assert_array_equal(read.weights["stem.weight"], start.weights["stem.weight"])


def test_a_style_of_another_start_cannot_be_a_difference(tmp_path: Path) -> None:
    stranger = Style.of("stranger", Network.blank(FAST))
    with pytest.raises(BadOption, match="did not start from the fast network"):
        stranger.save(tmp_path / "x.safetensors", step=STEP)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", [0, -1.0, float("nan"), 11])
def test_a_step_without_meaning_is_refused(step: float, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="step is"):
        whole_style("mine", 1).save(tmp_path / "x.safetensors", step=step)


@pytest.mark.parametrize(
    ("name", "tensor", "sentence"),
    [
        ("stem.weight", None, "'stem.weight' .* is missing"),
        ("stem.weight", np.zeros(9, np.float16), "no difference"),
        ("stem.weight.step", np.zeros(3, np.float16), "no difference"),
        ("stem.weight", np.zeros(9, np.uint8), "cannot be inflated"),
        ("stem.weight", np.frombuffer(zlib.compress(bytes(9)), np.uint8), "does not hold"),
        ("stem.weight", np.frombuffer(zlib.compress(bytes(1 << 22)), np.uint8), "does not hold"),
        ("stem.weight", np.frombuffer(zlib.compress(bytes(48 * 48 * 9)), np.uint8), "digest"),
        ("stem.weight.step", np.full(48, 65504, np.float16), "digest|finite"),
    ],
)
def test_a_damaged_difference_is_refused(name: str, tensor: np.ndarray | None, sentence: str, saved: Path) -> None:
    with pytest.raises(BadModel, match=sentence):
        Style.load(rewritten(saved, {name: tensor}))


def test_a_difference_from_another_start_names_the_mending_command(saved: Path) -> None:
    data = saved.read_bytes()
    theta = whole_style("mine", 1).theta
    saved.write_bytes(data.replace(f'"theta":"{theta}"'.encode(), f'"theta":"{theta[::-1]}"'.encode()))
    with pytest.raises(BadModel, match="vidstyle adapt"):
        Style.load(saved)
