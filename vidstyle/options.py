"""What a caller can choose, one frozen class a topic, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vidstyle.errors import BadOption

NetworkName = Literal["fast", "paper"]
BackendName = Literal["auto", "openvino", "onnxruntime", "torch"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Codec = Literal["h264", "hevc", "vp9", "av1", "ffv1"]
PixelFormat = Literal["yuv420p", "yuv444p"]

MAX_SIDE = 16384
"""The longest side, in pixels, of any picture that vidstyle accepts; bounds memory before it is taken."""


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `BadOption` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise BadOption(f"{what} is {value!r}; it must be one of {', '.join(choices)}")


def check_between(what: str, value: float, low: float, high: float) -> None:
    """Raise `BadOption` unless ``low <= value <= high`` (NaN is refused)."""
    if not (math.isfinite(value) and low <= value <= high):
        raise BadOption(f"{what} is {value:g}; it must lie between {low:g} and {high:g}")


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Where and how the network runs."""

    backend: BackendName = "auto"
    """Inference library; ``auto`` takes the best one that works on this machine."""
    precision: Precision = "auto"
    """Arithmetic; ``auto`` is bf16 where the processor computes in it, else fp32."""
    threads: int | None = None
    """CPU threads for inference; None uses every core this process may run on."""

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, get_args(BackendName))
        check_choice("precision", self.precision, get_args(Precision))
        if self.threads is not None:
            check_between("threads", self.threads, 1, 1024)


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How the stylized picture and the source make the result."""

    strength: float = 1.0
    """Mix with the source: 0 is the source, 1 is the stylized picture."""
    preserve_color: bool = False
    """Keep the source's chroma and take only the luma of the stylized picture."""
    work_size: int | None = None
    """Height in pixels at which the network sees the frame (sets the stroke size); the result is
    upscaled to the output size, guided by the source's luma. None stylizes at the output size."""

    def __post_init__(self) -> None:
        check_between("strength", self.strength, 0, 1)
        if self.work_size is not None:
            check_between("work size", self.work_size, 16, MAX_SIDE)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How the output video is compressed."""

    codec: Codec | None = None
    """Video codec; None takes what suits the container (H.264 for MP4, MOV and MKV, VP9 for WebM)."""
    crf: int | None = None
    """Constant quality, smaller is better; None is the codec's usual choice. Ignored by ffv1."""
    preset: str | None = None
    """The encoder's own speed name (x264: ultrafast ... veryslow; SVT-AV1: 0 ... 13); None is fast."""
    pixel_format: PixelFormat = "yuv420p"
    """Chroma layout of the output; yuv444p keeps odd sizes and full colour, few players show it."""

    def __post_init__(self) -> None:
        if self.codec is not None:
            check_choice("codec", self.codec, get_args(Codec))
        if self.crf is not None:
            check_between("crf", self.crf, 0, 63)
        check_choice("pixel format", self.pixel_format, get_args(PixelFormat))


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which part of the input is rendered, and how forgiving the reading is."""

    start: float = 0.0
    """Seconds from the beginning of the input at which the output begins."""
    end: float | None = None
    """Seconds at which it ends (exclusive); None is the end of the input."""
    skip_errors: bool = False
    """Carry on, successfully, past frames that cannot be decoded (they are counted either way)."""

    def __post_init__(self) -> None:
        check_between("start", self.start, 0, 1e9)
        if self.end is not None:
            check_between("end", self.end, 0, 1e9)
            if self.end <= self.start:
                raise BadOption(f"end is {self.end:g} s; it must be later than start, {self.start:g} s")
