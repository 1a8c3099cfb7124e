"""Films in parts: kills, a Ray cluster whose workers die, what parts cost, long plans, memory.

    python benchmarks/films.py NAME [kills] [cluster] [cost] [plan] [memory]

Each task takes minutes. Results go to benchmarks/results/NAME/films.json. The film is `examples/bunny.mp4` at 320x180,
again and again, at a rate that varies, with sound, B-frames and a key frame every two seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from measured import RESULTS, Facts, ResultFile, load, machine, run

BUNNY = Path(__file__).parent.parent / "examples" / "bunny.mp4"
WIDTH, HEIGHT, STYLE = 320, 180, "starry_night"
MILLISECOND = Fraction(1, 1000)
OURS = [sys.executable, "-m", "vidstyle", "render", "--style", STYLE]
CLUSTER = """
import ray
from vidstyle.cli import main
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
main()
"""


def make_film(
    path: Path, minutes: float, *, size: tuple[int, int] = (HEIGHT, WIDTH), frames: int = 0, rate: float = 12.5
) -> Path:
    """A film of about so many minutes, or of so many ``frames``, at a rate that varies by a quarter around ``rate``."""
    if path.exists():
        return path
    times = np.random.default_rng(7)
    with av.open(str(BUNNY)) as file:
        shown = [
            frame.reformat(width=size[1], height=size[0], format="yuv420p", threads=1)
            for frame, _ in zip(file.decode(video=0), range(250), strict=False)
        ]
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as output:
        options = {"preset": "ultrafast", "bf": "2", "g": "50", "crf": "24"}
        video: Any = output.add_stream("libx264", rate=Fraction(rate), options=options)
        video.time_base = video.codec_context.time_base = MILLISECOND
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        sound: Any = output.add_stream("aac", rate=48000)
        pts = number = heard = 0
        while number < frames if frames else pts < minutes * 60_000:
            frame = shown[number % len(shown)]
            frame.pts, frame.time_base = pts, MILLISECOND
            output.mux(video.encode(frame))
            pts, number = pts + int(times.integers(round(750 / rate), round(1250 / rate) + 1)), number + 1
            while heard < pts * 48:
                wave = np.sin(np.arange(heard, heard + 48000) / 20 + heard).astype(np.float32)[None] * 0.2
                wave += times.normal(0, 0.01, wave.shape).astype(np.float32)
                piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                piece.rate, piece.pts, piece.time_base = 48000, heard, Fraction(1, 48000)
                output.mux(sound.encode(piece))
                heard += 48000
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    os.replace(part, path)
    return path


def contents(path: Path) -> Facts:
    """Times and digests of what is in a video: pts in seconds, decoded pictures, sound packets as they are."""
    pts, pictures, sound = [], hashlib.sha256(), hashlib.sha256()
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.stream.type == "video":
                for frame in packet.decode():
                    pts.append(frame.pts * frame.time_base)
                    pictures.update(frame.to_ndarray().tobytes())
            elif packet.size:
                sound.update(f"{packet.pts * packet.time_base}".encode() + bytes(packet))
    return {"pts": pts, "pictures": pictures.hexdigest(), "sound": sound.hexdigest()}


def compared(film: Path, unbroken: Path, output: Path) -> Facts:
    """Whether what was interrupted is what it would have been."""
    source, one, other = contents(film), contents(unbroken), contents(output)
    return {
        "frames": len(other["pts"]),
        "pts_as_in_the_source": other["pts"] == source["pts"],
        "pictures_as_in_an_unbroken_run": other["pictures"] == one["pictures"],
        "sound_as_in_the_source": other["sound"] == source["sound"],
        "same_bytes": unbroken.read_bytes() == output.read_bytes(),
    }


def kills(folder: Path, options: argparse.Namespace) -> Facts:
    """Kill the command at random moments and give it again, until the film is whole."""
    film = make_film(folder / f"film-{options.minutes:g}-{options.rate:g}.mp4", options.minutes, rate=options.rate)
    unbroken, output = folder / "unbroken.mp4", folder / "killed.mp4"
    words = ["--part-seconds", f"{options.part_seconds:g}", "--work-size", str(options.work_size)]
    for path in (unbroken, output):
        path.unlink(missing_ok=True)
    began = time.perf_counter()
    run([*OURS, str(film), str(unbroken), *words])
    seconds = time.perf_counter() - began
    parts, chance, moments = folder / "killed.mp4.parts", random.Random(options.seed), []
    done: dict[str, int] = {}
    again = False
    share = options.minutes * 60 / options.part_seconds / options.kills
    while len(moments) < options.kills:
        process = subprocess.Popen([*OURS, str(film), str(output), *words], stderr=subprocess.DEVNULL)
        first = time.perf_counter()
        # In the start-up, or when some more parts are done, on average the share that is due; and then at any moment.
        wanted = len(done) + round(chance.uniform(0, 2 * share))
        while process.poll() is None and len(list(parts.glob("0*.json"))) < wanted:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, seconds / options.kills))
        process.kill()
        process.wait()
        if output.exists():
            break
        now = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.json")}
        again = again or any(now.get(name) != stamp for name, stamp in done.items())
        moments.append({"after_seconds": time.perf_counter() - first, "parts_done": len(now)})
        print(moments[-1], flush=True)
        done = now
    if not output.exists():
        run([*OURS, str(film), str(output), *words])
    return {
        "minutes": options.minutes,
        "rate": options.rate,
        "part_seconds": options.part_seconds,
        "work_size": options.work_size,
        "unbroken_seconds": seconds,
        "kills": moments,
        "parts_painted_twice": again,
        "parts_folder_is_gone": not parts.exists(),
        **compared(film, unbroken, output),
    }


def cluster(folder: Path, options: argparse.Namespace) -> Facts:
    """The same on four workers of a Ray cluster of which a random one is killed every few seconds."""
    film = make_film(folder / f"film-{options.minutes:g}-{options.rate:g}.mp4", options.minutes, rate=options.rate)
    unbroken, output = folder / "unbroken.mp4", folder / "cluster.mp4"
    words = ["--part-seconds", f"{options.part_seconds:g}", "--work-size", str(options.work_size)]
    output.unlink(missing_ok=True)
    if not unbroken.exists():
        run([*OURS, str(film), str(unbroken), *words])
    chance, killed, runs = random.Random(options.seed), 0, 0
    began = time.perf_counter()
    while not output.exists() and runs < 10:
        runs += 1
        command = [sys.executable, "-c", CLUSTER, *OURS[3:], str(film), str(output), *words, "--workers", "ray"]
        process = subprocess.Popen(command, start_new_session=True)
        stop = threading.Event()

        def kill(session: int = process.pid, stop: threading.Event = stop) -> None:
            nonlocal killed
            while not stop.wait(chance.uniform(2, 6)):
                if painters := painters_of(session):
                    with contextlib.suppress(OSError):
                        os.kill(chance.choice(painters), signal.SIGKILL)
                        killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        process.wait()
        stop.set()
        killer.join()
    return {
        "minutes": options.minutes,
        "rate": options.rate,
        "part_seconds": options.part_seconds,
        "seconds": time.perf_counter() - began,
        "killed": killed,
        "runs": runs,
        **compared(film, unbroken, output),
    }


def painters_of(session: int) -> list[int]:
    """The processes of a session that are painting a part for Ray."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if b"ray::_paint" in (entry / "cmdline").read_bytes() and os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
    return found


