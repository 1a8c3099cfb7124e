"""Small video files, made with real codecs, for every test that needs one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from numpy.typing import NDArray

from vidstyle.frame import Frame
from vidstyle.options import ClipOptions, EncodeOptions
from vidstyle.video.formats import keep_scheduling
from vidstyle.video.reader import VideoReader
from vidstyle.video.stream_copy import ASS_HEADER
from vidstyle.video.writer import VideoWriter


@dataclass(frozen=True)
class Audio:
    """A sound track: a tone that starts at 0."""

    codec: str = "aac"
    layout: str = "stereo"
    rate: int = 48000
    seconds: float | None = None
    language: str = "eng"
    title: str | None = None
    default: bool = True


@dataclass(frozen=True)
class Subtitle:
    """A subtitle track: ``(start, end, text)`` in seconds."""

    codec: str = "srt"
    lines: tuple[tuple[float, float, str], ...] = ((0.1, 0.4, "first"), (0.5, 0.8, "second"))
    language: str = "eng"
    title: str | None = None
    forced: bool = False


def picture(size: tuple[int, int], index: int, *, smooth: bool = False) -> NDArray[np.uint8]:
    """RGB (height, width, 3): colored ramps with a bright square that moves; each index differs.

    ``smooth`` leaves out what 4:2:0 cannot hold: the square and the sawtooth.
    """
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    if smooth:
        blue = 120 + 40 * np.sin((x + y) / 20 + index / 3)
        return np.stack([40 + 150 * x // width, 40 + 150 * y // height, blue], axis=-1).astype(np.uint8)
    rgb = np.stack(
        [40 + 150 * x // max(width, 1), 40 + 150 * y // max(height, 1), (x + y + 6 * index) % 160 + 40], axis=-1
    )
    side = max(2, min(height, width) // 4)
    left, top = (5 * index) % max(1, width - side), (3 * index) % max(1, height - side)
    rgb[top : top + side, left : left + side] = (230, 220, 200)
    return rgb.astype(np.uint8)


def make_video(
    path: Path,
    *,
    size: tuple[int, int] = (48, 64),
    rate: int | Fraction = 25,
    frames: int = 10,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: Sequence[Audio] = (),
    subtitles: Sequence[Subtitle] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    metadata: dict[str, str] | None = None,
    video_metadata: dict[str, str] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    sample_aspect_ratio: Fraction | None = None,
    color: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    container: str | None = None,
    cover: bytes | None = None,
    attachment: tuple[str, str, bytes] | None = None,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    smooth: bool = False,
    last_duration: int | None = None,
    container_options: dict[str, str] | None = None,
    live: bool = False,
    interlaced: bool = False,
) -> Path:
    """Write a video; returns its path.

    ``size`` is ``(height, width)`` as stored. ``pts`` are the times of the frames in ``time_base``, for variable rates.
    ``rotation`` is degrees clockwise for showing. ``color`` takes the attributes color_primaries, color_trc,
    colorspace, color_range, by number. ``live`` leaves out what a muxer can only write at the end, such as the length
    of each track. ``interlaced`` marks the frames so; codecs want their own option beside it.
    """
    rate = Fraction(rate)
    base = time_base or 1 / rate
    times = list(pts) if pts is not None else [round(i / rate / base) for i in range(frames)]
    height, width = size
    extra = {**(container_options or {}), **({"live": "1"} if live else {})}
    with keep_scheduling(), av.open(str(path), "w", format=container, container_options=extra) as output:
        output.metadata.update(metadata or {})
        # x265 reads decoding times that nobody wrote where a video is shorter than the delay of its B-frames.
        quiet = {"x265-params": "log-level=none:bframes=0"}
        known = {"libx264": {"preset": "ultrafast", "crf": "18"}, "libx265": quiet}
        settings = known.get(codec, {})
        stream: Any = output.add_stream(codec, rate=rate, options={**settings, **(options or {})})
        stream.time_base = base
        stream.disposition = Disposition.default
        context = stream.codec_context
        context.time_base, context.height, context.width, context.pix_fmt = base, height, width, pixel_format
        context.flags |= av.codec.context.Flags.frame_duration
        for name, value in (color or {}).items():
            setattr(context, name, value)
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if rotation or mirrored:
            stream.set_display_rotation(-rotation, hflip=mirrored)
        stream.metadata.update(video_metadata or {})
        length = times[-1] * base + 1 / rate
        tones = [_Tone(output, track, float(length)) for track in audio]
        texts = [_Text(output, track) for track in subtitles]
        covers = [_add_cover(output, cover)] if cover else []
        if attachment:
            output.add_attachment(*attachment)
        if chapters:
            of_all = {"time_base": Fraction(1, 1000)}
            places = [{"start": round(a * 1000), "end": round(b * 1000)} for a, b, _ in chapters]
            titles = [{"id": i, "metadata": {"title": title}} for i, (_, _, title) in enumerate(chapters)]
            output.set_chapters([place | title | of_all for place, title in zip(places, titles, strict=True)])
        output.mux(covers)
        for text in texts:
            text.write()
        for index, time in enumerate(times):
            rgb = picture(size, index, smooth=smooth) if pictures is None else pictures[index]
            frame = _encodable(rgb, pixel_format, color or {})
            if interlaced:
                frame = marked_interlaced(frame)
            frame.pts, frame.time_base = time, base
            after = times[index + 1] - time if index + 1 < len(times) else last_duration
            frame.duration = after or round(1 / rate / base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for tone in tones:
            tone.write()
    return path


def write_frames(
    path: Path, codec: str, frames: Iterable[av.VideoFrame], *, options: dict[str, str] | None = None, **color: int
) -> Path:
    """A video of those very frames, 25 a second; ``color`` is as for `make_video`."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25, options=options or {})
        for index, frame in enumerate(frames):
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                for name, value in color.items():
                    setattr(stream.codec_context, name, value)
            frame.pts, frame.time_base, frame.pict_type = index, Fraction(1, 25), 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def make_sound(path: Path, codec: str) -> Path:
    """A file with sound alone."""
    with av.open(str(path), "w") as output:
        _Tone(output, Audio(codec=codec), 1.0).write()
    return path


