"""Behind a proxy with https, as the documentation says."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCSessionDescription
from proxying import browser, proxied
from test_serve_config import TOKEN
from test_serve_webrtc import PATIENCE, with_server
from visiting import Camera, Guest, photo

from vidstyle.serve.app import Server
from vidstyle.serve.webrtc import add_address, host_addresses

NAME = "paint.example.org"


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.mark.parametrize("public", [None, "127.0.0.1", "203.0.113.7"])
def test_a_browser_elsewhere_gets_in_by_token_and_sees_itself_painted(tmp_path: Path, public: str | None) -> None:
    async def body(server: Server) -> None:
        port = free_port()
        url = f"https://{NAME}:{port}/"
        async with proxied(tmp_path, NAME, port, server.port), browser() as http:
            async with http.get(f"{url}api/state") as response:
                assert response.status == 401
            async with http.get(f"{url}?token={TOKEN}", allow_redirects=False) as response:
                assert response.status == 303 and "Secure" in response.headers["Set-Cookie"]
            async with http.get(f"{url}api/jobs") as response:  # by the cookie
                assert response.status == 200 and "Secure" in response.headers["Set-Cookie"]
            guest = Guest(url, camera=Camera(photo()))
            offer = {"sdp": await guest.offer(), "type": "offer"}
            async with http.post(f"{url}api/visitors", json=offer, headers={"Origin": url.rstrip("/")}) as response:
                found: dict[str, Any] = await response.json()
                assert response.status == 201, found
            addresses = set(re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) \d+ typ host", found["sdp"]))
            assert public in addresses if public else addresses - {"127.0.0.1", "::1"} or not host_addresses()
            await guest.connection.setRemoteDescription(RTCSessionDescription(found["sdp"], "answer"))
            if public == "127.0.0.1":
                assert addresses == {"127.0.0.1"}
                await guest.see(3, seconds=PATIENCE)
            async with http.delete(f"{url}api/visitors/{found['id']}") as response:
                assert response.status == 200
            await guest.leave(politely=False)

    with_server(tmp_path, body, allowed_hosts=(NAME,), token=TOKEN, public_address=public)


def test_a_public_address_is_added_to_those_of_its_kind() -> None:
    head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97\r\n"
    own = "a=candidate:1 1 udp 99 10.0.0.5 4000 typ host\r\na=candidate:2 1 udp 99 fd00::5 5000 typ host\r\n"
    sdp = f"{head}{own}a=rtpmap:97 VP8/90000\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n"
    found = add_address(sdp, "203.0.113.7")
    assert " 203.0.113.7 4000 typ host" in found and " 10.0.0.5 4000 " in found and "203.0.113.7 5000" not in found
    assert " 2001:db8::7 5000 " in add_address(sdp, "2001:db8::7")
    assert add_address(sdp, None) == sdp
