"""The loss of training: VGG-16 features and their statistics, tone, contrast, total variation, and instability.

Johnson et al. 2016 (layers, feature reconstruction) after Gatys et al. 2015. The weights are those of
VGG-16 by Simonyan and Zisserman 2014 (CC BY 4.0), conv1_1 to conv4_3, shipped as FP16.

Style is the covariance of a layer's channels and, apart from it, their mean. Together these are the Gram matrix;
but features are positive, so that a Gram matrix is mostly mean: matching it brings the painting's average color
long before its contrasts, and a painting of few tones comes out as one brown.

The feature terms are *scale-free*: the squared error of a layer is divided by the squared norm of its target, for
style by the mean of its own and its target's. So every layer counts alike, and the weights mean the same for every
painting.

Instability: the same picture a little moved and noisy should be painted the same, which keeps a video from flickering.
It is a term for stills alone, after the noise-and-warp regularization of Johnson et al.'s successors (Gupta et al. 2017
name the instability; the term here needs no video).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from vidstyle.data import VGG_FILE
from vidstyle.errors import BadModel, MissingDependency
from vidstyle.models.torch_net import TransformNet
from vidstyle.models.winograd import Winograd, pays, supports
from vidstyle.options import check_between
from vidstyle.training.contrast import BANDS, BT709, MATCHED
from vidstyle.training.device import Compute

BLOCKS = (
    ("conv1_1", "conv1_2"),
    ("conv2_1", "conv2_2"),
    ("conv3_1", "conv3_2", "conv3_3"),
    ("conv4_1", "conv4_2", "conv4_3"),
)
"""Convolutions between poolings. The features are the ReLUs after the last one of each block:
relu1_2, relu2_2, relu3_3 and relu4_3, with 64, 128, 256 and 512 channels."""
Features = Literal["shipped", "torchvision"]
"""Where VGG-16 comes from: the file of this package, or torchvision's download of the same numbers."""
CONTENT_BLOCK = 2
"""Content is compared at relu3_3."""
DETAIL_BLOCK = 1
"""Details are compared at relu2_2."""
MEAN_RGB = (123.68, 116.779, 103.939)
"""What the network was trained to have subtracted from RGB in 0-255."""
MEAN_SHARE = 0.3
"""How much of a layer's style is the mean of its channels; the rest is their covariance."""
LUMA = (0.299, 0.587, 0.114)
"""Of BT.601."""
CONTRAST_BANDS = len(BANDS[MATCHED])
"""Of luma, those that `vidstyle.training.contrast` matches."""
SMALLEST_RMS = 0.002
"""Half a level of 255."""
SMALLEST_SPREAD = 0.01
"""Variance of a painting's tones below which their errors are not made larger: a texture has hardly any tones."""
SMALLEST_VARIANCE = 1.0
"""Added to a channel's at relu2_2, whose deviations are about 250: one may be the same everywhere."""
QUANTILES = 33
"""Points of the curve that gives the painting's tones."""
SMALLEST_SIDE = 16
"""A picture needs this many pixels a side to reach relu4_3 with more than a point."""


NOISE = 0.02
"""Standard deviation of the noise, of values in [0, 1]: that of a decent camera indoors."""
REACH = 3
"""Largest shift in pixels, each way. Less than 4: the networks work at a quarter size, and what falls
between its pixels is what flickers."""

Shift = tuple[int, int]
"""Rows down and columns right."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What the terms of the loss count."""

    content: float = 1.0
    """The larger, the more photo."""
    style: float = 10.0
    """The larger, the more painting."""
    detail: float = 4.0
    """Keeps edges and faces single and whole, in whatever colors and contrasts."""
    contrast: float = 0.0
    """Gives fine and broad strokes the contrast that they have in the painting; an adaptation's is 20."""
    tone: float = 1.0
    """Keeps what is light in the photo light and what is dark dark, within the tones of the painting."""
    variation: float = 0.02
    """Calms single pixels."""

    def __post_init__(self) -> None:
        for field in fields(self):
            check_between(f"{field.name} weight", getattr(self, field.name), 0, 1e6)


