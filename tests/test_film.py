"""Films in parts: the result of one piece, however often it is interrupted and whoever paints."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import Audio, Subtitle, largest_file, make_video, picture, read_contents, read_rgb

from vidstyle import (
    BadOption,
    ClipOptions,
    EncodeOptions,
    LookOptions,
    SmoothOptions,
    Timeline,
    VideoError,
    render,
    render_parts,
)
from vidstyle.films import film as film_module
from vidstyle.films.folder import PartsFolder
from vidstyle.gallery import style_names

FIRST, SECOND = style_names()[:2]
LOSSLESS = EncodeOptions(codec="ffv1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with sound, subtitles and chapters, a key frame a second, and no two frames at one distance."""
    pts = np.cumsum(np.random.default_rng(1).integers(25, 60, 150)).tolist()
    return make_video(
        tmp_path_factory.mktemp("film") / "in.mp4",
        pts=pts,
        time_base=Fraction(1, 1000),
        audio=[Audio()],
        subtitles=[Subtitle(codec="mov_text")],
        chapters=[(0, 2, "one"), (2, 6, "two")],
        metadata={"title": "Film"},
        options={"g": "25", "bf": "2"},
    )


def assert_same(a: Path, b: Path) -> None:
    assert read_contents(a) == read_contents(b)
    for one, other in zip(read_rgb(a), read_rgb(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": ClipOptions(start=0.71, end=4.3)},
        {"size": (32, 40), "look": LookOptions(strength=0.5, work_size=24)},
        {"style": Timeline([(0, FIRST), (3, SECOND)], fade=2.0)},
    ],
    ids=["whole", "clip", "size", "timeline"],
)
def test_parts_make_what_one_piece_makes(tmp_path: Path, source: Path, options: dict[str, Any]) -> None:
    options = {"style": FIRST, "encode": LOSSLESS, **options}
    one = render(source, tmp_path / "one.mkv", **options)
    parts = render_parts(source, tmp_path / "parts.mkv", part_seconds=1, **options)
    assert_same(tmp_path / "one.mkv", tmp_path / "parts.mkv")
    assert parts.parts >= 3
    assert (parts.frames, parts.lost, parts.notes) == (one.frames, one.lost, one.notes)
    assert parts.seconds_of_video == pytest.approx(one.seconds_of_video, abs=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mkv", "parts.mkv"]


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run on a single core within the block."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not let processes choose their cores")
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "ffv1.mkv"])
def test_the_number_of_cores_changes_nothing(tmp_path: Path, name: str) -> None:
    source = make_video(tmp_path / "in.mp4", size=(64, 96), frames=40, audio=[Audio()], options={"g": "10"})
    encode = EncodeOptions(codec=name.partition(".")[0])  # type: ignore[arg-type]
    (a, b), suffix = (tmp_path / f"a-{name}", tmp_path / f"b-{name}"), Path(name).suffix
    render_parts(source, a, FIRST, part_seconds=0.4, encode=encode)
    with one_core():
        render_parts(source, b, FIRST, part_seconds=0.4, encode=encode)
    assert_same(a, b)
    assert suffix != ".mp4" or a.read_bytes() == b.read_bytes()
    assert len(read_contents(a).pts) == 40


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "vidstyle", "render", "--style", FIRST, *map(str, words)]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, source: Path) -> None:
    output, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.parts"
    words, delay = command(source, output, "--part-seconds", "1"), random.Random(1)
    done: dict[str, int] = {}
    for _ in range(2):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        had = len(done)
        while process.poll() is None and len(list(folder.glob("0*.json"))) == had:
            time.sleep(0.01)
        time.sleep(delay.uniform(0, 0.05))
        process.kill()
        process.wait()
        for path in folder.glob("0*.json"):  # what was done is not painted again
            assert done.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    assert not output.exists() and len(done) >= 2
    report = render_parts(source, output, FIRST, part_seconds=1)
    assert report.taken_over > 0
    render_parts(source, tmp_path / "one.mp4", FIRST, part_seconds=1)
    assert output.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert not folder.exists()


