"""Does a long video take more memory than a short one? 10 minutes of 640x360 beside 10 seconds.

    python benchmarks/memory.py NAME [--minutes 10]

The long clip is the short one again and again, copied without encoding. Results go to
benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

import av
from clips import clip_name, make_clip
from measured import RESULTS, ResultFile, load, run

WIDTH, HEIGHT, STYLE = 640, 360, "starry_night"


def repeated(source: Path, path: Path, times: int) -> Path:
    """Write the packets of ``source``, one track of video, ``times`` times to ``path``, one after the other."""
    with av.open(str(path), "w") as output:
        stream = None
        for number in range(times):
            with av.open(str(source)) as file:
                video = file.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in file.demux(video):
                    if packet.size:
                        shift = number * (video.duration or 0)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        output.mux(packet)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the result file, such as the machine's")
    parser.add_argument("--ours", default=f"{sys.executable} -m vidstyle", help="our command (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="of the long clip (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of the short clip (%(default)s)")
    parser.add_argument("--note", help="what else there is to say, such as what else was running")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-clips")
    options = parser.parse_args()
    options.clips.mkdir(parents=True, exist_ok=True)
    short = make_clip(options.clips / clip_name(WIDTH, HEIGHT, options.seconds), WIDTH, HEIGHT, options.seconds)
    facts: dict[str, object] = {"width": WIDTH, "height": HEIGHT, "load_before": load(), "note": options.note}
    peaks = {}
    with tempfile.TemporaryDirectory(dir=options.clips) as folder:
        long = repeated(short, Path(folder) / "long.mp4", round(options.minutes * 60 / options.seconds))
        for length, clip in (("short", short), ("long", long), ("short_again", short)):
            output = Path(folder) / "painted.mp4"
            words = [*shlex.split(options.ours), "render", str(clip), str(output), "--style", STYLE, "-y", "--json"]
            done = run(words)
            report = json.loads(done.output)
            peaks[length] = done.peak_mib
            facts[length] = {
                "seconds_of_video": report["seconds_of_video"],
                "frames": report["frames"],
                "fps": report["fps"],
                "peak_mib": done.peak_mib,
            }
            print(length, facts[length], flush=True)
    # The two short runs say how much of the difference is chance.
    facts["ratio"] = peaks["long"] / max(peaks["short"], peaks["short_again"])
    ResultFile(options.name, options.results).put("memory", f"{HEIGHT}p", facts)
    print(f"peak memory of the long clip: {facts['ratio']:.3f} x that of the short one")


if __name__ == "__main__":
    main()
