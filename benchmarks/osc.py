"""How soon does an OSC message show, and what do a thousand a second cost? In a real window, by its pixels.

    python benchmarks/osc.py NAME [--seconds 60] [--messages 40]

``vidstyle webcam --osc`` plays the clips of live.py, 640x360 at 30 fps, on an X server of its own. Messages are sent on
loopback at every moment of a frame, and this process sees in the X server's memory when the picture changes. Then a
thousand messages a second are sent by another process for so many seconds: faders, blends, styles, and rubbish among
them; frames a second and memory are those of the same run without and with them, in turns. Needs Linux, Xvfb, xdotool
and python-osc.

Results go to benchmarks/results/NAME/osc.json and to the screen.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from live import CLIP_FRAMES, PICTURE, POLL_SECONDS, WARM_UP_SECONDS, ended, source_words, spread, watch, webcam
from measured import RESULTS, ResultFile, load, machine
from pythonosc.udp_client import SimpleUDPClient
from stamped_clip import make_stamped_clip
from xscreen import Screen

PORT = 28_471
RATE = 1000
ROUNDS = 2
WAIT_SECONDS = 0.437
"""Between two messages; no multiple of a frame's time."""
TARGETS = {"latency_ms": 60.0, "fps_lost": 0.03, "growth_mib": 3.0}


def flood(seconds: float) -> None:
    """Send ``RATE`` messages a second, as a desk does that repeats everything, and as something that is broken."""
    chance, began = random.Random(1), time.monotonic()
    with SimpleUDPClient("127.0.0.1", PORT) as client:
        for number in range(round(seconds * RATE)):
            ahead = began + number / RATE - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif number / RATE - ahead > seconds:  # this process was not given the time to send as many
                return
            share = 0.5 + 0.5 * math.sin(number / 500)
            kind = number % 10
            if kind < 4:
                client.send_message("/vidstyle/strength", 0.7 + 0.3 * share)
            elif kind < 7:
                client.send_message("/vidstyle/blend", ["starry_night", share, "the_scream", 1 - share, "udnie", 0.2])
            elif kind == 7:
                client.send_message("/vidstyle/fade", share)
            elif kind == 8:
                client.send_message("/vidstyle/strength", "much")
            else:
                client._sock.sendto(chance.randbytes(60), ("127.0.0.1", PORT))


def first_changes(screen: Screen, messages: int) -> dict[str, Any]:
    """Milliseconds from a message to the first picture that it changes, while the clip stands still."""
    waits, unseen = [], 0
    with SimpleUDPClient("127.0.0.1", PORT) as client:
        for number in range(messages):
            time.sleep(WAIT_SECONDS)
            before = screen.pixels[PICTURE][..., :3].copy()
            sent = time.monotonic()
            client.send_message("/vidstyle/strength", 0.4 if number % 2 == 0 else 1.0)
            while time.monotonic() - sent < 2:
                time.sleep(POLL_SECONDS)
                if np.abs(screen.pixels[PICTURE][..., :3].astype(np.int16) - before).mean() > 2:
                    waits.append(1000 * (time.monotonic() - sent))
                    break
            else:
                unseen += 1
    return {"messages": messages, "unseen": unseen, "latency_ms": spread(np.array(waits))}


@contextmanager
def played(clip: Path, into: Path) -> Iterator[tuple[Screen, subprocess.Popen[str]]]:
    """``vidstyle webcam --osc`` on a screen of its own, once it is warm."""
    words = source_words(clip, "--osc", str(PORT))
    with (
        tempfile.TemporaryDirectory(dir=into) as name,
        Screen(Path(name)) as screen,
        webcam(screen, Path(name), words) as process,
    ):
        time.sleep(WARM_UP_SECONDS)
        yield screen, process


def measure_latency(clip: Path, into: Path, messages: int) -> dict[str, Any]:
    with played(clip, into) as (screen, process):
        facts = first_changes(screen, messages)
        ended(screen, process)
    return facts


def measure_flood(clip: Path, into: Path, seconds: float) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {"quiet": [], "flood": []}
    with played(clip, into) as (screen, process):
        for kind in ("quiet", "flood") * ROUNDS:
            sender = None
            if kind == "flood":
                sender = subprocess.Popen([sys.executable, __file__, "--flood", str(seconds)])
                time.sleep(1)  # until it sends
            seen = watch(screen, process.pid, seconds - 1)
            memory = np.array([mib for _, mib in seen.memory])
            rounds[kind].append(
                {
                    "fps": len(seen.times) / seen.seconds,
                    "cores": seen.cpu["program"],
                    "cpu_ms_a_frame": 1000 * seen.cpu["program"] * seen.seconds / max(1, len(seen.times)),
                    "first_mib": float(memory[: len(memory) // 4 + 1].mean()),
                    "last_mib": float(memory[-len(memory) // 4 :].mean()),
                }
            )
            if sender is not None:
                sender.wait(60)
        report = json.loads(ended(screen, process))
    fps = {kind: float(np.mean([one["fps"] for one in found])) for kind, found in rounds.items()}
    return {
        "seconds": seconds,
        "rate": RATE,
        "received": report["osc_messages"],
        "refused": report["osc_refused"],
        "dropped_frames": report["dropped"],
        "problems": report["problems"],
        "fps": fps,
        "fps_lost": 1 - fps["flood"] / fps["quiet"],
        "growth_mib": rounds["flood"][-1]["last_mib"] - rounds["flood"][0]["last_mib"],
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="here")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result folder")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    parser.add_argument("--flood", type=float, help="only send, for so many seconds")
    options = parser.parse_args()
    if options.flood:
        flood(options.flood)
        return
    options.clips.mkdir(parents=True, exist_ok=True)
    results = ResultFile("osc", options.results / options.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    still = make_stamped_clip(options.clips / "stamped-still.mp4", 60, still=True)
    moving = make_stamped_clip(options.clips / f"stamped-{CLIP_FRAMES}.mp4", CLIP_FRAMES)
    results.put("machine", "osc", {**machine(), "load": load(), "note": options.note})
    found = measure_latency(still, options.clips, options.messages)
    results.put("osc", "latency", found)
    print({name: round(value, 1) for name, value in found["latency_ms"].items()}, "ms; unseen", found["unseen"])
    found = measure_flood(moving, options.clips, options.seconds)
    results.put("osc", "flood", found)
    print(json.dumps(found, indent=1))
    print("targets:", TARGETS)


if __name__ == "__main__":
    main()
