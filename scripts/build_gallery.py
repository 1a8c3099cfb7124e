"""Adapt the shipped styles again, for the shared networks as they are now.

    python scripts/build_gallery.py PAINTINGS [--only NAME ...] [--networks fast paper] [--install FILE ...]
        [--steps N] [--batch N] [--crops N] [--learn-on PHOTOS] [--output FOLDER]

PAINTINGS is a folder with the pictures named in `GALLERY`; they are public domain and easy to find,
and are not in this repository. Every style is written beside its network in vidstyle/gallery, with a
card and a thumbnail. Each FILE, as `vidstyle train` writes it, first becomes the shared network of its
kind. The table in docs/gallery.md is written again from the cards, and docs/gallery.jpg is drawn; --only with
no NAME does nothing but that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style, style_names
from vidstyle.models.architecture import ARCHITECTURES, NETWORK_FILE, SHIPPED, Network, mixed
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.tools.contact_sheet import contact_sheet
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.data import Photos, painting_tensor, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import LossWeights
from vidstyle.training.trainer import Checkpoint

THUMBNAIL_PHOTO = PHOTOS / "china.jpg"
THUMBNAIL_SIZE = (192, 256)  # height, width
NEAR = 36.0
"""dB of a rounded style's picture beside that of the exact one."""


class Stage(NamedTuple):
    """More steps on a style that is there, at `FURTHER_RATES`."""

    steps: int
    style_weight: float
    contrast: float = AdaptOptions.loss.contrast


FURTHER_RATES = (3e-2, 2.5e-3)
"""Of the vector and of the weights: about half of where an adaptation begins, as what is there is to be refined."""


@dataclass(frozen=True)
class Painting:
    """One line of the gallery."""

    name: str
    file: str
    title: str
    painter: str
    year: str
    licence: str = "public domain"
    style_weight: float = LossWeights.style
    further: tuple[Stage, ...] = ()
    """What `fast` learned after that. Those that ship began without a term of contrast, as stages of 0 did."""
    paper: tuple[Stage, ...] = ()
    """What `paper` learned after its first steps, which had no term of contrast either."""
    share: float = 1.0
    """How far on the line from the first stage to the last that of `fast` lies: eyes like what is less heavy."""

    def card(self) -> dict[str, object]:
        return {"painting": self.title, "painter": self.painter, "year": self.year, "licence": self.licence}


