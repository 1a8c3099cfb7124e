"""The styles that keys go through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import whole_style

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.live.repertoire import repertoire

FAST = [name for name in style_names() if "/" not in name]


def test_shipped_style_stands_in_its_place() -> None:
    styles, index = repertoire("great_wave")
    assert [style.name for style in styles] == FAST
    assert styles[index].name == "great_wave"


def test_styles_of_the_other_network_go_with_their_own_kind() -> None:
    styles, index = repertoire("paper/great_wave")
    assert styles[index].name == "paper/great_wave"
    assert all(style.name.startswith("paper/") for style in styles)
    assert len(styles) > 1


def test_file_stands_before_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    load_style("great_wave").save(file)
    styles, index = repertoire(str(file))
    assert index == 0
    assert [style.name for style in styles] == ["mine", *FAST]


def test_blend_brings_its_parts(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    load_style("great_wave").save(file)
    styles, index = repertoire(f"{file}:0.5,the_scream:0.5")
    names = [style.name for style in styles]
    assert index == 0
    assert names[1:3] == ["mine", "the_scream"]
    assert sorted(names[1:]) == sorted(["mine", *FAST])
    assert np.allclose(styles[0].vector, (styles[1].vector + styles[2].vector) / 2)


def test_a_whole_network_goes_with_the_shipped_styles_and_one_from_scratch_is_alone(tmp_path: Path) -> None:
    whole = whole_style("whole", 1)
    for style, names in ((whole, ["mine", *FAST]), (replace(whole, theta=whole.network.digest), ["mine"])):
        style.save(tmp_path / "mine.safetensors")
        styles, index = repertoire(str(tmp_path / "mine.safetensors"))
        assert ([style.name for style in styles], index) == (names, 0)


def test_unknown_name_is_a_sentence() -> None:
    with pytest.raises(BadOption, match="did you mean 'starry_night'"):
        repertoire("stary_night")
