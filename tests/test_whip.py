"""A live picture to a WHIP server: a small one, on loopback, with real packets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytest.importorskip("aiortc", reason="aiortc is not installed")

from aiohttp import web  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from aiortc.mediastreams import MediaStreamError  # noqa: E402
from broadcasting import BRIGHT, DARK, FORM, STEREO, feed, frame, now  # noqa: E402
from live_media import free_port  # noqa: E402

from vidstyle.cli import vidstyle  # noqa: E402
from vidstyle.errors import BadOption, MissingDependency, VideoError  # noqa: E402
from vidstyle.pipeline import BackOff  # noqa: E402
from vidstyle.video.capture.whip import WhipSource  # noqa: E402
from vidstyle.video.output import muxer  # noqa: E402
from vidstyle.video.output.muxer import output_spec  # noqa: E402
from vidstyle.video.output.recorder import Recorder  # noqa: E402
from vidstyle.video.output.whip_child import use_loopback  # noqa: E402

TOKEN = "a-secret"
PATIENCE = 40.0


class Endpoint:
    """A WHIP endpoint at ``/live/whip`` on a thread of its own, that decodes what it gets."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.sounds = 0
        self.deleted: list[str | None] = []
        self.offers: list[str] = []
        self._connections: list[RTCPeerConnection] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(20)

    @property
    def url(self) -> str:
        return f"whip+http://127.0.0.1:{self.port}/live/whip"

    def hang_up(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(20)

    def close(self) -> None:
        self.hang_up()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/live/whip", self._offer)
        app.router.add_delete("/live/session", self._delete)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _hang_up(self) -> None:
        for connection in self._connections:
            await connection.close()
        self._connections.clear()

    async def _offer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        assert request.content_type == "application/sdp"
        offer = await request.text()
        self.offers.append(offer)
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(connection)
        connection.on("track", lambda track: self._loop.create_task(self._take(track)))
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        for transceiver in connection.getTransceivers():
            use_loopback(transceiver)
        await connection.setLocalDescription(await connection.createAnswer())
        answer = connection.localDescription.sdp
        return web.Response(status=201, text=answer, headers={"Location": "session"}, content_type="application/sdp")

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.headers.get("Authorization"))
        return web.Response()

    async def _take(self, track: Any) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                item = await track.recv()
                if track.kind == "video":
                    self.frames.append(item)
                else:
                    self.sounds += 1


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("VIDSTYLE_WHIP_TOKEN", TOKEN)
    made = Endpoint()
    yield made
    made.close()


def recorder(url: str, **options: Any) -> Recorder:
    return Recorder(url, form=FORM, fps=15, back_off=BackOff(0.1, 0.2), **options)


def test_a_server_gets_picture_and_sound_again_and_again_and_is_told_of_the_end(endpoint: Endpoint) -> None:
    with recorder(endpoint.url, sound=STEREO) as stream:
        assert "Opus" in stream.description and TOKEN not in stream.description and "live" not in stream.description
        feed(stream, PATIENCE, fps=15, until=lambda: len(endpoint.frames) > 15 and endpoint.sounds > 20)
        assert stream.failed is None
        got = len(endpoint.frames)
        endpoint.hang_up()
        feed(stream, PATIENCE, fps=15, until=lambda: len(endpoint.frames) > got + 10)
        assert stream.reconnects == 1
    assert wait_until(lambda: endpoint.deleted)
    assert set(endpoint.deleted) == {f"Bearer {TOKEN}"}
    lumas = [float(one.to_ndarray(format="gray").mean()) for one in endpoint.frames]
    assert (endpoint.frames[0].height, endpoint.frames[0].width) == FORM.size
    assert min(lumas) < DARK + 25 and max(lumas) > BRIGHT - 25, "the flashes are in it"
    assert "H264" in endpoint.offers[0] and "opus" in endpoint.offers[0] and "VP8" not in endpoint.offers[0]


def wait_until(condition: Any) -> bool:
    until = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize(
    ("path", "token", "said"),
    [
        ("/live/whip", "wrong", r"wants a bearer token, or another one \(401\)"),
        ("/nothing", TOKEN, r"no WHIP endpoint at that address \(404\)"),
    ],
)
def test_what_a_server_says_is_told(path: str, token: str, said: str, endpoint: Endpoint) -> None:
    with recorder(f"whip+http://{token}@127.0.0.1:{endpoint.port}{path}", sound=None) as stream:
        refused(stream, said)


