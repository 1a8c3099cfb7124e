"""Live sources: cameras, screens, streams, files in real time, and microphones."""

from vidstyle.video.capture.capture import Capture

__all__ = ["Capture"]
