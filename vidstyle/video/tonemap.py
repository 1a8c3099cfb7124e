"""From HDR and wide-gamut colors to BT.709, as a lookup table.

Light is brought to absolute luminance (PQ: ITU-R BT.2100 table 4; HLG: table 5 on a display of 1000 cd/m2),
its range is compressed with the curve of ITU-R BT.2390 section 5.4 to that of a standard display,
whose white is taken as the 203 cd/m2 that ITU-R BT.2408 gives to HDR diffuse white; then the
primaries are changed, and what is outside BT.709 is desaturated until it fits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidstyle.video.info import Hdr

SDR_WHITE = 203.0
"""cd/m2 of the white that the result is made for."""
DEFAULT_PEAK = 1000.0
"""cd/m2 that the brightest highlights are taken to have, where the file does not say."""
_HLG_PEAK = 1000.0
_GAMMA = 2.4  # ITU-R BT.1886

_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_LUMA_709 = np.array([0.2126, 0.7152, 0.0722])
# ITU-R BT.2087 section 4: linear BT.2020 to linear BT.709.
_BT709_FROM_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def lookup_table(hdr: Hdr | None, peak: float = DEFAULT_PEAK, size: int = 33) -> NDArray[np.float64]:
    """`bt709_signal` at the nodes of a cube: shape (size, size, size, 3), axes red, green, blue."""
    axis = np.linspace(0.0, 1.0, size)
    return bt709_signal(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1), hdr, peak)


def bt709_signal(signal: NDArray[np.float64], hdr: Hdr | None, peak: float = DEFAULT_PEAK) -> NDArray[np.float64]:
    """What to send to a BT.709 display to show a BT.2020 signal.

    Both are R'G'B' between 0 and 1, shape (..., 3). ``hdr`` is the transfer, None for standard range;
    ``peak`` is the luminance of the brightest highlights in cd/m2.
    """
    if hdr is None:
        light = np.clip(signal, 0.0, 1.0) ** _GAMMA
    else:
        nits = light_from_pq(signal) if hdr == "pq" else _light_from_hlg(signal)
        light = _compressed(nits, max(peak, SDR_WHITE) if hdr == "pq" else _HLG_PEAK) / SDR_WHITE
    fitted = _fitted(light @ _BT709_FROM_BT2020.T)
    shown: NDArray[np.float64] = np.clip(fitted, 0.0, 1.0) ** (1.0 / _GAMMA)
    return shown


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def light_from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance in cd/m2 of a PQ signal between 0 and 1."""
    power = np.clip(signal, 0.0, 1.0) ** (1 / _M2)
    light: NDArray[np.float64] = 10000.0 * (np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def pq_from_light(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `light_from_pq`."""
    power = np.clip(nits / 10000.0, 0.0, 1.0) ** _M1
    signal: NDArray[np.float64] = ((_C1 + _C2 * power) / (1.0 + _C3 * power)) ** _M2
    return signal


def _light_from_hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a = 0.17883277
    b, c = 1.0 - 4.0 * a, 0.5 - a * np.log(4.0 * a)
    signal = np.clip(signal, 0.0, 1.0)
    scene = np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)
    luma = (scene @ _LUMA_2020)[..., None]
    # The system gamma of a 1000 cd/m2 display is 1.2.
    light: NDArray[np.float64] = _HLG_PEAK * np.maximum(luma, 1e-9) ** 0.2 * scene
    return light


def _compressed(nits: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Bring 0..peak to 0..SDR_WHITE along the BT.2390 curve, on the brightest component: hues stay."""
    brightest: NDArray[np.float64] = nits.max(axis=-1, keepdims=True)
    ceiling = float(pq_from_light(np.array(peak)))
    level = np.clip(pq_from_light(brightest) / ceiling, 0.0, 1.0)
    top = float(pq_from_light(np.array(SDR_WHITE))) / ceiling
    knee = 1.5 * top - 0.5
    t = (level - knee) / max(1.0 - knee, 1e-9)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1.0 - knee) + (-2 * t**3 + 3 * t**2) * top
    target = light_from_pq(np.where(level < knee, level, spline) * ceiling)
    compressed: NDArray[np.float64] = nits * (target / np.maximum(brightest, 1e-6))
    return compressed


def _fitted(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw colors outside 0..1 towards gray of the same luminance, as far as is needed."""
    gray = np.clip(rgb @ _LUMA_709, 0.0, 1.0)[..., None]
    away = rgb - gray
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1.0 - gray) / away, np.where(away < 0, -gray / away, np.inf))
    fitted: NDArray[np.float64] = gray + away * np.minimum(room.min(axis=-1, keepdims=True), 1.0)
    return fitted
