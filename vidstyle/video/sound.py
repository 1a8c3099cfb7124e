"""Sound as the live parts pass it on: decoded, on the capture clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SoundForm:
    """What every piece of one sound has in common."""

    rate: int
    """Samples a second."""
    channels: int
    """1 is mono, 2 is stereo."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A piece of sound and the time at which it is heard."""

    samples: NDArray[np.float32]
    """Planar, of shape (channels, n), from -1 to 1."""
    form: SoundForm
    """Rate and channels."""
    pts: int
    """Of the first sample, in microseconds of the capture clock (`time.monotonic`)."""
