"""The container recipe names what there is, and its commands work. No machine of the tests can build the image."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import repository

from vidstyle.cli import vidstyle
from vidstyle.serve.config import ServeOptions


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile, with their words."""
    lines = [line for line in (repository() / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(step[0], step[2]) for line in text.splitlines() if (step := line.partition(" "))[0]]


def test_it_installs_what_the_project_has(steps: list[tuple[str, str]]) -> None:
    project = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]
    (extra,) = (found[1] for kind, words in steps if (found := re.search(r'"vidstyle\[(\w+)\]"', words)))
    assert extra in project["optional-dependencies"]
    versions = {
        words.split()[0].removeprefix("python:").removesuffix("-slim") for kind, words in steps if kind == "FROM"
    }
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in project["classifiers"]


def test_nobody_is_root_and_the_command_is_one_of_ours(steps: list[tuple[str, str]]) -> None:
    last = dict(steps)
    assert last["USER"] == "1000" and json.loads(last["ENTRYPOINT"]) == ["vidstyle"]
    words = json.loads(last["CMD"])
    assert CliRunner().invoke(vidstyle, [*words, "--help"]).exit_code == 0
    assert "--token" in words, "others can reach the port"
    kinds = [kind for kind, _ in steps]
    assert kinds.index("USER") > max(index for index, kind in enumerate(kinds) if kind == "RUN")
    assert int(last["EXPOSE"]) == ServeOptions().port and f":{last['EXPOSE']}/health" in last["HEALTHCHECK"]


def test_the_health_check_fails_where_no_server_is(steps: list[tuple[str, str]]) -> None:
    (check,) = re.findall(r"CMD (\[.*\])", dict(steps)["HEALTHCHECK"])
    words = [sys.executable, *json.loads(check)[1:]]
    words[-1] = words[-1].replace(":8360/", ":9/")
    assert subprocess.run(words, capture_output=True, timeout=60).returncode == 1


def test_the_build_gets_all_that_a_wheel_is_made_of() -> None:
    """What is not ignored is what setup.py and pyproject.toml name."""
    path = repository() / ".dockerignore"
    if not path.exists():
        pytest.skip("there is no .dockerignore here")
    kept = {line[1:] for line in path.read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]
    assert {*project["license-files"], project["readme"], "pyproject.toml", "setup.py", "MANIFEST.in"} <= kept
    assert {"vidstyle", "kernels", "engines"} <= kept
    assert all((repository() / name).exists() for name in kept)
    page = (repository() / "docs" / "container.md").read_text()
    commands = [shlex.split(line, comments=True) for line in page.splitlines() if line.startswith("docker run")]
    assert len(commands) == 2 and all("vidstyle" in words for words in commands)
    assert Path("/work").as_posix() in commands[1]
