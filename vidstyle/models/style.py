"""Styles: what makes a network paint like one painting, and blends of such.

A style is a whole network: the weights of every convolution and a vector for the instance norms between them. An
adaptation moves all of them from a start network, which the style names by its digest, *theta*. On the straight
line between two styles of one theta every point is a style. A file whose weights are those of the shipped network
holds the vector alone; one may also hold its weights as a difference from the shipped network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadModel, BadOption
from vidstyle.files import as_path
from vidstyle.models.architecture import Architecture, Network, Weights, architecture, is_shipped, mixed, shared_network
from vidstyle.models.checkpoint import read_tensors, tensor_bytes, write_tensors
from vidstyle.models.difference import Packed, packed, unpacked
from vidstyle.models.engine_file import EngineFile
from vidstyle.options import NetworkName

FILE_FORMAT = "vidstyle-style"
FILE_VERSION = "1"
COLLECTION_FORMAT = "vidstyle-styles"
COLLECTION_VERSION = "1"
MAX_COLLECTION_BYTES = 512 << 20
"""A `paper` style is 3.4 MB, so this is room for a hundred."""

StyleKind = Literal["vector", "full"]
Parts = tuple[tuple[Network, float], ...]
"""Networks and their shares, which are above 0 and sum to 1."""


@dataclass(frozen=True, eq=False)
class Style:
    """One style, as adapted from one painting, or a blend of several."""

    name: str
    """How people call it; the stem of its file."""
    parts: Parts
    """What it is a blend of, or one network with a share of 1; their start vectors are the style's vectors."""
    theta: str
    """`Network.digest` of the network from which all parts were adapted."""
    card: dict[str, object] = field(default_factory=dict)
    engine: EngineFile | None = None
    """The compiled network that plays it, for a style that comes out of an engine file."""

    @classmethod
    def of(
        cls, name: str, network: Network, *, theta: str | None = None, card: dict[str, object] | None = None
    ) -> Style:
        """The style that paints as ``network`` with its start vector does; without ``theta`` it is its own start."""
        return cls(name, ((network, 1.0),), theta or network.digest, card or {})

    @property
    def architecture(self) -> Architecture:
        return self.parts[0][0].architecture

    @property
    def network_name(self) -> NetworkName:
        """``paper`` or ``fast``."""
        return self.architecture.name

    @cached_property
    def network(self) -> Network:
        """The weights and, as its start vector, the vector: the sum of the parts."""
        return mixed(self.parts)

    @cached_property
    def vector(self) -> NDArray[np.float32]:
        """float32 of shape (style_size,), see `vidstyle.models.architecture`."""
        if len(self.parts) == 1:
            return self.parts[0][0].start
        return np.asarray(sum(np.float32(share) * network.start for network, share in self.parts), np.float32)

    @property
    def kind(self) -> StyleKind:
        """``vector`` if its weights are those of the shipped network, so that a file holds the vector alone."""
        return "vector" if is_shipped(self.network) else "full"

    def save(self, path: Path, *, step: float | None = None, overwrite: bool = True) -> None:
        """Write the style as FP16 safetensors, whole or not at all. `BadOption` if it is there and must stay.

        With ``step`` the file holds the weights as a rounded difference from the shipped network, see
        `vidstyle.models.difference`; `BadOption` where the style has another start.
        """
        kind: str = self.kind
        tensors: Packed = {}
        network = self.network
        if kind == "full" and step is not None:
            start = shared_network(self.network_name)
            if self.theta != start.digest:
                raise BadOption(
                    f"style {self.name!r} did not start from the {self.network_name} network that ships, so a file "
                    "cannot hold it as a difference from that; save it without a step"
                )
            kind, tensors = "difference", packed(network, start, step)
            network = unpacked(path, tensors, start, self.vector)
        elif kind == "full":
            tensors = {name: tensor.astype(np.float16) for name, tensor in network.weights.items()}
        write_tensors(
            path,
            {**tensors, "style.vector": self.vector.astype(np.float16)},
            file_format=FILE_FORMAT,
            version=FILE_VERSION,
            facts={"network": self.network_name, "theta": self.theta, "digest": network.digest, "kind": kind},
            card=self.card,
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, path: Path | str) -> Style:
        """Read what `save` wrote; `BadModel` names the file and what is wrong with it.

        A file that holds a vector for other weights than the shipped ones is refused: it would paint a wrong picture.
        """
        path = as_path(path, "style")
        file = read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION)
        facts, tensors = file.facts, file.tensors
        shape = architecture(facts.get("network", ""))
        vector = tensors.pop("style.vector", None)
        if vector is None or vector.shape != (shape.style_size,):
            raise BadModel(f"{path} is damaged: it holds no style vector of {shape.style_size} numbers")
        kind, digest = facts.get("kind"), facts.get("digest", "")
        theta = facts.get("theta", digest)  # files of the first kind of full style name none
        if kind not in ("vector", "difference", "full") or (kind == "vector" and tensors):
            raise BadModel(f"{path} is damaged: it is neither a vector style, nor a difference, nor a full one")
        if kind == "full":
            network = Network(shape, tensors, vector)
        else:
            shared, needed = shared_network(shape.name), digest if kind == "vector" else theta
            if shared.digest != needed:
                raise BadModel(
                    f"style {path.stem!r} was adapted for another version of the {shape.name!r} network "
                    f"({needed[:12]}; this vidstyle ships {shared.digest[:12]}); make it again with "
                    f"`{_command(path.stem, shape.name)}`"
                )
            if kind == "vector":
                network = Network(shape, shared.weights, vector)
            else:
                network = unpacked(path, {**tensors, **file.codes}, shared, vector)
        if kind != "vector" and network.digest != digest:
            raise BadModel(f"{path} is damaged: its weights do not match the digest it carries; adapt it again")
        return cls.of(path.stem, network, theta=theta, card=file.card)

    @classmethod
    def of_engine(cls, engine: EngineFile, name: str | None = None) -> Style:
        """The style called ``name`` of an engine file, or its first; `BadOption` lists those that it has."""
        for style in styles_of_engine(engine):
            if name is None or style.name == name:
                return style
        raise BadOption(f"{engine.path} has no style {name!r}; it has {', '.join(engine.card.styles)}")


