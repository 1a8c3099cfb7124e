"""Which camera a word means, and what is asked of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidstyle.errors import VideoError
from vidstyle.video.capture.devices import camera_named, cameras, input_spec
from vidstyle.video.output.muxer import output_spec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What Linux shows of three cameras, of which the first has a second node."""
    for number, name, index in (
        (0, "HD Pro Webcam C920", 0),
        (1, "HD Pro Webcam C920", 1),
        (2, "Integrated Camera", 0),
        (10, "OBS Virtual Camera", 0),
    ):
        folder = tmp_path / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text(f"{index}\n")
    return tmp_path


def test_cameras_are_listed_once_and_by_number(root: Path) -> None:
    assert [c.index for c in cameras("linux", root)] == [0, 2, 10]
    assert [c.address for c in cameras("linux", root)] == ["/dev/video0", "/dev/video2", "/dev/video10"]


@pytest.mark.parametrize(
    ("word", "index"),
    [("0", 0), ("10", 10), ("/dev/video2", 2), ("Integrated Camera", 2), ("c920", 0), ("virtual", 10)],
)
def test_number_path_name_and_part_of_a_name_mean_a_camera(root: Path, word: str, index: int) -> None:
    assert camera_named(word, "linux", root).index == index


def test_whole_name_wins_over_a_part(root: Path) -> None:
    (root / "video2" / "name").write_text("Camera\n")
    assert camera_named("camera", "linux", root).index == 2


def test_part_that_fits_two_cameras_is_refused_with_both(root: Path) -> None:
    with pytest.raises(VideoError, match=r"2 \(Integrated Camera\), 10 \(OBS Virtual Camera\)"):
        camera_named("camera", "linux", root)


@pytest.mark.parametrize("word", ["7", "/dev/video7", "Brio"])
def test_missing_camera_is_refused_with_those_there_are(root: Path, word: str) -> None:
    with pytest.raises(VideoError, match=r"there are 0 \(HD Pro Webcam C920\), 2 \(Int"):
        camera_named(word, "linux", root)


def test_machine_without_cameras_says_so(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no camera at all"):
        camera_named("0", "linux", tmp_path)


def test_camera_is_asked_for_mjpeg_first_and_then_for_less(root: Path) -> None:
    origin = input_spec("0", size=(720, 1280), fps=30, system="linux", cameras_at=root)
    assert (origin.kind, origin.format, origin.label) == ("camera", "v4l2", "HD Pro Webcam C920")
    first, *rest = origin.attempts
    assert (first["input_format"], first["video_size"], first["framerate"]) == ("mjpeg", "1280x720", "30")
    size, rate = "video_size", "framerate"
    wishes = [{"input_format", size, rate} & attempt.keys() for attempt in rest]
    assert wishes == [{"input_format", size}, {size, rate}, {size}, set()]
    assert all(a["fflags"] == "+4" for a in origin.attempts), "a camera that stalls must not hold the thread"


def test_camera_without_wishes_is_asked_for_mjpeg_only(root: Path) -> None:
    origin = input_spec("0", system="linux", cameras_at=root)
    assert [a.get("input_format") for a in origin.attempts] == ["mjpeg", None]


@pytest.mark.parametrize(
    ("url", "transport"),
    [("rtsp://h/a", "tcp"), ("rtsp://h/a?udp", None), ("rtsp://h/a?x=1&tcp", None), ("http://h/a", None)],
)
def test_rtsp_comes_over_tcp_unless_the_url_says_otherwise(url: str, transport: str | None) -> None:
    assert input_spec(url).attempts[0].get("rtsp_transport") == transport


@pytest.mark.parametrize(
    ("url", "label"),
    [("rtsp://me:secret@host/a", "rtsp://host"), ("http://me:p@ss:w@10.0.0.5:8080/secret?token=secret", "http://10.0.0.5"),
     ("rtmp://host/app/secret", "rtmp://host"), ("http://[fd00::5]:80/secret", "http://[fd00::5]"),
     ("https://host?token=secret", "https://host"), ("https://host#secret", "https://host"),
     ("http://me:se/cr@et@host/a", "http://..."), ("srt://host:9000?passphrase=secret@x", "srt://..."),
     ("udp://@239.1.1.1:5000", "udp://239.1.1.1"), ("http://ho\x1b[31mst/", "http://ho")],
)  # fmt: skip
def test_of_a_url_only_scheme_and_host_are_shown(url: str, label: str) -> None:
    origin = input_spec(url)
    assert origin.label == label and origin.address == url
    failed = origin._sentence(OSError(f"cannot read '{url}': gone"), None)
    assert "secret" not in failed and "p@ss" not in failed and "token" not in failed


def test_stream_may_not_name_local_files() -> None:
    assert "file" not in input_spec("http://h/list.m3u8").attempts[0]["protocol_whitelist"].split(",")


def test_a_scheme_in_capitals_is_the_same_one() -> None:
    assert input_spec("RTSP://Host/Path").address == "rtsp://Host/Path"
    assert output_spec("UDP://127.0.0.1:5000").where.startswith("udp://127.0.0.1:5000")


def test_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(VideoError, match=r"begins with gopher://.*rtsp.*srt"):
        input_spec("gopher://host/a")


def test_screen_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(VideoError, match="DISPLAY is not set"):
        input_spec("screen", system="linux")
