"""A live picture and its sound, encoded and muxed into one output: a file, a playlist of segments, or a server."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType
from numpy.typing import NDArray

from vidstyle.errors import BadOption, MissingDependency, VideoError
from vidstyle.files import taken, write_failure
from vidstyle.frame import Frame, FrameFormat
from vidstyle.options import EncodeOptions
from vidstyle.system import is_loopback
from vidstyle.video.audio import LAYOUTS, AudioChunk, AudioFormat, AudioTrack, add_encoder, audio_frame, encoded_rate
from vidstyle.video.convert import FrameConverter, PlaneWriter
from vidstyle.video.demux import ffmpeg_reasons
from vidstyle.video.formats import BT709_TAGS, CONTAINERS, ENCODERS, SERVERS, WHIP, ColorTags, MatrixCode, suffix_of
from vidstyle.video.output.push_process import INTERLEAVE, PushProcess

SEGMENT_SECONDS = 1
"""Length of a playlist's segments: short, as a player starts three of them behind."""
SEGMENTS = 6
"""How many of them the playlist names; older ones are deleted."""
_FILES = {suffix: one for suffix, one in CONTAINERS.items() if one.live is not None}
_SUFFIXES = f"{', '.join(_FILES)} or .m3u8"
_URLS = ", ".join(f"{name}://" for name in SERVERS)
WHIP_TOKEN = "VIDSTYLE_WHIP_TOKEN"
"""Environment variable with the bearer token for WHIP."""
_BUFFER_BYTES = 1 << 18
_MICROSECOND = Fraction(1, 1_000_000)
_KEY_MICROSECONDS = 1_000_000
"""A key frame begins a fragment of MP4, a segment of a playlist, and what a new viewer sees."""
_EARLY_MICROSECONDS = 5_000  # frames come a little early and late; a key frame may, too
_MISSING_MICROSECONDS = 1_000_000
"""Sound that is so far behind the picture is taken for gone, and silence takes its place."""
_LONGEST_MICROSECONDS = 1_000_000  # a frame after a pause is not taken for the first of many such pauses
_PENDING_PIECES = 500  # pieces of sound that are kept before the first frame: some seconds
_BITS_A_PIXEL = 0.1  # the most that is sent for each pixel shown: 6 Mbit/s at 1920x1080 and 30 fps
_MIN_BIT_RATE = 500_000
_USUAL_RATE = 30


@dataclass(frozen=True)
class OutputSpec:
    """One place to write a live picture and its sound to."""

    kind: Literal["file", "playlist", "server"]
    """A playlist is HLS: segments in the same folder, the old ones deleted."""
    where: str
    """Absolute path, or URL; it may hold passwords and stream keys."""
    name: str
    """The same for people, without what nobody should read on a screen."""
    muxer: str
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def path(self) -> Path:
        return Path(self.where)


def output_spec(text: str | Path) -> OutputSpec:
    """What ``text`` names, by its scheme or suffix. Raises `BadOption` listing those there are."""
    scheme, separator, _ = str(text).partition("://")
    if isinstance(text, str) and separator:
        return _server(scheme.lower(), text)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ".m3u8":
        return _playlist(path)
    if suffix not in _FILES:
        raise BadOption(f"live output {path.name} {suffix_of(path)}; it must end in {_SUFFIXES}, or be a URL: {_URLS}")
    container = _FILES[suffix]
    return OutputSpec("file", str(path.absolute()), str(path), container.muxer, container.live or {})


def segments(playlist: Path) -> list[Path]:
    """The segments of ``playlist`` in its folder, of this run and of others."""
    pattern = re.compile(re.escape(_segment_stem(playlist)) + r"-\d+\.ts(\.tmp)?")
    return sorted(path for path in playlist.parent.iterdir() if pattern.fullmatch(path.name))


