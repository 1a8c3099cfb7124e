"""What `import vidstyle` offers, and what it costs."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import vidstyle

COMMANDS = ["render", "image", "adapt", "styles", "build-engine", "bench", "doctor", "webcam", "serve"]
# Runs the command line as the installed script does, and tells on stderr whether torch came along.
HELP = (
    "import sys; from vidstyle.cli import main\n"
    "try: main()\n"
    "finally: print('torch' in sys.modules, 'av' in sys.modules, file=sys.stderr)"
)


def test_all_is_sorted_and_there() -> None:
    assert vidstyle.__all__ == sorted(vidstyle.__all__)
    for name in vidstyle.__all__:
        assert getattr(vidstyle, name).__name__ == name


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(vidstyle.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    declared = {a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert declared == set(vidstyle._LAZY)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'stylise'"):
        vidstyle.stylise  # noqa: B018


def fastest(command: list[str], runs: int = 2) -> tuple[float, str, str]:
    """The least processor time of several runs, which others on the machine hardly change; and what was said."""
    best = float("inf")
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best, done.stdout, done.stderr.strip()


def test_import_is_quick_and_light() -> None:
    code = "import sys, vidstyle; print('torch' in sys.modules)"
    seconds, said, _ = fastest([sys.executable, "-c", code])
    assert said.strip() == "False"
    assert seconds < 0.3


@pytest.mark.parametrize("command", [[], *[[c] for c in COMMANDS]])
def test_help_is_quick_and_needs_no_torch(command: list[str]) -> None:
    seconds, said, loaded = fastest([sys.executable, "-c", HELP, *command, "--help"])
    assert "Usage:" in said
    assert loaded == "False False"
    assert seconds < 0.3
