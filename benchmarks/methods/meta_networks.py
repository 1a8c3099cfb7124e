"""A network that makes another network: VGG's statistics of a painting become the weights that paint like it.

Shen, Yan, Zeng, "Neural Style Transfer via Meta Networks", CVPR 2018. Means and deviations of relu1_2, relu2_2, relu3_3
and relu4_3 (1,920 numbers) pass a hidden layer, of which each convolution of the other network has a group of its own.
The paper's has groups of 128 and makes 14 convolutions of Johnson's network. The one that is trained here has groups of
`HIDDEN` and makes `fast`, whose shared weights are where it starts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from likeness import RGB
from torch import Tensor, nn
from torch.func import functional_call

from methods import weights
from methods.base import STYLE_SIZE, WEIGHTS, Method, Timed, parameter_count
from vidstyle.data import VGG_FILE
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import painting_tensor, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import Perceptual

FILE = WEIGHTS / "meta_networks.safetensors"
STATISTICS = 2 * (64 + 128 + 256 + 512)
HIDDEN, FULL_HIDDEN = 4, 128
VECTOR = "vector"
"""The name of the instance norms' scales and shifts among what is made."""


class MetaNetwork(nn.Module):
    """Makes the weights of a network of ``shape``.

    ``hidden`` numbers make each convolution of ``made`` (None is all of them, and the style vector); the others are
    weights like any.
    """

    def __init__(
        self, shape: Architecture, hidden: int, made: tuple[str, ...] | None = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        self.shape, self.hidden = shape, hidden
        sizes = {conv.name: conv.outputs * (conv.inputs * conv.kernel**2 + 1) for conv in shape.convs}
        self.made = (*sizes, VECTOR) if made is None else made
        sizes[VECTOR] = shape.style_size
        # What paintings have in common would drown what they differ in.
        self.register_buffer("center", torch.zeros(STATISTICS, device=device))
        self.register_buffer("spread", torch.ones(STATISTICS, device=device))
        self.first = nn.Linear(STATISTICS, hidden * len(self.made), device=device)
        self.heads = nn.ModuleDict({_key(name): nn.Linear(hidden, sizes[name], device=device) for name in self.made})
        self.fixed = nn.ParameterDict(
            {
                _key(name): nn.Parameter(torch.zeros(size, device=device))
                for name, size in sizes.items()
                if name not in self.made
            }
        )

    @torch.no_grad()
    def standardize(self, statistics: Tensor) -> None:
        """Take the statistics of paintings (paintings, STATISTICS) as those to come."""
        self.center.copy_(statistics.mean(0))
        self.spread.copy_(statistics.std(0) + 0.05)

    @torch.no_grad()
    def start_from(self, network: Network) -> None:
        """Make ``network`` of every painting, nearly."""
        for name, flat in _flat(network).items():
            if name in self.made:
                self.heads[_key(name)].weight.normal_(std=0.02 * float(flat.std()))  # type: ignore[union-attr]
                self.heads[_key(name)].bias.copy_(flat)  # type: ignore[union-attr]
            else:
                self.fixed[_key(name)].copy_(flat)

    def forward(self, statistics: Tensor) -> dict[str, Tensor]:
        """Kernel and bias of every convolution, flat and in a row, and `VECTOR`, of `statistics_of` a painting."""
        groups = torch.relu(self.first((statistics - self.center) / self.spread)).split(self.hidden)
        found = dict(self.fixed.items())
        found |= {_key(name): self.heads[_key(name)](group) for name, group in zip(self.made, groups, strict=True)}
        return found

    def network(self, statistics: Tensor) -> Network:
        """The network for a painting."""
        with torch.no_grad():
            made = self(statistics)
        arrays = {name: np.ascontiguousarray(t.detach().numpy()) for name, t in self.tensors(made).items()}
        return Network(self.shape, arrays, made[VECTOR].detach().numpy().copy())

    def tensors(self, made: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `forward` gave, without the vector, as the weights of `Network`."""
        found = {}
        for conv in self.shape.convs:
            flat = made[_key(conv.name)]
            found[f"{conv.name}.weight"] = flat[: -conv.outputs].reshape(
                conv.outputs, conv.inputs, conv.kernel, conv.kernel
            )
            found[f"{conv.name}.bias"] = flat[-conv.outputs :]
        return found

    def painted(self, net: TransformNet, statistics: Tensor, photo: Tensor) -> Tensor:
        """Photos (N, 3, H, W) as ``net``, a module of `shape`, paints them with the weights made; differentiable."""
        made = self(statistics)
        named = {f"convs.{key.replace('.', '_', key.count('.') - 1)}": t for key, t in self.tensors(made).items()}
        painted: Tensor = functional_call(net, named, (photo, made[VECTOR]))
        return painted


def statistics_of(target: list[Tensor]) -> Tensor:
    """The `STATISTICS` of a painting, by its `Perceptual.style_target`: logarithms of 1 plus means and deviations."""
    parts = []
    for layer in target[:4]:
        covariance, mean = layer[0, :-1].float(), layer[0, -1].float()
        parts += [mean, covariance.diagonal().clamp_min(0).sqrt()]
    return torch.cat(parts).log1p()


def full_size(device: str = "meta") -> MetaNetwork:
    """The paper's: 14 convolutions of Johnson's network, all but the first and the last one."""
    return MetaNetwork(PAPER, FULL_HIDDEN, tuple(conv.name for conv in PAPER.normalised[1:]), device)


class MetaNetworks(Method):
    name, paper, styles = "meta networks", "Shen et al., CVPR 2018", "any"
    table_parameters = 219.32
    real_time = True

    def __init__(self, compute: Compute | None = None, file: Path = FILE) -> None:
        compute = compute or Compute()
        self.file = file
        self.perceptual = Perceptual(compute.dtype)
        self.meta = MetaNetwork(FAST, HIDDEN)
        self.card = weights.load_into(self.meta, file)

    def made(self, painting: Path) -> Network:
        """The network for a painting."""
        target = self.perceptual.style_target(painting_tensor(read_picture(painting), STYLE_SIZE))
        return self.meta.network(statistics_of(target))

    def prepare(self, painting: Path) -> None:
        self.stylizer = Stylizer(Style.of(painting.stem, self.made(painting)))

    def stylize(self, photo: RGB) -> RGB:
        return self.stylizer(photo)

    def parameters(self) -> int:
        return parameter_count(self.meta)

    def full_size(self) -> dict[str, int]:
        return {"own": parameter_count(full_size())}

    def timed(self, painting: Path) -> Timed:
        return Timed(FullMetaNetworks(self.perceptual))

    def note(self) -> str:
        return (
            f"pictures by {self.parameters() / 1e6:.2f} M, {self.card.get('steps', 0):,} steps; speed of the full size"
        )

    def stored(self) -> int:
        return self.file.stat().st_size + VGG_FILE.stat().st_size


class FullMetaNetworks(MetaNetworks):
    """The paper's size with random weights, 0.9 GB: for its speed alone."""

    def __init__(self, perceptual: Perceptual) -> None:
        self.perceptual, self.file, self.card = perceptual, FILE, {}
        self.meta = full_size("cpu")


def _key(name: str) -> str:
    """Modules have no dots in their names."""
    return name.replace(".", "_")


def _flat(network: Network) -> dict[str, Tensor]:
    found = {
        conv.name: torch.cat(
            [torch.from_numpy(network.weights[f"{conv.name}.{leaf}"]).flatten() for leaf in ("weight", "bias")]
        )
        for conv in network.architecture.convs
    }
    return {**found, VECTOR: torch.from_numpy(network.start.copy())}


def start() -> MetaNetwork:
    """What the training begins with."""
    meta = MetaNetwork(FAST, HIDDEN)
    meta.start_from(shared_network("fast"))
    return meta
