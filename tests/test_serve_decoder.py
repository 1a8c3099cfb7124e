"""What visitors send is looked at before it is decoded, and never piles up."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import Any

import av
import numpy as np
import pytest
from aiortc.codecs import CODECS
from aiortc.jitterbuffer import JitterFrame
from attacking import encoded, h264_claiming, vp8_claiming
from live_media import wait_for

from vidstyle.serve.decoder import Damaged, Decoder, header_of

CODEC = {codec.name: codec for codec in CODECS["video"]}


class Seen:
    """A decoder and what came of it."""

    def __init__(self, *, is_busy: bool = False) -> None:
        """Where it ``is_busy`` it takes no picture before `free` is set."""
        self.pictures: list[tuple[av.VideoFrame, float]] = []
        self.gaps: list[None] = []
        self.refused: list[str] = []
        self.free = threading.Event()
        if not is_busy:
            self.free.set()
        self.decoder = Decoder(self._take, lambda: self.gaps.append(None), self.refused.append)

    def _take(self, *picture: Any) -> None:
        self.free.wait(20)
        self.pictures.append(picture)

    def put(self, codec: str, data: bytes) -> None:
        self.decoder.put((CODEC[codec], JitterFrame(data, 0)))

    def until(self, pictures: int) -> None:
        assert wait_for(lambda: len(self.pictures) >= pictures)

    def close(self) -> None:
        self.decoder.put(None)
        self.decoder.join()


@pytest.mark.parametrize("size", [(48, 64), (66, 98), (1080, 1920)])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("VP8", {}), ("H264", {}), ("H264", {"profile": "baseline"}), ("H264", {"x264-params": "cqm=jvt"}),
     ("H264", {"x264-params": "interlaced=1"})],
)  # fmt: skip
def test_the_size_of_a_key_frame_is_known_before_it_is_decoded(
    codec: str, options: dict[str, str], size: tuple[int, int]
) -> None:
    if "interlaced=1" in options.values() and size[0] % 4:
        size = (64, 98)
    first, second = encoded(codec, size, 2, **options)[:2]
    is_key, sizes = header_of(codec, first)
    assert is_key and {found[:2] for found in sizes} == {size}
    assert {found.blocks for found in sizes} >= {-(-size[0] // 16) * -(-size[1] // 16)} or "interlaced" in str(options)
    assert not header_of(codec, second).is_key


@pytest.mark.parametrize(
    ("codec", "data"),
    [("VP8", vp8_claiming((16383, 16383))), ("VP8", vp8_claiming((8000, 8000))), ("VP8", vp8_claiming((1088, 1920))),
     ("VP8", vp8_claiming((16, 16383 | 0x8000))[:8] + b"\xff\x3f"),
     ("H264", h264_claiming((16384, 16384))), ("H264", h264_claiming((16384, 16384), crop=(16368, 16368))),
     ("H264", h264_claiming((1088, 1920), kept=16)), ("H264", b"\x00\x00\x01\x09\xf0" + h264_claiming((4096, 4096))),
     ("H264", encoded("H264", (48, 64))[0] + h264_claiming((4096, 4096))),
     ("H264", encoded("H264", (48, 64), pixels="yuv444p")[0]),
     ("H264", encoded("H264", (48, 64), pixels="yuv420p10le")[0])],
)  # fmt: skip
def test_pictures_that_are_too_large_are_not_decoded(codec: str, data: bytes) -> None:
    with contextlib.closing(Seen()) as seen:
        seen.put(codec, data)
        seen.put(codec, encoded(codec, (48, 64))[0])
        assert len(seen.refused) == 1 and ("too large" in seen.refused[0] or "no browser" in seen.refused[0])
        assert seen.decoder._thread is None


@pytest.mark.alone
@pytest.mark.parametrize(
    ("codec", "data"),
    [("VP8", b"\x10"), ("VP8", b"\x10\x00\x00\x9d\x01\x2b" + b"\x40\x00" * 4), ("VP8", vp8_claiming((0, 64))),
     ("H264", b"\x01\x64\x00\x1f\xff\xe1\x00\x04" * 4), ("H264", b"\x00\x00\x01\x67\x42\x00"),
     ("H264", b"\x00\x00\x01\x67" + b"\x00" * 50), ("H264", b"\x00\x00\x01\x41\x80" * 3),
     ("H264", b"\x00\x00\x01\x0c" * 100_000), ("VP9", b"\x82\x49\x83\x42\x00")],
)  # fmt: skip
def test_what_no_encoder_makes_is_not_decoded(codec: str, data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(Damaged):
        header_of(codec, data)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_no_bytes_make_the_header_fail_in_another_way(codec: str) -> None:
    draw, good = random.Random(0), encoded(codec, (48, 64))[0]
    for _ in range(2000):
        data = bytearray(good[: draw.randrange(1, 80)])
        for _ in range(draw.randrange(1, 9)):
            data[draw.randrange(len(data))] = draw.choice((0, 1, 3, 0x67, 0xFF, draw.randrange(256)))
        with contextlib.suppress(Damaged):
            header_of(codec, bytes(data))


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_pictures_have_the_time_at_which_they_came(codec: str) -> None:
    with contextlib.closing(Seen()) as seen:
        began = time.monotonic()
        for index, data in enumerate(encoded(codec, (48, 64), 5)):
            seen.put(codec, data)
            seen.until(index + 1)
        shades = [float(np.mean(picture.to_ndarray()[:48])) for picture, _ in seen.pictures]
        assert shades == pytest.approx([100, 101, 102, 103, 104], abs=2)
        times = [came for _, came in seen.pictures]
        assert times == sorted(times) and began - 1e-3 <= times[0] and times[-1] <= time.monotonic()
        assert not seen.gaps


def test_what_waits_is_left_out_for_a_newer_key_frame() -> None:
    key = encoded("VP8", (48, 64))[0]
    with contextlib.closing(Seen(is_busy=True)) as seen:
        for _ in range(100):
            seen.put("VP8", key)
        assert seen.decoder.waiting <= 1 and seen.decoder.dropped >= 98
        seen.free.set()
        seen.until(2)


def test_what_has_waited_too_long_is_left_out_and_a_key_frame_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.serve.decoder.MAX_WAIT_SECONDS", 0.02)
    key, *others = encoded("VP8", (48, 64), 8)
    with contextlib.closing(Seen(is_busy=True)) as seen:
        for data in (key, *others):
            seen.put("VP8", data)
            time.sleep(0.01)
        assert len(seen.gaps) == 1 and not seen.decoder.waiting
        seen.free.set()
        seen.until(1)
        seen.put("VP8", others[-1])  # of no use without those before
        seen.put("VP8", key)
        seen.until(2)
        assert len(seen.pictures) == 2


def test_frames_that_never_end_leave_time_for_others() -> None:
    key = encoded("VP8", (1080, 1920))[0]
    with contextlib.closing(Seen()) as seen:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            seen.put("VP8", key)
            time.sleep(0.01)
        thread = seen.decoder._thread
        assert thread is not None and thread.native_id is not None
        used = time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
        assert 0 < used < 0.8  # its share of a core, and what may be saved up


@pytest.mark.alone
def test_the_end_does_not_wait_for_what_waits() -> None:
    seen = Seen()
    waiter = threading.Thread(target=seen.decoder.get)
    waiter.start()
    key, other = encoded("VP8", (1080, 1920), 2)
    for data in (key, *[other] * 20):
        seen.put("VP8", data)
    began = time.monotonic()
    seen.decoder.put(None)
    waiter.join(20)
    assert not waiter.is_alive() and time.monotonic() - began < 1
    seen.decoder.join()


def test_more_pictures_than_a_camera_takes_are_refused_but_not_those_after_a_pause() -> None:
    key = encoded("VP8", (48, 64))[0]
    with contextlib.closing(Seen()) as seen:
        for _ in range(140):  # what had to wait on the way comes at once
            seen.put("VP8", key)
        assert not seen.refused
        for _ in range(200):
            seen.put("VP8", key)
        assert len(seen.refused) == 1 and "pictures a second" in seen.refused[0]
