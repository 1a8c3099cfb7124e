"""Planes of pixels to phases (see `vidstyle.graph.fold`) and back. No picture of full size is made."""

from __future__ import annotations

from vidstyle.frame import FrameForm
from vidstyle.graph.fold import mean_of_each_color, phase_counts, rgb_matrix, yuv_matrix
from vidstyle.graph.writer import GraphWriter

Size = tuple[int, int]


def phases_from_planes(w: GraphWriter, form: FrameForm, size: Size, cell: int) -> str:
    """Levels of 0-255 as exact floats (1, phases, H/cell, W/cell), ``size`` being the padded (H, W)."""
    if form.pixels == "rgb":
        frame = _pad_edge(w, w.pixel_input("frame", (1, *form.size, 3)), 1, form.size, size)
        return _phases_from_interleaved(w, frame, 3, cell, size)
    half = (size[0] // 2, size[1] // 2)
    y = _pad_edge(w, w.pixel_input("y", (1, 1, *form.size)), 2, form.size, size)
    parts = [w.node("SpaceToDepth", y, blocksize=cell)]
    if form.pixels == "nv12":
        uv = _pad_edge(w, w.pixel_input("uv", (1, *form.chroma_size, 2)), 1, form.chroma_size, half)
        parts.append(_phases_from_interleaved(w, uv, 2, cell // 2, half))
    else:
        for name in ("u", "v"):
            plane = _pad_edge(w, w.pixel_input(name, (1, 1, *form.chroma_size)), 2, form.chroma_size, half)
            parts.append(w.node("SpaceToDepth", plane, blocksize=cell // 2) if cell > 2 else plane)
    return w.node("Concat", *parts, axis=1)


def centered(w: GraphWriter, phases: str, form: FrameForm, cell: int) -> str:
    """The phases less the mean of their color, rounded: whole numbers of -255 to 255.

    Every 16-bit float format holds them exactly, and those of a flat frame are 0.
    """
    mean = w.node("ReduceMean", phases, w.integers(2, 3), keepdims=1)
    mean = w.node("Conv", mean, w.floats(mean_of_each_color(form, cell)[:, :, None, None], exact=True))
    return w.rounded(w.node("Sub", phases, w.node("Round", mean)))


def identity(w: GraphWriter, phases: str, form: FrameForm, cell: int) -> str:
    """RGB phases in [0, 1] of the picture itself."""
    matrix, offset = rgb_matrix(form, cell)
    return w.convolution(w.rounded(phases), matrix[:, :, None, None], offset)


def planes_from_rgb(w: GraphWriter, rgb: str, form: FrameForm, size: Size, cell: int) -> None:
    """Declare the output planes, made from RGB phases in [0, 1] of a picture of the padded ``size``."""
    if form.pixels == "rgb":
        levels = _levels(w, w.node("Mul", rgb, w.number(255.0)))
        _interleaved_from_phases(w, levels, "frame_out", 3, cell, size, form.size)
        return
    matrix, offset = yuv_matrix(form, cell)
    levels = _levels(w, w.convolution(rgb, matrix[:, :, None, None], offset))
    luma, chroma, _ = phase_counts(form, cell)
    if form.pixels == "nv12":
        y, uv = w.split(levels, luma, 2 * chroma)
        _plane_from_phases(w, y, "y_out", cell, form.size)
        half = (size[0] // 2, size[1] // 2)
        _interleaved_from_phases(w, uv, "uv_out", 2, cell // 2, half, form.chroma_size)
        return
    y, u, v = w.split(levels, luma, chroma, chroma)
    _plane_from_phases(w, y, "y_out", cell, form.size)
    _plane_from_phases(w, u, "u_out", cell // 2, form.chroma_size)
    _plane_from_phases(w, v, "v_out", cell // 2, form.chroma_size)


def _pad_edge(w: GraphWriter, x: str, axis: int, size: Size, padded: Size) -> str:
    """Repeat the last row (``axis``) and the last column (the next axis) of a tensor of four axes."""
    if size == padded:
        return x
    after = [0, 0, 0, 0]
    after[axis], after[axis + 1] = padded[0] - size[0], padded[1] - size[1]
    return w.node("Pad", x, w.integers(0, 0, 0, 0, *after), mode="edge")


def _phases_from_interleaved(w: GraphWriter, x: str, colors: int, cell: int, size: Size) -> str:
    rows, columns = size[0] // cell, size[1] // cell
    x = w.node("Reshape", x, w.integers(1, rows, cell, columns, cell, colors))
    x = w.node("Transpose", x, perm=[0, 5, 2, 4, 1, 3])
    return w.node("Reshape", x, w.integers(1, colors * cell * cell, rows, columns))


def _levels(w: GraphWriter, x: str) -> str:
    return w.node("Clip", w.node("Round", x), w.number(0.0), w.number(255.0))


def _plane_from_phases(w: GraphWriter, x: str, name: str, cell: int, size: Size) -> None:
    if cell > 1:
        x = w.node("DepthToSpace", x, blocksize=cell, mode="CRD")
    x = w.node("Slice", x, w.integers(0, 0), w.integers(*size), w.integers(2, 3))
    w.pixel_output(x, name, (1, 1, *size))


def _interleaved_from_phases(
    w: GraphWriter, x: str, name: str, colors: int, cell: int, padded: Size, size: Size
) -> None:
    x = w.node("Reshape", x, w.integers(1, colors, cell, cell, padded[0] // cell, padded[1] // cell))
    x = w.node("Transpose", x, perm=[0, 4, 2, 5, 3, 1])
    x = w.node("Reshape", x, w.integers(1, *padded, colors))
    x = w.node("Slice", x, w.integers(0, 0), w.integers(*size), w.integers(1, 2))
    w.pixel_output(x, name, (1, *size, colors))
