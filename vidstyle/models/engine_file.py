"""Engine files: a bare TensorRT plan, a JSON file that says what the plan is, and the styles that it plays.

``x.engine`` is what TensorRT wrote and nothing else, so that other tools read it. It holds no weights: those of
each style lie in ``x.engine.safetensors``. ``x.engine.json`` is read as if it were hostile: a plan that does not
match its digest is never given to TensorRT.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vidstyle.errors import BadModel, reason
from vidstyle.files import write_failure, write_whole
from vidstyle.frame import FrameFormat, Matrix, Pixels
from vidstyle.options import MAX_SIDE, EnginePrecision, NetworkName

SUFFIX = ".engine"
FILE_FORMAT = "vidstyle-engine"
FILE_VERSION = 2
"""Version 1 held the weights of one network in its plan."""
MAX_CARD_BYTES = 1 << 20
MAX_PLAN_BYTES = 2 << 30

Size = tuple[int, int]
LibraryName = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, kw_only=True)
class EngineCard:
    """The facts of an engine: the JSON file beside it."""

    network: NetworkName
    theta: str
    """`vidstyle.models.architecture.Network.digest` of the network from which its styles were adapted."""
    pixels: Pixels
    matrix: Matrix
    """YCbCr matrix; without meaning for rgb."""
    full_range: bool
    """Range of luma; without meaning for rgb."""
    smallest: Size
    """``(height, width)`` of the smallest frame that it takes."""
    best: Size
    """The one it is tuned for."""
    largest: Size
    """The largest one; equal to ``smallest`` for an engine of one size."""
    precision: EnginePrecision
    library: LibraryName
    """SDK that built it and runs it."""
    library_version: str
    targets: tuple[str, ...]
    """Compute capabilities that it was built for, such as ``8.9``."""
    gpu: str | None
    """Name of the one GPU that it was built on and for; None for an engine that asks for no particular one."""
    styles: tuple[str, ...]
    """Names of the styles beside it, between which it can switch. The first is played where none is named."""
    styles_sha256: str = ""
    """Digest of the file that holds them."""
    plan_bytes: int = 0
    plan_sha256: str = ""
    build: dict[str, Any] = field(default_factory=dict)
    """For people: seconds, layers by type, the fidelity measured before the build, the options."""

    @property
    def dynamic(self) -> bool:
        return self.smallest != self.largest

    def form(self, size: Size | None = None) -> FrameFormat:
        """Frames as it takes them; of its best size where none is given."""
        height, width = size or self.best
        return FrameFormat(
            height=height, width=width, pixels=self.pixels, matrix=self.matrix, full_range=self.full_range
        )

    def takes(self, size: Size) -> bool:
        """Whether frames of ``(height, width)`` can be run. A dynamic engine pads them to multiples of 4."""
        if not self.dynamic:
            return size == self.best
        padded = [-(-side // 4) * 4 for side in size]
        return all(a <= b <= c for a, b, c in zip(self.smallest, padded, self.largest, strict=True))

    def sizes(self) -> str:
        """For people: ``1280x720``, or ``640x360 to 1920x1080``."""
        first, last = (f"{width}x{height}" for height, width in (self.smallest, self.largest))
        return f"{first} to {last}" if self.dynamic else first


@dataclass(frozen=True)
class EngineFile:
    """An engine on disk whose two files belong together."""

    path: Path
    card: EngineCard

    @classmethod
    def open(cls, path: Path) -> EngineFile:
        """Read the card beside ``path``; the plan itself is read by `read_plan`.

        `BadModel` says what is missing or wrong, and the command that makes the engine anew.
        """
        card_path = card_path_of(path)
        if not path.is_file():
            raise BadModel(f"there is no engine {path}; make it with `vidstyle build-engine STYLE -o {path}`")
        try:
            size = card_path.stat().st_size
            if size > MAX_CARD_BYTES:
                raise BadModel(f"{card_path} has {size >> 20} MiB; such a file has {MAX_CARD_BYTES >> 20} at most")
            data = card_path.read_bytes()
        except FileNotFoundError as error:
            raise BadModel(
                f"{path} stands alone: {card_path.name}, which says what it is, is missing; copy both files, or "
                f"make the engine again with `vidstyle build-engine STYLE -o {path} --overwrite`"
            ) from error
        except OSError as error:
            raise BadModel(f"cannot read {card_path}: {reason(error)}") from error
        return cls(path, _card_from(data, card_path))

    def read_plan(self) -> bytes:
        """The plan, checked against its digest: TensorRT may crash on a damaged one."""
        card = self.card
        try:
            size = self.path.stat().st_size
            plan = self.path.read_bytes() if size == card.plan_bytes else b""
        except OSError as error:
            raise BadModel(f"cannot read {self.path}: {reason(error)}") from error
        if hashlib.sha256(plan).hexdigest() != card.plan_sha256:
            raise BadModel(
                f"{self.path} is damaged, or is not the file that {card_path_of(self.path).name} describes "
                f"({size} bytes; {card.plan_bytes} were written); copy both files again, or build it again with "
                "`--rebuild`"
            )
        return plan

    def check_styles(self) -> Path:
        """The file of its styles; `BadModel` where that is missing or another one."""
        path = styles_path_of(self.path)
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise BadModel(f"cannot read {path}, the styles of {self.path}: {reason(error)}") from error
        if digest != self.card.styles_sha256:
            raise BadModel(_damaged(path, f"it does not hold what {card_path_of(self.path).name} describes"))
        return path


def write_engine(
    path: Path, plan: bytes, card: EngineCard, styles: bytes | None, *, overwrite: bool = True
) -> EngineFile:
    """Write plan, styles and card, each whole or not at all; the card's sizes and digests are filled in.

    The card goes last: a plan without its card is refused, and so is one that another card describes. Raises
    `BadOption` if the plan is there and must stay.
    """
    card = replace(
        card,
        plan_bytes=len(plan),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        styles_sha256="" if styles is None else hashlib.sha256(styles).hexdigest(),
    )
    try:
        write_whole(path, plan, overwrite=overwrite)
        if styles is not None:
            write_whole(styles_path_of(path), styles)
        facts = {"format": FILE_FORMAT, "version": FILE_VERSION, **asdict(card)}
        write_whole(card_path_of(path), (json.dumps(facts, indent=1) + "\n").encode())
    except OSError as error:
        raise BadModel(write_failure(path, error)) from error
    return EngineFile(path, card)


def card_path_of(path: Path) -> Path:
    """``x.engine.json`` for ``x.engine``."""
    return path.with_name(path.name + ".json")


def styles_path_of(path: Path) -> Path:
    """``x.engine.safetensors`` for ``x.engine``."""
    return path.with_name(path.name + ".safetensors")


def _damaged(path: Path, why: str) -> str:
    engine = path.name.removesuffix(".json").removesuffix(".safetensors")
    return f"{path} is damaged: {why}; make the engine again with `vidstyle build-engine STYLE -o {engine} --overwrite`"


def _card_from(data: bytes, path: Path) -> EngineCard:
    """The card in a JSON file; `BadModel` says what is wrong with it."""
    import msgspec  # here, as most styles are no engines

    try:
        facts = msgspec.json.decode(data)
        if not isinstance(facts, dict) or facts.get("format") != FILE_FORMAT:
            raise ValueError(f"it is not a {FILE_FORMAT} file")
        if facts.get("version") != FILE_VERSION:
            raise ValueError(f"it has version {facts.get('version')!r}, and this vidstyle reads version {FILE_VERSION}")
        card = msgspec.convert(facts, EngineCard)
        sizes = card.smallest, card.best, card.largest
        if any(not 1 <= a <= b <= c <= MAX_SIDE for a, b, c in zip(*sizes, strict=True)):
            raise ValueError(f"its sizes do not rise from smallest to largest, or are not between 1 and {MAX_SIDE}")
        if not 0 <= card.plan_bytes <= MAX_PLAN_BYTES:
            raise ValueError("plan_bytes is no size of a plan")
        # What a terminal obeys is not printable.
        names = (card.theta, card.library_version, card.gpu or "", card.styles_sha256, card.plan_sha256, *card.targets)
        if not all(map(str.isprintable, (*names, *card.styles))) or "" in card.styles:
            raise ValueError("a name in it is empty, or is no line of text")
    except (ValueError, RecursionError) as error:  # msgspec's are the former
        raise BadModel(_damaged(path, str(error))) from error
    return card
