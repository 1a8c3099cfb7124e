"""Tracks that a broadcast names and does not send."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import av
import pytest
from click.testing import CliRunner
from media import Audio, make_video, read_contents

from vidstyle.cli import vidstyle
from vidstyle.video.capture.devices import input_spec
from vidstyle.video.capture.reader import LiveReader


def broadcast(path: Path, kinds: str, codec: str = "aac") -> Path:
    """MPEG-TS whose tracks are, by letter: v video, a sound, V and A the same without a packet."""
    clip = make_video(path.with_suffix(".mkv"), audio=[Audio(codec=codec)])
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mpegts") as output:
        template = {"v": source.streams.video[0], "a": source.streams.audio[0]}
        made = {}
        for kind in kinds:
            stream = output.add_stream_from_template(template[kind.lower()])
            if kind.islower():
                made[template[kind].index] = stream
        for packet in source.demux():
            if packet.dts is not None and packet.stream.index in made:
                packet.stream = made[packet.stream.index]
                output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm"])
@pytest.mark.parametrize(
    ("kinds", "codec"), [("vaA", "aac"), ("vAa", "mp2"), ("AvaAA", "ac3"), ("Vva", "aac"), ("vA", "mp2")]
)
def test_a_track_without_a_packet_is_left_out_and_told(kinds: str, codec: str, suffix: str, tmp_path: Path) -> None:
    source, output = broadcast(tmp_path / "in.ts", kinds, codec), tmp_path / f"out.{suffix}"
    result = CliRunner().invoke(vidstyle, ["render", str(source), str(output), "--work-size", "32", "--strength", "0"])
    assert result.exit_code == 0, result.output
    contents = read_contents(output)
    assert contents.kinds == ["video", "audio"][: 1 + ("a" in kinds)]
    assert len(contents.pts) == 10
    for index in (place for place, kind in enumerate(kinds) if kind == "A"):
        assert re.search(rf"audio track {index} \(\w+\) is empty", result.stderr)  # MPEG layers are told by their data


def test_a_live_source_is_heard_where_there_is_sound(tmp_path: Path) -> None:
    source = broadcast(tmp_path / "in.ts", "AVva")
    reader = LiveReader(input_spec(str(source)), threading.Event(), 3.0, sound=True)
    assert reader.sound is not None and reader.sound.rate == 48000
    reader.close()
