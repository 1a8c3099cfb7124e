"""FFmpeg's filters over decoded frames: side data, cropping, deinterlacing, and HDR to standard range."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av.error
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidstyle.errors import VideoError, reason
from vidstyle.files import write_failure
from vidstyle.video.demux import is_on_gpu, on_host
from vidstyle.video.formats import BT709_TAGS, ColorTags, Hdr, MatrixCode, Range

if TYPE_CHECKING:
    from vidstyle.video.info import VideoInfo


class FrameFilter:
    """A chain of FFmpeg's filters, each a name and its arguments. It begins anew where frames of another kind come."""

    def __init__(self, *filters: tuple[str, str]) -> None:
        self._filters = filters
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()

    def begins(self, frame: VideoFrame) -> bool:
        """Whether ``frame`` is of another kind than what was pushed last."""
        return self._graph is None or self._kind != _kind(frame)

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """What is ready after ``frame``; None is the end of the frames of its kind."""
        self._push(frame)
        while (made := self._pull()) is not None:
            yield made
        if frame is None:
            self._graph = None

    def one(self, frame: VideoFrame) -> VideoFrame | None:
        """What becomes of ``frame`` in filters that hold none back; None where they leave it out."""
        self._push(frame)
        return self._pull()

    def _push(self, frame: VideoFrame | None) -> None:
        if frame is not None and self.begins(frame):
            self._kind, self._graph = _kind(frame), Graph()
            self._graph.threads = 1
            base = frame.time_base or Fraction(1, 90000)
            nodes = [
                self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base),
                *(self._graph.add(name, arguments) for name, arguments in self._filters),
                self._graph.add("buffersink"),
            ]
            self._graph.link_nodes(*nodes).configure()
        if self._graph is not None:
            self._graph.vpush(frame)

    def _pull(self) -> VideoFrame | None:
        try:
            return None if self._graph is None else self._graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return None


def _kind(frame: VideoFrame) -> tuple[object, ...]:
    return (
        *(frame.time_base, frame.width, frame.height, frame.format.name),
        *(int(frame.colorspace), int(frame.color_range)),
    )


class SideDataReader:
    """Reads the side data of one frame.

    PyAV frees the name of a color profile that it has shown once more than FFmpeg does, and Python crashes at some time
    after that. So PyAV never gets to see one.
    """

    def __init__(self, frame: VideoFrame) -> None:
        self.has_profile = FrameFilter(("sidedata", "mode=select:type=ICC_PROFILE")).one(frame) is not None
        self._rest = FrameFilter(("sidedata", "mode=delete:type=ICC_PROFILE")).one(frame)

    def numbers(self, kind: str) -> NDArray[np.int32] | None:
        """The data of ``kind``, by FFmpeg's name, as numbers of 32 bits; None where there is none."""
        found = None if self._rest is None else self._rest.side_data.get(kind)
        return np.frombuffer(memoryview(found).tobytes(), np.int32) if isinstance(found, SideData) else None

    def __contains__(self, kind: str) -> bool:
        return self._rest is not None and self._rest.side_data.get(kind) is not None


