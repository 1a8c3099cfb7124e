"""Opening media files that nobody vouches for, their packets on one clock, and the pictures in these."""

from __future__ import annotations

import numbers
import os
import stat
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import av.logging
from av.codec import CodecContext
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidstyle.errors import VideoError, reason
from vidstyle.options import MAX_SIDE
from vidstyle.video.formats import BROADCAST, READABLE

MAX_PIXELS = 1 << 26
"""The largest picture, 67 megapixels, that a decoder may take memory for (8K is 33)."""
ONE_THREAD_PIXELS = 1920 * 1088
"""Up to Full HD one thread decodes faster than any network runs, and at a tenth less cost than several."""
READ_ERRORS_ALLOWED = 100
_SILENCE_SECONDS = 5.0  # how long a live source may say that it has nothing yet before it is taken for lost
FARTHEST_SECONDS = 5.0
"""Streams of one clock are never further apart in the file."""
_STILLS = {b"\x89PNG\r\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
# Where Ogg files were joined, FFmpeg gives the headers of the next one as packets, and the last packet a duration below
# 0, which 32 bits without a sign make huge.
_OGG_HEADERS = (b"\x80theora", b"\x81theora", b"\x82theora", b"OVP80", b"Speex   ")
_BELOW_ZERO = 1 << 31
_READ_AGAIN = "a video is read more than once, so write it to a file first and name that"
_KEEPS_STRANGE_BYTES = not hasattr(InputContainer, "metadata_errors")
"""PyAV 19 reads any tags, bytes that are not UTF-8 as surrogates; 18 has to be asked to."""


def open_input(path: Path) -> InputContainer:
    """The demuxer for ``path``, close it after use. Raises `VideoError` naming the file."""
    try:
        _check_kind(path)
        with path.open("rb") as file:
            head = file.read(32)
    except VideoError:
        raise
    except FileNotFoundError as error:
        raise VideoError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot read {path}: {reason(error)}") from error
    if not head:
        raise VideoError(f"{path} is empty; name a video file")
    still = next((name for magic, name in _STILLS.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        still = "WebP"
        if head[12:16] == b"VP8X" and head[20] & 2:
            raise VideoError(
                f"{path} is an animated WebP, which FFmpeg cannot read; make a GIF or a video of it first, for example "
                "with ImageMagick: `magick IN.webp OUT.gif`"
            )
    if still is not None and not _is_animated_png(path, head):
        raise VideoError(f"{path} is a {still} picture, not a video; stylize stills with `vidstyle image`")
    try:
        with ffmpeg_reasons():
            return open_demuxer(
                # An absolute path never looks like a protocol ("pipe:0") or an option.
                os.path.abspath(path),
                options={"max_pixels": str(MAX_PIXELS)},
                # Together they keep a hostile file from having others opened.
                container_options={"format_whitelist": READABLE, "protocol_whitelist": "file"},
            )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if b"ftyp" in head and not _has_index(path):
            raise VideoError(
                f"{path} is cut off: the index at its end is missing, so no frame can be found; copy or record it again"
            ) from error
        raise VideoError(
            f"{path} is not a video that can be read, or it is damaged at the start: {reason(error)}"
        ) from error


_asking = 0
_asking_lock = threading.Lock()
_usual_level: int | None = None


@contextmanager
def ffmpeg_reasons() -> Iterator[None]:
    """Within the block FFmpeg's errors carry what it last said, which `vidstyle.errors.reason` then gives.

    It is for what is short: a decoder's thread that has something to say meanwhile waits for Python.
    """
    global _asking, _usual_level
    with _asking_lock:
        if not _asking:
            _usual_level = av.logging.get_level()
        _asking += 1
        av.logging.set_level(av.logging.PANIC)  # errors are kept for whoever raises them, and nothing is printed
    try:
        yield
    finally:
        with _asking_lock:
            _asking -= 1
            if not _asking:
                av.logging.set_level(_usual_level)


def open_demuxer(address: str, **options: Any) -> InputContainer:
    """`av.open` for reading, whatever the encoding of the tags: bytes that are not UTF-8 come as surrogates."""
    surrogates: dict[str, Any] = {} if _KEEPS_STRANGE_BYTES else {"metadata_errors": "surrogateescape"}
    container: InputContainer = av.open(address, "r", **surrogates, **options)
    return container


def known(value: numbers.Rational | None) -> Fraction | None:
    """A rate, time base or aspect ratio of PyAV's, None where FFmpeg does not know it.

    For that PyAV 18 gives None, and 19 a rational that is falsy; and only 18's rationals are Fractions.
    """
    return Fraction(value) if value else None


def video_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """The picture track: the first video track that is not cover art and is no larger than is safe."""
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        kinds = "sound but no picture" if container.streams.audio else "no video track"
        raise VideoError(f"{path} has {kinds}; name a file with a video track")
    # A broadcast may name a track that it does not send.
    pictures = [s for s in pictures if s.codec_context is None or s.codec_context.width] or pictures
    # A file may mark one of several as the default; else it is the first.
    stream = next((s for s in pictures if s.disposition & Disposition.default), pictures[0])
    if stream.codec_context is None:
        raise VideoError(f"{path} has a video track in a codec that FFmpeg cannot decode")
    width, height = stream.codec_context.width, stream.codec_context.height
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise VideoError(
            f"{path} is {width}x{height}; at most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all are accepted"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """The packets of ``streams``, and at the end one without data for each, which empties its decoder."""
    demuxed = container.demux(*streams)
    while True:
        try:
            packet = next(demuxed, None)
        except IndexError:
            # PyAV cannot end a file in which tracks turned up after it was opened, as they may in FLV.
            for stream in streams:
                last: Packet[Any] = Packet()
                last.stream, last.time_base = stream, stream.time_base or Fraction(1, 1000)
                yield last
            return
        if packet is None:
            return
        if container.format.name == "ogg" and packet.size:
            if bytes(memoryview(packet)[:8]).startswith(_OGG_HEADERS):
                continue
            if packet.duration and packet.duration >= _BELOW_ZERO:
                packet.duration = 0
        yield packet


class SourceLost(Exception):
    """A live source has stopped delivering."""


def live_packets(
    container: InputContainer, stop: threading.Event, *streams: Stream, poll_seconds: float
) -> Iterator[Packet[Any]]:
    """The packets of a live source, which is asked again where it has nothing yet, until it ends or ``stop`` is set.

    Raises `SourceLost`.
    """
    demuxed, asked = packets(container, *streams), time.monotonic()
    while not stop.is_set():
        try:
            packet = next(demuxed, None)
        except av.error.BlockingIOError:
            if time.monotonic() - asked > _SILENCE_SECONDS:
                raise SourceLost("it has gone silent") from None
            stop.wait(poll_seconds)
            demuxed = packets(container, *streams)
            continue
        except av.error.FFmpegError as error:
            raise SourceLost(error.strerror or type(error).__name__) from error
        if packet is None:
            return
        asked = time.monotonic()
        yield packet


def ends_stream(packet: Packet[Any]) -> bool:
    return not packet.size and packet.dts is None and packet.pts is None


def packet_seconds(packet: Packet[Any]) -> Fraction:
    return ((packet.dts if packet.pts is None else packet.pts) or 0) * packet.time_base


@dataclass(frozen=True)
class Part:
    """A stretch of the file with one clock, as its picture packets are numbered from 0."""

    first: int
    """The first packet."""
    key: int
    """The first that can be decoded without those before; equal to ``first`` where no key frame was found."""
    begin: Fraction
    """Corrected time, in seconds, at which packet ``key`` is shown."""
    fresh: bool
    """Whether decoding begins anew there, as nothing of the part before is needed."""


@dataclass(frozen=True)
class FileClock:
    """What is added to the times of a file's packets, so that they count evenly from its start to its end."""

    moves: dict[int, list[tuple[int, Fraction]]] = field(default_factory=dict, hash=False)
    """By stream: the number of the packet (from 0) from which on times are moved, and by how many seconds."""
    parts: tuple[Part, ...] = ()
    """What the file was joined of: one part if its clock never breaks, none where that was not looked for."""
    start: Fraction | None = None
    """Seconds at which the first picture is shown or the first sound heard; None where that was not looked for."""
    end: Fraction | None = None
    """Seconds at which the last of them ends; None as for ``start``."""

    def move(self, stream: int, number: int) -> Fraction:
        """Seconds to add to the times of packet ``number`` of ``stream``."""
        moves = self.moves.get(stream, [])
        place = bisect_right(moves, number, key=lambda move: move[0])
        return moves[place - 1][1] if place else Fraction(0)


class PtsGuard:
    """When packets are shown: where a clock breaks, FFmpeg may take that time from the other side of the break."""

    WRAP = 2**33

    def __init__(self, container: InputContainer) -> None:
        self._wraps = container.format.name in BROADCAST
        self._delays: dict[int, int] = {}  # how long after its decoding a packet of each stream was last shown

    def pts(self, packet: Packet[Any]) -> int | None:
        if packet.pts is None or packet.dts is None:
            return packet.pts
        delay = packet.pts - packet.dts
        if self._wraps:
            delay %= self.WRAP
        if 0 <= delay * packet.time_base <= FARTHEST_SECONDS:
            self._delays[packet.stream.index] = delay
            return packet.dts + delay
        return packet.dts + self._delays.get(packet.stream.index, 0)


class PacketReader:
    """The packets of some streams of an open file, from its beginning, in the file's corrected time.

    A damaged place raises `av.error.FFmpegError`; reading may go on behind it. The markers that end a stream are left
    out: empty the decoder yourself.
    """

    def __init__(self, container: InputContainer, clock: FileClock, *streams: Stream) -> None:
        self._container = container
        self._streams = streams
        self._clock = clock
        self._numbers: dict[int, int] = {}
        self._guard = PtsGuard(container)
        self._overlaps = bool(clock.moves) or container.format.name in BROADCAST
        self._sounds: dict[int, tuple[Fraction, Fraction]] = {}
        self._demuxed: Iterator[Packet[Any]] | None = None

    def __iter__(self) -> Iterator[Packet[Any]]:
        return self

    def __next__(self) -> Packet[Any]:
        while True:
            if self._demuxed is None:
                self._demuxed = packets(self._container, *self._streams)
            try:
                packet = next(self._demuxed)
            except av.error.FFmpegError:
                self._demuxed = None
                raise
            if not ends_stream(packet) and (not self._clock.parts or self._corrected(packet)):
                return packet

    def number(self, stream: Stream) -> int:
        """The number of the last packet of ``stream``, from 0."""
        return self._numbers.get(stream.index, 0) - 1

    def _corrected(self, packet: Packet[Any]) -> bool:
        """Move the times of ``packet``; False if it is sound of a time that the part before has filled."""
        stream = packet.stream
        number = self._numbers.get(stream.index, 0)
        self._numbers[stream.index] = number + 1
        packet.pts = self._guard.pts(packet)
        seconds = self._clock.move(stream.index, number)
        if seconds:
            move_packet(packet, round(seconds / packet.time_base))
        if stream.type != "audio" or packet.pts is None or not self._overlaps:
            return True
        begin, length = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
        before = self._sounds.get(stream.index)
        overlaps = before is not None and (begin <= before[0] or begin + length / 2 < before[1])
        if overlaps and not packet.has_sidedata("new_extradata"):  # without which what follows cannot be decoded
            return False
        self._sounds[stream.index] = begin, begin + length
        return True


def move_packet(packet: Packet[Any], ticks: int) -> None:
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


class PictureDecoder:
    """FFmpeg's decoder of one picture track, or another in its place. Use it from one thread.

    The ``opaque`` of each picture is the width of its pixels over their height, None where nothing says it.
    """

    def __init__(self, stream: VideoStream, context: VideoCodecContext | None = None) -> None:
        """``context`` decodes instead of the stream's own, where one is given."""
        self._context = context or _alpha_decoder(stream) or stream.codec_context
        # Else what H.264 and HEVC say is to be cropped at the left is not, or not in full, for the sake of alignment.
        self._context.flags |= Flags.unaligned
        self._has_sequences = self._context.codec.canonical_name in ("mpeg1video", "mpeg2video")
        self._time_base = stream.time_base or Fraction(1, 90000)
        self._sequence: bytes | None = None

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width of a pixel over its height, of what was decoded last; None where nothing says it."""
        return known(self._context.sample_aspect_ratio)

    def decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """The pictures that are ready. Raises `FFmpegError`."""
        held: list[VideoFrame] = []
        sequence = _sequence(packet) if self._has_sequences and packet.size else None
        if sequence is not None and sequence != self._sequence:
            if self._sequence is not None:
                # FFmpeg's decoder forgets the picture that it holds back where another size begins, or its shape.
                held = self.drain()
            self._sequence = sequence
        return [*held, *self._shaped(self._context.decode(packet))]

    def drain(self) -> list[VideoFrame]:
        """The pictures that are held back; what is decoded next begins anew."""
        end = cast("Packet[VideoStream]", Packet())
        end.time_base = self._time_base
        try:
            return self._shaped(self._context.decode(end))
        except av.error.FFmpegError:
            return []
        finally:
            self._context.flush_buffers()

    def _shaped(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        if frames and (aspect := self.sample_aspect_ratio) is not None:
            for frame in frames:
                frame.opaque = aspect
        return frames


def is_on_gpu(frame: VideoFrame) -> bool:
    """Whether the picture is in the memory of an NVIDIA GPU."""
    return frame.format.name == "cuda"


def on_host(frame: VideoFrame) -> VideoFrame:
    """The picture in host memory, as yuv420p if it was on the GPU; others as they are."""
    return frame.reformat(format="yuv420p", threads=1) if is_on_gpu(frame) else frame


def _alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """What reads the transparency of VP8 and VP9 in WebM, which FFmpeg's own decoders leave out."""
    own = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(own.codec.canonical_name)
    if stream.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
        return None
    decoder = cast(VideoCodecContext, CodecContext.create(name, "r"))
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = own.thread_count
    return decoder


def _sequence(packet: Packet[VideoStream]) -> bytes | None:
    """Size, shape of the pixels and chroma format, where an MPEG-1 or MPEG-2 packet begins with them."""
    head = bytes(memoryview(packet)[:256])
    place = head.find(b"\0\0\1\xb3")
    if place < 0 or len(head) < place + 8:
        return None
    extension = head.find(b"\0\0\1\xb5", place)
    # In the extension stand the level, the chroma format and the upper bits of the size.
    rest = b"" if extension < 0 else head[extension + 5 : extension + 7]
    return head[place + 4 : place + 7] + bytes([head[place + 7] & 0xF0]) + rest


def _check_kind(path: Path) -> None:
    """Raise `VideoError` unless ``path`` can be a video file; `OSError` where it cannot be looked at."""
    if str(path) == "-" and not path.exists():
        raise VideoError(f"- is standard input, a pipe: {_READ_AGAIN}")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise VideoError(f"{path} is a folder; name a video file")
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise VideoError(f"{path} is a pipe: {_READ_AGAIN}")
    if stat.S_ISCHR(mode):
        raise VideoError(f"{path} is a device; name a video file (`vidstyle webcam` plays cameras)")


def _is_animated_png(path: Path, head: bytes) -> bool:
    if not head.startswith(b"\x89PNG"):
        return False
    with path.open("rb") as file:
        return b"acTL" in file.read(4096)


def _has_index(path: Path) -> bool:
    """Whether an MP4 or MOV file has its ``moov`` box: walks the top-level boxes, reads no content."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if kind == b"moov":
                return True
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if length < 8:
                return False
            position += length
    return False