MET, CHICAGO = "public domain (The Met, CC0)", "public domain (Art Institute of Chicago, CC0)"
OPEN = "public domain (museum open access)"
GALLERY = (
    Painting(
        "amphora", "amphora_ornament.jpg", "Palmettes of an amphora", "Attic black-figure", "6th century BC", OPEN
    ),
    Painting("auvers", "auvers_panoramic_view.jpg", "Auvers, Panoramic View", "Paul Cézanne", "1873-75", CHICAGO),
    Painting(
        "canon_table",
        "canon_table_zeytun.jpg",
        "Canon table, Zeyt'un Gospels",
        "T'oros Roslin",
        "1256",
        OPEN,
        further=(Stage(160, 12),),
        share=0.8,
    ),
    Painting("composition_vii", "composition_vii.jpg", "Composition VII", "Wassily Kandinsky", "1913"),
    Painting(
        "composition_viii",
        "composition_viii.jpg",
        "Composition VIII",
        "Wassily Kandinsky",
        "1923",
        paper=(Stage(80, 13),),
    ),
    Painting(
        "contrast_of_forms",
        "contrast_of_forms.jpg",
        "Contrast of Forms",
        "Fernand Léger",
        "1913",
        further=(
            Stage(150, 13, contrast=0),
            Stage(60, 12),
            Stage(90, 14),
            Stage(70, 13, contrast=45),
            Stage(30, 14, contrast=25),
        ),
        share=0.6,
    ),
    Painting("grande_jatte", "grande_jatte_study.jpg", "Study for La Grande Jatte", "Georges Seurat", "1884", CHICAGO),
    Painting(
        "great_wave",
        "great_wave.jpg",
        "The Great Wave off Kanagawa",
        "Katsushika Hokusai",
        "c. 1831",
    ),
    Painting(
        "seaport",
        "seaport_etching.jpg",
        "Seaport with a large tower (etching)",
        "after Claude Lorrain",
        "17th century",
        further=(Stage(150, 13, contrast=0),),
    ),
    Painting(
        "shipwreck", "shipwreck_of_the_minotaur.jpg", "The Wreck of a Transport Ship", "J. M. W. Turner", "c. 1810"
    ),
    Painting(
        "stained_glass",
        "stained_glass_theodosius.jpg",
        "Theodosius Arrives at Ephesus (window)",
        "Rouen Cathedral",
        "c. 1200",
        OPEN,
    ),
    Painting("starry_night", "starry_night.jpg", "The Starry Night", "Vincent van Gogh", "1889"),
    Painting(
        "the_scream",
        "the_scream.jpg",
        "The Scream",
        "Edvard Munch",
        "1893",
        further=(Stage(250, 16, contrast=0), Stage(220, 18, contrast=0), Stage(160, 18), Stage(120, 19, contrast=30)),
        share=0.85,
        paper=(Stage(150, 12),),
    ),
    Painting(
        "two_sisters",
        "two_sisters_on_the_terrace.jpg",
        "Two Sisters (On the Terrace)",
        "Pierre-Auguste Renoir",
        "1881",
        CHICAGO,
        further=(Stage(120, 12),),
    ),
    Painting(
        "udnie", "udnie.jpg", "Udnie", "Francis Picabia", "1913", further=(Stage(300, 16, contrast=0), Stage(80, 14))
    ),
    Painting(
        "water_lilies",
        "water_lilies.jpg",
        "Water Lilies",
        "Claude Monet",
        "1906",
        style_weight=5,
        further=(Stage(250, 9, contrast=0),),
        share=0.5,
    ),
    Painting(
        "wheat_field",
        "wheat_field_with_cypresses.jpg",
        "Wheat Field with Cypresses",
        "Vincent van Gogh",
        "1889",
        MET,
        further=(Stage(90, 12, contrast=50),),
        share=0.5,
    ),
)


