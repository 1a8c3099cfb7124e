"""The errors that vidstyle raises on purpose.

::

    VidstyleError(Exception)
      MissingDependency(VidstyleError, ImportError)   an extra is not installed; says the pip command
      BadOption(VidstyleError, ValueError)            an argument is out of range or unknown
      BadModel(VidstyleError, ValueError)             a network, style, graph or engine file is not what it says
      EngineMismatch(VidstyleError, ValueError)       an engine was built for another GPU, version, size or layout
      ImageError(VidstyleError, OSError)              a still cannot be read or written; names the file
      VideoError(VidstyleError, OSError)              a video cannot be opened, decoded or written; names the file

A message says what was given, what is allowed and what to do. Foreign errors are wrapped once, at
the border, with ``raise ... from error``.
"""

from __future__ import annotations


class VidstyleError(Exception):
    """Base of every error that vidstyle raises on purpose."""


class MissingDependency(VidstyleError, ImportError):
    """An optional package is not installed. The message carries the pip command."""


class BadOption(VidstyleError, ValueError):
    """An option is unknown or out of range. The message says what is allowed."""


class BadModel(VidstyleError, ValueError):
    """A network, style, graph or engine file is corrupt, not ours, or made for another network."""


class EngineMismatch(VidstyleError, ValueError):
    """An engine was built for something else than what is here. The message says what mends it."""


class ImageError(VidstyleError, OSError):
    """A still image cannot be read or written. The message names the file."""


class VideoError(VidstyleError, OSError):
    """A video cannot be opened, decoded or written. The message names the file."""


def reason(error: BaseException) -> str:
    """Why ``error`` came, in the words of FFmpeg where it said some, else in those of the system."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    log = getattr(error, "log", None)  # of PyAV's errors: level, what of FFmpeg spoke, message
    said = str(log[2]).strip().rstrip(".") if log else ""
    return f"{said} ({words})" if said else str(words)


class NotCopyable:
    """What holds threads, devices or compiled programs, and so is neither copied nor pickled."""

    def __reduce_ex__(self, protocol: object) -> str:
        raise VidstyleError(
            f"{type(self).__name__} cannot be copied, pickled or sent to another process; make another one there"
        )
