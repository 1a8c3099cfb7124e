"""Measures of what a network leaves behind and no painter would: a grid of pixels, and borders unlike the middle.

Pictures are luma in levels of 255, float64 of shape (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidstyle.training.contrast import Luma

Place = tuple[slice, slice]

WINDOW = 32
"""Side in pixels of the flat regions whose spectrum is taken; a multiple of 4, so bins hit periods 2 and 4."""
WINDOWS = 6
"""Flat regions that a photo gives."""
SEEN = 1.0
"""Levels of 255, from trough to crest, below which a pattern is not seen, however empty the spectrum around it is."""
MARGIN = 48
"""Pixels cut off each side of a photo for the comparison at borders; the networks see no farther."""
INNER: Place = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
"""A photo without its margin."""


def flat_windows(photo: Luma) -> list[Place]:
    """The flattest windows of a photo, away from its borders."""
    found = []
    for top in range(16, photo.shape[0] - WINDOW - 16, WINDOW):
        for left in range(16, photo.shape[1] - WINDOW - 16, WINDOW):
            place = slice(top, top + WINDOW), slice(left, left + WINDOW)
            found.append((photo[place].std(), top, left, place))
    return [place for _, _, _, place in sorted(found, key=lambda item: item[:3])[:WINDOWS]]


def grid(painted: Sequence[Luma], photos: Sequence[Luma], period: int) -> float:
    """Energy at the frequencies of a grid of ``period``, over that of its neighbors and of what is just not seen; the
    median of the flat windows."""
    taper = np.outer(np.hanning(WINDOW + 1)[:-1], np.hanning(WINDOW + 1)[:-1])
    unseen = (SEEN / 2 * taper.sum()) ** 2
    multiples = range(0, WINDOW, WINDOW // period)
    bins = [(a, b) for a in multiples for b in multiples if (a, b) != (0, 0)]
    if period == 4:  # its harmonics of period 2 are measured by themselves
        bins = [(a, b) for a, b in bins if a % (WINDOW // 2) or b % (WINDOW // 2)]
    ring = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if max(abs(i), abs(j)) == 3]  # clear of the taper's leak
    ratios = []
    for y, photo in zip(painted, photos, strict=True):
        for place in flat_windows(photo):
            window = y[place]
            power = np.abs(np.fft.fft2((window - window.mean()) * taper)) ** 2
            at_grid = sum(power[a, b] for a, b in bins)
            nearby = sum(np.mean([power[(a + i) % WINDOW, (b + j) % WINDOW] for i, j in ring]) for a, b in bins)
            ratios.append(at_grid / (nearby + unseen))
    return float(np.median(ratios))


def border(whole: Sequence[Luma], inner: Sequence[Luma]) -> float:
    """By how many levels the outermost pixels are too bright or too dark.

    ``whole`` are painted photos, ``inner`` the same photos painted without their margin (`INNER`): what was
    interior is border there. The mean difference at each distance from the edge, less that of the middle
    (instance norm sees another picture), over all photos; the worst of the four outermost rows.
    """
    rows = []
    for y, cut in zip(whole, inner, strict=True):
        difference = cut - y[INNER]
        height, width = difference.shape
        down, across = np.mgrid[0:height, 0:width]
        edge = np.minimum(np.minimum(down, height - 1 - down), np.minimum(across, width - 1 - across))
        middle = difference[edge >= 24].mean()
        rows.append([difference[edge == distance].mean() - middle for distance in range(4)])
    return float(np.abs(np.mean(rows, axis=0)).max())