def painted(style: Style) -> NDArray[np.uint8]:
    """The shipped photo in ``style``, uint8 RGB (288, 384, 3)."""
    photo = painting_tensor(read_picture(THUMBNAIL_PHOTO), 288)  # painted larger, so that strokes survive the shrinking
    photo = photo[..., :288, (photo.shape[-1] - 384) // 2 :][..., :384]
    with torch.no_grad():
        rgb = TransformNet.from_network(style.network)(photo, torch.from_numpy(style.vector))
    return np.asarray((rgb[0].permute(1, 2, 0) * 255).round().numpy(), np.uint8)


def save_rounded(style: Style, path: Path, step: float) -> None:
    """Write ``style`` rounded to the first of ``step``, three quarters of that, and so on, that hardly shows."""
    exact = painted(style)
    while True:
        style.save(path, step=step)
        if cv2.PSNR(painted(Style.load(path)), exact) >= NEAR:
            return
        step *= 0.75


def write_thumbnail(style: Style, path: Path) -> None:
    height, width = THUMBNAIL_SIZE
    small = cv2.resize(painted(style), (width, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_OPTIMIZE, 1])


def build(
    paintings: Path,
    network_name: str,
    names: Iterable[str],
    options: AdaptOptions,
    photos: Photos | None,
    output: Path,
    step: float | None,
) -> None:
    folder = output / network_name
    folder.mkdir(parents=True, exist_ok=True)
    network = Network.load(SHIPPED / network_name / NETWORK_FILE)
    for painting in GALLERY:
        if painting.name not in names:
            continue
        path = folder / f"{painting.name}.safetensors"
        start: Network | Style = network
        stages: list[Style] = []
        further = painting.further if network_name == "fast" else painting.paper
        for number, stage in enumerate([Stage(options.steps, painting.style_weight), *further]):
            vector_rate, weight_rate = FURTHER_RATES if number else options.rates
            loss = replace(options.loss, style=stage.style_weight, contrast=stage.contrast)
            start = adapt(
                paintings / painting.file,
                start,
                name=painting.name,
                options=replace(
                    options,
                    steps=stage.steps,
                    vector_rate=vector_rate,
                    weight_rate=weight_rate,
                    loss=loss,
                    seed=number,
                ),
                photos=photos,
                card=painting.card(),
                checkpoint=Checkpoint(path=path.with_suffix(f".checkpoint{number}"), resume=True),
            )
            stages.append(start)
        share = painting.share if network_name == "fast" else 1.0
        between = mixed([(stages[0].network, 1 - share), (stages[-1].network, share)])
        card = {**stages[-1].card, "share": share}
        style = Style.of(painting.name, between, theta=stages[-1].theta, card=card)
        if step is None:
            style.save(path)
        else:
            save_rounded(style, path, step)
        for checkpoint in folder.glob(f"{path.stem}.checkpoint*"):
            checkpoint.unlink()
        write_thumbnail(Style.load(path), folder / f"{painting.name}.jpg")
        print(network_name, painting.name, style.card["losses"], f"{style.card['seconds']} s", flush=True)


DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT, SHEET = DOCS / "gallery.md", DOCS / "gallery.jpg"
SHEET_PHOTOS, SHEET_CELL = ("china.jpg", "astronaut.jpg"), 194
BEGIN, END = "<!-- table: scripts/build_gallery.py -->\n", "<!-- end of table -->"


def table() -> str:
    """The shipped styles as Markdown, from their cards."""
    lines = [
        "| style | painting | painter, year | network | steps | style before, after | content before, after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in style_names():
        style = load_style(name)
        card, losses = style.card, style.card["losses"]
        assert isinstance(losses, dict)
        before, after = losses["before"], losses["after"]
        lines.append(
            f"| `{name}` | {card['painting']} | {card['painter']}, {card['year']} | {style.network_name}, {style.kind} "
            f"| {card['steps']} | {before['style']:.2f}, {after['style']:.2f} "
            f"| {before['content']:.2f}, {after['content']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def write_table(document: Path) -> None:
    text = document.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    document.write_text(head + BEGIN + table() + END + tail)


def middle(photo: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of a photo, uint8 RGB of ``shape`` (height, width)."""
    rgb = read_picture(photo)
    top, left = ((side - shown) // 2 for side, shown in zip(rgb.shape[:2], shape, strict=True))
    return rgb[top : top + shape[0], left : left + shape[1]].copy()


def write_sheet(sheet: NDArray[np.uint8], path: Path) -> None:
    """Write a sheet of pictures (RGB) for the docs, and say how large it is."""
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    print(f"{path}: {sheet.shape[1]}x{sheet.shape[0]}, {path.stat().st_size >> 10} KiB")


def main() -> None:
    known = [painting.name for painting in GALLERY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", type=Path)
    parser.add_argument("--only", nargs="*", choices=known, default=known, metavar="NAME")
    parser.add_argument("--networks", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--install", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--batch", type=int, default=AdaptOptions().batch)
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps)
    parser.add_argument("--crops", type=int, default=AdaptOptions().crops)
    parser.add_argument("--learn-on", type=Path, help="photos to learn on; those that ship with vidstyle if not given")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where the styles are written; the gallery")
    parser.add_argument(
        "--rounding",
        type=float,
        metavar="STEP",
        help="keep rounded differences (Style.save) of at most STEP; else FP16",
    )
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    for file in arguments.install:
        network = Network.load(file)
        (SHIPPED / network.architecture.name / NETWORK_FILE).write_bytes(file.read_bytes())
    options = AdaptOptions(
        steps=arguments.steps, batch=arguments.batch, crops=arguments.crops, compute=Compute(threads=arguments.threads)
    )
    photos = arguments.learn_on and Photos.in_folder(arguments.learn_on)
    for name in arguments.networks:
        build(arguments.paintings, name, arguments.only, options, photos, arguments.output, arguments.rounding)
    if arguments.output == SHIPPED:
        write_table(DOCUMENT)
        photos = [read_picture(PHOTOS / name) for name in SHEET_PHOTOS]
        write_sheet(contact_sheet(photos, style_names("fast"), cell_width=SHEET_CELL), SHEET)


if __name__ == "__main__":
    main()
