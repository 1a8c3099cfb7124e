"""Servers on loopback and other live things, real ones, for the tests of what is live."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import os
import random
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

PATIENCE = 30.0
"""Seconds that a busy machine is given for what usually takes a moment; then the test fails."""


def free_port() -> int:
    """A port of loopback that nobody has right now, for TCP and UDP.

    It is none of those that the system gives to clients: one that tries again and again to reach a server which is away
    would end up connected to itself.
    """
    system = random.SystemRandom()
    while True:
        port = system.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port


def open_descriptors(pid: int | None = None) -> int:
    """How many file descriptors a process has, this one by default (Linux)."""
    return len(os.listdir(f"/proc/{pid or os.getpid()}/fd"))


def running_threads(pid: int | None = None) -> int:
    """How many threads a process has, those of libraries, too (Linux)."""
    return len(os.listdir(f"/proc/{pid or os.getpid()}/task"))


def resident_mib(pid: int | None = None) -> float:
    """How much of a process's memory is in RAM (Linux)."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def nothing_grows(states: Sequence[tuple[int, int, float]]) -> None:
    """Threads, descriptors and MiB after each of many rounds: the last are no more than those after a few."""
    threads, descriptors, mib = zip(*states, strict=True)
    few = len(states) // 4
    assert max(threads[-3:]) <= max(threads[: few + 1]), f"threads: {threads}"
    assert max(descriptors[-3:]) <= max(descriptors[: few + 1]) + 1, f"descriptors: {descriptors}"
    assert mib[-1] - mib[few] < 3, f"MiB: {mib}"


def gray_jpeg(level: int, size: tuple[int, int] = (48, 64)) -> bytes:
    """A JPEG of one gray; ``size`` is (height, width)."""
    done, data = cv2.imencode(".jpg", np.full((*size, 3), level, np.uint8))
    assert done
    return data.tobytes()


class Server:
    """A TCP server on loopback whose connections each run ``serve`` on a thread. A context manager.

    ``stop()`` is a kill: every connection is cut. ``start()`` listens on the same port again.
    """

    def __init__(self, serve: Callable[[socket.socket, threading.Event], None], port: int | None = None) -> None:
        self.port = port or free_port()
        self._serve = serve
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._over = threading.Event()
        self.accepted = 0

    def start(self) -> Server:
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._accepting = threading.Thread(target=self._accept, args=(self._over,), daemon=True)
        self._accepting.start()
        return self

    def stop(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        join(self._accepting)  # from here on there is no new connection
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            join(thread)
        self._connections.clear()
        self._threads.clear()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self, over: threading.Event) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            self.accepted += 1
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._one, args=(connection, over), daemon=True))
            self._threads[-1].start()

    def _one(self, connection: socket.socket, over: threading.Event) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection, over)


def join(thread: threading.Thread) -> None:
    """Wait for the end of ``thread``, which must be near."""
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"{thread.name} does not end"