def blend(weighted: Sequence[tuple[Style, float]]) -> Style:
    """The convex combination of styles of one theta (MetaStyle, section on interpolation).

    Weights are divided by their sum. Nothing is computed here but the shares. Raises `BadOption` for negative or
    vanishing weights and for styles that cannot be combined.
    """
    for pair in weighted:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], Style)):
            raise BadOption("a blend is made of pairs such as (load_style('great_wave'), 0.7): a Style, and its weight")
        if not isinstance(pair[1], Real):
            raise BadOption(f"the weight of style {pair[0].name!r} is {pair[1]!r}; it must be a number")
    total = math.fsum(weight for _, weight in weighted)
    if not weighted or any(not math.isfinite(w) or w < 0 for _, w in weighted) or total <= 0:
        given = ", ".join(f"{s.name}:{w:g}" for s, w in weighted) or "nothing"
        raise BadOption(f"cannot blend {given}: weights must be 0 or more and their sum above 0")
    first = weighted[0][0]
    if len(weighted) == 1:
        return first
    shares: dict[Network, float] = {}
    for style, weight in weighted:
        if style.theta != first.theta:
            raise BadOption(_unrelated(first, style))
        for network, share in style.parts:
            shares[network] = shares.get(network, 0.0) + share * weight / total
    name = "+".join(f"{s.name}:{w / total:.3g}" for s, w in weighted)
    engine = next((s.engine for s, _ in weighted if s.engine is not None), None)
    return Style(name, tuple(part for part in shares.items() if part[1] > 0), first.theta, engine=engine)


def _unrelated(first: Style, second: Style) -> str:
    """Why two styles do not blend, and what mends it."""
    if first.network_name != second.network_name:
        made = f"they paint with two networks, {first.network_name} and {second.network_name}"
        again, network = second, first.network_name
    else:
        made = f"they did not start from the same {first.network_name!r} network"
        network = first.network_name
        again = first if second.theta == shared_network(network).digest else second
    return (
        f"styles {first.name!r} and {second.name!r} cannot be blended: {made}; make {again.name!r} again with "
        f"`{_command(again.name, network)}`"
    )


def _command(name: str, network: str) -> str:
    """The command that adapts a style from the shipped network."""
    option = "" if network == "fast" else f" --network {network}"
    return f"vidstyle adapt PAINTING -o {Path(name).name}.safetensors{option}"


def collection_bytes(styles: Sequence[Style]) -> bytes:
    """Styles of one theta as the content of a file, FP16; weights that several have are in it once."""
    tensors: dict[str, NDArray[np.float16]] = {}
    entries: list[dict[str, object]] = []
    first_with: dict[str, int] = {}
    for index, style in enumerate(styles):
        holder = first_with.setdefault(style.network.digest, index)
        own: Mapping[str, NDArray[np.float32]] = style.network.weights if holder == index else {}
        for name, tensor in {**own, "style.vector": style.vector}.items():
            tensors[f"{index}.{name}"] = tensor.astype(np.float16)
        entries.append({"name": style.name, "weights": holder, "card": style.card})
    return tensor_bytes(
        tensors,
        file_format=COLLECTION_FORMAT,
        version=COLLECTION_VERSION,
        facts={"network": styles[0].network_name, "theta": styles[0].theta},
        card={"styles": entries},
    )


def read_collection(path: Path) -> list[Style]:
    """The styles of what `collection_bytes` made, in their order; `BadModel` says what is wrong with the file."""
    file = read_tensors(path, file_format=COLLECTION_FORMAT, version=COLLECTION_VERSION, max_bytes=MAX_COLLECTION_BYTES)
    shape = architecture(file.facts.get("network", ""))
    entries = file.card.get("styles")
    styles: list[Style] = []
    weights: dict[int, Weights] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        own = {
            name: file.tensors[f"{index}.{name}"] for name in shape.weight_shapes if f"{index}.{name}" in file.tensors
        }
        vector = file.tensors.get(f"{index}.style.vector")
        holder, name, card = (
            (entry.get(key) for key in ("weights", "name", "card")) if isinstance(entry, dict) else [0] * 3
        )
        if vector is None or type(holder) is not int or not isinstance(name, str) or not isinstance(card, dict):
            raise BadModel(f"{path} is damaged: its style number {index} lacks its vector, its weights or its name")
        weights[index] = own or weights.get(holder, {})
        styles.append(Style.of(name, Network(shape, weights[index], vector), theta=file.facts.get("theta"), card=card))
    if not styles:
        raise BadModel(f"{path} is damaged: it holds no style")
    return styles


def styles_of_engine(engine: EngineFile) -> list[Style]:
    """The styles beside an engine file, to be played by it; `BadModel` where their file is missing or damaged."""
    path = engine.check_styles()
    styles = read_collection(path)
    if tuple(style.name for style in styles) != engine.card.styles:
        raise BadModel(f"{path} is damaged: its styles are not those that {engine.path.name}.json names")
    return [replace(style, engine=engine) for style in styles]


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