def test_workers_that_die_are_replaced_and_end_with_their_parent(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.mp4"
    words = command(source, output, "--part-seconds", "1", "--workers", "2")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not tell the children of a process")

    def workers() -> list[int]:
        with contextlib.suppress(OSError):
            found = map(int, children.read_text().split())
            return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        return []

    while process.poll() is None and len(workers()) < 2:
        time.sleep(0.05)
    first = workers()
    os.kill(first[0], signal.SIGKILL)
    while process.poll() is None and not list((tmp_path / "out.mp4.parts").glob("0*.json")):
        time.sleep(0.01)
    last = {*first, *workers()}
    process.kill()
    assert "Error" not in process.communicate()[1]
    report = render_parts(source, output, FIRST, part_seconds=1)
    assert 0 < report.taken_over < report.frames
    render_parts(source, tmp_path / "one.mp4", FIRST, part_seconds=1)
    assert output.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    for _ in range(200):
        if not any(is_running(one) for one in last):
            break
        time.sleep(0.1)
    assert not any(is_running(one) for one in last)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def test_processes_make_what_this_one_makes(tmp_path: Path, source: Path) -> None:
    report = render_parts(source, tmp_path / "a.mp4", FIRST, part_seconds=2, workers=2)
    assert report.parts == 3
    render_parts(source, tmp_path / "b.mp4", FIRST, part_seconds=2)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.fixture
def half_done(tmp_path: Path, source: Path) -> Path:
    """An output of which only the first parts are there, as after a power cut."""
    output = tmp_path / "out.mp4"

    def stop(progress: Any) -> None:
        if progress.frames > 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_parts(source, output, FIRST, part_seconds=1, on_progress=stop)
    assert not output.exists()
    assert len(list((tmp_path / "out.mp4.parts").glob("*.nut"))) >= 2
    return output


def test_other_options_are_refused_by_name(source: Path, half_done: Path) -> None:
    with pytest.raises(BadOption, match=rf"out\.mp4\.parts was begun with style {FIRST}.* is style {SECOND}"):
        render_parts(source, half_done, SECOND, part_seconds=1)
    with pytest.raises(BadOption, match="crf by default, and this is crf 30"):
        render_parts(source, half_done, FIRST, part_seconds=1, encode=EncodeOptions(crf=30))
    other = make_video(half_done.with_name("other.mp4"), frames=60)
    with pytest.raises(BadOption, match="source of"):
        render_parts(other, half_done, FIRST, part_seconds=1)
    report = render_parts(source, half_done, FIRST, part_seconds=1)
    assert 0 < report.taken_over < report.frames


def test_a_copy_of_the_source_is_the_source(tmp_path: Path, source: Path, half_done: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(source.read_bytes())
    assert render_parts(copy, half_done, FIRST, part_seconds=1).taken_over > 0


@pytest.mark.parametrize("what", ["packets", "record", "gone", "garbage"])
def test_a_damaged_part_is_painted_again(tmp_path: Path, source: Path, half_done: Path, what: str) -> None:
    packets, record = (tmp_path / "out.mp4.parts" / f"00000.{suffix}" for suffix in ("nut", "json"))
    if what == "packets":
        data = bytearray(packets.read_bytes())
        data[len(data) // 2] ^= 255
        packets.write_bytes(data)
    elif what == "record":
        record.write_text(record.read_text()[:40])
    elif what == "gone":
        packets.unlink()
    else:
        packets.write_bytes(b"")
    report = render_parts(source, half_done, FIRST, part_seconds=1)
    assert report.taken_over > 0
    assert len([note for note in report.notes if "00000" in note and "part 0 is painted again" in note]) == 1
    render_parts(source, tmp_path / "one.mp4", FIRST, part_seconds=1)
    assert half_done.read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_a_part_that_is_damaged_under_way_is_found_by_the_assembler(
    tmp_path: Path, source: Path, half_done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, harmed = film_module.append_part, []

    def harmful(writer: Any, path: Path, *rest: Any) -> None:
        if not harmed and path.name == "00001.nut":
            harmed.append(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        append(writer, path, *rest)

    monkeypatch.setattr(film_module, "append_part", harmful)
    report = render_parts(source, half_done, FIRST, part_seconds=1)
    assert any("part 1 is painted again" in note for note in report.notes)
    render_parts(source, tmp_path / "one.mp4", FIRST, part_seconds=1)
    assert half_done.read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_a_source_that_changes_under_way_is_told_and_nothing_is_lost(tmp_path: Path, source: Path) -> None:
    film = tmp_path / "in.mp4"
    film.write_bytes(source.read_bytes())
    kept, changed = os.stat(film), []

    def change(progress: Any) -> None:
        if progress.frames > 60 and not changed:
            changed.append(True)
            os.utime(film, ns=(0, 0))

    with pytest.raises(VideoError, match=r"in\.mp4 was changed while it was rendered"):
        render_parts(film, tmp_path / "out.mp4", FIRST, part_seconds=1, on_progress=change)
    assert not (tmp_path / "out.mp4").exists()
    os.utime(film, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert render_parts(film, tmp_path / "out.mp4", FIRST, part_seconds=1).taken_over > 0


@pytest.mark.parametrize(("share", "some"), [(0.02, False), (0.6, True)], ids=["in the first part", "at the end"])
def test_a_disk_that_fills_up_loses_no_part(tmp_path: Path, source: Path, share: float, some: bool) -> None:
    output, whole = tmp_path / "out.mp4", tmp_path / "one.mp4"
    render_parts(source, whole, FIRST, part_seconds=1)
    with largest_file(int(share * whole.stat().st_size)), pytest.raises(VideoError, match="larger than this system"):
        render_parts(source, output, FIRST, part_seconds=1)
    assert not output.exists()
    report = render_parts(source, output, FIRST, part_seconds=1)
    assert (report.taken_over == report.frames) == some and output.read_bytes() == whole.read_bytes()


def test_two_runs_do_not_share_a_folder(source: Path, half_done: Path) -> None:
    with PartsFolder(half_done), pytest.raises(BadOption, match=r"another run is at work in .*out\.mp4\.parts"):
        render_parts(source, half_done, FIRST, part_seconds=1)
    assert render_parts(source, half_done, FIRST, part_seconds=1).taken_over > 0


def test_a_damaged_plan_and_a_file_in_the_way_are_told(tmp_path: Path, source: Path, half_done: Path) -> None:
    (tmp_path / "out.mp4.parts" / "plan.json").write_text("{")
    with pytest.raises(BadOption, match=r"plan\.json is damaged"):
        render_parts(source, half_done, FIRST)
    (tmp_path / "b.mp4.parts").write_text("")
    with pytest.raises(BadOption, match=r"b\.mp4\.parts is a file"):
        render_parts(source, tmp_path / "b.mp4", FIRST)


def test_parts_are_kept_where_that_is_asked_and_files_of_others_always(tmp_path: Path, source: Path) -> None:
    output, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.parts"
    render_parts(source, output, FIRST, part_seconds=2, keep_parts=True)
    first = output.read_bytes()
    with pytest.raises(BadOption, match="exists"):
        output.write_bytes(b"another file by now")
        render_parts(source, output, FIRST, part_seconds=2)
    (folder / "notes.txt").write_text("mine")
    report = render_parts(source, output, FIRST, overwrite=True)
    assert (report.taken_over, output.read_bytes()) == (report.frames, first)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_run_that_was_killed_behind_the_end_is_done(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.mp4"
    report = render_parts(source, output, FIRST, part_seconds=2, keep_parts=True)
    again = render_parts(source, output, FIRST, part_seconds=2)
    assert (again.frames, again.parts) == (report.frames, report.parts)
    assert not (tmp_path / "out.mp4.parts").exists()


def damaged(tmp_path: Path) -> Path:
    """Frames 12 and 13 of 40 cannot be decoded."""
    path = make_video(tmp_path / "in.mkv", frames=40, options={"g": "1"}, audio=[Audio()])
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in places[12:14]:
        data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(data)
    return path


def test_lost_frames_are_counted_as_in_one_piece(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    one = render(path, tmp_path / "one.mkv", FIRST, encode=LOSSLESS)
    parts = render_parts(path, tmp_path / "parts.mkv", FIRST, encode=LOSSLESS, part_seconds=0.3)
    assert (parts.lost, parts.frames, parts.errors) == (one.lost, one.frames, one.errors) and one.lost == 2
    assert_same(tmp_path / "one.mkv", tmp_path / "parts.mkv")


def scenes(lengths: list[int], size: tuple[int, int] = (96, 128)) -> Iterator[np.ndarray]:
    for scene, length in enumerate(lengths):
        for index in range(length):
            shown = picture(size, index + 50 * scene)
            yield shown if scene % 2 == 0 else 255 - np.ascontiguousarray(shown[::-1, ::-1])


def test_smoothed_parts_begin_at_scene_cuts(tmp_path: Path) -> None:
    lengths = [25, 20, 30, 25]
    options = {"g": "5", "sc_threshold": "0"}
    source = make_video(
        tmp_path / "in.mp4", size=(96, 128), frames=100, pictures=list(scenes(lengths)), options=options
    )
    smooth = {"smooth": SmoothOptions(), "encode": LOSSLESS}
    render(source, tmp_path / "one.mkv", FIRST, **smooth)  # type: ignore[arg-type]
    report = render_parts(source, tmp_path / "parts.mkv", FIRST, part_seconds=1, **smooth)  # type: ignore[arg-type]
    assert report.parts == 4
    assert_same(tmp_path / "one.mkv", tmp_path / "parts.mkv")


def test_smoothed_parts_within_a_scene_bring_a_lead_in(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", size=(96, 128), frames=150, options={"g": "10"})
    smooth = {"smooth": SmoothOptions(), "encode": LOSSLESS}
    render(source, tmp_path / "one.mkv", FIRST, **smooth)  # type: ignore[arg-type]
    report = render_parts(source, tmp_path / "parts.mkv", FIRST, part_seconds=3, **smooth)  # type: ignore[arg-type]
    assert report.parts == 2
    apart = [
        int(np.abs(a.astype(int) - b.astype(int)).max())
        for a, b in zip(read_rgb(tmp_path / "one.mkv"), read_rgb(tmp_path / "parts.mkv"), strict=True)
    ]
    assert max(apart) <= 2
