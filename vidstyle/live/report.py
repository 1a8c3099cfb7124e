"""What a live picture was, and how it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidstyle.live.outputs import OutputReport


@dataclass
class LiveReport:
    """Filled in while a `vidstyle.live.live.Live` runs."""

    source: str = ""
    """What was negotiated with the source."""
    style: str = ""
    """Style or blend, at the end."""
    backend: str = ""
    """Library, version, precision and threads."""
    width: int = 0
    """Of the frames, in pixels."""
    height: int = 0
    """Of the frames, in pixels."""
    work_size: int = 0
    """Rows that the network saw, at the end."""
    startup_seconds: float = 0.0
    """Opening the source and compiling the network."""
    seconds: float = 0.0
    """From the first to the last frame shown."""
    shown: int = 0
    """Frames shown, or without a window passed on. Those of a pause are not counted."""
    dropped: int = 0
    """Frames that a newer one replaced before they were painted."""
    fps: float = 0.0
    """Frames shown a second."""
    latency_median_ms: float = 0.0
    """From the capture clock of a frame to the moment when it was on its way to the display: drawn, and the
    window's events dealt with. What a camera adds before, and the display after that, nobody here can know."""
    latency_p99_ms: float = 0.0
    """See ``latency_median_ms``."""
    latency_longest_ms: float = 0.0
    """See ``latency_median_ms``."""
    reconnects: int = 0
    """How often the source has come back."""
    recordings: list[str] = field(default_factory=list)
    """Files recorded to."""
    snapshots: list[str] = field(default_factory=list)
    """Pictures saved."""
    outputs: list[OutputReport] = field(default_factory=list)
    """Recordings and streams, in the order in which they began."""
    problems: list[str] = field(default_factory=list)
    """What went wrong on the way; one sentence each."""
