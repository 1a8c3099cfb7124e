"""What an encoded frame says of itself, read before anything is decoded: VP8 and H.264."""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple

_VP8_START = b"\x9d\x01\x2a"
_START_CODE = re.compile(b"\x00\x00\x01")
_ESCAPE = re.compile(b"\x00\x00\x03")
_MOST_NALS = 512
_MOST_PARAMETER_SETS = 8
_SLICE, _IDR, _SPS = 1, 5, 7
_PICTURES = 2
"""Slices that begin a picture, in one frame: two fields."""
# Profiles whose parameter sets say more: chroma, depth, scaling lists.
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MOST_GOLOMB_ZEROS = 32


class Damaged(ValueError):
    """A frame that no decoder should see."""


class Header(NamedTuple):
    """What a frame says of itself."""

    is_key: bool
    """Whether it can be decoded without those before it."""
    sizes: tuple[CodedSize, ...] = ()
    """Every size that the frame asks a decoder to make room for."""


class CodedSize(NamedTuple):
    """Pictures to come, and what they take."""

    height: int
    width: int
    """As shown."""
    blocks: int
    """Macroblocks, 16x16 pixels, as coded: cropping hides them, and memory is needed for all."""
    kept: int = 1
    """Pictures that the decoder has to keep."""
    is_plain: bool = True
    """Whether it is 8-bit 4:2:0, or gray."""


def header_of(codec: str, data: bytes) -> Header:
    """The header of a whole encoded frame; ``codec`` is ``VP8`` or ``H264``. `Damaged` where there is none."""
    if codec == "VP8":
        return _vp8_header(data)
    if codec == "H264":
        return _h264_header(data)
    raise Damaged(f"frames of {codec[:20]!r} are not known here")


def _vp8_header(data: bytes) -> Header:
    """RFC 6386, section 9.1: three bytes; in key frames a start code and the size follow."""
    if len(data) < 3:
        raise Damaged("a VP8 frame is cut off")
    if data[0] & 1:
        return Header(is_key=False)
    if len(data) < 10 or data[3:6] != _VP8_START:
        raise Damaged("a VP8 key frame is damaged")
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    if not width or not height:
        raise Damaged("a VP8 key frame has no size")
    return Header(True, (CodedSize(height, width, -(-width // 16) * -(-height // 16)),))


def _h264_header(data: bytes) -> Header:
    """Annex B. Start codes are looked for as decoders do, whatever packets they came in."""
    if not data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):
        raise Damaged("an H.264 frame does not begin with a start code")
    starts: list[int] = []
    for found in _START_CODE.finditer(data):
        starts.append(found.end())
        if len(starts) > _MOST_NALS:
            raise Damaged("an H.264 frame is in too many parts")
    is_key, pictures = False, 0
    sizes: list[CodedSize] = []
    for start, end in zip(starts, [*(at - 3 for at in starts[1:]), len(data)], strict=True):
        if start >= end:
            continue
        kind = data[start] & 0x1F
        if kind == _SPS:
            if len(sizes) >= 2 * _MOST_PARAMETER_SETS:
                raise Damaged("an H.264 frame has too many parameter sets")
            is_key = True
            sizes.append(_size_in(_ESCAPE.sub(b"\x00\x00", data[start + 1 : end])))
            if _ESCAPE.search(data, start, end):
                # FFmpeg reads one that it does not like again as it stands, with the escapes in it.
                with contextlib.suppress(Damaged):
                    sizes.append(_size_in(data[start + 1 : end]))
        elif kind in (_SLICE, _IDR):
            is_key |= kind == _IDR
            # The first number is that of the slice's first block; zero is a single set bit.
            pictures += start + 1 < end and data[start + 1] >> 7
    if pictures > _PICTURES:
        raise Damaged("an H.264 frame holds several pictures")
    return Header(bool(is_key), tuple(sizes))


def _size_in(sps: bytes) -> CodedSize:
    """ITU-T H.264, section 7.3.2.1.1, as far as the cropping; ``sps`` is without the NAL's header."""
    bits = _Bits(sps)
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()  # its id
    chroma, plain = 1, True
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        if chroma == 3:
            bits.take(1)
        depths = bits.golomb(), bits.golomb()
        plain = chroma <= 1 and depths == (0, 0)
        bits.take(1)
        if bits.take(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    bits.golomb()  # bits of a frame's number
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb(), bits.golomb()
        for _ in range(_at_most(bits.golomb(), 255)):
            bits.golomb()
    kept = bits.golomb()
    bits.take(1)
    columns, rows = bits.golomb() + 1, bits.golomb() + 1
    fields = 1 if bits.take(1) else 2
    rows *= fields
    if fields == 2:
        bits.take(1)
    bits.take(1)
    width, height = 16 * columns, 16 * rows
    if bits.take(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1) * fields
    if width <= 0 or height <= 0:
        raise Damaged("an H.264 parameter set crops everything away")
    return CodedSize(height, width, columns * rows, max(1, kept), plain)


def _skip_scaling(bits: _Bits, count: int) -> None:
    last = following = 8
    for _ in range(count):
        if following:
            change = bits.golomb()
            following = (last + ((change + 1) // 2 if change % 2 else -(change // 2))) % 256
        last = following or last


def _at_most(number: int, most: int) -> int:
    if number > most:
        raise Damaged("an H.264 parameter set is damaged")
    return number


class _Bits:
    """Reads bits, the highest first; `Damaged` behind the end."""

    def __init__(self, data: bytes) -> None:
        data = data[:1024]
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise Damaged("an H.264 parameter set is cut off")
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next unsigned Exp-Golomb code, section 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _MOST_GOLOMB_ZEROS:
                raise Damaged("an H.264 parameter set is damaged")
        return (1 << zeros) - 1 + self.take(zeros)
