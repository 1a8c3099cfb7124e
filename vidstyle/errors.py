"""The errors that vidstyle raises on purpose.

::

    VidstyleError(Exception)
      MissingDependency(VidstyleError, ImportError)   an extra is not installed; says the pip command
      BadOption(VidstyleError, ValueError)            an argument is out of range or unknown
      BadModel(VidstyleError, ValueError)             a network, style or graph file is not what it says
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
    """A network, style or graph file is corrupt, not ours, or made for another network."""


class ImageError(VidstyleError, OSError):
    """A still image cannot be read or written. The message names the file."""


class VideoError(VidstyleError, OSError):
    """A video cannot be opened, decoded or written. The message names the file."""
