"""VGG-16 up to relu4_1, as the any-style methods see pictures; and VGG's full shapes, to count their parameters.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015. The papers of
this package take VGG-19, whose first ten convolutions differ from VGG-16's by conv3_4 alone.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidstyle.training.loss import MEAN_RGB, _vgg_tensors

LEVELS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""64, 128, 256 and 512 channels at 1, 1/2, 1/4 and 1/8 of a picture's size."""
STAGES = (("conv1_1",), ("conv1_2", "conv2_1"), ("conv2_2", "conv3_1"), ("conv3_2", "conv3_3", "conv4_1"))
"""The convolutions from one level to the next; a pooling comes before the last one of each stage."""
SCALES = (40.0, 250.0, 440.0, 300.0)
"""Root mean squares of the levels on photos, by which features are divided: every level is near 1 (Gatys et al. 2015
rescale VGG likewise)."""
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
Vgg = Literal["vgg16", "vgg19"]
KINDS: tuple[Vgg, Vgg] = ("vgg19", "vgg16")


class Encoder:
    """VGG-16's levels. Weights and features are of ``dtype``, in channels-last memory."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        found = _vgg_tensors()
        self._weights = {
            name: (
                found[f"{name}.weight"].to(dtype, memory_format=torch.channels_last),
                found[f"{name}.bias"].to(dtype),
            )
            for stage in STAGES
            for name in stage
        }

    def __call__(self, rgb: Tensor, depth: int = 4) -> list[Tensor]:
        """The first ``depth`` of `LEVELS` over their `SCALES`: (N, C, H / 2**level, W / 2**level), of float RGB in
        [0, 1] of shape (N, 3, H, W); differentiable."""
        mean = torch.tensor(MEAN_RGB).reshape(1, 3, 1, 1)
        x = (rgb.float() * 255 - mean).to(self.dtype, memory_format=torch.channels_last)
        levels = []
        for level, (stage, scale) in enumerate(zip(STAGES[:depth], SCALES, strict=False)):
            for name in stage:
                if level and name == stage[-1]:
                    x = functional.max_pool2d(x, 2)
                weight, bias = self._weights[name]
                x = functional.relu(functional.conv2d(functional.pad(x, (1,) * 4, mode="reflect"), weight, bias))
            levels.append(x / scale)
        return levels

    def parameters(self, depth: int = 4) -> list[Tensor]:
        """Weights and biases up to level ``depth``."""
        return [tensor for stage in STAGES[:depth] for name in stage for tensor in self._weights[name]]

    def stored(self, depth: int = 4) -> int:
        """Bytes of these in FP16."""
        return sum(2 * tensor.numel() for tensor in self.parameters(depth))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, float32 (N, C, 1, 1)."""
    variance, mean = torch.var_mean(features.float(), (2, 3), keepdim=True, correction=0)
    return mean, (variance + 1e-5).sqrt()


def adaptive_instance_norm(content: Tensor, style: tuple[Tensor, Tensor]) -> Tensor:
    """``content`` with the `moments` ``style`` in place of its own (Huang and Belongie 2017)."""
    mean, deviation = moments(content)
    gain = style[1] / deviation
    return content * gain.to(content.dtype) + (style[0] - mean * gain).to(content.dtype)


def convolutions(kind: Vgg, level: int) -> list[tuple[int, int]]:
    """Channels in and out of every convolution up to reluLEVEL_1, ``level`` from 1 to 5."""
    shapes, inputs = [], 3
    for block, (channels, depth) in enumerate(zip(CHANNELS, DEPTHS[kind], strict=True), 1):
        for number in range(depth):
            if block < level or (block == level and number == 0):
                shapes.append((inputs, channels))
                inputs = channels
    return shapes


def full_encoder(kind: Vgg, level: int) -> nn.Module:
    """VGG up to reluLEVEL_1 on the meta device: it has a size and no weights."""
    return nn.ModuleList(nn.Conv2d(i, o, 3, device="meta") for i, o in convolutions(kind, level))


def full_decoder(kind: Vgg, level: int) -> nn.Module:
    """Its mirror image, from reluLEVEL_1 to RGB, as the papers' decoders are."""
    return nn.ModuleList(nn.Conv2d(o, i, 3, device="meta") for i, o in reversed(convolutions(kind, level)))


def full_classifier(kind: Vgg) -> nn.Module:
    """All of VGG for pictures of 224 pixels, with its three fully connected layers."""
    convs = [*convolutions(kind, 5), *[(512, 512)] * (DEPTHS[kind][-1] - 1)]
    dense = ((512 * 7 * 7, 4096), (4096, 4096), (4096, 1000))
    layers: list[nn.Module] = [nn.Conv2d(i, o, 3, device="meta") for i, o in convs]
    return nn.ModuleList([*layers, *(nn.Linear(i, o, device="meta") for i, o in dense)])
