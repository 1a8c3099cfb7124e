"""Build profiles: found by name, read as the command line reads, wrong ones named."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import repository

from vidstyle.engine.build_profile import options_from, profile_fields, profile_names
from vidstyle.errors import BadOption
from vidstyle.options import BuildOptions


def load(name_or_path: str | Path) -> BuildOptions:
    return options_from(profile_fields(name_or_path))


def profile(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_shipped_profile_is_valid_and_described() -> None:
    names = profile_names()
    assert {"360p", "720p", "1080p", "1080p-nvdec", "any-size", "stills", "turing-720p"} <= set(names)
    assert names == sorted(names)
    for name in names:
        load(name)
        assert "description" in (repository() / "engines" / f"{name}.toml").read_text()
    assert load("720p") == BuildOptions()
    assert load("1080p").size == (1080, 1920)


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """
        description = "all of them"
        min = "64x32"
        opt = " 128X64"
        max = "256×128"
        pixels = "nv12"
        matrix = "bt601"
        full-range = true
        precision = "fp32"
        targets = ["ada", "turing"]
        library = "tensorrt-rtx"
        workspace = 512
        optimization-level = 5
        timing-cache = "timings"
    """
    assert load(profile(tmp_path, text)) == BuildOptions(
        smallest=(32, 64),
        size=(64, 128),
        largest=(128, 256),
        pixels="nv12",
        matrix="bt601",
        full_range=True,
        precision="fp32",
        targets=("ada", "turing"),
        library="tensorrt-rtx",
        workspace_mib=512,
        optimization_level=5,
        timing_cache="timings",
    )


def test_a_profile_says_only_what_it_says(tmp_path: Path) -> None:
    assert profile_fields(profile(tmp_path, "")) == {}
    assert profile_fields(profile(tmp_path, 'pixels = "rgb"')) == {"pixels": "rgb"}
    # A dynamic one is tuned for the usual size, or for its largest.
    assert load(profile(tmp_path, 'min = "64x64"\nmax = "1920x1080"')).size == (720, 1280)
    assert load(profile(tmp_path, 'min = "64x64"\nmax = "640x480"')).size == (480, 640)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('pixel = "rgb"', "there is no key 'pixel', did you mean 'pixels'? allowed are description, size, min"),
        ("xyz = 1", "there is no key 'xyz'; allowed are description, size, min, opt, max, pixels"),
        ("[size]\nwidth = 3", "size is {'width': 3}; it must be a size such as \"1280x720\""),
        ("size = 720", 'size is 720; it must be a size such as "1280x720"'),
        ('size = "99999999x1"', "it must be a size"),
        ('min = "64x64"', "a dynamic engine needs both its smallest and its largest size"),
        ('min = "640x640"\nopt = "640x640"\nmax = "320x320"', "the first must lie between the others"),
        ('size = "640x480"\nopt = "640x480"', "size and opt are one"),
        ('pixels = "yuv"', "pixels is 'yuv'; it must be one of rgb, i420, nv12"),
        ('pixels = ["rgb"]', "pixels is ['rgb']; it must be text"),
        ("full-range = 1", "full-range is 1; it must be true or false"),
        ('precision = "int8"', "precision is 'int8'; it must be one of fp16, fp32"),
        ('targets = "ada"', "targets is 'ada'; it must be a list"),
        ('targets = ["hopper"]', "target is 'hopper'; it must be one of portable, current"),
        ("workspace = 1.5", "workspace is 1.5; it must be a whole number"),
        ("workspace = true", "workspace is True; it must be a whole number"),
        ("workspace = 0", "workspace is 0; it must lie between 1"),
        ("optimization-level = 6", "optimization level is 6; it must lie between 0 and 5"),
        ("description = 3", "description is 3; it must be text"),
        ("size = ", "is not TOML"),
        ("\xff", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_a_wrong_profile_names_the_key_and_what_is_allowed(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadOption) as caught:
        load(profile(tmp_path, text))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"profile {tmp_path / 'mine.toml'}")


@pytest.mark.parametrize(
    ("content", "words"), [(b'size = "\xff\xfe"', "is not TOML"), (b" " * (2 << 20), "a profile has a few hundred")]
)
def test_a_profile_that_is_no_text_or_huge_is_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(BadOption, match=words):
        load(tmp_path / "x.toml")


def test_an_unknown_profile_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"no profile '1080'; did you mean '1080p'\? there are 1080p, .*a \.toml file"):
        load("1080")
    for missing in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(BadOption, match="cannot read profile"):
            load(missing)
