"""Who comes is painted as asked for, and who leaves leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from live_media import http_server
from media import make_video
from numpy.typing import NDArray
from visiting import SIZE, Camera, Guest, difference, photo, small_server, until

from vidstyle.gallery import load_style
from vidstyle.serve.app import Server
from vidstyle.stylizer import Stylizer

Body = Callable[[Server], Awaitable[None]]
PATIENCE = 60.0


def with_server(folder: Path, body: Body, **options: Any) -> None:
    """Run ``body`` with a server; a minute and a half is all it gets."""

    async def run() -> None:
        async with asyncio.timeout(100), small_server(folder, **options) as server:
            await body(server)

    asyncio.run(run())


def painted(rgb: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    with Stylizer(load_style(style)) as stylizer:
        return stylizer(rgb)


async def until_seen(guest: Guest, wanted: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    """Wait until the guest's picture is much nearer to ``wanted`` than to ``other``."""
    apart = difference(wanted, other)
    for _ in range(100):
        picture = await guest.see(seconds=PATIENCE)
        if difference(picture, wanted) < 0.3 * apart:
            return
    raise AssertionError(f"{difference(picture, wanted):.1f} from what was wanted, {difference(picture, other):.1f}")


async def answer(http: aiohttp.ClientSession, method: str, url: str, **how: Any) -> tuple[int, Any]:
    async with http.request(method, url, timeout=aiohttp.ClientTimeout(PATIENCE), **how) as response:
        return response.status, await response.json()


def test_a_visitor_sees_the_camera_in_the_look_that_is_asked_for(tmp_path: Path) -> None:
    plain = photo()
    night, scream = painted(plain, "starry_night"), painted(plain, "the_scream")

    async def body(server: Server) -> None:
        look = {"blend": [{"style": "starry_night"}]}
        async with Guest(server.url, camera=Camera(plain), look=look) as guest:
            await until_seen(guest, night, plain)
            assert (await guest.wish(blend=[{"style": "the_scream", "weight": 1}]))[0] == 200
            await until_seen(guest, scream, night)
            status, found = await guest.wish(strength=0)
            assert (status, found["strength"], found["blend"]) == (200, 0, [{"style": "the_scream", "weight": 1}])
            await until_seen(guest, plain, scream)
            assert (await guest.wish(mirror=True))[0] == 200
            await until_seen(guest, plain[:, ::-1], plain)
            assert (await guest.wish(mirror=False, strength=1, split=True))[0] == 200
            half = SIZE[1] // 2
            split = np.concatenate([plain[:, :half], scream[:, half:]], axis=1)
            await until_seen(guest, split, scream)
            facts = await guest.facts()
            assert (facts["state"], facts["source"], facts["size"]) == ("connected", "camera", [SIZE[1], SIZE[0]])
            assert facts["fps"] > 0 and facts["latency_ms"] > 0 and facts["look"]["split"] is True

    with_server(tmp_path, body)