class Content(NamedTuple):
    """What is to be kept of photos."""

    features: Tensor
    """relu3_3, (N, 256, H / 4, W / 4)."""
    details: Tensor
    """relu2_2, each channel of mean 0 and variance 1, (N, 128, H / 2, W / 2)."""
    tones: Tensor


@dataclass(frozen=True)
class Losses:
    """The terms of a batch: float32 of shape (N,), one number a picture, that carry gradients."""

    content: Tensor
    """Squared error of relu3_3, divided by the squared norm of the photo's."""
    style: Tensor
    """Squared errors of covariances and means over their squared norms, see `_bounded_error`; mean of four layers."""
    detail: Tensor
    """1 - the correlation of relu2_2 with the photo's, channel by channel, and the mean of them: a painting may
    change all colors and contrasts of a photo and keep its details."""
    contrast: Tensor
    """Squared errors of the `contrasts` over their squares, bounded like those of style; mean of the scales."""
    tone: Tensor
    """Squared error of the tones (see `tones`) from the photo's as the painting has them, over their variance."""
    variation: Tensor
    """Mean absolute difference of neighboring pixels, rows plus columns; values in [0, 1]."""

    def total(self, weights: LossWeights) -> Tensor:
        """The weighted sum of each picture, (N,)."""
        total: Tensor = sum(getattr(weights, field.name) * getattr(self, field.name) for field in fields(self))
        return total

    def figures(self) -> dict[str, float]:
        """The terms as numbers, each the mean over the batch."""
        return {field.name: getattr(self, field.name).mean().item() for field in fields(self)}


