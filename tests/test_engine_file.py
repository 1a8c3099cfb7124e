"""Engine files: what is written is read, and what is damaged or hostile is a sentence."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from networks import whole_style

from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import load_style
from vidstyle.models.engine_file import (
    MOST_CARD_BYTES,
    EngineCard,
    EngineFile,
    card_path_of,
    styles_path_of,
    write_engine,
)
from vidstyle.models.style import Style, collection_bytes, styles_of_engine

PLAN = b"a plan\0" * 1000
FILES = ["x.engine", "x.engine.json", "x.engine.safetensors"]


def card(**changes: Any) -> EngineCard:
    facts: dict[str, Any] = {
        "network": "fast",
        "theta": "0123",
        "pixels": "i420",
        "matrix": "bt709",
        "full_range": False,
        "smallest": (720, 1280),
        "best": (720, 1280),
        "largest": (720, 1280),
        "precision": "fp16",
        "library": "tensorrt-rtx",
        "library_version": "1.7.1.116",
        "targets": ("8.6", "8.9"),
        "gpu": None,
        "styles": ("first", "été #2"),
        "build": {"seconds": 0.3, "layers": {"half": 12}},
    }
    return EngineCard(**{**facts, **changes})


@pytest.fixture
def engine(tmp_path: Path) -> EngineFile:
    styles = [replace(whole_style("first", 1), theta="0123"), replace(whole_style("été #2", 2), theta="0123")]
    return write_engine(tmp_path / "x.engine", PLAN, card(), collection_bytes(styles))


def changed(engine: EngineFile, **changes: Any) -> None:
    """Write other facts into the card; `...` removes one."""
    path = card_path_of(engine.path)
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))


def test_what_is_written_is_read(engine: EngineFile) -> None:
    again = EngineFile.open(engine.path)
    assert again.read_plan() == PLAN
    for name in EngineCard.__dataclass_fields__:
        assert getattr(again.card, name) == getattr(engine.card, name), name
    for seed, style in enumerate(styles_of_engine(again), 1):
        assert style.network.digest == whole_style("same", seed).network.digest


def test_the_plan_is_bare_so_that_other_tools_read_it(engine: EngineFile) -> None:
    assert engine.path.read_bytes() == PLAN
    assert sorted(path.name for path in engine.path.parent.iterdir()) == FILES


def test_the_styles_of_an_engine_are_found_by_name(engine: EngineFile) -> None:
    assert load_style(engine.path).name == "first"
    style = load_style(f"{engine.path}#été #2")
    assert (style.name, style.theta) == ("été #2", "0123")
    assert style.engine is not None
    assert style.engine.path == engine.path
    with pytest.raises(BadOption, match="has no style 'third'; it has first, été #2"):
        Style.of_engine(engine, "third")


@pytest.mark.parametrize("damage", ["gone", "cut", "another engine's"])
def test_styles_that_are_not_those_of_the_engine_are_refused(engine: EngineFile, damage: str) -> None:
    path = styles_path_of(engine.path)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else collection_bytes([whole_style("first", 1)]))
    with pytest.raises(BadModel, match=r"x\.engine\.safetensors"):
        load_style(engine.path)
    facts = {"styles_sha256": hashlib.sha256(path.read_bytes()).hexdigest()} if path.exists() else {}
    changed(engine, **facts)
    with pytest.raises(BadModel, match=r"x\.engine\.safetensors"):
        load_style(engine.path)


def test_a_dynamic_engine_takes_what_its_padding_fits() -> None:
    dynamic = card(smallest=(64, 64), best=(720, 1280), largest=(1080, 1920))
    assert dynamic.dynamic
    assert dynamic.sizes() == "64x64 to 1920x1080"
    assert dynamic.takes((1079, 1917))
    assert dynamic.takes((61, 64))
    assert not dynamic.takes((60, 64))
    assert not dynamic.takes((1081, 1920))
    static = card()
    assert static.takes((720, 1280))
    assert not static.takes((719, 1280))
    assert static.form((64, 48)).size == (64, 48)
    assert static.form().size == (720, 1280)


def test_an_engine_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"there is no engine .*nothing.engine; make it with `vidstyle build-engine"):
        EngineFile.open(tmp_path / "nothing.engine")


def test_a_plan_without_its_card_is_refused(engine: EngineFile) -> None:
    card_path_of(engine.path).unlink()
    with pytest.raises(BadModel, match=r"stands alone: x\.engine\.json, which says what it is, is missing"):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "another"])
def test_a_damaged_plan_is_never_given_to_tensorrt(engine: EngineFile, damage: str) -> None:
    content = {
        "flipped": PLAN[:500] + bytes([PLAN[500] ^ 1]) + PLAN[501:],
        "cut": PLAN[:-1],
        "longer": PLAN + b"\0",
        "empty": b"",
        "another": b"another plan",
    }[damage]
    engine.path.write_bytes(content)
    with pytest.raises(BadModel, match=r"damaged, or is not the file that x\.engine\.json describes.*`--rebuild`"):
        EngineFile.open(engine.path).read_plan()


def test_a_plan_that_is_gone_is_a_sentence(engine: EngineFile) -> None:
    engine.path.unlink()
    with pytest.raises(BadModel, match="cannot read"):
        engine.read_plan()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"12",
        b'"vidstyle-engine"',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"format": "vidstyle-engine", "version": 1}',
        b'{"format": "vidstyle-engine", "version": ' + b"9" * 10_000 + b"}",
        b'{"format": "another", "version": 1}',
    ],
)
def test_a_card_that_is_no_card_is_a_sentence(engine: EngineFile, text: bytes) -> None:
    card_path_of(engine.path).write_bytes(text)
    with pytest.raises(BadModel, match=r"x\.engine\.json is damaged: .*make the engine again with `vidstyle build-eng"):
        EngineFile.open(engine.path)


def test_a_huge_card_is_not_read(engine: EngineFile) -> None:
    with card_path_of(engine.path).open("r+b") as file:
        file.truncate(MOST_CARD_BYTES + 1)  # sparse
    with pytest.raises(BadModel, match="has 1 MiB; such a file has 1 at most"):
        EngineFile.open(engine.path)


def test_a_card_that_is_a_folder_is_a_sentence(engine: EngineFile) -> None:
    card_path_of(engine.path).unlink()
    card_path_of(engine.path).mkdir()
    with pytest.raises(BadModel, match="cannot read"):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("key", [name for name in EngineCard.__dataclass_fields__ if name != "gpu"])
@pytest.mark.parametrize("value", [..., None, 3.5, True, [], {}, "no such thing", ["x"], float("nan"), -1, 10**30])
def test_a_wrong_fact_is_a_sentence_or_harmless(engine: EngineFile, key: str, value: Any) -> None:
    harmless = {
        "theta": ["no such thing"],
        "styles": [[], ["x"]],
        "styles_sha256": ["no such thing"],
        "library_version": ["no such thing"],
        "targets": [[], ["x"]],
        "build": [..., {}],
        "full_range": [True],
        "plan_bytes": [],
        "plan_sha256": ["no such thing"],
    }.get(key, [])
    changed(engine, **{key: value})
    if any(type(value) is type(other) and value == other for other in harmless):
        EngineFile.open(engine.path)
        return
    with pytest.raises(BadModel, match=r"x\.engine\.json is damaged: "):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("key", ["gpu"])
@pytest.mark.parametrize("value", [3.5, True, [], {}, -1])
def test_an_optional_fact_of_a_wrong_type_is_a_sentence(engine: EngineFile, key: str, value: Any) -> None:
    changed(engine, **{key: value})
    with pytest.raises(BadModel, match=r"x\.engine\.json is damaged: "):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("text", ["a\x1b]0;title\x07", "a\r", "a\u202eb", "\x9b2J"])
@pytest.mark.parametrize(
    "key", ["theta", "library_version", "plan_sha256", "styles_sha256", "gpu", "targets", "styles"]
)
def test_nothing_that_a_terminal_obeys_gets_into_a_message(engine: EngineFile, key: str, text: str) -> None:
    changed(engine, **{key: [text] if key in ("targets", "styles") else text})
    with pytest.raises(BadModel, match="is damaged: ") as caught:
        EngineFile.open(engine.path)
    assert str(caught.value).isprintable()


def test_a_style_without_a_name_is_refused(engine: EngineFile) -> None:
    changed(engine, styles=[""])
    with pytest.raises(BadModel, match="styles is not a list of names"):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("sizes", [[[720, 1280], [640, 1280], [720, 1280]], [[64, 64], [128, 128], [128, 127]]])
def test_sizes_that_do_not_rise_are_refused(engine: EngineFile, sizes: list[list[int]]) -> None:
    changed(engine, **dict(zip(("smallest", "best", "largest"), sizes, strict=True)))
    with pytest.raises(BadModel, match="its sizes do not rise from smallest to largest"):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("size", [[0, 64], [64], [64, 64, 64], [64.0, 64.0], [True, True], ["64", "64"], [64, 10**6]])
def test_a_size_that_is_none_is_refused(engine: EngineFile, size: list[Any]) -> None:
    changed(engine, smallest=size)
    with pytest.raises(BadModel, match=r"smallest is not a \[height, width\]"):
        EngineFile.open(engine.path)


@pytest.mark.parametrize("version", [1, 3])
def test_a_card_of_another_version_says_so_and_the_command(engine: EngineFile, version: int) -> None:
    changed(engine, version=version)
    words = f"it has version {version}, and this vidstyle reads version 2; make the engine again with `vidstyle build-e"
    with pytest.raises(BadModel, match=words):
        EngineFile.open(engine.path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadModel, match="cannot write"):
        write_engine(tmp_path / "x.engine", PLAN, card(), None)


def test_writing_where_no_folder_is_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot write"):
        write_engine(tmp_path / "no" / "x.engine", PLAN, card(), None)
    assert not list(tmp_path.iterdir())


def test_an_engine_is_replaced_as_a_whole(engine: EngineFile) -> None:
    write_engine(engine.path, b"another", replace(card(), theta="4567"), b"styles")
    again = EngineFile.open(engine.path)
    assert (again.read_plan(), again.card.theta) == (b"another", "4567")
    assert again.check_styles().read_bytes() == b"styles"
    assert len(list(engine.path.parent.iterdir())) == 3
