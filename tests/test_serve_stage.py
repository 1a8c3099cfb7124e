"""OSC packets and the beat at the server: what visitors see, those who come later, those who choose for themselves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="aiortc is not installed")
pytest.importorskip("pythonosc", reason="python-osc is not installed")

from pythonosc.osc_message import OscMessage  # noqa: E402
from pythonosc.udp_client import SimpleUDPClient  # noqa: E402
from visiting import SIZE, Camera, Guest, difference, photo, until  # noqa: E402

from vidstyle.errors import BadOption  # noqa: E402
from vidstyle.options import BackendOptions, StageOptions  # noqa: E402
from vidstyle.serve.app import Server  # noqa: E402
from vidstyle.serve.config import ServeOptions  # noqa: E402


def staged(folder: Path, **stage: Any) -> Server:
    options = ServeOptions(port=0, folder=folder / "served", size=SIZE)
    return Server(options, backend=BackendOptions(threads=2), stage=StageOptions(osc="0", **stage))


def send(server: Server, address: str, *values: Any) -> None:
    assert server.stage is not None and server.stage.control.osc is not None
    with SimpleUDPClient("127.0.0.1", server.stage.control.osc.port) as client:
        client.send_message(f"/vidstyle/{address}", list(values))


async def look_is(guest: Guest, **wanted: Any) -> None:
    found: dict[str, Any] = {}
    for _ in range(500):
        found = (await guest.facts())["look"]
        if all(found[name] == value for name, value in wanted.items()):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{found} is not {wanted}")


async def test_a_message_changes_what_all_see_and_what_they_see_who_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = photo()
    scream = [{"style": "the_scream", "weight": 1.0}]
    with socket.socket(type=socket.SOCK_DGRAM) as desk:
        desk.bind(("127.0.0.1", 0))
        desk.setblocking(False)
        out = f"127.0.0.1:{desk.getsockname()[1]}"
        async with staged(tmp_path, osc_out=out) as server, Guest(server.url, camera=Camera(plain)) as one:
            await one.see()
            send(server, "style", "the_scream")
            send(server, "strength", 0.0)
            send(server, "fade", 0.0)
            await look_is(one, blend=scream, strength=0)
            seen = np.zeros_like(plain)
            for _ in range(100):
                seen = await one.see()
                if difference(seen, plain) < 6:
                    break
            assert difference(seen, plain) < 6, "without strength it is the source"
            await one.wish(strength=1, mirror=True)
            await look_is(one, strength=1, mirror=True, blend=scream)
            async with Guest(server.url, camera=Camera(plain), look={"strength": 0.5, "split": True}) as other:
                await look_is(other, blend=scream, strength=0, split=True)
                send(server, "blend", "starry_night", 1.0, "the_scream", 3.0)
                mix = [{"style": "starry_night", "weight": 1.0}, {"style": "the_scream", "weight": 3.0}]
                await look_is(other, blend=mix, strength=0)
                await look_is(one, blend=mix, strength=1)
                for address, value in (("record", 1), ("style", "nobody"), ("style", "nobody"), ("style", 99)):
                    send(server, address, value)
                assert server.stage is not None
                control = server.stage.control
                await until(lambda: control.osc is not None and control.osc.refused == 4)
                await until(lambda: "nobody" in caplog.text and "webcam" in caplog.text)
                assert caplog.text.count("nobody") == 1
                await look_is(one, blend=mix)
            told = {}
            for _ in range(200):
                await asyncio.sleep(0.01)
                try:
                    message = OscMessage(desk.recv(1000))
                except BlockingIOError:
                    continue
                told[message.address] = message.params[0]
                if told.get("/vidstyle/style") == "starry_night 25 % + the_scream 75 %":
                    break
            assert told["/vidstyle/style"] == "starry_night 25 % + the_scream 75 %" and told["/vidstyle/latency"] > 0


async def test_changes_wait_for_the_beat_and_the_strength_swings(tmp_path: Path) -> None:
    async with staged(tmp_path, quantize="bar", pulse=1.0) as server, Guest(server.url, camera=Camera()) as guest:
        assert server.stage is not None
        tempo = server.stage.control.tempo
        now = asyncio.get_running_loop().time()  # that of `time.monotonic`
        for number in range(4):
            tempo.beat(now + number - 4, number + 1)
        assert server.scheduler.swing(1.0, now + 0.5) == pytest.approx(0)
        tempo.beat(now + 60.5)  # so that the next bar is far away
        send(server, "mirror", 1)
        send(server, "strength", 0.5)
        await look_is(guest, strength=0.5, mirror=False)
        assert server.stage.control.is_waiting
        tempo.midi("stop", now)
        await look_is(guest, mirror=True)


async def test_a_port_that_is_taken_and_a_beat_that_nobody_tells_are_errors_at_once(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        for stage, said in (
            (StageOptions(osc=str(other.getsockname()[1])), "another port"),
            (StageOptions(quantize="beat"), "need a beat"),
        ):
            server = Server(ServeOptions(port=0, folder=tmp_path / "served", size=SIZE), stage=stage)
            with pytest.raises(BadOption, match=said):
                await server.start()
            await server.close()
