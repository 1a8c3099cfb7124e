"""What FFmpeg's formats can do and get wrong: containers, codecs, encoders, protocols and the tags of colors."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import av
import av.error
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from vidstyle.errors import BadOption, VideoError, reason
from vidstyle.frame import FrameFormat, Matrix, untagged_matrix
from vidstyle.options import Codec, EncodeOptions

# Input formats, by FFmpeg's names of their demuxers.

READABLE = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,ivf,obu,av1,"
    "h264,hevc,m4v,yuv4mpegpipe,gif,apng,dv,rm,wtv,mjpeg,"
    "mp3,wav,flac,aac,ac3,aiff,w64,caf"  # sound alone: opened only to say so
)
"""Demuxers that read the named file and nothing else. Left out on purpose: playlists and everything else that names
other files (concat, hls, dash, sdp, imf, vobsub, image2), devices, and raw formats that fit any bytes."""
BROADCAST = ("mpegts", "mpeg")
"""Formats whose clock may jump forwards too, as FFmpeg flags them (AVFMT_TS_DISCONT). They say nothing about their
length: FFmpeg looks for the last time in the file."""
UNINDEXED = (*BROADCAST, "flv", "ogg", "nut", "asf", "wtv", "rm")
"""Formats that can be joined by `cat`, or by a recorder that starts again: nothing in them lists the whole."""
INDEXED = ("mov,", "matroska,")
"""How the names of formats begin whose index says where key frames are; others are read from the beginning."""
SHAPELESS = (*BROADCAST, "h264", "hevc", "mpegvideo", "m4v")
"""Formats that do not say the shape of pixels themselves: FFmpeg gives the last one that it saw while probing."""
UNTIMED = ("mpjpeg", "mjpeg", "h264", "hevc", "mpegvideo", "m4v", "obu")
"""Formats that carry no times: FFmpeg counts frames of an assumed rate."""

# Codecs, by FFmpeg's names of their decoders.

ONE_FRAME_A_PACKET = ("h264", "hevc", "libdav1d", "av1", "mpeg4", "ffv1", "mjpeg", "prores")
LIMITED_GRAY = ("h264", "hevc", "vp9", "libdav1d", "av1", "mpeg2video")
"""Without a range tag, gray is full range in what stills are made with, limited in what video is made with."""


@dataclass(frozen=True, eq=False)
class Container:
    """A file format that a video is written in."""

    muxer: str
    name: str
    codecs: tuple[Codec, ...]
    """Video codecs that players expect in it; the first is the default."""
    audio_encoder: str = "aac"
    """What encodes sound that it cannot hold."""
    subtitle_encoder: str = "mov_text"
    refused: frozenset[str] = frozenset()
    """Codecs that the muxer's own table lists, but whose header cannot be written, or is "experimental"."""
    is_mp4: bool = False
    """Whether it is of MP4's family, which takes the source's own ticks or finer ones; Matroska counts milliseconds."""
    stereo: tuple[str, ...] = ()
    live: dict[str, str] | None = None
    """The muxer's options for a recording that plays even if the process dies; None where it takes none."""


# The index of a recording comes last in MP4: until then it is a row of fragments, each playable when it is written, and
# at the end it becomes a usual file.
_FRAGMENTED = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof"}
_NO_MP4 = frozenset(("truehd", "mlp"))
_NO_MOV = _NO_MP4 | {"opus", "libopus", "flac", "vp9", "av1", "libdav1d"}
# AVStereo3DType to Matroska's words: left eye first, right eye first.
STEREO = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    3: ("block_lr", "block_rl"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
_MP4 = Container("mp4", "MP4", ("h264", "hevc", "av1", "vp9"), refused=_NO_MP4, is_mp4=True, live=_FRAGMENTED)
# No AVI: it has no timestamps, so a variable frame rate could not be kept.
CONTAINERS: dict[str, Container] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", "MOV", ("h264", "hevc"), refused=_NO_MOV, is_mp4=True, live=_FRAGMENTED),
    ".mkv": Container(
        *("matroska", "Matroska", ("h264", "hevc", "av1", "vp9", "ffv1"), "aac", "subrip"),
        stereo=tuple(word for pair in STEREO.values() for word in pair),
        live={"cluster_time_limit": "1000"},
    ),
    ".webm": Container("webm", "WebM", ("vp9", "av1"), "libopus", "webvtt", stereo=(*STEREO[1], *STEREO[2])),
}

