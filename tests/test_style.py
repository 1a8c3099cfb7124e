"""Styles and blends: what a file keeps, what arithmetic on vectors gives, what does not mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidstyle.errors import BadModel, BadOption
from vidstyle.networks import FAST, PAPER, Architecture, Network
from vidstyle.style import FILE_FORMAT, FILE_VERSION, Style, blend, parse_blend
from vidstyle.tensorfile import write_tensors


def network(seed: int = 0, shape: Architecture = FAST) -> Network:
    random = np.random.default_rng(seed)
    weights = {name: random.normal(0, 0.1, size).astype(np.float32) for name, size in shape.weight_shapes.items()}
    return Network(shape, weights, shape.identity_style())


def vector_style(name: str, seed: int, digest: str = "d", shape: Architecture = FAST) -> Style:
    numbers = np.random.default_rng(seed).normal(size=shape.style_size).astype(np.float32)
    return Style(name, numbers, shape.name, digest, None, {"painter": name})


def full_style(name: str = "full") -> Style:
    own = network(1)
    return Style(name, own.start, "fast", own.digest, own)


# Files


def test_a_vector_style_is_a_few_kilobytes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    style = vector_style("whatever", 0, "digest")
    style.save(path)
    assert path.stat().st_size < 4096
    loaded = Style.load(path)
    assert (loaded.name, loaded.kind, loaded.network_name, loaded.network_digest) == (
        "mine",
        "vector",
        "fast",
        "digest",
    )
    assert loaded.network is None and loaded.card == {"painter": "whatever"}
    np.testing.assert_array_equal(loaded.vector, style.vector.astype(np.float16).astype(np.float32))


def test_a_full_style_brings_its_network(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    style = full_style()
    style.save(path)
    loaded = Style.load(path)
    assert loaded.kind == "full" and loaded.network is not None and style.network is not None
    assert loaded.network.digest == style.network.digest == loaded.network_digest
    for name, weight in style.network.weights.items():
        np.testing.assert_array_equal(loaded.network.weights[name], weight.astype(np.float16).astype(np.float32))


def written(path: Path, kind: str, tensors: dict[str, np.ndarray], network: str = "fast", digest: str = "d") -> Path:
    facts = {"network": network, "digest": digest, "kind": kind}
    write_tensors(path, tensors, file_format=FILE_FORMAT, version=FILE_VERSION, facts=facts, card={})
    return path


@pytest.mark.parametrize(
    ("kind", "tensors", "sentence"),
    [
        ("vector", {}, "no style vector of 1088 numbers"),
        ("vector", {"style.vector": np.zeros(1087, np.float16)}, "no style vector of 1088 numbers"),
        ("vector", {"style.vector": np.zeros((1, 1088), np.float16)}, "no style vector of 1088 numbers"),
        (
            "vector",
            {"style.vector": np.zeros(1088, np.float16), "stem.bias": np.zeros(48, np.float16)},
            "neither a vector style nor a full one",
        ),
        ("", {"style.vector": np.zeros(1088, np.float16)}, "neither a vector style nor a full one"),
        ("full", {"style.vector": np.zeros(1088, np.float16)}, "tensor 'stem.weight' .* is missing"),
    ],
)
def test_a_style_file_that_lacks_something_is_refused(
    kind: str, tensors: dict[str, np.ndarray], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BadModel, match=sentence):
        Style.load(written(tmp_path / "x.safetensors", kind, tensors))


def test_weights_that_do_not_match_their_digest_are_refused(tmp_path: Path) -> None:
    own = network(1)
    tensors = {**own.weights, "style.vector": own.start}
    with pytest.raises(BadModel, match="do not match the digest"):
        Style.load(written(tmp_path / "x.safetensors", "full", tensors, digest=network(2).digest))


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", "vector", {"style.vector": np.zeros(1088, np.float16)}, "../fast")
    with pytest.raises(BadModel, match=r"no network called '\.\./fast'; this version knows fast, paper"):
        Style.load(path)


def test_a_network_file_is_no_style_file(tmp_path: Path) -> None:
    network().save(tmp_path / "x.safetensors")
    with pytest.raises(BadModel, match="not a vidstyle-style file"):
        Style.load(tmp_path / "x.safetensors")


# Blends


def test_a_blend_is_the_weighted_mean_of_vectors() -> None:
    a, b = vector_style("a", 1), vector_style("b", 2)
    mixed = blend([(a, 0.7), (b, 0.3)])
    np.testing.assert_allclose(mixed.vector, 0.7 * a.vector + 0.3 * b.vector, atol=1e-6)
    assert (mixed.name, mixed.kind, mixed.network_digest) == ("a:0.7+b:0.3", "vector", "d")


def test_weights_are_relative() -> None:
    a, b = vector_style("a", 1), vector_style("b", 2)
    np.testing.assert_array_equal(blend([(a, 7), (b, 3)]).vector, blend([(a, 0.7), (b, 0.3)]).vector)


def test_a_blend_of_one_is_that_style_whatever_its_kind() -> None:
    full = full_style()
    assert blend([(full, 0.2)]) is full


def test_a_part_of_weight_0_adds_nothing() -> None:
    a, b = vector_style("a", 1), vector_style("b", 2)
    np.testing.assert_array_equal(blend([(a, 1), (b, 0)]).vector, a.vector)


@pytest.mark.parametrize("weights", [(0, 0), (-1, 2), (float("nan"), 1), (float("inf"), 1)])
def test_weights_without_meaning_are_refused(weights: tuple[float, float]) -> None:
    styles = vector_style("a", 1), vector_style("b", 2)
    with pytest.raises(BadOption, match="weights must be 0 or more and their sum above 0"):
        blend(list(zip(styles, weights, strict=True)))
    with pytest.raises(BadOption, match="cannot blend nothing"):
        blend([])


def test_full_styles_do_not_blend() -> None:
    for pair in ([(full_style("f"), 1.0), (vector_style("a", 1), 1.0)], [(full_style("f"), 1.0)] * 2):
        with pytest.raises(BadOption, match="'f' has a network of its own .* cannot be blended; .* without --full"):
            blend(pair)


def test_styles_of_different_networks_do_not_blend() -> None:
    a = vector_style("a", 1)
    for other in (vector_style("b", 2, "other"), vector_style("b", 2, "other", PAPER)):
        with pytest.raises(BadOption, match="belong to different networks"):
            blend([(a, 1), (other, 1)])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", [("a", 1.0)]),
        ("a:0.7,b:0.3", [("a", 0.7), ("b", 0.3)]),
        (" a : 2 , b ", [("a ", 2.0), ("b", 1.0)]),
        ("C:\\styles\\x.safetensors", [("C:\\styles\\x.safetensors", 1.0)]),
        ("C:\\x.safetensors:0.5,b", [("C:\\x.safetensors", 0.5), ("b", 1.0)]),
        ("a:-1", [("a", -1.0)]),
    ],
)
def test_blends_are_read_as_they_are_written(text: str, parts: list[tuple[str, float]]) -> None:
    assert [(name.strip(), weight) for name, weight in parse_blend(text)] == [(n.strip(), w) for n, w in parts]


@pytest.mark.parametrize("text", ["", ",", "a,", ":0.5", "a,,b"])
def test_an_empty_part_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="has an empty part"):
        parse_blend(text)