@pytest.mark.parametrize(
    ("look", "word"),
    [
        ({"blend": [{"style": "no such"}]}, "no such"),
        ({"blend": [{"style": "../../etc/passwd"}]}, "no style"),
        ({"blend": [{"style": "great_wave"}] * 5}, "<= 4"),
        ({"blend": [{"style": "great_wave", "weight": -1}]}, "weight"),
        ({"strength": 2}, "strength"),
        ({"mirror": 1}, "mirror"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_look_that_cannot_be_is_refused_and_the_old_one_stays(
    tmp_path: Path, look: dict[str, Any], word: str
) -> None:
    async def body(server: Server) -> None:
        async with Guest(server.url, camera=Camera(photo())) as guest:
            before = (await guest.facts())["look"]
            status, found = await guest.wish(**look)
            assert status == 400 and word in found["error"]
            assert (await guest.facts())["look"] == before

    with_server(tmp_path, body)


def test_each_visitor_has_a_look_of_their_own_and_one_may_leave(tmp_path: Path) -> None:
    plain = photo()
    night, scream = painted(plain, "starry_night"), painted(plain, "the_scream")

    async def body(server: Server) -> None:
        one = Guest(server.url, camera=Camera(plain), look={"blend": [{"style": "starry_night"}]})
        async with Guest(server.url, camera=Camera(plain), look={"blend": [{"style": "the_scream"}]}) as other:
            async with one:
                await until_seen(one, night, scream)
                await until_seen(other, scream, night)
                assert len(server.peers) == 2
            assert len(server.peers) == 1
            await until_seen(other, scream, night)

    with_server(tmp_path, body)


def test_who_sends_no_picture_is_shown_the_servers_own(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", size=SIZE, frames=30)

    async def body(server: Server) -> None:
        async with Guest(server.url) as guest:
            picture = await guest.see(5, seconds=PATIENCE)
            assert picture.shape == (*SIZE, 3) and picture.std() > 5
            assert (await guest.facts())["source"] == "server"

    with_server(tmp_path, body, source=str(film))


def test_the_address_of_the_source_reaches_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    film = make_video(tmp_path / "film.mp4", size=SIZE, frames=10)
    camera = http_server(film).start()

    async def body(server: Server) -> None:
        async with Guest(server.url) as guest:
            await guest.see(2, seconds=PATIENCE)
            _, state = await answer(guest.http, "GET", f"{server.url}api/state")
            assert state["source_description"].startswith(f"a video stream, {SIZE[1]}x{SIZE[0]} at ")
            camera.stop()  # it is played over and over, and so is missed soon
            await until(lambda: len(server.peers) == 0, PATIENCE)
            _, ended = await answer(guest.http, "GET", f"{server.url}api/visitors/{guest.id}")
            assert "http://127.0.0.1" in ended["error"]
            for text in (
                str(state),
                str(ended),
                caplog.text,
                server.peers.source.description if server.peers.source else "",
            ):
                assert not re.search("secret|user|film", text)

    with_server(tmp_path, body, source=f"http://user:se@cret@127.0.0.1:{camera.port}/film.mp4?token=secret")


def test_without_a_source_who_sends_no_picture_is_told(tmp_path: Path) -> None:
    async def body(server: Server) -> None:
        guest = Guest(server.url)
        try:
            wanted = {"sdp": await guest.offer(), "type": "offer"}
            status, found = await answer(guest.http, "POST", f"{server.url}api/visitors", json=wanted)
            assert status == 409 and "no source" in found["error"]
        finally:
            await guest.leave()
        assert len(server.peers) == 0

    with_server(tmp_path, body)


def test_no_more_come_than_may_and_a_place_that_is_left_is_free(tmp_path: Path) -> None:
    async def body(server: Server) -> None:
        second = Guest(server.url, camera=Camera(photo()))
        async with Guest(server.url, camera=Camera(photo())):
            wanted = {"sdp": await second.offer(), "type": "offer"}
            async with second.http.post(f"{server.url}api/visitors", json=wanted) as response:
                assert response.status == 503 and int(response.headers["Retry-After"]) > 0
                assert "1 visitors are being painted" in (await response.json())["error"]
            async with second.http.get(f"{server.url}metrics") as response:
                lines = (await response.text()).splitlines()
            assert {"vidstyle_visitors 1", "vidstyle_visitors_refused_total 1"} <= set(lines)
        await second.leave()
        async with Guest(server.url, camera=Camera(photo())) as third:
            await third.see(seconds=PATIENCE)

    with_server(tmp_path, body, visitors=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda sdp: "",
        lambda sdp: "v=0",
        lambda sdp: sdp.replace("m=video", "m=audio"),
        lambda sdp: sdp.replace("a=sendrecv", "a=sendonly"),
        lambda sdp: sdp.replace("VP8/90000", "X/90000").replace("H264/90000", "Y/90000"),
        lambda sdp: sdp[: len(sdp) // 2],
        lambda sdp: 5,
    ],
)
def test_an_offer_that_cannot_be_answered_leaves_nobody(tmp_path: Path, change: Callable[[str], Any]) -> None:
    async def body(server: Server) -> None:
        guest = Guest(server.url, camera=Camera(photo()))
        try:
            wanted = {"sdp": change(await guest.offer()), "type": "offer"}
            status, found = await answer(guest.http, "POST", f"{server.url}api/visitors", json=wanted)
            assert status == 400 and found["error"]
        finally:
            await guest.leave()
        assert len(server.peers) == 0 and server.scheduler.is_idle

    with_server(tmp_path, body)


@pytest.mark.parametrize("politely", [True, False])
def test_of_a_visitor_who_leaves_nothing_stays(tmp_path: Path, politely: bool) -> None:
    async def body(server: Server) -> None:
        tasks, threads = asyncio.all_tasks(), threading.active_count()
        guest = Guest(server.url, camera=Camera(photo()))
        await guest.come()
        await guest.see(3, seconds=PATIENCE)
        gone = [weakref.ref(thing) for one in server.peers for thing in (one, one.mailbox, one.connection)]
        assert len(gone) == 3
        await guest.leave(politely=politely)
        await until(lambda: len(server.peers) == 0, PATIENCE)
        del guest
        await until(lambda: server.scheduler.is_idle, PATIENCE)
        # Those of the pool that encodes stay, ready for the next.
        decoders = lambda: [thread for thread in threading.enumerate() if "decoder" in thread.name]  # noqa: E731
        await until(lambda: not decoders(), PATIENCE)
        await until(lambda: asyncio.all_tasks() <= tasks, PATIENCE)
        await until(lambda: gc.collect() >= 0 and not any(ref() for ref in gone), 20)
        assert threading.active_count() <= threads + 8
        status, found = await answer_of_health(server)
        assert status == 200 and found["ok"]

    async def answer_of_health(server: Server) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as http:
            return await answer(http, "GET", f"{server.url}health")

    with_server(tmp_path, body)


def test_a_visitor_from_whom_nothing_comes_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.webrtc.IDLE_SECONDS", 2.0)

    async def body(server: Server) -> None:
        guest = Guest(server.url, camera=Camera(photo()))
        try:
            await guest.come()
            await guest.see(seconds=PATIENCE)
            assert guest.camera is not None
            guest.camera.paused = True
            await until(lambda: len(server.peers) == 0, PATIENCE)
            async with guest.http.get(f"{server.url}api/visitors/{guest.id}") as response:
                assert response.status == 404
        finally:
            await guest.leave(politely=False)

    with_server(tmp_path, body)