def cost(folder: Path, options: argparse.Namespace) -> Facts:
    """One piece, parts, and parts by two workers, in turn."""
    film = make_film(folder / f"film-{options.cost_minutes:g}.mp4", options.cost_minutes)
    ways = {"one_piece": ["--no-parts"], "parts": ["--parts"], "two_workers": ["--workers", "2"]}
    found: dict[str, list[Facts]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way, words in ways.items():
            output = folder / f"{way}.mp4"
            done = run([*OURS, str(film), str(output), "-y", "--json", *words])
            report = json.loads(done.output)
            facts = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "frames": report["frames"]}
            found[way].append(facts)
            print(number, way, facts, flush=True)
    middle = {
        way: {key: statistics.median(one[key] for one in runs) for key in ("seconds", "cpu_seconds")}
        for way, runs in found.items()
    }

    def ratio(way: str, key: str) -> float:
        pairs = zip(found[way], found["one_piece"], strict=True)
        return statistics.median(other[key] / one[key] for other, one in pairs)

    return {
        "minutes": options.cost_minutes,
        "runs": found,
        "median": middle,
        "ratio": {way: {key: ratio(way, key) for key in ("seconds", "cpu_seconds")} for way in list(ways)[1:]},
    }


def repeated(source: Path, path: Path, times: int) -> Path:
    """The packets of a short film, so many times one after the other."""
    with av.open(str(path), "w") as output:
        streams: dict[int, Any] = {}
        for number in range(times):
            with av.open(str(source)) as file:
                for stream in file.streams:
                    streams.setdefault(stream.index, output.add_stream_from_template(stream))
                length = max(Fraction(stream.duration or 0) * stream.time_base for stream in file.streams)
                for packet in file.demux():
                    if packet.size:
                        # The first B-frames are decoded before 0, which only the first time has no place for.
                        shift = round(number * (length + Fraction(1, 4)) / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = streams[packet.stream.index]
                        output.mux(packet)
    return path


def packets_of(path: Path) -> tuple[list[Fraction], str]:
    """When each picture is shown, and a digest of the sound packets and their times."""
    shown, sound = [], hashlib.sha256()
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size and packet.stream.type == "video":
                shown.append(packet.pts * packet.time_base)
            elif packet.size:
                sound.update(f"{packet.pts * packet.time_base}".encode() + bytes(packet))
    return sorted(shown), sound.hexdigest()


def plan(folder: Path, options: argparse.Namespace) -> Facts:
    """Plan a film of two hours, and assemble it from parts that all hold the same coded pictures."""
    from vidstyle import ClipOptions, EncodeOptions
    from vidstyle.films.film import append_part
    from vidstyle.films.folder import PartRecord, file_digest, pts_digest
    from vidstyle.films.plan import facts_of, make_plan, packed
    from vidstyle.frame import Frame, FrameFormat
    from vidstyle.rendering import VideoPainter
    from vidstyle.video.frame_index import index_frames
    from vidstyle.video.writer import VideoWriter

    minute = make_film(folder / "minute.mp4", 0, size=(32, 32), frames=1500, rate=25)
    film = repeated(minute, folder / "tiny.mp4", options.frames // 1500)
    with VideoPainter(STYLE) as painter:
        began, cpu = time.perf_counter(), time.process_time()
        index = index_frames(film)
        made = make_plan(painter, film, index, facts=facts_of(painter, None, ".mp4"), stamp=(0, 0))
        planned, planned_cpu = time.perf_counter() - began, time.process_time() - cpu
    form = FrameFormat(height=32, width=32, pixels="i420")
    chroma = np.full((16, 16), 128, np.uint8)
    common: Any = {"source": index.info, "form": form, "encode": EncodeOptions(), "clip": ClipOptions()}
    common |= {"overwrite": True, "threads": 4}
    coded = folder / "coded.nut"
    with VideoWriter(folder / "whole.mp4", source_path=None, packets_to=coded, **common) as writer:
        for number in range(max(part.frames for part in made.parts)):
            luma = np.full((32, 32), number % 256, np.uint8)
            writer.write(Frame((luma, chroma, chroma), form, number * 40, MILLISECOND, 40))
    records = []
    for part in made.parts:
        path, pts = folder / f"{part.number:05}.nut", made.pts_of(part)
        with (
            av.open(str(coded)) as file,
            VideoWriter(folder / "whole.mp4", source_path=None, packets_to=path, **common) as writer,
        ):
            for packet, time_ in zip(file.demux(video=0), pts.tolist(), strict=False):
                writer.write_packet(packet, time_, 40)
        records.append(
            PartRecord(
                number=part.number,
                frames=len(pts),
                pts=pts_digest(pts),
                durations=packed(np.array(writer.durations, np.int64)),
                missing=[],
                lost=0,
                size=path.stat().st_size,
                sha256=file_digest(path),
                seconds=0.0,
                backend="",
            )
        )
    began, cpu = time.perf_counter(), time.process_time()
    with VideoWriter(folder / "whole.mp4", source_path=film, **common) as writer:
        for part, record in zip(made.parts, records, strict=True):
            append_part(writer, folder / f"{part.number:05}.nut", record, made, part)
    assembled, assembled_cpu = time.perf_counter() - began, time.process_time() - cpu
    shown, sound = packets_of(folder / "whole.mp4")
    base = index.info.time_base
    return {
        "frames": len(index.pts),
        "parts": len(made.parts),
        "plan_seconds": planned,
        "plan_cpu_seconds": planned_cpu,
        "assemble_seconds": assembled,
        "assemble_cpu_seconds": assembled_cpu,
        "pts_as_planned": shown == [int(pts) * base for pts in made.pts],
        "sound_as_in_the_source": sound == packets_of(film)[1],
    }


def memory(folder: Path, options: argparse.Namespace) -> Facts:
    """The peak of a short and a long film."""
    found = {}
    for minutes in (2, 20):
        film = make_film(folder / f"film-{minutes}.mp4", minutes)
        words = [*OURS, str(film), str(folder / "painted.mp4"), "-y", "--parts", "--work-size", str(options.work_size)]
        done = run(words)
        found[f"{minutes} minutes"] = {"peak_mib": done.peak_mib, "seconds": done.seconds}
        print(minutes, found[f"{minutes} minutes"], flush=True)
    return found


TASKS = {"kills": kills, "cluster": cluster, "cost": cost, "plan": plan, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="folder of the results, such as the machine's name")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"what to measure: {', '.join(TASKS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=20, help="of the film that is killed")
    parser.add_argument("--rate", type=float, default=12.5, help="frames a second of that film, on average")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--part-seconds", type=float, default=30, help="of the film that is killed")
    parser.add_argument("--work-size", type=int, default=48, help="rows painted, so that 20 minutes pass quickly")
    parser.add_argument("--cost-minutes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="of the cost")
    parser.add_argument("--frames", type=int, default=180_000, help="of the plan")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    unknown = set(options.tasks) - set(TASKS)
    if unknown:
        parser.error(f"{shlex.join(unknown)} is none of {', '.join(TASKS)}")
    options.clips.mkdir(parents=True, exist_ok=True)
    (options.results / options.name).mkdir(parents=True, exist_ok=True)
    file = ResultFile("films", options.results / options.name)
    for task in options.tasks or TASKS:
        before = load()
        facts = {"load_before": before, "note": options.note, **TASKS[task](options.clips, options)}
        file.put("films", task, facts)
        file.put("machine", "films", machine())
        print(task, json.dumps(facts, default=str)[:600], flush=True)


if __name__ == "__main__":
    main()
