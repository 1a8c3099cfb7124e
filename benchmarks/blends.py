"""Walk the straight line between every two styles of a gallery: does the style loss climb over a barrier?

    python benchmarks/blends.py NAME --paintings DIR [--styles FOLDER] [--only STYLE ...] [--photos 3] [--rows 256]

At five places of each line photos are painted in the blend, and their style terms (as `quality.py` takes them) to the
paintings of both ends are averaged. Without a barrier the distance to one end only grows on the way to the other; the
dip of a line is how far it ever shrinks instead from one place to the next, as a share.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from candidates import shipped_styles, styles_in
from likeness import RGB, content_of, grams_of, terms
from measured import RESULTS, ResultFile, machine
from quality import pixels
from torch import Tensor

from vidstyle.data import PHOTOS
from vidstyle.models.style import Style, blend
from vidstyle.options import BackendOptions
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import painting_tensor, picture_paths, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import Perceptual

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)


def dip(distances: Sequence[float]) -> float:
    """How far distances that should only grow ever shrink from one place to the next, as a share: 0 is never."""
    return max(0.0, *(1 - after / before for before, after in zip(distances, distances[1:], strict=False)))


class Walker:
    """Paints photos in blends, and measures how far they are from paintings."""

    def __init__(self, photos: Sequence[RGB], grams: dict[str, list[Tensor]], perceptual: Perceptual) -> None:
        self._photos, self._grams, self._perceptual = photos, grams, perceptual
        self._contents = [content_of(photo, perceptual) for photo in photos]

    def distances(self, stylizer: Stylizer, ends: tuple[str, str]) -> tuple[float, float]:
        """Style terms, the mean over the layers and the photos, to the paintings of two styles."""
        painted = [stylizer(photo) for photo in self._photos]
        first, second = (
            np.mean(
                [
                    terms(rgb, content, self._grams[end], self._perceptual).style
                    for rgb, content in zip(painted, self._contents, strict=True)
                ]
            )
            for end in ends
        )
        return float(first), float(second)

    def walk(self, stylizer: Stylizer, first: tuple[str, Style], second: tuple[str, Style]) -> dict[str, object]:
        """Distances to both ends at `PLACES`, from the first style to the second; and the dip, the larger of two."""
        found = []
        for place in PLACES:
            stylizer.style = blend([(first[1], 1 - place), (second[1], place)])
            found.append(self.distances(stylizer, (first[0], second[0])))
        leaving, arriving = ([pair[i] for pair in found] for i in (0, 1))
        return {first[0]: leaving, second[0]: arriving, "dip": max(dip(leaving), dip(arriving[::-1]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results/NAME/blends.json")
    parser.add_argument("--paintings", type=Path, required=True, help="folder of paintings, named like the styles")
    parser.add_argument("--styles", type=Path, help="folder of style files (the shipped ones of fast)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STYLE")
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    styles = styles_in(words.styles) if words.styles else shipped_styles("fast")
    styles = {name: style for name, style in styles.items() if not words.only or name in words.only}
    paths = picture_paths(words.paintings)
    compute = Compute(threads=words.threads)
    with compute.limits():
        perceptual = Perceptual(compute.dtype, compute.place)

        def seen(path: Path, rows: int) -> RGB:
            return pixels(painting_tensor(read_picture(path), rows))

        grams = {
            name: grams_of(seen(next(p for p in paths if f"{p.stem}_".startswith(f"{name}_")), 384), perceptual)
            for name in styles
        }
        photos = [seen(path, words.rows) for path in picture_paths(PHOTOS)[: words.photos]]
        walker = Walker(photos, grams, perceptual)
        results = ResultFile("blends", RESULTS / words.name)
        results.path.parent.mkdir(parents=True, exist_ok=True)
        results.put("machine", "blends", {**machine(), "photos": len(photos), "rows": words.rows})
        dips = {}
        with Stylizer(
            next(iter(styles.values())), backend=BackendOptions(backend="torch", precision="fp32")
        ) as stylizer:
            for first, second in combinations(styles.items(), 2):
                found = walker.walk(stylizer, first, second)
                dips[f"{first[0]}, {second[0]}"] = found["dip"]
                results.put("lines", f"{first[0]} - {second[0]}", found)
                print(f"{first[0]:16s} {second[0]:16s} dip {found['dip']:.3f}", flush=True)
    worst = max(dips, key=lambda line: dips[line])
    print(f"{len(dips)} lines, worst dip {dips[worst]:.3f} ({worst}); {sum(d > 0.1 for d in dips.values())} above 0.1")


if __name__ == "__main__":
    main()
