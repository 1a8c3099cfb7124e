"""Weights as their difference from the shared network, in whole steps and deflated: a sixth to a tenth of FP16.

A style lies near the network that it was adapted from, so the difference needs few bits. Each output channel of a
convolution has a step, a share of the root mean square of its difference; the difference is rounded to whole steps,
and the small integers that this leaves go through deflate. Residual blocks, which hold most of the weights, only add to
what passes them by, so a coarser step there shows less than a finer one does in the convolutions before and after them.
What that does to pictures: ``benchmarks/compact.py``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidstyle.errors import BadModel, BadOption
from vidstyle.models.architecture import Network

Packed = dict[str, NDArray[np.float16] | NDArray[np.uint8]]
"""Tensors of a file: of a convolution's weight ``NAME``, zlib data of int8 codes in OIHW order, and ``NAME.step``, FP16
of shape (O,); of a bias its FP16 values."""

_MAX_CODE = 127
_RESIDUAL_STEPS = 4
"""How many times as coarse the step is in residual blocks."""


def packed(network: Network, start: Network, step: float) -> Packed:
    """What a file needs of ``network``, whose start was ``start``, to hold all but its style vector.

    ``step`` is a share of the root mean square of a channel's difference, above 0 and at most 10; four times that in
    residual blocks. 0.2 is 2.7 bits a weight on `fast`, 0.45 is 1.7 on `paper`.
    """
    if not 0 < step <= 10:
        raise BadOption(f"step is {step}; it must be above 0 and at most 10")
    tensors: Packed = {}
    residual = {conv.name for pair in network.architecture.residual for conv in pair}
    for name, weight in network.weights.items():
        if weight.ndim < 2:
            tensors[name] = weight.astype(np.float16)
            continue
        difference = (weight - start.weights[name]).reshape(len(weight), -1)
        share = step * (_RESIDUAL_STEPS if name.removesuffix(".weight") in residual else 1)
        wanted = share * np.sqrt(np.mean(difference**2, axis=1))
        finest = np.abs(difference).max(axis=1) * (1.001 / _MAX_CODE)  # so that FP16's rounding stays within the codes
        steps = np.maximum(np.maximum(wanted, finest), 2.0**-14).astype(np.float16)
        codes = np.rint(difference / steps.astype(np.float32)[:, None]).astype(np.int8)
        tensors[name] = np.frombuffer(_deflated(codes.tobytes()), np.uint8)
        tensors[f"{name}.step"] = steps
    return tensors


def unpacked(
    path: Path, tensors: Mapping[str, NDArray[np.generic]], start: Network, vector: NDArray[np.float32]
) -> Network:
    """The network of what `packed` made, its weights rounded to FP16. `BadModel` names ``path`` and the tensor."""
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in start.architecture.weight_shapes.items():
        stored, steps = tensors.get(name), tensors.get(f"{name}.step")
        if stored is None:
            continue  # `Network` says what is missing
        if len(shape) < 2:
            weights[name] = stored.astype(np.float32)
            continue
        if steps is None or steps.shape != shape[:1] or stored.dtype != np.uint8:
            raise BadModel(f"{path} is damaged: tensor {name!r} is no difference from the shared network")
        codes = _inflated(path, name, stored.tobytes(), math.prod(shape)).reshape(shape)
        values = start.weights[name] + steps.astype(np.float32).reshape(-1, 1, 1, 1) * codes
        with np.errstate(over="ignore"):  # what another than `packed` wrote; the digest tells
            weights[name] = values.astype(np.float16).astype(np.float32)
    return Network(start.architecture, weights, vector)


def _deflated(data: bytes) -> bytes:
    """The shorter of two streams: noise repeats nothing and wants Huffman codes alone, runs of zeros want matches."""
    streams = [zlib.compressobj(9, strategy=way) for way in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)]
    return min((stream.compress(data) + stream.flush() for stream in streams), key=len)


def _inflated(path: Path, name: str, data: bytes, count: int) -> NDArray[np.int8]:
    """``count`` codes; more are never unpacked, whatever the data says."""
    stream = zlib.decompressobj()
    try:
        codes = stream.decompress(data, count)
        whole = len(codes) == count and not stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise BadModel(f"{path} is damaged: tensor {name!r} cannot be inflated: {error}") from error
    if not whole:
        raise BadModel(f"{path} is damaged: tensor {name!r} does not hold {count} codes")
    return np.frombuffer(codes, np.int8)
