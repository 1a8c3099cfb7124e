"""What comes from a file is shown on a terminal and never obeyed, and no error is a traceback."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import av.error
import numpy as np
import pytest
from click.testing import CliRunner, Result
from media import Audio, make_video
from safetensors.numpy import save_file

from vidstyle.cli import vidstyle
from vidstyle.cli.terminal import PrintableFormatter, printable

ESCAPES = "\x1b]0;PWNED\x07\x9b31m\u202e\r\nError: run rm -rf ~"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(vidstyle, [str(argument) for argument in arguments])


def assert_shown(text: str) -> None:
    assert "PWNED" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert not [line for line in text.splitlines() if line.startswith("Error: run rm")]


def test_text_is_shown_whatever_it_is() -> None:
    assert printable("夜\u3000曲 é 🎨 [b]") == "夜\u3000曲 é 🎨 [b]"
    assert printable("a\x1b[1m\x7f\x9b\n\t\u202e\u200b\udce9") == r"a\x1b[1m\x7f\x9b\n\t\u202e\u200b\udce9"
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_tags_of_a_video_are_shown(tmp_path: Path) -> None:
    tags = {ESCAPES.replace("=", "").replace("\n", ""): "x"}
    source = make_video(tmp_path / "in.mkv", audio=[Audio()], video_metadata=tags)
    result = run("render", source, tmp_path / "out.mp4", "--work-size", 32, "--strength", 0)
    assert result.exit_code == 0
    assert_shown(result.stderr)


@pytest.mark.parametrize("command", ["render", "image", "webcam", "adapt", "build-engine", "styles"])
def test_names_of_files_are_shown(command: str, tmp_path: Path) -> None:
    name = tmp_path / f"{ESCAPES.replace('/', '')}.mp4"
    arguments = {
        "render": (name, tmp_path / "out.mp4"),
        "image": (name, tmp_path / "out.png"),
        "webcam": ("--source", name, "--no-window", "--record", tmp_path / "out.mp4"),
        "adapt": (name, "-o", tmp_path / "nowhere" / name.name),
        "build-engine": (name,),
        "styles": ("--sheet", name, "-o", tmp_path / "out.png"),
    }
    result = run(command, *arguments[command])
    assert result.exit_code in (1, 2)
    assert_shown(result.stderr)


def test_what_a_style_file_says_is_shown(tmp_path: Path) -> None:
    facts = {"format": "vidstyle-style", "version": "1", "network": "fast", "digest": "0" * 64, "kind": "vector"}
    path, source = tmp_path / "mine.safetensors", make_video(tmp_path / "in.mp4", frames=1)
    for key in facts:
        save_file({"style.vector": np.zeros(1088, np.float16)}, path, {**facts, "card": "{}", key: ESCAPES})
        result = run("render", source, tmp_path / "out.mp4", "--style", path)
        assert result.exit_code == 1 and all(c.isprintable() or c == "\n" for c in result.stderr)
        assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


def test_what_is_logged_is_shown() -> None:
    record = logging.LogRecord("vidstyle", logging.WARNING, "", 0, "job %s", (ESCAPES,), None)
    assert_shown(PrintableFormatter().format(record))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("x"), "mistake in vidstyle"),
        (OSError(28, "No space left on device"), "No space"),
        (MemoryError(), "memory"),
        (av.error.InvalidDataError(1094995529, "Invalid data found", "in.mp4"), "Error: Invalid data found: in.mp4"),
    ],
)
def test_any_error_is_a_sentence(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("vidstyle.tools.doctor.examine", fail)
    result = run("doctor")
    assert (result.exit_code, words in result.stderr, len(result.stderr.splitlines())) == (1, True, 1)
    with pytest.raises(type(error)):
        CliRunner().invoke(vidstyle, ["--debug", "doctor"], catch_exceptions=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_output_is_a_sentence() -> None:
    for errors in ("", " 2>/dev/full"):
        command = f"{sys.executable} -m vidstyle styles >/dev/full{errors}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert done.returncode == 1
        expected = [] if errors else ["Error: cannot write to the standard output: No space left on device"]
        assert done.stderr.splitlines() == expected


def test_a_name_of_any_bytes_is_printed_in_any_language(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=1)
    name = os.fsdecode("夜".encode() + b"\xe9.mp4")
    command = [sys.executable, "-m", "vidstyle", "render", source, tmp_path / name, "--work-size", "32"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True, encoding="latin-1"
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and r"\u591c\udce9.mp4" in done.stdout
    assert (tmp_path / name).stat().st_size > 0


def test_a_hangup_that_is_ignored_stays_so() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from vidstyle.cli import main, vidstyle;"
        "vidstyle.commands['doctor'].callback = lambda **_: signal.raise_signal(signal.SIGHUP);"
        "import sys; sys.argv = ['vidstyle', 'doctor']; main()"
    )
    assert hasattr(signal, "SIGHUP")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