# What encoders would write, too, though it is true of the decoder's pixels only.
_OF_THE_PIXELS = (
    *("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "AMBIENT_VIEWING_ENVIRONMENT", "DYNAMIC_HDR_PLUS"),
    *("DOVI_RPU_BUFFER", "DOVI_METADATA", "DISPLAYMATRIX", "SEI_UNREGISTERED", "ICC_PROFILE"),
)


class SideDataExtractor:
    """Takes from the decoder's frames what has to reach the encoder's beside their pixels: captions, the stereo mark.

    PyAV can only pass such data on from frame to frame. It travels on a picture of 2x2 pixels; asking the decoder's own
    frames for it would keep them in memory until Python looks for cycles.
    """

    def __init__(self, info: VideoInfo) -> None:
        # Without a mark on every frame those are passed on that have captions.
        self._filter = FrameFilter(
            *(() if info.stereo else (("sidedata", "mode=select:type=A53_CC"),)),
            *(("sidedata", f"mode=delete:type={kind}") for kind in _OF_THE_PIXELS),
            ("crop", "2:2:0:0:exact=1"),
            ("format", "gray"),
        )

    def read(self, frame: VideoFrame) -> VideoFrame | None:
        """The side data of ``frame``, for `Frame.beside`; None where there is none."""
        return None if is_on_gpu(frame) or min(frame.width, frame.height) < 2 else self._filter.one(frame)


class Cropper:
    """Leaves out what `VideoInfo.crop` names, without a copy where chroma samples allow it."""

    def __init__(self, info: VideoInfo) -> None:
        self._crop = info.crop
        self._coded_size = info.coded_size
        self._reformatter = VideoReformatter()
        if info.crop is not None:
            height, width = info.shown_size(info.coded_size)
            self._filter = FrameFilter(("crop", f"{width}:{height}:{info.crop.left}:{info.crop.top}:exact=1"))

    def cropped(self, frame: VideoFrame) -> VideoFrame:
        """The part of ``frame`` to be shown; a frame of another size than the first one as it is."""
        crop = self._crop
        if crop is None or (frame.height, frame.width) != self._coded_size:
            return frame
        step_x, step_y = 2 // frame.format.chroma_width(2), 2 // frame.format.chroma_height(2)
        if crop.left % step_x or crop.top % step_y:
            # The crop would begin inside a chroma sample: without subsampling it does not.
            full = re.sub(r"4\d\dp", "444p", frame.format.name)
            frame = self._reformatter.reformat(frame, format=full if "444p" in full else "yuv444p", threads=1)
        return self._filter.one(frame) or frame


class Deinterlacer:
    """FFmpeg's bwdif over the frames of one stream, which may be interlaced in parts.

    Frames pass as they are until the first interlaced one; from there on they come one frame late, and those that are
    progressive are still not touched. A change of size or format begins anew.
    """

    def __init__(self) -> None:
        self._filter = FrameFilter(("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
        self._time_base: Fraction | None = None
        self._is_on = False

    def frames(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """What is ready after ``frame`` (None: the stream has ended); in all, as many as were given."""
        if self._is_on and (frame is None or self._filter.begins(frame := on_host(frame))):
            yield from self._pushed(None)
            self._is_on = False
        if frame is None:
            return
        self._is_on |= frame.interlaced_frame
        if self._is_on:
            frame = on_host(frame)
            self._time_base = frame.time_base
            yield from self._pushed(frame)
        else:
            yield frame

    def _pushed(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        for made in self._filter.push(frame):
            # bwdif counts in half units, so that it could put a second frame between two.
            if made.pts is not None and self._time_base is not None and made.time_base != self._time_base:
                made.pts, made.duration = made.pts // 2, made.duration // 2
                made.time_base = self._time_base
            yield made


# Scaling in the filters below is as in `vidstyle.video.convert`.
_SCALE_FLAGS = "bilinear+accurate_rnd+full_chroma_inp"
_MATRICES: dict[int, str] = {
    MatrixCode.BT709: "bt709",
    MatrixCode.BT470BG: "bt470bg",
    MatrixCode.SMPTE170M: "smpte170m",
}


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
                self._graph, self._made_for = _sdr_graph(frame, tags), kind
            self._graph.vpush(frame)
            made = self._graph.vpull()
        except av.error.FFmpegError as error:
            raise VideoError(f"the colors of a frame cannot be converted to standard range: {reason(error)}") from error
        except OSError as error:
            raise VideoError(write_failure(f"a temporary file in {tempfile.gettempdir()}", error)) from error
        made.colorspace, made.color_range = BT709_TAGS.matrix, BT709_TAGS.range
        made.color_primaries, made.color_trc = BT709_TAGS.primaries, BT709_TAGS.transfer
        return made


def _sdr_graph(frame: VideoFrame, tags: ColorTags) -> Graph:
    is_rgb = frame.format.is_rgb
    matrix = "gbr" if is_rgb else _MATRICES.get(tags.matrix, "bt2020nc")
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":time_base={frame.time_base or Fraction(1, 90000)}"
        f":colorspace={matrix}:range={'pc' if tags.range == Range.FULL or is_rgb else 'tv'}"
    )
    graph = Graph()
    graph.threads = 1
    with tempfile.TemporaryDirectory() as folder:
        cube = Path(folder) / "bt709.cube"  # FFmpeg takes the table as a file, and reads it at once
        cube.write_text(_cube_text(lookup_table(tags.hdr, peak_luminance(frame))))
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


def peak_luminance(frame: VideoFrame) -> float:
    """cd/m2 of the brightest highlights, as the file says (MaxCLL, else the mastering display)."""
    side_data = SideDataReader(frame)
    light = side_data.numbers("CONTENT_LIGHT_LEVEL")
    if light is not None and (brightest := int(light.view(np.uint32)[0])):
        return float(np.clip(brightest, 100, 10000))
    # Ten fractions: three primaries and the white point (x, y), least and greatest luminance; two flags.
    display = side_data.numbers("MASTERING_DISPLAY_METADATA")
    if display is not None and display[21] and display[19]:
        return float(np.clip(display[18] / display[19], 100, 10000))
    return DEFAULT_PEAK


# From HDR and wide-gamut colors to BT.709, as a lookup table. Light is brought to absolute luminance (PQ: ITU-R BT.2100
# table 4; HLG: table 5 on a display of 1000 cd/m2), its range is compressed with the curve of ITU-R BT.2390 section 5.4
# to that of a standard display, whose white is taken as the 203 cd/m2 that ITU-R BT.2408 gives to HDR diffuse white;
# then the primaries are changed, and what is outside BT.709 is desaturated until it fits.

SDR_WHITE = 203.0
"""cd/m2 of the white that the result is made for."""
DEFAULT_PEAK = 1000.0
"""cd/m2 that the brightest highlights are taken to have, where the file does not say."""
_HLG_PEAK = 1000.0
_GAMMA = 2.4  # ITU-R BT.1886

_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_LUMA_709 = np.array([0.2126, 0.7152, 0.0722])
# ITU-R BT.2087 section 4: linear BT.2020 to linear BT.709.
_BT709_FROM_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def lookup_table(hdr: Hdr | None, peak: float = DEFAULT_PEAK, size: int = 33) -> NDArray[np.float64]:
    """`bt709_signal` at the nodes of a cube: shape (size, size, size, 3), axes red, green, blue."""
    axis = np.linspace(0.0, 1.0, size)
    return bt709_signal(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1), hdr, peak)


def bt709_signal(signal: NDArray[np.float64], hdr: Hdr | None, peak: float = DEFAULT_PEAK) -> NDArray[np.float64]:
    """What to send to a BT.709 display to show a BT.2020 signal.

    Both are R'G'B' between 0 and 1, shape (..., 3). ``hdr`` is the transfer, None for standard range; ``peak`` is the
    luminance of the brightest highlights in cd/m2.
    """
    if hdr is None:
        light = np.clip(signal, 0.0, 1.0) ** _GAMMA
    else:
        nits = light_from_pq(signal) if hdr == "pq" else _light_from_hlg(signal)
        light = _compressed(nits, max(peak, SDR_WHITE) if hdr == "pq" else _HLG_PEAK) / SDR_WHITE
    fitted = _within_gamut(light @ _BT709_FROM_BT2020.T)
    shown: NDArray[np.float64] = np.clip(fitted, 0.0, 1.0) ** (1.0 / _GAMMA)
    return shown


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def light_from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance in cd/m2 of a PQ signal between 0 and 1."""
    power = np.clip(signal, 0.0, 1.0) ** (1 / _M2)
    light: NDArray[np.float64] = 10000.0 * (np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def pq_from_light(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.clip(nits / 10000.0, 0.0, 1.0) ** _M1
    signal: NDArray[np.float64] = ((_C1 + _C2 * power) / (1.0 + _C3 * power)) ** _M2
    return signal


def _light_from_hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a = 0.17883277
    b, c = 1.0 - 4.0 * a, 0.5 - a * np.log(4.0 * a)
    signal = np.clip(signal, 0.0, 1.0)
    scene = np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)
    luma = (scene @ _LUMA_2020)[..., None]
    # The system gamma of a 1000 cd/m2 display is 1.2.
    light: NDArray[np.float64] = _HLG_PEAK * np.maximum(luma, 1e-9) ** 0.2 * scene
    return light


def _compressed(nits: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Bring 0..peak to 0..SDR_WHITE along the BT.2390 curve, on the brightest component: hues stay."""
    brightest: NDArray[np.float64] = nits.max(axis=-1, keepdims=True)
    ceiling = float(pq_from_light(np.array(peak)))
    level = np.clip(pq_from_light(brightest) / ceiling, 0.0, 1.0)
    top = float(pq_from_light(np.array(SDR_WHITE))) / ceiling
    knee = 1.5 * top - 0.5
    t = (level - knee) / max(1.0 - knee, 1e-9)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1.0 - knee) + (-2 * t**3 + 3 * t**2) * top
    target = light_from_pq(np.where(level < knee, level, spline) * ceiling)
    compressed: NDArray[np.float64] = nits * (target / np.maximum(brightest, 1e-6))
    return compressed


def _within_gamut(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw colors outside 0..1 towards gray of the same luminance, as far as is needed."""
    gray = np.clip(rgb @ _LUMA_709, 0.0, 1.0)[..., None]
    away = rgb - gray
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1.0 - gray) / away, np.where(away < 0, -gray / away, np.inf))
    fitted: NDArray[np.float64] = gray + away * np.minimum(room.min(axis=-1, keepdims=True), 1.0)
    return fitted
