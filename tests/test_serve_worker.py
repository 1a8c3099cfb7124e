"""The worker process: modest, bounded, one sentence for everything that goes wrong, gone when its server is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobserver import alive, files_in, serve
from live_media import wait_for
from media import make_sound, make_video
from pictures import painting, save

from vidstyle.gallery import load_style
from vidstyle.serve.job import RENDER_STYLE, SPEC, JobSpec
from vidstyle.serve.worker_process import WorkerLine, WorkerProcess

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


async def work(task: str, folder: Path) -> list[WorkerLine]:
    """A worker's lines, from the first to the last."""
    worker = await WorkerProcess.start(task, folder)
    lines = [line async for line in worker.lines(120)]
    assert await worker.wait() is None
    return lines


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", "cut off"),
        ("text", "not a video"),
        ("sound", "no picture"),
        ("picture", "picture, not a video"),
        ("large", "300x200; videos of at most 0.04 megapixels"),
        ("long", "5 s long; at most 2 s"),
    ],
)
async def test_what_may_not_be_rendered_is_told_in_a_sentence(tmp_path: Path, what: str, words: str) -> None:
    folder, made = tmp_path / "job", tmp_path / "x.mp4"
    folder.mkdir()
    if what == "sound":
        made = make_sound(tmp_path / "x.m4a", "aac")
    elif what == "picture":
        made = save(painting(1), tmp_path / "x.png")
    elif what == "text":
        made.write_text("#EXTM3U\nfile:///etc/passwd\n")
    else:
        options: dict[str, Any] = {"large": {"size": (200, 300)}, "long": {"frames": 50, "rate": 10}}.get(what, {})
        make_video(made, **options)
    if what == "truncated":
        made.write_bytes(made.read_bytes()[:2000])
    made.rename(folder / "input")
    JobSpec(label="Holiday", max_pixels=40_000, max_seconds=2).write(folder)
    (last,) = await work("probe", folder)
    error = last.error or ""
    assert words in error and "Holiday" in error and str(tmp_path) not in error
    assert last.too_much == ("at most" in words)


async def test_a_video_that_may_be_rendered_is_measured(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", size=(48, 64), frames=20, rate=10).rename(tmp_path / "input")
    JobSpec(label="x").write(tmp_path)
    assert await work("probe", tmp_path) == [WorkerLine(done=True, frames=20)]


async def test_an_upload_that_may_not_be_rendered_never_becomes_a_job(tmp_path: Path) -> None:
    large = make_video(tmp_path / "large.mp4", size=(200, 300), frames=2)
    stream = make_video(tmp_path / "live.mkv", size=(32, 48), frames=80, rate=10, live=True)
    async with serve(tmp_path / "jobs", max_pixels=40_000, max_seconds=2) as served:
        found = await served.upload("render", b"#EXTM3U\nfile:///etc/passwd\n", 415, name="x.m3u8")
        assert "not a video" in found["error"]
        assert "megapixels" in (await served.upload("render", large, 413))["error"]
        found = await served.upload("render", stream, 413, name="Stream.mkv")
        assert found["error"].startswith("Stream.mkv is 8 s long; at most 2 s"), "one that does not say so is measured"
        assert await served.json("GET", "/api/jobs") == []
    assert files_in(tmp_path / "jobs") == {".server"}


@pytest.mark.parametrize("damage", ['{"label": 3}', "[]", "{", '{"label": "x", "budget": {"steps": "many"}}'])
async def test_a_spec_that_cannot_be_read_is_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / SPEC).write_text(damage)
    (line,) = await work("adapt", tmp_path)
    assert "cannot be read" in (line.error or "")


@pytest.mark.parametrize(
    "words",
    ["print('hello')", "print('[1]')", "print('[' * 60000)", "print('{' + ' ' * 100000 + '}')", "print('\\xff')"],
)
async def test_nonsense_from_a_worker_is_an_error_and_ends_it(words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import sys, time; {words}; sys.stdout.flush(); time.sleep(60)"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 16,
        process_group=0,
    )
    worker = WorkerProcess(process)
    with pytest.raises(ValueError):
        _ = [line async for line in worker.lines(120)]
    assert await worker.wait() == "signal 9"


@pytest.fixture
def long_render(tmp_path: Path) -> Path:
    """A folder with everything for a render that is still under way when it is looked at."""
    make_video(tmp_path / "in.mkv", size=(64, 96), frames=600).rename(tmp_path / "input")
    load_style("great_wave").save(tmp_path / RENDER_STYLE)
    JobSpec(label="x").write(tmp_path)
    return tmp_path


_SERVER = """
import asyncio, sys
from pathlib import Path
from vidstyle.serve.worker_process import WorkerProcess

async def main():
    worker = await WorkerProcess.start("render", Path(sys.argv[1]))
    async for line in worker.lines(120):
        if line.step:
            print(worker.pid, flush=True)

asyncio.run(main())
"""


@needs_proc
def test_a_worker_ends_with_its_server_however_that_ends(long_render: Path) -> None:
    command = [sys.executable, "-c", _SERVER, str(long_render)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as server:
        try:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            assert alive(pid)
        finally:
            server.kill()
    assert wait_for(lambda: not alive(pid), 60)


@needs_proc
async def test_a_worker_is_nice_and_bounded(long_render: Path) -> None:
    worker = await WorkerProcess.start("render", long_render)
    async for line in worker.lines(120):
        if line.step:
            break
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
    limits = Path(f"/proc/{worker.pid}/limits").read_text().splitlines()
    rows = {row[:26].strip(): row[26:].split()[0] for row in limits}
    assert rows["Max file size"] == str(2 << 30) and rows["Max core file size"] == "0"
    worker.kill()
    assert await worker.wait() == "signal 9"
