"""Live sources, read for real: files, the test pattern, an X screen, HTTP, RTSP and UDP on loopback."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from live_media import (
    free_port,
    http_server,
    join,
    mjpeg_server,
    open_descriptors,
    rtsp_server,
    sending,
    silent_server,
    wait_for,
    x_display,
    x_fill,
)
from media import Audio, make_video, picture, psnr

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, rgb_from_yuv
from vidstyle.video.audio import AudioChunk
from vidstyle.video.capture import Capture
from vidstyle.video.demux import PictureDecoder


def now() -> int:
    return time.monotonic_ns() // 1000


@pytest.fixture(autouse=True)
def nothing_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine puts recordings off, as it should: see test_capture_clock.py. Here that would be noise."""
    monkeypatch.setattr("vidstyle.video.capture.clock.LATE", 60_000_000)


def take(capture: Capture, count: int) -> list[Frame]:
    return list(itertools.islice(capture.frames(), count))


def rgb(frame: Frame) -> np.ndarray:
    """(height, width, 3) of an i420 frame."""
    y, u, v = frame.planes
    height, width = y.shape
    chroma = [p.repeat(2, 0).repeat(2, 1)[:height, :width] for p in (u, v)]
    matrix, offset = rgb_from_yuv(frame.form.matrix, frame.form.full_range)
    return np.clip(np.stack([y, *chroma], -1) @ matrix.T + offset, 0, 255).astype(np.uint8)


def level(frame: Frame) -> float:
    """Gray of a picture of one gray, 0-255."""
    luma = float(np.mean(frame.planes[0]))
    return luma if frame.form.full_range else (luma - 16) * 255 / 219