def test_a_server_that_is_not_there_is_told(unused_port: int = 9) -> None:
    with recorder(f"whip+http://127.0.0.1:{unused_port}/live/whip", sound=None) as stream:
        refused(stream, "Connection refused")


def refused(stream: Recorder, said: str) -> None:
    import re

    def told() -> bool:
        stream.write(frame(now()))
        return stream.failed is not None

    assert wait_until(told)
    assert re.search(said, stream.failed or "") and TOKEN not in (stream.failed or ""), stream.failed


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = output_spec("whip+https://a%2Fb@example.org:8443/x/key?y=1")
    assert (spec.where, spec.options, spec.name) == (
        "https://example.org:8443/x/key?y=1",
        {"token": "a/b"},
        "whip+https://example.org:8443/...",
    )
    monkeypatch.setenv("VIDSTYLE_WHIP_TOKEN", TOKEN)
    assert output_spec("whip+https://example.org/x").options == {"token": TOKEN}
    with pytest.raises(BadOption, match="would show the bearer token"):
        output_spec("whip+http://example.org/x")
    with pytest.raises(BadOption, match="names no host"):
        output_spec("whip+https:///x")
    monkeypatch.setattr(muxer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"vidstyle\[serve\]"):
        output_spec("whip+https://example.org/x")


def test_what_goes_out_by_whip_comes_in_by_whip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_WHIP_TOKEN", TOKEN)
    heard: list[Any] = []
    asked: list[str] = []
    found: list[WhipSource] = []
    port = free_port()

    def receive() -> None:
        found.append(WhipSource(f"whip+http://:{port}/live", on_sound=heard.append, on_waiting=asked.append))

    receiver = threading.Thread(target=receive)
    receiver.start()
    assert wait_until(lambda: asked) and asked == [f"http://127.0.0.1:{port}/live"]
    with recorder(f"whip+http://wrong@127.0.0.1:{port}/live", sound=None) as stream:
        refused(stream, r"\(401\)")
    url, taken = f"whip+http://127.0.0.1:{port}/live", []
    with recorder(url, sound=STEREO) as stream:
        feed(stream, PATIENCE, fps=15, until=lambda: not receiver.is_alive())
        (source,) = found
        assert source.form.size == FORM.size and source.sound_form == STEREO and source.state == "open"
        frames = source.frames()
        reader = threading.Thread(target=lambda: [taken.append(next(frames)) for _ in range(20)])
        reader.start()
        feed(stream, PATIENCE, fps=15, until=lambda: not reader.is_alive() and len(heard) > 20)
        with recorder(url, sound=None) as second:
            refused(second, r"refuses the stream \(409\)")
    steps = np.diff([one.pts for one in taken])
    assert (steps > 0).all() and np.median(steps) == pytest.approx(1e6 / 15, rel=0.2)
    lumas = [float(one.planes[0].mean()) for one in taken]
    assert max(lumas) > BRIGHT - 40 and min(lumas) < DARK + 40
    assert wait_until(lambda: source.state == "lost"), "the sender has said that it ends"
    with recorder(url, sound=None) as stream:
        feed(stream, PATIENCE, fps=15, until=lambda: source.state == "open")
    assert source.reconnects == 1
    source.close()
    assert next(frames, None) is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("whip+http://", "no address"),
        ("whip+http://:99/", "no address"),
        ("whip+http://0.0.0.0:8889/x", "bearer token"),
    ],
)
def test_places_to_listen(address: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=said):
        WhipSource(address)
    words = ["webcam", "--source", address, "--no-window", "--record", str(tmp_path / "out.mkv")]
    result = CliRunner().invoke(vidstyle, words)
    assert result.exit_code == 2 and said in result.output


def test_a_port_that_is_taken_is_told(endpoint: Endpoint) -> None:
    with pytest.raises(VideoError, match=f"cannot listen on 127.0.0.1:{endpoint.port}"):
        WhipSource(f"whip+http://:{endpoint.port}/live")
