"""Still pictures: files and bytes to 8-bit RGB with alpha, and back.

A decoder allocates what the header claims, and a file of 100 bytes can claim 60000 x 60000 pixels. So headers are read
here first, and only the formats that are recognized here ever reach a decoder. Pillow would do that, too, but it reads
a damaged JPEG without a word, cuts 16 bits to 8, forgets the transparent gray of 2-bit PNGs, and has its limits for a
whole process.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidstyle import files
from vidstyle.errors import BadOption, ImageError, reason
from vidstyle.frame import as_rgb
from vidstyle.options import MAX_SIDE, check_kind

PictureFormat = Literal["png", "jpeg", "webp", "bmp", "tiff"]

MAX_PIXELS = 1 << 27
"""The most pixels a still may have (16384 x 8192), whatever its shape."""

_FOREIGN = {b"GIF8": "GIF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xm": "SVG", b"8BPS": "PSD", b"P6\n": "PPM"}
# File type brands of ISO media, at byte 8.
_FOREIGN_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
_ORIENTATION, _WIDTH, _HEIGHT, _PHOTOMETRIC = 0x112, 0x100, 0x101, 0x106
_NEXT = -1
_TIFF_KINDS = {4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "raw", 34892: "raw"}
MAX_FILE_BYTES = 1 << 30
"""The largest picture file that is read: `MAX_PIXELS` of 16-bit RGBA, uncompressed."""
_MAX_PROFILE_BYTES = 4 << 20

FORMATS: dict[str, PictureFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".bmp": "bmp"}
FORMATS |= {".tif": "tiff", ".tiff": "tiff"}
"""The file endings that are read and written."""
_KEEPS_ALPHA = ("png", "webp", "tiff")
_KEEPS_PROFILE = ("png", "jpeg", "webp")

# Strong flat colors next to each other are what a painting is made of and what halved chroma blurs.
_QUALITY = {
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 93, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 93],
}


@dataclass(frozen=True, eq=False)
class Still:
    """One picture, upright."""

    rgb: NDArray[np.uint8]
    """uint8 RGB of shape (height, width, 3), 0-255, color not multiplied by alpha."""
    alpha: NDArray[np.uint8] | None = None
    """uint8 of shape (height, width), 0 is transparent; None where the picture has no transparency."""
    profile: bytes | None = None
    """ICC profile of the RGB values, passed on unchanged; None is sRGB."""
    name: str = "picture"
    notes: tuple[str, ...] = ()
    """What was lost on the way here; one sentence each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rgb", as_rgb(self.rgb, "still"))
        if self.alpha is not None:
            alpha = np.asarray(self.alpha)
            if alpha.dtype != np.uint8 or alpha.shape != self.size:
                raise BadOption(f"alpha is {alpha.dtype} of shape {alpha.shape}; it must be uint8 {self.size}")
            object.__setattr__(self, "alpha", alpha)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


def read_still(path: Path | str, *, max_bytes: int = MAX_FILE_BYTES) -> Still:
    """The picture in the file ``path``; see `decode_still`."""
    path = files.as_path(path, "picture")
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not a picture")
        size = path.stat().st_size
        with path.open("rb") as file:  # a pipe or a device does not say how long it is
            data = file.read(0 if size > max_bytes else max_bytes + 1)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {path}: {reason(error)}") from error
    _check_length(max(size, len(data)), str(path), max_bytes)
    return decode_still(data, str(path))


def read_opaque(path: Path | str, *, max_bytes: int = MAX_FILE_BYTES) -> Still:
    """As `read_still`, transparent parts laid on white, as viewers show them; a note says so."""
    still = read_still(path, max_bytes=max_bytes)
    if still.alpha is None or still.alpha.min() == 255:
        return replace(still, alpha=None)
    note = f"{still.name} is transparent in parts; they are laid on white"
    return _on_white(still, (*still.notes, note))


