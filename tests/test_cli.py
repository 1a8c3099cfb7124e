"""The command line: exit codes, sentences, and nothing half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import av
import pytest
from click.testing import CliRunner, Result
from media import Audio, make_sound, make_video, picture

from vidstyle.cli import vidstyle
from vidstyle.gallery import DEFAULT_STYLE, load_style, style_names
from vidstyle.imaging.image_io import Still, read_still, write_still

STYLE = DEFAULT_STYLE
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(vidstyle, [str(a) for a in arguments], input=stdin)


def assert_sentence(result: Result, exit_code: int, *words: str) -> None:
    """One sentence on stderr that holds ``words``, no traceback."""
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", size=(64, 96), frames=12, audio=[Audio()])


def test_render_says_what_it_did_and_which_style_it_took(video: Path, tmp_path: Path) -> None:
    result = run("render", video, tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    for words in ("12 frames", "fps", "x real time", "decode", "infer", "encode"):
        assert words in result.stdout
    assert f"Style: {STYLE}" in result.stderr
    result = run("render", video, tmp_path / "out.mp4", "-s", STYLE, "--json", "--work-size", 32, "-y")
    facts = json.loads(result.stdout)
    assert facts["frames"] == 12
    assert facts["stages"].keys() == {"decode", "infer", "encode"}


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_every_render_option_reaches_the_picture(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    blend = ",".join(f"{name}:{weight}" for name, weight in zip(style_names(), (0.7, 0.3), strict=False))
    options = ["--style", blend, "--strength", 0.5, "--preserve-color", "--size", "64x48", "--start", "0:00.1"]
    options += ["--end", 0.4, "--codec", "hevc", "--crf", 30, "--preset", "ultrafast", "--threads", 1]
    options += ["--backend", "onnxruntime", "--precision", "fp32", "--overwrite", "--skip-errors"]
    out.write_text("old")
    result = run("render", video, out, *options)
    assert result.exit_code == 0, result.output
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("hevc", 64, 48)
        assert len(list(file.decode(stream))) == 7  # the frames at 0.12 to 0.36 s


def test_render_changes_the_style_over_time(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", size=(64, 96), frames=60)
    first, second = style_names()[:2]
    mine = tmp_path / "a=b.safetensors"
    load_style(second).save(mine)
    at = ["--style-at", f"0:00.5={second}:0.5,{first}:0.5", "--style-at", f"1={mine}", "--fade", "0:00.3"]
    result = run("render", source, tmp_path / "out.mp4", "--style", first, *at, "--json")
    facts = json.loads(result.stdout)
    name = f"{second}:0.5+{first}:0.5"
    assert facts["style"] == f"{first}, from 0:00.5 {name}, from 0:01 a=b"
    assert facts["styles"] == [[0.0, first], [0.5, name], [1.0, "a=b"]]
    assert facts["fade"] == 0.3
    assert f"Painting {facts['style']} at 96x64 on " in result.stderr


def test_render_with_styles_at_times_alone_begins_with_the_first(video: Path, tmp_path: Path) -> None:
    result = run("render", video, tmp_path / "out.mp4", "--style-at", f"0:00.2={STYLE}")
    assert f"Painting {STYLE} at " in result.stderr and "choose another with --style" not in result.stderr


AT = ["--style-at", f"0:02={STYLE}", "--style-at"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-s", "wheat_feild"], 2, ["wheat_feild", "did you mean"]),
        (["-s", f"{STYLE}:0"], 2, ["above 0"]),
        (["-s", f"{STYLE}:-1"], 2, ["0 or more"]),
        (["-s", "mine.safetensors"], 1, ["mine.safetensors"]),
        (["--strength", "2"], 2, ["strength"]),
        (["--size", "wide"], 2, ["1280x720"]),
        (["--start", "2", "--end", "1"], 2, ["later than start"]),
        (["--start", "soon"], 2, ["m:ss"]),
        (["--backend", "abacus"], 2, ["abacus"]),
        (["--codec", "theora"], 2, ["theora"]),
        (["--colour", "red"], 2, ["--colour"]),
        (["--style-at", STYLE], 2, ["write TIME=STYLE, like 0:05="]),
        (["--style-at", "0:05="], 2, ["write TIME=STYLE"]),
        (["--style-at", f"soon={STYLE}"], 2, ["'soon' is not a time"]),
        ([*AT, "0:03=wheat_feild"], 2, ["wheat_feild", "did you mean"]),
        ([*AT, f"0:01={STYLE}"], 2, ["0:01", "0:02", "rising order"]),
        ([*AT, f"2={STYLE}"], 2, ["two styles at 0:02"]),
        (["-s", STYLE, "--style-at", f"0:00={STYLE}"], 2, ["leave out one of the two"]),
        (["--fade", "2"], 2, ["--style-at"]),
        ([*AT, f"3={STYLE}", "--fade", "-1"], 2, ["'-1' is not a time"]),
        ([*AT, "0:03=paper/starry_night"], 2, ["cannot be blended", "paper/starry_night"]),
    ],
)
def test_bad_option_is_a_sentence_before_anything_is_opened(
    options: list[str], code: int, words: list[str], tmp_path: Path
) -> None:
    result = run("render", tmp_path / "nowhere.mp4", tmp_path / "out.mp4", *options)
    assert_sentence(result, code, *words)
    assert "nowhere.mp4" not in result.output and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-s", STYLE, "--style-at", f"0:09={STYLE}"], ["0:09 is never seen", "ends at 0:00.48", "give an earlier"]),
        (["--size", "0x0"], ["between"]),
    ],
)
def test_option_that_does_not_fit_the_video_is_a_sentence(
    options: list[str], words: list[str], video: Path, tmp_path: Path
) -> None:
    assert_sentence(run("render", video, tmp_path / "out.mp4", *options), 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def cut(path: Path, source: Path, share: float) -> Path:
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "truncated", "audio only"])
def test_bad_video_is_a_sentence_that_names_it(kind: str, video: Path, tmp_path: Path) -> None:
    bad = tmp_path / f"{kind}.mp4"
    if kind == "folder":
        bad.mkdir()
    elif kind == "text":
        bad.write_text("not a video at all\n" * 100)
    elif kind == "audio only":
        bad = make_sound(tmp_path / f"{kind}.m4a", "aac")
    elif kind != "missing":
        cut(bad, video, {"empty": 0, "truncated": 0.5}[kind])
    result = run("render", bad, tmp_path / "out.mp4", "-s", STYLE)
    assert_sentence(result, 2 if kind == "folder" else 1, "Error: ", bad.name)
    assert not (tmp_path / "out.mp4").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [("nowhere/out.mp4", 2, "no folder"), ("in.mp4", 2, "input"), ("out.xyz", 2, ".xyz"), ("out", 2, "out")],
)
def test_bad_output_is_a_sentence(output: str, code: int, words: str, video: Path, tmp_path: Path) -> None:
    before = video.read_bytes()
    assert_sentence(run("render", video, tmp_path / output, "-s", STYLE, "--overwrite"), code, words)
    assert video.read_bytes() == before


def test_lost_frames_are_told_and_fail_unless_skipped(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", size=(64, 96), frames=60)
    damaged = cut(tmp_path / "cut.mkv", source, 0.6)
    result = run("render", damaged, tmp_path / "out.mp4", "-s", STYLE)
    assert_sentence(result, 1, "Lost: ", "could not be decoded", "--skip-errors")
    assert (tmp_path / "out.mp4").exists()
    result = run("render", damaged, tmp_path / "out2.mp4", "-s", STYLE, "--skip-errors")
    assert result.exit_code == 0, result.output
    assert "not decoded 0" not in result.stdout


def test_no_space_is_a_sentence_and_leaves_nothing(video: Path, tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk: the system refuses the write the same way.
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "from vidstyle.cli import main\nmain()\n"
    )
    command = [sys.executable, "-c", code, "render", str(video), str(tmp_path / "out.mp4"), "-s", STYLE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr, "out.mp4" in done.stderr) == (1, False, True)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)


@pytest.mark.alone
@SIGNALS
def test_interrupted_render_ends_within_a_second_and_leaves_nothing(number: int, code: int, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", size=(90, 160), frames=250)  # 10 s for this style
    command = [sys.executable, "-m", "vidstyle", "render", str(source), str(tmp_path / "out.mp4"), "-s", "paper/auvers"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "Painting" in process.stderr.readline()
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 4  # the second promised, and the rest for a busy machine
    assert (process.returncode, "Traceback" in errors) == (code, False)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


# A command during which the signal comes in a callback, where Python ignores what is raised.
IN_A_CALLBACK = """
import signal, sys, time, weakref
from vidstyle.cli import main, vidstyle

