"""When every frame is shown, and where decoding may begin."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import join, make_video, read

from vidstyle import ClipOptions
from vidstyle.video import frame_index
from vidstyle.video.frame_index import FrameIndex, index_frames
from vidstyle.video.reader import VideoReader
from vidstyle.video.stretch import Stretch

UNEVEN = [0, 40, 81, 140, 180, 260, 300, 333, 400, 441, 480, 533, 560, 600, 641, 680, 720, 799, 840, 900]
B_FRAMES = {"bf": "2", "g": "5", "keyint_min": "5", "sc_threshold": "0"}
MILLISECOND = Fraction(1, 1000)


def sources(folder: Path) -> dict[str, Path]:
    """Videos that are timed and coded in different ways, of 20 to 40 frames."""
    uneven = {"pts": UNEVEN, "time_base": MILLISECOND, "frames": 20}
    open_gop = {**B_FRAMES, "x264-params": "open-gop=1"}
    made = {
        "mp4": make_video(folder / "a.mp4", **uneven, options=B_FRAMES),
        "mkv": make_video(folder / "a.mkv", **uneven, options=B_FRAMES),
        "open": make_video(folder / "open.mkv", frames=30, options=open_gop),
        "late": make_video(folder / "late.mp4", pts=[p + 5000 for p in UNEVEN], time_base=MILLISECOND),
        "turned": make_video(folder / "turned.mov", frames=20, rotation=90, options=B_FRAMES),
        "hevc": make_video(folder / "hevc.mp4", size=(64, 96), frames=20, codec="libx265", options={"g": "5"}),
        "vp9": make_video(folder / "a.webm", frames=20, codec="libvpx-vp9", options={"g": "5", "lag-in-frames": "5"}),
        "ts": make_video(folder / "a.ts", frames=20, options=B_FRAMES),
        "avi": make_video(folder / "a.avi", frames=20, codec="mpeg4", options={"g": "5"}),
        "fields": make_video(
            folder / "fields.mkv", frames=20, codec="mpeg2video", options={"flags": "+ilme+ildct", "g": "5"},
            interlaced=True,
        ),
        "raw": make_video(folder / "a.h264", frames=20, options=B_FRAMES),
    }  # fmt: skip
    made["joined"] = join(folder / "joined.ts", made["ts"], made["ts"])
    return made


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sources(tmp_path_factory.mktemp("index"))


KINDS = ("mp4", "mkv", "open", "late", "turned", "hevc", "vp9", "ts", "avi", "fields", "raw", "joined")


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_has_the_times_of_all_frames(videos: dict[str, Path], kind: str) -> None:
    index = index_frames(videos[kind])
    assert index.pts.tolist() == [frame.pts for frame in read(videos[kind])]
    assert index.info.time_base == read(videos[kind])[0].time_base


@pytest.mark.parametrize("kind", KINDS)
def test_any_stretch_has_the_pictures_of_the_whole(videos: dict[str, Path], kind: str) -> None:
    whole, index = read(videos[kind]), index_frames(videos[kind])
    cuts = [0, *(int(key) for key in index.key_frames() if key), 7, 13, len(whole)]
    for begin, end in zip(sorted(set(cuts))[:-1], sorted(set(cuts))[1:], strict=True):
        stretch = Stretch(int(index.pts[begin]), int(index.pts[end - 1]), index.entry(begin))
        with VideoReader(videos[kind], stretch=stretch) as reader:
            frames = list(reader.frames())
            assert (reader.lost, reader.errors) == (0, [])
        assert [frame.pts for frame in frames] == index.pts[begin:end].tolist()
        for frame, expected in zip(frames, whole[begin:end], strict=True):
            assert frame.duration == expected.duration
            assert all(map(np.array_equal, frame.planes, expected.planes)), (begin, frame.pts)


@pytest.mark.parametrize("kind", ["mp4", "hevc", "avi", "ts"])
def test_parts_are_entered_at_key_frames(videos: dict[str, Path], kind: str) -> None:
    index = index_frames(videos[kind])
    assert len(index.key_frames()) >= 3
    entry = index.entry(len(index.pts) - 1)
    assert entry is not None and entry.number > 0


@pytest.mark.parametrize("clip", [(0.1, None), (0.0, 0.3), (0.141, 0.5), (0.299, 0.301), (0.89, None), (0.16, 0.52)])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "late", "ts"])
def test_a_clip_has_the_times_that_the_reader_gives(
    videos: dict[str, Path], kind: str, clip: tuple[float, float | None]
) -> None:
    options = ClipOptions(start=clip[0], end=clip[1])
    expected = read(videos[kind], clip=options)
    index = index_frames(videos[kind], options)
    assert index.pts.tolist() == [frame.pts for frame in expected]
    if not expected:
        return
    last = len(expected) - 1
    stretch = Stretch(int(index.pts[last]), int(index.pts[last]), index.entry(last))
    with VideoReader(videos[kind], clip=options, stretch=stretch) as reader:
        (frame,) = reader.frames()
    assert (frame.pts, frame.duration) == (expected[-1].pts, expected[-1].duration)


def test_packets_are_not_decoded_where_they_tell_it_all(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def decoding(path: Path, *rest: object) -> FrameIndex:
        decoded.append(path.name)
        raise NotImplementedError

    monkeypatch.setattr(frame_index, "_from_pictures", decoding)
    for kind in ("mp4", "mkv", "open", "late", "turned", "hevc"):
        index_frames(videos[kind])
    assert decoded == []


def test_a_frame_that_cannot_be_decoded_is_counted_by_its_stretch_alone(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", frames=30, options={"g": "1"})
    index = index_frames(path)
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][12]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(data)
    lost = []
    for begin in (0, 10, 20):
        stretch = Stretch(int(index.pts[begin]), int(index.pts[begin + 9]), index.entry(begin))
        with VideoReader(path, stretch=stretch) as reader:
            count = len(list(reader.frames()))
            lost.append((count, reader.lost))
    assert lost == [(10, 0), (9, 1), (10, 0)]