def decode_still(data: bytes, name: str = "picture") -> Still:
    """The picture in a whole PNG, JPEG, WebP, BMP or TIFF file.

    It comes turned upright (EXIF), 8 bits a channel, gray, palette and CMYK as RGB, the first one of
    an animation. Raises `ImageError`, with ``name``, for everything that is no whole picture of a
    sane size.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadOption(f"{name} is a {type(data).__name__}; give the bytes of a whole picture file")
    data = bytes(data)
    _check_length(len(data), name)
    header = read_header(data, name)
    profile, key, notes = None, None, []
    if header.animated:
        what = "has several pages" if header.format == "tiff" else "is animated"
        notes.append(f"{name} {what}; only its first picture is used")
    if header.format == "png":
        data, profile, key = _plain_png(data, name)
    try:
        with quiet_libraries() as said:
            stored, kinds, chunks = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded as {header.format.upper()}: {error.err}") from error
    if stored is None:
        if header.kind is not None:
            raise ImageError(f"{name} is a {header.kind} TIFF, which cannot be read; save it as an RGB TIFF or as PNG")
        raise ImageError(f"{name} is cut short or damaged: its pixels cannot be decoded as {header.format.upper()}")
    if said:
        notes.append(f"{name} is damaged in parts ({said[0]})")
    metadata = {int(kind): np.asarray(chunk).tobytes() for kind, chunk in zip(kinds, chunks, strict=True)}
    if stored.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} holds {stored.dtype} values; save it with 8 or 16 bits a channel first")
    cover = None if key is None or stored.ndim > 2 else np.where(stored == key, np.uint8(0), np.uint8(255))
    if stored.dtype == np.uint16:
        stored = cv2.convertScaleAbs(stored, alpha=255 / 65535)
        notes.append(f"{name} has 16 bits a channel; 8 are used")
    pixels = np.asarray(stored, np.uint8) if cover is None else np.dstack([stored, stored, stored, cover])
    # OpenCV turns TIFF by itself, and returns no EXIF block for it.
    pixels = _upright(pixels, exif_orientation(metadata.get(cv2.IMAGE_METADATA_EXIF, b"")))
    rgb, alpha = _rgb_and_alpha(pixels, name)
    profile = profile or metadata.get(cv2.IMAGE_METADATA_ICCP)
    return Still(rgb, alpha, profile if profile and _is_rgb_profile(profile) else None, name, tuple(notes))


def _check_length(size: int, name: str, max_bytes: int = MAX_FILE_BYTES) -> None:
    if size > max_bytes:
        raise ImageError(f"{name} has more than {max_bytes >> 20} MiB, which is the most that is read; make it smaller")


_libraries = threading.Lock()
# How OpenCV, libjpeg, libpng, libtiff and ALSA begin what they write to stderr, past OpenCV and past Python.
_LIBRARY_LINE = re.compile(
    rb"ALSA lib |\[ *(WARN|ERROR|INFO):|Corrupt JPEG|Premature end of (JPEG|input)|Invalid (JPEG|SOS|progressive|crop)|"
    rb"(Inconsistent|Unsupported|Unknown|Warning:|Application|Bogus|Suspension) |libpng |TIFF|.*: (Warning|Error), "
)


@contextmanager
def quiet_libraries() -> Iterator[list[str]]:
    """Keep from stderr what libraries of pictures and sound write there; the list has it afterwards.

    Whatever else is written to stderr meanwhile follows at the end.
    """
    said: list[str] = []
    with _libraries, ExitStack() as stack:  # both are of the whole process
        stack.callback(cv2.utils.logging.setLogLevel, cv2.utils.logging.getLogLevel())
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            stderr = os.dup(2)
        except OSError:  # it is closed
            yield said
            return
        written = stack.enter_context(tempfile.TemporaryFile())

        def restore() -> None:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if _LIBRARY_LINE.match(line):
                    said.append(line.decode(errors="replace").strip())
                else:
                    os.write(2, line)

        stack.callback(restore)
        os.dup2(written.fileno(), 2)
        yield said


def _plain_png(data: bytes, name: str) -> tuple[bytes, bytes | None, int | None]:
    """The file with nothing but pixels and orientation, its color profile, its transparent gray.

    libpng prints a warning on stderr for many profiles that are in use; it does not get to see them.
    OpenCV leaves the transparent color of a gray picture out.
    """
    profile, key = None, None
    kept = [data[:8]]
    for kind, payload in png_chunks(data, name):
        if kind == b"iCCP":
            method = payload.find(b"\0") + 1
            try:
                profile = zlib.decompressobj().decompress(payload[method + 1 :], _MAX_PROFILE_BYTES)
            except zlib.error:
                profile = None  # the picture is fine without
        if kind == b"tRNS" and len(payload) == 2:
            bits = min(data[24], 16)
            # Gray of fewer than 8 bits is stretched to 0-255 when decoded.
            key = int.from_bytes(payload, "big") * (255 // ((1 << bits) - 1) if bits < 8 else 1)
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"):
            checksum = zlib.crc32(payload, zlib.crc32(kind))
            kept += [struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", checksum)]
    return b"".join(kept), profile, key


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo EXIF ``orientation``: 2 and 4 are mirrored, 3, 6 and 8 turned, 5 and 7 both."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _rgb_and_alpha(pixels: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8), None
    if channels == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8), None
    if channels == 4:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), np.uint8), pixels[:, :, 3].copy()
    raise ImageError(f"{name} has {channels} channels; a picture has 1, 3 or 4")


def _is_rgb_profile(profile: bytes) -> bool:
    """Whether an ICC profile is whole and describes RGB; a CMYK or gray one does not fit what is returned."""
    return len(profile) > 132 and int.from_bytes(profile[:4], "big") == len(profile) and profile[16:20] == b"RGB "


def format_of(path: Path | str) -> PictureFormat:
    """The format that the ending of a file's name asks for; `BadOption` lists what there is."""
    suffix = Path(path).suffix.lower() or str(path).lower()
    if suffix not in FORMATS:
        raise BadOption(f"{path} does not end like a picture that can be written; use one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def fit_still(still: Still, suffix: str) -> Still:
    """``still`` as a file that ends in ``suffix`` can hold it; its notes tell what had to go."""
    check_kind("still", still, Still, needed=True)
    format = format_of(suffix)
    notes = list(still.notes)
    if still.alpha is not None and format not in _KEEPS_ALPHA:
        if still.alpha.min() < 255:
            notes.append(f"{format.upper()} has no transparency; {still.name} was laid on white (write PNG to keep it)")
            still = _on_white(still, still.notes)
        still = replace(still, alpha=None)
    if still.profile is not None and format not in _KEEPS_PROFILE:
        notes.append(f"{format.upper()} is written without a color profile; {still.name} has one that is lost")
        still = replace(still, profile=None)
    return replace(still, notes=tuple(notes))


def _on_white(still: Still, notes: tuple[str, ...]) -> Still:
    assert still.alpha is not None
    cover = still.alpha[:, :, None].astype(np.uint16)
    blended = (still.rgb * cover + 255 * (255 - cover) + 127) // 255
    return replace(still, rgb=blended.astype(np.uint8), alpha=None, notes=notes)


def encode_still(still: Still, suffix: str) -> bytes:
    """The whole file, in the format of ``suffix`` (``".png"``); see `fit_still` for what it can't hold."""
    format = format_of(suffix)
    still = fit_still(still, suffix)
    pixels = cv2.cvtColor(still.rgb, cv2.COLOR_RGB2BGR)
    if still.alpha is not None:
        pixels = np.dstack([pixels, still.alpha])
    kinds, chunks = [], []
    if still.profile is not None:
        kinds, chunks = [cv2.IMAGE_METADATA_ICCP], [np.frombuffer(still.profile, np.uint8)]
    try:
        with quiet_libraries():
            done, data = cv2.imencodeWithMetadata(f".{format}", pixels, kinds, chunks, _QUALITY.get(format, []))
    except cv2.error as error:
        raise ImageError(f"cannot write {still.name} as {format.upper()}: {error.err}") from error
    if not done:
        height, width = still.size
        raise ImageError(f"cannot write {still.name}, {width}x{height}, as {format.upper()}; try PNG")
    return np.asarray(data).tobytes()


def check_output(path: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """`BadOption`, before any work is done, where `write_still` could not write ``path``."""
    format_of(path)
    files.check_output(path, overwrite=overwrite, source=source)


def write_still(path: Path | str, still: Still, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write ``still`` to ``path``, whole or not at all; returns what was lost (`Still.notes`)."""
    path = files.as_path(path, "output")
    check_output(path, overwrite=overwrite)
    data = encode_still(still, path.suffix)
    try:
        files.write_whole(path, data, overwrite=overwrite)
    except OSError as error:
        raise ImageError(files.write_failure(path, error)) from error
    return fit_still(still, path.suffix).notes


@dataclass(frozen=True)
class PictureHeader:
    """Format and size of a picture, as its header claims them; before any EXIF orientation."""

    format: PictureFormat
    height: int
    width: int
    animated: bool = False
    """There are more pictures than the first: an animation, or pages of a TIFF."""
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
