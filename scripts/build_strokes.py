"""Draw docs/strokes.jpg: one painting at three stroke sizes, learned (--style-size) and scaled (--work-size).

    python scripts/build_strokes.py PAINTINGS [--painting starry_night] [--photo china.jpg] [--steps 300]

PAINTINGS is the folder that `build_gallery.py` takes. The first row has three styles, each adapted with the painting at
another size and painted at the same work size; the second has the middle one, painted at three work sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from build_gallery import GALLERY, middle, write_sheet

from vidstyle.data import PHOTOS
from vidstyle.gallery import shared_network
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.stylizer import Stylizer
from vidstyle.tools.contact_sheet import picture_grid
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute

OUTPUT = Path(__file__).parent.parent / "docs" / "strokes.jpg"
STYLE_SIZES = (192, 384, 768)
WORK_SIZES = (360, 240, 160)
"""From small strokes to large ones, as in `STYLE_SIZES`."""
SHAPE = (360, 540)  # height, width of what is shown: the whole photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path)
    parser.add_argument("--painting", default="starry_night", choices=[line.name for line in GALLERY])
    parser.add_argument("--photo", default="china.jpg")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learn-on", type=Path, help="photos to learn on; those that ship if not given")
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    line = next(line for line in GALLERY if line.name == words.painting)
    photo = middle(PHOTOS / words.photo, SHAPE)
    backend = BackendOptions(backend="torch", threads=words.threads)
    styles = [
        adapt(
            words.paintings / line.file,
            shared_network("fast"),
            options=AdaptOptions(steps=words.steps, batch=2, style_size=size, compute=Compute(threads=words.threads)),
            photos=words.learn_on and Photos.in_folder(words.learn_on),
        )
        for size in STYLE_SIZES
    ]
    cells, labels = [], []
    with Stylizer(styles[0], backend=backend) as stylizer:
        for style, size in zip(styles, STYLE_SIZES, strict=True):
            stylizer.style = style
            cells.append(stylizer(photo))
            labels.append((f"--style-size {size}", ()))
        stylizer.style = styles[1]
        for rows in WORK_SIZES:
            stylizer.look = LookOptions(work_size=rows)
            cells.append(stylizer(photo))
            labels.append((f"--work-size {rows}" if rows < SHAPE[0] else "every row painted", ()))
    sheet = picture_grid(cells, labels, columns=3, cell_width=400)
    write_sheet(sheet, OUTPUT)


if __name__ == "__main__":
    main()
