"""The rows of the table, in the paper's order, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from methods.adain import AdaIN
from methods.avatar_net import AvatarNet
from methods.base import WEIGHTS, Method
from methods.gatys import Gatys
from methods.johnson import Johnson
from methods.meta_networks import MetaNetworks
from methods.metastyle import MetaStyle
from methods.style_swap import StyleSwap
from methods.wct import WCT
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the rows are made with."""

    compute: Compute
    photos: Photos
    """To learn on: Johnson's networks and the adaptations."""
    weights: Path = WEIGHTS
    """Folder of the trained weights."""
    iterations: int = 60
    """Of Gatys."""
    steps: int = 150
    """Of the adaptations, and of a Johnson network that is not there yet."""
    gallery: bool = False
    """MetaStyle paints with the gallery's styles, where it has one of the painting, instead of adapting anew."""


ROWS: dict[str, Callable[[Making], Method]] = {
    "gatys": lambda m: Gatys(m.compute, m.iterations),
    "johnson": lambda m: Johnson(m.compute, folder=m.weights, steps=m.steps, photos=m.photos),
    "wct": lambda m: WCT(m.compute, m.weights / "decoder.safetensors"),
    "adain": lambda m: AdaIN(m.compute, m.weights / "adain.safetensors"),
    "meta_networks": lambda m: MetaNetworks(m.compute, m.weights / "meta_networks.safetensors"),
    "avatar_net": lambda m: AvatarNet(m.compute, m.weights / "decoder.safetensors"),
    "style_swap": lambda m: StyleSwap(m.compute, m.weights / "decoder.safetensors"),
    "metastyle_paper": lambda m: MetaStyle(
        "paper", "full", m.compute, steps=m.steps, photos=m.photos, gallery=m.gallery
    ),
    "metastyle_paper_vector": lambda m: MetaStyle(
        "paper", "vector", m.compute, steps=m.steps, photos=m.photos, gallery=m.gallery
    ),
    "metastyle": lambda m: MetaStyle("fast", "full", m.compute, steps=m.steps, photos=m.photos, gallery=m.gallery),
    "metastyle_vector": lambda m: MetaStyle(
        "fast", "vector", m.compute, steps=m.steps, photos=m.photos, gallery=m.gallery
    ),
}
"""By the words of ``--rows``."""
TABLE = tuple(row for row in ROWS if row != "metastyle_paper_vector")
"""The rows of the table; that one is only on the sheets, as the gallery's styles of `paper` are vectors."""
