"""How network, encoder and decoder share few cores: the same render with other numbers of threads, in turn.

    python benchmarks/threads.py NAME [--cores 1 2 4 8] [--cases 360p 1080p-work-360] [--rounds 3]

For each number of cores (held by affinity, as far as the machine has them) and each case: frames a second, start-up
apart, of every split of threads, one after the other in each round. A split is the network's threads and streams
(OpenVINO paints as many frames at once as it has streams), x264's threads and the decoder's. Results go to
results/NAME/threads.json; one and two cores take four minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from clips import clip_name, make_clip
from measured import RESULTS, ResultFile, load, machine
from run import CASES
from variants import Variant, encoder_with, fps_of

from vidstyle.options import BackendOptions
from vidstyle.tools.bench import Spread
from vidstyle.video.reader import VideoReader

USUAL_DECODER, OWN_CHOICE = 1, 0
"""What `VideoReader` takes up to Full HD; x264's number for a choice of its own, one and a half for each core."""
WARM_UP_SECONDS = 0.4


@dataclass(frozen=True)
class Split:
    """Who has how many threads."""

    network: int
    streams: int
    encoder: int = OWN_CHOICE
    decoder: int = USUAL_DECODER

    def __str__(self) -> str:
        return f"{self.network}/{self.streams} {self.encoder or 'auto'} {self.decoder}"


def splits(cores: int) -> list[Split]:
    """What is measured on so many cores; the first is what vidstyle takes by itself."""
    usual = Split(cores, cores if cores <= 4 else max(4, cores // 4))
    networks = [usual]
    for threads in (cores, max(1, cores - 1)):
        networks += [Split(threads, streams) for streams in (min(usual.streams, threads), threads, 1)]
    found = [replace(one, encoder=encoder) for one in networks for encoder in (OWN_CHOICE, 1, cores)]
    found.append(replace(usual, decoder=2))
    return list(dict.fromkeys(found))


@contextmanager
def arranged(split: Split) -> Generator[Variant, None, None]:
    """A render with ``split``."""
    from vidstyle.backends import openvino  # in the process of the right affinity, which the library asks for once

    plan = openvino._plan

    def changed(*given: Any) -> Any:
        found = plan(*given)
        return replace(found, streams=split.streams, settings={**found.settings, "NUM_STREAMS": split.streams})

    with ExitStack() as stack:
        stack.enter_context(patch.object(openvino, "_plan", changed))
        stack.enter_context(patch.dict(VideoReader.__init__.__kwdefaults__, threads=split.decoder))
        backend = BackendOptions(backend="openvino", threads=split.network)
        yield Variant(backend=backend, change=encoder_with(threads=str(split.encoder)))


def measure(cores: int, clip: Path, work_size: int | None, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Each split with its frames a second."""
    found: dict[Split, list[float]] = {split: [] for split in splits(cores)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for split, values in found.items():
                with arranged(split) as variant:
                    length = seconds if number else WARM_UP_SECONDS  # the first round compiles
                    fps = fps_of(variant, clip, Path(folder) / "out.mp4", work_size, length)
                if number:
                    values.append(fps)
    return [{**asdict(split), "fps": asdict(Spread.of(values))} for split, values in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/threads.json")
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--cases", nargs="+", default=["360p", "1080p-work-360"], choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="how much of the clip is rendered")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file's folder")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    folder = options.results / options.name
    for path in (folder, options.clips):
        path.mkdir(parents=True, exist_ok=True)
    usable = sorted(os.sched_getaffinity(0))
    results = ResultFile("threads", folder)
    results.put("machine", "threads", {**machine(), "rounds": options.rounds, "load_before": load()})
    for cores in (count for count in options.cores if count <= len(usable)):
        os.sched_setaffinity(0, usable[:cores])  # the process that measures inherits it
        for name in options.cases:
            case = CASES[name]
            clip = make_clip(options.clips / clip_name(case.width, case.height, 20), case.width, case.height, 20)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                task = pool.submit(measure, cores, clip, case.work_size, options.rounds, options.seconds)
                found = task.result()
            work = f", work size {case.work_size}" if case.work_size else ""
            title = f"{case.width}x{case.height}{work}"
            results.put("threads", f"{cores} {name}", {"cores": cores, "title": title, "splits": found})
            for split in found:
                print(f"{cores} cores, {name}: {split}", flush=True)
    os.sched_setaffinity(0, usable)


if __name__ == "__main__":
    main()
