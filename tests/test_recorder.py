"""Recording and streaming from a thread: nothing blocks, nothing is lost in silence, everything ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from broadcasting import CLOCK, FORM, STEREO, Received, feed, frame, now, play, receive
from live_media import PATIENCE, free_port, join, wait_for
from media import largest_file

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.pipeline import BackOff
from vidstyle.video.audio import AudioFormat
from vidstyle.video.output import push_process
from vidstyle.video.output.recorder import Recorder

SOON = 8.0
"""Seconds in which all must end that does not wait for a server: relays have a patience of ten."""


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    before = children()
    yield
    assert not children() - before, "a process was left running"


def children() -> set[int]:
    """Processes that this one has started and not yet waited for."""
    found: set[int] = set()
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(map(int, path.read_text().split()))
    return found


def write_until_failed(made: Recorder, drawn: Callable[[Frame, int], Frame]) -> None:
    end, index = time.monotonic() + PATIENCE, 1
    while not made.failed and time.monotonic() < end:
        made.write(drawn(frame(CLOCK + index * 33_333), index))
        index += 1
        time.sleep(0.005)


def broadcast(target: str | Path, *, sound: AudioFormat | None = None, **options: Any) -> Recorder:
    return Recorder(target, form=FORM, fps=30, sound=sound, **options)


# Files


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_what_is_written_in_real_time_plays_with_its_sound(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with broadcast(path, sound=STEREO) as made:
        frames = feed(made, 1.4)
    assert (made.failed, made.reconnects) == (None, 0)
    played = play(path)
    assert len(played.times) == frames - made.dropped
    assert played.times[0] == 0
    assert played.flashes() == pytest.approx([1], abs=0.035 + made.dropped / 30)
    assert [t for t in played.beeps() if t > 0.5] == pytest.approx([1], abs=0.01)
    assert suffix[1:] in made.description


@pytest.mark.alone
def test_writing_never_waits_and_every_frame_is_accounted_for(tmp_path: Path) -> None:
    form = FrameFormat(height=540, width=960, pixels="i420")
    frames = [frame(CLOCK + index * 33_333, form=form) for index in range(4)]
    path = tmp_path / "out.mp4"
    took = []
    with Recorder(path, form=form, fps=30, sound=None, encode=EncodeOptions(preset="slower")) as made:
        for index in range(60):
            began = time.perf_counter()
            made.write(frames[index % 4].with_planes(frames[index % 4].planes))
            took.append(time.perf_counter() - began)
    assert np.median(took) < 0.01
    assert made.dropped > 0
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames + made.dropped == 60


def test_frames_after_the_end_are_ignored_and_closing_twice_is_fine(tmp_path: Path) -> None:
    made = broadcast(tmp_path / "out.mp4")
    made.write(frame(CLOCK))
    made.close()
    made.close()
    made.write(frame(CLOCK + 40_000))
    assert (made.dropped, made.failed) == (0, None)
    assert len(play(tmp_path / "out.mp4").times) == 1


def test_a_file_that_exists_is_refused_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(BadOption, match=r"out\.mp4 exists; .*--overwrite"):
        broadcast(path)
    assert path.read_bytes() == b"precious"
    with broadcast(path, overwrite=True) as made:
        made.write(frame(CLOCK))
    assert len(play(path).times) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out.avi", r"out\.avi ends in '\.avi'; .*\.mp4, .*\.m3u8, or be a URL: rtmp://"),
        ("out", "out has no suffix"),
        ("ftp://host/out.mp4", "ftp:// is unknown; it can go to rtmp://"),
        ("rtmp:///app/key", "names no host"),
        ("rtmp://host:port/app", "no valid port"),
        ("100%.m3u8", "has a % in its path"),
    ],
)
def test_a_target_that_cannot_be_is_refused_with_a_sentence(target: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        broadcast(target)


def test_a_missing_folder_is_told_at_once(tmp_path: Path) -> None:
    for name in ("out.mp4", "out.m3u8"):
        with pytest.raises(BadOption, match="there is no folder .*nowhere"):
            broadcast(tmp_path / "nowhere" / name)


@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
def test_a_folder_that_may_not_be_written_to_is_told_at_once(no_right_to_write: Path, suffix: str) -> None:
    with pytest.raises(BadOption, match=rf"out\.{suffix}: its folder is not writable"):
        broadcast(no_right_to_write / f"out.{suffix}")


def test_a_folder_that_may_not_be_entered_is_told_at_once(no_right_to_write: Path) -> None:
    closed = no_right_to_write / "closed"
    user = os.geteuid()
    os.seteuid(os.getuid())
    if os.getuid() != 0:
        no_right_to_write.chmod(0o700)
    closed.mkdir(mode=0o000)
    os.seteuid(user)
    with pytest.raises(BadOption, match=r"cannot write .*out\.mp4"):
        broadcast(closed / "out.mp4")
    os.seteuid(os.getuid())
    closed.chmod(0o700)


def test_a_disk_that_takes_nothing_is_told_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    with largest_file(0), pytest.raises(VideoError, match=r"out\.mp4 would become larger"):
        broadcast(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.m3u8"])
def test_of_two_recordings_with_one_name_one_wins(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidstyle.video.output.recorder.check_output", lambda *paths, **_: None)  # both asked before
    with broadcast(tmp_path / name), pytest.raises(BadOption, match=rf"{name} exists; .*--overwrite"):
        broadcast(tmp_path / name)


def test_a_recording_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out.mp4").symlink_to(tmp_path / "large disk" / "real.mp4")
    with broadcast(tmp_path / "out.mp4") as made:
        made.write(frame(CLOCK))
    assert (tmp_path / "out.mp4").is_symlink()
    assert (tmp_path / "large disk" / "real.mp4").stat().st_size > 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_disk_that_fills_up_ends_the_recording_and_leaves_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (8, *FORM.size), dtype=np.uint8)
    with largest_file(400_000), broadcast(path) as made:
        write_until_failed(made, lambda plain, index: plain.with_planes((noise[index % 8], *plain.planes[1:])))
        failed, dropped = made.failed, made.dropped
        made.write(frame(CLOCK + 60_000_000))
        assert made.dropped == dropped + 1
    assert failed is not None and re.search(r"out\.m.* would become larger", failed)
    played = play(path)
    assert len(played.times) > 15


def test_a_file_that_is_removed_meanwhile_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with broadcast(folder / "out.mp4") as made:
        made.write(frame(CLOCK))
        shutil.rmtree(folder)
        write_until_failed(made, lambda plain, index: plain)
    assert "out.mp4 was removed while it was written" in (made.failed or "")


KILLED = """
import os, signal, sys
from broadcasting import FORM, STEREO, feed
from vidstyle.video.output.recorder import Recorder
with Recorder(sys.argv[1], form=FORM, fps=30, sound=STEREO) as made:
    feed(made, 3.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_that_is_killed_lacks_at_most_two_seconds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parent, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    played = play(path)
    assert played.times[0] == 0 and np.diff(played.times).max() < 1
    assert 3.2 - played.times[-1] < 2 and 3.2 - played.sound_seconds < 2
    assert played.flashes()[:1] == pytest.approx([1], abs=0.19)


# Playlists


@pytest.mark.slow
def test_a_playlist_plays_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.m3u8"
    viewed: list[Received] = []

    def view() -> None:
        assert wait_for(lambda: path.exists() and path.read_text().count("#EXTINF") >= 2)
        options = {"live_start_index": "0"}
        with av.open(str(path), options=options, timeout=(PATIENCE, PATIENCE)) as container:
            viewed.extend(receive(container, frames=100))

    viewer = threading.Thread(target=view, daemon=True)
    with broadcast(path, sound=STEREO) as made:
        viewer.start()
        feed(made, PATIENCE, until=lambda: not viewer.is_alive())
        assert "#EXT-X-ENDLIST" not in path.read_text()
    join(viewer)
    assert made.failed is None
    assert "#EXT-X-ENDLIST" in path.read_text()
    assert len(viewed[-1].times) == 100
    assert viewed[-1].flashes() == pytest.approx([1, 2, 3], abs=0.05 + made.dropped / 30)
    assert [t for t in viewed[-1].beeps() if 0.5 < t < 3.3] == pytest.approx([1, 2, 3], abs=0.02)


def test_a_playlist_that_is_overwritten_leaves_no_old_segment(tmp_path: Path) -> None:
    path = tmp_path / "out.m3u8"
    (tmp_path / "out-7.ts").write_bytes(b"old")
    (tmp_path / "out-holiday.ts").write_bytes(b"precious")
    path.write_text("#EXTM3U\n")
    with pytest.raises(BadOption, match="exists"):
        broadcast(path)
    with broadcast(path, overwrite=True) as made:
        made.write(frame(CLOCK))
    assert not (tmp_path / "out-7.ts").exists()
    assert (tmp_path / "out-holiday.ts").exists()
    assert len(play(path).times) == 1


@pytest.mark.slow
def test_a_playlist_whose_folder_vanishes_comes_back_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "out.m3u8"
    with broadcast(path) as made:
        feed(made, 1.2, sound=None)
        shutil.rmtree(folder)
        feed(made, PATIENCE, sound=None, until=lambda: made.failed)
        assert "folder is gone" in (made.failed or "")
        folder.mkdir()
        feed(made, PATIENCE, sound=None, until=lambda: not made.failed)
        assert (made.failed, made.reconnects) == (None, 1)
        feed(made, 0.5, sound=None)
    assert len(play(path).times) > 5


# Servers, each played by FFmpeg's own on the loopback


class Server(threading.Thread):
    """Takes one stream at a time, ``times`` in all, and hangs up after ``frames`` frames."""

    def __init__(self, url: str, *, frames: int | None = None, times: int = 1) -> None:
        super().__init__(daemon=True)
        self.received: list[Received] = []
        self._frames, self._times = frames, times
        self._url = url
        scheme = url.partition(":")[0]
        listen = {"rtmp": {"listen": "1"}, "rtsp": {"rtsp_flags": "listen", "listen_timeout": "20"}}
        # Short, as FFmpeg's own five seconds of looking first would be most of the test.
        self._options = {"analyzeduration": "300000", "fpsprobesize": "1", **listen.get(scheme, {})}
        self._format = {"udp": "mpegts"}.get(scheme)

    def run(self) -> None:
        for _ in range(self._times):
            with av.open(self._url, format=self._format, options=self._options, timeout=(20, 1)) as container:
                made = Received()
                self.received.append(made)
                for made in receive(container, frames=self._frames):
                    self.received[-1] = made

    def listen(self) -> None:
        """Start, and wait until it can be reached (Linux)."""
        self.start()
        port = int(self._url.split(":")[2].split("/")[0])
        tables = [Path("/proc/net/udp" if self._format else "/proc/net/tcp")]
        assert wait_for(lambda: any(f":{port:04X} 00000000:0000" in table.read_text() for table in tables))


def server_url(scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{free_port()}" + ("" if scheme == "udp" else "/live/secretkey")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "sound"), [("rtmp", STEREO), ("rtsp", STEREO), ("udp", None)])
def test_a_server_gets_picture_and_sound_in_step(scheme: str, sound: AudioFormat | None) -> None:
    url = server_url(scheme)
    server = Server(url, frames=72)
    server.listen()
    with broadcast(url, sound=sound) as made:
        feed(made, PATIENCE, sound=sound, until=lambda: not server.is_alive())
        state = made.failed
    join(server)
    played = server.received[0]
    assert len(played.times) >= 60
    assert abs(played.times[0]) < 0.8  # the key frame that it begins with has come over: there is one a second
    if state is not None:
        assert "cannot send to" in state  # the server hung up before the end
    flashes = played.flashes()
    assert len(flashes) >= 2
    assert np.diff(flashes) == pytest.approx(1, abs=0.05)
    if sound is not None:
        beeps = played.beeps()
        nearest = [min(beeps, key=lambda beep: abs(beep - flash)) for flash in flashes]
        assert nearest == pytest.approx(flashes, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "times"), [("rtmp", 5), ("rtsp", 1)])
def test_a_server_that_goes_away_is_found_again_each_time(scheme: str, times: int) -> None:
    url = server_url(scheme)
    server = Server(url, frames=4, times=times + 1)
    server.listen()
    told: set[str] = set()
    with broadcast(url, sound=STEREO, back_off=BackOff(longest=0.25)) as made:  # or it takes 20 s

        def over() -> bool:
            told.add(made.failed or "")
            return not server.is_alive()

        feed(made, 2 * PATIENCE, until=over)
        join(server)
    assert [len(one.times) >= 4 for one in server.received] == [True] * (times + 1)
    assert made.reconnects == times
    assert any("cannot send to" in sentence for sentence in told)


def test_a_server_that_was_never_there_is_told_and_the_picture_goes_on() -> None:
    url = server_url("rtmp")
    with broadcast(url, sound=STEREO) as made:
        frames = feed(made, PATIENCE, until=lambda: made.failed)
        assert re.search(r"rtmp://127.0.0.1:\d+/live/\.\.\.: Connection refused; trying again", made.failed or "")
        began = time.monotonic()
    assert time.monotonic() - began < SOON
    assert made.reconnects == 0
    assert made.dropped == frames


def test_keys_are_shown_nowhere() -> None:
    url = server_url("rtmp").replace("://", "://user:password@") + "?token=abc"
    with broadcast(url) as made:
        lines: list[str] = []

        def failed() -> str | None:
            for pid in children():
                with contextlib.suppress(OSError):  # it has ended
                    lines.append(Path(f"/proc/{pid}/cmdline").read_text())
            return made.failed

        made.write(frame(now()))
        assert wait_for(failed)
        shown = " ".join([made.description, made.failed or "", *lines])
    assert any("push_child" in line for line in lines)
    assert not re.search("secretkey|password|abc", shown)


@contextlib.contextmanager
def mute_server() -> Iterator[str]:
    """Accepts connections and never says a word, nor reads one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["rtmp", "rtsp"])
def test_a_server_that_does_not_answer_stops_neither_the_picture_nor_the_end(scheme: str) -> None:
    with mute_server() as address, broadcast(f"{scheme}://{address}/live/key", sound=STEREO) as made:
        longest, last = 0.0, time.monotonic()
        for _ in range(3):
            feed(made, 0.2)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        began = time.monotonic()
        made.close()
        assert time.monotonic() - began < SOON
        assert longest < SOON


def test_a_server_that_does_not_answer_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_process, "PATIENCE_SECONDS", 0.5)
    with mute_server() as address, broadcast(f"rtmp://{address}/live/key") as made:
        feed(made, PATIENCE, sound=None, until=lambda: made.failed)
        assert "no answer within 0.5 s" in (made.failed or "")


@pytest.mark.parametrize("wait", [0.0, 0.7])
def test_closing_while_it_waits_to_connect_again_takes_no_time(wait: float) -> None:
    made = broadcast(server_url("rtmp"), back_off=BackOff(60.0))
    made.write(frame(now()))
    time.sleep(wait)
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < SOON


class Stalling(threading.Thread):
    """Passes an RTMP stream on to a real server, and stops reading after some bytes."""

    def __init__(self, server: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._listener = socket.socket()
        self._listener.settimeout(PATIENCE)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"rtmp://127.0.0.1:{self._listener.getsockname()[1]}/live/key"
        self.release = threading.Event()
        self.stalled = threading.Event()

    def run(self) -> None:
        host, port = re.findall(r"//(.*?):(\d+)", self._server)[0]
        with self._listener, self._listener.accept()[0] as client, socket.create_connection((host, int(port))) as far:
            client.settimeout(0.01)
            far.settimeout(0.01)
            passed = 0
            while passed < 60_000 and not self.release.is_set():
                for source, target in ((client, far), (far, client)):
                    with contextlib.suppress(TimeoutError):
                        data = source.recv(4096)
                        target.sendall(data)
                        passed += len(data)
            self.stalled.set()
            self.release.wait(2 * PATIENCE)


@pytest.mark.alone
@pytest.mark.slow
def test_a_server_that_stops_reading_stops_neither_the_picture_nor_the_end() -> None:
    behind = Server(server_url("rtmp"))
    behind.listen()
    stalling = Stalling(behind._url)
    stalling.start()
    form = FrameFormat(height=360, width=640, pixels="i420")
    noise = np.random.default_rng(0).integers(0, 255, (8, *form.size), dtype=np.uint8)
    made = Recorder(stalling.url, form=form, fps=1000, sound=None)  # for the bit rate that goes with it
    try:
        took, index = [], 0
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not (stalling.stalled.is_set() and made.dropped > 30):
            plain = frame(now(), form=form)
            began = time.perf_counter()
            made.write(plain.with_planes((noise[index % 8], *plain.planes[1:])))
            took.append(time.perf_counter() - began)
            index += 1
            time.sleep(0.03)
        assert stalling.stalled.is_set()
        assert np.median(took) < 0.01
    finally:
        began = time.monotonic()
        made.close()
        ended = time.monotonic() - began
        stalling.release.set()
        join(stalling)
        join(behind)
    assert made.dropped > 30  # it was blocked indeed
    assert ended < SOON


def test_srt_without_its_library_is_told() -> None:
    try:
        broadcast("srt://127.0.0.1:9").close()
    except VideoError as error:
        assert "cannot speak srt://; send to rtmp://" in str(error)  # noqa: PT017
