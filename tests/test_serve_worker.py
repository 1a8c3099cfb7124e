"""The worker process: modest, bounded, one sentence for everything that goes wrong, gone when its server is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobserver import Served, files_in, serve
from media import make_sound, make_video
from pictures import painting, save
from test_serve_jobs import alive

from vidstyle.gallery import load_style
from vidstyle.serve.job import RENDER_STYLE, JobSpec
from vidstyle.serve.worker_process import WorkerLine, WorkerProcess


def work(task: str, folder: Path, spec: JobSpec) -> list[WorkerLine]:
    """What a worker says, from its first line to its last."""

    async def run() -> list[WorkerLine]:
        spec.write(folder)
        child = await WorkerProcess.start(task, folder)
        lines = [line async for line in child.lines(120)]
        assert await child.wait() is None
        return lines

    return asyncio.run(run())


def truncated(path: Path) -> Path:
    make_video(path, frames=30)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def text(path: Path) -> Path:
    path.write_text("#EXTM3U\nfile:///etc/passwd\n")
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (truncated, "cut off"),
        (text, "not a video"),
        (lambda path: make_sound(path, "aac"), "no picture"),
        (lambda path: save(painting(1), path), "picture, not a video"),
        (lambda path: make_video(path, size=(200, 300), frames=2), "300x200; videos of at most 0.04 megapixels"),
        (lambda path: make_video(path, frames=50, rate=10), "5 s long; at most 2 s"),
    ],
)
def test_what_may_not_be_rendered_is_told_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    make(tmp_path / ("x.m4a" if words == "no picture" else "x.png" if "picture" in words else "x.mp4")).rename(
        folder / "input"
    )
    spec = JobSpec(label="Holiday", max_pixels=40_000, max_seconds=2)
    (last,) = work("probe", folder, spec)
    assert words in (last.error or "") and "Holiday" in (last.error or "") and str(tmp_path) not in (last.error or "")
    assert last.too_much == ("at most" in words)


def test_a_video_that_may_be_rendered_is_measured(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", size=(48, 64), frames=20, rate=10).rename(tmp_path / "input")
    found = work("probe", tmp_path, JobSpec(label="x"))
    assert found == [WorkerLine(done=True, frames=20)]


def test_an_upload_that_is_no_video_never_becomes_a_job(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        found = await served.upload("render", b"#EXTM3U\nfile:///etc/passwd\n", 415, name="x.m3u8")
        assert "not a video" in found["error"]
        large = make_video(tmp_path / "large.mp4", size=(200, 300), frames=2)
        assert "megapixels" in (await served.upload("render", large, 413))["error"]
        assert await served.json("GET", "/api/jobs") == []

    serve(tmp_path / "jobs", body, max_pixels=40_000)
    assert files_in(tmp_path / "jobs") == {".server"}


def test_a_video_that_does_not_say_how_long_it_is_is_measured(tmp_path: Path) -> None:
    video = make_video(tmp_path / "live.mkv", size=(32, 48), frames=80, rate=10, live=True)

    async def body(served: Served) -> None:
        found = await served.upload("render", video, 413, name="Stream.mkv")
        assert found["error"].startswith("Stream.mkv is 8 s long; at most 2 s are rendered here")
        assert not files_in(tmp_path / "jobs") - {".server"}

    serve(tmp_path / "jobs", body, max_seconds=2)


@pytest.mark.parametrize("damage", ['{"label": 3}', "[]", "{", '{"label": "x", "budget": {"steps": "many"}}'])
def test_wishes_that_cannot_be_read_are_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / "spec.json").write_text(damage)

    async def run() -> None:
        child = await WorkerProcess.start("adapt", tmp_path)
        (line,) = [line async for line in child.lines(120)]
        assert "cannot be read" in (line.error or "")
        assert await child.wait() is None

    asyncio.run(run())


@pytest.mark.parametrize(
    "words",
    ["print('hello')", "print('[1]')", "print('[' * 60000)", "print('{' + ' ' * 100000 + '}')", "print('\\xff')"],
)
def test_nonsense_from_a_worker_is_an_error_and_ends_it(words: str) -> None:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", f"import sys, time; {words}; sys.stdout.flush(); time.sleep(60)"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 16,
            process_group=0,
        )
        child = WorkerProcess(process)
        with pytest.raises(ValueError):
            _ = [line async for line in child.lines(120)]
        assert await child.wait() == "signal 9"

    asyncio.run(run())


def long_render(folder: Path) -> None:
    """Everything for a render that is still under way when it is looked at."""
    make_video(folder / "in.mkv", size=(64, 96), frames=600).rename(folder / "input")
    load_style("great_wave").save(folder / RENDER_STYLE)
    JobSpec(label="x").write(folder)


_SERVER = """
import asyncio, sys
from pathlib import Path
from vidstyle.gallery import load_style
from vidstyle.serve.worker_process import WorkerProcess

async def main():
    child = await WorkerProcess.start("render", Path(sys.argv[1]))
    async for line in child.lines(120):
        if line.step:
            print(child.pid, flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_ends_with_its_server_however_that_ends(tmp_path: Path) -> None:
    long_render(tmp_path)
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", _SERVER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as server:
        try:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            assert alive(pid)
        finally:
            server.kill()
    end = time.monotonic() + 60
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_is_nice_and_bounded(tmp_path: Path) -> None:
    long_render(tmp_path)

    async def run() -> None:
        child = await WorkerProcess.start("render", tmp_path)
        pid = child.pid
        async for line in child.lines(120):
            if line.step:
                limits = Path(f"/proc/{pid}/limits").read_text()
                assert os.getpriority(os.PRIO_PROCESS, pid) == 19
                rows = {row[:26].strip(): row[26:].split()[0] for row in limits.splitlines()}
                assert rows["Max file size"] == str(2 << 30) and rows["Max core file size"] == "0"
                break
        child.kill()
        assert await child.wait() == "signal 9"

    asyncio.run(run())
