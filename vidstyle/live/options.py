"""What a caller of `vidstyle.live.live.Live` can choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidstyle.errors import BadOption
from vidstyle.live.controls import View
from vidstyle.options import check_between


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a live picture is shown, recorded and sent on."""

    target_fps: float | None = None
    """Frames a second to hold by painting at smaller work sizes; None keeps the work size."""
    window: bool = True
    """Whether there is a window; without one there must be a recording, an output or a virtual camera."""
    mirror: bool = False
    """Whether the window is a mirror. Recordings, outputs and snapshots never are: others read the text in them."""
    view: View = "painted"
    """What the window shows: the painting, the source beside it, or the source. Recordings are always painted."""
    full_screen: bool = False
    """Whether the window covers the screen."""
    record: Path | None = None
    """File to record to from the start. Key r goes on with ``out-2.mp4``, and so on; None leaves it to the key."""
    outputs: tuple[str, ...] = ()
    """Files, playlists and URLs to send the painted picture to, as `Recorder` takes them."""
    virtual_camera: bool = False
    """Whether other programs get it as a camera."""
    snapshots: Path = Path()
    """Folder for snapshots, and for recordings where ``record`` names none."""
    seconds: float | None = None
    """End so long after the first frame; None goes on until the source ends or somebody quits."""
    overwrite: bool = False
    """Whether ``record`` and ``outputs`` may replace files. Snapshots and later recordings never do."""

    def __post_init__(self) -> None:
        if self.target_fps is not None:
            check_between("target fps", self.target_fps, 1, 240)
        if self.seconds is not None:
            check_between("seconds", self.seconds, 0.01, 1e9)
        if not (self.window or self.record or self.outputs or self.virtual_camera):
            raise BadOption(
                "without a window there is nowhere to put the picture; record it, send it to an output, or be a "
                "virtual camera"
            )
