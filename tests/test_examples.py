"""The examples and the README's commands do what they say."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from click.testing import CliRunner
from media import make_video, picture

from vidstyle.cli import vidstyle
from vidstyle.imaging.image_io import Still, write_still

ROOT = Path(__file__).parent.parent
EXAMPLES = {
    "render_clip.py": ["bunny_blend.mp4"],
    "stylize_array.py": ["painted.png"],
    "blend_over_time.py": ["crossfade.mp4"],
    "adapt_painting.py": ["mine.safetensors", "in_my_style.png"],
    "own_source_and_sink.py": [],
}
ADAPTS, CLIP = "adapt_painting.py", "bunny.mp4"


def test_every_example_is_tested_and_short() -> None:
    scripts = {path.name: path for path in (ROOT / "examples").glob("*.py")}
    assert scripts.keys() == EXAMPLES.keys()
    assert all(len(path.read_text().splitlines()) <= 45 for path in scripts.values())


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, beside the first second of their film."""
    folder = tmp_path_factory.mktemp("examples")
    for name in EXAMPLES:
        shutil.copy(ROOT / "examples" / name, folder)
    with av.open(str(ROOT / "examples" / CLIP)) as film, av.open(str(folder / CLIP), "w") as second:
        streams = {stream.index: second.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.dts is not None and packet.dts * packet.time_base < 1:
                packet.stream = streams[packet.stream.index]
                second.mux(packet)
    return folder


@pytest.mark.parametrize("script", [name for name in EXAMPLES if name != ADAPTS])
def test_example_runs_as_it_is(script: str, examples: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(examples / script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_written(tmp_path, script)


@pytest.mark.usefixtures("one_photo")
def test_the_example_that_adapts_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [ADAPTS, "2"])  # steps: enough to see that it works
    runpy.run_path(str(ROOT / "examples" / ADAPTS), run_name="__main__")
    assert_written(tmp_path, ADAPTS)


def assert_written(folder: Path, script: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(EXAMPLES[script])
    assert all(path.stat().st_size > 1000 for path in folder.iterdir())


def readme_commands() -> list[str]:
    """The commands of the README's section on use, without their comments."""
    use = (ROOT / "README.md").read_text().split("## Use it")[1]
    block = re.search(r"```sh\n(.*?)```", use, re.DOTALL)
    assert block
    return [line.split("#")[0].strip() for line in block[1].splitlines()]


def test_every_command_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "in.mp4", size=(48, 64), frames=130)  # the commands name times
    make_video(tmp_path / "hd.mp4", size=(540, 960), frames=3)
    (tmp_path / "clips").mkdir()
    for name in ("film.mkv", "clips/one.mp4"):
        make_video(tmp_path / name, size=(48, 64), frames=30)
    for name in ("photo.jpg", "painting.jpg"):
        write_still(tmp_path / name, Still(picture((96, 128), 3)))
    commands = readme_commands()
    assert len(commands) >= 6
    for command in commands:
        program, *arguments = command.split()
        assert program == "vidstyle"
        if arguments[0] == "adapt":
            arguments += ["--steps", "1", "--batch", "1", "--crop", "32", "--style-size", "48"]
        if arguments[0] == "serve":
            continue  # it runs until Ctrl-C: test_serve_browser.py has the command itself
        if arguments[0] == "webcam":  # there may be neither a camera nor a display
            arguments += ["--source", "testsrc", "--seconds", "1", "--no-window", "--record", "live.mp4", "--overwrite"]
        if "--optimize" in arguments:
            arguments += ["--init", "content", "--iterations", "1"]
        (tmp_path / "out.mp4").unlink(missing_ok=True)
        done = CliRunner().invoke(vidstyle, arguments)  # in one process: each would import and compile anew
        assert done.exit_code == 0, f"{command}: {done.output}"


@pytest.mark.parametrize("marker", ["demo", "test"])
def test_readme_has_the_command_that_ci_runs(marker: str) -> None:
    block = re.search(rf"<!-- {marker} -->\n```sh\n(.+)\n```", (ROOT / "README.md").read_text())
    assert block
    assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_example_clip_is_small_and_has_sound() -> None:
    clip = ROOT / "examples" / CLIP
    assert clip.stat().st_size < 2_000_000
    with av.open(str(clip)) as file:
        assert file.streams.audio
        assert 5 <= (file.duration or 0) / 1e6 <= 10
