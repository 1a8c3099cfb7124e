"""Titles, languages and other tags, on their way from one container to another."""

from __future__ import annotations

import re

from av.stream import Disposition, Stream

# What the muxer writes by itself, or what was true of the old file only.
_STALE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "timecode"}
_STALE_TRACK = re.compile(
    r"(encoder|rotate|vendor_id|bps|alpha_mode|timecode|file_package_umid|number_of_(frames|bytes)|duration"
    r"|_statistics_\w+)(-\w+)?",
    re.IGNORECASE,
)
# Tags for which MP4's usual (iTunes) form has a place.
_MP4_FILE = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort"),
    *("season_number", "media_type", "hd_video", "gapless_playback", "compilation", "track", "disc", "tmpo"),
    "creation_time",
}
_MP4_TRACK = {"language", "title", "handler_name", "creation_time", "stereo_mode"}
# QuickTime numbers its languages; FFmpeg's table of them has these under their other three letters.
_MAC_LANGUAGES = {
    **{"deu": "ger", "nld": "dut", "isl": "ice", "zho": "chi", "sqi": "alb", "hye": "arm", "kat": "geo"},
    **{"mya": "bur", "msa": "may", "mkd": "mac", "cym": "wel", "eus": "baq", "ell": "gre", "fre": "fra"},
    **{"rum": "ron", "cze": "ces", "slo": "slk", "bod": "tib", "fas": "per"},
}


def readable_tags(tags: dict[str, str]) -> dict[str, str]:
    """``tags`` as PyAV reads them, with a replacement character for each byte that is not UTF-8."""
    return {_readable(key): _readable(value) for key, value in tags.items()}


def file_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags of a file, without those that describe the old one or say the same twice."""
    kept = {key: value for key, value in tags.items() if key.lower() not in _STALE_FILE}
    # MP4 tags are read twice if they have a language: "copyright" and "copyright-eng".
    return {key: value for key, value in kept.items() if kept.get(_without_language(key)) != value}


def track_tags(stream: Stream, muxer: str) -> dict[str, str]:
    """The tags of a track, without those that describe the old file, in words that ``muxer`` knows."""
    tags = {key: value for key, value in readable_tags(stream.metadata).items() if not _STALE_TRACK.fullmatch(key)}
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")  # MP4 files are read with the one and written with the other
    if stream.disposition & Disposition.attached_pic:
        tags = {key: value for key, value in tags.items() if key not in ("filename", "mimetype")}
    if muxer == "mov" and "language" in tags:
        tags["language"] = _MAC_LANGUAGES.get(tags["language"], tags["language"])
    return tags


def unusual_tags(tags: dict[str, str]) -> list[str]:
    """File tags that MP4 can store only in QuickTime's free form, which fewer players show."""
    return sorted(key for key in tags if key.lower() not in _MP4_FILE)


def lost_track_tags(stream: Stream, muxer: str) -> list[str]:
    """Tags of a track for which the container has no place."""
    if muxer not in ("mp4", "mov"):
        return []
    return sorted(key for key in track_tags(stream, muxer) if key.lower() not in _MP4_TRACK)


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _without_language(key: str) -> str:
    base, dash, language = key.rpartition("-")
    return base if dash and len(language) == 3 else ""
