"""Decoding and encoding by an NVIDIA GPU (NVDEC and NVENC), through FFmpeg.

Pictures on the GPU are NV12. FFmpeg writes and reads them on CUDA's default stream: work on another stream waits for
that one before it reads a decoded picture, and is complete before a picture is encoded.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
import av.error
import av.logging
import numpy as np
from av.codec import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext, VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.options import Codec, EncodeOptions
from vidstyle.system import nvidia_driver
from vidstyle.video.demux import MAX_PIXELS, is_on_gpu, open_input, packets, video_stream
from vidstyle.video.formats import NVENC_ENCODERS, Range, guessed_matrix
from vidstyle.video.info import VideoInfo

_DECODED = ("h264", "hevc", "av1", "vp9")
_TRIAL_PACKETS = 100
"""Where so many give no picture, the GPU does not know the codec, or not this size or profile of it."""
# DLPack's names of streams that come after all that CUDA's default stream holds, or need nothing of it.
_STREAMS_IN_ORDER = (None, -1, 0, 1)


class VideoGpu:
    """An NVIDIA GPU as FFmpeg uses it."""

    def __init__(self, number: int | None, *, shared: bool) -> None:
        """Open GPU ``number``, or the first one. Raises `VideoError` saying why it cannot be.

        ``shared`` is for pictures that stay on the GPU: FFmpeg then works in the device's primary context, as other
        CUDA code does. Have this object before that code starts: FFmpeg refuses a primary context that is set up with
        other flags than its own.
        """
        self.accelerator = HWAccel(
            "cuda",
            device=number,
            allow_software_fallback=True,
            options={"primary_ctx": "1" if shared else "0"},
            is_hw_owned=True,
        )
        """For PyAV's codecs, each of which opens the GPU by it."""
        with _explained("FFmpeg cannot use this GPU"):
            opened = self.accelerator.create(av.Codec("h264", "r"))
        self._held = opened if shared else None


def nvdec_obstacle(info: VideoInfo, form: FrameFormat, *, on_device: bool) -> str | None:
    """Why NVDEC does not serve for this video, on whatever GPU; None where it does.

    With ``on_device`` nothing can be converted: the stored pictures must be what ``form`` says.
    """
    obstacles: list[tuple[object, str]] = [
        (info.codec not in _DECODED, f"the video is {info.codec}"),
        (info.pixel_format not in ("yuv420p", "yuvj420p"), f"the video is {info.pixel_format}, not 8-bit 4:2:0"),
        (info.stored_color.wide, "the video is HDR or in BT.2020 colors"),
        (info.interlaced, "the video is interlaced"),
        (info.captions or info.stereo, "the video has closed captions or is stereo, which the processor carries over"),
        (info.crop, "the file asks for a part of the picture only"),
    ]
    if on_device:
        stored = guessed_matrix(info.color.matrix, form.height), info.color.range == Range.FULL
        converted = info.color != info.stored_color or stored != (form.matrix, form.full_range)
        odd = form.height % 2 or form.width % 2
        obstacles += [
            (info.rotation or info.mirrored, "the video is stored turned or mirrored"),
            (odd, f"the picture is {form.width}x{form.height}, and on the GPU sides are even"),
            (converted, "the colors of the video are converted"),
        ]
    return next((why for applies, why in obstacles if applies), None)


def nvdec_decoder(stream: VideoStream, codec: str, accelerator: HWAccel | None) -> VideoCodecContext:
    """A decoder for the packets of ``stream``, by FFmpeg's own name of ``codec``. Raises `VideoError`.

    Not the stream's own: that is dav1d for AV1, which knows no GPU, and PyAV would open the GPU for every picture
    track, covers too.
    """
    with _explained("FFmpeg cannot use this GPU"):
        decoder = cast(VideoCodecContext, CodecContext.create(codec, "r", accelerator))
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = 1  # the GPU does the work, and each thread would take pictures of its memory
    return decoder


def trial_obstacle(path: Path, codec: str, gpu: VideoGpu) -> str | None:
    """Decodes the first picture of ``path``: why ``gpu`` cannot; None where it can. Raises `VideoError`."""
    with open_input(path) as container:
        stream = video_stream(container, path)
        try:
            decoder = nvdec_decoder(stream, codec, gpu.accelerator)
        except VideoError as error:
            return str(error)
        for count, packet in enumerate(packets(container, stream)):
            frames: list[VideoFrame] = []
            with suppress(av.error.FFmpegError):
                frames = decoder.decode(packet)
            if frames and is_on_gpu(frames[0]):
                return None
            if frames or count == _TRIAL_PACKETS:
                break
        return f"this GPU does not decode {codec} of {stream.width}x{stream.height} as it is in the file"