number = int(sys.argv.pop())

def work(**options):
    thing = type("Thing", (), {})()
    watch = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    time.sleep(1000)

vidstyle.commands["doctor"].callback = work
sys.argv.append("doctor")
main()
"""


@SIGNALS
def test_an_end_that_comes_in_a_callback_is_one(number: int, code: int) -> None:
    command = [sys.executable, "-c", IN_A_CALLBACK, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Exception ignored" not in done.stderr


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_still(tmp_path / "photo.png", Still(picture((60, 80), 0)))
    return tmp_path / "photo.png"


def test_image_paints_a_still(photo: Path, tmp_path: Path) -> None:
    result = run("image", photo, tmp_path / "out.jpg", "-s", STYLE)
    assert result.exit_code == 0, result.output
    assert read_still(tmp_path / "out.jpg").size == (60, 80)


def test_image_reads_stdin_and_writes_stdout(photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vidstyle", "image", "-", "-", "-s", STYLE, "--format", "jpg"]
    done = subprocess.run(command, input=photo.read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "piped.jpg").write_bytes(done.stdout)
    assert read_still(tmp_path / "piped.jpg").size == (60, 80)


def test_image_paints_a_folder_and_tells_what_it_could_not_read(photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_still(folder / "good.png", Still(picture((40, 40), 1)))
    (folder / "bad.png").write_bytes(b"no picture")
    command = [sys.executable, "-m", "vidstyle", "image", str(folder), str(tmp_path / "painted"), "-s", STYLE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "bad.png" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert [p.name for p in (tmp_path / "painted").iterdir()] == ["good.png"]


def test_styles_lists_the_gallery() -> None:
    names = [line.split()[0] for line in run("styles").stdout.splitlines()]
    assert names == style_names()
    facts = json.loads(run("styles", "--json").stdout)
    assert [fact["name"] for fact in facts] == names
    assert all(fact["card"]["painter"] for fact in facts)


def test_styles_draws_a_sheet(photo: Path, tmp_path: Path) -> None:
    result = run("styles", "--sheet", photo, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert read_still(tmp_path / "sheet.png").rgb.std() > 10
    assert_sentence(run("styles", "--sheet", photo), 2, "-o")


def test_doctor_tells_about_this_machine() -> None:
    assert "openvino" in run("doctor").stdout
    json.loads(run("doctor", "--json").stdout)


@needs_torch
@pytest.mark.usefixtures("one_photo")
def test_adapt_makes_a_style_that_renders(photo: Path, video: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    small = ["--steps", 2, "--batch", 1, "--crop", 32, "--style-size", 32, "--threads", 1]
    result = run("adapt", photo, "-o", mine, *small, "--painter", "Me")
    assert result.exit_code == 0, result.output
    assert "style loss" in result.stdout
    assert run("render", video, tmp_path / "out.mp4", "-s", mine).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "mine.safetensors", "out.mp4", "photo.png"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-o", "mine.pt"], 2, ".safetensors"),
        (["-o", "nowhere/mine.safetensors"], 2, "folder"),
        (["-o", "mine.safetensors", "--full", "--from-scratch"], 2, "choose one"),
        pytest.param(["-o", "mine.safetensors", "--resume"], 2, "no checkpoint", marks=needs_torch),
    ],
)
def test_bad_adapt_is_a_sentence(
    options: list[str], code: int, words: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_sentence(run("adapt", photo, *options), code, words)


def without_torch(*words: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['torch'] = None\nfrom vidstyle.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)


def test_without_torch_a_video_renders_and_adapt_names_the_command(video: Path, photo: Path, tmp_path: Path) -> None:
    done = without_torch("render", video, tmp_path / "out.mp4", "-s", STYLE)
    assert done.returncode == 0, done.stderr
    done = without_torch("adapt", photo, "-o", tmp_path / "mine.safetensors")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "pip install 'vidstyle[train]'" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("--debug", "render", tmp_path / "nowhere.mp4", tmp_path / "out.mp4", "-s", STYLE)
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "VideoError"
