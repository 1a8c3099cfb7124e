"""What a style loses, and weighs, as a rounded difference from the shared network.

    python benchmarks/compact.py NAME [--network fast] [--styles FOLDER] [--steps 0.3 0.5 0.8] [--photos 3] [--rows 360]

Each style, as FP16 weights, paints photos; so does what is read back from its file for each step of rounding
(`vidstyle.models.difference`). Bytes of the file without its card's thumbnail, and the PSNR between both pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from candidates import shipped_styles, styles_in
from likeness import psnr
from measured import RESULTS, ResultFile, machine
from quality import pixels

from vidstyle.data import PHOTOS
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import painting_tensor, picture_paths, read_picture


def compacted(style: Style, step: float, folder: Path) -> tuple[Style, int]:
    """``style`` as its file of that step gives it, and the bytes of the file."""
    path = folder / f"{step}.safetensors"
    style.save(path, step=step)
    return Style.load(path), path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results/NAME/compact.json")
    parser.add_argument("--network", default="fast", choices=["fast", "paper"])
    parser.add_argument("--styles", type=Path, help="folder of style files with whole weights (the shipped ones)")
    parser.add_argument("--steps", type=float, nargs="+", default=[0.3, 0.5, 0.8])
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--rows", type=int, default=360)
    words = parser.parse_args()
    styles = styles_in(words.styles) if words.styles else shipped_styles(words.network)
    photos = [pixels(painting_tensor(read_picture(p), words.rows)) for p in picture_paths(PHOTOS)[: words.photos]]
    results = ResultFile("compact", RESULTS / words.name)
    results.path.parent.mkdir(parents=True, exist_ok=True)
    results.put("machine", words.network, {**machine(), "photos": len(photos), "rows": words.rows})
    with (
        tempfile.TemporaryDirectory() as folder,
        Stylizer(next(iter(styles.values())), backend=BackendOptions(precision="fp32")) as stylizer,
    ):
        for name, style in styles.items():
            stylizer.style = style
            exact = [stylizer(photo) for photo in photos]
            found = {}
            for step in words.steps:
                stylizer.style, size = compacted(style, step, Path(folder))
                worst = min(psnr(stylizer(photo), e) for photo, e in zip(photos, exact, strict=True))
                found[str(step)] = {"bytes": size, "psnr": worst}
            results.put(words.network, name, found)
            print(f"{name:18s}", *(f"{s}: {f['bytes'] // 1000} kB {f['psnr']:.1f} dB" for s, f in found.items()))


if __name__ == "__main__":
    main()
