"""Paint photos like a painting by every method, and measure it: the table of the MetaStyle paper.

    python -m benchmarks.methods --content photo.jpg --style painting.jpg [-o OUT] [--rows wct adain ...]

Writes OUT/methods.json as it goes, OUT/methods.md (the table), OUT/sheet.jpg (a column a method) and OUT/ROW/PHOTO.png.
Trained weights are committed, but for Johnson's: of a painting without one, a network is trained for as few steps as
an adaptation has. Training them: `python -m benchmarks.methods.training --help`. The pictures and figures of
docs/comparison.md: `python -m benchmarks.methods.exhibits --help`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts of benchmarks import each other by their bare names

from candidates import write
from measured import ResultFile
from quality import grid_of

from methods import measure
from methods.rows import ROWS, TABLE, Making
from methods.tables import method_table
from vidstyle.errors import VidstyleError
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute


def run(words: argparse.Namespace) -> None:
    making = Making(
        compute=Compute(device="cpu", threads=words.threads),
        photos=Photos.in_folder(words.photos, shorter_side=320) if words.photos else Photos.shipped(),
        weights=words.weights,
        iterations=words.iterations,
        steps=words.steps,
    )
    words.output.mkdir(parents=True, exist_ok=True)
    results = ResultFile("methods", words.output)
    task = measure.Task(words.style, words.content, words.size, words.frames)
    shown = measure.table(results, words.rows, making, task)
    for row, pictures in shown.items():
        for name, rgb in pictures.items():
            write(words.output / row / f"{name}.png", rgb)
    first = words.content[0].stem
    photo, painting = measure.resized(words.content[0], words.size), measure.resized(words.style, words.size)
    cells = [photo, painting, *(pictures[first] for pictures in shown.values())]
    labels = ["photo", "painting", *(results.facts["methods"][row]["name"] for row in shown)]
    write(words.output / "sheet.jpg", grid_of([(cells, [(label, ()) for label in labels])]))
    text = "\n".join(method_table(results.facts))
    (words.output / "methods.md").write_text(text + "\n")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    words = parser.parse_args()
    try:
        run(words)
    except VidstyleError as error:
        raise SystemExit(str(error)) from error


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--content", type=Path, nargs="+", required=True, metavar="PHOTO")
    parser.add_argument("--style", type=Path, required=True, metavar="PAINTING")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/methods"), help="(%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=TABLE, help="(all)")
    parser.add_argument("--photos", type=Path, help="folder of photos to adapt and train on (those that ship)")
    parser.add_argument("--weights", type=Path, default=Making.weights, help="folder of trained weights (committed)")
    parser.add_argument("--size", type=int, default=384, help="shorter side of the photos (%(default)s)")
    parser.add_argument("--iterations", type=int, default=Making.iterations, help="of Gatys (%(default)s)")
    parser.add_argument("--steps", type=int, default=Making.steps, help="of adaptations (%(default)s)")
    parser.add_argument("--frames", type=int, default=12, help="of the clip for E_warp; 0 leaves it out (%(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads")


if __name__ == "__main__":
    main()
