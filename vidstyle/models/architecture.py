"""The two transformation networks, without torch: their shapes, their weights, their files.

Both are the image transformation network of Johnson et al. 2016 (convolutions down, residual
blocks, nearest-upsample convolutions, sigmoid), driven by a *style vector*: for every normalised
convolution, in `Architecture.normalised` order, its instance-norm scales (gamma) and then its
shifts (beta).

======== =================================================== ========== ============
network  for                                                 parameters style vector
======== =================================================== ========== ============
`paper`  fidelity to MetaStyle (Zhang et al. 2019), GPUs      1,679,235        3,200
`fast`   real time on CPUs: all the work at a quarter size      237,843        1,088
======== =================================================== ========== ============
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadModel
from vidstyle.models.checkpoint import read_tensors, write_tensors
from vidstyle.options import NetworkName

Weights = dict[str, NDArray[np.float32]]

NORM_EPSILON = 1e-5
"""Added to the variance by every instance norm."""
MULTIPLE_OF = 4
"""Frames are padded (edge pixels repeated, at the bottom and on the right) to a multiple of this."""
SMALLEST_SIDE = 8
"""... and to at least this, so that a quarter-size reflection by one pixel exists."""
SHIPPED = Path(__file__).parents[1] / "gallery"
"""Where the networks and styles are that come with vidstyle."""
NETWORK_FILE = "network.safetensors"
FILE_FORMAT = "vidstyle-network"
FILE_VERSION = "1"


@dataclass(frozen=True)
class Conv:
    """One convolution with reflection padding, so that a stride of 1 keeps the size."""

    name: str
    """Prefix of its tensors: ``name.weight`` (OIHW) and ``name.bias``."""
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    upsample: int = 1
    """Nearest upsampling before it. Then the reflection is by one pixel at the size *before* the
    upsampling, and what is too much afterwards is cropped: this leaves neither grid nor border."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a network: unshuffle, `down`, `blocks` residual blocks, `up`, `out`, sigmoid.

    Every convolution but `out` is followed by an instance norm; every norm but the second one of a
    residual block by a ReLU. A block is ``x + norm(conv2(relu(norm(conv1(x)))))``.
    """

    name: NetworkName
    """Name on the command line and in files."""
    unshuffle: int
    """Space-to-depth factor of the input: channel = colour * factor**2 + row * factor + column."""
    down: tuple[Conv, ...]
    blocks: int
    channels: int
    up: tuple[Conv, ...]
    out: Conv
    """The last convolution, to RGB; no norm, sigmoid after it."""

    @cached_property
    def residual(self) -> tuple[tuple[Conv, Conv], ...]:
        """The two 3x3 convolutions ``resN.conv1`` and ``resN.conv2`` of every block."""
        c = self.channels
        return tuple(
            (Conv(f"res{i}.conv1", c, c, 3), Conv(f"res{i}.conv2", c, c, 3)) for i in range(1, self.blocks + 1)
        )

    @cached_property
    def normalised(self) -> tuple[Conv, ...]:
        """The convolutions with an instance norm, in the order of the style vector."""
        return (*self.down, *(conv for block in self.residual for conv in block), *self.up)

    @cached_property
    def convs(self) -> tuple[Conv, ...]:
        """All convolutions, in the order in which they run."""
        return (*self.normalised, self.out)

    @cached_property
    def style_size(self) -> int:
        return 2 * sum(conv.outputs for conv in self.normalised)

    @cached_property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of `Weights` (the style vector is not among them)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for conv in self.convs:
            shapes[f"{conv.name}.weight"] = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
            shapes[f"{conv.name}.bias"] = (conv.outputs,)
        return shapes

    @cached_property
    def parameter_count(self) -> int:
        """Weights, biases and affine parameters together."""
        return sum(int(np.prod(s)) for s in self.weight_shapes.values()) + self.style_size

    def flops_per_pixel(self) -> float:
        """Multiplications and additions of the convolutions for one pixel of the frame.

        Counted as the exported graph runs them: an upsample-by-2 convolution is one with a smaller
        kernel at the low size and four times the channels (see `vidstyle.graph`).
        """
        scale, total = 1.0 / self.unshuffle, 0.0
        for conv in self.convs:
            if conv.upsample > 1:
                taps, outputs = 3 * 3, conv.outputs * conv.upsample**2
                total += 2 * taps * conv.inputs * outputs * scale**2
                scale *= conv.upsample
            else:
                scale /= conv.stride
                total += 2 * conv.kernel**2 * conv.inputs * conv.outputs * scale**2
        return total

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The ``(height, width)`` that the convolutions see for a frame of ``size``."""
        height, width = (max(SMALLEST_SIDE, -(-side // MULTIPLE_OF) * MULTIPLE_OF) for side in size)
        return height, width

    def identity_style(self) -> NDArray[np.float32]:
        """The vector of all scales 1 and all shifts 0, with which an untrained network starts."""
        parts = [np.repeat(np.array([1, 0], np.float32), conv.outputs) for conv in self.normalised]
        return np.concatenate(parts)


PAPER = Architecture(
    name="paper",
    unshuffle=1,
    down=(Conv("stem", 3, 32, 9), Conv("down1", 32, 64, 3, stride=2), Conv("down2", 64, 128, 3, stride=2)),
    blocks=5,
    channels=128,
    up=(Conv("up1", 128, 64, 3, upsample=2), Conv("up2", 64, 32, 3, upsample=2)),
    out=Conv("out", 32, 3, 9),
)
FAST = Architecture(
    name="fast",
    unshuffle=4,
    down=(Conv("stem", 48, 48, 3),),
    blocks=5,
    channels=48,
    up=(Conv("up", 48, 16, 3, upsample=2),),
    out=Conv("out", 16, 3, 5, upsample=2),
)
ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in (FAST, PAPER)}


def architecture(name: str) -> Architecture:
    """The architecture called ``name``; `BadModel` when there is none."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise BadModel(f"there is no network called {name!r}; this version knows {known}") from None


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture with its weights: everything but the style."""

    architecture: Architecture
    weights: Weights
    """float32 arrays of ``architecture.weight_shapes``, weights OIHW."""
    start: NDArray[np.float32]
    """The style vector that it paints with, and from which an adaptation starts; float32 of shape (style_size,)."""

    def __post_init__(self) -> None:
        for name, shape in self.architecture.weight_shapes.items():
            found = self.weights.get(name)
            if found is None or found.shape != shape:
                what = "is missing" if found is None else f"has shape {found.shape}"
                raise BadModel(f"tensor {name!r} of network {self.architecture.name!r} {what}; expected {shape}")
        if self.start.shape != (self.architecture.style_size,):
            raise BadModel(
                f"the start vector of network {self.architecture.name!r} has shape {self.start.shape}; "
                f"expected ({self.architecture.style_size},)"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over name and FP16 bytes of every weight: what styles name that were adapted from it.

        FP16 because that is how weights are stored: a network has one digest, loaded or trained.
        """
        sha = hashlib.sha256(self.architecture.name.encode())
        for name in sorted(self.architecture.weight_shapes):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(self.weights[name], np.float16).tobytes())
        return sha.hexdigest()

    @classmethod
    def blank(cls, shape: Architecture) -> Network:
        """A network whose weights are 0."""
        zeros = {name: np.zeros(size, np.float32) for name, size in shape.weight_shapes.items()}
        return cls(shape, zeros, shape.identity_style())

    def save(self, path: Path, card: dict[str, object] | None = None, *, overwrite: bool = True) -> None:
        """Write the network as FP16 safetensors, whole or not at all. `BadOption` if it is there and must stay."""
        tensors = {**self.weights, "style.start": self.start}
        write_tensors(
            path,
            {name: tensor.astype(np.float16) for name, tensor in tensors.items()},
            file_format=FILE_FORMAT,
            version=FILE_VERSION,
            facts={"network": self.architecture.name, "digest": self.digest},
            card=card or {},
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read what `save` wrote; `BadModel` names the file and what is wrong with it."""
        file = read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION)
        shape = architecture(file.facts.get("network", ""))
        tensors = file.tensors
        start = tensors.pop("style.start", np.empty(0, np.float32))
        network = cls(shape, tensors, start)
        if network.digest != file.facts.get("digest"):
            raise BadModel(f"{path} is damaged: its weights do not match the digest it carries; download it again")
        return network


@cache
def shared_network(name: str) -> Network:
    path = SHIPPED / name / NETWORK_FILE
    if not path.exists():
        raise BadModel(
            f"no shared network {name!r} is shipped yet; adapt on the network 'fast', or train with --from-scratch"
        )
    return Network.load(path)


def is_shipped(network: Network) -> bool:
    """Whether its weights are those of the shipped network of its name."""
    if not (SHIPPED / network.architecture.name / NETWORK_FILE).exists():
        return False
    shared = shared_network(network.architecture.name)
    return network.weights is shared.weights or network.digest == shared.digest


def mixed(parts: Sequence[tuple[Network, float]]) -> Network:
    """The sum of networks of one architecture, each times its share."""
    first = parts[0][0]
    if len(parts) == 1:
        return first
    start = np.asarray(sum(np.float32(share) * network.start for network, share in parts), np.float32)
    if all(network.weights is first.weights for network, _ in parts):
        return Network(first.architecture, first.weights, start)
    weights = {
        name: np.asarray(sum(np.float32(share) * network.weights[name] for network, share in parts), np.float32)
        for name in first.architecture.weight_shapes
    }
    return Network(first.architecture, weights, start)
