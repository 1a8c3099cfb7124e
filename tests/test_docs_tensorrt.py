"""docs/tensorrt.md speaks of messages, options, fields and profiles that there are."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import repository

from vidstyle.cli import vidstyle
from vidstyle.engine.build_profile import profile_names
from vidstyle.models.engine_file import EngineCard

PAGE = (repository() / "docs" / "tensorrt.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def sentences() -> str:
    """Every text in the code, its values left out."""
    found = []
    for path in sorted((repository() / "vidstyle").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value for part in parts if isinstance(part, ast.Constant)]
            found.append("".join(text for text in texts if isinstance(text, str)))
    return "\n".join(found)


def messages() -> list[str]:
    rows = section("Troubleshooting, by message").splitlines()
    return [found[1] for row in rows if (found := re.match(r"\| `(.+?)` \|", row))]


def test_every_message_of_the_table_is_one_of_the_codes_own() -> None:
    said = sentences()
    assert len(messages()) > 10
    for message in messages():
        words = re.split(r"\.\.\.|tensorrt-rtx A|\bB\b|\d+x\d+|\b(?:i420|rgb)\b", message)
        pieces = [piece.strip() for piece in words if len(piece.strip(" ,;.")) > 3]
        assert pieces, message
        for piece in pieces:
            assert piece in said, f"{piece!r} of {message!r}"


def test_every_option_is_known() -> None:
    parameters = [parameter for command in vidstyle.commands.values() for parameter in command.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert len(asked) > 10
    assert asked <= known | {"--help"}, asked - known


def test_every_field_of_the_card_is_explained() -> None:
    explained = set(re.findall(r"`([a-z0-9_]+)`", section("Three files")))
    assert set(EngineCard.__dataclass_fields__) <= explained


@pytest.mark.parametrize("page", ["docs/tensorrt.md", "engines/README.md"])
def test_every_profile_that_is_named_ships(page: str) -> None:
    named = re.findall(r"--profile ([\w-]+)(?!\S*\.toml)\b", (repository() / page).read_text(encoding="utf-8"))
    assert named
    assert {name for name in named if name != "mine"} <= set(profile_names())
