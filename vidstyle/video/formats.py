"""Which encoder writes which codec into which container, and with what settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import av
import av.error
import av.logging
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Matrix, untagged_matrix
from vidstyle.options import Codec, EncodeOptions


@dataclass(frozen=True)
class Container:
    """A file format that a video is written in."""

    muxer: str
    """FFmpeg's name of it."""
    codecs: tuple[Codec, ...]
    """Video codecs that players expect in it; the first is the default."""


# No AVI: it has no timestamps, so a variable frame rate could not be kept.
CONTAINERS: dict[str, Container] = {
    ".mp4": Container("mp4", ("h264", "hevc", "av1", "vp9")),
    ".m4v": Container("mp4", ("h264", "hevc", "av1", "vp9")),
    ".mov": Container("mov", ("h264", "hevc")),
    ".mkv": Container("matroska", ("h264", "hevc", "av1", "vp9", "ffv1")),
    ".webm": Container("webm", ("vp9", "av1")),
}


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders, set to be fast: the network needs the processor more."""

    name: str
    """FFmpeg's name of it."""
    crf: int | None
    """The usual quality; None where there is no choice."""
    max_crf: int
    """The worst quality it takes."""
    presets: tuple[str, ...]
    """Its speed names."""
    preset: str
    """The one that is taken where the user has no wish."""
    takes_odd_420: bool
    """Whether 4:2:0 pictures may have an odd width or height."""
    least_width: int = 2
    """The narrowest picture it is trusted with."""

    def settings(self, options: EncodeOptions) -> dict[str, str]:
        """FFmpeg's options for ``options``. Raises `BadOption` for a crf or preset that it has not."""
        crf = self.crf if options.crf is None else options.crf
        if crf is not None and self.crf is not None and crf > self.max_crf:
            raise BadOption(f"crf is {crf}; {self.name} takes 0 to {self.max_crf}")
        preset = self.preset if options.preset is None else options.preset
        if options.preset is not None and preset not in self.presets:
            known = ", ".join(self.presets) or "none"
            raise BadOption(f"preset is {preset!r}; {self.name} has {known}")
        # No B frames: with them MP4 states wrong lengths where frames are unevenly spaced. At the fast
        # presets they cost a fifth of the time and save nothing.
        if self.name == "libx264":
            return {"crf": str(crf), "preset": preset, "bf": "0"}
        if self.name == "libx265":
            # x265 writes its banner to stderr unless told not to.
            # Closed captions it writes only when told to.
            return {"crf": str(crf), "preset": preset, "x265-params": "log-level=none:bframes=0", "a53cc": "1"}
        if self.name == "libsvtav1":
            return {"crf": str(crf), "preset": preset}
        if self.name == "libvpx-vp9":
            # A bit rate of 0 makes crf the only target.
            return {"crf": str(crf), "b": "0", "deadline": "realtime", "cpu-used": preset, "row-mt": "1"}
        if self.name.endswith("_nvenc") and crf is not None:
            # A fixed quantizer: NVENC's constant quality is a bit rate in disguise, and counts on even times.
            quantizer = 4 * crf if self.name == "av1_nvenc" else crf  # that of AV1 runs to 255
            return {"rc": "constqp", "qp": str(quantizer), "preset": preset, "bf": "0"}
        return {"level": "3", "slices": "4", "slicecrc": "1"}  # ffv1


_X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# libx265 4.2 writes outside its memory for pictures 34 to 54 pixels wide.
ENCODERS: dict[Codec, Encoder] = {
    "h264": Encoder("libx264", 20, 51, _X264_PRESETS, "superfast", takes_odd_420=False),
    "hevc": Encoder("libx265", 24, 51, _X264_PRESETS, "superfast", takes_odd_420=False, least_width=64),
    "vp9": Encoder("libvpx-vp9", 31, 63, tuple(map(str, range(9))), "7", takes_odd_420=True),
    "av1": Encoder("libsvtav1", 32, 63, tuple(map(str, range(14))), "10", takes_odd_420=True),
    "ffv1": Encoder("ffv1", None, 63, (), "", takes_odd_420=True),
}
_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
NVENC_ENCODERS: dict[Codec, Encoder] = {
    "h264": Encoder("h264_nvenc", 22, 51, _NVENC_PRESETS, "p4", takes_odd_420=False),
    "hevc": Encoder("hevc_nvenc", 25, 51, _NVENC_PRESETS, "p4", takes_odd_420=False),
    "av1": Encoder("av1_nvenc", 32, 63, _NVENC_PRESETS, "p4", takes_odd_420=False),
}


def container_for(path: Path) -> Container:
    """The container that the suffix of ``path`` names. Raises `BadOption` listing those there are."""
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        given = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise BadOption(f"output {path.name} {given}; it must end in one of {', '.join(CONTAINERS)}")
    return container


