"""YCbCr as the recommendations of the ITU print it."""

from __future__ import annotations

import numpy as np
import pytest

from vidstyle.frame import Matrix, rgb_from_yuv, yuv_from_rgb


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_the_two_directions_are_inverse(matrix: Matrix, full_range: bool) -> None:
    forward, offset = yuv_from_rgb(matrix, full_range)
    back, back_offset = rgb_from_yuv(matrix, full_range)
    rgb = np.random.default_rng(0).uniform(0, 255, (3, 50))
    yuv = forward @ rgb + offset[:, None]
    np.testing.assert_allclose(back @ yuv + back_offset[:, None], rgb, atol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "full_range", "rgb", "yuv"),
    [
        ("bt601", False, (255, 255, 255), (235, 128, 128)),
        ("bt709", False, (0, 0, 0), (16, 128, 128)),
        ("bt709", True, (255, 255, 255), (255, 128, 128)),
        ("bt601", True, (0, 0, 0), (0, 128, 128)),
        ("bt601", False, (255, 0, 0), (81, 90, 240)),
        ("bt601", False, (0, 0, 255), (41, 240, 110)),
        ("bt709", False, (255, 0, 0), (63, 102, 240)),
        ("bt709", False, (0, 255, 0), (173, 42, 26)),
    ],
)
def test_known_colors(matrix: Matrix, full_range: bool, rgb: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    forward, offset = yuv_from_rgb(matrix, full_range)
    assert tuple(np.round(forward @ np.array(rgb) + offset)) == yuv


def test_gray_has_no_chroma_in_any_variant() -> None:
    for matrix in ("bt601", "bt709"):
        for full_range in (False, True):
            forward, offset = yuv_from_rgb(matrix, full_range)
            np.testing.assert_allclose((forward @ np.full(3, 77.0) + offset)[1:], 128, atol=1e-9)