WHIP = "whip"
"""In the place of a muxer: WebRTC, which is not FFmpeg's."""
SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    "rtmp": ("flv", {"flvflags": "no_duration_filesize"}),
    "rtmps": ("flv", {"flvflags": "no_duration_filesize"}),
    "rtsp": ("rtsp", {"rtsp_transport": "tcp"}),  # by TCP, which passes firewalls and loses nothing
    "srt": ("mpegts", {}),
    "udp": ("mpegts", {}),
    "whip+https": (WHIP, {}),
    "whip+http": (WHIP, {}),
}
"""Protocols that a live picture can be sent by, with the muxer and its options."""


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders, set to be fast: the network needs the processor more."""

    name: str
    crf: int | None
    """The usual quality; None where there is no choice."""
    max_crf: int
    """The worst quality."""
    presets: tuple[str, ...]
    preset: str
    """The preset that is taken where the user names none."""
    takes_odd_420: bool = False
    """Whether 4:2:0 pictures may have an odd width or height."""
    min_width: int = 2
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
        # No B frames: with them MP4 states wrong lengths where frames are unevenly spaced. At the fast presets they
        # cost a fifth of the time and save nothing.
        if self.name == "libx264":
            return {"crf": str(crf), "preset": preset, "bf": "0"}
        if self.name == "libx265":
            # It writes its banner to stderr unless told not to, and closed captions only when told to.
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

    def kept_size(self, size: tuple[int, int], pixel_format: str) -> tuple[int, int]:
        """``(height, width)`` of what is kept of ``size``: it may lose an odd last row and column in 4:2:0."""
        height, width = size
        if pixel_format == "yuv444p" or self.takes_odd_420:
            return size
        if min(size) < 2:
            raise BadOption(f"picture is {width}x{height}; {self.name} needs at least 2x2 pixels")
        return height // 2 * 2, width // 2 * 2

    def open(
        self, context: VideoCodecContext, size: tuple[int, int], pixel_format: str, base: Fraction, color: ColorTags
    ) -> None:
        """Set up and open ``context``: ``size`` is (height, width), ``base`` the tick. Raises `VideoError`."""
        context.time_base = base
        context.height, context.width = size
        context.pix_fmt = pixel_format
        context.flags |= Flags.frame_duration
        context.color_range, context.colorspace = color.range, color.matrix
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        if self.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; else it writes a page about itself to stderr
        try:
            with keep_scheduling():
                context.open()
        except av.error.FFmpegError as error:
            raise VideoError(
                f"{self.name} cannot encode {size[1]}x{size[0]} {pixel_format}: {reason(error)}; "
                "choose another codec, size or crf"
            ) from error


_X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
ENCODERS: dict[Codec, Encoder] = {
    "h264": Encoder("libx264", 20, 51, _X264_PRESETS, "superfast"),
    # libx265 4.2 writes outside its memory for pictures 34 to 54 pixels wide.
    "hevc": Encoder("libx265", 24, 51, _X264_PRESETS, "superfast", min_width=64),
    "vp9": Encoder("libvpx-vp9", 31, 63, tuple(map(str, range(9))), "7", takes_odd_420=True),
    "av1": Encoder("libsvtav1", 32, 63, tuple(map(str, range(14))), "10", takes_odd_420=True),
    "ffv1": Encoder("ffv1", None, 63, (), "", takes_odd_420=True),
}
_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
NVENC_ENCODERS: dict[Codec, Encoder] = {
    "h264": Encoder("h264_nvenc", 22, 51, _NVENC_PRESETS, "p4"),
    "hevc": Encoder("hevc_nvenc", 25, 51, _NVENC_PRESETS, "p4"),
    "av1": Encoder("av1_nvenc", 32, 63, _NVENC_PRESETS, "p4"),
}


def container_for(path: Path) -> Container:
    """The container that the suffix of ``path`` names. Raises `BadOption` listing those there are."""
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise BadOption(f"output {path.name} {suffix_of(path)}; it must end in one of {', '.join(CONTAINERS)}")
    return container


def suffix_of(path: Path) -> str:
    return f"ends in {path.suffix!r}" if path.suffix else "has no suffix"


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


@contextmanager
def keep_scheduling() -> Generator[None, None, None]:
    """Open an encoder within: this thread, and those that the encoder begins, are scheduled as this one was before.

    SVT-AV1 makes the thread that opens it, and its own, real-time ones (SCHED_FIFO, priority 99) where it may, which is
    for root, so in most containers. Whatever such a thread starts later inherits that, and nothing else on the machine
    gets a processor while two of them are busy.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield  # not Linux, and SVT-AV1 leaves things as they are
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    before = _threads()
    try:
        yield
    finally:
        # 0 is this thread, which has no other name where there is no /proc.
        for thread in {0, *_threads()} - before:
            with suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, priority)