class _Tone:
    """A sound track of a sine, the channels at different pitches."""

    def __init__(self, output: Any, track: Audio, seconds: float) -> None:
        self._output = output
        self._stream = output.add_stream(track.codec, rate=track.rate)
        self._stream.disposition = Disposition.default if track.default else 0
        self._stream.codec_context.layout = track.layout
        _label(self._stream, track.language, track.title)
        self._samples = round((track.seconds or seconds) * track.rate)
        self._rate, self._layout = track.rate, track.layout

    def write(self) -> None:
        channels = av.AudioLayout(self._layout).nb_channels
        time = np.arange(self._samples) / self._rate
        noise = np.random.default_rng(0).normal(0, 0.02, (channels, self._samples))  # no two packets are equal
        waves = noise + np.stack([0.2 * np.sin(2 * np.pi * (300 + 100 * c) * time) for c in range(channels)])
        frame = av.AudioFrame.from_ndarray(waves.astype(np.float32), format="fltp", layout=self._layout)
        frame.rate, frame.pts, frame.time_base = self._rate, 0, Fraction(1, self._rate)
        self._output.mux(self._stream.encode(frame))
        self._output.mux(self._stream.encode(None))


class _Text:
    """A subtitle track."""

    def __init__(self, output: Any, track: Subtitle) -> None:
        self._output, self._track = output, track
        self._stream = output.add_stream(track.codec)
        self._stream.disposition = Disposition.forced if track.forced else 0
        self._stream.codec_context.subtitle_header = ASS_HEADER
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, 1000)
        _label(self._stream, track.language, track.title)

    def write(self) -> None:
        for number, (begin, end, text) in enumerate(self._track.lines):
            event = f"{number},0,Default,,0,0,0,,{text}".encode()
            made = SubtitleSet.create(event, 0, round(1000 * (end - begin)))
            packet = self._stream.codec_context.encode_subtitle(made)
            packet.stream, packet.time_base = self._stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(1000 * begin)
            packet.duration = round(1000 * (end - begin))
            self._output.mux(packet)


def _add_cover(output: Any, png: bytes) -> av.Packet:
    """A track for a cover picture, and what is in it."""
    stream = output.add_stream("png", rate=1)
    stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(png)
    packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
    packet.is_keyframe = True
    return packet


def _label(stream: Any, language: str, title: str | None) -> None:
    stream.metadata["language"] = language
    if title:
        stream.metadata["title"] = title


def _encodable(rgb: NDArray[np.uint8], pixel_format: str, color: dict[str, int]) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    if pixel_format == "pal8":
        return frame.reformat(format="rgb8").reformat(format="pal8")
    matrix = {1: "ITU709", 9: "BT2020"}.get(color.get("colorspace", 2), "ITU601")
    full = color.get("color_range") == 2
    made = frame.reformat(
        format=pixel_format, dst_colorspace=matrix, src_color_range=2, dst_color_range=2 if full else 1, threads=1
    )
    for name, attribute in (("colorspace", "colorspace"), ("color_range", "color_range")):
        if name in color:
            setattr(made, attribute, color[name])
    return made


def marked_interlaced(frame: av.VideoFrame) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def join(path: Path, *parts: Path) -> Path:
    """Files one behind the other, as recordings and cat(1) do it."""
    first, *others = (part.read_bytes() for part in parts)
    head = 13 if path.suffix == ".flv" else 0  # behind FLV's there are only tags
    path.write_bytes(first + b"".join(other[head:] for other in others))
    return path


