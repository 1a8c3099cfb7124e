"""Jobs: queued, run by a worker, kept on disk within limits, and each its session's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobserver import JOB_SECONDS, LONG, SESSION, alive, files_in, options_for, serve
from media import Audio, make_video, read_contents
from pictures import painting, save

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, shared_network
from vidstyle.imaging.image_io import read_still
from vidstyle.serve.http import ApiError
from vidstyle.serve.job import PREVIEW, STATE, STYLE, Job, JobLimits, new_id, owner_of
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.render_settings import user_style
from vidstyle.stylizer import Stylizer

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A painting that became a style: the folder, the answers on the way, and the cookie of its visitor."""
    folder = tmp_path_factory.mktemp("adapted")
    found: dict[str, Any] = {"folder": folder, "seen": [], "styles": {}, "previews": set()}

    async def run() -> None:
        async with serve(folder / "jobs") as served:

            def changed(job: Job) -> None:
                found["seen"].append((job.state, job.step, job.progress))
                for made in served.jobs.user_styles().values():
                    found["styles"].setdefault(made.published, user_style(made))
                if job.file(PREVIEW):
                    found["previews"].add((job.folder / PREVIEW).read_bytes())

            served.jobs.on_change.append(changed)
            picture = save(painting(1, (64, 80)), folder.parent / "painting.png")
            found["first"] = await served.upload("adapt", picture, name="../Blue.png", title="Blue \x00 strokes")
            found["listed"] = (await served.json("GET", "/api/styles"))[-1]
            found["last"] = await served.until(found["first"]["id"], "done")
            cookies = served.client.session.cookie_jar.filter_cookies(served.server.make_url("/"))
            found["session"] = cookies["vidstyle_session"].value

    asyncio.run(run())
    return found


