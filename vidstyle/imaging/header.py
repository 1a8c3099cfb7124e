"""What the first bytes of a picture say, read before any decoder takes memory for it.

A decoder allocates what the header claims, and a file of 100 bytes can claim 60000 x 60000 pixels.
Only the formats that are recognized here ever reach a decoder.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vidstyle.errors import ImageError
from vidstyle.options import MAX_SIDE

PictureFormat = Literal["png", "jpeg", "webp", "bmp", "tiff"]

MAX_PIXELS = 1 << 27
"""The most pixels a still may have (16384 x 8192), whatever its shape."""

_FOREIGN = {b"GIF8": "GIF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xm": "SVG", b"8BPS": "PSD", b"P6\n": "PPM"}
# File type brands of ISO media, at byte 8.
_FOREIGN_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
_ORIENTATION, _WIDTH, _HEIGHT, _PHOTOMETRIC = 0x112, 0x100, 0x101, 0x106
_NEXT = -1
_TIFF_KINDS = {
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "raw camera",
    34892: "raw",
}


@dataclass(frozen=True)
class PictureHeader:
    """Format and size of a picture, as its header claims them."""

    format: PictureFormat
    """Container; says nothing about the file's name."""
    height: int
    """Rows as stored, before any EXIF orientation."""
    width: int
    """Columns as stored."""
    animated: bool = False
    """It holds more pictures than the first: an animation, or pages of a TIFF."""
    kind: str | None = None
    """What a TIFF holds, where it is neither gray nor RGB nor a palette: CMYK, say."""


def read_header(data: bytes, name: str) -> PictureHeader:
    """The header of a whole picture file; ``name`` is for the message.

    Raises `ImageError` where it is none of the formats, is cut inside its header, or is larger than
    `MAX_SIDE` on a side or `MAX_PIXELS` in all.
    """
    if not data:
        raise ImageError(f"{name} is empty")
    try:
        header = _header(data)
    except (struct.error, IndexError, KeyError) as error:
        raise ImageError(f"{name} is cut short or damaged: its header does not give a size") from error
    if header is None:
        found = _FOREIGN.get(data[:4]) or _FOREIGN.get(data[:3])
        if data[4:8] == b"ftyp":
            found = _FOREIGN_BRANDS.get(data[8:12], "video")
        what = f"is {found}" if found else "is not a picture"
        raise ImageError(f"{name} {what}; vidstyle reads PNG, JPEG, WebP, BMP and TIFF pictures")
    if min(header.height, header.width) < 1:
        raise ImageError(f"{name} claims {header.width}x{header.height} pixels, which is no picture")
    if max(header.height, header.width) > MAX_SIDE or header.height * header.width > MAX_PIXELS:
        raise ImageError(
            f"{name} claims {header.width}x{header.height} pixels; at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 10**6} million in all are read: make it smaller first"
        )
    return header


def _header(data: bytes) -> PictureHeader | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", data, 16)
        # An animation announces itself before the first picture.
        return PictureHeader("png", height, width, b"acTL" in data[:4096])
    if data.startswith(b"\xff\xd8\xff"):
        return PictureHeader("jpeg", *_jpeg_size(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(b"BM"):
        (header_bytes,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
        return PictureHeader("bmp", abs(height), width)  # a negative height means top-down rows
    if data[:4] in (b"II*\0", b"MM\0*"):
        tags = read_ifd(data)
        return PictureHeader(
            "tiff", tags[_HEIGHT], tags[_WIDTH], _NEXT in tags, _TIFF_KINDS.get(tags.get(_PHOTOMETRIC, 2))
        )
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # padding before a marker
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0xD9, 0xDA):
            raise IndexError("no frame before the first scan")
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # tables share the range
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + length


def _webp(data: bytes) -> PictureHeader:
    kind = data[12:16]
    if kind == b"VP8X":  # extended: 24-bit sizes, less one
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return PictureHeader("webp", height, width, bool(data[20] & 2))
    if kind == b"VP8L":  # lossless: two 14-bit sizes, less one
        (bits,) = struct.unpack_from("<I", data, 21)
        return PictureHeader("webp", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)  # lossy: the upper two bits ask for upscaling
    return PictureHeader("webp", height & 0x3FFF, width & 0x3FFF)


def read_ifd(data: bytes) -> dict[int, int]:
    """Whole-number tags of the first directory of a TIFF file or an EXIF block; `_NEXT` is where another one lies.

    Raises `struct.error` where it is cut.
    """
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if kind in (3, 4):  # SHORT and LONG
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)
    following = data[at + 2 + 12 * count : at + 6 + 12 * count]
    if any(following):
        tags[_NEXT] = int.from_bytes(following, "little" if order == "<" else "big")
    return tags


def exif_orientation(exif: bytes) -> int:
    """How the camera was held, 1 (upright) to 8, from an EXIF block; 1 where it does not say."""
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        orientation = read_ifd(exif).get(_ORIENTATION, 1)
    except struct.error:
        return 1  # a damaged note about the picture does not make the picture unreadable
    return orientation if 1 <= orientation <= 8 else 1


def png_chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """``(type, payload)`` of each chunk of a PNG file up to its end, checksums checked.

    libpng complains about a damaged file on stderr, past the caller; this finds the damage first.
    """
    at = 8
    while True:
        length = int.from_bytes(data[at : at + 4], "big")
        kind, payload = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        if len(checksum) < 4:
            raise ImageError(f"{name} is cut short: it ends before its last part")
        if zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise ImageError(f"{name} is damaged: a checksum in it is wrong")
        yield kind, payload
        if kind == b"IEND":
            return
        at += 12 + length
