"""Draw docs/steps.jpg: photos painted before an adaptation, after 25 of its steps, and at its end.

    python scripts/build_steps.py PAINTINGS [--network fast] [--only NAME ...]

PAINTINGS is the folder that `build_gallery.py` takes. A row is a painting of the gallery, adapted to
as `vidstyle adapt` does it; the pictures are the state of that one run at these steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from build_gallery import GALLERY

from vidstyle.data import PHOTOS
from vidstyle.gallery import shared_network
from vidstyle.imaging.image_io import read_still
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.stylizer import Stylizer
from vidstyle.tools.contact_sheet import picture_grid
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.device import Compute

OUTPUT = Path(__file__).parent.parent / "docs" / "steps.jpg"
ROWS = {"great_wave": "china.jpg", "the_scream": "chelsea.jpg", "composition_vii": "coffee.jpg"}
"""Painting: the photo that is painted like it."""
SHOWN = (0, 25)
"""Steps that are shown, besides the last."""
CELL = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path)
    parser.add_argument("--network", default="fast", choices=["fast", "paper"])
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    words = parser.parse_args()
    options = AdaptOptions(steps=words.steps, compute=Compute(threads=words.threads))
    network = shared_network(words.network)
    cells, labels = [], []
    for line in GALLERY:
        if line.name not in words.only:
            continue
        moments: list[Style] = []
        adapt(
            words.paintings / line.file,
            network,
            name=line.name,
            options=options,
            watch=lambda at, style, moments=moments: (
                moments.append(style) if at.step in (*SHOWN, options.steps) else None
            ),
        )
        photo = read_still(PHOTOS / ROWS[line.name]).rgb
        height, width = photo.shape[:2]
        rows = min(height, width * 2 // 3)  # all photos in one shape, the middle of each
        columns = min(width, rows * 3 // 2)
        top, left = (height - rows) // 2, (width - columns) // 2
        photo = photo[top : top + rows, left : left + columns].copy()
        cells.append(photo)
        labels.append(("photo", (f"toward {line.title}", line.title)))
        with Stylizer(moments[0], backend=BackendOptions(backend="torch", threads=words.threads)) as stylizer:
            for style in moments:
                stylizer.style = style
                cells.append(stylizer(photo))
                labels.append((f"{style.card['steps']} steps", ()))
        print(line.name, style.card["curve"], flush=True)
    sheet = picture_grid(cells, labels, columns=2 + len(SHOWN), cell_width=CELL)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    cv2.imwrite(str(words.output), sheet[..., ::-1], quality)
    print(f"{words.output}: {sheet.shape[1]}x{sheet.shape[0]}, {words.output.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