def add_box(path: Path, kind: str, content: bytes, entry: str = "avc1") -> Path:
    """Put a box at the end of the picture track's description (``entry``) in an MP4 whose index is at its end."""
    data = bytearray(path.read_bytes())
    begin, end = 0, len(data)
    # Between a box's head and the boxes in it these two have fields of their own.
    parents = (("moov", 0), ("trak", 0), ("mdia", 0), ("minf", 0), ("stbl", 0), ("stsd", 8), (entry, 78))
    places = []
    for name, fields in parents:
        while bytes(data[begin + 4 : begin + 8]) != name.encode():
            begin += int.from_bytes(data[begin : begin + 4], "big")
            assert begin < end, name
        places.append(begin)
        end = begin + int.from_bytes(data[begin : begin + 4], "big")
        begin += 8 + fields
    box = (8 + len(content)).to_bytes(4, "big") + kind.encode() + content
    data[end:end] = box
    for place in places:
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + len(box)).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def png_cover() -> bytes:
    """A PNG picture of 16x16."""
    with av.open(io.BytesIO(), "w", format="image2pipe") as output:
        stream: Any = output.add_stream("png", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        packets = stream.encode(av.VideoFrame.from_ndarray(picture((16, 16), 0), "rgb24")) + stream.encode(None)
        return b"".join(bytes(packet) for packet in packets)


@dataclass
class Contents:
    """What is in a media file: everything that a copy should keep."""

    pts: list[Fraction]
    """Seconds at which the frames are shown."""
    durations: list[Fraction]
    """Seconds for which they are, as far as the container says."""
    packets: dict[int, list[tuple[Fraction, bytes]]]
    """By track: time and bytes of each packet that is not of the first video track."""
    codecs: list[str]
    """Codec of each track."""
    kinds: list[str]
    """audio, video, subtitle, data or attachment, by track."""
    tags: list[dict[str, str]]
    """Metadata by track."""
    dispositions: list[int]
    """By track."""
    metadata: dict[str, str]
    """Of the file."""
    chapters: list[tuple[float, float, str]]
    """Begin, end, title."""
    notes: list[str] = field(default_factory=list)
    """What the writer says, where `copied` has made it."""


def read_contents(path: Path) -> Contents:
    """Everything in the file at ``path``."""
    with av.open(str(path)) as file:
        video = next(s for s in file.streams.video if not s.disposition & Disposition.attached_pic)
        streams = list(file.streams)
        contents = Contents(
            pts=[],
            durations=[],
            packets={s.index: [] for s in streams if s is not video},
            codecs=[s.codec_context.codec.canonical_name if s.codec_context else "none" for s in streams],
            kinds=[s.type for s in streams],
            tags=[dict(s.metadata) for s in streams],
            dispositions=[int(s.disposition) for s in streams],
            metadata=dict(file.metadata),
            chapters=[
                (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"].get("title", ""))
                for c in file.chapters()
            ],
        )
        for packet in file.demux():
            if packet.stream is video:
                for frame in packet.decode():
                    contents.pts.append(frame.pts * frame.time_base)
                    contents.durations.append(frame.duration * frame.time_base)
            elif packet.size:
                contents.packets[packet.stream.index].append(((packet.pts or 0) * packet.time_base, bytes(packet)))
    return contents


def read_rgb(path: Path) -> list[NDArray[np.uint8]]:
    """The frames of a video as RGB, by the file's own tags (BT.709 from 720 lines on, else BT.601)."""
    pictures = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            tagged = {1: "ITU709", 5: "ITU601", 6: "ITU601"}.get(int(frame.colorspace))
            matrix = tagged or ("ITU709" if frame.height >= 720 else "ITU601")
            rgb = frame.reformat(
                format="rgb24",
                src_colorspace=matrix,
                src_color_range=frame.color_range or 1,
                dst_color_range=2,
                threads=1,
            )
            pictures.append(rgb.to_ndarray())
    return pictures


def copy(
    source: Path,
    output: Path,
    *,
    encode: EncodeOptions | None = None,
    clip: ClipOptions | None = None,
    pixels: Any = "i420",
    overwrite: bool = False,
    tracks: bool = True,
    on_device: bool = False,
) -> list[str]:
    """Pass a video through; the writer's notes, and what the reader says of decoders."""
    with VideoReader(source, pixels=pixels, clip=clip, on_device=on_device) as video:
        options: Any = {"encode": encode, "clip": clip, "overwrite": overwrite, "on_device": on_device}
        options |= {"form": video.form, "source_path": source if tracks else None}
        with VideoWriter(output, source=video.info, **options) as writer:
            for frame in video.frames():
                writer.write(frame)
        return [*(note for note in video.notes if "NVDEC" in note), *writer.notes]


def copied(source: Path, name: str, **options: Any) -> Contents:
    """What is in the file ``name`` beside ``source`` once that is passed through into it."""
    notes = copy(source, source.parent / name, **options)
    return replace(read_contents(source.parent / name), notes=notes)


def read(path: Path, **options: Any) -> list[Frame]:
    """All frames of a video, of which none is lost."""
    with VideoReader(path, **options) as source:
        frames = list(source.frames())
        assert (source.lost, source.errors) == (0, [])
    return frames


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size`` bytes, as on a disk that is full."""
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