def silent_server() -> Server:
    """Accepts, and then says nothing."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        over.wait()

    return Server(serve)


def mjpeg_server(
    *, size: Callable[[], tuple[int, int]] = lambda: (48, 64), rate: float = 50, frames: int | None = None
) -> Server:
    """Multipart MJPEG over HTTP, as IP cameras speak it: gray pictures that get brighter by 1.

    ``size`` is asked at each picture. After ``frames`` it says nothing more, without hanging up.
    """

    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        begin = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        connection.sendall(begin)
        number = 0
        while not over.wait(1 / rate):
            if frames is not None and number >= frames:
                continue
            data = gray_jpeg(50 + number % 100, size())
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")
            number += 1

    return Server(serve)


def http_server(path: Path, content_type: str = "video/mp4", *, sized: bool = True, rate: int | None = None) -> Server:
    """A file over HTTP, with byte ranges; without ``sized`` as a stream of unknown length, ``rate`` bytes a second."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        request = connection.recv(65536).decode()
        data = path.read_bytes()
        found = re.search(r"Range: bytes=(\d+)-", request)
        begin = int(found[1]) if found and sized else 0
        if sized:
            head = (
                f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {begin}-{len(data) - 1}/{len(data)}\r\n"
                f"Accept-Ranges: bytes\r\nContent-Length: {len(data) - begin}\r\n"
            )
        else:
            head = "HTTP/1.0 200 OK\r\n"
        connection.sendall(f"{head}Content-Type: {content_type}\r\nConnection: close\r\n\r\n".encode())
        step = max(1, (rate or len(data)) // 50)
        for at in range(begin, len(data), step):
            connection.sendall(data[at : at + step])
            if rate and over.wait(0.02):
                return
        connection.shutdown(socket.SHUT_WR)
        over.wait(0.2)

    return Server(serve)


class _PacketSink(io.RawIOBase):
    """Where FFmpeg's RTP muxer writes: one packet a call."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._send(bytes(data))
        return len(data)


def rtsp_server(*, size: tuple[int, int] = (48, 64), rate: int = 25) -> Server:
    """An RTSP camera: H.264 in RTP, interleaved in the TCP connection. The pictures get brighter by 1."""
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
        "a=control:video\r\n"
    )

    def serve(connection: socket.socket, over: threading.Event) -> None:
        requests = connection.makefile(newline="\r\n")
        while request := requests.readline():
            method, url, _ = request.split()
            headers = dict(line.strip().split(": ", 1) for line in iter(requests.readline, "\r\n"))
            body = sdp if method == "DESCRIBE" else ""
            answer = {
                "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN",
                "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Base: {url}/",
                "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1",
            }.get(method, "Session: 1")
            head = f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\n{answer}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            if method == "PLAY":
                return _send_rtp(connection, over, size, rate)

    return Server(serve)


def _send_rtp(connection: socket.socket, over: threading.Event, size: tuple[int, int], rate: int) -> None:
    def send(packet: bytes) -> None:
        channel = 1 if 200 <= packet[1] <= 204 else 0  # RTCP by its type
        connection.sendall(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)

    output = av.open(_PacketSink(send), "w", format="rtp", container_options={"payload_type": "96"})
    try:
        _send_gray(output, over, size, rate)
    finally:
        with contextlib.suppress(OSError, av.error.FFmpegError):
            output.close()


def _send_gray(output: Any, over: threading.Event, size: tuple[int, int], rate: int) -> None:
    """H.264 without delay, a key frame every half second; the pictures get brighter by 1."""
    stream = output.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "tune": "zerolatency"})
    stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, "yuv420p", max(1, rate // 2)
    for number in itertools.count():
        if over.wait(1 / rate):
            return
        frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 50 + number % 100, np.uint8), "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        output.mux(stream.encode(frame))


@contextlib.contextmanager
def sending(url: str, *, size: tuple[int, int] = (48, 64), rate: int = 25) -> Iterator[None]:
    """A sender of MPEG-TS with H.264 to ``url`` (``udp://``), at the pace of a camera, while the block runs."""
    over = threading.Event()

    def send() -> None:
        with av.open(url, "w", format="mpegts") as output:
            _send_gray(output, over, size, rate)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        join(thread)


@contextlib.contextmanager
def x_display(size: tuple[int, int] = (240, 320)) -> Iterator[str]:
    """An Xvfb with an empty screen of ``size`` (height, width); gives its name for DISPLAY."""
    server, name = start_xvfb(size)
    try:
        yield name
    finally:
        stop_xvfb(server)


def start_xvfb(size: tuple[int, int], *words: str) -> tuple[subprocess.Popen[bytes], str]:
    """An Xvfb with a screen of ``size`` (height, width), and its name; skips the test where there is none."""
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no Xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size[1]}x{size[0]}x24", *words]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([*command, "-nolisten", "tcp", "-noreset"], pass_fds=[write], stdout=quiet, stderr=quiet)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip() if select.select([answer], [], [], PATIENCE)[0] else ""
    if not number:
        server.kill()
        server.wait(PATIENCE)
        pytest.fail("Xvfb has not started")
    return server, f":{number}"


def stop_xvfb(server: subprocess.Popen[bytes]) -> None:
    """End it: by asking first, as it then takes its lock file away."""
    server.terminate()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(PATIENCE)


def x_fill(display: str, color: tuple[int, int, int]) -> None:
    """Paint the whole screen of ``display`` in one RGB color."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XOpenDisplay.argtypes = [ctypes.c_char_p]
    x11.XDefaultRootWindow.restype = ctypes.c_ulong
    x11.XDefaultRootWindow.argtypes = [ctypes.c_void_p]
    x11.XSetWindowBackground.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    x11.XClearWindow.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    connection = x11.XOpenDisplay(display.encode())
    assert connection, f"display {display} does not answer"
    root = x11.XDefaultRootWindow(connection)
    x11.XSetWindowBackground(connection, root, color[0] << 16 | color[1] << 8 | color[2])
    x11.XClearWindow(connection, root)
    x11.XCloseDisplay(connection)


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether ``condition`` became true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
