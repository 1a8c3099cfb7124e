"""The paintings that a network is trained on, as the statistics that their strokes come down to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidstyle.training.perceptual import Perceptual
from vidstyle.training.pictures import Photos, PictureFolder, painting_tensor, picture_paths

KEPT_BYTES = 1 << 30
"""Statistics kept in memory: some 1,500 paintings in bf16."""


class Paintings:
    """The pictures of a folder, ``size`` pixels at their shorter side; see `PictureFolder`."""

    def __init__(self, folder: Path, size: int, perceptual: Perceptual) -> None:
        self.pictures = PictureFolder(picture_paths(folder), shorter_side=size, keep_bytes=0)
        self._size, self.perceptual = size, perceptual
        self._kept: dict[int, list[Tensor]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.pictures)

    def targets(self, indices: Sequence[int]) -> list[Tensor]:
        """`Perceptual.style_target` of some paintings: float32, of len(indices)."""
        layers = zip(*(self._target(index) for index in indices), strict=True)
        return [torch.cat(layer).float() for layer in layers]

    def thumbnail(self, index: int, size: int) -> Tensor:
        """The middle square of a painting, float RGB (1, 3, size, size)."""
        return Photos([self.pictures[index]]).middles(size)

    def _target(self, index: int) -> list[Tensor]:
        if index in self._kept:
            return self._kept[index]
        vgg = self.perceptual
        painting = painting_tensor(self.pictures[index], self._size).to(vgg.place)
        statistics = [s.to(vgg.dtype) for s in vgg.style_target(painting)]
        taken = sum(s.nbytes for s in statistics)
        if taken <= self._room:
            self._room -= taken
            self._kept[index] = statistics
        return statistics


def shown(step: int, count: int, paintings: int, seed: int) -> list[int]:
    """Which of ``paintings`` step number ``step`` sees: each once in every pass, in an order of its own."""
    indices = []
    for position in range(step * count, (step + 1) * count):
        order = np.random.default_rng([seed, position // paintings, 1]).permutation(paintings)
        indices.append(int(order[position % paintings]))
    return indices
