"""Draw docs/steps.jpg: every painting of the gallery after 150 steps of `vidstyle adapt`, beside the style that ships.

    python scripts/build_steps.py PAINTINGS [--only NAME ...] [--learn-on PHOTOS] [--keep FOLDER]

PAINTINGS is the folder that `build_gallery.py` takes. With --keep the adapted styles are written there, and those that
are there are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from build_gallery import GALLERY, middle, write_sheet

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style, shared_network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.stylizer import Stylizer
from vidstyle.tools.contact_sheet import picture_grid
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute

OUTPUT = Path(__file__).parent.parent / "docs" / "steps.jpg"
PHOTO = PHOTOS / "astronaut.jpg"
SHAPE = (360, 360)  # height, width of what is shown
COLUMNS = 6
CELL = 220


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path)
    known = [line.name for line in GALLERY]
    parser.add_argument("--only", nargs="+", default=known, choices=known, metavar="NAME")
    parser.add_argument("--learn-on", type=Path, help="photos to learn on; those that ship if not given")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    options = AdaptOptions(batch=2, compute=Compute(threads=words.threads))
    photos = words.learn_on and Photos.in_folder(words.learn_on)
    photo = middle(PHOTO, SHAPE)
    cells, labels = [], []
    with Stylizer(load_style(known[0]), backend=BackendOptions(backend="torch", threads=words.threads)) as stylizer:
        for line in GALLERY:
            if line.name not in words.only:
                continue
            kept = words.keep and words.keep / f"{line.name}.safetensors"
            if kept and kept.exists():
                quick = Style.load(kept)
            else:
                painting = words.paintings / line.file
                quick = adapt(painting, shared_network("fast"), name=line.name, options=options, photos=photos)
                if kept:
                    quick.save(kept)
                print(line.name, quick.card["losses"], f"{quick.card['seconds']} s", flush=True)
            for style in (quick, load_style(line.name)):
                stylizer.style = style
                cells.append(stylizer(photo))
                labels.append((line.name, (f"{style.card['steps']} steps",)))
    sheet = picture_grid(cells, labels, columns=COLUMNS, cell_width=CELL)
    write_sheet(sheet, OUTPUT)


if __name__ == "__main__":
    main()
