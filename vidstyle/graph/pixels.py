"""Planes of pixels to phases (see `vidstyle.graph.fold`) and back. No picture of full size is made."""

from __future__ import annotations

from vidstyle.frame import FrameFormat
from vidstyle.graph.fold import mean_of_each_color, phase_counts, rgb_matrix, yuv_matrix
from vidstyle.graph.writer import GraphWriter

Size = tuple[int, int]
Sides = tuple[int, int] | tuple[str, str]

SIDES = ("height", "width")
"""Names of the sides of a frame whose size is known when the graph runs."""
CHROMA_SIDES = ("chroma_height", "chroma_width")
"""Those of its chroma planes."""


def phases_from_planes(w: GraphWriter, form: FrameFormat, size: Size | None, cell: int) -> str:
    """Levels of 0-255 as exact floats (1, phases, H/cell, W/cell).

    ``size`` is the padded (H, W); None where the size is known when the graph runs, and needs no padding.
    """
    full, chroma = _sides(form, size)
    if form.pixels == "rgb":
        frame = _pad_edge(w, w.pixel_input("frame", (1, *full, 3)), 1, form.size, size)
        return _phases_from_interleaved(w, frame, 3, cell, size)
    half = _half(size)
    y = _pad_edge(w, w.pixel_input("y", (1, 1, *full)), 2, form.size, size)
    parts = [w.node("SpaceToDepth", y, blocksize=cell)]
    if form.pixels == "nv12":
        uv = _pad_edge(w, w.pixel_input("uv", (1, *chroma, 2)), 1, form.chroma_size, half)
        parts.append(_phases_from_interleaved(w, uv, 2, cell // 2, half))
    else:
        for name in ("u", "v"):
            plane = _pad_edge(w, w.pixel_input(name, (1, 1, *chroma)), 2, form.chroma_size, half)
            parts.append(w.node("SpaceToDepth", plane, blocksize=cell // 2) if cell > 2 else plane)
    return w.node("Concat", *parts, axis=1)


def centered(w: GraphWriter, phases: str, form: FrameFormat, cell: int) -> str:
    """The phases less the mean of their color, rounded: whole numbers of -255 to 255.

    Every 16-bit float format holds them exactly, and those of a flat frame are 0.
    """
    mean = w.node("ReduceMean", phases, w.integers(2, 3), keepdims=1)
    mean = w.node("Conv", mean, w.floats(mean_of_each_color(form, cell)[:, :, None, None], exact=True))
    return w.rounded(w.node("Sub", phases, w.node("Round", mean)))


def identity(w: GraphWriter, phases: str, form: FrameFormat, cell: int) -> str:
    """RGB phases in [0, 1] of the picture itself."""
    matrix, offset = rgb_matrix(form, cell)
    return w.convolution(w.rounded(phases), w.floats(matrix[:, :, None, None]), w.floats(offset))


def planes_from_rgb(w: GraphWriter, rgb: str, form: FrameFormat, size: Size | None, cell: int) -> None:
    """Declare the output planes, made from RGB phases in [0, 1] of a picture of the padded ``size``."""
    full, chroma = _sides(form, size)
    if form.pixels == "rgb":
        levels = _levels(w, w.node("Mul", rgb, w.number(255.0)))
        _interleaved_from_phases(w, levels, "frame_out", 3, cell, size, full)
        return
    matrix, offset = yuv_matrix(form, cell)
    levels = _levels(w, w.convolution(rgb, w.floats(matrix[:, :, None, None]), w.floats(offset)))
    luma_count, chroma_count, _ = phase_counts(form, cell)
    if form.pixels == "nv12":
        y, uv = w.split(levels, luma_count, 2 * chroma_count)
        _plane_from_phases(w, y, "y_out", cell, full)
        _interleaved_from_phases(w, uv, "uv_out", 2, cell // 2, _half(size), chroma)
        return
    y, u, v = w.split(levels, luma_count, chroma_count, chroma_count)
    _plane_from_phases(w, y, "y_out", cell, full)
    _plane_from_phases(w, u, "u_out", cell // 2, chroma)
    _plane_from_phases(w, v, "v_out", cell // 2, chroma)


def _sides(form: FrameFormat, size: Size | None) -> tuple[Sides, Sides]:
    """Sides of the frame and of its chroma planes, as the graph declares them."""
    return (SIDES, CHROMA_SIDES) if size is None else (form.size, form.chroma_size)


def _half(size: Size | None) -> Size | None:
    return None if size is None else (size[0] // 2, size[1] // 2)


def _pad_edge(w: GraphWriter, x: str, axis: int, size: Size, padded: Size | None) -> str:
    """Repeat the last row (``axis``) and the last column (the next axis) of a tensor of four axes."""
    if padded is None or size == padded:
        return x
    after = [0, 0, 0, 0]
    after[axis], after[axis + 1] = padded[0] - size[0], padded[1] - size[1]
    return w.node("Pad", x, w.integers(0, 0, 0, 0, *after), mode="edge")


def _phases_from_interleaved(w: GraphWriter, x: str, colors: int, cell: int, size: Size | None) -> str:
    if size is None:  # a 0 keeps a side as it is, so each color becomes a picture of its own
        x = w.node("Transpose", x, perm=[3, 0, 1, 2])
        if cell > 1:
            x = w.node("SpaceToDepth", x, blocksize=cell)
        return w.node("Reshape", x, w.integers(1, colors * cell * cell, 0, 0))
    rows, columns = size[0] // cell, size[1] // cell
    x = w.node("Reshape", x, w.integers(1, rows, cell, columns, cell, colors))
    x = w.node("Transpose", x, perm=[0, 5, 2, 4, 1, 3])
    return w.node("Reshape", x, w.integers(1, colors * cell * cell, rows, columns))


def _levels(w: GraphWriter, x: str) -> str:
    return w.node("Clip", w.node("Round", x), w.number(0.0), w.number(255.0))


def _plane_from_phases(w: GraphWriter, x: str, name: str, cell: int, sides: Sides) -> None:
    if cell > 1:
        x = w.node("DepthToSpace", x, blocksize=cell, mode="CRD")
    w.pixel_output(_cropped(w, x, 2, sides), name, (1, 1, *sides))


def _interleaved_from_phases(
    w: GraphWriter, x: str, name: str, colors: int, cell: int, padded: Size | None, sides: Sides
) -> None:
    if padded is None:
        x = w.node("Reshape", x, w.integers(colors, cell * cell, 0, 0))
        if cell > 1:
            x = w.node("DepthToSpace", x, blocksize=cell, mode="CRD")
        x = w.node("Transpose", x, perm=[1, 2, 3, 0])
    else:
        x = w.node("Reshape", x, w.integers(1, colors, cell, cell, padded[0] // cell, padded[1] // cell))
        x = w.node("Transpose", x, perm=[0, 4, 2, 5, 3, 1])
        x = w.node("Reshape", x, w.integers(1, *padded, colors))
    w.pixel_output(_cropped(w, x, 1, sides), name, (1, *sides, colors))


def _cropped(w: GraphWriter, x: str, axis: int, sides: Sides) -> str:
    """The first rows (``axis``) and columns (the next axis), as many as ``sides`` says; all, if it has but names."""
    numbers = [side for side in sides if isinstance(side, int)]
    if not numbers:
        return x
    return w.node("Slice", x, w.integers(0, 0), w.integers(*numbers), w.integers(axis, axis + 1))
