"""Crops and their content: the same as computed anew, and computed once."""

from __future__ import annotations

import torch

from vidstyle.training.crops import Crops
from vidstyle.training.perceptual import Content, Perceptual
from vidstyle.training.pictures import Photos


class Counting(Perceptual):
    """Counts the photos whose content is computed."""

    asked = 0

    def content_target(self, rgb: torch.Tensor) -> Content:
        self.asked += len(rgb)
        return super().content_target(rgb)


def test_a_crop_s_content_is_its_own_and_computed_once() -> None:
    vgg = Counting()
    crops = Crops(Photos.shipped(), vgg, size=32, count=3, seed=7)
    for step in range(6):
        photo, content = crops.batch(2, (0, step))
        assert photo.shape == (2, 3, 32, 32)
        for ours, theirs in zip(content, Perceptual.content_target(vgg, photo), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)
        again, _ = crops.batch(2, (0, step))
        assert torch.equal(photo, again)
    assert vgg.asked == 3  # twelve crops shown, of three
