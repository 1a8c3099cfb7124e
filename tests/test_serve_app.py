"""``vidstyle serve`` ends when it is told to, whatever it is about, and nothing of it stays."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from conftest import repository
from live_media import wait_for
from media import make_video
from visiting import PATIENCE, Camera, Command, Guest, photo

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="sends signals as POSIX does")]

PAINTING = repository() / "vidstyle" / "gallery" / "fast" / "wheat_field.jpg"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The command itself, with one part of it that never comes back.
HANGS = {
    "while it compiles": "InferenceScheduler.start = lambda *_: (print('compiling', flush=True), time.sleep(1000))",
    "while it closes": "Server.close = lambda self: asyncio.to_thread(time.sleep, 1000)",
    "with its loop": "cli._say_where = lambda server, say=cli._say_where: (say(server), time.sleep(1000))",
    "in a thread that nobody ends": "threading.Thread(target=time.sleep, args=(1000,)).start()",
}
_COMMAND = """
import asyncio, sys, threading, time
from vidstyle.cli import main
from vidstyle.serve.app import Server
from vidstyle.serve.painter import InferenceScheduler

cli = sys.modules["vidstyle.cli.serve"]
cli.GRACE_SECONDS = float(sys.argv.pop(1))
exec(sys.argv.pop(1))
main()
"""


def command(folder: Path, before: tuple[str, ...] = ("-m", "vidstyle")) -> Command:
    """The command with a cache of its own: it has to compile."""
    return Command(folder, "--size", "160x96", home=folder / "home", before=before)


def workers_in(folder: Path) -> list[int]:
    """The processes that work on jobs below ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # gone since
        if b"vidstyle.serve.worker" in words and any(word.startswith(bytes(folder)) for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_with_visitors_and_jobs_under_way_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    async def meanwhile(url: str) -> None:
        """Two visitors look on, a painting is learned, a video waits; then it is told to end."""
        guests = [Guest(url, camera=Camera(photo(seed=seed))) for seed in (1, 2)]
        jar = aiohttp.CookieJar(unsafe=True)
        try:
            for guest in guests:
                await guest.come()
                await guest.see()
            async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(60)) as http:
                for kind, field, file in (("adapt", "painting", PAINTING), ("render", "video", video)):
                    form = aiohttp.FormData()
                    form.add_field(field, file.read_bytes(), filename=file.name)
                    async with http.post(f"{url}api/jobs/{kind}", data=form) as response:
                        assert response.status == 201, await response.text()
            assert await asyncio.to_thread(wait_for, lambda: workers_in(tmp_path), PATIENCE)
            await asyncio.to_thread(server.end, number)
        finally:
            for guest in guests:
                await guest.leave(politely=False)

    video = make_video(tmp_path / "in.mp4", size=(64, 96), frames=30)
    with command(tmp_path) as server:
        asyncio.run(asyncio.wait_for(meanwhile(server.url), 110))
        assert server.process.returncode == 0, server.said()
        said = server.said()
        assert said.rstrip().endswith("Stopped.") and "Traceback" not in said, said
        assert wait_for(lambda: not workers_in(tmp_path), PATIENCE)
    jobs = [json.loads(path.read_text()) for path in (tmp_path / "served").glob("*/job.json")]
    # The next server goes on with the render.
    assert {job["kind"]: job["state"] for job in jobs} == {"adapt": "failed", "render": "queued"}
    assert all("stopped" in job["message"] for job in jobs if job["kind"] == "adapt")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", [0.15, 0.5, 0.8])
def test_it_ends_while_it_starts(tmp_path: Path, number: int, moment: float, start_seconds: float) -> None:
    with command(tmp_path) as server:
        time.sleep(moment * start_seconds)
        server.end(number)
        said = server.said()
        assert "ended all the same" not in said and ("Traceback" not in said or "KeyboardInterrupt" in said), said


@pytest.fixture(scope="module")
def start_seconds(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long it takes to start, just now."""
    began = time.monotonic()
    with command(tmp_path_factory.mktemp("start")) as server:
        assert server.url
        took = time.monotonic() - began
        assert server.end(signal.SIGTERM) == 0
    return took


@pytest.mark.parametrize("what", HANGS)
def test_it_ends_though_something_hangs(tmp_path: Path, what: str) -> None:
    with command(tmp_path, before=("-c", _COMMAND, "1", HANGS[what])) as server:
        server.wait_for("compiling" if what == "while it compiles" else "Ctrl-C stops it")
        assert server.end(signal.SIGTERM) == 1
        assert "Not everything has stopped in time" in server.said()


def test_ctrl_c_again_ends_it_at_once(tmp_path: Path) -> None:
    with command(tmp_path, before=("-c", _COMMAND, "1000", HANGS["while it closes"])) as server:
        assert server.url
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None
        assert server.end(signal.SIGINT) == 1
