"""What a caller can choose, one frozen class a topic, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from vidstyle.errors import BadOption

NetworkName = Literal["fast", "paper"]
BackendName = Literal["auto", "openvino", "onnxruntime", "tensorrt", "torch"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Codec = Literal["h264", "hevc", "vp9", "av1", "ffv1"]
PixelFormat = Literal["yuv420p", "yuv444p"]
DecoderName = Literal["software", "nvdec", "auto"]
EncoderName = Literal["software", "nvenc", "auto"]
EnginePrecision = Literal["fp16", "fp32"]
Pixels = Literal["rgb", "i420", "nv12"]
Matrix = Literal["bt601", "bt709"]
EngineTarget = Literal["portable", "current", "turing", "ampere", "ada", "blackwell"]
EngineLibrary = Literal["auto", "tensorrt", "tensorrt-rtx"]

MAX_SIDE = 16384
"""The longest side, in pixels, of any picture that vidstyle accepts; bounds memory before it is taken."""


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `BadOption` unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise BadOption(f"{what} is {value!r}; it must be one of {', '.join(choices)}")


def check_between(what: str, value: float, low: float, high: float) -> None:
    """Raise `BadOption` unless ``low <= value <= high`` (NaN is refused)."""
    if not isinstance(value, Real):
        raise BadOption(f"{what} is {value!r}; it must be a number between {low:g} and {high:g}")
    if not (math.isfinite(value) and low <= value <= high):
        raise BadOption(f"{what} is {value:g}; it must lie between {low:g} and {high:g}")


def check_whole(what: str, value: int, low: int, high: int) -> None:
    """Raise `BadOption` unless ``value`` is a whole number, and ``low <= value <= high``."""
    if not isinstance(value, Integral):
        raise BadOption(f"{what} is {value!r}; it must be a whole number between {low} and {high}")
    check_between(what, value, low, high)


def check_kind(what: str, value: object, kind: type, *, needed: bool = False) -> None:
    """Raise `BadOption` unless ``value`` is a ``kind``, or None where it is not ``needed``."""
    if isinstance(value, kind) or (value is None and not needed):
        return
    given = repr(value) if isinstance(value, str | int | float | dict | None) else f"a {type(value).__name__}"
    raise BadOption(f"{what} is {given}; it must be {kind.__name__}(...){'' if needed else ', or None'}")


def check_callable(what: str, value: object, *, needed: bool = False) -> None:
    """Raise `BadOption` unless ``value`` can be called, or is None where it is not ``needed``."""
    if not callable(value) and (value is not None or needed):
        raise BadOption(f"{what} is {value!r}; it must be a function{'' if needed else ', or None'}")


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Where and how the network runs."""

    backend: BackendName = "auto"
    """Inference library; ``auto`` takes the best one that works on this machine."""
    precision: Precision = "auto"
    """Arithmetic; ``auto`` is bf16 where the processor computes in it, else fp32."""
    threads: int | None = None
    """CPU threads for inference; None uses every core this process may run on."""
    gpu: int | None = None
    """Number of the NVIDIA GPU to run on, from 0, in CUDA's order. None leaves it to ``backend``: the first
    one where it runs on a GPU. With a number, what cannot run on that GPU is an error."""
    rebuild: bool = False
    """Build an engine file again, in its place, where it does not fit this machine; else that is an error."""

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, get_args(BackendName))
        check_choice("precision", self.precision, get_args(Precision))
        if self.threads is not None:
            check_whole("threads", self.threads, 1, 1024)
        if self.gpu is not None:
            check_whole("gpu", self.gpu, 0, 1023)


STROKE_SIZE = 720
"""Pixels of the shorter side above which frames are painted smaller, where `LookOptions` names no work size."""


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How the stylized picture and the source make the result."""

    strength: float = 1.0
    """Mix with the source: 0 is the source, 1 is the stylized picture."""
    preserve_color: bool = False
    """Keep the source's chroma and take only the luma of the stylized picture."""
    work_size: int | None = None
    """Height in pixels at which the network sees the frame (sets the stroke size); the result is
    upscaled to the output size, guided by the source's luma. None is the output size, but for frames whose
    shorter side is above `STROKE_SIZE`: these are painted with that one, as their strokes would be fine noise."""

    def __post_init__(self) -> None:
        check_between("strength", self.strength, 0, 1)
        if self.work_size is not None:
            check_whole("work size", self.work_size, 16, MAX_SIDE)


