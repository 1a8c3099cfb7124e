"""docs/live.md names options, keys, targets and messages that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vidstyle.cli import vidstyle
from vidstyle.gallery import load_style
from vidstyle.live.keys import KEYS, Controls
from vidstyle.video.output.muxer import output_spec

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "live.md").read_text()
KEY_CODES = {"Esc": "escape", "space": " "}
PIP_AND_PYTHON = {"--force-reinstall", "--directory"}


def options(command: str) -> set[str]:
    found = vidstyle.commands[command]
    return {name for option in found.params if isinstance(option, click.Option) for name in option.opts}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_option_of_the_page_exists() -> None:
    live = options("webcam")
    others = options("adapt") | options("build-engine") | PIP_AND_PYTHON
    for line in PAGE.splitlines():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line))
        unknown = named - live - (set() if line.startswith("vidstyle webcam") else others)
        assert not unknown, f"{line!r} names {unknown}"


def test_every_key_of_the_page_does_something() -> None:
    two_styles = [load_style("starry_night"), load_style("the_scream")]
    keys = [key for cells in rows("Keys") for key in re.findall(r"`([^`]+)`|(left|right|up|down)", cells[0])]
    names = ["".join(key) for key in keys]
    assert len(names) > 15
    for name in names:
        controls = Controls(two_styles, index=1, strength=0.5)
        if name == "[":
            controls.press("]", 0)
        if name == "2":
            controls = Controls(two_styles)
        before = {**vars(controls)}
        action = controls.press(KEY_CODES.get(name, name), 1)
        if name not in ("9", "0"):  # there is no such style here
            assert action is not None or vars(controls) != before, f"key {name} does nothing"


def test_every_key_of_the_help_is_on_the_page() -> None:
    told = " ".join(cells[0] for cells in rows("Keys"))
    for keys in KEYS:
        for key in keys.shown.split():
            assert key == "..." or f"`{key}`" in told, f"key {key} is not on the page"


def test_every_target_of_the_page_is_one() -> None:
    targets = re.findall(r"--output '?([^\s`']+)", PAGE)
    assert len(targets) > 6
    for target in targets:
        if not target.startswith("srt:"):  # which PyAV's wheels do not speak
            output_spec(target.replace("STREAM-KEY", "x"))


def test_every_message_of_the_page_is_one_of_ours() -> None:
    sources = [path.read_text() for part in ("live", "video") for path in (ROOT / "vidstyle" / part).rglob("*.py")]
    sources.append((ROOT / "vidstyle" / "scheduler.py").read_text())
    # Strings are broken over lines, and hold names in braces.
    text = re.sub(r"\{[^{}]*\}", "...", re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources)))
    messages = [message for cells in rows("When something is wrong") for message in re.findall(r"`([^`]+)`", cells[0])]
    assert len(messages) > 10
    for message in messages:
        for piece in re.split(r"\.\.\.|[;,] |\b\d\b", message):
            assert piece.strip() in text, f"nothing says {piece.strip()!r}"
