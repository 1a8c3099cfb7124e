"""Styles and blends: what a file keeps, what arithmetic on networks gives, what does not mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import whole_style

from vidstyle.errors import BadModel, BadOption
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network, shared_network
from vidstyle.models.checkpoint import write_tensors
from vidstyle.models.style import (
    COLLECTION_FORMAT,
    FILE_FORMAT,
    FILE_VERSION,
    Style,
    blend,
    collection_bytes,
    parse_blend,
    read_collection,
)


def vector_style(name: str, seed: int, shape: Architecture = FAST) -> Style:
    shared = shared_network(shape.name)
    numbers = np.random.default_rng(seed).normal(size=shape.style_size).astype(np.float32)
    return Style.of(name, Network(shape, shared.weights, numbers), theta=shared.digest, card={"painter": name})


def scratch_style(name: str = "scratch", seed: int = 1) -> Style:
    random = np.random.default_rng(seed)
    weights = {name: random.normal(0, 0.1, size).astype(np.float32) for name, size in FAST.weight_shapes.items()}
    return Style.of(name, Network(FAST, weights, FAST.identity_style()))


# Files


def test_a_vector_style_is_a_few_kilobytes_and_comes_back(tmp_path: Path) -> None:
    path, style = tmp_path / "mine.safetensors", vector_style("whatever", 0)
    style.save(path)
    assert path.stat().st_size < 4096
    loaded = Style.load(path)
    assert (loaded.name, loaded.kind, loaded.network_name) == ("mine", "vector", "fast")
    assert loaded.theta == style.theta and loaded.card == {"painter": "whatever"}
    assert loaded.network.weights is shared_network("fast").weights
    np.testing.assert_array_equal(loaded.vector, style.vector.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("style", [whole_style("a", 1), scratch_style()], ids=lambda style: style.name)
def test_a_whole_network_comes_back_and_names_its_theta(style: Style, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    style.save(path)
    loaded = Style.load(path)
    assert (loaded.kind, loaded.theta, loaded.network.digest) == ("full", style.theta, style.network.digest)
    for name, weight in style.network.weights.items():
        np.testing.assert_array_equal(loaded.network.weights[name], weight.astype(np.float16).astype(np.float32))


def test_a_blend_is_saved_as_the_network_that_it_is(tmp_path: Path) -> None:
    mixed = blend([(whole_style("a", 1), 1), (vector_style("b", 2), 3)])
    mixed.save(tmp_path / "mixed.safetensors")
    loaded = Style.load(tmp_path / "mixed.safetensors")
    assert (loaded.kind, loaded.theta) == ("full", mixed.theta)
    np.testing.assert_allclose(loaded.vector, mixed.vector, rtol=1e-3, atol=1e-3)
    vectors = blend([(vector_style("a", 1), 1), (vector_style("b", 2), 1)])
    assert vectors.kind == "vector" and vectors.network.weights is shared_network("fast").weights


def test_files_of_before_thetas_are_read(tmp_path: Path) -> None:
    theta, own = shared_network("fast").digest, scratch_style().network
    small = {"style.vector": np.ones(1088, np.float16)}
    vector = Style.load(written(tmp_path / "v.safetensors", "vector", small, digest=theta))
    assert (vector.kind, vector.theta) == ("vector", theta)
    tensors = {name: tensor.astype(np.float16) for name, tensor in {**own.weights, "style.vector": own.start}.items()}
    full = Style.load(written(tmp_path / "f.safetensors", "full", tensors, digest=own.digest))
    assert (full.kind, full.theta) == ("full", own.digest)


def test_a_vector_for_other_weights_is_refused_with_the_mending_command(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.safetensors", "vector", {"style.vector": np.ones(1088, np.float16)}, digest="0123")
    with pytest.raises(BadModel, match=r"another version .* `vidstyle adapt PAINTING -o mine\.safetensors`"):
        Style.load(path)


def written(path: Path, kind: str, tensors: dict[str, np.ndarray], network: str = "fast", digest: str = "d") -> Path:
    facts = {"network": network, "digest": digest, "kind": kind}
    write_tensors(path, tensors, file_format=FILE_FORMAT, version=FILE_VERSION, facts=facts, card={})
    return path


@pytest.mark.parametrize(
    ("kind", "shapes", "sentence"),
    [
        ("vector", {}, "no style vector of 1088 numbers"),
        ("vector", {"style.vector": 1087}, "no style vector of 1088 numbers"),
        ("vector", {"style.vector": (1, 1088)}, "no style vector of 1088 numbers"),
        ("vector", {"style.vector": 1088, "stem.bias": 48}, "neither a vector style, nor a difference, nor a full one"),
        ("", {"style.vector": 1088}, "neither a vector style, nor a difference, nor a full one"),
        ("full", {"style.vector": 1088}, "tensor 'stem.weight' .* is missing"),
    ],
)
def test_a_style_file_that_lacks_something_is_refused(
    kind: str, shapes: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    tensors = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    with pytest.raises(BadModel, match=sentence):
        Style.load(written(tmp_path / "x.safetensors", kind, tensors))


def test_weights_that_do_not_match_their_digest_are_refused(tmp_path: Path) -> None:
    own = scratch_style().network
    tensors = {**own.weights, "style.vector": own.start}
    with pytest.raises(BadModel, match="do not match the digest"):
        Style.load(written(tmp_path / "x.safetensors", "full", tensors, digest=scratch_style(seed=2).theta))


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", "vector", {"style.vector": np.zeros(1088, np.float16)}, "../fast")
    with pytest.raises(BadModel, match=r"no network called '\.\./fast'; this version knows fast, paper"):
        Style.load(path)


# Blends


def test_a_blend_is_the_weighted_mean_of_weights_and_vectors() -> None:
    for a, b in ((whole_style("a", 1), whole_style("b", 2)), (whole_style("a", 1), vector_style("b", 2))):
        mixed = blend([(a, 0.7), (b, 0.3)])
        np.testing.assert_allclose(mixed.vector, 0.7 * a.vector + 0.3 * b.vector, atol=1e-5)
        for name, weight in mixed.network.weights.items():
            expected = 0.7 * a.network.weights[name] + 0.3 * b.network.weights[name]
            np.testing.assert_allclose(weight, expected, atol=1e-5)
        assert (mixed.name, mixed.theta) == ("a:0.7+b:0.3", shared_network("fast").digest)


def test_weights_are_relative_and_blends_of_blends_are_flat() -> None:
    a, b, c = (whole_style(name, seed) for seed, name in enumerate("abc"))
    shares = {network: share for network, share in blend([(blend([(a, 7), (b, 3)]), 2), (a, 1), (c, 1)]).parts}
    assert shares == pytest.approx({a.network: 0.6, b.network: 0.15, c.network: 0.25})


def test_a_blend_of_one_is_that_style_whatever_its_theta() -> None:
    style = scratch_style()
    assert blend([(style, 0.2)]) is style


def test_a_part_of_weight_0_adds_nothing() -> None:
    a, b = whole_style("a", 1), whole_style("b", 2)
    assert blend([(a, 1), (b, 0)]).parts == a.parts


@pytest.mark.parametrize("weights", [(0, 0), (-1, 2), (float("nan"), 1), (float("inf"), 1)])
def test_weights_without_meaning_are_refused(weights: tuple[float, float]) -> None:
    styles = whole_style("a", 1), vector_style("b", 2)
    with pytest.raises(BadOption, match="weights must be 0 or more and their sum above 0"):
        blend(list(zip(styles, weights, strict=True)))
    with pytest.raises(BadOption, match="cannot blend nothing"):
        blend([])


def test_styles_of_two_thetas_do_not_blend_and_the_command_mends_it() -> None:
    a, paper = whole_style("a", 1), vector_style("paper/b", 2, PAPER)
    for pair, command in (
        ((a, scratch_style("s")), "-o s.safetensors`"),
        ((scratch_style("s"), a), "-o s.safetensors`"),
        ((a, paper), "-o b.safetensors`"),
        ((paper, a), "-o a.safetensors --network paper`"),
    ):
        with pytest.raises(BadOption, match=f"cannot be blended: .*`vidstyle adapt PAINTING {command}"):
            blend([(pair[0], 1), (pair[1], 1)])


def test_a_collection_holds_weights_once_and_comes_back(tmp_path: Path) -> None:
    styles = [vector_style("a", 1), whole_style("b/1", 2), vector_style("c", 3)]
    path = tmp_path / "x.engine.safetensors"
    path.write_bytes(collection_bytes(styles))
    assert path.stat().st_size < 1.1e6
    for style, found in zip(styles, read_collection(path), strict=True):
        assert (found.name, found.theta, found.card) == (style.name, style.theta, style.card)
        assert found.network.digest == style.network.digest
        np.testing.assert_allclose(found.vector, style.vector, rtol=1e-3, atol=1e-3)
    for damage in ({"styles": []}, {"styles": [{"name": "a"}]}, {"styles": 7}):
        facts = {"network": "fast", "theta": "t"}
        write_tensors(path, {}, file_format=COLLECTION_FORMAT, version="1", facts=facts, card=damage)
        with pytest.raises(BadModel, match="is damaged"):
            read_collection(path)


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
