"""VP8 for painted pictures: more bits than for faces, and fewer beginnings."""

from __future__ import annotations

from aiortc.codecs.vpx import Vp8Encoder

_RATES = (400_000, 800_000, 1_500_000, 2_500_000)
"""Bits a second. Paint is full of edges: below the last one, at 640x360, strokes smear where things move."""

_TRUST = 1.5
"""Receivers estimate the way by what they get, and so no higher than a little below what is sent."""


class PaintedEncoder(Vp8Encoder):
    """aiortc's encoder with steps of the rate that lie far apart: at each change it begins anew, with a key frame."""

    def __init__(self) -> None:
        super().__init__()
        self._rate = _RATES[-1]

    @property
    def target_bitrate(self) -> int:
        """Bits a second."""
        return self._rate

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        able = [rate for rate in _RATES if rate <= _TRUST * bitrate]
        self._rate = able[-1] if able else _RATES[0]
