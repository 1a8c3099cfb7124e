"""Everything of the source but its pictures: it is kept, or a note says why not."""

from __future__ import annotations

import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition
from media import Audio, Subtitle, copied, copy, make_video, png_cover, read_contents

from vidstyle.options import ClipOptions
from vidstyle.video.capture.devices import input_spec
from vidstyle.video.capture.reader import LiveReader
from vidstyle.video.stream_copy import timecode_behind


def remuxed(path: Path, kinds: str, codec: str = "aac") -> Path:
    """A file whose tracks are, by letter: v video, a sound, V and A the same without a packet."""
    clip = make_video(path.with_name("clip.mkv"), audio=[Audio(codec=codec)])
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
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


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_is_copied_bit_for_bit_at_its_own_times(tmp_path: Path, suffix: str) -> None:
    tracks = [Audio(language="eng", title="English"), Audio(language="fra", layout="5.1", rate=44100, title="Français")]
    source = make_video(tmp_path / "in.mp4", frames=30, audio=tracks)
    before, after = read_contents(source), copied(source, f"out{suffix}")
    assert (after.kinds, after.notes) == (["video", "audio", "audio"], [])
    for index in (1, 2):
        assert [data for _, data in after.packets[index]] == [data for _, data in before.packets[index]]
        tolerance = Fraction(1, 1000) if suffix == ".mkv" else 0
        pairs = zip(before.packets[index], after.packets[index], strict=True)
        assert max(abs(old - new) for (old, _), (new, _) in pairs) <= tolerance
    assert [tags.get("language") for tags in after.tags[1:]] == ["eng", "fra"]
    assert [tags.get("title") or tags.get("name") for tags in after.tags[1:]] == ["English", "Français"]
    assert after.pts == before.pts


def test_a_sound_track_that_comes_first_stays_first(tmp_path: Path) -> None:
    assert copied(remuxed(tmp_path / "in.mp4", "av"), "out.mp4").kinds == ["audio", "video"]


def test_sound_longer_than_the_picture_is_kept_whole(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=5, audio=[Audio(seconds=2.0)])
    assert copied(source, "out.mp4").packets == read_contents(source).packets


def test_sound_and_picture_are_interleaved(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=100, audio=[Audio()])
    output = tmp_path / "out.mkv"
    copy(source, output)
    with av.open(str(output)) as file:
        times = [float(p.pts * p.time_base) for p in file.demux() if p.size]
    assert max(max(times[: i + 1]) - t for i, t in enumerate(times)) < 0.5


KEPT = {
    "mp4": ("aac", "mp3", "ac3", "flac", "libopus", "alac", "pcm_s16le"),
    "mov": ("alac", "pcm_s16le"),
    "mkv": ("libopus", "flac", "pcm_s16le"),
    "webm": ("libopus",),
}
CONVERTED = {"mov": ("libopus", "flac"), "webm": ("aac", "pcm_s16le")}


