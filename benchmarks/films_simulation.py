"""How long would 1,000 films take on 10, 100 or 1,000 workers, and what would hold them up?

    python benchmarks/films_simulation.py NAME [--films 1000 --minutes 120 --fps 8 ...]

A simulation by events, on paper: parts go to free workers in order, each part takes the time measured for its frames,
workers die at random moments and come back, and everything that one machine does for all (handing out parts, sending
the films, taking in the parts, assembling) takes its turn. The times of a part, of handing out and of assembling are
those of results/NAME/films.json where they were measured, or of the options. Results go to
results/NAME/films_simulation.json.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from measured import RESULTS, Facts, ResultFile, markdown


@dataclass(frozen=True)
class Setting:
    """What is assumed."""

    films: int = 1000
    minutes: float = 120.0
    rate: float = 25.0
    """Frames a second of the films."""
    workers: int = 100
    part_seconds: float = 60.0
    """Of film in a part."""
    fps: float = 14.9
    """Frames a second that one worker, a core, paints: half of the README's two cores at 1280x720."""
    spread: float = 0.1
    """Standard deviation of a part's time, as a share of it (log-normal)."""
    part_overhead: float = 0.3
    """Seconds that a part costs beside its frames: opening, seeking, emptying the pipeline, storing."""
    start: float = 8.0
    """Seconds until a new worker paints: libraries, compiling."""
    hand_out: float = 0.005
    """Seconds of the head for each part."""
    assemble: float = 14.0
    """Seconds of one of the head's cores for each film."""
    head_cores: int = 4
    failure_hours: float = 24.0
    """Mean time until a worker dies (exponential)."""
    replace_seconds: float = 120.0
    """Until another one is there."""
    film_gb: float = 4.0
    part_mbit: float = 5.0
    """Bit rate of what comes back."""
    head_gbit: float = 1.0
    """Network of the head, each way."""
    node_gbit: float = 10.0
    """Network of a machine of workers."""
    node_workers: int = 16
    shared: bool = False
    """Whether workers read the films from a disk that all see, so that none is sent."""
    seed: int = 1


def simulate(setting: Setting) -> Facts:
    """Hours, and how busy everything was."""
    s, chance = setting, random.Random(setting.seed)
    seconds = s.minutes * 60
    parts = max(1, math.ceil(seconds / s.part_seconds))
    mu = -0.5 * math.log(1 + s.spread**2)
    sigma = math.sqrt(math.log(1 + s.spread**2))
    send = 0.0 if s.shared else s.film_gb * 8 / s.head_gbit
    fetch = 0.0 if s.shared else s.film_gb * 8 / s.node_gbit
    take_in = seconds / parts * s.part_mbit / 1000 / s.head_gbit
    free = [(s.start, worker) for worker in range(s.workers)]
    dies = [chance.expovariate(1 / (s.failure_hours * 3600)) for _ in range(s.workers)]
    fetched: dict[int, tuple[int, float]] = {}
    head = painting = lost = 0.0
    deaths = 0
    ends: list[tuple[float, int]] = []
    for film in range(s.films):
        there = (film + 1) * send
        for part in range(parts):
            length = min(s.part_seconds, seconds - part * s.part_seconds)
            work = s.part_overhead + length * s.rate / s.fps * math.exp(chance.gauss(mu, sigma))
            now, worker = heapq.heappop(free)
            head = max(head, now, there) + s.hand_out
            begin = head
            node = worker // s.node_workers
            known = fetched.get(node)
            if known is None or known[0] != film:  # the films come in order, and a machine works on one or two
                fetched[node] = known = film, begin + fetch
            begin = max(begin, known[1])
            while dies[worker] < begin + work:
                deaths += 1
                lost += max(0.0, dies[worker] - begin)
                begin = max(begin, dies[worker]) + s.replace_seconds + s.start
                dies[worker] = begin + chance.expovariate(1 / (s.failure_hours * 3600))
            end = begin + work
            painting += work
            heapq.heappush(free, (end, worker))
            ends.append((end, film))
    # What comes back takes its turn on the head's link, and then on one of its cores.
    link, complete = 0.0, [0.0] * s.films
    for end, film in sorted(ends):
        link = complete[film] = max(link, end) + take_in
    cores = [0.0] * s.head_cores
    for whole in sorted(complete):
        heapq.heapreplace(cores, max(cores[0], whole) + s.assemble)
    total = max(cores)
    handed = s.films * parts * s.hand_out
    busy = {
        "painting": painting / (s.workers * total),
        "handing out": handed / total,
        "sending films": s.films * send / total,
        "taking in parts": s.films * parts * take_in / total,
        "assembling": s.films * s.assemble / (s.head_cores * total),
    }
    return {
        "hours": total / 3600,
        "worker_hours": total * s.workers / 3600,
        "ideal_hours": s.films * seconds * s.rate / s.fps / s.workers / 3600,
        "deaths": deaths,
        "lost_hours": lost / 3600,
        "busy": busy,
        "held_up_by": max(busy, key=busy.__getitem__),
    }


def measured(folder: Path) -> dict[str, float]:
    """What films.json of the same machine says."""
    facts = ResultFile("films", folder).facts.get("films", {})
    known: dict[str, float] = {}
    if "assemble_cpu_seconds" in facts.get("plan", {}):
        known["assemble"] = facts["plan"]["assemble_cpu_seconds"] * 180_000 / facts["plan"]["frames"]
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="folder of the results, such as the machine's name")
    for name, value in asdict(Setting()).items():
        if name not in ("workers", "part_seconds", "shared"):
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), help=f"default: {value}")
    parser.add_argument("--workers", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--part-seconds", type=float, nargs="*", default=[10, 30, 60, 120, 300, 600])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = vars(parser.parse_args())
    name, results = options.pop("name"), options.pop("results")
    workers, lengths = options.pop("workers"), options.pop("part_seconds")
    (results / name).mkdir(parents=True, exist_ok=True)
    given = {key: value for key, value in options.items() if value is not None}
    setting = replace(Setting(), **{**measured(results / name), **given})
    file = ResultFile("films_simulation", results / name)
    rows, began = [], time.perf_counter()
    for shared, count, length in product((False, True), workers, lengths):
        facts = simulate(replace(setting, workers=count, part_seconds=length, shared=shared))
        file.put("runs", f"{count} workers, {length:g} s, {'one disk' if shared else 'films are sent'}", facts)
        cells = [f"{count}", f"{length:g}", "yes" if shared else "no"]
        cells += [f"{facts['hours']:.4g}", f"{facts['worker_hours']:.5g}", f"{facts['lost_hours']:.3g}"]
        second = sorted(facts["busy"].items(), key=lambda pair: -pair[1])[:2]
        rows.append([*cells, ", ".join(f"{what} {share:.0%}" for what, share in second)])
    file.put("setting", "assumed", asdict(setting))
    heads = ["workers", "seconds of film in a part", "one disk", "hours", "worker-hours", "lost", "busiest"]
    print("\n".join(markdown(heads, rows)))
    print(f"\n{time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
