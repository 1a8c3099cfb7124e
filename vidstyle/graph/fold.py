"""Weights of the convolutions of the graph, which do two things at once.

A *phase* is one pixel of a cell of ``cell`` x ``cell`` pixels, kept as a channel of a picture that is
``cell`` times smaller. Phases are ordered (color, row, column).

Everything here is linear in the weights: those of a blend of networks are the blend of theirs.
"""

from __future__ import annotations

import numpy as np

from vidstyle.frame import FrameFormat, rgb_from_yuv, yuv_from_rgb
from vidstyle.graph.winograd import factors
from vidstyle.graph.writer import Floats
from vidstyle.models.architecture import Architecture, Network


def cell_of(shape: Architecture) -> int:
    """Side of the cells by which the graph of a network takes its pixels."""
    return 4 if shape.unshuffle == 4 else 2


def folded_weights(network: Network, form: FrameFormat, lane_axis: int | None = None) -> dict[str, Floats]:
    """What the convolutions of the graph for ``form`` take, in the order in which they run.

    Under the network's own names: ``NAME.weight`` of each, and the bias of the last one; the others' biases the
    norms would remove. With a ``lane_axis`` the residual convolutions' are ``NAME.weight.0`` ...: their factors.
    """
    shape = network.architecture
    cell, stem, out = cell_of(shape), shape.down[0], shape.out
    folded: dict[str, Floats] = {}
    in_lanes = () if lane_axis is None else [conv for block in shape.residual for conv in block]
    for conv in shape.convs:
        weight = network.weights[f"{conv.name}.weight"].astype(np.float64)
        if lane_axis is not None and conv in in_lanes:
            kernels = enumerate(factors(weight, lane_axis))
            folded |= {f"{conv.name}.weight.{index}": kernel for index, kernel in kernels}
            continue
        if conv is out:
            weight = into_phases(weight, conv.upsample, cell)
        elif conv.upsample > 1:
            weight = upsampled_transposed(weight)
        elif conv is stem and shape.unshuffle == cell:
            weight = after_linear(weight, rgb_matrix(form, cell)[0])
        folded[f"{conv.name}.weight"] = weight
    folded[f"{out.name}.bias"] = np.repeat(network.weights[f"{out.name}.bias"].astype(np.float64), cell**2)
    return folded


def phase_counts(form: FrameFormat, cell: int) -> tuple[int, ...]:
    """How many phases each color of ``form`` has."""
    luma, chroma = cell**2, (cell // 2) ** 2
    return (luma, luma, luma) if form.pixels == "rgb" else (luma, chroma, chroma)


def mean_of_each_color(form: FrameFormat, cell: int) -> Floats:
    """Matrix from phases to phases that puts the mean of its color in place of each."""
    counts = phase_counts(form, cell)
    matrix = np.zeros((sum(counts),) * 2)
    for start, count in zip(np.cumsum((0, *counts)), counts, strict=False):
        matrix[start : start + count, start : start + count] = 1.0 / count
    return matrix


def rgb_matrix(form: FrameFormat, cell: int) -> tuple[Floats, Floats]:
    """``(m, offset)`` from the phases of ``form``, 0-255, to RGB phases in [0, 1]."""
    count = cell**2
    if form.pixels == "rgb":
        return np.eye(3 * count) / 255.0, np.zeros(3 * count)
    m, offset = rgb_from_yuv(form.matrix, form.full_range)
    over = _chroma_over_luma(cell)
    matrix = np.hstack([np.kron(m[:, :1], np.eye(count)), np.kron(m[:, 1:2], over), np.kron(m[:, 2:], over)])
    return matrix / 255.0, np.repeat(offset, count) / 255.0


def yuv_matrix(form: FrameFormat, cell: int) -> tuple[Floats, Floats]:
    """``(m, offset)`` from RGB phases in [0, 1] to the phases of a 4:2:0 ``form``, 0-255."""
    m, offset = yuv_from_rgb(form.matrix, form.full_range)
    mean = _chroma_over_luma(cell).T / 4.0
    matrix = np.vstack([np.kron(m[:1], np.eye(cell**2)), np.kron(m[1:2], mean), np.kron(m[2:], mean)])
    return matrix * 255.0, np.repeat(offset, phase_counts(form, cell))


def _chroma_over_luma(cell: int) -> Floats:
    """Matrix that repeats each chroma phase over its 2x2 luma phases."""
    once = np.kron(np.eye(cell // 2), np.ones((2, 1)))
    return np.kron(once, once)


def after_linear(weight: Floats, matrix: Floats) -> Floats:
    """The convolution (OIHW) whose input is first multiplied by ``matrix``, as one."""
    return np.asarray(np.einsum("ocuv,cp->opuv", weight, matrix))


def upsampled_transposed(weight: Floats) -> Floats:
    """A 3x3 convolution of a picture upsampled by two (nearest), as a 4x4 transposed one of step two.

    Row 2m of the result sees the rows m-1 (tap 0) and m (taps 1, 2), row 2m+1 sees m (taps 0, 1) and
    m+1 (tap 2). Where the picture was padded by one pixel, the result has three rows and columns too
    many on each side. Less than half the multiplications of the 3x3 convolution. ``weight`` is OIHW,
    the result IOHW.
    """
    place = np.zeros((4, 3))
    for phase in range(2):
        for tap in range(3):
            place[phase + 1 - 2 * ((phase + tap - 1) // 2), tap] = 1
    return np.asarray(np.einsum("ut,vs,oits->iouv", place, place, weight))


def into_phases(weight: Floats, upsample: int, cell: int) -> Floats:
    """A convolution of a picture upsampled by ``upsample`` (nearest) that makes phases; its step is cell/upsample.

    Tap t of phase row a falls on row (a + t - radius) / upsample, rounded down, of the picture before
    the upsampling, which is padded as `vidstyle.models.architecture.Conv` says.
    """
    outputs, inputs, kernel, _ = weight.shape
    radius = kernel // 2
    padding = radius if upsample == 1 else 1
    place = np.zeros((cell, (cell - 1 + radius) // upsample + padding + 1, kernel))
    for phase in range(cell):
        for tap in range(kernel):
            place[phase, (phase + tap - radius) // upsample + padding, tap] = 1
    folded = np.einsum("aut,bvs,oits->oabiuv", place, place, weight, optimize=True)
    return np.asarray(folded).reshape(outputs * cell**2, inputs, *place.shape[1:2] * 2)