@pytest.fixture
def jobs(adapted: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the folder of `adapted`."""
    return Path(shutil.copytree(adapted["folder"] / "jobs", tmp_path / "jobs"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(painting(2), tmp_path / "painting.png")


def test_a_painting_becomes_a_style_that_improves_while_it_learns(adapted: dict[str, Any]) -> None:
    first, last = adapted["first"], adapted["last"]
    assert (first["state"], first["kind"], first["steps"], first["title"]) == ("queued", "adapt", 8, "Blue strokes")
    # It is in the gallery before anything was learned,
    assert (adapted["listed"]["name"], adapted["listed"]["step"]) == (f"mine/{first['id']}", None)
    assert adapted["styles"][None].network is shared_network("fast")
    # and gets better on the way.
    assert list(adapted["styles"]) == [None, 0, 4, 8]
    assert len({style.network.digest for style in adapted["styles"].values()}) == 3, "every weight is learned"
    assert {style.theta for style in adapted["styles"].values()} == {shared_network("fast").digest}
    assert len(adapted["previews"]) >= 2
    assert [point["step"] for point in last["curve"]] == [0, 4, 8]
    assert last["curve"][-1]["total"] < last["curve"][0]["total"]
    assert (last["progress"], last["step"], last["message"]) == (1.0, 8, "")
    steps = [step for _, step, _ in adapted["seen"]]
    assert steps == sorted(steps) and {state for state, *_ in adapted["seen"]} == {"queued", "running", "done"}


async def test_jobs_survive_a_restart_and_the_result_is_a_style_file_like_any_other(
    adapted: dict[str, Any], jobs: Path, tmp_path: Path
) -> None:
    id = adapted["first"]["id"]
    assert files_in(jobs) == {".server", *(f"{id}/{name}" for name in (STATE, STYLE, PREVIEW))}, "no more is needed"
    assert adapted["session"] not in (jobs / id / STATE).read_text()
    async with serve(jobs) as served:
        served.become(adapted["session"])
        assert await served.json("GET", "/api/jobs") == [adapted["last"]]
        assert list(served.jobs.user_styles()) == [f"mine/{id}"]
        async with served.stranger() as other:
            assert await other.json("GET", "/api/jobs") == []
        async with served.client.get(f"/api/jobs/{id}/result") as response:
            assert response.headers["Content-Disposition"].startswith('attachment; filename="Blue strokes.safetensors"')
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            (tmp_path / "mine.safetensors").write_bytes(await response.read())
        async with served.client.get(f"/api/jobs/{id}/result", headers={"Range": "bytes=2-5"}) as response:
            assert response.status == 206
            assert await response.read() == (tmp_path / "mine.safetensors").read_bytes()[2:6]
        async with served.client.get(f"/api/jobs/{id}/preview") as response:
            assert response.content_type == "image/jpeg"
            (tmp_path / "preview.jpg").write_bytes(await response.read())
    style = load_style(tmp_path / "mine.safetensors")
    assert style.card["painting"] == "Blue strokes" and style.card["steps"] == 8
    with Stylizer(style) as stylizer:
        assert stylizer(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)
    assert read_still(tmp_path / "preview.jpg").size[1] == 64


async def test_a_kept_style_outlives_its_job_and_is_seen_by_all(adapted: dict[str, Any], jobs: Path) -> None:
    id = adapted["first"]["id"]
    async with serve(jobs) as served, served.stranger() as other:
        served.become(adapted["session"])
        await other.json("POST", f"/api/jobs/{id}/keep", 404)
        assert all(style["job"] is None for style in await other.json("GET", "/api/styles"))
        assert (await served.json("POST", f"/api/jobs/{id}/keep"))["kept"] is True
        await served.json("DELETE", f"/api/jobs/{id}")
        assert await served.json("GET", "/api/jobs") == []
        await served.json("GET", f"/api/jobs/{id}", 404)
        mine, theirs = [(await each.json("GET", "/api/styles"))[-1] for each in (served, other)]
        assert (mine["mine"], theirs["mine"], theirs["job"], theirs["kept"]) == (True, False, None, True)
        assert mine["name"] == theirs["name"] == f"mine/{id}"
    async with serve(jobs) as served:
        assert (await served.json("GET", "/api/styles"))[-1]["name"] == f"mine/{id}"


async def test_a_video_is_rendered_in_a_blend_with_a_user_style(
    adapted: dict[str, Any], jobs: Path, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "in.mp4", size=(48, 64), frames=12)
    blend = [{"style": f"mine/{adapted['first']['id']}", "weight": 2}, {"style": "great_wave", "weight": 1}]
    async with serve(jobs) as served:
        look = {"blend": json.dumps(blend), "strength": "0.8", "mask": "background"}
        first = await served.upload("render", video, name="a/b/Holiday.mp4", **look)
        assert (first["title"], first["kind"], first["steps"]) == ("Holiday", "render", 12)
        last = await served.until(first["id"], "done")
        assert (last["progress"], last["step"], last["style"]) == (1.0, 12, None)
        async with served.client.get("/" + last["result"]) as response:
            assert response.content_type == "video/mp4"
            (tmp_path / "out.mp4").write_bytes(await response.read())
        async with served.client.get("/" + last["preview"]) as response:
            assert (await response.read()).startswith(b"\xff\xd8")
        folder = jobs / first["id"]
        assert files_in(folder) == {STATE, "video.mp4", PREVIEW}
        await served.json("DELETE", f"/api/jobs/{first['id']}")
        assert not folder.exists()
    assert len(read_contents(tmp_path / "out.mp4").pts) == 12


@needs_proc
async def test_a_job_that_is_cancelled_ends_at_once_and_the_next_one_begins(tmp_path: Path, picture: Path) -> None:
    async with serve(tmp_path / "jobs", budget=LONG) as served:
        one, two = [await served.upload("adapt", picture) for _ in range(2)]
        assert (one["ahead"], two["ahead"]) == (0, 1)
        async with served.stranger() as other:
            for request in ("GET ", "DELETE ", "GET /result", "GET /preview", "POST /keep"):
                method, what = request.split(" ")
                await other.json(method, f"/api/jobs/{one['id']}{what}", 404)
            assert await other.json("GET", "/api/jobs") == []
        while not (await served.json("GET", f"/api/jobs/{one['id']}"))["curve"]:
            await asyncio.sleep(0.05)
        await served.json("GET", f"/api/jobs/{one['id']}/result", 409)
        worker = served.jobs.worker
        assert worker is not None and os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
        assert os.getpgid(worker.pid) == worker.pid and os.getsid(worker.pid) == os.getsid(0)
        began = time.monotonic()
        assert (await served.json("DELETE", f"/api/jobs/{one['id']}"))["state"] == "cancelled"
        await served.until(two["id"], "running")
        assert time.monotonic() - began < 30 and not alive(worker.pid)  # all its steps take minutes
        assert files_in(tmp_path / "jobs" / one["id"]) == {STATE}
        assert list(served.jobs.user_styles()) == [two["style"]]
        # A style that is deleted takes its running job along.
        await served.json("DELETE", f"/api/styles/mine/{two['id']}")
        await served.json("GET", f"/api/jobs/{two['id']}", 404)
        while served.jobs.worker is not None:
            await asyncio.sleep(0.02)
        assert files_in(tmp_path / "jobs") == {".server", f"{one['id']}/{STATE}"}


async def test_a_worker_that_dies_fails_its_job_alone_and_in_words(tmp_path: Path, picture: Path) -> None:
    async with serve(tmp_path / "jobs", budget=LONG, queue=1) as served:
        one = await served.upload("adapt", picture)
        await served.until(one["id"], "running")
        while served.jobs.worker is None:
            await asyncio.sleep(0.02)
        # The next one: a picture whose header is fine and whose pixels are not.
        two = await served.upload("adapt", picture.read_bytes()[:-40], name="Torn.png")
        assert "queue is full" in (await served.upload("adapt", picture, 429))["error"]
        assert len([path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]) == 2
        os.kill(served.jobs.worker.pid, signal.SIGKILL)
        job = await served.until(one["id"], "failed")
        assert job["message"] == "the worker died: signal 9"
        assert job["style"] is None and files_in(tmp_path / "jobs" / one["id"]) == {STATE}
        job = await served.until(two["id"], "failed")
        assert "Torn" in job["message"] and str(tmp_path) not in job["message"] and "\n" not in job["message"]


async def test_a_worker_that_hangs_is_stopped(tmp_path: Path, picture: Path) -> None:
    async with serve(tmp_path / "jobs", budget=LONG, limits=JobLimits(silence_seconds=0.05)) as served:
        one = await served.upload("adapt", picture)
        assert "it was silent" in (await served.until(one["id"], "failed"))["message"]


async def test_a_server_that_stops_fails_what_was_under_way(tmp_path: Path, picture: Path) -> None:
    async with serve(tmp_path / "jobs", budget=LONG) as served:
        ids = [(await served.upload("adapt", picture))["id"] for _ in range(2)]
        await served.until(ids[0], "running")
    for id in ids:
        job = Job.read(tmp_path / "jobs" / id)
        assert job.state == "failed" and "the server was stopped" in job.message
        assert files_in(job.folder) == {STATE}


async def test_a_render_goes_on_with_the_next_server(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", rate=2, frames=120, audio=[Audio(seconds=2)], options={"g": "10"})
    async with serve(tmp_path / "jobs", max_seconds=90.0) as served:
        served.become(SESSION)
        id = (await served.upload("render", video))["id"]
        parts = tmp_path / "jobs" / id / "video.mp4.parts"
        async with asyncio.timeout(JOB_SECONDS):
            while not list(parts.glob("0*.json")):
                await asyncio.sleep(0.02)
    assert Job.read(tmp_path / "jobs" / id).state == "queued"
    done = {path: path.stat().st_mtime_ns for path in parts.glob("0*.json")}
    assert 1 <= len(done) <= 2
    async with serve(tmp_path / "jobs", max_seconds=90.0) as served:
        served.become(SESSION)
        await served.until(id, "running")
        assert {path: path.stat().st_mtime_ns for path in done} == done
        last = await served.until(id, "done")
    assert (last["step"], last["message"]) == (120, "")
    assert files_in(tmp_path / "jobs" / id) == {STATE, PREVIEW, "video.mp4"}
    made, original = read_contents(tmp_path / "jobs" / id / "video.mp4"), read_contents(video)
    assert (made.pts, made.packets) == (original.pts, original.packets)


async def test_what_a_killed_server_left_is_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    running, orphan, damaged = (folder / new_id() for _ in range(3))
    for each in (running, orphan, damaged):
        each.mkdir(parents=True)
        (each / "input").write_bytes(b"x")
    Job(running, "0" * 32, "render", "x", state="running").write()
    (damaged / STATE).write_text("{")
    (folder / "notes.txt").write_text("not ours")
    async with serve(folder) as served:
        job = served.jobs.get(running.name)
        assert job.state == "failed" and "submit it again" in job.message
    damage = {f"{damaged.name}/{name}" for name in ("input", STATE)}
    assert files_in(folder) == {".server", "notes.txt", f"{running.name}/{STATE}", *damage}


async def test_a_folder_serves_one_server(tmp_path: Path) -> None:
    async with serve(tmp_path / "jobs"):
        with pytest.raises(BadOption, match="another `vidstyle serve`"):
            await Jobs(options_for(tmp_path / "jobs")).start()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOption, match="--folder"):
        await Jobs(options_for(tmp_path / "file" / "jobs")).start()


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (JobLimits(), [0, 1, 2, 3]),
        (JobLimits(max_age_days=1.5), [0, 1, 3]),
        (JobLimits(max_bytes=50 << 20), [0, 1, 3]),  # a job is charged 16 MiB at least
        (JobLimits(max_bytes=1), [0, 3]),  # the newest one stays, as does a kept one
    ],
)
async def test_old_jobs_go_and_kept_styles_stay(tmp_path: Path, limits: JobLimits, left: list[int]) -> None:
    ids = [new_id() for _ in range(4)]
    for days, id in enumerate(ids):
        folder = tmp_path / "jobs" / id
        folder.mkdir(parents=True)
        load_style("great_wave").save(folder / STYLE)
        ended = time.time() - 86400 * days
        Job(folder, owner_of("me"), "adapt", "x", "done", created=ended, ended=ended, kept=days == 3).write()
    async with serve(tmp_path / "jobs", limits=limits) as served:
        assert [job.id for job in served.jobs.of("me")] == [ids[days] for days in left]
        assert {path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()} == {ids[days] for days in left}
        if limits.max_bytes == 1:
            with pytest.raises(ApiError, match="disk space"):
                served.jobs.keep(served.jobs.get(ids[0]))