class Perceptual:
    """VGG-16 up to relu4_3, and the losses on it.

    Pictures are float RGB in [0, 1] of shape (N, 3, H, W). Weights, and so the features, are of
    ``dtype`` (float32 or bfloat16) on ``device``; losses are float32. It takes 60 MB, and 230 MB more where
    `vidstyle.models.winograd` convolves.
    """

    def __init__(
        self, dtype: torch.dtype = torch.float32, device: str = "cpu", *, features: Features = "shipped"
    ) -> None:
        self.dtype, self.place = dtype, device
        tensors = {
            name: tensor.to(device, dtype, memory_format=torch.channels_last if tensor.dim() == 4 else None)
            for name, tensor in (_vgg_tensors() if features == "shipped" else _torchvision_tensors()).items()
        }
        self._layers = {
            name: _Convolution(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for block in BLOCKS for name in block
        }
        # Subtracting the mean and multiplying by 255 stays outside the first convolution: folded into
        # its bias it would be wrong at the zero-padded border.
        wide = torch.promote_types(dtype, torch.float32)
        self._mean = torch.tensor(MEAN_RGB, device=device, dtype=wide).reshape(1, 3, 1, 1)

    def features(self, rgb: Tensor, last_block: int = 3) -> list[Tensor]:
        """relu1_2, relu2_2, relu3_3, relu4_3 (as far as ``last_block``), each (N, C, H / 2**block, W / 2**block).

        In channels-last memory, and twice differentiable with respect to ``rgb``.
        """
        x = (rgb.to(torch.promote_types(rgb.dtype, torch.float32)) * 255.0 - self._mean).to(self.dtype)
        blocks = [[self._layers[name] for name in block] for block in BLOCKS[: last_block + 1]]
        with torch.autocast(x.device.type, enabled=False):
            return list(_Vgg.apply(x.contiguous(memory_format=torch.channels_last), blocks))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def content_target(self, rgb: Tensor) -> Content:
        """relu3_3 of photos, their details, and their tones."""
        features = self.features(rgb, CONTENT_BLOCK)
        return Content(features[CONTENT_BLOCK], _standardized(features[DETAIL_BLOCK]).to(self.dtype), tones(rgb))

    @torch.no_grad()
    def style_target(self, rgb: Tensor) -> list[Tensor]:
        """What style is of a painting.

        The `statistics`, one (1, C + 1, C) a layer, its `contrasts` (1, up to CONTRAST_BANDS), and the quantiles of
        its tones (1, QUANTILES).
        """
        levels = torch.linspace(0, 1, QUANTILES, device=rgb.device)
        quantiles = torch.quantile(tones(rgb).flatten(1), levels, dim=1).T
        return [*(statistics(f) for f in self.features(rgb)), contrasts(rgb), quantiles]

    def losses(self, painted: Tensor, content: Content, style: list[Tensor]) -> Losses:
        """How far ``painted`` is from the two targets; a target of batch size 1 serves the whole batch."""
        features = self.features(painted)
        *layers, bands, quantiles = style
        found = [statistics(f) for f in features]
        variances = found[DETAIL_BLOCK][:, :-1].diagonal(dim1=1, dim2=2)
        common = (features[DETAIL_BLOCK] * content.details).mean((2, 3), dtype=variances.dtype)
        across, down = (painted.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (-1, -2))
        aim = _at(quantiles, content.tones)
        spread = quantiles.var(1, correction=0).clamp_min(SMALLEST_SPREAD)
        return Losses(
            content=_relative_error(features[CONTENT_BLOCK].float(), content.features.float()),
            style=torch.stack([_style_error(*pair) for pair in zip(found, layers, strict=True)]).mean(0),
            detail=1 - (common / (variances + SMALLEST_VARIANCE).sqrt()).mean(1),
            contrast=_contrast_error(contrasts(painted), bands),
            tone=(tones(painted) - aim).square().mean((1, 2, 3)) / spread,
            variation=(across + down).float(),
        )


class _Convolution:
    """A 3x3 convolution with constant weights and a ReLU after it, and its gradient."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias
        # The gradient with respect to a convolution's input is the convolution with the kernel turned around.
        self._turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)

    @cached_property
    def _fast(self) -> Winograd | None:
        return Winograd(self._weight) if supports(self._weight) else None

    @cached_property
    def _fast_turned(self) -> Winograd | None:
        return Winograd(self._turned) if supports(self._turned) else None

    def activation(self, x: Tensor) -> Tensor:
        """Of ``x`` (N, I, H, W) in channels-last memory, (N, O, H, W); carries no gradient."""
        if pays(x) and self._fast:
            return self._fast(x, self._bias, relu=True)
        return functional.relu_(functional.conv2d(x, self._weight, self._bias, padding=1))

    def gradient(self, gradient: Tensor, activation: Tensor) -> Tensor:
        """Of ``x``, from the ``gradient`` of what `activation` made of it; differentiable where it is recorded."""
        if not torch.is_grad_enabled() and pays(gradient) and self._fast_turned:
            return self._fast_turned(gradient, gate=activation)
        gradient = torch.ops.aten.threshold_backward(gradient, activation.detach(), 0)
        return functional.conv2d(gradient, self._turned, padding=1)


class _Vgg(torch.autograd.Function):
    """Convolutions, ReLUs and poolings with constant weights, and their gradient.

    Written out, because torch's own way costs a quarter of a training step here: it keeps gradients of the
    features in another memory order than the activations, so every mask and sum is strided, and it differentiates
    constant weights when a gradient is differentiated. Between its kinks the network is linear: the gradient depends
    on the picture through masks alone, and differentiating it once more goes through the same masks.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Sequence[Sequence[_Convolution]]) -> tuple[Tensor, ...]:
        activations: list[Tensor] = []
        argmaxes: list[Tensor] = []
        taps = []
        for index, block in enumerate(blocks):
            if index:
                x, argmax = functional.max_pool2d(x, 2, return_indices=True)
                argmaxes.append(argmax)
            for layer in block:
                x = layer.activation(x)
                activations.append(x)
            taps.append(x)
        ctx.save_for_backward(*activations, *argmaxes)
        ctx.blocks = blocks
        return tuple(taps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        saved = list(ctx.saved_tensors)
        argmaxes = [saved.pop() for _ in ctx.blocks[1:]]  # the last one first, as they are needed
        gradient = gradients[-1]
        for index in reversed(range(len(ctx.blocks))):
            if index < len(gradients) - 1:
                # What was pooled has the size of the activation before it, which is now the last one saved.
                gradient = _unpool(gradient, saved[-1], argmaxes.pop(0)).add_(gradients[index])
            for layer in reversed(ctx.blocks[index]):
                gradient = layer.gradient(gradient, saved.pop())
        return gradient, None


def _unpool(gradient: Tensor, activation: Tensor, argmax: Tensor) -> Tensor:
    """The gradient before a 2x2 max pooling of ``activation``."""
    pool = torch.ops.aten.max_pool2d_with_indices_backward
    found: Tensor = pool(gradient, activation.detach(), [2, 2], [2, 2], [0, 0], [1, 1], False, argmax)
    return found


class _Gram(torch.autograd.Function):
    """Inner products of the columns of (N, positions, C); the two factors' gradients are one, made once."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        return flat.transpose(1, 2) @ flat

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        found: Tensor = flat @ (gradient[0] + gradient[0].transpose(1, 2))
        return found


def statistics(features: Tensor) -> Tensor:
    """The covariance of the channels over all positions and, as one more row, their mean: (N, C + 1, C), float32."""
    flat = _flat(features)
    mean = flat.mean(1, keepdim=True, dtype=torch.promote_types(flat.dtype, torch.float32))
    return torch.cat([_products(flat - mean.to(flat.dtype)), mean], 1)


def _flat(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1).flatten(1, 2)  # a view, where the memory is channels-last


def _products(flat: Tensor) -> Tensor:
    with torch.autocast(flat.device.type, enabled=False):
        products: Tensor = _Gram.apply(flat)  # type: ignore[no-untyped-call]
        return products.to(torch.promote_types(products.dtype, torch.float32)) / flat.shape[1]


def _standardized(features: Tensor) -> Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(features, (2, 3), keepdim=True, correction=0)
    return (features - mean) / (variance + SMALLEST_VARIANCE).sqrt()


def tones(rgb: Tensor) -> Tensor:
    """Luma (BT.601) as the mean of squares of 8 x 8 pixels, float (N, 1, H / 8, W / 8) in [0, 1]."""
    return functional.avg_pool2d(_luma(rgb, LUMA), 8)


def _luma(rgb: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Float (N, 1, H, W) of (N, 3, H, W)."""
    return (rgb.float() * torch.tensor(weights, device=rgb.device).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def _at(quantiles: Tensor, share: Tensor) -> Tensor:
    """``quantiles`` (N or 1, QUANTILES) at each ``share`` (N, ...) in [0, 1]: black becomes the darkest tone, mid-gray
    the middle one, white the lightest."""
    position = share.flatten(1).clamp(0, 1) * (QUANTILES - 1)
    below = position.floor().clamp_max(QUANTILES - 2)
    table = quantiles.expand(len(share), -1)
    low, high = table.gather(1, below.long()), table.gather(1, below.long() + 1)
    return torch.lerp(low, high, position - below).reshape(share.shape)


def contrasts(rgb: Tensor) -> Tensor:
    """Root mean squares of bands of luma, float32 (N, bands), of RGB in [0, 1] of shape (N, 3, H, W).

    The bands are those of a Laplacian pyramid (Burt and Adelson 1983), from 2-4 to 32-64 pixels: `CONTRAST_BANDS` of
    them, or as many as a small picture has.
    """
    found: list[Tensor] = []
    y = _halved(_luma(rgb, BT709))
    while len(found) < CONTRAST_BANDS and min(y.shape[-2:]) >= 4:
        coarse = _halved(y)
        band = y - _doubled(coarse)[..., : y.shape[-2], : y.shape[-1]]
        found.append((band.square().mean((1, 2, 3)) + SMALLEST_RMS**2).sqrt())
        y = coarse
    return torch.stack(found, 1)


def _halved(y: Tensor) -> Tensor:
    """Every second pixel of (N, 1, H, W) after a binomial filter of five, each way."""
    y, taps = functional.pad(y, (2, 2, 2, 2), mode="reflect"), _binomial(y)
    return functional.conv2d(functional.conv2d(y, taps, stride=(1, 2)), taps.mT, stride=(2, 1))


def _doubled(y: Tensor) -> Tensor:
    """The pixels of (N, 1, H, W) with others between and below and right of them, by the same filter."""
    y, taps = functional.pad(y, (1, 0, 1, 0), mode="reflect"), 2 * _binomial(y)
    y = functional.pad(y, (0, 1, 0, 1), mode="replicate")  # what an even side, mirrored, would have been halved to
    y = functional.conv_transpose2d(functional.conv_transpose2d(y, taps, stride=(1, 2)), taps.mT, stride=(2, 1))
    return y[..., 4:-3, 4:-3]


def _binomial(like: Tensor) -> Tensor:
    return torch.tensor([[[[1.0, 4.0, 6.0, 4.0, 1.0]]]], device=like.device) / 16


def _contrast_error(found: Tensor, target: Tensor) -> Tensor:
    """Of the bands that both have, bounded as `_bounded_error` is, (N,)."""
    bands = min(found.shape[1], target.shape[1])
    found, target = found[:, :bands], target[:, :bands]
    return (2 * (found - target).square() / (found.square() + target.square())).mean(1)


def _style_error(found: Tensor, target: Tensor) -> Tensor:
    """That of covariances and of means, (N,)."""
    return (1 - MEAN_SHARE) * _bounded_error(found[:, :-1], target[:, :-1]) + MEAN_SHARE * _bounded_error(
        found[:, -1:], target[:, -1:]
    )


def _bounded_error(found: Tensor, target: Tensor) -> Tensor:
    """The squared error over the mean of both squared norms, (N,): near the target the relative error, never above 4.

    Over the target's norm alone, as content has it, an unpainted photo is 13 times as far from one painting as from
    another, and a layer that is far off drowns the others (Cheng et al. 2021 bound their style loss likewise).
    """
    norms = (found.square().mean((1, 2)) + target.square().mean((1, 2))) / 2
    return (found - target).square().mean((1, 2)) / norms.clamp_min(1e-12)


def _relative_error(found: Tensor, target: Tensor) -> Tensor:
    dims = tuple(range(1, target.dim()))
    norms = target.square().mean(dims).clamp_min(1e-12)
    return (found - target).square().mean(dims) / norms


@cache
def _vgg_tensors() -> dict[str, Tensor]:
    try:
        tensors = load_file(VGG_FILE)
    except (OSError, SafetensorError) as error:
        raise BadModel(f"cannot read {VGG_FILE.name} of the installed vidstyle: {error}; install it again") from error
    return {name: tensor.float() for name, tensor in tensors.items()}


@cache
def _torchvision_tensors() -> dict[str, Tensor]:
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except (ImportError, RuntimeError) as error:  # beside another torch its operators are missing: RuntimeError
        raise MissingDependency(
            f"torchvision has no loss network here: {error}; install the torchvision that belongs to your "
            "torch, or use the shipped one (--perceptual shipped)"
        ) from error
    try:
        state = vgg16(weights=VGG16_Weights.IMAGENET1K_FEATURES).features.state_dict()
    except (OSError, RuntimeError) as error:
        raise BadModel(f"torchvision cannot get its VGG-16 weights: {error}") from error
    return from_torchvision(state)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of torchvision's ``vgg16().features`` (by position) under the names used here."""
    names = [name for block in BLOCKS for name in block]
    positions = sorted({int(key.split(".")[0]) for key in state})  # those of the convolutions
    pairs = zip(names, positions, strict=False)  # it has three more, which nothing here uses
    return {f"{name}.{leaf}": state[f"{at}.{leaf}"].float() for name, at in pairs for leaf in ("weight", "bias")}


def disturb(rgb: Tensor, seed: tuple[int, ...], *, first: int = 0) -> tuple[Tensor, Shift]:
    """``rgb`` (N, 3, H, W) in [0, 1], shifted (mirrored at the border) and with noise; and the shift.

    The noise of a picture depends on ``seed`` and on its number in the whole batch, ``first`` being that of
    the first one here: a part of a batch is disturbed as it is in the whole.
    """
    random = np.random.default_rng(list(seed))
    down, right = (int(s) for s in random.integers(-REACH, REACH + 1, 2))
    height, width = rgb.shape[-2:]
    padded = functional.pad(rgb, (REACH,) * 4, mode="reflect")
    moved = padded[..., REACH - down : REACH - down + height, REACH - right : REACH - right + width]
    noise = np.stack(
        [
            np.random.default_rng([*seed, 1 + first + i]).standard_normal(tuple(rgb.shape[1:]), np.float32)
            for i in range(len(rgb))
        ]
    )
    return (moved + NOISE * torch.from_numpy(noise).to(rgb)).clamp(0, 1), (down, right)


def instability(painted: Tensor, disturbed: Tensor, shift: Shift) -> Tensor:
    """Mean squared difference of the two where both show the same, float (N,)."""
    height, width = painted.shape[-2:]
    rows, columns = (_overlap(moved, side) for moved, side in zip(shift, (height, width), strict=True))
    difference = painted[..., rows[0], columns[0]] - disturbed[..., rows[1], columns[1]]
    return difference.square().mean((1, 2, 3))


def _overlap(moved: int, side: int) -> tuple[slice, slice]:
    """Where what both show lies, before and after a shift by ``moved``."""
    return slice(max(0, -moved), side - max(0, moved)), slice(max(0, moved), side - max(0, -moved))


@dataclass(frozen=True)
class Batch:
    """Photos, each with the painting that it is to look like."""

    photo: Tensor
    """Float RGB in [0, 1] of shape (N, 3, H, W)."""
    content: Content
    style: list[Tensor]
    """`Perceptual.style_target` of the paintings, one for each photo or one for all."""
    seed: tuple[int, ...]
    first: int = 0
    """Number of the first photo here in the step's whole batch, of which other processes may have parts."""


@dataclass(frozen=True)
class Outcome:
    """What a batch came to."""

    total: Tensor
    """What is descended, float32 (N,)."""
    figures: dict[str, float]
    """The terms as numbers, means over the batch."""


class Objective:
    """The loss of a network's output under `LossWeights`, plus ``stable`` times its instability."""

    def __init__(
        self, model: TransformNet, perceptual: Perceptual, weights: LossWeights, compute: Compute, *, stable: float = 0
    ) -> None:
        self.model, self.perceptual, self.weights, self.compute = model, perceptual, weights, compute
        self.stable = stable

    def paint(self, photo: Tensor, vectors: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """``photo`` (N, 3, H, W) painted in ``vectors`` (N, P), with ``weights`` instead of the model's own.

        ``weights`` have the names of the module's parameters.
        """
        with self.compute.autocast():
            painted: Tensor = (
                self.model(photo, vectors)
                if weights is None
                else functional_call(self.model, dict(weights), (photo, vectors))
            )
        return painted

    def batch(self, photo: Tensor, style: list[Tensor], seed: tuple[int, ...], first: int = 0) -> Batch:
        """``photo`` and ``style`` on the device, with the photos' content."""
        photo = photo.to(self.compute.place)
        return Batch(photo, self.perceptual.content_target(photo), style, seed, first)

    def outcome(
        self, batch: Batch, vectors: Tensor, weights: Mapping[str, Tensor] | None = None, *, steady: bool = True
    ) -> Outcome:
        """What ``vectors`` (N, P) and ``weights`` make of a batch; ``steady`` False leaves out the instability."""
        painted = self.paint(batch.photo, vectors, weights)
        losses = self.perceptual.losses(painted, batch.content, batch.style)
        total, figures = losses.total(self.weights), losses.figures()
        if steady and self.stable:
            photo, shift = disturb(batch.photo, batch.seed, first=batch.first)
            wavering = instability(painted, self.paint(photo, vectors, weights), shift)
            total, figures = total + self.stable * wavering, {**figures, "instability": wavering.mean().item()}
        return Outcome(total, figures)
