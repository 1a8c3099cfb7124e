"""Frames into a video file, with everything else of the source beside them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import av
import av.error
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.video.stream import VideoStream

from vidstyle._renamed import renamed_attribute
from vidstyle.errors import BadOption, VideoError, VidstyleError, reason
from vidstyle.files import check_output, part_path, publish, publish_beside, write_failure
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import ClipOptions, Codec, EncodeOptions
from vidstyle.video.convert import PlaneWriter, has_captions
from vidstyle.video.demux import ffmpeg_reasons
from vidstyle.video.formats import (
    ENCODERS,
    MATRIX_BT709,
    MATRIX_SMPTE170M,
    NVENC_ENCODERS,
    RANGE_FULL,
    RANGE_LIMITED,
    ColorTags,
    Encoder,
    codec_for,
    container_for,
    guessed_matrix,
)
from vidstyle.video.info import VideoInfo
from vidstyle.video.nvcodec import VideoGpu, gpu_setting, nvenc_obstacle
from vidstyle.video.reader import TimeRange
from vidstyle.video.stream_copy import TrackCopier, file_tags, timecode_behind, unusual_tags


class VideoWriter:
    """A video file to write frames to, with the sound, subtitles, chapters and metadata of the source.

    It writes under another name in the same folder; `finish` gives the file its name, `abort` removes
    it. As a context manager it finishes, or aborts if there was an exception. Use it from one thread.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: VideoInfo,
        source_path: Path | None,
        form: FrameFormat,
        encode: EncodeOptions | None = None,
        clip: ClipOptions | None = None,
        overwrite: bool = False,
        gpu: int | None = None,
        on_device: bool = False,
    ) -> None:
        """Open ``path`` for frames of ``form``.

        ``source`` gives the times, colors and shape; the other tracks are copied from ``source_path``,
        if there is one. ``gpu`` is the one that encodes, if ``encode.encoder`` has one do that; ``on_device``
        says that frames (nv12) will lie there, which saves the copy where it encodes. Raises `BadOption`
        for what cannot be asked, `VideoError` for what cannot be written.
        """
        encode, clip = encode or EncodeOptions(), clip or ClipOptions()
        self.path = path
        self.notes: list[str] = []
        """What the output does not keep of the source, or what was done to keep it; a sentence each."""
        container = container_for(path)
        codec = codec_for(path, encode)
        self._form = form
        self._loses_captions = codec not in ("h264", "hevc")
        self._encoder = ENCODERS[codec] if encode.encoder == "software" else self._hardware(codec, encode, gpu)
        settings = self._encoder.settings(encode)
        check_output(path, overwrite=overwrite, source=source_path)
        self._overwrite = overwrite
        self._aspect = source.sample_aspect_ratio
        kept = self._codec_size(encode)
        self._size = kept
        if self._aspect not in (None, 1) and container.muxer in ("matroska", "webm") and codec not in ("h264", "hevc"):
            self._size = self._square(kept)
        self._pixel_format: Literal["yuv420p", "yuv444p", "nv12"] = encode.pixel_format
        self._gpu: VideoGpu | None = None
        if self._encoder in NVENC_ENCODERS.values():
            settings |= gpu_setting(gpu)
            if form.pixels == "nv12" and encode.pixel_format == "yuv420p":
                self._pixel_format = "nv12"  # as it comes
                self._gpu = VideoGpu(gpu, shared=True) if on_device and kept == self._size else None
        self._writer = PlaneWriter(form, self._pixel_format, kept, self._size, on_gpu=self._gpu is not None)
        self._time_base = source.time_base
        span = self._span = TimeRange.of(source, clip)
        self._shift = int(span.shift / source.time_base)
        # Matroska counts milliseconds; MP4 takes the source's own ticks, or finer ones.
        self._tick = 1 if container.muxer in ("mp4", "mov") else math.ceil(_MILLISECOND / source.time_base)
        self._last_pts: int | None = None
        self._closed = False
        self._part = part_path(path)
        try:
            # Made here, so that a missing folder is told before the network is compiled; and so that it
            # has the permissions that any new file of the user has.
            os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise VideoError(write_failure(path, error)) from error
        self._tracks: TrackCopier | None = None
        tags = file_tags(source.tags) if source_path is not None else {}
        self._file: OutputContainer = av.open(
            os.path.abspath(self._part),
            "w",
            format=container.muxer,
            container_options=_muxer_options(container.muxer, source, tags),
        )
        try:
            self._file.metadata.update(tags)
            if container.muxer == "mp4" and unusual_tags(tags) and not _takes_free_form(source, tags):
                self._note(f"MP4 has no place for the tags {', '.join(unusual_tags(tags))} beside a cover")
            if source_path is not None:
                self._tracks = TrackCopier(source_path, self._file, container.muxer, span, source.clock)
            self._stream = self._open_streams(source, codec, encode, settings)
            with ffmpeg_reasons():
                self._file.start_encoding()  # writes the header, so that what it cannot hold is told before the work
            if self._tracks is not None:
                self.notes.extend(self._tracks.notes)
        except BaseException as error:
            self.abort()
            if isinstance(error, av.error.FFmpegError | OSError) and not isinstance(error, VidstyleError):
                raise VideoError(write_failure(path, error)) from error
            raise

    def write(self, frame: Frame) -> None:
        """Encode ``frame``, shown at its own ``pts`` (less the clip's start). Raises `VideoError`."""
        pts = frame.pts - self._shift
        if self._last_pts is not None and pts < self._last_pts + self._tick:
            # Two frames at one time: no container can hold that.
            pts = self._last_pts + self._tick
            self._note("some frames have the same time as the one before: they are shown one tick later")
        self._last_pts = pts
        if self._loses_captions and has_captions(frame.beside):
            self._loses_captions = False  # which is told once
            self._note(f"{self._encoder.name} writes no closed captions: they are left out (H.264 and HEVC keep them)")
        try:
            made = self._writer.write(frame, pts, self._time_base)
            self._mux(self._stream.encode(made))
        except av.error.FFmpegError as error:
            raise VideoError(write_failure(self.path, error)) from error

    def finish(self) -> None:
        """Write what is still under way and give the file its name.

        Raises `VideoError`, and `BadOption` if somebody else has taken the name meanwhile: then it gets another.
        """
        if self._closed:
            return
        try:
            if self._last_pts is None:
                raise VideoError(f"cannot write {self.path}: there is no picture to write")
            self._mux(self._stream.encode(None))
            if self._tracks is not None:
                self._tracks.finish()
                for note in self._tracks.notes:
                    self._note(note)
            with ffmpeg_reasons():
                self._file.close()
            try:
                publish(self._part, self.path, overwrite=self._overwrite)
            except BadOption as error:
                other = publish_beside(self._part, self.path)
                raise BadOption(f"{error}; what was made meanwhile is {other}") from error
        except BaseException as error:
            self.abort()
            if isinstance(error, av.error.FFmpegError | OSError) and not isinstance(error, VidstyleError):
                raise VideoError(write_failure(self.path, error)) from error
            raise
        self._closed = True
        if self._tracks is not None:
            self._tracks.close()

    def abort(self) -> None:
        """Give up: nothing is left of the file. Calling it twice is fine, and after `finish` it does nothing."""
        if self._closed:
            return
        self._closed = True
        # First the name, then the file: closing it would write the index and, for MP4, move all of it
        # to the front, which takes long and is for nothing.
        with contextlib.suppress(OSError):
            self._part.unlink()
        if self._tracks is not None:
            self._tracks.close()
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    @property
    def encoder(self) -> str:
        """FFmpeg's name of what encodes."""
        return self._encoder.name

    def _hardware(self, codec: Codec, encode: EncodeOptions, gpu: int | None) -> Encoder:
        try:
            obstacle = nvenc_obstacle(codec, encode, self._form.size, gpu)
        except BadOption as error:
            if encode.encoder == "nvenc":
                raise
            obstacle = str(error)
        if obstacle is None:
            return NVENC_ENCODERS[codec]
        if encode.encoder == "nvenc":
            raise VideoError(f"{obstacle}; encode in software, by {ENCODERS[codec].name}")
        self._note(f"NVENC is not used, {ENCODERS[codec].name} encodes: {obstacle}")
        return ENCODERS[codec]

    def _codec_size(self, encode: EncodeOptions) -> tuple[int, int]:
        height, width = self._form.size
        if width < self._encoder.least_width:
            raise BadOption(
                f"picture is {width}x{height}; {self._encoder.name} is only trusted with widths from "
                f"{self._encoder.least_width} pixels: use --codec h264, or a larger --size"
            )
        if encode.pixel_format == "yuv444p" or self._encoder.takes_odd_420:
            return height, width
        even = (height // 2 * 2, width // 2 * 2)
        if 0 in even:
            raise BadOption(f"picture is {width}x{height}; {self._encoder.name} needs at least 2x2 pixels")
        lost = [what for what, a, b in (("row", height, even[0]), ("column", width, even[1])) if a != b]
        if lost:
            self.notes.append(
                f"{self._encoder.name} needs even sides for 4:2:0: the last {' and the last '.join(lost)} of "
                f"{width}x{height} {'is' if len(lost) == 1 else 'are'} left out (AV1, VP9 and yuv444p keep odd sizes)"
            )
        return even

    def _square(self, size: tuple[int, int]) -> tuple[int, int]:
        # Neither the codec nor, by way of PyAV, the container has a place for the shape of pixels.
        aspect, (height, width) = self._aspect or Fraction(1), size
        square = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
        self._note(
            f"pixels of {aspect.numerator}:{aspect.denominator} cannot be written with {self._encoder.name}: "
            f"the picture is scaled from {width}x{height} to {square[1]}x{square[0]}, so that it looks the same"
        )
        self._aspect = None
        return square

    def _open_streams(
        self, source: VideoInfo, codec: str, encode: EncodeOptions, settings: dict[str, str]
    ) -> VideoStream:
        tracks = self._tracks
        if tracks is not None:
            tracks.add_chapters()
            tracks.add_tracks(range(source.index))
        color = _written_tags(source.color, self._form, self._size[0])
        if color.chroma_location is not None and encode.pixel_format == "yuv420p":
            settings["chroma_sample_location"] = color.chroma_location
        if self._encoder.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; else it writes a page about itself to stderr
        stream: VideoStream = self._file.add_stream(  # type: ignore[assignment]
            self._encoder.name,
            rate=source.rate or 25,
            options=settings,
            hwaccel=None if self._gpu is None else self._gpu.accelerator,
        )
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        context.height, context.width = self._size
        context.pix_fmt = self._pixel_format
        context.flags |= CodecFlags.frame_duration
        context.thread_type = "AUTO"  # PyAV asks for slices, which x264 codes at a lower use of the cores
        context.color_range = color.range
        context.colorspace = color.matrix
        context.color_primaries = color.primaries
        context.color_trc = color.transfer
        if self._aspect is not None:
            context.sample_aspect_ratio = self._aspect
        if codec == "hevc" and self._file.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # the name by which Apple's players know it
        if tracks is not None:
            tracks.take_tags(source.index, stream, "the video track")
            tracks.add_tracks(range(source.index + 1, tracks.count))
        self._mark(stream, source)
        if source.timecode is not None:
            self._set_timecode(stream, source, source.timecode)
        try:
            with keep_scheduling(), ffmpeg_reasons():
                context.open()
        except av.error.FFmpegError as error:
            height, width = self._size
            raise VideoError(
                f"{self._encoder.name} cannot encode {width}x{height} {encode.pixel_format}: {reason(error)}; "
                "choose another codec, size or crf"
            ) from error
        return stream

    def _set_timecode(self, stream: VideoStream, source: VideoInfo, timecode: str) -> None:
        rate = Fraction(source.rate or 25)
        moved = timecode_behind(timecode, rate, self._span.pictures_before(source.start, rate))
        if moved is None:
            self._note(f"{timecode!r} is no time code at {float(rate):.4g} pictures a second: it is left out")
        else:
            stream.metadata["timecode"] = moved

    def _mark(self, stream: VideoStream, source: VideoInfo) -> None:
        """Say in the output that the video is stereo or a 360-degree one, as far as that can be written."""
        muxer = self._file.format.name
        if source.stereo is not None:
            if muxer == "matroska" or (muxer == "webm" and source.stereo in _STEREO_IN_WEBM):
                stream.metadata["stereo_mode"] = source.stereo
            elif self._encoder.name != "libx264":  # which writes it into its own stream
                self._note(
                    f"the video is stereo ({source.stereo}): the mark that says so is left out "
                    "(Matroska keeps it, and so does H.264 by the processor)"
                )
        if source.spherical:
            self._note(
                "the video is marked as a 360-degree one: the mark is left out; "
                "put it back with a tool for it, such as Spatial Media Metadata Injector"
            )

    def _mux(self, packets: list[av.Packet[VideoStream]]) -> None:
        for packet in packets:
            if self._tracks is not None and packet.dts is not None:
                self._tracks.copy_until(packet.dts * packet.time_base)
            self._file.mux_one(packet)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _takes_free_form(source: VideoInfo, tags: dict[str, str]) -> bool:
    # In the free form FFmpeg writes no cover.
    return bool(unusual_tags(tags)) and not any(track.kind == "cover" for track in source.tracks)


_STEREO_IN_WEBM = ("left_right", "right_left", "top_bottom", "bottom_top")
_MILLISECOND = Fraction(1, 1000)
_FINEST_TIMESCALE = 10_000_000


def _muxer_options(muxer: str, source: VideoInfo, tags: dict[str, str]) -> dict[str, str]:
    if muxer not in ("mp4", "mov"):
        # A first sound packet may lie before 0, to start the decoder; without this option the muxer would
        # move everything, the pictures too, to a later time.
        return {"avoid_negative_ts": "disabled"}
    # The index goes to the front, so that players can begin before they have the whole file.
    flags = "faststart+use_metadata_tags" if _takes_free_form(source, tags) else "faststart"
    # The unit in which MP4 says when a track begins; FFmpeg's own, a millisecond, is too coarse to be exact.
    bases = [source.time_base, *(t.time_base for t in source.tracks if t.kind == "audio" and t.time_base)]
    exact = math.lcm(*(base.denominator for base in bases))
    return {
        "movflags": flags,
        "movie_timescale": str(exact if exact <= _FINEST_TIMESCALE else source.time_base.denominator),
    }


def _written_tags(color: ColorTags, form: FrameFormat, height: int) -> ColorTags:
    """What the output says: as the source, but explicit where players would guess the frames wrong."""
    matrix, color_range = color.matrix, color.range
    if guessed_matrix(matrix, height) != form.matrix:
        matrix = MATRIX_BT709 if form.matrix == "bt709" else MATRIX_SMPTE170M
    if (color_range == RANGE_FULL) != form.full_range:
        color_range = RANGE_FULL if form.full_range else RANGE_LIMITED
    return replace(color, matrix=matrix, range=color_range)


_THREADS = Path("/proc/self/task")


@contextmanager
def keep_scheduling() -> Generator[None, None, None]:
    """Open an encoder within: this thread, and those that the encoder begins, are scheduled as this one was before.

    SVT-AV1 makes the thread that opens it, and its own, real-time ones (SCHED_FIFO, priority 99) where it may,
    which is for root, so in most containers. Whatever such a thread starts later inherits that, and nothing else
    on the machine gets a processor while two of them are busy.
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
        return {int(entry.name) for entry in _THREADS.iterdir()}
    except OSError:
        return set()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return renamed_attribute(__name__, name)
