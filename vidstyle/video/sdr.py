"""HDR and BT.2020 frames in, BT.709 frames out."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidstyle.errors import VideoError, reason
from vidstyle.files import write_failure
from vidstyle.video.info import (
    MATRIX_BT470BG,
    MATRIX_BT709,
    MATRIX_SMPTE170M,
    PRIMARIES_BT709,
    RANGE_FULL,
    RANGE_LIMITED,
    TRANSFER_BT709,
    ColorTags,
)
from vidstyle.video.sidedata import SideDataReader
from vidstyle.video.tonemap import DEFAULT_PEAK, lookup_table

_SCALE_FLAGS = "bilinear+accurate_rnd+full_chroma_inp"

_MATRICES = {MATRIX_BT709: "bt709", MATRIX_BT470BG: "bt470bg", MATRIX_SMPTE170M: "smpte170m"}


def peak_luminance(frame: VideoFrame) -> float:
    """cd/m2 of the brightest highlights, as the file says (MaxCLL, else the mastering display)."""
    side_data = SideDataReader(frame)
    light = side_data.get("CONTENT_LIGHT_LEVEL")
    if light is not None and (brightest := int(np.frombuffer(memoryview(light), np.uint32)[0])):
        return float(np.clip(brightest, 100, 10000))
    display = side_data.get("MASTERING_DISPLAY_METADATA")
    if display is not None:
        # Ten fractions: three primaries and the white point (x, y), least and greatest luminance; two flags.
        numbers = np.frombuffer(memoryview(display), np.int32)
        if numbers[21] and numbers[19]:
            return float(np.clip(numbers[18] / numbers[19], 100, 10000))
    return DEFAULT_PEAK


class SdrConverter:
    """Turns HDR and BT.2020 frames into 8-bit 4:2:0 BT.709, limited range."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def convert(self, frame: VideoFrame, tags: ColorTags) -> VideoFrame:
        """``frame``, whose colors are ``tags``, as a standard display should show it; its time stays.

        Raises `VideoError`.
        """
        kind = (frame.time_base, frame.width, frame.height, frame.format.name, tags)
        try:
            if self._graph is None or kind != self._made_for:
                self._graph, self._made_for = _graph(frame, tags), kind
            self._graph.vpush(frame)
            made = self._graph.vpull()
        except av.error.FFmpegError as error:
            raise VideoError(f"the colors of a frame cannot be converted to standard range: {reason(error)}") from error
        except OSError as error:
            raise VideoError(write_failure(f"a temporary file in {tempfile.gettempdir()}", error)) from error
        made.colorspace, made.color_range = MATRIX_BT709, RANGE_LIMITED
        made.color_primaries, made.color_trc = PRIMARIES_BT709, TRANSFER_BT709
        return made


def _graph(frame: VideoFrame, tags: ColorTags) -> Graph:
    is_full = tags.range == RANGE_FULL
    is_rgb = frame.format.is_rgb
    matrix = _MATRICES.get(tags.matrix, "bt2020nc")
    base = frame.time_base or Fraction(1, 90000)
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={base}"
        f":colorspace={'gbr' if is_rgb else matrix}:range={'pc' if is_full or is_rgb else 'tv'}"
    )
    table = lookup_table(tags.hdr, peak_luminance(frame))
    graph = Graph()
    graph.threads = 1
    with tempfile.TemporaryDirectory() as folder:
        cube = Path(folder) / "bt709.cube"  # FFmpeg takes the table as a file, and reads it at once
        cube.write_text(_cube_text(table))
        nodes = [
            graph.add("buffer", source),
            graph.add("scale", f"flags={_SCALE_FLAGS}:out_range=pc"),
            graph.add("format", "gbrp10le"),
            graph.add("lut3d", file=str(cube), interp="tetrahedral"),
            graph.add("scale", f"flags={_SCALE_FLAGS}:out_color_matrix=bt709:out_range=tv"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
    return graph


def _cube_text(table: NDArray[np.float64]) -> str:
    rows = table.transpose(2, 1, 0, 3).reshape(-1, 3)  # red runs fastest in the file
    lines = (f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows)
    return f"LUT_3D_SIZE {table.shape[0]}\n" + "\n".join(lines) + "\n"