def codec_for(path: Path, options: EncodeOptions) -> Codec:
    """The codec asked for, or the container's own. Raises `BadOption` where the container cannot hold it."""
    container = container_for(path)
    codec = options.codec or container.codecs[0]
    if codec not in container.codecs:
        fitting = ", ".join(suffix for suffix, other in CONTAINERS.items() if codec in other.codecs)
        raise BadOption(
            f"codec is {codec}; {path.suffix.lower()} holds {', '.join(container.codecs)} (write {codec} to {fitting})"
        )
    if ENCODERS[codec].name not in av.codecs_available:
        here = ", ".join(c for c in get_args(Codec) if ENCODERS[c].name in av.codecs_available)
        raise VideoError(f"this FFmpeg has no {ENCODERS[codec].name} to write {codec}; it can write {here}")
    return codec


Hdr = Literal["pq", "hlg"]

# Code points of ITU-T H.273, as FFmpeg, H.264, HEVC, VP9, AV1, MP4 and Matroska all use them.
UNSPECIFIED = 2
MATRIX_RGB = 0
MATRIX_BT709 = 1
MATRIX_BT470BG = 5
MATRIX_SMPTE170M = 6
MATRIX_FCC = 4
MATRIX_SMPTE240M = 7
MATRIX_BT2020 = 9
PRIMARIES_BT709 = 1
PRIMARIES_BT2020 = 9
TRANSFER_BT709 = 1
TRANSFER_PQ = 16
TRANSFER_HLG = 18
RANGE_UNSPECIFIED = 0
RANGE_LIMITED = 1
RANGE_FULL = 2


@dataclass(frozen=True, kw_only=True)
class ColorTags:
    """How pixel values are to be read, in the numbers of ITU-T H.273. Unspecified stays unspecified."""

    primaries: int = UNSPECIFIED
    """Color primaries; 1 is BT.709, 9 is BT.2020, 2 is unspecified."""
    transfer: int = UNSPECIFIED
    """Transfer characteristics; 1 is BT.709, 16 is PQ, 18 is HLG, 2 is unspecified."""
    matrix: int = UNSPECIFIED
    """Matrix coefficients; 0 is RGB, 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020, 2 is unspecified."""
    range: int = RANGE_UNSPECIFIED
    """0 is unspecified, 1 is limited (16-235), 2 is full (0-255)."""
    chroma_location: str | None = None
    """Where 4:2:0 chroma samples sit: left, center, topleft, top, bottomleft, bottom; None is unspecified."""

    @property
    def hdr(self) -> Hdr | None:
        """The high-dynamic-range transfer, if it is one."""
        return {TRANSFER_PQ: "pq", TRANSFER_HLG: "hlg"}.get(self.transfer)  # type: ignore[return-value]

    @property
    def wide(self) -> bool:
        """Whether the colors need converting to be shown as BT.709."""
        return self.hdr is not None or self.primaries == PRIMARIES_BT2020 or self.matrix == MATRIX_BT2020


def guessed_matrix(matrix: int, height: int) -> Matrix:
    """The YCbCr matrix that players take for a picture of ``height`` rows with tag ``matrix``."""
    if matrix == MATRIX_BT709:
        return "bt709"
    if matrix in (MATRIX_BT470BG, MATRIX_SMPTE170M):
        return "bt601"
    return untagged_matrix(height)


def is_rgb(frame: VideoFrame) -> bool:
    """Whether the pixels of ``frame`` are red, green and blue, or a palette of such."""
    return frame.format.is_rgb or frame.format.has_palette or frame.colorspace == MATRIX_RGB


def is_gray(format: VideoFormat) -> bool:
    """Whether pixels are whole numbers of one brightness, with or without alpha."""
    return format.name.startswith(("gray", "ya")) and not format.name.startswith(("grayf", "yaf"))


def frame_tags(frame: VideoFrame, otherwise: ColorTags) -> ColorTags:
    """The tags of one picture: its own, and where it says nothing those of ``otherwise``."""
    color_range = frame.color_range
    if frame.format.name.startswith("yuvj"):  # the old name of full range
        color_range = RANGE_FULL
    return replace(
        otherwise,
        primaries=_specified(frame.color_primaries, otherwise.primaries),
        transfer=_specified(frame.color_trc, otherwise.transfer),
        matrix=_specified(frame.colorspace, otherwise.matrix),
        range=int(color_range) if color_range in (RANGE_LIMITED, RANGE_FULL) else otherwise.range,
    )


def _specified(*codes: int) -> int:
    return next((int(code) for code in codes if code != UNSPECIFIED), UNSPECIFIED)
