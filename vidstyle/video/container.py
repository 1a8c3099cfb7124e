"""Opening media files that nobody vouches for."""

from __future__ import annotations

import numbers
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from vidstyle.errors import VideoError, reason

# Demuxers that read the named file and nothing else. Left out on purpose: playlists and everything
# else that names other files (concat, hls, dash, sdp, imf, vobsub, image2), devices, and raw formats
# that fit any bytes. With `protocol_whitelist` this keeps a hostile file from having others opened.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,ivf,obu,av1,"
    "h264,hevc,m4v,yuv4mpegpipe,gif,apng,dv,rm,wtv,mjpeg,"
    "mp3,wav,flac,aac,ac3,aiff,w64,caf"  # sound alone: opened only to say so
)
MAX_PIXELS = 1 << 26
"""The largest picture, 67 megapixels, that a decoder may take memory for (8K is 33)."""

_STILLS = (
    (b"\x89PNG\r\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)

# Where Ogg files were joined, FFmpeg gives the headers of the next one as packets, and the last packet a duration
# below 0, which 32 bits without a sign make huge.
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
    still = next((name for magic, name in _STILLS if head.startswith(magic)), None)
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
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
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
