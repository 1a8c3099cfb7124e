"""The pages of docs/ name options, keys, targets, fields, profiles and messages that there are."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import repository

from vidstyle.cli import vidstyle
from vidstyle.engine.build_profile import profile_names
from vidstyle.gallery import load_style
from vidstyle.live.keys import KEYS, Controls
from vidstyle.models.engine_file import EngineCard
from vidstyle.stage.addresses import address_table, output_table
from vidstyle.video.output.muxer import output_spec

LIVE, STAGE, TENSORRT = (
    (repository() / "docs" / name).read_text(encoding="utf-8") for name in ("live.md", "stage.md", "tensorrt.md")
)
KEY_CODES = {"Esc": "escape", "space": " "}
OF_OTHERS = {"--help", "--force-reinstall", "--directory"}


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def heads(page: str, title: str) -> list[str]:
    """The first cell of each row of the first table of a section, without its head."""
    lines = [line for line in section(page, title).splitlines() if line.startswith("|")]
    return [line.split("|")[1].strip() for line in lines[2:]]


def options(*commands: str) -> set[str]:
    parameters = [parameter for command in commands for parameter in vidstyle.commands[command].params]
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", [LIVE, STAGE, TENSORRT], ids=["live", "stage", "tensorrt"])
def test_every_option_is_known(page: str) -> None:
    for line in page.splitlines():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line))
        command = re.match(r"vidstyle ([\w-]+)", line)
        known = options(command[1]) if command else options(*vidstyle.commands) | OF_OTHERS
        assert named <= known, f"{line!r} names {named - known}"


def test_every_key_of_the_page_does_something() -> None:
    styles = [load_style("starry_night"), load_style("the_scream")]
    found = [key for head in heads(LIVE, "Keys") for key in re.findall(r"`([^`]+)`|(left|right|up|down)", head)]
    assert len(found) > 15
    for name in map("".join, found):
        controls = Controls(styles) if name == "2" else Controls(styles, index=1, strength=0.5)
        if name == "[":
            controls.press("]", 0)
        before = {**vars(controls)}
        action = controls.press(KEY_CODES.get(name, name), 1)
        if name not in ("9", "0"):  # there is no such style here
            assert action is not None or vars(controls) != before, f"key {name} does nothing"


def test_every_key_of_the_help_is_on_the_page() -> None:
    told = " ".join(heads(LIVE, "Keys"))
    for key in (key for keys in KEYS for key in keys.shown.split()):
        assert key == "..." or f"`{key}`" in told, f"key {key} is not on the page"


def test_the_addresses_of_the_page_are_those_that_are_taken() -> None:
    assert address_table() in section(STAGE, "Addresses")
    assert output_table() in section(STAGE, "What is sent")


def test_every_target_of_the_page_is_one() -> None:
    targets = re.findall(r"--output '?([^\s`']+)", LIVE)
    assert len(targets) > 6
    for target in targets:
        if not target.startswith("srt:"):  # which PyAV's wheels do not speak
            output_spec(target.replace("STREAM-KEY", "x"))


def sentences() -> str:
    """Every text in the code, its values left out."""
    found = []
    for path in sorted((repository() / "vidstyle").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value for part in parts if isinstance(part, ast.Constant)]
            found.append("".join(text for text in texts if isinstance(text, str)))
    return "\n".join(found)


@pytest.mark.parametrize(
    ("page", "title", "values"),
    [
        (LIVE, "When something is wrong", r"[;,] |\b\d\b"),
        (STAGE, "When something is wrong", r"[;,] "),
        (TENSORRT, "Troubleshooting, by message", r"tensorrt-rtx A|\bB\b|\d+x\d+|\b(?:i420|rgb)\b"),
    ],
    ids=["live", "stage", "tensorrt"],
)
def test_every_message_of_the_table_is_one_of_the_codes_own(page: str, title: str, values: str) -> None:
    said = sentences()
    messages = [message for head in heads(page, title) for message in re.findall(r"`([^`]+)`", head)]
    assert len(messages) > 5
    for message in messages:
        pieces = [piece.strip() for piece in re.split(rf"\.\.\.|{values}", message) if len(piece.strip(" ,;.")) > 3]
        assert pieces, message
        for piece in pieces:
            assert piece in said, f"{piece!r} of {message!r}"


def test_every_field_of_the_card_is_explained() -> None:
    explained = set(re.findall(r"`([a-z0-9_]+)`", section(TENSORRT, "Three files")))
    assert set(EngineCard.__dataclass_fields__) <= explained


@pytest.mark.parametrize("page", ["docs/tensorrt.md", "engines/README.md"])
def test_every_profile_that_is_named_ships(page: str) -> None:
    named = re.findall(r"--profile ([\w-]+)(?!\S*\.toml)\b", (repository() / page).read_text(encoding="utf-8"))
    assert named
    assert {name for name in named if name != "mine"} <= set(profile_names())
