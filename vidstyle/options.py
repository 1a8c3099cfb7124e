"""What a caller can choose, one frozen class a topic, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vidstyle.errors import BadOption

NetworkName = Literal["fast", "paper"]
BackendName = Literal["auto", "openvino", "onnxruntime", "tensorrt", "torch"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Device = Literal["CPU", "GPU", "NPU", "AUTO"]
Codec = Literal["h264", "hevc", "vp9", "av1", "ffv1"]
PixelFormat = Literal["yuv420p", "yuv444p"]
DecoderName = Literal["software", "nvdec", "auto"]
EncoderName = Literal["software", "nvenc", "auto"]
EnginePrecision = Literal["fp16", "fp32"]
Pixels = Literal["rgb", "i420", "nv12"]
Matrix = Literal["bt601", "bt709"]
EngineTarget = Literal["portable", "current", "turing", "ampere", "ada", "blackwell"]
View = Literal["painted", "split", "original"]
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


def within(default: Any, least: float, most: float) -> Any:
    """A field of options whose value, unless None, lies between the two; the command line says so, too."""
    return field(default=default, metadata={"range": (least, most)})


@cache
def kinds_of_fields(options: Any) -> dict[str, Any]:
    """The type of each field of ``options``, a dataclass; of what may be None, too, the type of the rest."""
    hints = {name: (hint, get_args(hint)) for name, hint in get_type_hints(options).items()}
    return {name: kinds[0] if type(None) in kinds else hint for name, (hint, kinds) in hints.items()}


def check_fields(options: Any) -> None:
    """Raise `BadOption` unless each `Literal` field has one of its values, and each one made by `within` its range."""
    kinds: dict[str, Any] = kinds_of_fields(type(options))  # type: ignore[arg-type]
    for one in fields(options):
        value, kind = getattr(options, one.name), kinds[one.name]
        what = one.name.removesuffix("_mib").replace("_", " ")
        if value is None and one.default is None:
            continue
        if get_origin(kind) is Literal:
            check_choice(what, value, get_args(kind))
        elif "range" in one.metadata:
            (check_whole if kind is int else check_between)(what, value, *one.metadata["range"])


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Where and how the network runs."""

    backend: BackendName = "auto"
    """Inference library; ``auto`` takes the best one that works on this machine."""
    precision: Precision = "auto"
    """Arithmetic; ``auto`` is bf16 where the processor computes in it, else fp32. A video in one style is painted in
    int8 where that is much faster and its pictures are near those of fp32 (`vidstyle.backends.int8`)."""
    threads: int | None = within(None, 1, 1024)
    """CPU threads for inference; None uses every core this process may run on."""
    device: Device | None = None
    """What OpenVINO computes on: an Intel GPU, an NPU, or what it takes for the best (``AUTO``); None is the CPU."""
    gpu: int | None = within(None, 0, 1023)
    """Number of the NVIDIA GPU to run on, from 0, in CUDA's order. None leaves it to ``backend``: the first
    one where it runs on a GPU. With a number, what cannot run on that GPU is an error."""
    rebuild: bool = False
    """Build an engine file again, in its place, where it does not fit this machine; else that is an error."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.device is not None and self.backend not in ("auto", "openvino"):
            raise BadOption(f"device is {self.device}, which only the backend openvino has; leave out one of the two")


STROKE_SIZE = 720
"""Pixels of the shorter side above which frames are painted smaller, where `LookOptions` names no work size."""


PERSON, BACKGROUND = "person", "background"
"""Masks that are found in the picture."""


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How the stylized picture and the source make the result."""

    strength: float = within(1.0, 0, 1)
    """Mix with the source: 0 is the source, 1 is the stylized picture."""
    preserve_color: bool = False
    """Keep the source's chroma and take only the luma of the stylized picture."""
    work_size: int | None = within(None, 16, MAX_SIDE)
    """Height in pixels at which the network sees the frame (sets the stroke size); the result is
    upscaled to the output size, guided by the source's luma. None is the output size, but for frames whose
    shorter side is above `STROKE_SIZE`: these are painted with that one, as their strokes would be fine noise."""
    mask: str | None = None
    """Where it is painted: on the ``person`` (or people) in the picture, on the ``background``, or where a gray
    picture or video, the file of that name, is white. A video runs along with the frames. None is everywhere."""
    elsewhere: str | None = None
    """The style outside of the mask, by name, file or blend, of the same network; None leaves the source there."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("mask", "elsewhere"):
            value = getattr(self, name)
            if isinstance(value, PathLike):
                object.__setattr__(self, name, fspath(value))
            elif not isinstance(value, str | None) or value == "":
                raise BadOption(f"{name} is {value!r}; it must be a name or a file, or None")
        if self.elsewhere is not None and self.mask is None:
            raise BadOption(f"a style elsewhere, {self.elsewhere!r}, needs a mask; say where the other one is painted")


@dataclass(frozen=True, kw_only=True)
class SmoothOptions:
    """How strongly flicker is taken out of a video."""

    strength: float = within(0.7, 0, 1)
    """0 is not at all, 1 as much as can be; 0.7 takes more than half of the flicker and no sharpness."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How the output video is compressed."""

    codec: Codec | None = None
    """Video codec; None takes what suits the container (H.264 for MP4, MOV and MKV, VP9 for WebM)."""
    crf: int | None = within(None, 0, 63)
    """Constant quality, smaller is better; None is the codec's usual choice. Ignored by ffv1."""
    preset: str | None = None
    """The encoder's own speed name (x264: ultrafast ... veryslow; SVT-AV1: 0 ... 13; NVENC: p1 ... p7); None
    is fast."""
    pixel_format: PixelFormat = "yuv420p"
    """Chroma layout of the output; yuv444p keeps odd sizes and full colour, few players show it."""
    encoder: EncoderName = "software"
    """What encodes: the processor, or the NVIDIA GPU's own circuit; ``auto`` is the latter where it can."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.preset, str | None):
            raise BadOption(f"preset is {self.preset!r}; it must be the encoder's name for a speed, such as 'veryfast'")


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which part of the input is rendered, and what decodes it."""

    start: float = within(0.0, 0, 1e9)
    """Seconds from the beginning of the input at which the output begins, with the picture that is shown then."""
    end: float | None = within(None, 0, 1e9)
    """Seconds at which it ends (exclusive); None is the end of the input."""
    decoder: DecoderName = "software"
    """What decodes: the processor, or the NVIDIA GPU's own circuit; ``auto`` is the latter where it can. A video
    that this circuit is not made for is decoded by the processor, and a note says so."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.end is not None and self.end <= self.start:
            raise BadOption(f"end is {self.end:g} s; it must be later than start, {self.start:g} s")


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a live picture is shown, recorded and sent on."""

    target_fps: float | None = within(None, 1, 240)
    """Frames a second to hold by painting at smaller work sizes; None keeps the work size."""
    realtime: bool = False
    """Whether to measure at the start, for half a second, whether every frame of the source can be painted, and to
    hold the source's rate as ``target_fps`` does where it cannot. Not with ``target_fps``, a work size or an engine."""
    window: bool = True
    """Whether there is a window; without one there must be a recording, an output or a virtual camera."""
    mirror: bool = False
    """Whether the window is a mirror. Recordings, outputs and snapshots never are: others read the text in them."""
    view: View = "painted"
    """What the window shows: the painting, the source beside it, or the source. Recordings are always painted."""
    full_screen: bool = False
    """Whether the window covers the screen."""
    record: Path | None = None
    """File to record to from the start. Key r goes on with ``out-2.mp4``, and so on; None leaves it to the key."""
    outputs: tuple[str, ...] = ()
    """Files, playlists and URLs that the painted picture is sent to, as `vidstyle.video.output` takes them."""
    virtual_camera: bool = False
    """Whether other programs get the picture as a camera."""
    snapshots: Path = Path()
    """Folder for snapshots, and for recordings where ``record`` names none."""
    seconds: float | None = within(None, 0.01, 1e9)
    """End so long after the first frame; None goes on until the source ends or somebody quits."""
    overwrite: bool = False
    """Whether ``record`` and ``outputs`` may replace files. Snapshots and later recordings never do."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.window or self.record or self.outputs or self.virtual_camera):
            raise BadOption(
                "without a window there is nowhere to put the picture; give --record, --output or --virtual-camera "
                "(LiveOptions: record, outputs or virtual_camera)"
            )


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """What plays a live picture from outside, and what follows the beat."""

    osc: str | None = None
    """``[HOST:]PORT`` to take OSC messages on, by UDP; without a host only this machine can send them."""
    osc_out: str | None = None
    """``HOST:PORT`` that frames a second, latency and style are sent to, four times a second."""
    midi_clock: str | None = None
    """Name of the MIDI input whose clock is the beat, or a part of it; ``auto`` is the only one."""
    quantize: Literal["beat", "bar"] | None = None
    """What changes of style, blend and view wait for, once there is a tempo; a bar has four beats."""
    pulse: float = within(0.0, 0, 1)
    """By which share the strength sinks between two beats; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)


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
    workspace_mib: int | None = within(None, 1, 1 << 20)
    """Most GPU memory for scratch; None leaves it to the library."""
    optimization_level: int | None = within(None, 0, 5)
    """0 builds fastest, 5 runs fastest; None is the library's own."""
    timing_cache: str | None = None
    """File in which TensorRT keeps its timings from build to build; TensorRT-RTX times nothing when it builds."""

    def __post_init__(self) -> None:
        check_fields(self)
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

    @property
    def dynamic(self) -> bool:
        """Whether the engine takes more than one size."""
        return self.smallest is not None
