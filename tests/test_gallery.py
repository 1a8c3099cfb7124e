"""The gallery: everything that ships is complete, small, credited and found by name."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_python

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import DEFAULT_STYLE, load_blend, load_style, shared_network, style_names, thumbnail
from vidstyle.models import architecture
from vidstyle.models.architecture import SHIPPED

NAMES = style_names()


def test_styles_of_paper_are_among_those_of_fast_and_one_is_the_default() -> None:
    assert DEFAULT_STYLE in NAMES
    fast = [name for name in NAMES if "/" not in name]
    paper = [name for name in NAMES if "/" in name]
    assert len(fast) >= 16 and [*sorted(fast), *sorted(paper)] == NAMES
    assert len(fast) >= 16 and {*paper} == {f"paper/{name}" for name in fast}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_style_fits_its_network_and_says_where_it_comes_from(name: str) -> None:
    style = load_style(name)
    assert style.vector.shape == (style.architecture.style_size,)
    assert style.theta == shared_network(style.network_name).digest
    assert style.name == name
    for fact in ("painting", "painter", "year", "licence", "mode"):
        assert isinstance(style.card[fact], str) and style.card[fact]
    assert str(style.card["licence"]).startswith("public domain")
    assert isinstance(style.card["steps"], int) and style.card["steps"] > 0
    losses = style.card["losses"]
    assert isinstance(losses, dict)
    assert losses["after"]["style"] < 0.7 * losses["before"]["style"]


@pytest.mark.parametrize("name", NAMES)
def test_a_thumbnail_is_small_and_shows_the_style(name: str) -> None:
    path = thumbnail(name)
    assert path is not None and path.stat().st_size < 40_000
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape == (192, 256, 3)
    assert picture.std() > 10


def test_no_two_styles_look_alike() -> None:
    names = [name for name in NAMES if "/" not in name]
    pictures = {name: cv2.imread(str(thumbnail(name))).astype(np.float32) for name in names}
    for a, b in itertools.combinations(names, 2):
        assert np.abs(pictures[a] - pictures[b]).mean() > 8, (a, b)


def test_every_file_of_the_gallery_belongs_to_a_style() -> None:
    expected = {SHIPPED / network / "network.safetensors" for network in ("fast", "paper")}
    for name in NAMES:
        network, _, stem = name.rpartition("/")
        expected |= {SHIPPED / (network or "fast") / f"{stem}{suffix}" for suffix in (".safetensors", ".jpg")}
    found = {path for folder in ("fast", "paper") for path in (SHIPPED / folder).iterdir() if path.name[0] != "."}
    assert found == expected


@pytest.mark.parametrize("network", ["fast", "paper"])
def test_a_shared_network_says_how_it_was_trained(network: str) -> None:
    from vidstyle.models.architecture import FILE_FORMAT, FILE_VERSION
    from vidstyle.models.checkpoint import read_tensors

    file = read_tensors(SHIPPED / network / "network.safetensors", file_format=FILE_FORMAT, version=FILE_VERSION)
    assert {"origin", "recipe", "data", "losses", "perceptual", "licence", "hardware"} <= file.card.keys()
    recipe = file.card["recipe"]
    assert isinstance(recipe, list) and recipe[-1]["phase"] in ("bilevel", "reptile", "mean")


# Finding


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(BadOption, match=r"no style called 'stary_nigth'; did you mean 'starry_night'\?"):
        load_style("stary_nigth")
    with pytest.raises(BadOption, match="no style called 'qqqqq'; `vidstyle styles`"):
        load_style("qqqqq")


def test_a_path_is_a_style_too(tmp_path: Path) -> None:
    style = load_style(NAMES[0])
    path = tmp_path / "mine, too:1.safetensors"
    style.save(path)
    assert load_style(path).name == "mine, too:1"
    assert load_blend(path).name == load_blend(str(path)).name == "mine, too:1"


def test_a_missing_file_is_a_sentence() -> None:
    with pytest.raises(BadModel, match="cannot read .*none.safetensors: No such file"):
        load_style("none.safetensors")


def test_names_do_not_reach_outside_the_gallery() -> None:
    for name in ("../fast/starry_night", "fast/../starry_night", "network", "fast/network"):
        with pytest.raises(BadOption, match="no style called"):
            load_style(name)


# Networks


def test_a_network_that_does_not_ship_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture, "SHIPPED", tmp_path)
    shared_network.cache_clear()
    try:
        with pytest.raises(BadModel, match="no shared network 'paper'"):
            shared_network("paper")
    finally:
        shared_network.cache_clear()


def test_the_gallery_needs_no_torch_and_training_says_what_it_needs() -> None:
    program = """
import sys
sys.modules["torch"] = None  # what an import finds where torch is not installed
import vidstyle.gallery as gallery
gallery.load_style(gallery.DEFAULT_STYLE).network
try:
    import vidstyle.training.adapt
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run_python(program)
    assert said.startswith("MissingDependency") and "pip install 'vidstyle[train]'" in said
