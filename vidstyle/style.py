"""Styles: a vector (or a whole network) that makes a network paint like one painting, and blends.

A *vector* style belongs to one network, named by its digest. A *full* style carries every weight of
its own network, adapted to one painting; it cannot be blended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidstyle.enginefile import EngineFile
from vidstyle.errors import BadModel, BadOption
from vidstyle.networks import Network, architecture
from vidstyle.tensorfile import read_tensors, write_tensors

FILE_FORMAT = "vidstyle-style"
FILE_VERSION = "1"

StyleKind = Literal["vector", "full"]


@dataclass(frozen=True, eq=False)
class Style:
    """One style, as adapted from one painting."""

    name: str
    """How people call it; the stem of its file."""
    vector: NDArray[np.float32]
    """float32 of shape (style_size,), see `vidstyle.networks`."""
    network_name: str
    """``paper`` or ``fast``."""
    network_digest: str
    """`Network.digest` of the weights that the vector drives."""
    network: Network | None = None
    """The weights of a full style; None for a vector style, whose network the gallery holds."""
    card: dict[str, object] = field(default_factory=dict)
    """Painting, painter, year, licence, steps, losses."""
    theta: str | None = None
    """`Network.digest` of the weights that the adaptation started from; None where they are its own."""
    engine: EngineFile | None = None
    """The compiled network that plays it, for a style that comes out of an engine file."""

    @property
    def kind(self) -> StyleKind:
        """``full`` if it brings its own weights, else ``vector``."""
        return "vector" if self.network is None else "full"

    def save(self, path: Path, *, overwrite: bool = True) -> None:
        """Write the style as FP16 safetensors, whole or not at all. `BadOption` if it is there and must stay."""
        tensors = {} if self.network is None else self.network.weights
        write_tensors(
            path,
            {name: t.astype(np.float16) for name, t in {**tensors, "style.vector": self.vector}.items()},
            file_format=FILE_FORMAT,
            version=FILE_VERSION,
            facts={
                "network": self.network_name,
                "theta": self.theta or self.network_digest,
                "digest": self.network_digest,
                "kind": self.kind,
            },
            card=self.card,
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, path: Path) -> Style:
        """Read what `save` wrote; `BadModel` names the file and what is wrong with it."""
        file = read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION)
        facts, tensors = file.facts, file.tensors
        shape = architecture(facts.get("network", ""))
        vector = tensors.pop("style.vector", None)
        if vector is None or vector.shape != (shape.style_size,):
            raise BadModel(f"{path} is damaged: it holds no style vector of {shape.style_size} numbers")
        digest = facts.get("digest", "")
        network = None
        if facts.get("kind") == "full":
            network = Network(shape, tensors, vector)
            if network.digest != digest:
                raise BadModel(f"{path} is damaged: its weights do not match the digest it carries; adapt it again")
        elif facts.get("kind") != "vector" or tensors:
            raise BadModel(f"{path} is damaged: it is neither a vector style nor a full one")
        return cls(path.stem, vector, shape.name, digest, network, file.card, facts.get("theta", digest))

    @classmethod
    def of_engine(cls, engine: EngineFile, name: str | None = None) -> Style:
        """The style called ``name`` of an engine file, or its first; `BadOption` lists those that it has."""
        card = engine.card
        name = next(iter(card.styles)) if name is None else name
        if name not in card.styles:
            raise BadOption(f"{engine.path} has no style {name!r}; it has {', '.join(card.styles)}")
        return cls(name, card.styles[name], card.network, card.digest, engine=engine)


def blend(weighted: Sequence[tuple[Style, float]]) -> Style:
    """The convex combination of vector styles of one network (MetaStyle, section on interpolation).

    Weights are divided by their sum. Raises `BadOption` for negative or vanishing weights and for
    styles that cannot be combined.
    """
    total = math.fsum(weight for _, weight in weighted)
    if not weighted or any(not math.isfinite(w) or w < 0 for _, w in weighted) or total <= 0:
        given = ", ".join(f"{s.name}:{w:g}" for s, w in weighted) or "nothing"
        raise BadOption(f"cannot blend {given}: weights must be 0 or more and their sum above 0")
    if len(weighted) == 1:
        return weighted[0][0]
    first = weighted[0][0]
    for style, _ in weighted:
        if style.kind == "full":
            raise BadOption(
                f"style {style.name!r} has a network of its own (kind full) and cannot be blended; "
                "adapt it without --full to get a vector"
            )
        if style.network_digest != first.network_digest:
            raise BadOption(
                f"styles {first.name!r} ({first.network_name}) and {style.name!r} ({style.network_name}) "
                "belong to different networks and cannot be blended; adapt one of them again for the other's network"
            )
    vector = sum(np.float64(w / total) * s.vector.astype(np.float64) for s, w in weighted)
    name = "+".join(f"{s.name}:{w / total:.3g}" for s, w in weighted)
    engine = next((s.engine for s, _ in weighted if s.engine is not None), None)
    return Style(name, np.asarray(vector, np.float32), first.network_name, first.network_digest, engine=engine)


def parse_blend(text: str) -> list[tuple[str, float]]:
    """``"a:0.7,b:0.3"`` as ``[("a", 0.7), ("b", 0.3)]``; a missing weight is 1.

    Only a number after the last colon is a weight, so Windows paths (``C:\\x``) stay whole.
    """
    parts: list[tuple[str, float]] = []
    for part in text.split(","):
        name, colon, weight = part.strip().rpartition(":")
        try:
            pair = (name, float(weight)) if colon else (weight, 1.0)
        except ValueError:
            pair = (part.strip(), 1.0)
        if not pair[0]:
            raise BadOption(f"style {text!r} has an empty part; write NAME, or NAME:WEIGHT,NAME:WEIGHT")
        parts.append(pair)
    return parts