def _threads() -> set[int]:
    """The numbers that the system gives to the threads of this process; none where it does not tell."""
    try:
        return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}
    except OSError:
        return set()


# Code points of ITU-T H.273, as FFmpeg, H.264, HEVC, VP9, AV1, MP4 and Matroska all use them.
UNSPECIFIED = 2
MatrixCode = IntEnum(
    "MatrixCode", {"RGB": 0, "BT709": 1, "FCC": 4, "BT470BG": 5, "SMPTE170M": 6, "SMPTE240M": 7, "BT2020": 9}
)
Primaries = IntEnum("Primaries", {"BT709": 1, "BT2020": 9})
Transfer = IntEnum("Transfer", {"BT709": 1, "PQ": 16, "HLG": 18})
Range = IntEnum("Range", {"UNSPECIFIED": 0, "LIMITED": 1, "FULL": 2})  # limited is 16-235, full 0-255
Hdr = Literal["pq", "hlg"]


@dataclass(frozen=True, kw_only=True)
class ColorTags:
    """How pixel values are to be read, in the numbers of ITU-T H.273. Unspecified stays unspecified."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: int = Range.UNSPECIFIED
    chroma_location: str | None = None
    """Where 4:2:0 chroma samples sit: left, center, topleft, top, bottomleft, bottom; None is unspecified."""

    @property
    def hdr(self) -> Hdr | None:
        return "pq" if self.transfer == Transfer.PQ else "hlg" if self.transfer == Transfer.HLG else None

    @property
    def wide(self) -> bool:
        """Whether the colors need converting to be shown as BT.709."""
        return self.hdr is not None or self.primaries == Primaries.BT2020 or self.matrix == MatrixCode.BT2020

    def of(self, frame: VideoFrame) -> ColorTags:
        """The tags of one picture: its own, and where it says nothing these."""
        color_range = frame.color_range
        if frame.format.name.startswith("yuvj"):  # the old name of full range
            color_range = Range.FULL
        return replace(
            self,
            primaries=_specified(frame.color_primaries, self.primaries),
            transfer=_specified(frame.color_trc, self.transfer),
            matrix=_specified(frame.colorspace, self.matrix),
            range=int(color_range) if color_range in (Range.LIMITED, Range.FULL) else self.range,
        )

    def written(self, form: FrameFormat, height: int) -> ColorTags:
        """Tags for an output of ``height`` rows: these, but explicit where players would read ``form`` wrong."""
        matrix, color_range = self.matrix, self.range
        if guessed_matrix(matrix, height) != form.matrix:
            matrix = MatrixCode.BT709 if form.matrix == "bt709" else MatrixCode.SMPTE170M
        if (color_range == Range.FULL) != form.full_range:
            color_range = Range.FULL if form.full_range else Range.LIMITED
        return replace(self, matrix=matrix, range=color_range)


BT709_TAGS = ColorTags(primaries=Primaries.BT709, transfer=Transfer.BT709, matrix=MatrixCode.BT709, range=Range.LIMITED)


def _specified(*codes: int) -> int:
    return next((int(code) for code in codes if code != UNSPECIFIED), UNSPECIFIED)


def guessed_matrix(matrix: int, height: int) -> Matrix:
    """The YCbCr matrix that players take for a picture of ``height`` rows with tag ``matrix``."""
    if matrix == MatrixCode.BT709:
        return "bt709"
    if matrix in (MatrixCode.BT470BG, MatrixCode.SMPTE170M):
        return "bt601"
    return untagged_matrix(height)


def is_rgb(frame: VideoFrame) -> bool:
    """Whether the pixels of ``frame`` are red, green and blue, or a palette of such."""
    return frame.format.is_rgb or frame.format.has_palette or frame.colorspace == MatrixCode.RGB


def is_gray(format: VideoFormat) -> bool:
    """Whether pixels are whole numbers of one brightness, with or without alpha."""
    return format.name.startswith(("gray", "ya")) and not format.name.startswith(("grayf", "yaf"))