def _segment_stem(playlist: Path) -> str:
    """What the names of the segments of ``playlist`` begin with: letters that need no escape in a URL."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", playlist.stem)
    return plain if plain == playlist.stem else f"{plain}-{zlib.crc32(playlist.stem.encode()):08x}"


def _playlist(path: Path) -> OutputSpec:
    if "%" in str(path.absolute()):
        raise BadOption(f"playlist {path} has a % in its path, which FFmpeg takes for a number's place; name another")
    options = {
        "hls_time": str(0.9 * SEGMENT_SECONDS),  # key frames come a little early and late
        "hls_list_size": str(SEGMENTS),
        "hls_flags": "delete_segments+temp_file+independent_segments",
        "hls_segment_filename": f"{path.absolute().parent}/{_segment_stem(path)}-%d.ts",
        # Numbered by the clock, so that no cache takes a segment for one of an earlier run.
        "hls_start_number_source": "epoch",
    }
    return OutputSpec("playlist", str(path.absolute()), str(path), "hls", options)


def _server(scheme: str, url: str) -> OutputSpec:
    if scheme not in SERVERS:
        raise BadOption(f"live output {scheme}:// is unknown; it can go to {_URLS}, or to a file: {_SUFFIXES}")
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadOption(f"live output {scheme}://... has no valid port; write {scheme}://host:port/...") from error
    if not host:
        raise BadOption(f"live output {scheme}://... names no host; write {scheme}://host/...")
    if scheme != "rtsp" and SERVERS[scheme][0] != WHIP and not _speaks(scheme):
        raise VideoError(f"this FFmpeg cannot speak {scheme}://; send to rtmp://, rtsp:// or udp://, or write a .m3u8")
    path = parts.path
    muxer, options = SERVERS[scheme]
    if muxer == WHIP:
        return _whip(scheme, parts, host, port)
    if scheme in ("rtmp", "rtmps"):
        path = path.rpartition("/")[0] + "/..."  # the last part is the stream's key
    name = f"{scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{path}"
    if scheme == "udp" and "pkt_size=" not in parts.query:
        url += f"{'&' if parts.query else '?'}pkt_size=1316"  # seven whole packets of MPEG-TS in each
    url = scheme + url[len(scheme) :]  # FFmpeg knows schemes in small letters only
    return OutputSpec("server", url, name, muxer, options)


def _whip(scheme: str, parts: SplitResult, host: str, port: int | None) -> OutputSpec:
    """A WHIP endpoint. The bearer token stands before the host, or in the environment."""
    missing = [name for name in ("aiortc", "aiohttp") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"WHIP needs {' and '.join(missing)}: pip install 'vidstyle[serve]'")
    token = whip_token(parts.username)
    address = f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    if token and scheme == "whip+http" and not is_loopback(host):
        raise BadOption(
            f"live output {scheme}://{address} would show the bearer token to whoever listens; write whip+https://, or "
            "leave the token out"
        )
    url = urlunsplit((scheme.removeprefix("whip+"), address, parts.path, parts.query, ""))
    # Where there is no token the path is often the secret.
    return OutputSpec("server", url, f"{scheme}://{address}/...", WHIP, {"token": token} if token else {})


def whip_token(username: str | None) -> str:
    """The bearer token of an address whose user name is ``username``: that one, or the environment's; "" is none."""
    return unquote(username or "") or os.environ.get(WHIP_TOKEN, "")


def _speaks(scheme: str) -> bool:
    # Looked up before the whitelist, which refuses every protocol before anything is sent.
    try:
        av.open(f"{scheme}://localhost", format="mpegts", container_options={"protocol_whitelist": "none"}).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError, ValueError):
        pass
    return True


