"""Where a live picture can go: a file, a playlist of segments, or a server."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import av
import av.error

from vidstyle.errors import BadOption, VideoError

# The index of a recording comes last in MP4: until then it is a row of fragments, each playable when it is
# written, and at the end it becomes a usual file.
_FRAGMENTED = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof"}
_FILES: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("mp4", _FRAGMENTED),
    ".m4v": ("mp4", _FRAGMENTED),
    ".mov": ("mov", _FRAGMENTED),
    ".mkv": ("matroska", {"cluster_time_limit": "1000"}),
}
_SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    "rtmp": ("flv", {"flvflags": "no_duration_filesize"}),
    "rtmps": ("flv", {"flvflags": "no_duration_filesize"}),
    # By TCP, which passes firewalls and loses nothing.
    "rtsp": ("rtsp", {"rtsp_transport": "tcp"}),
    "srt": ("mpegts", {}),
    "udp": ("mpegts", {}),
}
INTERLEAVE = "500000"
"""Microseconds for which a track that falls silent may hold up the other, for FFmpeg."""
SEGMENT_SECONDS = 1
"""Length of a playlist's segments: short, as a player starts three of them behind."""
SEGMENTS = 6
"""How many of them the playlist names; older ones are deleted."""


@dataclass(frozen=True)
class Target:
    """One place to write a live picture and its sound to."""

    kind: Literal["file", "playlist", "server"]
    """A playlist is HLS: segments in the same folder, the old ones deleted."""
    where: str
    """Absolute path, or URL; it may hold passwords and stream keys."""
    name: str
    """The same for people, without what nobody should read on a screen."""
    muxer: str
    """FFmpeg's name of the format."""
    options: dict[str, str] = field(default_factory=dict, hash=False)
    """FFmpeg's options for it."""

    @property
    def path(self) -> Path:
        """Of a file or playlist."""
        return Path(self.where)


def target_for(text: str | Path) -> Target:
    """What ``text`` names, by its scheme or suffix. Raises `BadOption` listing those there are."""
    scheme, separator, _ = str(text).partition("://")
    if isinstance(text, str) and separator:
        return _server(scheme.lower(), text)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ".m3u8":
        return _playlist(path)
    if suffix not in _FILES:
        given = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise BadOption(
            f"live output {path.name} {given}; it must end in {', '.join(_FILES)} or .m3u8, "
            f"or be a URL: {', '.join(f'{name}://' for name in _SERVERS)}"
        )
    muxer, options = _FILES[suffix]
    return Target("file", str(path.absolute()), str(path), muxer, options)


def segment_stem(playlist: Path) -> str:
    """What the names of the segments of ``playlist`` begin with: letters that need no escape in a URL."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", playlist.stem)
    return plain if plain == playlist.stem else f"{plain}-{zlib.crc32(playlist.stem.encode()):08x}"


def segments(playlist: Path) -> list[Path]:
    """The segments of ``playlist`` in its folder, of this run and of others."""
    pattern = re.compile(re.escape(segment_stem(playlist)) + r"-\d+\.ts(\.tmp)?")
    return sorted(path for path in playlist.parent.iterdir() if pattern.fullmatch(path.name))


def _playlist(path: Path) -> Target:
    folder = str(path.absolute().parent)
    if "%" in str(path.absolute()):
        raise BadOption(f"playlist {path} has a % in its path, which FFmpeg takes for a number's place; name another")
    options = {
        "hls_time": str(0.9 * SEGMENT_SECONDS),  # key frames come a little early and late
        "hls_list_size": str(SEGMENTS),
        "hls_flags": "delete_segments+temp_file+independent_segments",
        "hls_segment_filename": f"{folder}/{segment_stem(path)}-%d.ts",
        # Numbered by the clock, so that no cache takes a segment for one of an earlier run.
        "hls_start_number_source": "epoch",
    }
    return Target("playlist", str(path.absolute()), str(path), "hls", options)


def _server(scheme: str, url: str) -> Target:
    if scheme not in _SERVERS:
        raise BadOption(
            f"live output {scheme}:// is unknown; it can go to {', '.join(f'{name}://' for name in _SERVERS)}, "
            f"or to a file that ends in {', '.join(_FILES)} or .m3u8"
        )
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadOption(f"live output {scheme}://... has no valid port; write {scheme}://host:port/...") from error
    if not host:
        raise BadOption(f"live output {scheme}://... names no host; write {scheme}://host/...")
    if scheme != "rtsp" and not _speaks(scheme):
        raise VideoError(f"this FFmpeg cannot speak {scheme}://; send to rtmp://, rtsp:// or udp://, or write a .m3u8")
    path = parts.path
    if scheme in ("rtmp", "rtmps"):
        path = path.rpartition("/")[0] + "/..."  # the last part is the stream's key
    name = f"{scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{path}"
    if scheme == "udp" and "pkt_size=" not in parts.query:
        url += f"{'&' if parts.query else '?'}pkt_size=1316"  # seven whole packets of MPEG-TS in each
    url = scheme + url[len(scheme) :]  # FFmpeg knows schemes in small letters only
    muxer, options = _SERVERS[scheme]
    return Target("server", url, name, muxer, options)


def _speaks(scheme: str) -> bool:
    # Looked up before the whitelist, which refuses every protocol before anything is sent.
    try:
        av.open(f"{scheme}://localhost", format="mpegts", container_options={"protocol_whitelist": "none"}).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError, ValueError):
        pass
    return True