@dataclass(frozen=True, kw_only=True)
class SmoothOptions:
    """How strongly flicker is taken out of a video."""

    strength: float = 0.7
    """0 is not at all, 1 as much as can be; 0.7 takes more than half of the flicker and no sharpness."""

    def __post_init__(self) -> None:
        check_between("smooth", self.strength, 0, 1)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How the output video is compressed."""

    codec: Codec | None = None
    """Video codec; None takes what suits the container (H.264 for MP4, MOV and MKV, VP9 for WebM)."""
    crf: int | None = None
    """Constant quality, smaller is better; None is the codec's usual choice. Ignored by ffv1."""
    preset: str | None = None
    """The encoder's own speed name (x264: ultrafast ... veryslow; SVT-AV1: 0 ... 13; NVENC: p1 ... p7); None
    is fast."""
    pixel_format: PixelFormat = "yuv420p"
    """Chroma layout of the output; yuv444p keeps odd sizes and full colour, few players show it."""
    encoder: EncoderName = "software"
    """What encodes: the processor, or the NVIDIA GPU's own circuit; ``auto`` is the latter where it can."""

    def __post_init__(self) -> None:
        if self.codec is not None:
            check_choice("codec", self.codec, get_args(Codec))
        if self.crf is not None:
            check_whole("crf", self.crf, 0, 63)
        if not isinstance(self.preset, str | None):
            raise BadOption(f"preset is {self.preset!r}; it must be the encoder's name for a speed, such as 'veryfast'")
        check_choice("pixel format", self.pixel_format, get_args(PixelFormat))
        check_choice("encoder", self.encoder, get_args(EncoderName))


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which part of the input is rendered, what decodes it, and how forgiving the reading is."""

    start: float = 0.0
    """Seconds from the beginning of the input at which the output begins, with the picture that is shown then."""
    end: float | None = None
    """Seconds at which it ends (exclusive); None is the end of the input."""
    skip_errors: bool = False
    """Carry on, successfully, past frames that cannot be decoded (they are counted either way)."""
    decoder: DecoderName = "software"
    """What decodes: the processor, or the NVIDIA GPU's own circuit; ``auto`` is the latter where it can. A video
    that this circuit is not made for is decoded by the processor, and a note says so."""

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, get_args(DecoderName))
        check_between("start", self.start, 0, 1e9)
        if self.end is not None:
            check_between("end", self.end, 0, 1e9)
            if self.end <= self.start:
                raise BadOption(f"end is {self.end:g} s; it must be later than start, {self.start:g} s")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What an engine is built for. Sizes are ``(height, width)``."""

    size: tuple[int, int] = (720, 1280)
    """Size of the frames; of a dynamic engine the one that it is tuned for."""
    smallest: tuple[int, int] | None = None
    """With ``largest``: a dynamic engine, which takes every size between the two. None builds for ``size`` alone."""
    largest: tuple[int, int] | None = None
    """See ``smallest``."""
    pixels: Pixels = "i420"
    """Layout of the frames: i420 is what software decoders speak, nv12 what NVIDIA's speak."""
    matrix: Matrix | None = None
    """YCbCr matrix of the frames; None is the one that players take for pictures of that height: bt709 from 720
    rows on. Without meaning for rgb. Frames of another one are converted on the CPU."""
    full_range: bool = False
    """Whether luma uses 0-255 instead of 16-235; without meaning for rgb."""
    precision: EnginePrecision = "fp16"
    """Arithmetic; the statistics of the instance norms are float32 in both."""
    targets: tuple[EngineTarget, ...] = ()
    """GPUs to build for; () is the current one, or ``portable`` where there is none (TensorRT-RTX)."""
    library: EngineLibrary = "auto"
    """TensorRT or TensorRT-RTX; ``auto`` takes the one that can build here for ``targets``."""
    workspace_mib: int | None = None
    """Most GPU memory for scratch; None leaves it to the library."""
    optimization_level: int | None = None
    """0 builds fastest, 5 runs fastest; None is the library's own."""
    timing_cache: str | None = None
    """File in which TensorRT keeps its timings from build to build; TensorRT-RTX times nothing when it builds."""

    def __post_init__(self) -> None:
        check_choice("pixels", self.pixels, get_args(Pixels))
        check_choice("precision", self.precision, get_args(EnginePrecision))
        check_choice("library", self.library, get_args(EngineLibrary))
        for target in self.targets:
            check_choice("target", target, get_args(EngineTarget))
        if (self.smallest is None) != (self.largest is None):
            raise BadOption("a dynamic engine needs both its smallest and its largest size; give both, or neither")
        for what, pair in (("size", self.size), ("smallest", self.smallest), ("largest", self.largest)):
            if pair is not None and not (isinstance(pair, tuple | list) and len(pair) == 2):
                raise BadOption(f"engine {what} is {pair!r}; it must be (height, width)")
        smallest, largest = self.smallest or self.size, self.largest or self.size
        for what, least, side, most in zip(("height", "width"), smallest, self.size, largest, strict=True):
            check_whole(f"engine {what}", side, 4, MAX_SIDE)
            check_whole(f"smallest engine {what}", least, 4, MAX_SIDE)
            check_whole(f"largest engine {what}", most, 4, MAX_SIDE)
            if not least <= side <= most:
                raise BadOption(
                    f"engine {what} is {side}, smallest {least}, largest {most}; the first must lie between the others"
                )
            if self.smallest is not None and any(length % 4 for length in (least, side, most)):
                raise BadOption(
                    f"the {what}s of a dynamic engine are {least}, {side}, {most}; they must be multiples of 4"
                )
        if self.workspace_mib is not None:
            check_whole("workspace", self.workspace_mib, 1, 1 << 20)
        if self.optimization_level is not None:
            check_whole("optimization level", self.optimization_level, 0, 5)

    @property
    def dynamic(self) -> bool:
        """Whether the engine takes more than one size."""
        return self.smallest is not None
