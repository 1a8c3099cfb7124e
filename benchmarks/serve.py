"""How live is the page of ``vidstyle serve``? The command itself, and Chromium with a camera that plays a film.

    python benchmarks/serve.py NAME [--seconds 30] [--connects 100] [--parts live adapting memory]

The camera's film, 640x360 at 30 fps, made from examples/bunny.mp4, carries its frame numbers as large black and
white blocks that can be read when they are painted. The page looks at both: at the pictures of its camera as they
come, and at the painted ones as they are shown. So it knows when each was taken and when it was on the screen,
whatever anybody claims. Browser and server share the machine. Needs Linux and Chromium.

Results go to benchmarks/results/NAME/serve.json, a summary to the screen.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from clips import FILM, film_frames
from measured import RESULTS, ResultFile, load
from numpy.typing import NDArray
from stamped import BLOCK, COLUMNS, HEIGHT, STRIP, WIDTH, number_in, stamp

from vidstyle.gallery import load_blend
from vidstyle.options import EncodeOptions
from vidstyle.tools.bench import describe_run

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the driver of the browser is that of the tests

from browser import Browser, Page, write_y4m
from visiting import Command

STYLE = "starry_night"
PARTS = ("live", "adapting", "memory")
RATE, FRAMES = 30, 300
"""Of the film; ten seconds, so that no number comes back while it is on its way."""
WARM_UP_SECONDS = 5.0
FIRST_CONNECTS = 5
"""Not counted: what is loaded once is loaded then."""
SETTLE_SECONDS = 3.0
TARGETS = {"fps": 12.0, "latency_ms": 250.0, "memory_growth": 0.05, "fps_kept_while_adapting": 0.7}
PAINTING = Path(__file__).parent.parent / "vidstyle" / "gallery" / "fast" / "wheat_field.jpg"

# Each picture's blocks are read where it is drawn into a small canvas: one number a block, in the order of `points`.
WATCH = f"""(() => {{
  const watched = window.watched = {{camera: [], painted: [], delays: [], fps: []}};
  const canvas = new OffscreenCanvas({WIDTH}, {STRIP});
  const context = canvas.getContext("2d", {{willReadFrequently: true}});
  const read = (video) => {{
    const {{videoWidth: width, videoHeight: height}} = video;
    const strip = height * {STRIP / HEIGHT};
    context.drawImage(video, 0, height - strip, width, strip, 0, 0, {WIDTH}, {STRIP});
    const {{data}} = context.getImageData(0, 0, {WIDTH}, {STRIP});
    const blocks = [];
    for (let row = 0; row < 2; row++) for (let column = 0; column < {COLUMNS}; column++) {{
      let sum = 0;
      for (let dy = -8; dy <= 8; dy += 4) for (let dx = -8; dx <= 8; dx += 4) {{
        const at = 4 * ((row * {BLOCK} + {BLOCK // 2} + dy) * {WIDTH} + column * {BLOCK} + {BLOCK // 2} + dx);
        sum += 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      }}
      blocks.push(sum / 25);
    }}
    return blocks;
  }};
  const follow = (video, list, when) => {{
    const note = (now, frame) => {{
      list.push([when(now, frame), ...read(video)]);
      video.requestVideoFrameCallback(note);
    }};
    video.requestVideoFrameCallback(note);
  }};
  const camera = document.createElement("video");
  camera.muted = true;
  camera.srcObject = document.getElementById("original").srcObject;
  camera.play();
  follow(camera, watched.camera, (now, frame) => frame.captureTime ?? now);
  follow(document.getElementById("painted"), watched.painted, (now, frame) => frame.expectedDisplayTime);
  const number = (id) => parseFloat(document.getElementById(id).textContent.replace(/[^0-9.]/g, ""));
  setInterval(() => {{ watched.delays.push(number("delay")); watched.fps.push(number("fps")); }}, 1000);
}})()"""


def stamped_frames() -> Iterator[NDArray[np.uint8]]:
    """The film with a number in each frame: uint8 I420 of shape (3 / 2 * HEIGHT, WIDTH)."""
    for number, frame in enumerate(islice(film_frames(FILM, WIDTH, HEIGHT), FRAMES)):
        planes = frame.to_ndarray()
        stamp(planes[:HEIGHT], number)
        planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)[:, -STRIP // 2 :] = 128
        yield planes


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(page: Page) -> None:
    """Let the page paint its camera, and wait for the first picture."""
    page.wait("document.querySelectorAll('#styles .style').length > 0")
    page.click("#start")
    page.wait("document.getElementById('stage').dataset.state === 'live'", 60)


def seen(rows: list[list[float]]) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Times in ms and numbers of the pictures that can be read, and how many could not."""
    times, numbers = [], []
    for when, *blocks in rows:
        number = number_in(np.repeat(np.array(blocks)[:, None], 16, axis=1))
        if number is not None:
            times.append(when)
            numbers.append(number)
    return np.array(times), np.array(numbers), len(rows) - len(times)


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    low, median, late, high = np.percentile(values, (0, 50, 99, 100))
    return {"low": float(low), "median": float(median), "p99": float(late), "high": float(high)}


def watch(page: Page, pid: int, seconds: float) -> dict[str, Any]:
    """What was shown in so many seconds, from now."""
    page.run(WATCH)
    time.sleep(WARM_UP_SECONDS)
    page.run("for (const list of Object.values(watched)) list.length = 0")
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    took, cpu = time.monotonic() - began, cpu_seconds(pid) - before
    found = page.run("watched")
    taken_at, taken, _ = seen(found["camera"])
    shown_at, shown, unreadable = seen(found["painted"])
    latencies, last = [], None
    for when, number in zip(shown_at, shown, strict=True):
        if number == last:
            continue  # the same picture again is no new one
        last = number
        # The newest of that number that was taken before it was shown: the film comes round every ten seconds.
        candidates = taken_at[(taken == number) & (taken_at <= when)]
        if len(candidates):
            latencies.append(when - candidates[-1])
    ms = np.array(latencies)
    return {
        "fps": len(ms) / took,
        "camera_fps": len(taken) / took,
        "latency_ms": spread(ms),
        "unreadable": unreadable,
        "shown": len(ms),
        "page_says": {"fps": float(np.nanmedian(found["fps"])), "delay_ms": float(np.nanmedian(found["delays"]))},
        "server_cores": cpu / took,
        "server_mib": resident_mib(pid),
    }


def measure_live(browser: Browser, address: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    page = browser.page(address)
    start(page)
    facts = watch(page, pid, options.seconds)
    page.close()
    return facts


def measure_adapting(browser: Browser, address: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same while a painting is learned, and how much of the frames a second is left."""
    page = browser.page(address)
    start(page)
    before = watch(page, pid, options.seconds / 2)
    page.choose_file("#painting", PAINTING)
    page.wait("document.querySelector('.job[data-state=running] .words')?.textContent.includes('step')", 120)
    while_adapting = watch(page, pid, options.seconds)
    job = page.run("fetch('api/jobs').then((answer) => answer.json())")[0]
    page.run(f"fetch('api/jobs/{job['id']}', {{method: 'DELETE'}}).then(() => true)")
    page.close()
    return {
        "before": before,
        "while_adapting": while_adapting,
        "fps_kept": while_adapting["fps"] / before["fps"],
        "ran_all_the_time": job["state"] == "running",
        "seconds_a_step": job["seconds"] / max(1, job["step"]),
    }


def measure_memory(browser: Browser, address: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """A page that starts and stops, again and again."""
    page = browser.page(address)
    memory = []
    for number in range(FIRST_CONNECTS + options.connects):
        start(page)
        page.click("#stop")
        page.wait("document.getElementById('stage').dataset.state === 'idle'")
        done = number + 1
        if done == FIRST_CONNECTS or done == FIRST_CONNECTS + options.connects or done % 10 == 0:
            time.sleep(SETTLE_SECONDS)
            memory.append((done, resident_mib(pid)))
    page.close()
    first = next(mib for done, mib in memory if done == FIRST_CONNECTS)
    return {
        "connects": options.connects,
        "first_mib": first,
        "last_mib": memory[-1][1],
        "growth": memory[-1][1] / first - 1,
        "connects_so_far": [done for done, _ in memory],
        "mib": [mib for _, mib in memory],
    }


def told(part: str, facts: dict[str, Any]) -> str:
    """What was measured, for people."""
    if part == "memory":
        return (
            f"{facts['connects']} connects: {facts['first_mib']:.0f} MiB before, {facts['last_mib']:.0f} after "
            f"({100 * facts['growth']:+.1f} %)"
        )
    run = facts if part == "live" else facts["while_adapting"]
    late, says = run["latency_ms"], run["page_says"]
    line = (
        f"{run['fps']:.1f} fps of {run['camera_fps']:.1f}; camera to shown: median {late['median']:.0f} ms, "
        f"p99 {late['p99']:.0f}; the page says {says['fps']:.0f} fps, {says['delay_ms']:.0f} ms; "
        f"server {run['server_cores']:.2f} cores, {run['server_mib']:.0f} MiB"
    )
    return line if part == "live" else f"{line}; {100 * facts['fps_kept']:.0f} % of the fps kept while adapting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result folder, such as the machine's")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--connects", type=int, default=100)
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result folder")
    options = parser.parse_args()
    results = ResultFile("serve", options.results / options.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    machine = {k: v for k, v in asdict(describe_run(load_blend(STYLE), EncodeOptions())).items() if k != "cases"}
    folder = Path(tempfile.mkdtemp(prefix="vidstyle-serve-"))
    try:
        camera = write_y4m(folder / "camera.y4m", stamped_frames(), width=WIDTH, height=HEIGHT, rate=RATE)
        measures = {"live": measure_live, "adapting": measure_adapting, "memory": measure_memory}
        for part in options.parts:
            print(f"{part} (load {load():.1f})", flush=True)
            before = load()
            with Command(folder) as server, Browser(folder / f"browser-{part}", camera=camera) as browser:
                facts = measures[part](browser, server.url, server.process.pid, options)
                server.end()
            results.put("machine", part, {**machine, "note": options.note})
            results.put("serve", part, {"targets": TARGETS, "load_before": before, **facts, "load_after": load()})
            print(told(part, facts), flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