@pytest.mark.parametrize(("suffix", "codec"), [(suffix, codec) for suffix in KEPT for codec in KEPT[suffix]])
def test_sound_is_copied_where_the_container_can_hold_it(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", frames=25, audio=[Audio(codec=codec)])
    before, after = read_contents(source), copied(source, f"out.{suffix}")
    assert (after.notes, after.pts, after.codecs[1]) == ([], before.pts, before.codecs[1])
    # MP4 cuts raw sound into other packets.
    assert b"".join(data for _, data in after.packets[1]) == b"".join(data for _, data in before.packets[1])
    assert after.tags[1]["language"] == "eng"


@pytest.mark.parametrize(("suffix", "codec"), [(suffix, codec) for suffix in CONVERTED for codec in CONVERTED[suffix]])
def test_sound_that_the_container_cannot_hold_is_converted(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", frames=25, audio=[Audio(codec=codec)])
    after, new = copied(source, f"out.{suffix}"), {"mov": "aac", "webm": "opus"}[suffix]
    assert (after.codecs[1], after.pts) == (new, read_contents(source).pts)
    assert [f"is converted to {new}, because" in note for note in after.notes] == [True]
    assert 0.95 < _seconds_of_sound(tmp_path / f"out.{suffix}") < 1.1
    assert after.tags[1]["language"] == "eng"


def _seconds_of_sound(path: Path) -> float:
    with av.open(str(path)) as file:
        return sum(f.samples / f.sample_rate for f in file.decode(audio=0))


@pytest.mark.parametrize(("start", "end"), [(0.5, None), (0.5, 1.0)])
def test_converted_sound_is_cut_with_the_picture(tmp_path: Path, start: float, end: float | None) -> None:
    source = make_video(tmp_path / "in.mp4", frames=50, audio=[Audio()])
    output = tmp_path / "out.webm"
    copy(source, output, clip=ClipOptions(start=start, end=end))
    assert abs(_seconds_of_sound(output) - ((end or 2.0) - start)) < 0.06
    with av.open(str(output)) as file:
        first = next(file.decode(audio=0))
    assert abs(float(first.pts * first.time_base)) < 0.05


LINES = ((0.1, 0.4, "first"), (0.5, 0.8, r"second & more"), (0.9, 1.2, "été"))


def subtitle_lines(path: Path) -> list[tuple[float, float, str]]:
    """Begin, end and text of the first subtitle track."""
    lines = []
    with av.open(str(path)) as file:
        stream: Any = file.streams.subtitles[0]
        for packet in (packet for packet in file.demux(stream) if packet.size):
            begin, length = float(packet.pts * packet.time_base), float(packet.duration * packet.time_base)
            lines += [(begin, begin + length, rect.dialogue.decode()) for rect in stream.decode(packet)]
    return lines


@pytest.mark.parametrize(
    ("codec", "suffix", "kept"),
    [
        *(("srt", ".mp4", "mov_text"), ("srt", ".mkv", "subrip"), ("srt", ".webm", "webvtt")),
        *(("ass", ".mp4", "mov_text"), ("ass", ".mkv", "ass"), ("ass", ".webm", "webvtt")),
        *(("webvtt", ".mov", "mov_text"), ("webvtt", ".mkv", "webvtt")),
        *(("mov_text", ".mp4", "mov_text"), ("mov_text", ".mkv", "subrip"), ("mov_text", ".webm", "webvtt")),
    ],
)
def test_text_subtitles_are_kept_in_any_container(tmp_path: Path, codec: str, suffix: str, kept: str) -> None:
    source = make_video(
        tmp_path / ("in.mp4" if codec == "mov_text" else "in.mkv"),
        frames=40,
        subtitles=[Subtitle(codec=codec, lines=LINES, language="deu"), Subtitle(codec=codec, language="ita")],
    )
    contents = copied(source, f"out{suffix}")
    assert contents.codecs[1:] == [kept, kept]
    assert [tags["language"] for tags in contents.tags[1:]] == ["ger" if suffix == ".mov" else "deu", "ita"]
    lines = subtitle_lines(tmp_path / f"out{suffix}")
    assert lines == [(pytest.approx(a), pytest.approx(b), text) for a, b, text in LINES]
    converted = read_contents(source).codecs[1] != kept
    assert ["is converted to" in note for note in contents.notes] == [True, True] * converted


@pytest.mark.parametrize(
    ("codec", "suffix"), [("srt", ".mkv"), ("ass", ".mkv"), ("mov_text", ".mp4"), ("webvtt", ".mkv")]
)
@pytest.mark.parametrize("output_suffix", [".mkv", ".mp4", ".webm"])
def test_subtitles_are_cut_with_a_clip(tmp_path: Path, codec: str, suffix: str, output_suffix: str) -> None:
    lines = ((0.1, 0.6, "first"), (0.7, 0.8, "second"), (0.9, 6.0, "third"))
    source = make_video(tmp_path / f"in{suffix}", frames=40, subtitles=[Subtitle(codec=codec, lines=lines)])
    output = tmp_path / f"out{output_suffix}"
    copy(source, output, clip=ClipOptions(start=0.4, end=1.2))
    found = [(pytest.approx(a, abs=0.002), pytest.approx(b, abs=0.002), text) for a, b, text in subtitle_lines(output)]
    assert found == [(0, 0.2, "first"), (0.3, 0.4, "second"), (0.5, 0.8, "third")]
    with av.open(str(output)) as file:
        assert file.duration == pytest.approx(800_000, abs=2000)


def test_picture_subtitles_that_are_on_at_a_cut_are_on_from_there(tmp_path: Path) -> None:
    source = _with_picture_subtitles(tmp_path / "in.mkv", times=(0, 80, 240, 320))
    before, after = read_contents(source), copied(source, "out.mkv", clip=ClipOptions(start=0.2, end=0.3))
    assert after.packets[1] == [(Fraction(0), before.packets[1][1][1]), (Fraction(40, 1000), before.packets[1][2][1])]


def test_italics_survive_the_conversion(tmp_path: Path) -> None:
    italics = Subtitle(codec="ass", lines=((0.1, 0.3, r"{\i1}slanted{\i0}"),))
    copy(make_video(tmp_path / "in.mkv", subtitles=[italics]), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as file:
        stream: Any = file.streams.subtitles[0]
        texts = [rect.ass for p in file.demux(stream) if p.size for rect in stream.decode(p)]
    assert rb"{\i1}slanted" in texts[0]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_title_chapters_and_tags_are_kept(tmp_path: Path, suffix: str) -> None:
    chapters = [(0.0, 0.2, "Opening"), (0.2, 0.4, "Ende & mehr")]
    tags = {"title": "A day", "artist": "Someone", "comment": "shot on film", "date": "2021"}
    source = make_video(
        tmp_path / "in.mkv",
        chapters=chapters,
        metadata=tags,
        video_metadata={"language": "jpn"},
        audio=[Audio(codec="libopus")],
    )
    after = copied(source, f"out{suffix}")
    assert after.kinds[:2] == ["video", "audio"]
    assert after.chapters == [(pytest.approx(a), pytest.approx(b), title) for a, b, title in chapters]
    found = {key.lower(): value for key, value in after.metadata.items()}
    assert {key: found.get(key) for key in tags} == tags
    assert after.tags[0]["language"] == "jpn"


def test_chapters_are_not_doubled_from_mp4_to_mp4(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", chapters=[(0.0, 0.2, "One"), (0.2, 0.4, "Two")])
    before, after = read_contents(source), copied(source, "out.mp4")
    assert (after.kinds, after.chapters, after.notes) == (before.kinds, before.chapters, [])


def test_chapters_move_with_a_clip(tmp_path: Path) -> None:
    chapters = [(0, 0.5, "One"), (0.5, 1.2, "Two"), (1.2, 2, "Three")]
    source = make_video(tmp_path / "in.mkv", frames=50, chapters=chapters)
    part = copied(source, "out.mkv", clip=ClipOptions(start=0.6, end=1.0))
    assert part.chapters == [(0.0, pytest.approx(0.4), "Two")]


def test_unusual_tags_are_kept_in_mp4_too(tmp_path: Path) -> None:
    tags = {"title": "A day", "com.apple.quicktime.make": "Apple", "location": "+48.2082+016.3738/"}
    source = make_video(tmp_path / "in.mp4", metadata=tags, container_options={"movflags": "use_metadata_tags"})
    assert tags.items() <= read_contents(source).metadata.items()
    for suffix in (".mp4", ".mov", ".mkv"):
        found = {key.lower(): value for key, value in copied(source, f"out{suffix}").metadata.items()}
        assert tags.items() <= found.items()


def test_what_an_mp4_has_no_place_for_is_named(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", audio=[Audio()], video_metadata={"CAMERA": "left"})
    kept = copied(source, "out.mkv")
    assert (kept.tags[0]["CAMERA"], kept.notes) == ("left", [])
    (note,) = copy(source, tmp_path / "out.mp4")
    assert note == "MP4 has no place for the tags CAMERA of the video track"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_dispositions_are_kept(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "in.mkv", audio=[Audio(), Audio(default=False)], subtitles=[Subtitle(forced=True)])
    before = read_contents(source).dispositions
    assert before == [1, Disposition.default, 0, Disposition.forced]
    expected = before if suffix == ".mkv" else before[:3]
    assert copied(source, f"out{suffix}").dispositions[: len(expected)] == expected


COVER = ("cover.png", "image/png", png_cover())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("source_suffix", [".mp4", ".mkv"])
def test_the_cover_is_kept(tmp_path: Path, source_suffix: str, suffix: str) -> None:
    extra: dict[str, Any] = {"attachment": COVER} if source_suffix == ".mkv" else {"cover": png_cover()}
    source = make_video(tmp_path / f"in{source_suffix}", audio=[Audio()], **extra)
    after = copied(source, f"out{suffix}")
    assert (len(after.pts), after.notes) == (10, [])
    (cover,) = [track for track, kind in enumerate(after.kinds[1:], 1) if kind == "video"]
    assert [data for _, data in after.packets[cover]] == [png_cover()]


def test_unusual_tags_beside_a_cover_are_named(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", attachment=COVER, metadata={"title": "A day", "MOOD": "calm"})
    (note,) = copy(source, tmp_path / "out.mp4")
    assert note == "MP4 has no place for the tags MOOD beside a cover"


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_a_cover_that_cannot_be_held_is_named(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "in.mp4", cover=png_cover())
    (note,) = copy(source, tmp_path / f"out{suffix}")
    assert "the cover is left out" in note


def test_an_attached_font_is_kept_or_named(tmp_path: Path) -> None:
    font = b"\x00\x01\x00\x00not really a font"
    source = make_video(tmp_path / "in.mkv", attachment=("fancy.ttf", "font/ttf", font), audio=[Audio()])
    assert copy(source, tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        (attached,) = file.streams.attachments
        assert (attached.name, attached.mimetype, attached.data) == ("fancy.ttf", "font/ttf", font)
    (note,) = copy(source, tmp_path / "out.mp4")
    assert "'fancy.ttf' cannot be written to MP4" in note


def test_picture_subtitles_that_mp4_cannot_hold_are_named(tmp_path: Path) -> None:
    source = _with_picture_subtitles(tmp_path / "in.mkv")
    kept = copied(source, "out.mkv")
    assert (kept.packets, kept.notes) == (read_contents(source).packets, [])
    (note,) = copy(source, tmp_path / "out.mp4")
    assert "track 1 (hdmv_pgs_subtitle) cannot be written to MP4" in note


def _with_picture_subtitles(path: Path, times: tuple[int, ...] = (100,)) -> Path:
    """Times are milliseconds; nothing says how long each is shown."""
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text: Any = output.add_mux_stream("hdmv_pgs_subtitle")
        text.time_base = Fraction(1, 1000)
        for index in range(10):
            output.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
            for time in (time for time in times if 40 * index <= time < 40 * index + 40):
                packet = av.Packet(b"\x80\x00\x02" + time.to_bytes(2))  # an end-of-display-set segment
                packet.stream, packet.pts, packet.dts, packet.time_base = text, time, time, Fraction(1, 1000)
                output.mux(packet)
        output.mux(video.encode(None))
    return path


def test_a_second_picture_track_is_named(tmp_path: Path) -> None:
    (note,) = copy(remuxed(tmp_path / "in.mkv", "vV"), tmp_path / "out.mp4")
    assert "video track 1 (h264) is a second picture track" in note


def test_without_a_source_file_there_are_only_pictures(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", audio=[Audio()], metadata={"title": "A day"})
    contents = copied(source, "out.mp4", tracks=False)
    assert contents.kinds == ["video"] and "title" not in contents.metadata


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "ts"])
def test_tags_that_are_not_utf8_are_replaced_and_lose_nothing_else(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"in.{suffix}"
    tags = {"title": "caf# noir", "service_name": "caf# noir"}
    make_video(source, audio=[Audio()], chapters=[(0, 0.4, "caf# noir")], metadata=tags, video_metadata=tags)
    source.write_bytes(source.read_bytes().replace(b"caf# noir", "café noir".encode("cp1252")))
    contents = copied(source, "out.mkv")
    assert len(contents.pts) == 10
    assert suffix == "ts" or contents.metadata["title"] == "caf\ufffd noir"
    assert [chapter[2] for chapter in contents.chapters] == (["caf\ufffd noir"] if suffix[0] == "m" else [])


NTSC = Fraction(30000, 1001)


def codes(base: int, dropped: int) -> list[str]:
    """The time codes of 22 minutes, one by one."""
    return [
        f"00:{minute:02}:{second:02}{';' if dropped else ':'}{frame:02}"
        for minute in range(22)
        for second in range(60)
        for frame in range(base)
        if not (minute % 10 and second == 0 and frame < dropped)
    ]


@pytest.mark.parametrize(
    ("rate", "base", "dropped"),
    [(NTSC, 30, 2), (2 * NTSC, 60, 4), (NTSC, 30, 0), (Fraction(25), 25, 0), (Fraction(24000, 1001), 24, 0)],
)
def test_every_number_is_followed_by_the_next(rate: Fraction, base: int, dropped: int) -> None:
    all_codes = codes(base, dropped)
    for first in (0, 1, 30 * base, 60 * base - 1, 60 * base, 600 * base):
        for further in (0, 1, 2, base, 60 * base - 1, 60 * base, 599 * base, 600 * base):
            assert timecode_behind(all_codes[first], rate, further) == all_codes[first + further]


def test_a_day_is_over_at_midnight_and_nonsense_is_none() -> None:
    assert timecode_behind("23:59:59;29", NTSC, 1) == "00:00:00;00"
    for code, rate in (("23:59:59:25", Fraction(25)), ("01:00:00;00", Fraction(25)), ("soon", NTSC), ("1:2:3:4", NTSC)):
        assert timecode_behind(code, rate, 0) is None


@pytest.mark.parametrize("output", ["out.mov", "out.mp4", "out.mkv"])
@pytest.mark.parametrize(("source", "codec"), [("in.mov", "libx264"), ("in.mkv", "libx264"), ("in.mxf", "mpeg2video")])
def test_the_time_code_is_that_of_the_first_picture(tmp_path: Path, source: str, codec: str, output: str) -> None:
    path = make_video(tmp_path / source, frames=40, rate=NTSC, codec=codec, video_metadata={"timecode": "00:00:58;29"})
    for clip, expected in ((ClipOptions(), "00:00:58;29"), (ClipOptions(start=1.001), "00:00:59;29")):
        contents = copied(path, output, clip=clip, overwrite=True)
        tags = {key.lower(): value for key, value in contents.tags[0].items()}
        assert (tags["timecode"], contents.notes) == (expected, [])
        assert contents.kinds == (["video"] if output == "out.mkv" else ["video", "data"])


def test_the_numbers_that_are_dropped_are_dropped_in_a_clip_too(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mov", frames=40, rate=NTSC, video_metadata={"timecode": "00:00:59;00"})
    assert copied(path, "out.mov", clip=ClipOptions(start=1.0)).tags[0]["timecode"] == "00:01:00;02"


def test_a_time_code_that_no_muxer_takes_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", video_metadata={"timecode": "01:00:00;00"})
    assert any("'01:00:00;00' is no time code at 25" in note for note in copy(path, tmp_path / "out.mp4"))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm"])
@pytest.mark.parametrize(
    ("kinds", "codec"), [("vaA", "aac"), ("vAa", "mp2"), ("AvaAA", "ac3"), ("Vva", "aac"), ("vA", "mp2")]
)
def test_a_track_without_a_packet_is_left_out_and_told(kinds: str, codec: str, suffix: str, tmp_path: Path) -> None:
    contents = copied(remuxed(tmp_path / "in.ts", kinds, codec), f"out.{suffix}")
    assert contents.kinds == ["video", "audio"][: 1 + ("a" in kinds)]
    assert len(contents.pts) == 10
    for index in (place for place, kind in enumerate(kinds) if kind == "A"):
        # MPEG layers are told by their data.
        assert re.search(rf"audio track {index} \(\w+\) is empty", " ".join(contents.notes))


def test_a_live_source_is_heard_where_there_is_sound(tmp_path: Path) -> None:
    source = remuxed(tmp_path / "in.ts", "AVva")
    reader = LiveReader(input_spec(str(source)), threading.Event(), 3.0, sound=True)
    assert reader.sound is not None and reader.sound.rate == 48000
    reader.close()
