"""Jobs: queued, done by a worker, kept on disk, read back as if a stranger had written it."""

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
from jobserver import LONG, Served, files_in, options_for, serve
from media import make_video, read_contents
from pictures import painting, save

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, shared_network
from vidstyle.imaging.image_io import read_still
from vidstyle.serve.http import ApiError
from vidstyle.serve.job import PREVIEW, STATE, STYLE, DamagedJob, Job, JobLimits, Point, new_id, owner_of
from vidstyle.serve.jobs import Jobs
from vidstyle.stylizer import Stylizer


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A painting that became a style: the folder, the answers on the way, and the cookie of its visitor."""
    folder = tmp_path_factory.mktemp("adapted")
    found: dict[str, Any] = {"folder": folder, "seen": [], "styles": {}, "previews": set()}

    async def body(served: Served) -> None:
        def changed(job: Job) -> None:
            found["seen"].append((job.state, job.step, job.progress))
            for style in served.jobs.user_styles().values():
                found["styles"].setdefault(style.step, style.style())
            if job.file(PREVIEW):
                found["previews"].add((job.folder / PREVIEW).read_bytes())

        served.jobs.on_change.append(changed)
        picture = save(painting(1, (64, 80)), folder.parent / "painting.png")
        found["first"] = await served.upload("adapt", picture, name="../Blue.png", title="Blue \x00 strokes")
        found["listed"] = (await served.json("GET", "/api/styles"))[-1]
        found["last"] = await served.until(found["first"]["id"], "done")
        found["session"] = served.client.session.cookie_jar.filter_cookies(served.server.make_url("/"))[
            "vidstyle_session"
        ].value

    serve(folder / "jobs", body)
    return found


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


def test_what_is_over_survives_a_restart_of_the_server(adapted: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(adapted["folder"] / "jobs", tmp_path / "jobs")

    async def body(served: Served) -> None:
        served.client.session.cookie_jar.update_cookies({"vidstyle_session": adapted["session"]})
        assert await served.json("GET", "/api/jobs") == [adapted["last"]]
        assert list(served.jobs.user_styles()) == [f"mine/{adapted['first']['id']}"]
        async with served.stranger() as other:
            assert await other.json("GET", "/api/jobs") == []

    serve(tmp_path / "jobs", body)


def test_the_result_is_a_style_file_like_any_other(adapted: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(adapted["folder"] / "jobs", tmp_path / "jobs")

    async def body(served: Served) -> None:
        served.client.session.cookie_jar.update_cookies({"vidstyle_session": adapted["session"]})
        id = adapted["first"]["id"]
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

    serve(tmp_path / "jobs", body)
    style = load_style(tmp_path / "mine.safetensors")
    assert style.card["painting"] == "Blue strokes" and style.card["steps"] == 8
    with Stylizer(style) as stylizer:
        assert stylizer(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)
    assert read_still(tmp_path / "preview.jpg").size[1] == 64


def test_nothing_is_kept_that_is_not_needed(adapted: dict[str, Any]) -> None:
    id = adapted["first"]["id"]
    assert files_in(adapted["folder"] / "jobs") == {".server", *(f"{id}/{name}" for name in (STATE, STYLE, PREVIEW))}
    assert adapted["session"] not in (adapted["folder"] / "jobs" / id / STATE).read_text()


def test_a_kept_style_outlives_its_job_and_is_seen_by_all(adapted: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(adapted["folder"] / "jobs", tmp_path / "jobs")
    id = adapted["first"]["id"]

    async def keep(served: Served) -> None:
        async with served.stranger() as other:
            served.client.session.cookie_jar.update_cookies({"vidstyle_session": adapted["session"]})
            await other.json("POST", f"/api/jobs/{id}/keep", 404)
            assert all(style["job"] is None for style in await other.json("GET", "/api/styles"))
            assert (await served.json("POST", f"/api/jobs/{id}/keep"))["kept"] is True
            await served.json("DELETE", f"/api/jobs/{id}")
            assert await served.json("GET", "/api/jobs") == []
            await served.json("GET", f"/api/jobs/{id}", 404)
            mine, theirs = [(await each.json("GET", "/api/styles"))[-1] for each in (served, other)]
            assert (mine["mine"], theirs["mine"], theirs["job"], theirs["kept"]) == (True, False, None, True)
            assert mine["name"] == theirs["name"] == f"mine/{id}"

    serve(tmp_path / "jobs", keep)

    async def after(served: Served) -> None:
        assert (await served.json("GET", "/api/styles"))[-1]["name"] == f"mine/{id}"

    serve(tmp_path / "jobs", after)


def test_a_video_is_rendered_in_a_blend_with_an_own_style(adapted: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(adapted["folder"] / "jobs", tmp_path / "jobs")
    video = make_video(tmp_path / "in.mp4", size=(48, 64), frames=12)
    blend = [{"style": f"mine/{adapted['first']['id']}", "weight": 2}, {"style": "great_wave", "weight": 1}]

    async def body(served: Served) -> None:
        first = await served.upload("render", video, name="a/b/Holiday.mp4", blend=json.dumps(blend), strength="0.8")
        assert (first["title"], first["kind"], first["steps"]) == ("Holiday", "render", 12)
        last = await served.until(first["id"], "done")
        assert (last["progress"], last["step"], last["style"]) == (1.0, 12, None)
        async with served.client.get("/" + last["result"]) as response:
            assert response.content_type == "video/mp4"
            (tmp_path / "out.mp4").write_bytes(await response.read())
        async with served.client.get("/" + last["preview"]) as response:
            assert (await response.read()).startswith(b"\xff\xd8")
        folder = tmp_path / "jobs" / first["id"]
        assert files_in(folder) == {STATE, "video.mp4", PREVIEW}
        await served.json("DELETE", f"/api/jobs/{first['id']}")
        assert not folder.exists()

    serve(tmp_path / "jobs", body)
    assert len(read_contents(tmp_path / "out.mp4").pts) == 12


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_job_that_is_cancelled_ends_at_once_and_the_next_one_begins(tmp_path: Path) -> None:
    picture = save(painting(2), tmp_path / "painting.png")

    async def body(served: Served) -> None:
        one, two = [await served.upload("adapt", picture) for _ in range(2)]
        assert (one["ahead"], two["ahead"]) == (0, 1)
        while not (await served.json("GET", f"/api/jobs/{one['id']}"))["curve"]:
            await asyncio.sleep(0.05)
        worker = served.jobs.worker
        assert worker is not None
        pid = worker.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert os.getpgid(pid) == pid and os.getsid(pid) == os.getsid(0)
        began = time.monotonic()
        assert (await served.json("DELETE", f"/api/jobs/{one['id']}"))["state"] == "cancelled"
        await served.until(two["id"], "running")
        assert time.monotonic() - began < 30 and not alive(pid)  # all its steps take minutes
        assert files_in(tmp_path / "jobs" / one["id"]) == {STATE}
        assert [style.job for style in served.jobs.user_styles().values()] == [two["id"]]
        # A style that is deleted takes its running job along.
        await served.json("DELETE", f"/api/styles/mine/{two['id']}")
        await served.json("GET", f"/api/jobs/{two['id']}", 404)
        while served.jobs.worker is not None:
            await asyncio.sleep(0.02)
        assert files_in(tmp_path / "jobs") == {".server", f"{one['id']}/{STATE}"}

    serve(tmp_path / "jobs", body, budget=LONG)


def test_a_worker_that_dies_fails_its_job_alone_and_in_words(tmp_path: Path) -> None:
    picture = save(painting(2), tmp_path / "painting.png")

    async def body(served: Served) -> None:
        one = await served.upload("adapt", picture)
        await served.until(one["id"], "running")
        while served.jobs.worker is None:
            await asyncio.sleep(0.02)
        os.kill(served.jobs.worker.pid, signal.SIGKILL)
        job = await served.until(one["id"], "failed")
        assert job["message"] == "the worker died: signal 9"
        assert job["style"] is None and files_in(tmp_path / "jobs" / one["id"]) == {STATE}
        # The next one: a picture whose header is fine and whose pixels are not.
        two = await served.upload("adapt", picture.read_bytes()[:-40], name="Torn.png")
        job = await served.until(two["id"], "failed")
        assert "Torn" in job["message"] and str(tmp_path) not in job["message"] and "\n" not in job["message"]

    serve(tmp_path / "jobs", body, budget=LONG)


def test_a_worker_that_hangs_is_stopped(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        one = await served.upload("adapt", save(painting(2), tmp_path / "painting.png"))
        job = await served.until(one["id"], "failed")
        assert job["message"].startswith("the worker was stopped: it was silent")

    serve(tmp_path / "jobs", body, budget=LONG, limits=JobLimits(silence_seconds=0.05))


def test_a_server_that_stops_fails_what_was_under_way(tmp_path: Path) -> None:
    ids = []

    async def body(served: Served) -> None:
        for _ in range(2):
            ids.append((await served.upload("adapt", save(painting(2), tmp_path / "painting.png")))["id"])
        await served.until(ids[0], "running")

    serve(tmp_path / "jobs", body, budget=LONG)
    for id in ids:
        job = Job.read(tmp_path / "jobs" / id)
        assert job.state == "failed" and "the server was stopped" in job.message
        assert files_in(job.folder) == {STATE}


def test_what_a_killed_server_left_is_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    running, orphan, damaged = (folder / new_id() for _ in range(3))
    for each in (running, orphan, damaged):
        each.mkdir(parents=True)
        (each / "input").write_bytes(b"x")
    Job(running, "0" * 32, "render", "x", state="running").write()
    (damaged / STATE).write_text("{")
    (folder / "notes.txt").write_text("not ours")

    async def body(served: Served) -> None:
        job = served.jobs.get(running.name)
        assert job.state == "failed" and "submit it again" in job.message

    serve(folder, body)
    damage = {f"{damaged.name}/{name}" for name in ("input", STATE)}
    assert files_in(folder) == {".server", "notes.txt", f"{running.name}/{STATE}", *damage}


def test_a_folder_serves_one_server(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        with pytest.raises(BadOption, match="another `vidstyle serve`"):
            await Jobs(options_for(tmp_path / "jobs")).start()

    serve(tmp_path / "jobs", body)

    async def unwritable() -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(BadOption, match="--folder"):
            await Jobs(options_for(tmp_path / "file" / "jobs")).start()

    asyncio.run(unwritable())


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    picture = save(painting(2), tmp_path / "painting.png")

    async def body(served: Served) -> None:
        one = await served.upload("adapt", picture)
        await served.until(one["id"], "running")
        await served.upload("adapt", picture)
        found = await served.upload("adapt", picture, 429)
        assert "queue is full" in found["error"]
        assert len([path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]) == 2
        await served.json("GET", f"/api/jobs/{one['id']}/result", 409)

    serve(tmp_path / "jobs", body, budget=LONG, queue=1)


def test_old_jobs_go_and_kept_styles_stay(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    ids = [new_id() for _ in range(6)]
    for days, id in enumerate(ids):
        (folder / id).mkdir()
        load_style("great_wave").save(folder / id / STYLE)
        ended = time.time() - 86400 * days
        Job(folder / id, owner_of("me"), "adapt", "x", "done", created=ended, ended=ended, kept=id == ids[-1]).write()
    left: list[set[str]] = []

    async def body(served: Served) -> None:
        left.append({job.id for job in served.jobs.of("me")})
        with pytest.raises(ApiError, match="disk space"):
            served.jobs.keep(served.jobs.get(ids[0]))

    serve(folder, body, limits=JobLimits(max_age_days=3.5, max_bytes=20 << 20))
    serve(folder, body, limits=JobLimits(max_bytes=1))
    assert left == [{ids[0], ids[-1]}] * 2, "a job is charged 16 MiB, and the newest one stays"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {ids[0], ids[-1]}


def test_jobs_within_the_limits_stay(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    ids = [new_id() for _ in range(3)]
    for days, id in enumerate(ids):
        (folder / id).mkdir(parents=True)
        ended = time.time() - 86400 * days
        Job(folder / id, owner_of("me"), "adapt", "x", "failed", created=ended, ended=ended).write()

    async def body(served: Served) -> None:
        assert [job.id for job in served.jobs.of("me")] == ids

    serve(folder, body, limits=JobLimits(max_age_days=2.5))

    async def fewer(served: Served) -> None:
        assert [job.id for job in served.jobs.of("me")] == ids[:2]

    serve(folder, fewer, limits=JobLimits(max_bytes=33 << 20))


def test_a_job_is_its_sessions_own(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        one = await served.upload("adapt", save(painting(2), tmp_path / "painting.png"))
        path = f"/api/jobs/{one['id']}"
        async with served.stranger() as other:
            for method, what in (
                ("GET", ""),
                ("DELETE", ""),
                ("GET", "/result"),
                ("GET", "/preview"),
                ("POST", "/keep"),
            ):
                await other.json(method, path + what, 404)
            assert await other.json("GET", "/api/jobs") == []
        assert len(await served.json("GET", "/api/jobs")) == 1

    serve(tmp_path / "jobs", body, budget=LONG)


def test_the_cookie_is_no_business_of_scripts_or_other_sites(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        async with served.client.get("/api/jobs") as response:
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        async with served.client.get("/api/jobs") as response:
            assert "Set-Cookie" not in response.headers
        async with served.stranger() as other:
            headers = {"Cookie": "vidstyle_session=guessed"}
            async with other.client.get("/api/jobs", headers=headers) as response:
                assert "guessed" not in response.headers["Set-Cookie"]

    serve(tmp_path / "jobs", body)


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [
        ("adapt", {"steps": "0"}, "steps is 0"),
        ("adapt", {"steps": "1001"}, "between 1 and 1000"),
        ("adapt", {"steps": "-5"}, "whole number"),
        ("adapt", {"steps": "1e3"}, "whole number"),
        ("adapt", {"steps": "²"}, "whole number"),
        ("adapt", {"steps": "9" * 30}, "between 1 and 1000"),
        ("render", {"strength": "nan"}, "strength"),
        ("render", {"strength": "2"}, "between 0 and 1"),
        ("render", {"strength": "strong"}, "number"),
        ("render", {"blend": "[]"}, ">= 1"),
        ("render", {"blend": "{"}, "JSON"),
        ("render", {"blend": "[" * 4000}, "JSON"),
        ("render", {"blend": '[{"style": "../x"}]'}, "no style '../x'"),
        ("render", {"blend": '[{"style": "great_wave", "weight": -1}]'}, "weight"),
        ("render", {"blend": '[{"style": "great_wave", "weight": NaN}]'}, "JSON"),
        ("render", {"blend": '[{"style": "great_wave", "weight": true}]'}, "weight"),
        ("render", {"blend": '[{"style": ["great_wave"]}]'}, "[0].style"),
        ("render", {"blend": '[{"style": "great_wave", "weight": 0}]'}, "above 0"),
        ("render", {"blend": '[{"style": "great_wave"}, {"style": "paper/great_wave"}]'}, "cannot be blended"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(tmp_path: Path, kind: str, fields: dict[str, str], word: str) -> None:
    async def body(served: Served) -> None:
        found = await served.upload(kind, save(painting(2), tmp_path / "painting.png"), 400, **fields)
        assert word in found["error"]

    serve(tmp_path / "jobs", body)
    assert files_in(tmp_path / "jobs") == {".server"}


def test_without_torch_adapting_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(served: Served) -> None:
        found = await served.upload("adapt", b"x", 501)
        assert "pip install 'vidstyle[train]'" in found["error"]

    monkeypatch.setitem(sys.modules, "torch", None)
    serve(tmp_path / "jobs", body)


def a_job(folder: Path) -> dict[str, Any]:
    """What `Job.write` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, owner_of("me"), "adapt", "Blue", state="done", curve=[Point(0, 1.0, 2.0, 3.0)], ended=5.0)
    job.write()
    found = json.loads((folder / STATE).read_text())
    assert isinstance(found, dict)
    return found


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / new_id()
    a_job(folder)
    job = Job.read(folder)
    assert (job.title, job.state, job.curve, job.ended) == ("Blue", "done", [Point(0, 1.0, 2.0, 3.0)], 5.0)
    assert job.id == folder.name and not job.kept


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "../x"},
        {"owner": None},
        {"kind": "shell"},
        {"kind": ["adapt"]},
        {"state": "happy"},
        {"title": 7},
        {"step": -1},
        {"step": 1.5},
        {"step": True},
        {"step": 10**400},
        {"seconds": "long"},
        {"progress": float("nan")},
        {"progress": float("inf")},
        {"created": -1},
        {"ended": {}},
        {"curve": 3},
        {"curve": [[0, 1]]},
        {"curve": [[0, 1, 2, float("nan")]]},
        {"curve": [None]},
        {"message": []},
    ],
)
def test_a_damaged_state_is_no_job(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / new_id()
    (folder / STATE).write_text(json.dumps({**a_job(folder), **change}))
    with pytest.raises(DamagedJob):
        Job.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"' + "x" * 300_000 + '"', "{}", "\xff"])
def test_what_is_not_json_of_a_job_is_no_job(tmp_path: Path, text: str) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    (folder / STATE).write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedJob):
        Job.read(folder)


def test_a_state_cannot_point_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / new_id()
    secret = tmp_path / "secret"
    secret.write_text("s")
    state = {**a_job(folder), "folder": "/etc", "result": "/etc/passwd", "kind": "adapt", "message": "m" * 10_000}
    (folder / STATE).write_text(json.dumps(state))
    os.symlink(secret, folder / STYLE)
    os.symlink(secret, folder / PREVIEW)
    job = Job.read(folder)
    assert job.folder == folder and len(job.message) < 1000
    assert job.result is None and job.file(PREVIEW) is None
    (folder / STATE).rename(tmp_path / "state")
    os.symlink(tmp_path / "state", folder / STATE)
    with pytest.raises(DamagedJob):
        Job.read(folder)


def test_ids_are_random_and_long() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000 and len(new_id()) == 32
