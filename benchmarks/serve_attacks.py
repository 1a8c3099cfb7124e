"""Does ``vidstyle serve`` stand it when visitors mean harm? And how old are pictures while a core is busy?

    python benchmarks/serve_attacks.py NAME [--seconds 10] [--attacks ...]

The command itself, with 400 descriptors, and two visitors whose pictures carry numbers that can be read when they are
painted; then each attack in a process of its own for so many seconds. Measured are the longest wait for /health, which
is asked four times a second on a connection of its own, the memory while it goes on and within a minute after, and the
frames a second that the visitors see before and meanwhile. All of them share the machine. Needs Linux.

Results go to benchmarks/results/NAME/attacks.json, a summary to the screen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
from clips import FILM, film_frames
from measured import RESULTS, ResultFile, load
from serve import STYLE, resident_mib
from stamped import HEIGHT, STRIP, WIDTH, number_in, points, stamp

from vidstyle.gallery import load_blend
from vidstyle.options import EncodeOptions
from vidstyle.tools.bench import describe_run

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # visitors and attackers are those of the tests

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from attacking import Sender, encoded, h264_claiming, packets, vp8_claiming
from visiting import Command

DESCRIPTORS = 400
RATE, FRAMES, KEY_EVERY = 30, 300, 30
BEFORE_SECONDS, SETTLE_SECONDS, AFTER_SECONDS = 10.0, 8.0, 60.0
BUSY_SECONDS = 20.0
ASK_SECONDS = 0.25
TARGETS = {"health_s": 1.0, "rise_mib": 200.0, "left_mib": 20.0, "fps_kept": 0.8, "busy_ms": 300.0}
BOUNDARY = b'--b\r\nContent-Disposition: form-data; name="video"; filename="x.mp4"\r\n\r\n'


def stamped_packets() -> list[list[bytes]]:
    """The film with a number in each frame, as payloads of RTP; a key frame now and then."""
    context = av.CodecContext.create("libvpx", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, RATE)
    context.bit_rate, context.gop_size = 2_000_000, KEY_EVERY
    context.options = {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0", "keyint_min": str(KEY_EVERY)}
    made = []
    for number, frame in enumerate(islice(film_frames(FILM, WIDTH, HEIGHT), FRAMES)):
        planes = frame.to_ndarray()
        stamp(planes[:HEIGHT], number)
        planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)[:, -STRIP // 2 :] = 128
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = number
        made += [packets("VP8", bytes(packet)) for packet in context.encode(picture)]
    return made


class Watcher(Sender):
    """Sends the stamped film, and notes when which number comes back."""

    def __init__(self, url: str, film: list[list[bytes]]) -> None:
        super().__init__(url, lambda n: film[n % len(film)], rate=RATE)
        self.sent_at: dict[int, float] = {}
        self.seen: list[tuple[float, float]] = []
        """When, and how old in seconds."""
        self.look = {"blend": [{"style": STYLE}]}

    def encode(self, frame: av.VideoFrame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        found = super().encode(frame, force_keyframe)
        self.sent_at[self.sent % FRAMES] = time.monotonic()
        return found

    def _show(self, track: MediaStreamTrack) -> None:
        rows, columns = points()

        async def read() -> None:
            last = None
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, av.VideoFrame)
                    now = time.monotonic()
                    luma = frame.to_ndarray(format="yuv420p")[:HEIGHT]
                    number = number_in(luma[rows, columns]) if luma.shape == (HEIGHT, WIDTH) else None
                    if number is not None and number != last and number in self.sent_at:
                        self.seen.append((now, now - self.sent_at[number]))
                        last = number

        self._reading = asyncio.ensure_future(read())


def watch(url: str, visitors: int, pipe: Any) -> None:
    """Visitors in a process of their own: answers each question, (since, until), with what they have seen."""

    async def run() -> None:
        film = stamped_packets()
        watchers = [Watcher(url, film) for _ in range(visitors)]
        for watcher in watchers:
            await watcher.come()
        pipe.send("here")
        loop = asyncio.get_running_loop()
        while (asked := await loop.run_in_executor(None, pipe.recv)) is not None:
            since, until = asked
            pipe.send([[age for when, age in watcher.seen if since <= when < until] for watcher in watchers])
        for watcher in watchers:
            await watcher.leave()

    asyncio.run(run())


@contextmanager
def watching(url: str, visitors: int) -> Iterator[Callable[[float, float], list[list[float]]]]:
    """Visitors who watch while it lasts; what they have seen between two times, each."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=watch, args=(url, visitors, theirs))
    process.start()
    try:
        assert ours.recv() == "here"
        time.sleep(SETTLE_SECONDS)

        def seen(since: float, until: float) -> list[list[float]]:
            ours.send((since, until))
            found: list[list[float]] = ours.recv()
            return found

        yield seen
        ours.send(None)
        process.join(30)
    finally:
        process.kill()
        process.join()


