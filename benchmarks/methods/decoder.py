"""The inverse of VGG-16: a block for each level, from its features to those of the level below, the last one to RGB.

Blocks in a row invert any level, so that one family serves every method (blockwise training: Chiu and Gurari,
"PhotoWCT2", WACV 2022), and between two blocks the features are VGG's own, which is where Avatar-Net re-styles them.
The papers mirror VGG, upsampling between convolutions of full width. A block here is a 3x3 convolution to few channels,
a 1x1 convolution to the four sub-pixels of each position, and a ReLU. Without the channels that have a ReLU of their
own it is linear, so that its best weights are known at once: `least_squares` (reduced-rank regression, Izenman 1975).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.weights import load_into

WIDTHS = ((128, 96, 64), (256, 128, 128), (512, 128, 256))
"""Channels in, linear channels between, and channels out of the blocks from relu2_1, relu3_1 and relu4_1."""
CURVED = 32
"""Channels between that have a ReLU."""
FEWER = (16, 8, 2, 1)
"""Each block is fitted on one in so many of the pictures: a picture has more positions at lower levels."""
RIDGE = 1e-3
"""Added to the diagonal of the inputs' covariance, times its mean."""


class Block(nn.Module):
    """Features (N, ``inputs``, H, W) to (N, ``outputs``, 2 H, 2 W)."""

    def __init__(self, inputs: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.rank = rank
        self.down = _conv(inputs, rank + CURVED)
        self.up = nn.Conv2d(rank + CURVED, 4 * outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        between = self.down(features)
        between = torch.cat([between[:, : self.rank], functional.relu(between[:, self.rank :])], 1)
        return functional.relu(functional.pixel_shuffle(self.up(between), 2))

    @torch.no_grad()
    def fit(self, features: Tensor, wanted: Tensor) -> None:
        """The best linear weights for ``wanted`` (N, outputs, 2 H, 2 W)."""
        down, up, bias = least_squares(features, functional.pixel_unshuffle(wanted, 2), self.rank)
        self.down.weight[: self.rank] = down.reshape(self.rank, -1, 3, 3)
        self.down.bias[: self.rank] = 0  # type: ignore[index]
        self.up.weight.zero_()
        self.up.weight[:, : self.rank, 0, 0] = up
        self.up.bias.copy_(bias)  # type: ignore[union-attr]


class Decoder(nn.Module):
    """Blocks 1 to 4. Block 1 makes RGB in about [0, 1] of relu1_1, the others level N - 1 of level N."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_conv(64, 3), *(Block(*widths) for widths in WIDTHS)])

    def block(self, number: int, features: Tensor) -> Tensor:
        """What block ``number`` (1 to 4) makes of its level."""
        found: Tensor = self.blocks[number - 1](features)
        return found

    def forward(self, features: Tensor, depth: int) -> Tensor:
        """RGB of shape (N, 3, H, W) of level ``depth``."""
        for number in range(depth, 0, -1):
            features = self.block(number, features)
        return features

    @torch.no_grad()
    def fit(self, rgb: Tensor, levels: list[Tensor]) -> None:
        """The best linear weights for some pictures and their `methods.vgg.Encoder` levels: each block learns to
        invert VGG's own features, and those that the block above makes."""
        made = levels[3].float()
        for number in range(4, 0, -1):
            wanted = rgb if number == 1 else levels[number - 2].float()
            given = levels[number - 1].float()
            few = max(1, len(given) // FEWER[number - 1])
            given, wanted, made = given[:few], wanted[:few], made[:few]
            both = (given, wanted) if number == 4 else (torch.cat([given, made]), torch.cat([wanted, wanted]))
            block = self.blocks[number - 1]
            if isinstance(block, Block):
                block.fit(*both)
            else:
                down, up, bias = least_squares(*both, 3)
                block.weight.copy_((up @ down).reshape(block.weight.shape))  # type: ignore[operator, union-attr]
                block.bias.copy_(bias)  # type: ignore[operator, union-attr]
            made = self.block(number, made)

    @classmethod
    def trained(cls, path: Path, dtype: torch.dtype) -> Decoder:
        """With the weights of a file of `methods.weights`."""
        decoder = cls()
        load_into(decoder, path)
        return decoder.to(dtype, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]


def least_squares(features: Tensor, wanted: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Down (rank, 9 C), up (outputs, rank) and bias (outputs,) that make ``wanted`` (N, outputs, H, W) of the 3x3
    patches of ``features`` (N, C, H, W), with the least squared error."""
    inputs, outputs = 9 * features.shape[1], wanted.shape[1]
    products, crossed = torch.zeros(inputs, inputs), torch.zeros(inputs, outputs)
    sums, totals, count = torch.zeros(inputs), torch.zeros(outputs), 0
    for some, aim in zip(features.split(8), wanted.split(8), strict=True):
        patches = functional.unfold(functional.pad(some, (1,) * 4, mode="reflect"), 3).transpose(0, 1).flatten(1)
        aims = aim.transpose(0, 1).flatten(1)
        products += patches @ patches.T
        crossed += patches @ aims.T
        sums, totals, count = sums + patches.sum(1), totals + aims.sum(1), count + patches.shape[1]
    products = products / count - torch.outer(sums, sums) / count**2
    crossed = crossed / count - torch.outer(sums, totals) / count**2
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    whole = torch.cholesky_solve(crossed, torch.linalg.cholesky(products))  # (inputs, outputs)
    _, directions = torch.linalg.eigh(crossed.T @ whole)  # the covariance of what `whole` makes
    up = directions[:, -rank:]
    down = (whole @ up).T
    return down, up, (totals - up @ (down @ sums)) / count


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