class Reading:
    """A thread that reads a capture, as the live mode does."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.seen: tuple[int, Frame | None, int] = (0, None, 0)
        """How many frames have come, the last one, and when that was."""
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="vidstyle-capture", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        return self.seen[0]

    @property
    def frame(self) -> Frame:
        assert self.seen[1] is not None
        return self.seen[1]

    def reads_on(self, frames: int = 3) -> bool:
        """Whether so many more frames come in time."""
        count = self.count
        return wait_for(lambda: self.count > count + frames)

    def _read(self) -> None:
        try:
            for count, frame in enumerate(self.capture.frames(), 1):
                self.seen = count, frame, now()
        except BaseException as error:
            self.error = error

    def end(self) -> float:
        """Close the capture from this thread; seconds until the reader is gone."""
        began = time.monotonic()
        self.capture.close()
        join(self._thread)
        return time.monotonic() - began


@contextlib.contextmanager
def reading(source: str, **options: object) -> Iterator[Reading]:
    with Capture(source, **options) as capture:  # type: ignore[arg-type]
        reader = Reading(capture)
        try:
            yield reader
        finally:
            reader.end()


# Files


def test_file_is_played_in_real_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25, frames=15)
    with Capture(str(path)) as capture:
        time.sleep(0.2)  # playing starts with the first frame that is asked for
        began = now()
        arrivals, frames = [], []
        for frame in capture.frames():
            arrivals.append(now())
            frames.append(frame)
        took = now() - began
    assert len(frames) == 15
    assert np.diff([f.pts for f in frames]) == pytest.approx(40_000, abs=2)
    assert took > 0.57e6, "the last frame is shown for its time, too"
    assert frames[0].pts >= began
    assert (np.array(arrivals) >= [f.pts for f in frames]).all(), "a frame came before its time"
    assert (capture.live, capture.fps, capture.state) == (False, 25.0, "open")
    assert capture.description == "a.mp4, 64x48 at 25 fps (h264)"


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", rate=25, pts=[0, 1, 2, 6, 7, 12])
    with Capture(str(path)) as capture:
        assert capture.sound_form is None
        pts = [f.pts for f in capture.frames()]
    assert np.diff(pts) == pytest.approx(np.array([1, 1, 4, 1, 5]) * 40_000, abs=1500)


def test_loop_starts_again_without_a_gap(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25, frames=5)
    with Capture(str(path), loop=True) as capture:
        frames = take(capture, 13)
    assert np.diff([f.pts for f in frames]) == pytest.approx(40_000, abs=2)
    assert psnr(rgb(frames[0]), rgb(frames[5])) == float("inf")


def test_buffers_of_earlier_passes_are_freed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=50, frames=2)

    def video_frames() -> list[av.VideoFrame]:
        # `isinstance` asks an object for its class, which some of torch's answer with a warning.
        return [thing for thing in gc.get_objects() if issubclass(type(thing), av.VideoFrame)]

    gc.collect()
    before = video_frames()  # held, so that no new frame can have the address of one of them
    known = {id(frame) for frame in before}
    gc.disable()
    try:
        with Capture(str(path), loop=True) as capture:
            for _ in itertools.islice(capture.frames(), 20):
                pass
            left = [frame for frame in video_frames() if id(frame) not in known]
    finally:
        gc.enable()
    assert len(left) <= 3, "each pass leaves a frame and its decoder's buffers behind"


def test_pictures_are_those_of_the_file_and_upright(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", size=(48, 64), frames=2, rotation=90, smooth=True)
    with Capture(str(path)) as capture:
        frame = take(capture, 1)[0]
    assert frame.form.size == (64, 48)
    assert psnr(rgb(frame), np.rot90(picture((48, 64), 0, smooth=True), -1)) > 32


def test_larger_file_is_scaled_to_fit(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", size=(120, 160), frames=2)
    with Capture(str(path), size=(60, 200)) as capture:
        assert capture.form.size == (60, 80)
        assert take(capture, 1)[0].planes[0].shape == (60, 80)
        assert capture.description.endswith("scaled to 80x60")
    with Capture(str(path), size=(480, 640)) as capture:
        assert capture.form.size == (120, 160), "never scaled up"


def test_sound_of_a_file_is_in_step_with_its_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25, frames=20, audio=[Audio(rate=44100)])
    pieces: list[AudioChunk] = []
    with Capture(str(path), on_sound=pieces.append) as capture:
        frames = list(capture.frames())
    assert capture.sound_form is not None and capture.sound_form.rate == 48000
    assert abs(pieces[0].pts - frames[0].pts) < 60_000
    samples = np.concatenate([p.samples for p in pieces], axis=1)
    assert samples.shape[0] == 2
    assert samples.shape[1] / 48000 == pytest.approx(0.8, abs=0.08)
    for one, after in itertools.pairwise(pieces):
        assert abs(after.pts - one.pts - one.samples.shape[1] / 0.048) < 3
    assert 0.1 < np.abs(samples).max() <= 1.0


def test_close_wakes_a_reader_that_waits_for_the_next_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", rate=1, pts=[0, 60])
    with reading(str(path)) as reader:
        assert wait_for(lambda: reader.count == 1)
        assert reader.end() < 20
    assert reader.error is None


def test_listener_may_close(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25, frames=20, audio=[Audio()])
    capture = Capture(str(path), on_sound=lambda _: capture.close())
    assert len(list(capture.frames())) < 20
    capture.close()


# Pattern and screen


def test_pattern_comes_at_the_asked_size_and_pace() -> None:
    with Capture("testsrc", size=(48, 64), fps=50) as capture:
        assert capture.form.size == (48, 64)
        began = now()
        frames = take(capture, 16)
        took = now() - began
    assert capture.live and capture.fps == 50
    assert capture.description == "test pattern, 64x48 at 50 fps"
    assert took > 0.28e6
    assert np.diff([f.pts for f in frames]) == pytest.approx(20_000, abs=2)
    assert rgb(frames[0]).std() > 50


def test_screen_shows_what_is_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with x_display((240, 320)) as display:
        monkeypatch.setenv("DISPLAY", display)
        with reading("screen", fps=30) as reader:
            capture = reader.capture
            assert capture.form.size == (240, 320) and capture.fps == 30
            assert wait_for(lambda: reader.count > 2)
            x_fill(display, (200, 80, 20))
            wanted = np.array((200, 80, 20))
            assert wait_for(lambda: np.abs(rgb(reader.frame)[200:, 250:].mean((0, 1)) - wanted).max() < 6)
        with Capture("screen", size=(120, 200)) as capture:
            assert capture.form.size == (120, 160)


# Streams


def test_mjpeg_over_http() -> None:
    with mjpeg_server() as server, reading(f"http://127.0.0.1:{server.port}/cam") as reader:
        assert wait_for(lambda: reader.count > 10)
        _, frame, came = reader.seen
        assert frame is not None and reader.capture.form.full_range, "JPEG is full range"
        assert 50 < level(frame) < 150
        assert 0 <= came - frame.pts < 5_000_000, "not on the capture clock"
        assert reader.capture.live


def test_rtsp() -> None:
    with rtsp_server() as server, reading(f"rtsp://127.0.0.1:{server.port}/cam") as reader:
        assert wait_for(lambda: reader.count > 20)
        count, frame, came = reader.seen
        assert frame is not None
        assert level(frame) == pytest.approx(50 + (count - 1) % 100, abs=3)
        assert 0 <= came - frame.pts < 5_000_000, "not on the capture clock"
        assert reader.capture.fps == 25


def test_mpegts_over_udp() -> None:
    port = free_port()
    with sending(f"udp://127.0.0.1:{port}?pkt_size=1316"), reading(f"udp://127.0.0.1:{port}") as reader:
        assert wait_for(lambda: reader.count > 10)
        assert reader.capture.fps == 25 and reader.capture.live


@pytest.mark.slow
def test_udp_comes_back_when_the_sender_does() -> None:
    port = free_port()
    with contextlib.ExitStack() as senders:
        senders.enter_context(sending(f"udp://127.0.0.1:{port}?pkt_size=1316"))
        with reading(f"udp://127.0.0.1:{port}") as reader:
            assert wait_for(lambda: reader.count > 3)
            senders.close()
            assert wait_for(lambda: reader.capture.state == "lost")
            with sending(f"udp://127.0.0.1:{port}?pkt_size=1316"):
                assert reader.reads_on(5)
            assert reader.capture.reconnects == 1


def test_recording_behind_a_url_is_played_as_a_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25, frames=10, container_options={"movflags": "faststart"})
    with http_server(path) as server, Capture(f"http://127.0.0.1:{server.port}/a.mp4") as capture:
        assert not capture.live
        began = now()
        frames = list(capture.frames())
        assert now() - began > 0.35e6
    assert len(frames) == 10


def test_transport_stream_over_http_is_live(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", rate=25, frames=50)
    server = http_server(path, "video/mp2t", sized=False, rate=path.stat().st_size)
    with server, reading(f"http://127.0.0.1:{server.port}/live") as reader:
        assert reader.capture.live
        assert wait_for(lambda: reader.count > 5)
        assert wait_for(lambda: reader.capture.reconnects > 0)


def test_sound_of_a_stream_is_on_the_clock_of_its_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", rate=25, frames=75, audio=[Audio()])
    server = http_server(path, "video/mp2t", sized=False, rate=path.stat().st_size // 3)
    pieces: list[AudioChunk] = []
    with server, reading(f"http://127.0.0.1:{server.port}/live", on_sound=pieces.append) as reader:
        assert wait_for(lambda: reader.count > 20 and len(pieces) > 60)
        heard, frame = pieces[:], reader.frame
    assert abs(heard[-1].pts - frame.pts) < 2_000_000, "not on one clock"
    steps = np.array([b.pts - a.pts - a.samples.shape[1] / 0.048 for a, b in itertools.pairwise(heard)])
    joined = np.abs(steps) < 3
    # Where frames come late and then in time again the clock is set anew, and the sound with it, in one step.
    assert (joined | (np.abs(steps) > 35_000)).all()
    assert joined.mean() > 0.7


def test_stream_that_drops_is_said_to_be_lost_and_comes_back() -> None:
    with mjpeg_server() as server, reading(f"http://127.0.0.1:{server.port}/cam") as reader:
        assert wait_for(lambda: reader.count > 3)
        server.stop()
        assert wait_for(lambda: reader.capture.state == "lost")
        last = reader.frame
        server.start()
        assert reader.reads_on()
        assert (reader.capture.state, reader.capture.reconnects) == ("open", 1)
        assert reader.frame.pts > last.pts


def test_size_and_range_after_a_drop_are_brought_to_the_first(tmp_path: Path) -> None:
    """First JPEG of 64x48, full range; then H.264 of 96x72, limited range, at the same address."""
    gray = np.full((72, 96, 3), 200, np.uint8)
    path = make_video(tmp_path / "a.ts", size=(72, 96), rate=25, frames=50, pictures=[gray] * 50)
    with mjpeg_server() as first, reading(f"http://127.0.0.1:{first.port}/cam") as reader:
        assert wait_for(lambda: reader.count > 3)
        first.stop()
        second = http_server(path, "video/mp2t", sized=False, rate=path.stat().st_size)
        second.port = first.port
        with second:
            assert wait_for(lambda: reader.capture.reconnects > 0) and reader.reads_on()
            frame = reader.frame
        assert frame.form == reader.capture.form and frame.form.full_range
        assert frame.planes[0].shape == (48, 64)
        assert level(frame) == pytest.approx(200, abs=2)


def test_a_source_that_turns_is_fitted_and_never_squashed() -> None:
    sizes = [(48, 64)]
    with mjpeg_server(size=lambda: sizes[-1]) as server, reading(f"http://127.0.0.1:{server.port}/cam") as reader:
        for size, shown in (((96, 128), (48, 64)), ((128, 96), (48, 36)), ((64, 320), (12, 64)), ((48, 64), (48, 64))):
            sizes.append(size)
            assert wait_for(lambda shown=shown: reader.count and reader.frame.planes[0].shape == shown), size  # type: ignore[misc]
            assert reader.frame.form.size == shown
            assert reader.capture.form.size == (48, 64)


def test_where_decoding_is_slow_the_newest_picture_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    decode = PictureDecoder.decode

    def slow(decoder: PictureDecoder, packet: Any) -> list[av.VideoFrame]:
        time.sleep(0.05)
        return decode(decoder, packet)

    monkeypatch.setattr(PictureDecoder, "decode", slow)
    server = mjpeg_server(size=lambda: (sent.append(0), (48, 64))[1])  # 50 a second
    with server, Capture(f"http://127.0.0.1:{server.port}/cam") as capture:
        began, behind = time.monotonic(), []
        for frame in capture.frames():
            behind.append((len(sent) - 1 - (level(frame) - 50)) % 100)
            if time.monotonic() - began > 2.5:
                break
    assert len(behind) > 10
    assert max(behind) < 60  # without it 75 are behind by then, and more each second


@pytest.mark.parametrize("rotation", [0, 90])
def test_pixels_that_are_not_square_are_made_so(rotation: int, tmp_path: Path) -> None:
    path = make_video(tmp_path / "dv.mp4", size=(48, 60), sample_aspect_ratio=Fraction(16, 15), rotation=rotation)
    with Capture(str(path)) as capture:
        frame = next(capture.frames())
    assert capture.form.size == frame.form.size == ((64, 48) if rotation else (48, 64))


@pytest.mark.slow
def test_an_rtsp_camera_that_goes_away_is_found_again_each_time() -> None:
    with rtsp_server() as server, reading(f"rtsp://127.0.0.1:{server.port}/cam", back_off=0.05) as reader:
        assert wait_for(lambda: reader.count > 1)
        for kills in range(1, 6):
            server.stop()
            server.start()
            assert wait_for(lambda kills=kills: reader.capture.reconnects >= kills)  # type: ignore[misc]
            seen = reader.count
            assert wait_for(lambda seen=seen: reader.count > seen + 1)  # type: ignore[misc]
        assert reader.capture.reconnects == 5 and reader.error is None


# Ends


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_server_that_says_nothing_is_an_error_that_says_so(scheme: str) -> None:
    with silent_server() as server, pytest.raises(VideoError, match=r"did not answer within 0\.4 s"):
        Capture(f"{scheme}://127.0.0.1:{server.port}/cam", patience=0.4)


def test_close_while_the_server_has_gone_silent() -> None:
    with mjpeg_server(frames=5) as server, reading(f"http://127.0.0.1:{server.port}/cam") as reader:
        assert wait_for(lambda: reader.count == 5)
        time.sleep(0.1)
        assert reader.end() < 10


def test_close_while_it_waits_to_come_back() -> None:
    with mjpeg_server() as server, reading(f"http://127.0.0.1:{server.port}/cam", back_off=60.0) as reader:
        assert wait_for(lambda: reader.count > 2)
        server.stop()
        assert wait_for(lambda: reader.capture.state == "lost")
        assert reader.end() < 20


@pytest.mark.slow
def test_close_while_a_silent_server_is_opened_again() -> None:
    with mjpeg_server() as server, reading(f"http://127.0.0.1:{server.port}/cam") as reader:
        assert wait_for(lambda: reader.count > 2)
        server.stop()
        silent = silent_server()
        silent.port = server.port
        with silent:
            assert wait_for(lambda: silent.accepted > 0)
            assert reader.end() < 20


def test_nothing_is_left_of_a_capture_that_was_not_read() -> None:
    with mjpeg_server() as server:
        descriptors = open_descriptors()
        capture = Capture(f"http://127.0.0.1:{server.port}/cam")
        capture.close()
        capture.close()
        assert list(capture.frames()) == []
    assert open_descriptors() <= descriptors


def test_refusals_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    for source, sentence in {
        "97": "no camera 97",
        "/dev/video97": "no camera /dev/video97",
        "No Such Camera": "no file and no camera called 'No Such Camera'",
        "missing.mp4": "there is no file missing.mp4",
        "a.jpg": "is a JPEG picture",
        f"http://127.0.0.1:{free_port()}/cam": "nothing answers at http://127.0.0.1",
        f"rtsp://127.0.0.1:{free_port()}/cam": "nothing answers at rtsp://127.0.0.1",
    }.items():
        with pytest.raises(VideoError, match=sentence):
            Capture(source)


def test_page_that_is_no_video_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("<html>" + "x" * 3000)
    with http_server(page, "text/html") as server, pytest.raises(VideoError, match="not with a video"):
        Capture(f"http://127.0.0.1:{server.port}/a.html")


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(BadOption, match="fps"):
        Capture("testsrc", fps=0)
    with pytest.raises(BadOption, match="side"):
        Capture("testsrc", size=(0, 640))


def test_missing_device_is_refused_by_the_driver_for_real() -> None:
    from vidstyle.video.capture.devices import InputSpec

    origin = InputSpec("camera", "/dev/video97", "camera 97", "v4l2", ({"input_format": "mjpeg"}, {}))
    with pytest.raises(VideoError, match="there is no camera at /dev/video97"):
        origin.open(1.0)
