"""What a packet of sound says of its own channels and rate, in codecs whose packets do."""

from __future__ import annotations

_MPEG_RATES = (44100, 48000, 32000)
_MPEG_DIVISORS = {3: 1, 2: 2, 0: 4}  # by version: MPEG-1, MPEG-2, MPEG-2.5
_AC3_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = ("two mono", "mono", "stereo", "3.0", "3.0(back)", "4.0", "quad", "5.0 or 5.1")


def form_in(codec: str, head: bytes) -> str | None:
    """Channels and rate for people, ``stereo at 48000 Hz``, from a packet's first bytes; None where it is not said.

    Knows ``mp1``, ``mp2``, ``mp3``, ``ac3`` and ``eac3``.
    """
    if codec in ("mp1", "mp2", "mp3"):
        return _mpeg(head)
    if codec in ("ac3", "eac3"):
        return _ac3(head)
    return None


def _mpeg(head: bytes) -> str | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    divisor, rate = _MPEG_DIVISORS.get(head[1] >> 3 & 3), head[2] >> 2 & 3
    if divisor is None or rate == 3:
        return None
    return f"{'mono' if head[3] >> 6 == 3 else 'stereo'} at {_MPEG_RATES[rate] // divisor} Hz"


def _ac3(head: bytes) -> str | None:
    if len(head) < 7 or head[:2] != b"\x0b\x77" or head[4] >> 6 == 3:
        return None
    enhanced = head[5] >> 3 > 10
    if enhanced and head[2] >> 3:  # not the first substream, which alone has the whole sound
        return None
    channels = head[4] >> 1 & 7 if enhanced else head[6] >> 5
    return f"{_AC3_CHANNELS[channels]} at {_AC3_RATES[head[4] >> 6]} Hz"
