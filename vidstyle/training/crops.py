"""Photo crops whose content targets are computed once: what an adaptation learns on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidstyle.training.perceptual import Content, Perceptual
from vidstyle.training.pictures import Photos


class Crops:
    """``count`` crops of ``size`` pixels, each with its `Perceptual.content_target`.

    A quarter of a step's arithmetic is the content of its photos; a crop that comes again brings it along. Both are
    kept on the perceptual loss's device: at 192 pixels 1.6 MB a crop in bf16.
    """

    def __init__(self, photos: Photos, perceptual: Perceptual, *, size: int, count: int, seed: int) -> None:
        self._photos, self._perceptual = photos, perceptual
        self._size, self._count, self._seed = size, count, seed
        self._kept: dict[int, tuple[Tensor, Content]] = {}

    def batch(self, count: int, seed: Sequence[int]) -> tuple[Tensor, Content]:
        """``count`` crops, float RGB (count, 3, size, size) in [0, 1], and their content targets; the same ``seed``
        gives the same ones."""
        chosen = np.random.default_rng(list(seed)).integers(self._count, size=count)
        photos, contents = zip(*(self._crop(int(number)) for number in chosen), strict=True)
        return torch.cat(photos), Content(*(torch.cat(parts) for parts in zip(*contents, strict=True)))

    def _crop(self, number: int) -> tuple[Tensor, Content]:
        if number not in self._kept:
            photo = self._photos.batch(1, self._size, (self._seed, number)).to(self._perceptual.place)
            self._kept[number] = photo, self._perceptual.content_target(photo)
        return self._kept[number]
