"""How live is ``vidstyle webcam``? The command itself, in a real window on an X server of its own.

    python benchmarks/live.py NAME [--minutes 10] [--parts plain record switch stages long]

The clip, 640x360 at 30 fps, made from examples/bunny.mp4, carries its frame numbers as large black and white
blocks that can be read when they are painted. It is played in real time, as a camera would be. The X server
keeps its screen in a file; this process looks at the blocks in it about a thousand times a second, and so
knows when each frame was on the screen, whatever the program claims. Needs Linux, Xvfb and xdotool.

Results go to benchmarks/results/NAME/live.json, a table to the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from measured import RESULTS, ResultFile, load
from numpy.typing import NDArray
from stamped import HEIGHT, WIDTH, number_in, points
from stamped_clip import make_stamped_clip
from xscreen import Screen

from vidstyle.gallery import load_blend
from vidstyle.options import EncodeOptions
from vidstyle.tools.bench import describe_run

STYLE = "starry_night"
PARTS = ("plain", "record", "switch", "stages", "long")
CLIP_FRAMES = 900
POLL_SECONDS = 0.0007
WARM_UP_SECONDS = 3.0
"""After the first frame: caches, the processor's clock."""
SWITCHES, SWITCH_SECONDS = 20, 1.37
"""The second is no multiple of a frame's time, so that keys come at every moment of it."""
PICTURE = np.s_[120 : HEIGHT - 72 : 6, 12 : WIDTH - 12 : 14]
"""Pixels that tell whether the picture has changed: clear of the overlay and of the number."""
TARGETS = {"fps": 25.0, "median_ms": 80.0, "p99_ms": 150.0, "switch_ms": 100.0}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Watched:
    """What was seen on the screen, and what the processes took meanwhile."""

    numbers: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each was first seen, in seconds of `time.monotonic`."""
    polls: list[float] = field(default_factory=list)
    """Seconds between two looks."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Time, and MiB of the program that are in memory."""
    unreadable: int = 0
    """Looks at a changed screen that showed no whole number: half drawn."""
    began: float = 0.0
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores used: by the program, the X server, and this watcher."""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def watch(screen: Screen, pid: int, seconds: float) -> Watched:
    """Look at the numbers on the screen for so long."""
    rows, columns = points()
    few_rows, few_columns = rows[:, 5], columns[:, 5]  # of each block, one pixel
    pixels, seen = screen.pixels, Watched()
    last = np.zeros(0)
    number: int | None = None
    pids = {"program": pid, "x_server": screen.pid, "watcher": os.getpid()}
    before = {name: cpu_seconds(one) for name, one in pids.items()}
    now = next_memory = seen.began = time.monotonic()
    while now - seen.began < seconds:
        time.sleep(POLL_SECONDS)
        quick = pixels[few_rows, few_columns]
        earlier, now = now, time.monotonic()
        seen.polls.append(now - earlier)
        if not np.array_equal(quick, last):
            read = number_in(pixels[rows, columns, 2::-1])
            if read is None:
                seen.unreadable += 1
            else:
                last = quick
                if read != number:
                    number = read
                    seen.numbers.append(read)
                    seen.times.append(now)
        if now >= next_memory:
            seen.memory.append((now, resident_mib(pid)))
            next_memory += 1
    seen.seconds = time.monotonic() - seen.began
    seen.cpu = {name: (cpu_seconds(one) - before[name]) / seen.seconds for name, one in pids.items()}
    return seen


@dataclass
class Pressed:
    """A key, and the pictures that were on the screen afterwards."""

    sent: float
    """When xdotool was started."""
    took: float
    """Seconds until it had ended."""
    times: list[float]
    """When each new picture was first seen."""
    pictures: list[NDArray[np.uint8]]
    """A few pixels of each, beginning with what was there before."""


def press(screen: Screen, key: str) -> Pressed:
    """Press ``key`` while the picture stands still, and note how it changes."""

    def picture() -> NDArray[np.uint8]:
        return screen.pixels[PICTURE][..., :3].copy()

    last = picture()
    now = sent = time.monotonic()
    tool = screen.start_tool("key", key)
    pressed = Pressed(sent, 0.0, [], [last])
    while now - sent < SWITCH_SECONDS:
        time.sleep(POLL_SECONDS)
        new = picture()
        now = time.monotonic()
        if not pressed.took and tool.poll() is not None:
            pressed.took = now - sent
        if not np.array_equal(new, last):
            last = new
            pressed.times.append(now)
            pressed.pictures.append(new)
    return pressed


@dataclass
class Played:
    """One run of the program."""

    watched: Watched
    notes: dict[str, NDArray[np.float64]]
    """What it wrote down itself: see noted_webcam.py."""
    report: dict[str, Any]
    """What it printed at the end."""


@contextmanager
def webcam(screen: Screen, folder: Path, words: list[str], stages: bool = False) -> Iterator[subprocess.Popen[str]]:
    """``vidstyle webcam`` with a window on ``screen`` that shows frames."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "noted_webcam.py"), str(folder / "notes.npz")]
    command += [*(["--stages"] if stages else []), "--json", *words]
    paths = [str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command,
        env={**screen.environment, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        rows, columns = points()
        end = time.monotonic() + 60
        while number_in(screen.pixels[rows, columns, 2::-1]) is None:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise SystemExit(f"vidstyle webcam shows nothing:\n{process.communicate()[1][-2000:]}")
            time.sleep(0.05)
        window = screen.tool("search", "--name", "^vidstyle$").split()[-1]
        screen.tool("windowfocus", window)  # there is no window manager to do it
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def play(clip: Path, seconds: float, *words: str, stages: bool = False, into: Path) -> Played:
    """Play ``clip`` as a camera for ``seconds``, watched."""
    with tempfile.TemporaryDirectory(dir=into) as name, Screen(Path(name)) as screen:
        folder = Path(name)
        with webcam(screen, folder, source_words(clip, *words), stages) as process:
            time.sleep(WARM_UP_SECONDS)
            watched = watch(screen, process.pid, seconds)
            out = ended(screen, process)
        with np.load(folder / "notes.npz") as notes:
            report: dict[str, Any] = json.loads(out)
            for recording in report["recordings"]:
                report["recorded"] = recorded(folder / recording)
            return Played(watched, dict(notes), report)


def source_words(clip: Path, *words: str) -> list[str]:
    """Options that play ``clip`` again and again."""
    return ["--source", str(clip), "--loop", "--style", STYLE, *words]


def ended(screen: Screen, process: subprocess.Popen[str]) -> str:
    """End the program by its key; returns what it printed."""
    screen.tool("key", "q")
    out, err = process.communicate(timeout=30)
    if process.returncode != 0:
        raise SystemExit(f"vidstyle webcam ended with {process.returncode}:\n{err[-2000:]}")
    return out


def recorded(path: Path) -> dict[str, float]:
    """Frames of a recording, and the seconds from the first to the last."""
    with av.open(str(path)) as file:
        times = [frame.time for frame in file.decode(video=0) if frame.time is not None]
    return {"frames": len(times), "seconds": times[-1] - times[0]}


@dataclass
class Delays:
    """Of each frame seen: when it was taken, and how long until it was seen and until the program claims it was."""

    captured: NDArray[np.float64]
    seen_ms: NDArray[np.float64]
    claimed_ms: NDArray[np.float64]
    """NaN where the program says nothing of it."""


def delays(played: Played) -> Delays:
    """Match what was seen with what was noted."""
    taken: dict[int, list[float]] = {}
    for number, pts in played.notes["captured"]:
        taken.setdefault(int(number), []).append(float(pts))
    claims = dict(played.notes["shown"])
    rows = []
    for number, seen in zip(played.watched.numbers, played.watched.times, strict=True):
        times = taken.get(number, [])
        place = bisect_right(times, seen)  # the clip is long: the number has not been on the screen for half a minute
        if place:
            pts = times[place - 1]
            rows.append((pts, 1000 * (seen - pts), 1000 * (claims.get(pts, np.nan) - pts)))
    return Delays(*np.array(rows).reshape(-1, 3).T)


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Median, 99th percentile, extremes; NaN is left out."""
    values = values[~np.isnan(values)]
    median, p99 = np.percentile(values, (50, 99))
    return {"median": float(median), "p99": float(p99), "low": float(values.min()), "high": float(values.max())}


def summary(played: Played) -> dict[str, Any]:
    """Rate, latency, honesty, processor and memory of one run."""
    watched, late = played.watched, delays(played)
    times = np.array(watched.times)
    span = times[-1] - times[0]
    pts = played.notes["captured"][:, 1]
    came = int(((pts >= late.captured[0]) & (pts <= late.captured[-1])).sum())
    report = played.report
    facts: dict[str, Any] = {
        "seconds": watched.seconds,
        "shown": len(times),
        "shown_fps": (len(times) - 1) / span,
        "source_fps": (came - 1) / span,
        "not_shown": came - len(late.captured),
        "unmatched": len(times) - len(late.captured),
        "longest_still_ms": 1000 * float(np.diff(times).max()),
        "latency_ms": spread(late.seen_ms),
        "claimed_ms": spread(late.claimed_ms),
        "seen_after_claim_ms": spread(late.seen_ms - late.claimed_ms),
        "report": {
            name: report[name]
            for name in ("fps", "latency_median_ms", "latency_p99_ms", "latency_longest_ms", "shown", "dropped")
        },
        "cores_used": watched.cpu,
        "memory_mib": spread(np.array([mib for _, mib in watched.memory])),
        "watcher_ms": spread(1000 * np.array(watched.polls)),
        "half_drawn": watched.unreadable,
        "backend": report["backend"],
        "work_size": report["work_size"],
        "problems": report["problems"],
    }
    if "recorded" in report:
        facts["recorded"] = {**report["recorded"], "dropped": report["outputs"][0]["dropped"]}
    return facts


def switches(clip: Path, into: Path) -> dict[str, Any]:
    """How long a key takes to show, on a picture that stands still, so that whatever changes is the style.

    The first new picture is a step of a crossfade that sets out gently: few would see it. So when a tenth and
    half of all that changes has changed is told, too.
    """
    with tempfile.TemporaryDirectory(dir=into) as name, Screen(Path(name)) as screen:
        folder = Path(name)
        with webcam(screen, folder, source_words(clip)) as process:
            time.sleep(WARM_UP_SECONDS)
            keys = [press(screen, "np"[number % 2]) for number in range(SWITCHES)]
            ended(screen, process)
    shares = []
    for key in keys:
        begin, end = key.pictures[0].astype(np.int16), key.pictures[-1].astype(np.int16)
        way = np.abs(end - begin).mean()
        shares.append(np.array([np.abs(one - begin).mean() / way for one in key.pictures[1:]]))
    facts: dict[str, Any] = {"keys": len(keys), "pictures_a_key": [len(key.times) for key in keys]}
    for name, least in (("first_ms", 0.0), ("tenth_ms", 0.1), ("half_ms", 0.5)):
        waits = [
            1000 * (key.times[int(np.argmax(share > least))] - key.sent)
            for key, share in zip(keys, shares, strict=True)
        ]
        facts[name] = spread(np.array(waits))
    facts["share_of_the_first"] = spread(np.array([share[0] for share in shares]))
    facts["xdotool_ms"] = spread(1000 * np.array([key.took for key in keys]))
    return facts


def by_minute(played: Played) -> dict[str, Any]:
    """Does anything grow? Each minute on its own, and the slope of the memory behind the first one."""
    watched, late = played.watched, delays(played)
    times, memory = np.array(watched.times), np.array(watched.memory)
    seen_at = late.captured + late.seen_ms / 1000
    minutes = []
    for number in range(max(1, int(watched.seconds // 60))):
        begin = watched.began + 60 * number
        end = begin + 60
        of_late = late.seen_ms[(seen_at >= begin) & (seen_at < end)]
        of_memory = memory[(memory[:, 0] >= begin) & (memory[:, 0] < end)]
        minutes.append(
            {
                "shown_fps": float(((times >= begin) & (times < end)).sum() / min(60, watched.seconds)),
                "latency_ms": spread(of_late),
                "memory_mib": float(of_memory[:, 1].mean()),
            }
        )
    later = memory[memory[:, 0] >= watched.began + min(60, watched.seconds / 2)]
    slope = float(np.polyfit((later[:, 0] - later[0, 0]) / 60, later[:, 1], 1)[0])
    first, last = minutes[0], minutes[-1]
    return {
        "minutes": minutes,
        "memory_slope_mib_a_minute": slope,
        "memory_growth_mib": last["memory_mib"] - first["memory_mib"],
        "latency_growth_ms": last["latency_ms"]["median"] - first["latency_ms"]["median"],
    }


def stage_times(played: Played) -> dict[str, Any]:
    """Where a frame's time goes: milliseconds a frame in each step, and processor time by thread."""
    watched, notes = played.watched, played.notes
    begin, end = watched.began, watched.began + watched.seconds
    frames = len(watched.times)
    facts: dict[str, Any] = {}
    for name, rows in notes.items():
        if name.startswith("stage_"):
            inside = rows[(rows[:, 0] >= begin) & (rows[:, 0] < end)]
            if len(inside):
                ms = 1000 * inside[:, 1]
                facts[name.removeprefix("stage_")] = {
                    **spread(ms),
                    "ms_a_frame": float(ms.sum() / frames),
                    "calls_a_frame": len(inside) / frames,
                }
    # Frames go through the loop in order: one start, one end, one word to the screen for each.
    began, (ends, took), (pts, told) = notes["stage_submit"][:, 0], notes["stage_finish"].T, notes["shown"].T
    count = min(len(began), len(ends), len(pts))
    inside = (told[:count] >= begin) & (told[:count] < end)
    painted = ends[:count] + took[:count]
    late = delays(played)
    way = {
        "captured_to_started": began[:count] - pts[:count],
        "started_to_painted": painted - began[:count],
        "painted_to_claimed": told[:count] - painted,
    }
    facts_of_way = {name: spread(1000 * seconds[inside]) for name, seconds in way.items()}
    facts_of_way["claimed_to_seen"] = spread(late.seen_ms - late.claimed_ms)
    capture = notes["capture_cpu"]
    capture_ms = 1000 * (capture[-1, 1] - capture[0, 1]) / (30 * (len(capture) - 1))
    main_ms = 1000 * float(notes["main_cpu"]) / max(1, len(notes["shown"]))
    process_ms = 1000 * watched.cpu["program"] * watched.seconds / frames
    server_ms = 1000 * watched.cpu["x_server"] * watched.seconds / frames
    return {
        "way": facts_of_way,
        "steps": facts,
        "cpu_ms_a_frame": {
            "program": process_ms,
            "capture_thread": float(capture_ms),
            "main_thread_with_start": main_ms,
            "x_server": server_ms,
        },
    }


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The round with the median latency in the middle, and what all of them had."""
    by_latency = sorted(rounds, key=lambda facts: facts["latency_ms"]["median"])
    return {**by_latency[len(by_latency) // 2], "rounds": rounds}


def measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """One part of the benchmark."""
    clips: Path = options.clips
    moving = make_stamped_clip(clips / f"stamped-{CLIP_FRAMES}.mp4", CLIP_FRAMES)
    facts: dict[str, Any] = {"load_before": load()}
    if part == "plain":
        facts |= middle([summary(play(moving, options.seconds, into=clips)) for _ in range(options.rounds)])
    elif part == "record":
        facts |= middle(
            [
                summary(play(moving, options.seconds, "--record", "recording.mp4", into=clips))
                for _ in range(options.rounds)
            ]
        )
    elif part == "switch":
        still = make_stamped_clip(clips / "stamped-still.mp4", 60, still=True)
        facts |= switches(still, clips)
    elif part == "stages":
        facts |= stage_times(play(moving, options.seconds, stages=True, into=clips))
    else:
        played = play(moving, 60 * options.minutes, into=clips)
        facts |= summary(played) | by_minute(played)
    return {**facts, "load_after": load()}


def table(facts: dict[str, Any]) -> list[str]:
    """What was measured, for people."""
    lines = []
    for part in ("plain", "record", "long"):
        if part in facts:
            run = facts[part]
            seen, error = run["latency_ms"], run["seen_after_claim_ms"]
            lines.append(
                f"{part:8} {run['shown_fps']:5.1f} fps of {run['source_fps']:.1f}; captured to seen: median "
                f"{seen['median']:.1f} ms, p99 {seen['p99']:.1f}, most {seen['high']:.1f}; seen after it was claimed: "
                f"median {error['median']:+.1f} ms, p99 {error['p99']:+.1f}; not shown {run['not_shown']}; "
                f"{run['cores_used']['program']:.2f} cores; {run['memory_mib']['high']:.0f} MiB"
            )
    if "long" in facts:
        run = facts["long"]
        lines.append(
            f"{'':8} {len(run['minutes'])} minutes: memory {run['memory_slope_mib_a_minute']:+.2f} MiB a minute, "
            f"latency {run['latency_growth_ms']:+.1f} ms from the first to the last"
        )
    if "switch" in facts:
        run = facts["switch"]
        first, half = run["first_ms"], run["half_ms"]
        lines.append(
            f"{'switch':8} key to first new frame: median {first['median']:.0f} ms, most {first['high']:.0f} "
            f"({run['keys']} keys); to a tenth of the crossfade {run['tenth_ms']['median']:.0f} ms, half "
            f"{half['median']:.0f}"
        )
    if "stages" in facts:
        steps = facts["stages"]["steps"]
        lines.append(
            "stages   " + ", ".join(f"{name} {step['ms_a_frame']:.2f}" for name, step in steps.items()) + " ms a frame"
        )
        way = ", ".join(f"{name} {step['median']:.1f}" for name, step in facts["stages"]["way"].items())
        lines.append(f"         way of a frame, medians: {way} ms")
        cpu = facts["stages"]["cpu_ms_a_frame"]
        lines.append("         processor: " + ", ".join(f"{name} {ms:.2f}" for name, ms in cpu.items()) + " ms a frame")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result folder, such as the machine's")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all, `long` with --minutes only")
    parser.add_argument("--minutes", type=float, default=0, help="length of the long run")
    parser.add_argument("--seconds", type=float, default=30, help="length of the others")
    parser.add_argument("--rounds", type=int, default=3, help="how often `plain` and `record` are run")
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result folder")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    if options.parts is None:
        options.parts = [part for part in PARTS if part != "long" or options.minutes]
    if "long" in options.parts and not options.minutes:
        parser.error("the long run needs --minutes")
    options.clips.mkdir(parents=True, exist_ok=True)
    results = ResultFile("live", options.results / options.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    machine = asdict(describe_run(load_blend(STYLE), EncodeOptions()))
    for part in options.parts:
        print(f"{part} (load {load():.1f})", flush=True)
        facts = measure(part, options)
        results.put("machine", part, {**{k: v for k, v in machine.items() if k != "cases"}, "note": options.note})
        results.put("live", part, facts)
        print("\n".join(table({part: facts})), flush=True)


if __name__ == "__main__":
    main()
