"""Engine files: what is written is read, and what is damaged or hostile is a sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from networks import whole_style

from engines import engine_card, names_in
from vidstyle.errors import BadModel, BadOption
from vidstyle.gallery import load_style
from vidstyle.models.engine_file import (
    MAX_CARD_BYTES,
    EngineCard,
    EngineFile,
    card_path_of,
    styles_path_of,
    write_engine,
)
from vidstyle.models.style import Style, collection_bytes, styles_of_engine

PLAN = b"a plan\0" * 1000
CARD = engine_card(styles=("first", "été #2"), build={"seconds": 0.3, "layers": {"half": 12}})
FILES = ["x.engine", "x.engine.json", "x.engine.safetensors"]


@pytest.fixture
def engine(tmp_path: Path) -> EngineFile:
    styles = [replace(whole_style(name, seed), theta="0123") for seed, name in enumerate(CARD.styles, 1)]
    return write_engine(tmp_path / "x.engine", PLAN, CARD, collection_bytes(styles))


def changed(engine: EngineFile, **changes: Any) -> EngineFile:
    """The engine opened with other facts in its card; `...` removes one."""
    path = card_path_of(engine.path)
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))
    return EngineFile.open(engine.path)


def test_what_is_written_is_read(engine: EngineFile) -> None:
    again = EngineFile.open(engine.path)
    assert again.read_plan() == PLAN == engine.path.read_bytes()  # bare, so that other tools read it
    assert asdict(again.card) == asdict(engine.card)
    assert names_in(engine.path.parent) == FILES
    for seed, style in enumerate(styles_of_engine(again), 1):
        assert style.network.digest == whole_style("same", seed).network.digest


def test_the_styles_of_an_engine_are_found_by_name(engine: EngineFile) -> None:
    assert load_style(engine.path).name == "first"
    style = load_style(f"{engine.path}#été #2")
    assert (style.name, style.theta) == ("été #2", "0123")
    assert style.engine is not None and style.engine.path == engine.path
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
    if path.exists():
        changed(engine, styles_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        with pytest.raises(BadModel, match=r"x\.engine\.safetensors"):
            load_style(engine.path)


def test_a_dynamic_engine_takes_what_its_padding_fits() -> None:
    dynamic = engine_card(smallest=(64, 64), largest=(1080, 1920))
    assert (dynamic.dynamic, dynamic.sizes()) == (True, "64x64 to 1920x1080")
    taken = [dynamic.takes(size) for size in ((1079, 1917), (61, 64), (60, 64), (1081, 1920))]
    assert taken == [True, True, False, False]
    assert CARD.takes((720, 1280)) and not CARD.takes((719, 1280))
    assert (CARD.form().size, CARD.form((64, 48)).size) == ((720, 1280), (64, 48))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda engine: engine.unlink(), r"there is no engine .*x\.engine; make it with `vidstyle build-engine"),
        (lambda engine: card_path_of(engine).unlink(), r"stands alone: x\.engine\.json"),
        (lambda engine: to_folder(card_path_of(engine)), "cannot read"),
        (lambda engine: os.truncate(card_path_of(engine), MAX_CARD_BYTES + 1), "has 1 MiB; such a file has 1 at most"),
    ],
)
def test_an_engine_with_a_file_missing_or_huge_is_a_sentence(
    engine: EngineFile, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(engine.path)
    with pytest.raises(BadModel, match=words):
        EngineFile.open(engine.path)


@pytest.mark.parametrize(
    "content", [PLAN[:500] + bytes([PLAN[500] ^ 1]) + PLAN[501:], PLAN[:-1], PLAN + b"\0", b"", b"another plan"]
)
def test_a_damaged_plan_is_never_given_to_tensorrt(engine: EngineFile, content: bytes) -> None:
    engine.path.write_bytes(content)
    with pytest.raises(BadModel, match=r"damaged, or is not the file that x\.engine\.json describes.*`--rebuild`"):
        EngineFile.open(engine.path).read_plan()
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
    ids=range(12),
)
def test_a_card_that_is_no_card_is_a_sentence(engine: EngineFile, text: bytes) -> None:
    card_path_of(engine.path).write_bytes(text)
    with pytest.raises(BadModel, match=r"x\.engine\.json is damaged: .*make the engine again with `vidstyle build-eng"):
        EngineFile.open(engine.path)


HARMLESS: dict[str, list[Any]] = {
    **dict.fromkeys(("theta", "library_version"), ["no such thing"]),
    **dict.fromkeys(("styles", "targets"), [[], ["x"]]),
    **dict.fromkeys(("plan_sha256", "styles_sha256"), [..., "no such thing"]),
    "build": [..., {}],
    "full_range": [True],
    "plan_bytes": [...],
    "gpu": [None, "no such thing"],
}


@pytest.mark.parametrize("key", EngineCard.__dataclass_fields__)
def test_a_wrong_fact_is_a_sentence_or_harmless(engine: EngineFile, key: str) -> None:
    for value in (..., None, 3.5, True, [], {}, "no such thing", ["x"], float("nan"), -1, 10**30):
        if any(type(value) is type(other) and value == other for other in HARMLESS.get(key, [])):
            changed(engine, **{key: value})
        else:
            with pytest.raises(BadModel, match=r"x\.engine\.json is damaged: "):
                changed(engine, **{key: value})


@pytest.mark.parametrize("text", ["a\x1b]0;title\x07", "a\r", "a\u202eb", "\x9b2J"])
@pytest.mark.parametrize(
    "key", ["theta", "library_version", "plan_sha256", "styles_sha256", "gpu", "targets", "styles", "pixels", "version"]
)
def test_nothing_that_a_terminal_obeys_gets_into_a_message(engine: EngineFile, key: str, text: str) -> None:
    with pytest.raises(BadModel, match="is damaged: ") as caught:
        changed(engine, **{key: [text] if key in ("targets", "styles") else text})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"styles": [""]}, "is empty, or is no line of text"),
        ({"version": 1}, "it has version 1, and this vidstyle reads version 2; make the engine again with `vidstyle"),
        ({"version": 3}, "it has version 3"),
        ({"best": [640, 1280]}, "do not rise from smallest to largest"),
        ({"smallest": [0, 64]}, "do not rise from smallest to largest, or are not between 1 and"),
        ({"largest": [720, 10**6]}, "do not rise from smallest to largest, or are not between 1 and"),
        *(({"smallest": size}, "smallest") for size in ([64], [64, 64, 64], [64.0, 64.0], [True, True], ["64", "64"])),
    ],
)
def test_a_wrong_card_says_what_is_wrong(engine: EngineFile, facts: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModel, match=words):
        changed(engine, **facts)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot write"):
        write_engine(tmp_path / "no" / "x.engine", PLAN, CARD, None)
    assert not list(tmp_path.iterdir())


def test_an_engine_is_replaced_as_a_whole(engine: EngineFile) -> None:
    write_engine(engine.path, b"another", replace(CARD, theta="4567"), b"styles")
    again = EngineFile.open(engine.path)
    assert (again.read_plan(), again.card.theta) == (b"another", "4567")
    assert again.check_styles().read_bytes() == b"styles"
    assert names_in(engine.path.parent) == FILES