class GpuPlane:
    """A plane of a decoded picture, in the memory of the GPU for as long as this object, or what took it, lives.

    It passes for an array where shapes and types are looked at, and `__dlpack__` gives it, without a copy, to whatever
    takes DLPack.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, plane: VideoPlane, shape: tuple[int, ...]) -> None:
        self._plane = plane
        self.shape = shape
        """(rows, columns), or (rows, columns, 2) with the two chroma samples beside each other."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._plane.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None, **_: object) -> object:
        """A capsule over the plane. Raises `BufferError` for another stream than CUDA's default one."""
        if stream not in _STREAMS_IN_ORDER:
            raise BufferError(f"{stream = }; let it wait for CUDA's default stream, and give none here")
        return self._plane.__dlpack__()


def gpu_planes(frame: VideoFrame, form: FrameFormat) -> Planes | None:
    """The planes of a decoded picture where it lies; None if it is not an NV12 picture of ``form`` on the GPU."""
    stored = frame.sw_format
    if stored is None or stored.name != form.pixels or (frame.height, frame.width) != form.size:
        return None
    # Arrays for whom they concern: see `GpuPlane`.
    return cast(Planes, tuple(GpuPlane(*pair) for pair in zip(frame.planes, form.plane_shapes, strict=True)))


class _Exporter(Protocol):
    def __dlpack_device__(self) -> tuple[int, int]: ...


class GpuFrames:
    """Makes the encoder's frames from NV12 planes that some other code has on the GPU, without a copy."""

    def __init__(self) -> None:
        self._context: CudaContext | None = None

    def frame(self, frame: Frame) -> VideoFrame:
        """A frame over the planes of ``frame``, which live as long. Raises `BadOption` where they are not NV12."""
        planes, form = frame.planes, frame.form
        if form.pixels != "nv12" or form.height % 2 or form.width % 2:
            raise BadOption(
                f"frames on the GPU are {form.pixels} of {form.width}x{form.height}; "
                "those to be encoded must be nv12 with even sides"
            )
        number = cast(_Exporter, planes[0]).__dlpack_device__()[1]
        if self._context is None or self._context.device_id != number:
            self._context = CudaContext(number, primary_ctx=True)
        return VideoFrame.from_dlpack(planes, "nv12", form.width, form.height, cuda_context=self._context)


def is_in_one_piece(frame: VideoFrame) -> bool:
    """Whether NVENC can read a picture of the GPU where it lies: it looks for the chroma right behind the luma."""
    if not is_on_gpu(frame):
        return False
    luma, chroma = frame.planes
    behind = luma.buffer_ptr + luma.line_size * frame.height
    return (chroma.buffer_ptr, chroma.line_size) == (behind, luma.line_size)


def nvenc_obstacle(codec: Codec, options: EncodeOptions, size: tuple[int, int], gpu: int | None) -> str | None:
    """Opens and closes the encoder: why it cannot encode ``size``, (height, width); None where it can.

    Raises `BadOption` for a crf or preset that it has not.
    """
    encoder = NVENC_ENCODERS.get(codec)
    if encoder is None:
        return f"NVENC does not write {codec}, only {', '.join(NVENC_ENCODERS)}"
    settings = encoder.settings(options) | gpu_setting(gpu)
    if encoder.name not in av.codecs_available:
        return f"this FFmpeg has no {encoder.name}"
    context = cast(VideoCodecContext, CodecContext.create(encoder.name, "w"))
    context.height, context.width = (side // 2 * 2 for side in size)
    context.pix_fmt, context.time_base, context.framerate = options.pixel_format, Fraction(1, 25), Fraction(25)
    context.options = settings
    try:
        with _explained("this GPU or its driver has no NVENC for that"):
            context.open()
    except VideoError as error:
        return f"{encoder.name} cannot encode {context.width}x{context.height} {options.pixel_format}: {error}"
    return None


def gpu_setting(number: int | None) -> dict[str, str]:
    """NVENC's option for GPU ``number``; without one it takes the first that can encode."""
    return {} if number is None else {"gpu": str(number)}


@contextmanager
def _explained(found: str) -> Generator[None, None, None]:
    """Raise FFmpeg's errors as `VideoError`: with what it logs on this thread, which says more than its error codes."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield
    except av.error.FFmpegError as error:
        raise VideoError(_reason(found, error, messages)) from error
    finally:
        av.logging.set_level(level)


def _reason(found: str, error: av.error.FFmpegError, messages: list[tuple[int, str, str]]) -> str:
    """``found`` with what FFmpeg and the driver say about it, or that there is no driver."""
    try:
        driver = nvidia_driver()
    except OSError as no_answer:
        return str(no_answer)
    if driver is None:
        return "this machine has no NVIDIA driver"
    said = "; ".join(dict.fromkeys(text.strip().rstrip(".") for _, _, text in messages))
    gpus = ", ".join(f"{number} {gpu.name}" for number, gpu in enumerate(driver.gpus)) or "none"
    return f"{found}: {said or error.strerror} (driver {driver.version}; GPUs here: {gpus})"
