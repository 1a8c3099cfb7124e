"""The networks of `vidstyle.models.architecture` in torch: for training, and the reference of every backend."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vidstyle.models.architecture import NORM_EPSILON, Architecture, Conv, Network
from vidstyle.models.winograd import conv2d

_PROCESS = os.getpid()
if hasattr(os, "register_at_fork"):
    # OpenMP's threads are not forked: the next loop that is shared among them would never end.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def threads_for(wanted: int | None) -> int:
    """How many threads torch may compute with where ``wanted`` were asked for: one in a forked process."""
    return (wanted or torch.get_num_threads()) if os.getpid() == _PROCESS else 1


class TransformNet(nn.Module):
    """Paints like the painting that its style vector stands for.

    ``forward`` takes float RGB in [0, 1] of shape (N, 3, H, W), H and W multiples of 4 and at least
    8, and style vectors of shape (P,) or (N, P); it returns RGB in (0, 1) of the same shape. The
    style vector is an argument, not a parameter: one module serves every style of a batch.
    """

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.convs = nn.ModuleDict(
            {
                conv.name.replace(".", "_"): nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, conv.stride)
                for conv in shape.convs
            }
        )

    def forward(self, rgb: Tensor, style: Tensor) -> Tensor:
        shape = self.shape
        vectors = style.expand(rgb.shape[0], -1) if style.dim() == 1 else style
        affine = dict(zip(shape.normalised, self._affine(vectors), strict=True))
        # What goes into a normalised convolution may be off by a constant per channel: reflection padding
        # keeps it a constant, and the norm removes it. It is made to be zero where the frame is flat;
        # otherwise the norm multiplies the rounding errors of a flat frame by 316, layer after layer.
        x = rgb - rgb.mean((2, 3), keepdim=True)
        x = functional.pixel_unshuffle(x, shape.unshuffle) if shape.unshuffle > 1 else x
        for conv in shape.down:
            x = _centered_relu(self._conv(conv, x), affine[conv])
        for first, second in shape.residual:  # (N, channels, H/4, W/4)
            y = _centered_relu(self._conv(first, x), affine[first])
            x = x + _norm(self._conv(second, y)) * affine[second][0]
        for conv in shape.up[:-1]:
            x = _centered_relu(self._conv(conv, x), affine[conv])
        scale, shift = affine[shape.up[-1]]
        x = functional.relu(_norm(self._conv(shape.up[-1], x)) * scale + shift)
        return torch.sigmoid(_wide(self._conv(shape.out, x)))

    def _conv(self, conv: Conv, x: Tensor) -> Tensor:
        module = self.convs[conv.name.replace(".", "_")]
        radius = conv.kernel // 2 if conv.upsample == 1 else 1
        padded = functional.pad(x, (radius,) * 4, mode="reflect")
        assert isinstance(module, nn.Conv2d) and module.bias is not None
        if conv.upsample == 1:
            result: Tensor = conv2d(padded, module.weight, module.bias) if conv.stride == 1 else module(padded)
            return result
        # Nearest upsampling and a convolution are a smaller convolution at the low size that makes the pixels of
        # each 2x2 square as channels of their own (see `vidstyle.graph.fold`): the same numbers, less work.
        weight, bias = _subpixels(module.weight), module.bias.repeat_interleave(conv.upsample**2)
        return functional.pixel_shuffle(conv2d(padded, weight, bias), conv.upsample)

    def _affine(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        sizes = [conv.outputs for conv in self.shape.normalised for _ in range(2)]
        parts = [part[..., None, None] for part in torch.split(vectors, sizes, dim=1)]
        return list(zip(parts[0::2], parts[1::2], strict=True))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the weights, as `vidstyle.models.architecture.Network` wants them."""
        return {name: p.detach().cpu().float().numpy().copy() for name, p in self.named_weights()}

    def named_weights(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters under the names of ``shape.weight_shapes``."""
        pairs = []
        for conv in self.shape.convs:
            module = self.convs[conv.name.replace(".", "_")]
            pairs += [(f"{conv.name}.{leaf}", getattr(module, leaf)) for leaf in ("weight", "bias")]
        return pairs

    @classmethod
    def from_network(cls, network: Network) -> TransformNet:
        with torch.device("meta"):  # no random weights, and none of the process's random numbers used up
            model = cls(network.architecture)
        model.to_empty(device="cpu")
        model.load(network)
        return model

    @torch.no_grad()
    def load(self, network: Network) -> None:
        for name, parameter in self.named_weights():
            parameter.copy_(torch.from_numpy(network.weights[name]))


def _subpixels(weight: Tensor) -> Tensor:
    """Kernels (4 * O, I, 3, 3) that make the same 2x2 pixels as nearest upsampling by 2 and ``weight`` (O, I, K, K).

    Tap u of row or column a reads the low-size neighbor floor((a + u - K // 2) / 2) + 1 of three.
    """
    outputs, inputs, kernel, _ = weight.shape
    taps = weight.new_zeros(2, 3, kernel)
    for a in range(2):
        for u in range(kernel):
            taps[a, (a + u - kernel // 2) // 2 + 1, u] = 1
    folded = torch.einsum("aru,bsv,oiuv->oabirs", taps, taps, weight)
    return folded.reshape(4 * outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last)


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 as it was."""
    return x if x.dtype == torch.float64 else x.float()


def _norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance per picture and channel (Ulyanov et al. 2016), in float32 or wider."""
    normalised: Tensor = _InstanceNorm.apply(_wide(x))  # type: ignore[no-untyped-call]
    return normalised


class _InstanceNorm(torch.autograd.Function):
    """torch's norm with a gradient that does not mind channels-last memory, where torch's is four times as slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # One group a channel is an instance norm.
        y, mean, deviation = torch.native_group_norm(
            x, None, None, batch, channels, height * width, channels, NORM_EPSILON
        )
        ctx.save_for_backward(x, mean, deviation)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean, inverse = ctx.saved_tensors
        gradient = gradients[0]
        if torch.is_grad_enabled():  # it will be differentiated itself: then the statistics are functions of x
            mean = x.mean((2, 3))
            inverse = (x.var((2, 3), correction=0) + NORM_EPSILON).rsqrt()
        mean, inverse = mean.reshape(x.shape[:2])[..., None, None], inverse.reshape(x.shape[:2])[..., None, None]
        y = (x - mean) * inverse
        along = (gradient * y).mean((2, 3), keepdim=True)
        found: Tensor = torch.addcmul(gradient - gradient.mean((2, 3), keepdim=True), y, along, value=-1) * inverse
        return found


def _centered_relu(x: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
    """``relu(norm(x) * scale + shift)``, less ``relu(shift)``, the value where x is flat."""
    scale, shift = affine
    return functional.relu(_norm(x) * scale + shift) - functional.relu(shift)