# ---- the attacks: each goes on until its time is over


async def sends(url: str, codec: str, data: bytes, rate: float, seconds: float) -> None:
    """Come, send ``data`` for a frame, and come again whenever it is ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        guest = Sender(url, lambda n: packets(codec, data), codec, rate)
        with contextlib.suppress(AssertionError, aiohttp.ClientError):
            await guest.come()
            while time.monotonic() < end:
                await asyncio.sleep(0.5)
                async with guest.http.get(f"{url}api/visitors/{guest.id}") as answer:
                    if answer.status != 200:
                        break
        await guest.leave(politely=False)
        await asyncio.sleep(0.2)


async def offers(url: str, seconds: float) -> None:
    """Offers with 800 addresses behind another separator, one after the other."""
    smuggled = "".join(f"\u2028a=candidate:{i} 1 udp {9999 - i} 127.0.0.1 {20000 + i} typ host" for i in range(800))
    end = time.monotonic() + seconds
    guest = Sender(url, lambda n: [])
    sdp = (await guest.offer()).replace("a=mid:0", f"a=mid:0{smuggled}")
    while time.monotonic() < end:
        async with guest.http.post(f"{url}api/visitors", json={"sdp": sdp, "type": "offer"}) as answer:
            await answer.read()
        await asyncio.sleep(0.05)
    await guest.leave(politely=False)


async def connections(url: str, text: bytes, more: bytes, count: int, seconds: float) -> None:
    """Connections on which ``text`` is sent, and then ``more`` each second; those that are closed come again."""
    host, port = url.split("/")[2].split(":")
    end = time.monotonic() + seconds
    open_: deque[asyncio.StreamWriter] = deque()
    while time.monotonic() < end:
        for writer in list(open_):
            if writer.is_closing() or writer.transport.is_closing():
                open_.remove(writer)
            elif more:
                writer.write(more)
        for _ in range(count - len(open_)):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(text)
                open_.append(writer)
        await asyncio.sleep(1)
    for writer in open_:
        writer.close()


def attack(name: str, url: str, seconds: float) -> None:
    """Carry out the attack called ``name``, from a machine of its own, as far as that goes on one."""
    os.nice(10)
    head = b"Host: localhost\r\n"
    upload = b"POST /api/jobs/render HTTP/1.1\r\n" + head
    upload += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 60000000\r\n\r\n" + BOUNDARY
    body = (
        b"POST /api/visitors HTTP/1.1\r\n" + head + b"Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
    )
    slice_ = encoded("H264", (64, 64))[0]
    work = {
        "frame bomb, VP8": lambda: sends(url, "VP8", vp8_claiming((16383, 16383)), RATE, seconds),
        "frame bomb, H.264": lambda: sends(url, "H264", h264_claiming((16384, 16384)) + slice_, RATE, seconds),
        "flood of 1920x1080, VP8": lambda: sends(url, "VP8", vp8_claiming((1080, 1920)), 2000, seconds),
        "flood of 1920x1080, H.264": lambda: sends(url, "H264", encoded("H264", (1080, 1920))[0], 2000, seconds),
        "offers of 800 addresses": lambda: offers(url, seconds),
        "300 half requests": lambda: connections(url, b"GET / HTTP/1.1\r\n" + head + b"X-A: ", b"x", 300, seconds),
        "300 bodies that trickle": lambda: connections(url, body, b" ", 300, seconds),
        "40 uploads that trickle": lambda: connections(url, upload, b"x", 40, seconds),
    }[name]
    with contextlib.suppress(ConnectionError):
        asyncio.run(work())


ATTACKS = (
    "frame bomb, VP8",
    "frame bomb, H.264",
    "flood of 1920x1080, VP8",
    "flood of 1920x1080, H.264",
    "offers of 800 addresses",
    "300 half requests",
    "300 bodies that trickle",
    "40 uploads that trickle",
)


# ---- what is measured


class Watch:
    """Asks for /health and looks at the memory, again and again, while it lasts."""

    def __init__(self, url: str, pid: int) -> None:
        self._url, self._pid = url, pid
        self.waits: list[float] = []
        self.mib: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(ASK_SECONDS):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(f"{self._url}health", timeout=30) as answer:
                    answer.read()
                self.waits.append(time.monotonic() - began)
            except OSError:
                self.waits.append(float("inf"))
            self.mib.append(resident_mib(self._pid))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def rate(ages: list[list[float]], seconds: float) -> float:
    """New pictures a second that a visitor saw, the one who saw fewest."""
    return min(len(one) for one in ages) / seconds


def measure_attack(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    with Command(folder, descriptors=DESCRIPTORS) as server, watching(server.url, 2) as seen:
        url, pid = server.url, server.process.pid
        began = time.monotonic()
        time.sleep(BEFORE_SECONDS)
        before_fps = rate(seen(began, began + BEFORE_SECONDS), BEFORE_SECONDS)
        before_mib = resident_mib(pid)
        attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(name, url, seconds))
        with Watch(url, pid) as watched:
            attacker.start()
            time.sleep(2)  # it has to start
            began = time.monotonic()
            time.sleep(seconds)
            ages = seen(began, began + seconds)
            attacker.join(60)
            left = time.monotonic()
            while time.monotonic() < left + AFTER_SECONDS and resident_mib(pid) > before_mib + TARGETS["left_mib"] / 2:
                time.sleep(1)
            after_mib = resident_mib(pid)
        during = rate(ages, seconds)
        return {
            "health_s": max(watched.waits),
            "rise_mib": max(watched.mib) - before_mib,
            "left_mib": after_mib - before_mib,
            "back_after_s": time.monotonic() - left,
            "fps_before": before_fps,
            "fps": during,
            "fps_kept": during / before_fps,
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        }


def measure_busy(folder: Path) -> dict[str, Any]:
    """How old pictures are for one visitor, with and without a core that is kept busy."""
    found: dict[str, Any] = {}
    with Command(folder, descriptors=DESCRIPTORS) as server, watching(server.url, 1) as seen:
        for name, words in (("alone", None), ("busy", [sys.executable, "-c", "while True: pass"])):
            other = subprocess.Popen(words) if words else None
            try:
                time.sleep(3)
                began = time.monotonic()
                time.sleep(BUSY_SECONDS)
                (ages,) = seen(began, began + BUSY_SECONDS)
            finally:
                if other is not None:
                    other.kill()
                    other.wait()
            ms = 1000 * np.array(ages)
            late = {f"p{part}": float(np.percentile(ms, part)) for part in (50, 95, 99)}
            found[name] = {"fps": len(ages) / BUSY_SECONDS, "age_ms": {**late, "most": float(ms.max())}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result folder, such as the machine's")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--no-busy", action="store_true", help="leave out the busy core")
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result folder")
    options = parser.parse_args()
    results = ResultFile("attacks", options.results / options.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    machine = {k: v for k, v in asdict(describe_run(load_blend(STYLE), EncodeOptions())).items() if k != "cases"}
    with tempfile.TemporaryDirectory(prefix="vidstyle-attacks-") as folder:
        for name in options.attacks:
            before = load()
            facts = measure_attack(name, Path(folder), options.seconds)
            results.put("machine", name, {**machine, "note": options.note})
            results.put("attacks", name, {"targets": TARGETS, "load_before": before, **facts, "load_after": load()})
            print(
                f"{name}: /health within {facts['health_s']:.2f} s, memory {facts['rise_mib']:+.0f} MiB, after it "
                f"{facts['left_mib']:+.0f}; {facts['fps']:.1f} of {facts['fps_before']:.1f} fps kept",
                flush=True,
            )
        if not options.no_busy:
            before = load()
            busy = measure_busy(Path(folder))
            results.put("machine", "busy", {**machine, "note": options.note})
            results.put("busy", "one visitor", {"load_before": before, **busy, "load_after": load()})
            for name, facts in busy.items():
                age = facts["age_ms"]
                print(f"{name}: {facts['fps']:.1f} fps, {age['p50']:.0f} ms old, p99 {age['p99']:.0f}", flush=True)


if __name__ == "__main__":
    main()
