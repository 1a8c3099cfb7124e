"""The shapes of the two networks, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import seeded_network
from safetensors import safe_open
from safetensors.numpy import save_file

from vidstyle.errors import BadModel
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network, architecture


def test_the_networks_have_the_published_sizes() -> None:
    assert PAPER.parameter_count == 1_679_235  # Johnson et al. 2016, as MetaStyle uses it
    assert FAST.parameter_count == 237_843
    assert (PAPER.style_size, FAST.style_size) == (3200, 1088)


def test_the_networks_cost_what_is_said_of_them() -> None:
    assert FAST.flops_per_pixel() <= 35_000
    assert 250_000 < PAPER.flops_per_pixel() < 310_000


def test_every_normalised_convolution_owns_a_part_of_the_style_vector() -> None:
    for shape in (FAST, PAPER):
        assert shape.style_size == 2 * sum(conv.outputs for conv in shape.normalised)
        assert shape.convs[-1] is shape.out
        assert shape.out not in shape.normalised
        start = shape.identity_style()
        first = shape.normalised[0].outputs
        assert start.shape == (shape.style_size,)
        assert (start[:first] == 1).all() and (start[first : 2 * first] == 0).all()


@pytest.mark.parametrize(
    ("size", "padded"), [((1, 1), (8, 8)), ((8, 12), (8, 12)), ((97, 131), (100, 132)), ((360, 640), (360, 640))]
)
def test_frames_are_padded_to_a_multiple_of_four(size: tuple[int, int], padded: tuple[int, int]) -> None:
    assert FAST.padded_size(size) == PAPER.padded_size(size) == padded


def test_an_unknown_network_is_a_sentence_with_the_known_ones() -> None:
    with pytest.raises(BadModel, match="'slow'; this version knows fast, paper"):
        architecture("slow")


@pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
def test_a_network_comes_back_from_its_file(shape: Architecture, tmp_path: Path) -> None:
    network = seeded_network(shape)
    network.save(tmp_path / "network.safetensors", {"note": "a test"})
    loaded = Network.load(tmp_path / "network.safetensors")
    assert loaded.architecture is shape
    assert loaded.digest == network.digest
    for name, weight in network.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], weight.astype(np.float16).astype(np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]


def test_the_digest_changes_with_any_weight() -> None:
    network = seeded_network(FAST)
    changed = {**network.weights, "out.bias": network.weights["out.bias"] + 0.1}
    assert replace(network, weights=changed).digest != network.digest


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    network = seeded_network(FAST)
    missing = {name: weight for name, weight in network.weights.items() if name != "up.bias"}
    with pytest.raises(BadModel, match=r"tensor 'up.bias' of network 'fast' is missing; expected \(16,\)"):
        Network(FAST, missing, network.start)
    wrong = {**network.weights, "up.bias": np.zeros(3, np.float32)}
    with pytest.raises(BadModel, match=r"'up.bias' of network 'fast' has shape \(3,\); expected \(16,\)"):
        Network(FAST, wrong, network.start)
    with pytest.raises(BadModel, match=r"start vector of network 'fast' has shape \(2,\); expected \(1088,\)"):
        Network(FAST, network.weights, np.zeros(2, np.float32))


def test_a_file_with_other_weights_than_its_digest_says_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    seeded_network(FAST).save(path)
    with safe_open(path, "np") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["out.bias"] = tensors["out.bias"] + np.float16(1)
    save_file(tensors, path, header)
    with pytest.raises(BadModel, match="do not match the digest"):
        Network.load(path)
