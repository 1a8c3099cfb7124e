"""Pictures of all visitors are painted in turns, each in a format that does not change all the time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange

from vidstyle.serve.painter import FrameMailbox, FrameMaker, Waiting, painted_format
from vidstyle.serve.render_settings import default_settings


def test_pictures_that_turn_all_the_time_are_not_compiled_for_all_the_time() -> None:
    mailbox = FrameMailbox(default_settings(), (360, 640), lambda *_: None, lambda _: None, lambda: None)
    forms = []
    for step in range(6000):  # a minute at 100 a second, turned each half second
        size = (90, 160) if step // 50 % 2 else (160, 90)
        forms.append(mailbox.choose_format(Waiting(VideoFrame(size[1], size[0], "yuv420p"), step / 100)).size)
    changes = sum(before != after for before, after in pairwise(forms))
    assert 3 <= changes <= 6


def test_a_picture_of_full_range_is_painted_in_limited_range() -> None:
    picture = VideoFrame.from_ndarray(
        np.concatenate([np.full((48, 64), 255), np.full((24, 64), 128)]).astype(np.uint8), "yuv420p"
    )
    picture.color_range = ColorRange.JPEG
    frame = FrameMaker()(picture, painted_format((48, 64), (24, 32)), 5)
    assert frame.form.size == (24, 32) and frame.pts == 5
    assert np.abs(frame.planes[0].astype(int) - 235).max() <= 1