class Muxer:
    """A container of FFmpeg's for one output, which can also be left without an end.

    Add the streams to `container`, then `begin`. A file has its name from the start and is complete up to its last
    second at any time.
    """

    def __init__(self, spec: OutputSpec, *, overwrite: bool = True) -> None:
        """Open it. Raises `VideoError`, and `BadOption` if the file is there and must stay."""
        self._spec = spec
        self._path = os.path.realpath(spec.path) if spec.kind != "server" else ""
        self.process: PushProcess | None = None
        self._file: _WholeWrites | None = None
        with self._translated():
            if spec.kind == "playlist":
                # FFmpeg makes its files later, and it is now that a folder may be told to be no place.
                open(self._path, "ab" if overwrite else "xb").close()
                for old in segments(spec.path):
                    old.unlink()
                file: Any = spec.where
            elif spec.kind == "file":
                file = self._file = _WholeWrites(self._path, "wb" if overwrite else "xb")
            else:
                file = self.process = PushProcess(spec)
        muxer, options = spec.muxer, {"flush_packets": "1", "max_interleave_delta": INTERLEAVE, **spec.options}
        if self.process is not None:
            # The other process puts the packets in order.
            muxer, options = "nut", {"flush_packets": "1", "max_interleave_delta": "1"}
        self.container: OutputContainer = av.open(
            file, "w", format=muxer, container_options=options, buffer_size=_BUFFER_BYTES
        )

    def begin(self) -> None:
        """Write the header. Raises `VideoError`."""
        with self._translated(), ffmpeg_reasons():
            self.container.start_encoding()

    @property
    def opened(self) -> bool:
        """Whether the far end has taken the stream; files are open from the start."""
        return self.process is None or self.process.opened.is_set()

    def write(self, packet: Packet[Stream]) -> None:
        """Write one packet. Raises `VideoError`."""
        with self._translated():
            self.container.mux_one(packet)

    def check(self) -> None:
        """Raise `VideoError` where what was written cannot be found any more, or nobody listens."""
        if self.process is not None and self.process.ended:
            raise self.process.error()
        if self._spec.kind == "file" and not os.path.exists(self._path):
            # The system goes on writing to a file without a name, and frees it at the end.
            raise VideoError(f"{self._spec.name} was removed while it was written; the recording ends here")

    def finish(self) -> None:
        """Write the index, and close. Raises `VideoError`."""
        try:
            with self._translated():
                self.container.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without an index: what is written plays, and an index might not be written whole."""
        for file in (self._file, self.process):
            if file is not None:
                file.close()
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self.container.close()  # writes nothing to a file that is closed

    def remove(self) -> None:
        """Abandon it and take the file away again, or a playlist without a segment."""
        self.abandon()
        with contextlib.suppress(OSError):
            if self._spec.kind == "file" or (self._spec.kind == "playlist" and not os.path.getsize(self._path)):
                os.unlink(self._path)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except VideoError:
            raise
        except FileExistsError as error:
            raise taken(self._spec.name) from error
        except (av.error.FFmpegError, OSError) as error:
            if self.process is not None:
                raise self.process.error() from error
            raise VideoError(write_failure(self._spec.name, error)) from error


class _WholeWrites(io.FileIO):
    """An unbuffered file that never writes a part: FFmpeg takes what it gave for written."""

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        length = view.nbytes
        while view:
            view = view[super().write(view) :]
        return length


class StreamEncoder:
    """Encodes frames and sound, both on the capture clock; the first frame is at 0. Use it from one thread.

    ``write`` and ``sound`` raise `VideoError` when the output is lost; then call `abandon` of its `muxer`.
    """

    def __init__(
        self,
        spec: OutputSpec,
        *,
        form: FrameFormat,
        fps: float | None,
        sound: AudioFormat | None,
        encode: EncodeOptions,
        overwrite: bool = True,
    ) -> None:
        """Open ``spec`` for frames of about ``form``.

        Raises `BadOption` for what cannot be asked, `VideoError` for what cannot be written.
        """
        settings = video_settings(spec, form, fps, encode)
        size = ENCODERS["h264"].kept_size(form.size, encode.pixel_format)
        self._converter = FrameConverter(form)
        self._writer = PlaneWriter(form, encode.pixel_format, size, size)
        self._duration = round(1_000_000 / (fps or _USUAL_RATE))
        self._sound_form = None if sound is None else track_form(sound, spec)
        self._pending: deque[AudioChunk] = deque(maxlen=_PENDING_PIECES)
        self._track: AudioTrack | None = None
        self._origin = 0
        self._last = -1
        self._last_key: int | None = None
        self._arrived = 0.0
        self.frames = 0
        """How many were encoded."""
        self.muxer = Muxer(spec, overwrite=overwrite)
        try:
            rate = Fraction(fps or _USUAL_RATE).limit_denominator(1001)
            self._video = self.muxer.container.add_stream("libx264", rate=rate, options=settings)
            self._video.time_base = _MICROSECOND
            tags = BT709_TAGS if form.matrix == "bt709" else ColorTags(matrix=MatrixCode.SMPTE170M)
            with ffmpeg_reasons():
                color = tags.written(form, size[0])
                ENCODERS["h264"].open(self._video.codec_context, size, encode.pixel_format, _MICROSECOND, color)
            made = self._sound_form
            self._audio = (
                None
                if made is None
                else add_encoder(self.muxer.container, sound_encoder(spec), made.rate, made.channels)
            )
            if spec.kind != "playlist":  # that is made with its first segment
                self.muxer.begin()
        except BaseException:
            self.muxer.remove()
            raise

    def write(self, frame: Frame) -> bool:
        """Encode ``frame``; False, and nothing done, where it is not later than the one before."""
        stamp = int(frame.pts * frame.time_base / _MICROSECOND)
        if self.frames == 0:
            self._origin = stamp
        pts = stamp - self._origin
        if pts <= self._last:
            return False
        made = self._writer.write(self._converter.convert(frame), pts, _MICROSECOND)
        if self._last >= 0:
            # How long it will be shown is not known yet: most likely as long as the one before.
            self._duration = min(pts - self._last, _LONGEST_MICROSECONDS)
        made.duration = self._duration
        self._last, self._arrived = pts, time.monotonic()
        if self._last_key is None or pts - self._last_key >= _KEY_MICROSECONDS - _EARLY_MICROSECONDS:
            made.pict_type = PictureType.I
            self._last_key = pts
            self.muxer.check()
        for packet in self._video.encode(made):
            self.muxer.write(packet)
        if self._sound_form is not None and self._track is None:
            self._track = AudioTrack(self._sound_form, self._origin)
            while self._pending:
                self._add(self._track.add(self._pending.popleft()))
        self._fill(stamp)
        self.frames += 1
        return True

    def sound(self, sound: AudioChunk) -> None:
        """Encode ``sound``; what was heard before the first frame is left out."""
        if self._track is not None:
            self._add(self._track.add(sound))
        elif self._audio is not None:
            self._pending.append(sound)

    def skip(self) -> None:
        """Know that sound is left out here; silence will take its place."""
        if self._track is not None:
            self._track.skip()

    def idle(self) -> None:
        """Go on with silence while nothing comes; and see whether the far end is still there."""
        self.muxer.check()
        if self.frames:
            self._fill(self._origin + self._last + int((time.monotonic() - self._arrived) * 1_000_000))

    def finish(self) -> None:
        """Encode what is under way, write the index and close; a file without a frame is removed."""
        if self.frames == 0:
            self.muxer.remove()
            return
        try:
            for packet in self._video.encode(None):
                self.muxer.write(packet)
            self._add([None])
        except VideoError:
            self.muxer.abandon()
            raise
        self.muxer.finish()

    def _fill(self, stamp: int) -> None:
        if self._track is not None and self._track.end() < stamp - _MISSING_MICROSECONDS:
            self._add(self._track.fill(stamp))

    def _add(self, parts: Iterable[NDArray[np.float32] | None]) -> None:
        """Encode what the track goes on with; None is its end."""
        track, audio = self._track, self._audio
        if track is None or audio is None:
            return
        for samples in parts:
            frame = None if samples is None else audio_frame(samples, track.form.rate, track.length - samples.shape[1])
            for packet in audio.encode(frame):
                # The first packet only starts the decoder up and lies before 0, which half of the formats cannot say.
                if packet.pts is not None and packet.pts >= 0:
                    self.muxer.write(packet)


def video_settings(spec: OutputSpec, form: FrameFormat, fps: float | None, encode: EncodeOptions) -> dict[str, str]:
    """FFmpeg's options for the encoder. Raises `BadOption` for what a live output cannot be."""
    if encode.codec not in (None, "h264"):
        raise BadOption(f"codec is {encode.codec}; live output is always H.264: leave the codec out")
    ENCODERS["h264"].kept_size(form.size, encode.pixel_format)
    settings = ENCODERS["h264"].settings(encode)
    settings["tune"] = "zerolatency"
    # Key frames come by time, not by count: frames are not evenly spaced. A cut needs none beside them.
    settings |= {"forced-idr": "1", "g": "100000", "sc_threshold": "0"}
    if spec.muxer == WHIP:
        settings["profile"] = "baseline"  # what all browsers play
    if spec.kind != "file":
        # Servers and their viewers have a line of one width, and a second of slack.
        most = max(_MIN_BIT_RATE, int(form.height * form.width * (fps or _USUAL_RATE) * _BITS_A_PIXEL))
        settings |= {"maxrate": str(most), "bufsize": str(most)}
    return settings


def sound_encoder(spec: OutputSpec) -> str:
    """AAC, but for WebRTC, which has Opus."""
    return "libopus" if spec.muxer == WHIP else "aac"


def track_form(sound: AudioFormat, spec: OutputSpec) -> AudioFormat:
    """What ``sound`` is encoded as: codecs have their rates, and more than two channels are rare in live use."""
    return AudioFormat(encoded_rate(sound_encoder(spec), sound.rate), min(sound.channels, len(LAYOUTS)))
