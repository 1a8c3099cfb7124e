"""Video in and out, through FFmpeg."""

from vidstyle.video.xcb import share_libxcb

LIBXCB_IS_SHARED = share_libxcb()
"""Whether FFmpeg can read an X screen in the process in which OpenCV opens windows. See `vidstyle.video.xcb`."""
