"""Reading: what is in the file comes out, upright, at its own times; and nothing is lost in silence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_video, picture, psnr, read_contents

from vidstyle.errors import VideoError
from vidstyle.options import ClipOptions
from vidstyle.video.source import VideoSource

VFR = (0, 40, 60, 61, 200, 333, 1000)


def rgb_frames(path: Path) -> list[np.ndarray]:
    with VideoSource(path, pixels="rgb") as source:
        return [frame.planes[0].copy() for frame in source.frames()]


def test_every_frame_comes_out_in_order_with_its_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12)
    with VideoSource(path) as source:
        frames = list(source.frames())
        assert source.info.size == (48, 64) == source.form.size
        assert source.info.rate == 25
        assert source.info.frames == 12
        assert source.lost == 0
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 25) for i in range(12)]
    assert all(frame.duration * frame.time_base == Fraction(1, 25) for frame in frames)
    assert all(tuple(p.shape for p in f.planes) == f.form.plane_shapes for f in frames)


def test_variable_frame_rate_keeps_every_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", pts=VFR, time_base=Fraction(1, 1000), options={"bf": "2"})
    with VideoSource(path) as source:
        assert [round(1000 * frame.seconds) for frame in source.frames()] == list(VFR)


def test_frames_can_be_read_again_from_the_beginning(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with VideoSource(path) as source:
        assert [f.pts for f in source.frames()] == [f.pts for f in source.frames()]


def test_yuv_planes_are_views_without_a_copy(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3)
    with VideoSource(path) as source:
        kept = list(source.frames())
    assert all(plane.base is not None for frame in kept for plane in frame.planes)
    rgb = np.array([f.planes[0].mean() for f in kept])  # still readable after the file is closed
    assert np.all(rgb > 0)


def test_closing_twice_and_in_the_middle_is_fine(tmp_path: Path) -> None:
    source = VideoSource(make_video(tmp_path / "a.mp4"))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    with pytest.raises(VideoError, match="closed"):
        source.frames()


@pytest.mark.parametrize("pixels", ["i420", "rgb"])
@pytest.mark.parametrize("size", [(49, 67), (48, 66), (1, 2), (2, 1)])
def test_odd_and_tiny_sizes_are_read(tmp_path: Path, size: tuple[int, int], pixels: str) -> None:
    path = make_video(tmp_path / "a.mkv", size=size, codec="ffv1", frames=2)
    with VideoSource(path, pixels=pixels) as source:  # type: ignore[arg-type]
        frames = list(source.frames())
    assert [f.form.size for f in frames] == [size] * 2
    assert all(tuple(p.shape for p in f.planes) == f.form.plane_shapes for f in frames)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotated_video_comes_out_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    upright = picture((64, 96), 3)
    # Stored turned counterclockwise, to be shown turned clockwise, and then mirrored.
    stored = np.rot90(upright[:, ::-1] if mirrored else upright, rotation // 90)
    path = make_video(
        tmp_path / "a.mp4",
        size=stored.shape[:2],  # type: ignore[arg-type]
        pictures=[np.ascontiguousarray(stored)] * 2,
        frames=2,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=Fraction(4, 3),
        options={"crf": "4"},
    )
    with VideoSource(path, pixels="rgb") as source:
        assert source.info.size == (64, 96)
        # Turning and then mirroring is mirroring and then turning the other way.
        expected = -rotation % 360 if mirrored else rotation
        assert (source.info.rotation, source.info.mirrored) == (expected, mirrored)
        turned = rotation in (90, 270)
        assert source.info.sample_aspect_ratio == (Fraction(3, 4) if turned else Fraction(4, 3))
        shown = next(source.frames()).planes[0]
    assert psnr(shown, upright) > 32
    with VideoSource(path) as source:
        assert tuple(p.shape for p in next(source.frames()).planes) == ((64, 96), (32, 48), (32, 48))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, range(50)),
        (0.5, None, range(13, 50)),
        (1.2, None, range(30, 50)),
        (0, 0.4, range(10)),
        (1.2, 1.32, range(30, 33)),
        (1.96, None, range(49, 50)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_clip_is_exact_to_the_frame(
    tmp_path: Path, suffix: str, start: float, end: float | None, expected: range
) -> None:
    path = make_video(tmp_path / f"a{suffix}", frames=50, options={"g": "12", "bf": "2"})
    whole = read_contents(path).pts
    with VideoSource(path, clip=ClipOptions(start=start, end=end)) as source:
        frames = list(source.frames())
        assert source.lost == 0, source.errors
    assert [frame.pts * frame.time_base for frame in frames] == [whole[i] for i in expected]


def test_a_clip_behind_the_end_has_no_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    with VideoSource(path, clip=ClipOptions(start=100)) as source:
        assert list(source.frames()) == []


def test_threads_do_not_change_the_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    sums = []
    for threads in (None, 1, 2):
        with VideoSource(path, threads=threads) as source:
            sums.append([int(f.planes[0].sum()) for f in source.frames()])
    assert sums[0] == sums[1] == sums[2]


def test_cover_art_is_not_taken_for_the_video(tmp_path: Path) -> None:
    from media import png_cover

    path = make_video(tmp_path / "a.mp4", cover=png_cover())
    with av.open(str(path)) as file:
        assert len(file.streams.video) == 2
    with VideoSource(path) as source:
        assert source.info.size == (48, 64)
        assert len(list(source.frames())) == 10
        assert [t.kind for t in source.info.tracks] == ["cover"]


def test_a_change_of_size_in_mid_stream_keeps_the_first_size(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / f"{n}.ts", size=size, frames=5) for n, size in enumerate([(48, 64), (64, 96)])]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with VideoSource(path) as source:
        assert {frame.form.size for frame in source.frames()} == {(48, 64)}
